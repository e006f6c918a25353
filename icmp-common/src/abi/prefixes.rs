//! Prefixes, and the order in which their lengths are asked for.

/// What a prefix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PrefixKind {
    /// The value has the rules whose sources it is among.
    From,
    /// The value has the rules whose destinations it is among.
    To,
    /// Answered although the host does not own it; the value is 1, or the number of its gate and 2.
    Vip,
}

impl PrefixKind {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::From, Self::To, Self::Vip];
}
/// Lengths of IPv4 prefixes but for 0. A power of two.
pub const LENGTHS4: usize = 32;
/// Lengths of IPv6 prefixes but for 0. A power of two.
pub const LENGTHS6: usize = 128;

/// Buckets of one buffer of `PREFIXES4`, of which a search uses as many as it needs. A power of two.
pub const PREFIX_BUCKETS4: u32 = 1 << 15;
/// Buckets of one buffer of `PREFIXES6`, as [`PREFIX_BUCKETS4`].
pub const PREFIX_BUCKETS6: u32 = 1 << 16;
/// Entries of a [`PrefixBucket4`].
pub const PREFIX_WAYS4: usize = 8;
/// Entries of a [`PrefixBucket6`].
pub const PREFIX_WAYS6: usize = 3;
/// Distinct values of a policy's prefixes, none among them. A power of two.
pub const PREFIX_VALUES: usize = 1 << 13;

/// Bits of an entry's word that tell kind and length; see [`tag`].
pub const TAG_MASK: u32 = 0xffff_0000;
/// In an entry's word: not a prefix of the list, but a mark on the way to longer ones.
pub const MARKER: u32 = 0x8000;
/// Bits of an entry's word with the index of its value among the [`PREFIX_VALUES`]; index 0 is none.
pub const INDEX_MASK: u32 = PREFIX_VALUES as u32 - 1;

/// Kind and length as the word of an entry has them: kind in bits 24 to 31, length in 16 to 23. Never 0, because length 0 has no entries.
#[inline(always)]
pub const fn tag(kind: PrefixKind, len: u8) -> u32 {
    (kind as u32) << 24 | (len as u32) << 16
}

/// A cache line of IPv4 entries. Layout: 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixBucket4 {
    /// Each the address in the high half and a word ([`tag`], [`MARKER`], [`INDEX_MASK`]) in the low half; free ones are 0, and last.
    pub entries: [u64; PREFIX_WAYS4],
}

/// A cache line of IPv6 entries. Layout: 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixBucket6 {
    /// First halves of the addresses, as big-endian numbers.
    pub high: [u64; PREFIX_WAYS6],
    /// Second halves.
    pub low: [u64; PREFIX_WAYS6],
    /// Words as of [`PrefixBucket4`]; those of free entries are 0, and last.
    pub words: [u32; PREFIX_WAYS6],
    /// Zero.
    pub reserved: u32,
}

/// The lengths of one kind of IPv4 prefixes, in the order in which they are asked for. Layout: 264 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Search4 {
    /// The first step is the first; each is the mask in the high half, and in the low half a word: the [`tag`], the next step where there
    /// is an entry in bits 8 to 15, and where there is none in 0 to 7. 0 is the end.
    pub steps: [u64; LENGTHS4],
    /// Index of the value where nothing is found: that of length 0.
    pub outermost: u32,
    /// Zero.
    pub reserved: u32,
}

/// A step of a [`Search6`]. Layout: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Step6 {
    /// Mask of the first half.
    pub high: u64,
    /// Mask of the second half.
    pub low: u64,
    /// As the low half of a step of [`Search4`].
    pub word: u32,
    /// Zero.
    pub reserved: u32,
}

/// The lengths of one kind of IPv6 prefixes, as [`Search4`]. Layout: 3080 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Search6 {
    /// As [`Search4::steps`].
    pub steps: [Step6; LENGTHS6],
    /// As [`Search4::outermost`].
    pub outermost: u32,
    /// Zero.
    pub reserved: u32,
}

/// How to search one buffer. Layout: 10,056 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Search {
    /// Of the hash of IPv4 entries: an odd number under which all of them have found a place.
    pub multiplier4: u64,
    /// The same for IPv6.
    pub multiplier6: u64,
    /// By how many bits a hash of an IPv4 entry is shifted to be the number of a bucket: 64 less log2 of the buckets in use.
    pub shift4: u32,
    /// The same for IPv6.
    pub shift6: u32,
    /// By [`PrefixKind`].
    pub v4: [Search4; PrefixKind::ALL.len()],
    /// By [`PrefixKind`].
    pub v6: [Search6; PrefixKind::ALL.len()],
}
