//! What belongs to one CPU alone.

use crate::abi::NEXT;
use crate::abi::settings::BUDGETS;

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
    /// Which of [`crate::heavy_hitters::SAMPLE`] requests one after the other the last sample is.
    pub position: u32,
}

/// When a CPU last found the reply budget exhausted. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exhausted {
    /// Tick.
    pub at: u64,
    /// Epoch of that tick ([`crate::known_sources`]).
    pub epoch: u64,
}
/// Log2 of [`HEAVY_HITTERS`].
pub const HEAVY_HITTER_BITS: u32 = 12 - NEXT;
/// Entries of `HEAVY_HITTERS`, per CPU.
pub const HEAVY_HITTERS: u32 = 1 << HEAVY_HITTER_BITS;

/// A source and what it has sent: an entry of `HEAVY_HITTERS` (per CPU). Layout: 56 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HeavyHitter {
    /// Who it is.
    pub source: Source,
    /// Number of the window that `seen`, `limited` and `others` are of.
    pub window: u32,
    /// Samples in that window.
    pub seen: u32,
    /// Those of them that were over a limit.
    pub limited: u32,
    /// `seen` of the window before.
    pub seen_before: u32,
    /// `limited` of the window before.
    pub limited_before: u32,
    /// Samples of all other sources of this entry.
    pub others: u32,
    /// `others` of the window before.
    pub others_before: u32,
    /// Lead over all other sources of this entry in these two windows.
    pub votes: u32,
}

/// A source as its level of the limiter sees it: masked. Layout: 24 bytes.
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
