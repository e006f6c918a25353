//! Per-CPU state: token batches, sampling, heavy hitters.

use crate::abi::NEXT;
use crate::abi::settings::BUDGETS;

/// State of one CPU; the one entry of `CPU` (per CPU).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cpu {
    /// Tokens that the CPU has taken from the budgets.
    pub batches: Batches,
    /// When the CPU samples its next request.
    pub sampling: Sampling,
    /// When the CPU last found the reply budget exhausted.
    pub exhausted: Exhausted,
}

/// Tokens that a CPU has taken from the budgets and not spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Batches {
    /// Settings and span of time that the tokens belong to ([`crate::budget::generation`]): the byte of the switch in bits 0 to 7, ticks / 256
    /// above. Tokens of another generation are void.
    pub generation: u64,
    /// Echo requests until the batch ends, or a request is to be sampled.
    pub until_stop: u32,
    /// Zero.
    pub reserved: u32,
    /// Tokens left of each budget; of the replies, without those in `until_stop`.
    pub tokens: [u32; BUDGETS],
}

/// When a CPU samples its next echo request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// State of the random number generator that picks the samples.
    pub state: u64,
    /// Echo requests until the next sample, without those in [`Batches::until_stop`].
    pub left: u32,
    /// Position of the last sample among [`crate::heavy_hitters::SAMPLE`] (32) requests in a row.
    pub position: u32,
}

/// When a CPU last found the reply budget exhausted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exhausted {
    /// The tick.
    pub at: u64,
    /// Epoch of that tick ([`crate::known_sources`]).
    pub epoch: u64,
}
/// Log2 of [`HEAVY_HITTERS`].
pub const HEAVY_HITTER_BITS: u32 = 12 - NEXT;
/// Entries of `HEAVY_HITTERS`, per CPU.
pub const HEAVY_HITTERS: u32 = 1 << HEAVY_HITTER_BITS;

/// A source of echo requests and its samples: an entry of `HEAVY_HITTERS` (per CPU), at an index from the source's hash. A window is a quarter
/// of an epoch, about a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HeavyHitter {
    /// The source.
    pub source: Source,
    /// Number of the current window, which `seen`, `limited` and `others` count.
    pub window: u32,
    /// Samples of this source in the window.
    pub seen: u32,
    /// Samples of this source that were over a limit.
    pub limited: u32,
    /// `seen` in the window before.
    pub seen_before: u32,
    /// `limited` in the window before.
    pub limited_before: u32,
    /// Samples of other sources of this entry in the window.
    pub others: u32,
    /// `others` in the window before.
    pub others_before: u32,
    /// Majority counter: the lead over other sources of this entry in these two windows.
    pub votes: u32,
}

/// A source, masked as by the limiter's per-source level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Source {
    /// First eight bytes of an IPv6 address, as a big-endian number; an IPv4 address.
    pub high: u64,
    /// Last eight bytes of an IPv6 address.
    pub low: u64,
    /// 4 or 6; 0 in a free entry.
    pub ip_version: u32,
    /// Zero.
    pub reserved: u32,
}
