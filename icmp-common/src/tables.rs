//! The maps and the clock, as the packet path sees them: one trait.
//!
//! Owns the trait and the lookups that are the same wherever the tables lie: an interface by its index, an address by its bucket; and beside
//! each lookup the place where an entry has to be written to be found. The kernel's side is icmp-ebpf's `maps.rs`, the host's is
//! `host_tables.rs`. A lookup that fails is `None`, and then the frame is passed.

use core::ops::DerefMut;

use crate::abi::{
    AddressBucket4, AddressBucket6, AddressKind, BUCKET_WAYS, Capture, CaptureCpu, Cpu, Entry6, HeavyHitter,
    INTERFACE_ENTRIES, Interface, OwnFirst, Peers, PrefixBucket4, PrefixBucket6, RuleCounter, Rules, Scope,
    Settings, Tap, address_hash4, address_hash6,
};
use crate::frame::Frame;
use crate::limiter::{Shared, SharedWords};
use crate::reason::Reason;
use crate::wire::ipv6::Halves;

/// Maps and clock as one CPU sees them while it handles one frame.
pub trait Tables: SharedWords {
    /// Which buffers are in force: `abi::SWITCH_*`.
    fn switch(&self) -> Option<u32>;
    /// A buffer of settings.
    fn settings(&self, buffer: u32) -> Option<&Settings>;
    /// An entry of the interface table.
    fn interface_entry(&self, index: u32) -> Option<&Interface>;
    /// What is asked first about the addresses of the interface in a slot.
    fn own_first(&self, buffer: u32, slot: u32) -> Option<&OwnFirst>;
    /// A bucket of IPv4 addresses, both buffers counted through.
    fn addresses4(&self, index: u32) -> Option<&AddressBucket4>;
    /// A bucket of IPv6 addresses, both buffers counted through.
    fn addresses6(&self, index: u32) -> Option<&AddressBucket6>;
    /// How far a hash is shifted to give a bucket of addresses: 64 less log2 of the buckets in one buffer.
    fn address_shift(&self) -> u32;
    /// A buffer of rules.
    fn rules(&self, buffer: u32) -> Option<&Rules>;
    /// A bucket of IPv4 prefixes, both buffers counted through.
    fn prefixes4(&self, index: u32) -> Option<&PrefixBucket4>;
    /// A bucket of IPv6 prefixes, both buffers counted through.
    fn prefixes6(&self, index: u32) -> Option<&PrefixBucket6>;
    /// The word of an entry of `GATES`, both buffers counted through (`abi::gate_position`).
    fn gate(&self, position: u32) -> Option<u64>;
    /// The rule counter of a rule's slot, or of a check behind the rules' slots; it is let go before the next is asked for.
    fn rule_counter(&self, index: u32) -> Option<impl DerefMut<Target = RuleCounter>>;
    /// When settings that nobody confirms are no longer in force, on the clock of `monotonic_ns`.
    fn rollback_at(&self) -> Option<u64>;
    /// CLOCK_MONOTONIC; expensive, so asked for only while a confirmation is awaited, and of frames that are captured or whose sender is tracked.
    fn monotonic_ns(&self) -> u64;
    /// What belongs to this CPU alone; it is let go before it is asked for again.
    fn cpu(&self) -> Option<impl DerefMut<Target = Cpu>>;
    /// An entry of this CPU's heavy hitters.
    fn heavy_hitter(&self, index: u32) -> Option<impl DerefMut<Target = HeavyHitter>>;
    /// How far a hash is shifted to give a line of the sources: 64 less log2 of the lines. Prefixes and known sources have half as many.
    fn source_shift(&self) -> u32;
    /// A word of the limiter's secret, [`crate::limiter::SECRETS`] of them, drawn at load.
    fn secret(&self, index: usize) -> u64;
    /// The word of the path MTU (`path/mtu.rs`).
    fn path_mtu(&self) -> Option<impl Shared>;
    /// The kernel's tick counter (jiffies).
    fn ticks(&self) -> u64;
    /// [`Capture::reasons`] of what is captured for a tap.
    fn captured_reasons(&self, tap: Tap) -> u64;
    /// Which frames are captured for a tap.
    fn capture(&self, tap: Tap) -> Option<&Capture>;
    /// What this CPU knows of the capture; it is let go before it is asked for again.
    fn capture_cpu(&self, tap: Tap) -> Option<impl DerefMut<Target = CaptureCpu>>;
    /// The bucket of [`Capture::limit`].
    fn capture_bucket(&self, tap: Tap) -> Option<impl Shared>;
    /// How far a hash is shifted to give a bucket of peers: 64 less log2 of the buckets.
    fn peer_shift(&self) -> u32;
    /// A bucket of peers: its version, which is its lock ([`crate::abi::PeerBucket`]), and what only its holder writes.
    fn peer_bucket(&self, index: u32) -> Option<(impl Shared, impl DerefMut<Target = Peers>)>;
    /// Counts one frame.
    fn count(&self, slot: u32, row: u8, reason: Reason, bytes: u64);
}

