//! What lies in the maps: the layouts the program and the controller share.
//!
//! Owns names, layouts and sizes (docs/map-abi.md). A change here is a new [`VERSION`], and with it a new pin directory.
//! All values are in the machine's own byte order; no layout has padding, flags are `u32`, sizes are asserted below.

use crate::checks::{CHECKS, Check};
use crate::flows::{FLOWS, Flow, Mark};
use crate::limiter::Limit;
use crate::policy::{BUDGETS, TYPE_ENTRIES, TypeEntry};
use crate::prefixes::{
    LENGTHS4, LENGTHS6, PREFIX_BUCKETS4, PREFIX_BUCKETS6, PREFIX_VALUES, PrefixBucket4, PrefixBucket6,
    Search, Search4, Search6, Step6,
};
use crate::reason::REASONS;
use crate::rules::{
    CODE_BLOCKS, LENGTHS, MAX_RULES, NAME_LEN, ROUTERS, RULE_SLOTS, Rule, Rules, Tally, TypeRules, VLANS,
};
use crate::types::{COUNTER_ROWS, ECHO_ROW_V4, ECHO_ROW_V6};

/// Version of everything in this file; names the pin directory.
pub const VERSION: u32 = 3;

/// Interfaces an instance can be attached to. Slot 0 counts frames of interfaces the controller has not entered yet.
pub const MAX_INTERFACES: u32 = 16;
/// Slots in the counter map.
pub const SLOTS: u32 = MAX_INTERFACES + 1;
/// Entries of the `INTERFACES` map; a power of two.
pub const INTERFACE_ENTRIES: u32 = 32;
/// Positions behind `ifindex % INTERFACE_ENTRIES` where an interface may be found.
pub const INTERFACE_PROBES: u32 = 4;

/// One attached interface, an entry of `INTERFACES`. Layout: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interface {
    /// Kernel index; 0 marks a free entry.
    pub ifindex: u32,
    /// Its slot in the counter map and in address scopes, 1 to [`MAX_INTERFACES`].
    pub slot: u32,
    /// MAC address: six bytes as in a frame, then two zeroes.
    pub mac: u64,
    /// [`INTERFACE_STRIPS_TAGS`] or 0.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// The driver removes VLAN tags before XDP and VLANs are in use: an untagged frame may belong to any of them.
pub const INTERFACE_STRIPS_TAGS: u32 = 1;

/// Buckets of `ADDRESSES4` and `ADDRESSES6` together with one bank; the maps hold two banks. A power of two.
pub const ADDRESS_BUCKETS: u32 = 1024;
/// Addresses in one bucket.
pub const BUCKET_WAYS: usize = 4;

/// A bucket of `ADDRESSES4`. Layout: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket4 {
    /// Each an address in the low half and a [`Scope`] with its kind in the high half, in no order; 0 is free.
    pub entries: [u64; BUCKET_WAYS],
}

/// An entry of a [`Bucket6`]. Layout: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry6 {
    /// First eight bytes of the address, as a big-endian number.
    pub high: u64,
    /// Last eight bytes.
    pub low: u64,
    /// A [`Scope`] with its kind; 0 is free.
    pub scope: u32,
    /// Zero.
    pub reserved: u32,
}

/// A bucket of `ADDRESSES6`. Layout: 96 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket6 {
    /// In no order.
    pub entries: [Entry6; BUCKET_WAYS],
}

/// Where an address is owned, and what it is there: slot in bits 0 to 4, kind in 5 to 7, VLAN in 8 to 31.
///
/// VLAN: 0 for untagged, otherwise the outer identifier in the low twelve bits and the inner one in the high twelve, where
/// 0xfff (reserved in IEEE 802.1Q) stands for a single service tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(pub u32);

impl Scope {
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

/// What an address in the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressKind {
    /// The host's own unicast address.
    Own = 1,
    /// The broadcast address of one of the host's prefixes.
    Broadcast = 2,
    /// Not an address: the scope is configured at all.
    Present = 3,
    /// The host's own on another interface: not answered for here, and no source of a frame from outside.
    Elsewhere = 4,
}

/// Multiplier that spreads addresses over buckets; 2^64 over the golden ratio, odd. The table holds the host's own
/// addresses only, so nobody can choose collisions and no secret is needed.
pub const ADDRESS_HASH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bucket of an IPv4 entry (its kind masked out) within a bank.
#[inline(always)]
pub const fn bucket4(entry: u64) -> u32 {
    ((entry ^ entry >> 32).wrapping_mul(ADDRESS_HASH) >> 54) as u32
}

