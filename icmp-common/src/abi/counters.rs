//! Counters of frames, by interface, type and reason.

use crate::abi::NEXT;
use crate::abi::interfaces::SLOTS;
use crate::reason::REASONS;
use crate::types::COUNTER_ROWS;

/// One counter, an entry of `COUNTERS` (per CPU). The index is (slot × rows + row) × reasons + reason. Slot 0 is for interfaces that are not
/// entered. Row 0 is neither IPv4 nor IPv6, 1 and 2 are IPv4 and IPv6 without a readable type, then comes one for each row of
/// `icmp-common/data/icmp-types.tsv`, in the order of the file.
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
pub const COUNTERS: u32 = SLOTS * ROW_PLACES * REASONS as u32;

/// Rows that a slot has room for.
const ROW_PLACES: u32 = COUNTER_ROWS as u32 + NEXT;

/// Position of a counter.
#[inline(always)]
pub const fn counter_index(slot: u32, row: u32, reason: u32) -> u32 {
    (slot * ROW_PLACES + row) * REASONS as u32 + reason
}
