//! When the host is read: at once after a change, but for no more than a fifth of the time in the long run.

use std::time::{Duration, Instant};

/// Least and longest time between two looks at the host.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// Times of what looks took that pass without one.
const IDLE_TIMES: u32 = 4;
/// How much of that may be owed: a few changes one after the other are each followed at once.
const OWED: Duration = Duration::from_millis(200);

/// Time without a look that is still owed.
pub(super) struct Rest {
    owed: Duration,
    since: Instant,
}

impl Rest {
    /// None is owed at first.
    pub(super) const fn since(now: Instant) -> Self {
        Self { owed: Duration::ZERO, since: now }
    }

    /// How long the host is not looked at after a look.
    pub(super) fn after(&mut self, began: Instant, ended: Instant) -> Duration {
        let rested = began.saturating_duration_since(self.since);
        self.owed = self.owed.saturating_sub(rested) + (ended - began) * IDLE_TIMES;
        self.since = ended;
        self.owed.saturating_sub(OWED).clamp(PAUSES.0, PAUSES.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_looked_at_at_once_but_not_for_more_than_a_fifth_of_the_time() {
        let millis = Duration::from_millis;
        for (look, first) in [(millis(5), PAUSES.0), (millis(100), millis(200)), (millis(5_000), PAUSES.1)] {
            let start = Instant::now();
            let mut rest = Rest::since(start);
            let mut pause = rest.after(start, start + look);
            assert_eq!(pause, first, "{look:?}");
            // A storm: there is a change whenever it can be looked at.
            let (mut now, mut busy) = (start + look, look);
            while now < start + millis(60_000) {
                let began = now + pause;
                now = began + look;
                busy += look;
                pause = rest.after(began, now);
            }
            let share = busy.as_secs_f64() / (now - start).as_secs_f64();
            assert!(look > millis(1_000) || share < 0.22, "{look:?}: {share}");
        }
    }
}
