//! What the packet path needs from outside: maps and the clock, behind one trait.
//!
//! Owns the trait and the lookups that are the same wherever the tables lie: an interface by its index, an address by its
//! bucket; and beside each lookup where an entry goes to be found by it. The kernel's side is icmp-ebpf's `maps.rs`, the host's is
//! `host_tables.rs`. A lookup that fails is `None`, and `None` ends in a pass.

use core::ops::DerefMut;

use crate::abi::{
    AddressKind, Bucket4, Bucket6, Entry6, INTERFACE_ENTRIES, INTERFACE_PROBES, Interface, Leases, Scope,
    Settings, bucket4, bucket6,
};
use crate::limiter::Cells;
use crate::prefixes::{PrefixBucket4, PrefixBucket6};
use crate::reason::Reason;
use crate::rules::{Rules, Tally};
use crate::talkers::Talker;

/// Maps and clock as one CPU sees them while it handles one frame.
pub trait Tables: Cells {
    /// Which banks are in force: `abi::SWITCH_*`.
    fn switch(&self) -> Option<u32>;
    /// A bank of settings.
    fn settings(&self, bank: u32) -> Option<&Settings>;
    /// An entry of the interface table.
    fn interface_entry(&self, index: u32) -> Option<&Interface>;
    /// A bucket of IPv4 addresses, both banks counted through.
    fn addresses4(&self, index: u32) -> Option<&Bucket4>;
    /// A bucket of IPv6 addresses, both banks counted through.
    fn addresses6(&self, index: u32) -> Option<&Bucket6>;
    /// A bank of rules.
    fn rules(&self, bank: u32) -> Option<&Rules>;
    /// A bucket of IPv4 prefixes, both banks counted through.
    fn prefixes4(&self, index: u32) -> Option<&PrefixBucket4>;
    /// A bucket of IPv6 prefixes, both banks counted through.
    fn prefixes6(&self, index: u32) -> Option<&PrefixBucket6>;
    /// The tally of a rule's slot, or of a check behind the rules' slots; it is let go before the next is asked for.
    fn tally(&self, index: u32) -> Option<impl DerefMut<Target = Tally>>;
    /// When settings that nobody confirms are no longer in force, on the clock of `monotonic_ns`.
    fn rollback_at(&self) -> Option<u64>;
    /// CLOCK_MONOTONIC; expensive, so asked for only while a confirmation is awaited.
    fn monotonic_ns(&self) -> u64;
    /// What this CPU has taken from the budgets.
    ///
    /// What it returns is let go before the next call that returns one. (Not a closure's argument: the compiler makes functions of
    /// closures that are used often, and a call costs as much as everything else here.)
    fn leases(&self) -> Option<impl DerefMut<Target = Leases>>;
    /// An entry of this CPU's talkers.
    fn talker(&self, index: u32) -> Option<impl DerefMut<Target = Talker>>;
    /// How far a hash is shifted to give a place in the limiter's table: 64 less log2 of the places.
    fn cell_shift(&self) -> u32;
    /// The [`crate::limiter::secret`] drawn at load.
    fn secret(&self) -> [u64; 4];
    /// The kernel's tick counter (jiffies).
    fn ticks(&self) -> u64;
    /// The same value, but one of which the verifier knows nothing, so that paths that differ only in what it knows join.
    fn opaque(&self, leases: &mut Leases, value: usize) -> usize;
    /// Counts one frame.
    fn count(&self, slot: u32, row: u8, reason: Reason, bytes: u64);
}

/// The entry of an interface: its place is its index, or one of the few behind it.
#[inline(always)]
pub fn interface<T: Tables>(tables: &T, ifindex: u32) -> Option<&Interface> {
    for probe in 0..INTERFACE_PROBES {
        let entry = tables.interface_entry(ifindex.wrapping_add(probe) & (INTERFACE_ENTRIES - 1))?;
        if entry.ifindex == ifindex {
            return Some(entry);
        }
    }
    None
}

/// Where an interface's entry is, or can go to be found by [`interface`]: `None` where all its places are taken by others.
pub fn interface_position(entries: &[Interface], ifindex: u32) -> Option<u32> {
    let places = (0..INTERFACE_PROBES).map(|probe| ifindex.wrapping_add(probe) & (INTERFACE_ENTRIES - 1));
    let holds = |wanted: u32| {
        places.clone().find(|place| entries.get(*place as usize).is_some_and(|e| e.ifindex == wanted))
    };
    holds(ifindex).or_else(|| holds(0))
}

/// What an IPv4 address is in a scope; 0 where the table does not have it, otherwise an [`AddressKind`] as a number.
#[inline(always)]
pub fn kind4<T: Tables>(tables: &T, bank_offset: u32, address: u32, scope: Scope) -> Option<u32> {
    let key = address as u64 | (scope.0 as u64) << 32;
    let bucket = tables.addresses4(bank_offset + bucket4(key))?;
    for entry in bucket.entries {
        if entry & !((Scope::KIND_MASK as u64) << 32) == key {
            return Some((entry >> 32) as u32 & Scope::KIND_MASK);
        }
    }
    Some(0)
}

/// Enters an IPv4 address in a bank; false where its bucket is full of others.
pub fn insert4(bank: &mut [Bucket4], address: u32, scope: Scope, kind: AddressKind) -> bool {
    let entry = |scope: Scope| address as u64 | (scope.0 as u64) << 32;
    let bucket = bank.get_mut(bucket4(entry(scope)) as usize);
    bucket.is_some_and(|bucket| place(&mut bucket.entries, entry(scope.with_kind(kind)), 0))
}

/// What an IPv6 address is in a scope, as [`kind4`].
#[inline(always)]
pub fn kind6<T: Tables>(tables: &T, bank_offset: u32, high: u64, low: u64, scope: Scope) -> Option<u32> {
    let bucket = tables.addresses6(bank_offset + bucket6(high, low, scope))?;
    for entry in &bucket.entries {
        if entry.high == high && entry.low == low && entry.scope & !Scope::KIND_MASK == scope.0 {
            return Some(entry.scope & Scope::KIND_MASK);
        }
    }
    Some(0)
}

/// Enters an IPv6 address in a bank, as [`insert4`].
pub fn insert6(bank: &mut [Bucket6], high: u64, low: u64, scope: Scope, kind: AddressKind) -> bool {
    let entry = Entry6 { high, low, scope: scope.with_kind(kind).0, reserved: 0 };
    let bucket = bank.get_mut(bucket6(high, low, scope) as usize);
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
        for ifindex in [5, 5 + INTERFACE_ENTRIES, 5 + 2 * INTERFACE_ENTRIES, 5 + 3 * INTERFACE_ENTRIES] {
            let position = interface_position(&entries, ifindex).expect("four places");
            entries[position as usize].ifindex = ifindex;
        }
        assert_eq!(interface_position(&entries, 5 + 4 * INTERFACE_ENTRIES), None);
        assert_eq!(interface_position(&entries, 5), Some(5));
    }
}
