//! What the controller can change at run time but addresses and rules: limits, budgets, the type table.

use crate::types::Family;

/// Bits of an address that a limiter level looks at. Layout: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mask {
    /// For the high half of an IPv6 address.
    pub v6_high: u64,
    /// For the low half of an IPv6 address.
    pub v6_low: u64,
    /// For an IPv4 address.
    pub v4: u32,
    /// Zero.
    pub reserved: u32,
}

/// One level of the limiter: who shares a bucket, and what the bucket holds. Layout: 40 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Level {
    /// Rate and burst.
    pub limit: Limit,
    /// Who shares.
    pub mask: Mask,
}

/// Everything the controller can change at run time but addresses: one of two buffers of `SETTINGS`. Layout: see the size below. What
/// an echo request needs comes first, in 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// `SETTINGS_*` flags.
    pub flags: u32,
    /// TTL of IPv4 answers, 1 to 255.
    pub ttl: u32,
    /// Hop limit of IPv6 answers, 1 to 255.
    pub hop_limit: u32,
    /// Log2 of the ticks in an epoch of [`crate::known_sources`], about four seconds.
    pub epoch_shift: u32,
    /// Per-source level of echo.
    pub source: Level,
    /// Per-prefix level of echo.
    pub prefix: Level,
    /// How many peers are to be tracked; 0 where [`SETTINGS_PEERS`] is not set.
    pub peers: u32,
    /// How many of `tracked` say whose requests are; 0 where everybody's are.
    pub peer_prefixes: u32,
    /// Buffer of `RULES` and of the prefixes that belongs to these settings. Settings that change nothing in them share the buffer.
    pub rules: u32,
    /// Two bits for each [`Check`]: a [`crate::path::checks::Mode`] as a number.
    pub checks: u32,
    /// Rate and burst of each [`crate::policy::Budget`].
    pub budgets: [Limit; BUDGETS],
    /// Packets a CPU takes from each budget at once, at least 1.
    pub batches: [u32; BUDGETS],
    /// The [`crate::policy::Preset`] the types were made from, as a number.
    pub preset: u32,
    /// Zero.
    pub reserved: u32,
    /// What is done with each type.
    pub types: [TypeEntry; TYPE_ENTRIES],
    /// The sources that are tracked ([`crate::peers`]).
    pub tracked: [PeerPrefix; PEER_PREFIXES],
}

/// This buffer is in use; an all-zero buffer means pass.
pub const SETTINGS_PRESENT: u32 = 1;
/// Echo requests are answered (off: passed to the kernel within the limits).
pub const SETTINGS_ECHO: u32 = 2;
/// The ICMP checksum is verified before answering.
pub const SETTINGS_VERIFY_FULL: u32 = 4;
/// There are VIP prefixes.
pub const SETTINGS_VIPS: u32 = 8;
/// There are rules.
pub const SETTINGS_RULES: u32 = 16;
/// Nothing is answered, dropped or limited; what would have been is counted.
pub const SETTINGS_OBSERVE: u32 = 64;
/// Peers are tracked.
pub const SETTINGS_PEERS: u32 = 128;
/// The host's addresses count on every interface: the difference between [`crate::abi::AddressKind::Host`] and the next kind, where the
/// table has it.
pub const SETTINGS_OWN_HOST: u32 = 32;

/// Prefixes of tracked sources that there can be; a power of two.
pub const PEER_PREFIXES: usize = 16;

/// A prefix of sources that are tracked. An IPv4 prefix is written as an IPv6 one (RFC 4291 section 2.5.5.2). Layout: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PeerPrefix {
    /// First eight bytes of the address, as a big-endian number.
    pub high: u64,
    /// Last eight bytes.
    pub low: u64,
    /// Mask of the first eight bytes.
    pub mask_high: u64,
    /// Mask of the last eight bytes.
    pub mask_low: u64,
}

/// Places for budgets; a power of two, so that an index from a table can be masked.
pub const BUDGETS: usize = 16;

/// What the packet path does with one type: the decision for most codes, and for the one code that has a row of its own.
///
/// Layout: 8 bytes, no padding. Fields are numbers because the value comes out of a map; an unknown action passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TypeEntry {
    /// Decision for every code but `other_code`.
    pub main: Decision,
    /// Decision for `other_code`.
    pub other: Decision,
    /// The code that `other` is about.
    pub other_code: u8,
    /// 1 where `other` applies at all.
    pub has_other: u8,
}

/// One decision of a [`TypeEntry`]. Layout: 3 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// An [`Action`] as a number.
    pub action: u8,
    /// A [`Budget`] as a number.
    pub budget: u8,
    /// Row of the counter map the message is counted in.
    pub row: u8,
}

impl TypeEntry {
    /// The decision for a code.
    #[inline(always)]
    pub fn decision(&self, code: u8) -> Decision {
        if self.has_other != 0 && self.other_code == code { self.other } else { self.main }
    }
}

/// Entries of a table: 256 types of ICMPv4, then 256 of ICMPv6.
pub const TYPE_ENTRIES: usize = 512;

/// Position of a type in a table.
#[inline(always)]
pub const fn type_index(family: Family, icmp_type: u8) -> usize {
    (family as usize) << 8 | icmp_type as usize
}

/// A rate and a burst. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Units of time one packet costs; 0 is unlimited.
    pub interval: u64,
    /// Units of time a full bucket holds: the burst times the interval. Less than an interval admits nothing.
    pub capacity: u64,
}

impl Limit {
    /// Admits everything.
    pub const UNLIMITED: Self = Self { interval: 0, capacity: 0 };
    /// Admits everything, and says so for a rule: who matches it is exempt from the limits of a source.
    pub const EXEMPT: Self = Self { interval: 0, capacity: 1 };
    /// Admits nothing.
    pub const NOTHING: Self = Self { interval: 1, capacity: 0 };

    /// True where nothing has to be charged.
    #[inline(always)]
    pub const fn is_unlimited(&self) -> bool {
        self.interval == 0
    }
}
