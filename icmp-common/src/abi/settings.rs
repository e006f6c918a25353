//! Settings: limits, budgets and the type table, which the controller can change at run time.

use crate::types::Family;

/// Bits of an address that a level of the limiter looks at.
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

/// One level of the limiter: which addresses share a bucket, and its rate and burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Level {
    /// Rate and burst.
    pub limit: Limit,
    /// Addresses that are equal under the mask share a bucket.
    pub mask: Mask,
}

/// One of two buffers of `SETTINGS`. What an echo request needs comes first, in 128 bytes. In a buffer of zeroes nothing is present, and every
/// frame is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// `SETTINGS_*` flags.
    pub flags: u32,
    /// TTL of IPv4 answers, 1 to 255.
    pub ttl: u32,
    /// Hop limit of IPv6 answers, 1 to 255.
    pub hop_limit: u32,
    /// Log2 of the ticks in an epoch, which is about four seconds.
    pub epoch_shift: u32,
    /// Per-source level of echo requests.
    pub source: Level,
    /// Per-prefix level of echo requests.
    pub prefix: Level,
    /// How many peers are to be tracked; 0 without [`SETTINGS_PEERS`].
    pub peers: u32,
    /// Entries of `tracked` in use; with 0, every sender is tracked.
    pub peer_prefixes: u32,
    /// Buffer of `RULES` and of the prefixes that belongs to these settings. Settings that change nothing in them share the buffer.
    pub rules: u32,
    /// Two bits for each check, in the order quote, path MTU, neighbour discovery, router guard: 0 off, 1 count, 2 drop.
    pub checks: u32,
    /// Rate and burst of each budget: 0 replies, 1 known sources, 2 errors, 3 path MTU, 4 neighbour discovery, 5 multicast listener, 6 queries, 7
    /// redirects, 8 unverified; other places are not used. Budget 1 is the part of budget 0 that known sources have while that is exhausted; the
    /// controller makes it an eighth. Budget 8 is charged for messages that fail a check that is only counted.
    pub budgets: [Limit; BUDGETS],
    /// Tokens that a CPU takes from each budget at once, at least 1.
    pub batches: [u32; BUDGETS],
    /// The preset that `types` was made from: 0 host, 1 router, 2 strict, 3 observe.
    pub preset: u32,
    /// Zero.
    pub reserved: u32,
    /// The type table: 256 types of ICMP, then 256 of ICMPv6.
    pub types: [TypeEntry; TYPE_ENTRIES],
    /// Prefixes of the peers that are tracked.
    pub tracked: [PeerPrefix; PEER_PREFIXES],
}

/// The buffer is in use.
pub const SETTINGS_PRESENT: u32 = 1;
/// Echo requests are answered; otherwise they are passed to the kernel within the limits.
pub const SETTINGS_ECHO: u32 = 2;
/// The ICMP checksum is verified before a request is answered.
pub const SETTINGS_VERIFY_FULL: u32 = 4;
/// There are VIP prefixes.
pub const SETTINGS_VIPS: u32 = 8;
/// There are rules.
pub const SETTINGS_RULES: u32 = 16;
/// Preset `observe`: nothing is answered, dropped or limited, and what would have been is counted.
pub const SETTINGS_OBSERVE: u32 = 64;
/// Peers are tracked.
pub const SETTINGS_PEERS: u32 = 128;
/// `own = "host"`: the host's addresses are answered on every interface. The bit is the difference between the kinds `Host` and `Everywhere`.
pub const SETTINGS_OWN_HOST: u32 = 32;

/// Prefixes of tracked peers that there can be; a power of two.
pub const PEER_PREFIXES: usize = 16;

/// A prefix of peers that are tracked. An IPv4 prefix is written as an IPv6 one, below `::ffff:0:0/96` (RFC 4291 section 2.5.5.2).
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

/// What the packet path does with one type: the decision for most codes, and for the one code that has a row of its own. Fields are numbers
/// because the value comes out of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TypeEntry {
    /// Decision for every code except `other_code`.
    pub main: Decision,
    /// Decision for `other_code`.
    pub other: Decision,
    /// The code that `other` is for.
    pub other_code: u8,
    /// 1 if there is such a code.
    pub has_other: u8,
}

/// One decision of a [`TypeEntry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// 0 pass, 1 answer, 2 limit, 3 drop; any other number passes.
    pub action: u8,
    /// Number of the budget that a limited message is charged to.
    pub budget: u8,
    /// Row in which the message is counted.
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

/// A rate and a burst, in units of time: 2^-24 of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Units of time that one packet costs; 0 is unlimited.
    pub interval: u64,
    /// Units of time that a full bucket holds: the burst times the interval. A capacity below the interval admits nothing.
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