/// The place of an interface's entry: its index, or the next one behind it that was free. Some other place where it has no entry.
#[inline(always)]
pub(crate) fn interface_place<F: Frame, T: Tables>(tables: &T, ifindex: u32) -> u32 {
    let mut left = F::opaque(INTERFACE_ENTRIES as usize);
    let mut place = ifindex;
    while left != 0 {
        place = place.wrapping_add(1) & (INTERFACE_ENTRIES - 1);
        if tables.interface_entry(place).is_some_and(|entry| entry.ifindex == ifindex) {
            break;
        }
        left -= 1;
    }
    place
}

/// Where an interface's entry is, or can go: `None` where all places are taken by others.
pub fn interface_position(entries: &[Interface], ifindex: u32) -> Option<u32> {
    let places = (0..INTERFACE_ENTRIES).map(|probe| ifindex.wrapping_add(probe) & (INTERFACE_ENTRIES - 1));
    let holds = |wanted: u32| {
        places.clone().find(|place| entries.get(*place as usize).is_some_and(|e| e.ifindex == wanted))
    };
    holds(ifindex).or_else(|| holds(0))
}

/// What an IPv4 address is in a scope; 0 where the table does not have it, otherwise an [`AddressKind`] as a number.
#[inline(always)]
pub fn kind4<F: Frame, T: Tables>(tables: &T, buffer: u32, address: u32, scope: Scope) -> Option<u32> {
    let key = address as u64 | (scope.0 as u64) << 32;
    let shift = tables.address_shift();
    let bucket = tables.addresses4(buffer << (64 - shift) | (address_hash4(key) >> shift) as u32)?;
    // Opaque, or the compiler writes the loop out wherever somebody looks for an address.
    let mut left = F::opaque(BUCKET_WAYS);
    while left != 0 {
        left -= 1;
        let entry = bucket.entries[left & (BUCKET_WAYS - 1)];
        if entry & !((Scope::KIND_MASK as u64) << 32) == key {
            return Some((entry >> 32) as u32 & Scope::KIND_MASK);
        }
    }
    Some(0)
}

/// Enters an IPv4 address in a buffer of a power of two buckets, at least two; false where its bucket is full of others.
pub fn insert4(buckets: &mut [AddressBucket4], address: u32, scope: Scope, kind: AddressKind) -> bool {
    let entry = |scope: Scope| address as u64 | (scope.0 as u64) << 32;
    let position = address_hash4(entry(scope)) >> (64 - buckets.len().ilog2());
    let bucket = buckets.get_mut(position as usize);
    bucket.is_some_and(|bucket| place(&mut bucket.entries, entry(scope.with_kind(kind)), 0))
}

/// What an IPv6 address is in a scope, as [`kind4`].
#[inline(always)]
pub fn kind6<F: Frame, T: Tables>(tables: &T, buffer: u32, (high, low): Halves, scope: Scope) -> Option<u32> {
    let shift = tables.address_shift();
    let hash = address_hash6(high, low, scope);
    let bucket = tables.addresses6(buffer << (64 - shift) | (hash >> shift) as u32)?;
    let mut left = F::opaque(BUCKET_WAYS);
    while left != 0 {
        left -= 1;
        let entry = &bucket.entries[left & (BUCKET_WAYS - 1)];
        if entry.high == high && entry.low == low && entry.scope & !Scope::KIND_MASK == scope.0 {
            return Some(entry.scope & Scope::KIND_MASK);
        }
    }
    Some(0)
}

/// Enters an IPv6 address in a buffer, as [`insert4`].
pub fn insert6(buckets: &mut [AddressBucket6], high: u64, low: u64, scope: Scope, kind: AddressKind) -> bool {
    let entry = Entry6 { high, low, scope: scope.with_kind(kind).0, reserved: 0 };
    let position = address_hash6(high, low, scope) >> (64 - buckets.len().ilog2());
    let bucket = buckets.get_mut(position as usize);
    bucket.is_some_and(|bucket| place(&mut bucket.entries, entry, Entry6::default()))
}

/// Puts an entry in a bucket unless it is there already; false where the bucket is full.
fn place<E: PartialEq + Copy>(entries: &mut [E], entry: E, free: E) -> bool {
    if entries.contains(&entry) {
        return true;
    }
    match entries.iter_mut().find(|place| **place == free) {
        Some(place) => {
            *place = entry;
            true
        }
        None => false,
    }
}

/// The kind as [`kind4`] and [`kind6`] return it.
#[inline(always)]
pub const fn kind_bits(kind: AddressKind) -> u32 {
    (kind as u32) << 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_indices_that_meet_find_places_next_to_each_other() {
        let mut entries = [Interface::default(); INTERFACE_ENTRIES as usize];
        for n in 0..INTERFACE_ENTRIES {
            let ifindex = 5 + n * INTERFACE_ENTRIES;
            let position = interface_position(&entries, ifindex).expect("a free place");
            entries[position as usize].ifindex = ifindex;
        }
        assert_eq!(interface_position(&entries, 5 + INTERFACE_ENTRIES * INTERFACE_ENTRIES), None);
        assert_eq!(interface_position(&entries, 5), Some(5));
    }
}
