//! What lies in the maps: the layouts the program and the controller share.
//!
//! Owns names, layouts and sizes (docs/map-abi.md). A change here is a new [`VERSION`], and with it a new pin directory.
//! All values are in the machine's own byte order; no layout has padding, flags are `u32`, sizes are asserted below.

use crate::limiter::Limit;
use crate::path::checks::{CHECKS, Check};
use crate::policy::{BUDGETS, TYPE_ENTRIES, TypeEntry};
use crate::prefixes::{
    LENGTHS4, LENGTHS6, PREFIX_BUCKETS4, PREFIX_BUCKETS6, PREFIX_VALUES, PrefixBucket4, PrefixBucket6,
    Search, Search4, Search6, Step6,
};
use crate::reason::REASONS;
use crate::rules::{
    CODE_BLOCKS, LENGTHS, MAX_RULES, NAME_LEN, ROUTERS, RULE_SLOTS, Rule, Rules, Tally, TypeRules, VLANS,
};
use crate::types::COUNTER_ROWS;

/// Version of everything in this file; names the pin directory.
pub const VERSION: u32 = 5;

/// Interfaces an instance can be attached to. Slot 0 counts frames of interfaces the controller has not entered yet.
pub const MAX_INTERFACES: u32 = 16;
/// Slots in the counter map.
pub const SLOTS: u32 = MAX_INTERFACES + 1;
/// Entries of the `INTERFACES` map; a power of two.
pub const INTERFACE_ENTRIES: u32 = 32;

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
    /// [`INTERFACE_STRIPS_TAGS`] and [`INTERFACE_SHARED`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// Frames for other hosts come in on it as well: it is a port of a bridge, or has devices with MAC addresses of their own on it.
pub const INTERFACE_SHARED: u32 = 2;
/// VLAN tags may be missing from its frames and VLANs are told apart on it: no echo request is answered, tagged or not, because a tag that is
/// seen may be the inner one of two.
pub const INTERFACE_STRIPS_TAGS: u32 = 1;

/// Entries of `OWN_FIRST` for each buffer; a power of two.
pub const SCOPE_SLOTS: u32 = 32;

/// What is asked first about the addresses of an interface, an entry of `OWN_FIRST`. Layout: 128 bytes.
///
/// It says nothing that the address table does not say, and belongs to one buffer of it: it makes the usual answer ("the first
/// address of the interface, from a source that is none of ours") two comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OwnFirst {
    /// An IPv4 address the interface owns without a VLAN; 0 where it has none.
    pub v4: u32,
    /// Zero.
    pub reserved: u32,
    /// An IPv6 address the interface owns without a VLAN, as big-endian halves; zero where it has none.
    pub v6: [u64; 2],
    /// For each IPv4 address of the table that a packet could come from, whatever its scope and kind, the bit [`own_bit`]. A source whose bit is
    /// not set is in no entry.
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

/// Buckets of `ADDRESSES4` and of `ADDRESSES6` in one buffer of a default load; the maps hold two buffers.
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
    /// The scope of addresses that are the host's own on some interface: whoever sends from one of them is no other host.
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

/// What an address in the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressKind {
    /// The host's own unicast address.
    Own = 1,
    /// A group the host belongs to: the broadcast address of one of its prefixes, or a multicast address.
    Group = 2,
    /// Not an address: the scope is configured at all.
    Present = 3,
    /// The host's own on some interface, in [`Scope::ANYWHERE`]: no source of a frame from outside.
    Anywhere = 4,
}

/// Multiplier that spreads addresses over buckets; 2^64 over the golden ratio, odd. The table holds the host's own
/// addresses only, so nobody can choose collisions and no secret is needed.
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
    /// Log2 of the ticks in an epoch of [`crate::familiar`], about four seconds.
    pub epoch_shift: u32,
    /// Per-source level of echo.
    pub source: Level,
    /// Per-prefix level of echo.
    pub prefix: Level,
    /// Zero.
    pub reserved_hot: u64,
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
/// bits 3 to 7 how often it has changed, which token batches go by. All of it is one byte, so no reader can see a mix.
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

/// What belongs to one CPU alone; the one entry of `CPU` (per CPU). Layout: 112 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cpu {
    /// Tokens it has taken from the budgets.
    pub batches: Batches,
    /// When it is to sample a request.
    pub sampling: Sampling,
    /// When it last found the reply budget exhausted.
    pub exhausted: Exhausted,
}

/// Tokens a CPU has taken from the budgets and not spent. Layout: 80 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Batches {
    /// To what they belong: settings and a span of time ([`crate::budget::generation`]). They end with it.
    pub generation: u64,
    /// Echo requests until the CPU has to stop and look: at its token batch, or because a request is to be sampled.
    pub until_stop: u32,
    /// Zero.
    pub reserved: u32,
    /// Packets left of each budget; of the replies, without those in `until_stop`.
    pub tokens: [u32; BUDGETS],
}

/// When a CPU samples its next echo request. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// State of the random numbers.
    pub state: u64,
    /// Echo requests until then, without those in [`Batches::until_stop`].
    pub left: u32,
    /// Zero.
    pub reserved: u32,
}

/// When a CPU last found the reply budget exhausted. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exhausted {
    /// Tick.
    pub at: u64,
    /// Epoch of that tick ([`crate::familiar`]).
    pub epoch: u64,
}

/// Words of a hash table that lie together: an entry of `SOURCES`, `PREFIXES` and `KNOWN`. Layout: 64 bytes, a cache line.
///
/// Whoever is looked for has two of them, by a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    /// Cells of the limiter, or words of [`crate::familiar`].
    pub words: [u64; LINE_WORDS],
}

/// Words of a [`Line`].
pub const LINE_WORDS: usize = 8;

const _: () = {
    assert!(size_of::<Interface>() == 24);
    assert!(size_of::<Level>() == 40);
    assert!(size_of::<Bucket4>() == 32 && size_of::<Bucket6>() == 96);
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<Cpu>() == 112 && size_of::<Batches>() == 80 && size_of::<Line>() == 64);
    assert!(size_of::<OwnFirst>() == 128 && core::mem::offset_of!(Settings, budgets) == 112);
    assert!(size_of::<TypeEntry>() == 8);
    assert!(size_of::<Settings>() == 112 + BUDGETS * 20 + 8 + TYPE_ENTRIES * 8);
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
    assert!(INTERFACE_ENTRIES.is_power_of_two() && SCOPE_SLOTS >= SLOTS);
};