/// Bucket of an IPv6 address within a bank.
#[inline(always)]
pub const fn bucket6(high: u64, low: u64, scope: Scope) -> u32 {
    ((high ^ low.rotate_left(32) ^ scope.0 as u64).wrapping_mul(ADDRESS_HASH) >> 54) as u32
}

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

/// Everything the controller can change at run time but addresses: one of two banks of `SETTINGS`. Layout: see the size below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// `SETTINGS_*` flags.
    pub flags: u32,
    /// TTL of IPv4 answers, 1 to 255.
    pub ttl: u32,
    /// Hop limit of IPv6 answers, 1 to 255.
    pub hop_limit: u32,
    /// Log2 of the ticks in an epoch of [`crate::familiar`], about four seconds.
    pub epoch_shift: u32,
    /// Per-source level of echo.
    pub source: Level,
    /// Per-prefix level of echo.
    pub prefix: Level,
    /// Rate and burst of each [`crate::policy::Budget`].
    pub budgets: [Limit; BUDGETS],
    /// Replies a CPU takes from each budget at once, at least 1.
    pub batches: [u32; BUDGETS],
    /// What is done with each type.
    pub types: [TypeEntry; TYPE_ENTRIES],
    /// Bank of `RULES` and of the prefixes that belongs to these settings. Settings that change nothing in them share the bank.
    pub rules: u32,
    /// Two bits for each [`Check`]: a [`crate::checks::Mode`] as a number.
    pub checks: u32,
    /// The [`crate::policy::Preset`] the types were made from, as a number.
    pub preset: u32,
    /// Requests that one of [`crate::flows`] pays for in advance, at most; 0 where none does.
    pub lease: u32,
}

/// This bank is in use; an all-zero bank means pass.
pub const SETTINGS_PRESENT: u32 = 1;
/// Echo requests are answered (off: handed to the kernel within the limits).
pub const SETTINGS_ECHO: u32 = 2;
/// The ICMP checksum is verified before answering.
pub const SETTINGS_VERIFY_FULL: u32 = 4;
/// There are VIP prefixes.
pub const SETTINGS_VIPS: u32 = 8;
/// There are rules.
pub const SETTINGS_RULES: u32 = 16;
/// Nothing is answered, dropped or limited; what would have been is counted.
pub const SETTINGS_OBSERVE: u32 = 32;

/// What entry [`SWITCH_BITS`] of `SWITCH` says: which bank of `SETTINGS` (bit 0) and of the address tables (bit 1) is in force, and in
/// bits 3 to 7 how often it has changed, which [`crate::flows`] go by. All of it is one byte, so no reader can see a mix.
pub const SWITCH_SETTINGS: u32 = 1;
/// See [`SWITCH_SETTINGS`].
pub const SWITCH_ADDRESSES: u32 = 2;
/// The settings await confirmation: from the instant in entry [`SWITCH_ROLLBACK_AT`] on, the other bank is in force. The program looks
/// at the clock, so this needs no process that lives until then.
pub const SWITCH_AWAITS: u32 = 4;

/// One change, where they are counted; what exceeds the byte is cut off.
pub const SWITCH_CHANGE: u32 = 8;

/// Entry of `SWITCH` with the bits.
pub const SWITCH_BITS: u32 = 0;
/// Entry of `SWITCH` with nanoseconds of CLOCK_MONOTONIC; written only while [`SWITCH_AWAITS`] is off.
pub const SWITCH_ROLLBACK_AT: u32 = 1;

/// Entries of `TALLIES`: the slots of rules, then the checks.
pub const TALLIES: u32 = (RULE_SLOTS + CHECKS) as u32;

/// Position of a check's tally.
#[inline(always)]
pub const fn check_tally(check: Check) -> u32 {
    RULE_SLOTS as u32 + check as u32
}

/// One counter, an entry of `COUNTERS` (per CPU). Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames, from the Ethernet header on, as received.
    pub bytes: u64,
}

