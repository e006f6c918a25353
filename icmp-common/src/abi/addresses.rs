//! The address tables: buckets of addresses, their scopes, and the addresses that are compared first.

/// Entries of `OWN_FIRST` for each buffer; a power of two.
pub const SCOPE_SLOTS: u32 = 32;

/// The addresses of an interface that are compared first, an entry of `OWN_FIRST`. It repeats part of one buffer of the address table, and
/// decides the usual packet, to the first address of its interface and from another host, in two comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OwnFirst {
    /// An IPv4 address that the interface owns without a VLAN; 0 if there is none.
    pub v4: u32,
    /// Zero.
    pub reserved: u32,
    /// An IPv6 address that the interface owns without a VLAN, as big-endian halves; zero if there is none.
    pub v6: [u64; 2],
    /// For each IPv4 address of the table that can be a source, whatever its scope and kind, the bit [`own_bit`]. A source whose bit is not
    /// set is not in the table.
    pub any4: [u64; OWN_WORDS],
    /// The same for IPv6 addresses, by their second half.
    pub any6: [u64; OWN_WORDS],
    /// Zero.
    pub reserved_end: [u64; 5],
}

/// Words of a set of bits in [`OwnFirst`]. A power of two.
pub const OWN_WORDS: usize = 4;

/// The word and the bit of a set in [`OwnFirst`] that stand for an IPv4 address, or for the second half of an IPv6 address.
#[inline(always)]
pub const fn own_bit(address: u64) -> (usize, u64) {
    let bits = address.wrapping_mul(ADDRESS_HASH) >> (64 - 6 - OWN_WORDS.ilog2());
    ((bits >> 6) as usize & (OWN_WORDS - 1), 1 << (bits & 63))
}

/// First half of an entry of `ADDRESSES6` that stands for a MAC address by which the host takes in frames on an interface, besides that of the
/// interface's entry. The second half is the MAC address as in [`crate::abi::Interface::mac`], the kind is `Present`. The prefix is reserved
/// (RFC 4291 section 4), so no host has an address in it. An older program passes such frames as `foreign-mac`.
pub const OTHER_MAC: u64 = 0x006d_6163_0000_0000;

/// Buckets of `ADDRESSES4` and of `ADDRESSES6` in one buffer of a default load; the maps hold two buffers.
pub const ADDRESS_BUCKETS: u32 = 1024;
/// Addresses in one bucket.
pub const BUCKET_WAYS: usize = 4;

/// A bucket of `ADDRESSES4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressBucket4 {
    /// Each an address in the low half and a [`Scope`] with its kind in the high half, in no order; 0 is a free entry.
    pub entries: [u64; BUCKET_WAYS],
}

/// An entry of an [`AddressBucket6`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry6 {
    /// First eight bytes of the address, as a big-endian number.
    pub high: u64,
    /// Last eight bytes.
    pub low: u64,
    /// A [`Scope`] with its kind; 0 in a free entry.
    pub scope: u32,
    /// Zero.
    pub reserved: u32,
}

/// A bucket of `ADDRESSES6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressBucket6 {
    /// The entries, in no order.
    pub entries: [Entry6; BUCKET_WAYS],
}

/// Where an address is owned, and its kind there, as a u32: the interface's slot in bits 0 to 4, the kind in 5 to 7, the VLAN in 8 to 31.
/// VLAN 0 is untagged; otherwise the outer identifier is in the low twelve bits and the inner one in the high twelve, where 0xfff (reserved in
/// IEEE 802.1Q) stands for a single 802.1ad tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(pub u32);

impl Scope {
    /// The scope of addresses that are the host's own on some interface: a packet from one of them is not from another host.
    pub const ANYWHERE: Self = Self(0);
    /// Bits of the kind.
    pub const KIND_MASK: u32 = 0b111 << 5;
    /// The inner identifier that marks a single service tag.
    pub const SERVICE_ONLY: u32 = 0xfff;

    /// A scope without a kind, as a lookup knows it.
    #[inline(always)]
    pub const fn new(slot: u32, vlan: u32) -> Self {
        Self(slot & 0x1f | vlan << 8)
    }

    /// The same scope with a kind, as the table holds it.
    pub const fn with_kind(self, kind: AddressKind) -> Self {
        Self(self.0 | (kind as u32) << 5)
    }
}

/// Kinds of entries in the address tables. 4 to 7 are own addresses of some interface, in scope 0 and, where there are VRFs, in each scope of
/// the same VRF, and with 4 in scope 0: no packet from outside has such a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressKind {
    /// An own unicast address in this scope.
    Own = 1,
    /// A group the host belongs to: the broadcast address of one of its prefixes, a multicast address, or a router's anycast address.
    Group = 2,
    /// No address: the scope exists (entered under 0.0.0.0, for VLANs), or a MAC address ([`OTHER_MAC`]).
    Present = 3,
    /// As a destination it may be another host's, by the routing table of another VRF.
    Somewhere = 4,
    /// As a destination it is passed to the kernel. Broadcast and anycast addresses of other interfaces have this kind, too.
    Anywhere = 5,
    /// As a destination it is answered if the settings have [`crate::abi::SETTINGS_OWN_HOST`], and passed to the kernel otherwise.
    Host = 6,
    /// As a destination it is answered.
    Everywhere = 7,
}

/// Multiplier that spreads addresses over buckets; 2^64 over the golden ratio, odd. The table holds the host's own addresses only, so no
/// sender can choose collisions, and no secret is needed.
pub const ADDRESS_HASH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hash of an IPv4 entry (its kind masked out); its highest bits are the bucket within a buffer.
#[inline(always)]
pub const fn address_hash4(entry: u64) -> u64 {
    (entry ^ entry >> 32).wrapping_mul(ADDRESS_HASH)
}

/// Hash of an IPv6 address in a scope, as [`address_hash4`].
#[inline(always)]
pub const fn address_hash6(high: u64, low: u64, scope: Scope) -> u64 {
    (high ^ low.rotate_left(32) ^ scope.0 as u64).wrapping_mul(ADDRESS_HASH)
}
