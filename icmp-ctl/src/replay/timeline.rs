//! Verdicts over time, in memory that does not grow.
//!
//! Owns the bins, which become twice as long whenever the capture outgrows them, and the busiest second of each verdict, which is exact.

use icmp_common::reason::Verdict;

/// Bins at most; a power of two.
const BINS: usize = 512;

/// Frames by verdict, in the order of [`Verdict::ALL`].
pub type Counts = [u64; Verdict::ALL.len()];

/// Most frames in a second, and which second that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Frames.
    pub frames: u64,
    /// Seconds since the capture began; the first of several that are equal.
    pub second: u64,
}

/// Frames by verdict over the time of a capture.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Seconds of a bin.
    pub seconds: u64,
    /// From the beginning on.
    pub bins: Vec<Counts>,
    second: u64,
    current: Counts,
    peaks: [Peak; Verdict::ALL.len()],
    received: Peak,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            seconds: 1,
            bins: Vec::new(),
            second: 0,
            current: Counts::default(),
            peaks: Default::default(),
            received: Peak::default(),
        }
    }
}

impl Timeline {
    /// Counts a frame in a second, none of which comes before that of the frame before.
    pub fn count(&mut self, second: u64, verdict: Verdict) {
        if second != self.second {
            self.close();
            self.second = second;
        }
        self.current[position(verdict)] += 1;
    }

    /// Ends the current second.
    pub fn close(&mut self) {
        let (second, current) = (self.second, std::mem::take(&mut self.current));
        let better = |peak: &mut Peak, frames: u64| {
            if frames > peak.frames {
                *peak = Peak { frames, second };
            }
        };
        for (peak, frames) in self.peaks.iter_mut().zip(current) {
            better(peak, frames);
        }
        better(&mut self.received, current.iter().sum());
        while second / self.seconds >= BINS as u64 {
            self.bins = self.bins.chunks(2).map(|pair| pair.iter().fold(Counts::default(), plus)).collect();
            self.seconds *= 2;
        }
        let bin = (second / self.seconds) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, Counts::default());
        }
        self.bins[bin] = plus(self.bins[bin], &current);
    }

    /// Seconds from the beginning to the end of the last one in which there was a frame.
    pub fn end(&self) -> u64 {
        self.second + 1
    }

    /// The busiest second of a verdict.
    pub fn peak(&self, verdict: Verdict) -> Peak {
        self.peaks[position(verdict)]
    }

    /// The busiest second of all.
    pub fn received(&self) -> Peak {
        self.received
    }
}

fn plus(sum: Counts, more: &Counts) -> Counts {
    std::array::from_fn(|i| sum[i] + more[i])
}

fn position(verdict: Verdict) -> usize {
    Verdict::ALL.iter().position(|other| *other == verdict).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_grow_and_lose_nothing_and_the_busiest_second_stays_exact() {
        let mut timeline = Timeline::default();
        for second in 0..10_000 {
            timeline.count(second, Verdict::Pass);
            if second == 7_777 {
                (0..9).for_each(|_| timeline.count(second, Verdict::Answer));
            }
        }
        timeline.close();
        assert_eq!(timeline.bins.iter().flatten().sum::<u64>(), 10_009);
        assert_eq!((timeline.seconds, timeline.bins.len()), (32, 313));
        assert_eq!(timeline.peak(Verdict::Answer), Peak { frames: 9, second: 7_777 });
        assert_eq!(timeline.received(), Peak { frames: 10, second: 7_777 });
        assert_eq!(timeline.peak(Verdict::Drop), Peak::default());
    }
}
