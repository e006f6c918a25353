//! The interfaces an instance is attached to.

use crate::abi::NEXT;

/// Interfaces an instance can be attached to. Slot 0 counts frames of interfaces the controller has not entered yet.
pub const MAX_INTERFACES: u32 = 16;
/// Slots in the counter map.
pub const SLOTS: u32 = MAX_INTERFACES + 1;
/// Entries of the `INTERFACES` map; a power of two.
pub const INTERFACE_ENTRIES: u32 = 32 << NEXT;

/// One attached interface, or a port of one, an entry of `INTERFACES`. Layout: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interface {
    /// Kernel index; 0 marks a free entry.
    pub ifindex: u32,
    /// Its slot in the counter map and in address scopes, 1 to [`MAX_INTERFACES`].
    pub slot: u32,
    /// MAC address: six bytes as in a frame, then two zeroes.
    pub mac: u64,
    /// [`INTERFACE_STRIPS_TAGS`], [`INTERFACE_SHARED`] and [`INTERFACE_PORT`].
    pub flags: u32,
    /// Bytes of the longest IPv4 packet that is sent on it without being fragmented; 0 where that is not known.
    pub mtu4: u16,
    /// The same of IPv6.
    pub mtu6: u16,
}

impl Interface {
    /// Whether it is the entry of an interface that was attached, and neither a free one nor that of a port.
    pub const fn is_attached(&self) -> bool {
        self.ifindex != 0 && self.flags & INTERFACE_PORT == 0
    }
}

/// It is a port of the attached interface whose slot it has, and its frames are that one's. The controller alone asks.
pub const INTERFACE_PORT: u32 = 4;
/// Frames for other hosts come in on it as well: it is a port of a bridge, or has devices with MAC addresses of their own on it.
pub const INTERFACE_SHARED: u32 = 2;
/// VLAN tags may be missing from its frames and VLANs are told apart on it: no echo request is answered, tagged or not, because a tag that is
/// seen may be the inner one of two.
pub const INTERFACE_STRIPS_TAGS: u32 = 1;
