//! The differences that a second policy would make.
//!
//! Owns which differences are kept: the first few as frames, all as numbers.

use std::collections::BTreeMap;

use icmp_common::reason::Reason;

/// How many are kept as they are.
pub const FIRST: usize = 20;

/// A frame that ends otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its position in the capture, from 1.
    pub number: u64,
    /// Nanoseconds since the capture began.
    pub time: u64,
    /// What it is.
    pub frame: String,
    /// How it ends under the first policy, and under the second.
    pub reasons: [Reason; 2],
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The first [`FIRST`].
    pub first: Vec<Difference>,
    totals: BTreeMap<[u8; 2], u64>,
}

impl Differences {
    /// Notes how a frame ends; `describe` is asked only for those that are kept.
    pub(super) fn note(&mut self, reasons: [Reason; 2], describe: impl FnOnce() -> (u64, u64, String)) {
        let [first, second] = reasons;
        if first == second {
            return;
        }
        *self.totals.entry([first as u8, second as u8]).or_default() += 1;
        if self.first.len() < FIRST {
            let (number, time, frame) = describe();
            self.first.push(Difference { number, time, frame, reasons });
        }
    }

    /// How many frames end in which other reason, the most frequent first.
    pub fn totals(&self) -> Vec<([Reason; 2], u64)> {
        let mut totals: Vec<_> =
            self.totals.iter().map(|(reasons, frames)| (reasons.map(Reason::from_number), *frames)).collect();
        totals.sort_by_key(|(_, frames)| std::cmp::Reverse(*frames));
        totals
    }
}