impl Counter {
    /// Counts a frame.
    #[inline(always)]
    pub const fn count(&mut self, bytes: u64) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// Entries of `COUNTERS`: per slot, per row of the type table, per reason.
pub const COUNTERS: u32 = SLOTS * COUNTER_ROWS as u32 * REASONS as u32;

/// Position of a counter.
#[inline(always)]
pub const fn counter_index(slot: u32, row: u32, reason: u32) -> u32 {
    (slot * COUNTER_ROWS as u32 + row) * REASONS as u32 + reason
}

/// What a CPU has taken and not used yet, and what it keeps of it; the one entry of `LEASES` (per CPU). Layout: flows, answers, 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Leases {
    /// What was decided of requests that may come again.
    pub flows: [Flow; FLOWS],
    /// Whose each of them is.
    pub marks: [Mark; FLOWS],
    /// Answers by flows, IPv4 and IPv6, in place of `COUNTERS`, which would have to be looked up. Slots as there.
    pub answered: [[Counter; 2]; ANSWERED_SLOTS],
    /// Packets left of each budget.
    pub tokens: [u32; BUDGETS],
    /// Tick at which the total reply budget was last found exhausted by this CPU.
    pub exhausted_at: u64,
    /// State of the sampler that feeds `show sources`.
    pub sampler: u64,
    /// Written and read back where the verifier is not to follow a value.
    pub scratch: u64,
    /// The epoch of that tick ([`crate::familiar`]).
    pub exhausted_in: u64,
}

/// Entries of `Leases::answered`: [`SLOTS`], and what makes them a power of two.
pub const ANSWERED_SLOTS: usize = SLOTS.next_power_of_two() as usize;

impl Leases {
    /// What of `answered` belongs to a slot, and in which counter row.
    pub const fn answered_in(&self, slot: u32) -> [(u8, Counter); 2] {
        let [v4, v6] = self.answered[slot as usize % ANSWERED_SLOTS];
        [(ECHO_ROW_V4, v4), (ECHO_ROW_V6, v6)]
    }
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            tokens: [0; BUDGETS],
            exhausted_at: 0,
            sampler: 0,
            scratch: 0,
            exhausted_in: 0,
            flows: [Flow::default(); FLOWS],
            marks: [Mark::default(); FLOWS],
            answered: [[Counter::default(); 2]; ANSWERED_SLOTS],
        }
    }
}

/// Words that lie together at one place of the limiter's table, an entry of `CELLS`. Layout: 48 bytes, so that the first two are never
/// in two cache lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cluster {
    /// Cell in the first row of the sources.
    pub source: u64,
    /// Words of [`crate::familiar`].
    pub familiar: [u64; 2],
    /// Cell in the second row of the sources.
    pub source_second: u64,
    /// Cell in the first row of the prefixes.
    pub prefix: u64,
    /// Cell in the second row of the prefixes.
    pub prefix_second: u64,
}

const _: () = {
    assert!(size_of::<Interface>() == 24);
    assert!(size_of::<Level>() == 40);
    assert!(size_of::<Bucket4>() == 32 && size_of::<Bucket6>() == 96);
    assert!(size_of::<Counter>() == 16);
    assert!(
        size_of::<Leases>() == 64 + FLOWS * (128 + 16) + ANSWERED_SLOTS * 32 && size_of::<Cluster>() == 48
    );
    assert!(size_of::<TypeEntry>() == 8);
    assert!(size_of::<Settings>() == 16 + 2 * 40 + BUDGETS * 16 + BUDGETS * 4 + TYPE_ENTRIES * 8 + 16);
    assert!(size_of::<TypeRules>() == 16 && size_of::<Rule>() == 24 && size_of::<Tally>() == 32);
    assert!(
        size_of::<Rules>()
            == 32
                + TYPE_ENTRIES * 16
                + (CODE_BLOCKS * 256 + 256 + LENGTHS + VLANS) * 8
                + MAX_RULES * (24 + NAME_LEN)
                + ROUTERS * 16
                + size_of::<Search>()
                + PREFIX_VALUES * 8
    );
    assert!(size_of::<PrefixBucket4>() == 64 && size_of::<PrefixBucket6>() == 64 && size_of::<Step6>() == 24);
    assert!(size_of::<Search4>() == LENGTHS4 * 8 + 8 && size_of::<Search6>() == LENGTHS6 * 24 + 8);
    assert!(size_of::<Search>() == 24 + 3 * (size_of::<Search4>() + size_of::<Search6>()));
    assert!(PREFIX_BUCKETS4.is_power_of_two() && PREFIX_BUCKETS6.is_power_of_two());
    assert!(INTERFACE_ENTRIES.is_power_of_two() && ADDRESS_BUCKETS == 1 << 10);
};
