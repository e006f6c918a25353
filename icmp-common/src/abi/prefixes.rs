//! Prefixes, and the order in which their lengths are searched.

/// Kinds of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PrefixKind {
    /// Source of rules; the value has a bit for each of these rules.
    From,
    /// Destination of rules; the value has a bit for each of these rules.
    To,
    /// VIP; the value is 1, or the number of its gate (from 0) plus 2.
    Vip,
}

impl PrefixKind {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::From, Self::To, Self::Vip];
}
/// Lengths of IPv4 prefixes except 0. A power of two.
pub const LENGTHS4: usize = 32;
/// Lengths of IPv6 prefixes except 0. A power of two.
pub const LENGTHS6: usize = 128;

/// Buckets of one buffer of `PREFIXES4`, of which a search uses as many as it needs. A power of two.
pub const PREFIX_BUCKETS4: u32 = 1 << 15;
/// Buckets of one buffer of `PREFIXES6`, as [`PREFIX_BUCKETS4`].
pub const PREFIX_BUCKETS6: u32 = 1 << 16;
/// Entries of a [`PrefixBucket4`].
pub const PREFIX_WAYS4: usize = 8;
/// Entries of a [`PrefixBucket6`].
pub const PREFIX_WAYS6: usize = 3;
/// Distinct values of a policy's prefixes, value 0 (no prefix) among them. A power of two.
pub const PREFIX_VALUES: usize = 1 << 13;

/// Bits of an entry's word with the kind (bits 24 to 31) and the length (16 to 23).
pub const TAG_MASK: u32 = 0xffff_0000;
/// In an entry's word: a marker. It is no prefix of the list: there are longer prefixes, and its value is that of the longest prefix around it.
pub const MARKER: u32 = 0x8000;
/// Bits of an entry's word with the index of its value among the [`PREFIX_VALUES`]; index 0 is no value.
pub const INDEX_MASK: u32 = PREFIX_VALUES as u32 - 1;

/// Kind and length as the word of an entry has them: kind in bits 24 to 31, length in 16 to 23. Never 0, because length 0 has no entries.
#[inline(always)]
pub const fn tag(kind: PrefixKind, len: u8) -> u32 {
    (kind as u32) << 24 | (len as u32) << 16
}

/// A bucket of IPv4 prefixes, a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixBucket4 {
    /// Each the address in the high half and a word ([`TAG_MASK`], [`MARKER`], [`INDEX_MASK`]) in the low half; free entries are 0, and last.
    pub entries: [u64; PREFIX_WAYS4],
}

/// A bucket of IPv6 prefixes, a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixBucket6 {
    /// First halves of the addresses, as big-endian numbers.
    pub high: [u64; PREFIX_WAYS6],
    /// Second halves of the addresses.
    pub low: [u64; PREFIX_WAYS6],
    /// Words as in [`PrefixBucket4`]; those of free entries are 0, and last.
    pub words: [u32; PREFIX_WAYS6],
    /// Zero.
    pub reserved: u32,
}

/// The lengths of one kind of IPv4 prefixes, in the order in which they are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Search4 {
    /// The search begins with step 0. A step is the mask in the high half, and in the low half a word: kind and length ([`TAG_MASK`]), in bits 8
    /// to 15 the next step if there is an entry, in 0 to 7 the next step if there is none. A next step of 0 ends the search; if step 0 is 0,
    /// there is nothing to search.
    pub steps: [u64; LENGTHS4],
    /// Index of the value of length 0, which counts if nothing is found.
    pub outermost: u32,
    /// Zero.
    pub reserved: u32,
}

/// A step of a [`Search6`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Step6 {
    /// Mask of the first half.
    pub high: u64,
    /// Mask of the second half.
    pub low: u64,
    /// As the low half of a step in [`Search4`].
    pub word: u32,
    /// Zero.
    pub reserved: u32,
}

/// The lengths of one kind of IPv6 prefixes, in the order in which they are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Search6 {
    /// Steps as in [`Search4`].
    pub steps: [Step6; LENGTHS6],
    /// As in [`Search4`].
    pub outermost: u32,
    /// Zero.
    pub reserved: u32,
}

/// How one buffer of prefixes is searched. An entry lies in its first bucket or, only if that is full, in its second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Search {
    /// Multiplier of the hash of IPv4 entries: an odd number with which each has found a place.
    pub multiplier4: u64,
    /// The same for IPv6.
    pub multiplier6: u64,
    /// Bits by which the hash of an IPv4 entry is shifted to give its bucket: 64 less log2 of the buckets in use.
    pub shift4: u32,
    /// The same for IPv6.
    pub shift6: u32,
    /// For IPv4, by [`PrefixKind`].
    pub v4: [Search4; PrefixKind::ALL.len()],
    /// For IPv6, by [`PrefixKind`].
    pub v6: [Search6; PrefixKind::ALL.len()],
}
