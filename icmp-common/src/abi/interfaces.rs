//! The interfaces that an instance is attached to.

use crate::abi::NEXT;

/// Interfaces that an instance can be attached to. Slot 0 counts frames of interfaces that the controller has not entered.
pub const MAX_INTERFACES: u32 = 16;
/// Slots in the counter map.
pub const SLOTS: u32 = MAX_INTERFACES + 1;
/// Entries of the `INTERFACES` map; a power of two.
pub const INTERFACE_ENTRIES: u32 = 32 << NEXT;

/// An attached interface, or a port of one: an entry of `INTERFACES`, at `ifindex % 32` or at the next free place after it. Frames of an
/// interface that is not in the table are passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interface {
    /// Index of the interface; 0 in a free entry.
    pub ifindex: u32,
    /// Slot of the interface in the counters and in address scopes, 1 to [`MAX_INTERFACES`].
    pub slot: u32,
    /// MAC address: six bytes as in a frame, then two zeroes. If no ping is answered on the interface (below a macvlan in passthru mode, which
    /// takes all frames, or on a tunnel in mode `external`), it is 0xffffffffffffffff, which no frame is addressed to.
    pub mac: u64,
    /// [`INTERFACE_STRIPS_TAGS`], [`INTERFACE_SHARED`], [`INTERFACE_PORT`] and [`INTERFACE_MAC_SHARED`].
    pub flags: u32,
    /// Bytes of the longest IPv4 packet that is sent on the interface without fragmentation; 0 if that is not known.
    pub mtu4: u16,
    /// The same for IPv6.
    pub mtu6: u16,
}

impl Interface {
    /// Whether it is the entry of an interface that was attached, and neither a free one nor that of a port.
    pub const fn is_attached(&self) -> bool {
        self.ifindex != 0 && self.flags & INTERFACE_PORT == 0
    }
}

/// Others than this host may have the MAC address of the interface, or nothing that comes in on it is surely for this host: what is for an address of
/// another interface of the host may be for them.
pub const INTERFACE_MAC_SHARED: u32 = 8;
/// The entry is of a port of the attached interface that has the same slot. Only the controller reads this flag.
pub const INTERFACE_PORT: u32 = 4;
/// Frames for other hosts come in on the interface as well: it is a port of a bridge, or has devices with MAC addresses of their own on it.
pub const INTERFACE_SHARED: u32 = 2;
/// VLAN tags may be missing from the interface's frames, and VLANs are in use on it: no echo request is answered, tagged or not, because a tag
/// that is seen may be the inner one of two.
pub const INTERFACE_STRIPS_TAGS: u32 = 1;
