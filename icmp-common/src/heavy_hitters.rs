//! Heavy hitters: the sources that send most echo requests, found in fixed memory.
//!
//! Owns the sampling, and how an entry changes with a sampled request: a majority vote, in which a source that sends more than all other
//! sources of its entry together keeps the entry. It does not own where entries lie. Counts are of samples, one request in [`SAMPLE`]; an entry
//! covers the current window and the one before, so `show sources` shows the present.

use crate::abi::{HeavyHitter, Sampling, Source};

/// Requests that one sample stands for.
pub const SAMPLE: u32 = 1 << SAMPLE_SHIFT;
const SAMPLE_SHIFT: u32 = 5;
/// Log2 of the windows in an epoch. A window is about a second: short, so that what is shown is what happens now, and long enough for the
/// samples of a source that matters.
const WINDOWS_SHIFT: u32 = 2;

/// Log2 of the ticks in a window, from that of the ticks in an epoch.
#[inline(always)]
pub const fn window_shift(epoch_shift: u32) -> u32 {
    epoch_shift.wrapping_sub(WINDOWS_SHIFT) & 63
}

/// Picks the next sample; how many requests are not sampled before it is.
///
/// Of each [`SAMPLE`] requests one after the other, one is a sample, at random, so that no regular traffic can slip through. So the samples of
/// any stretch of requests differ by one at most from its part, and the rate of whoever sends all of them is exact to that.
#[inline(always)]
pub const fn until_next(sampling: &mut Sampling) -> u32 {
    // The multiplier is Knuth's for a 64-bit congruential generator, whose high bits are good (TAOCP 3.3.4, line 26).
    sampling.state = sampling.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let behind = SAMPLE - 1 - (sampling.position & (SAMPLE - 1));
    sampling.position = (sampling.state >> (64 - SAMPLE_SHIFT)) as u32;
    behind + sampling.position
}

impl HeavyHitter {
    #[inline(always)]
    const fn is_of(&self, source: &Source) -> bool {
        self.source.ip_version == source.ip_version
            && self.source.high == source.high
            && self.source.low == source.low
    }

    /// Notes that a sampled request, which was noted, was over a limit.
    #[inline(always)]
    pub const fn note_limited(&mut self, source: &Source) {
        if self.is_of(source) {
            self.limited = self.limited.wrapping_add(1);
        }
    }

    /// Notes a sampled request.
    #[inline(always)]
    pub fn note(&mut self, source: &Source, window: u32) {
        // The compiler is not to see a row of zeroes, which it would call a function to write.
        let zero = core::hint::black_box(0);
        if self.window != window {
            let next = self.window.wrapping_add(1) == window;
            self.seen_before = if next { self.seen } else { zero };
            self.limited_before = if next { self.limited } else { zero };
            self.others_before = if next { self.others } else { zero };
            // A lead of long ago does not keep an entry from whoever sends now.
            self.votes = if !next {
                zero
            } else if self.votes < self.seen {
                self.votes
            } else {
                self.seen
            };
            self.window = window;
            self.seen = zero;
            self.limited = zero;
            self.others = zero;
        }
        if !self.is_of(source) {
            if self.votes > 0 {
                self.votes -= 1;
                self.others = self.others.wrapping_add(1);
                return;
            }
            self.source = *source;
            self.others = self.others.wrapping_add(self.seen);
            self.others_before = self.others_before.wrapping_add(self.seen_before);
            self.seen = zero;
            self.seen_before = zero;
            self.limited = zero;
            self.limited_before = zero;
        }
        self.votes = self.votes.saturating_add(1);
        self.seen = self.seen.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn source(low: u64) -> Source {
        Source { high: 0, low, ip_version: 6, reserved: 0 }
    }

    #[test]
    fn of_each_thirty_two_requests_one_is_a_sample_at_any_position() {
        let mut sampling = Sampling { position: SAMPLE - 1, ..Sampling::default() };
        let (mut request, mut positions) = (0_u64, [0_u32; SAMPLE as usize]);
        for block in 0..100_000 {
            request += u64::from(until_next(&mut sampling));
            assert_eq!(request / u64::from(SAMPLE), block);
            positions[(request % u64::from(SAMPLE)) as usize] += 1;
            request += 1;
        }
        assert!(positions.iter().all(|times| (2_800..3_450).contains(times)), "{positions:?}");
    }

    #[test]
    fn who_sends_more_than_all_others_together_stays() {
        let mut heavy_hitter = HeavyHitter::default();
        for n in 0..1000 {
            heavy_hitter.note(&source(1), 0);
            if n % 4 == 0 {
                heavy_hitter.note_limited(&source(1));
            }
            heavy_hitter.note(&source(100 + n), 0);
            heavy_hitter.note_limited(&source(100 + n));
            heavy_hitter.note(&source(1), 0);
        }
        assert_eq!((heavy_hitter.source, heavy_hitter.seen, heavy_hitter.limited), (source(1), 2000, 250));
    }

    #[test]
    fn a_source_that_is_gone_leaves_its_entry_to_whoever_sends_now() {
        let mut heavy_hitter = HeavyHitter::default();
        for _ in 0..100_000 {
            heavy_hitter.note(&source(1), 7);
        }
        for _ in 0..10 {
            heavy_hitter.note(&source(2), 9);
        }
        assert_eq!((heavy_hitter.source, heavy_hitter.seen, heavy_hitter.seen_before), (source(2), 10, 0));
    }

    #[test]
    fn every_sample_is_the_sources_or_anothers() {
        let mut heavy_hitter = HeavyHitter::default();
        for n in 0..1000 {
            heavy_hitter.note(&source(n * n % 5), 1 + (n / 600) as u32);
        }
        let both =
            heavy_hitter.seen + heavy_hitter.seen_before + heavy_hitter.others + heavy_hitter.others_before;
        assert_eq!(both, 1000);
    }

    #[test]
    fn the_counts_are_of_two_windows_and_of_no_other() {
        let mut heavy_hitter = HeavyHitter::default();
        heavy_hitter.note(&source(1), 5);
        heavy_hitter.note_limited(&source(1));
        heavy_hitter.note(&source(1), 6);
        assert_eq!(
            (heavy_hitter.seen, heavy_hitter.seen_before, heavy_hitter.limited, heavy_hitter.limited_before),
            (1, 1, 0, 1)
        );
        heavy_hitter.note(&source(1), 8);
        assert_eq!((heavy_hitter.seen, heavy_hitter.seen_before, heavy_hitter.limited_before), (1, 0, 0));
    }
}
