//! Top talkers: the sources that send most echo requests, found in fixed memory.
//!
//! Owns the sampling and what becomes of an entry when a sampled request meets it: a majority vote, in which a source that sends
//! more than all others of its entry together stays. It does not own where entries lie. Counts are of samples, one in
//! [`SAMPLE`]; a source's windows are the present one and the one before, so that what is shown is what happens now.

/// Requests that one sample stands for.
pub const SAMPLE: u32 = 1 << SAMPLE_SHIFT;
const SAMPLE_SHIFT: u32 = 5;
/// Log2 of [`TALKERS`].
pub const TALKER_BITS: u32 = 12;
/// Entries of `TALKERS`, per CPU.
pub const TALKERS: u32 = 1 << TALKER_BITS;
/// Log2 of the epochs in a window, which is a little more than a minute.
pub const WINDOW_SHIFT: u32 = 4;

/// A source and what it has sent: an entry of `TALKERS` (per CPU). Layout: 48 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Talker {
    /// Who it is.
    pub source: Source,
    /// Number of the window that `seen` and `limited` are of.
    pub window: u32,
    /// Samples in that window.
    pub seen: u32,
    /// Those of them that were over a limit.
    pub limited: u32,
    /// `seen` of the window before.
    pub seen_before: u32,
    /// `limited` of the window before.
    pub limited_before: u32,
    /// Lead over all other sources of this entry.
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

const _: () = assert!(size_of::<Talker>() == 48);

/// Steps a CPU's random numbers; how many requests are not sampled before the next one is: [`SAMPLE`] - 1 on average, at random, so
/// that no regular traffic can slip through.
#[inline(always)]
pub const fn until_next(state: &mut u64) -> u32 {
    // The multiplier is Knuth's for a 64-bit congruential generator, whose high bits are good (TAOCP 3.3.4, line 26).
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    // From 0 to 2 * SAMPLE - 2.
    ((*state >> 32) * (2 * SAMPLE as u64 - 1) >> 32) as u32
}

impl Talker {
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

    /// Notes a request that is as many samples as given.
    #[inline(always)]
    pub fn note(&mut self, source: &Source, window: u32, samples: u32) {
        if !self.is_of(source) {
            if self.votes > 0 {
                self.votes = self.votes.saturating_sub(samples);
                return;
            }
            self.source = *source;
            // A window of long ago, so that nothing of the other source counts. The compiler is not to see that: it would call a
            // function to write the zeroes.
            self.window = core::hint::black_box(window.wrapping_sub(2));
        }
        if self.window != window {
            let next = self.window.wrapping_add(1) == window;
            self.seen_before = if next { self.seen } else { 0 };
            self.limited_before = if next { self.limited } else { 0 };
            self.window = window;
            self.seen = 0;
            self.limited = 0;
        }
        self.votes = self.votes.saturating_add(samples);
        self.seen = self.seen.wrapping_add(samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn source(low: u64) -> Source {
        Source { high: 0, low, ip_version: 6, reserved: 0 }
    }

    #[test]
    fn one_request_in_thirty_two_is_sampled() {
        let mut state = 1;
        let skipped: u64 = (0..100_000).map(|_| u64::from(until_next(&mut state))).sum();
        assert!((3_050_000..3_150_000).contains(&skipped), "{skipped}");
    }

    #[test]
    fn who_sends_more_than_all_others_together_stays() {
        let mut talker = Talker::default();
        for n in 0..1000 {
            talker.note(&source(1), 0, 1);
            if n % 4 == 0 {
                talker.note_limited(&source(1));
            }
            talker.note(&source(100 + n), 0, 1);
            talker.note_limited(&source(100 + n));
            talker.note(&source(1), 0, 1);
        }
        assert_eq!((talker.source, talker.seen, talker.limited), (source(1), 2000, 250));
    }

    #[test]
    fn several_samples_at_once_count_as_many() {
        let mut talker = Talker::default();
        for _ in 0..10 {
            talker.note(&source(1), 0, 4);
            talker.note(&source(2), 0, 1);
        }
        assert_eq!((talker.source, talker.seen, talker.votes), (source(1), 40, 30));
    }

    #[test]
    fn the_counts_are_of_two_windows_and_of_no_other() {
        let mut talker = Talker::default();
        talker.note(&source(1), 5, 1);
        talker.note_limited(&source(1));
        talker.note(&source(1), 6, 1);
        assert_eq!((talker.seen, talker.seen_before, talker.limited, talker.limited_before), (1, 1, 0, 1));
        talker.note(&source(1), 8, 1);
        assert_eq!((talker.seen, talker.seen_before, talker.limited_before), (1, 0, 0));
    }
}
