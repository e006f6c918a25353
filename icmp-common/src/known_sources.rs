//! Known sources: sources that were served at a normal rate over a while, each remembered in one reputation entry.
//!
//! Owns the content of an entry and how it changes; entry and time are arguments, the new entry is the result. It does not own where entries
//! lie, or what a reputation is used for (`path/limit.rs`). Entries are written by plain stores: a lost race loses one epoch of one source.
//!
//! Time is counted in epochs of about four seconds ([`crate::abi::Settings::epoch_shift`]). A source is known after [`STREAK`] epochs in which
//! it was served, none of them more than [`LONGEST_GAP`] after the one before. An entry is given to another source only when its own has been
//! silent for [`UNKNOWN_TIMEOUT`] epochs, or for [`KNOWN_TIMEOUT`] if it is known. So a flood of sources that send one packet each cannot
//! displace a known source, and none of them becomes known (docs/adr/0006-limiter.md).

/// Epochs of service that make a source known.
pub const STREAK: u32 = 8;
/// Longest gap between two of them, about a minute, so that who pings once a minute can get there.
pub const LONGEST_GAP: u32 = 16;
/// Epochs of silence after which the entry of a source that is not known yet may be taken over.
pub const UNKNOWN_TIMEOUT: u32 = 2;
/// Epochs of silence after which a known source is forgotten, about four minutes.
pub const KNOWN_TIMEOUT: u32 = 64;

/// Log2 of [`LAST_SERVED_ENTRIES`].
pub const LAST_SERVED_BITS: u32 = 12;
/// Entries of `LAST_SERVED`: each the epoch in which a known source that belongs there was last served. It tells sources that are not
/// known without a look at their entries, which lie anywhere in the limiter's table, and are what a flood of random sources would wait
/// for (docs/performance.md).
pub const LAST_SERVED_ENTRIES: u32 = 1 << LAST_SERVED_BITS;

/// False where an entry of `LAST_SERVED` says that nobody who belongs there is known.
#[inline(always)]
pub const fn may_hold(entry: u64, epoch: u32) -> bool {
    epoch.wrapping_sub(entry as u32) <= KNOWN_TIMEOUT
}

/// The reputation entry of a source: its tag, the low 24 bits of the epoch it was last served in, and its streak. Layout: tag in bits 32 to
/// 63, epoch in 8 to 31, streak in 0 to 7; 0 is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reputation(pub u64);

const EPOCH_MASK: u32 = 0xff_ffff;

impl Reputation {
    #[inline(always)]
    const fn new(tag: u32, epoch: u32, streak: u32) -> Self {
        Self((tag as u64) << 32 | ((epoch & EPOCH_MASK) as u64) << 8 | streak as u64)
    }

    #[inline(always)]
    const fn streak(self) -> u32 {
        self.0 as u32 & 0xff
    }

    /// Epochs since the source was last served; an epoch that is ahead counts as very long ago.
    #[inline(always)]
    const fn silent(self, epoch: u32) -> u32 {
        epoch.wrapping_sub(self.0 as u32 >> 8) & EPOCH_MASK
    }

    /// What tells a source from others, out of the low half of a hash; odd, so that no free entry has it.
    #[inline(always)]
    pub const fn tag(hash: u64) -> u32 {
        hash as u32 | 1
    }

    /// True if this is the entry of the source with this tag.
    #[inline(always)]
    pub const fn is_of(self, tag: u32) -> bool {
        (self.0 >> 32) as u32 == tag
    }

    /// True if its source has been served long enough to be known.
    #[inline(always)]
    pub const fn has_streak(self) -> bool {
        self.streak() >= STREAK
    }

    /// True if the source with this tag is known.
    #[inline(always)]
    pub const fn is_known(self, tag: u32, epoch: u32) -> bool {
        self.is_of(tag) && self.has_streak() && self.silent(epoch) <= KNOWN_TIMEOUT
    }

    /// The entry after its source was served once more; the same entry within an epoch.
    #[inline(always)]
    pub const fn served(self, epoch: u32) -> Self {
        let silent = self.silent(epoch);
        let streak = self.streak();
        if silent == 0 {
            return self;
        }
        let streak = if self.has_streak() && silent <= KNOWN_TIMEOUT {
            STREAK
        } else if silent <= LONGEST_GAP {
            streak + 1
        } else {
            1
        };
        Self::new((self.0 >> 32) as u32, epoch, streak)
    }

    /// The first entry of another source, if this one may be given to it.
    #[inline(always)]
    pub const fn taken_over(self, tag: u32, epoch: u32) -> Option<Self> {
        let hold = if self.has_streak() { KNOWN_TIMEOUT } else { UNKNOWN_TIMEOUT };
        if self.0 == 0 || self.silent(epoch) > hold { Some(Self::new(tag, epoch, 1)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Reputation = Reputation(0);
    const TAG: u32 = 7;

    /// An entry whose source was served in each of these epochs.
    fn served_in(epochs: impl IntoIterator<Item = u32>) -> Reputation {
        epochs.into_iter().fold(FREE, |entry, epoch| {
            if entry.is_of(TAG) { entry.served(epoch) } else { entry.taken_over(TAG, epoch).expect("free") }
        })
    }

    #[test]
    fn a_source_is_known_after_eight_epochs_and_not_before() {
        assert!(!served_in(1..=7).is_known(TAG, 7));
        assert!(served_in(1..=8).is_known(TAG, 8));
        assert!(!served_in(1..=8).is_known(TAG + 1, 8), "and nobody else");
    }

    #[test]
    fn many_packets_in_one_epoch_count_once() {
        assert!(!served_in([5; 1000]).is_known(TAG, 5));
    }

    #[test]
    fn once_a_minute_is_enough_and_less_is_not() {
        assert!(served_in((1..=8).map(|n| n * LONGEST_GAP)).is_known(TAG, 8 * LONGEST_GAP));
        assert!(!served_in((1..=100).map(|n| n * (LONGEST_GAP + 1))).is_known(TAG, 100 * (LONGEST_GAP + 1)));
    }

    #[test]
    fn nobody_takes_the_place_of_a_known_source_before_it_is_forgotten() {
        let entry = served_in(1..=8);
        assert_eq!(entry.taken_over(9, 8 + KNOWN_TIMEOUT), None);
        assert!(entry.is_known(TAG, 8 + KNOWN_TIMEOUT));
        assert!(entry.taken_over(9, 9 + KNOWN_TIMEOUT).is_some());
        assert!(!entry.is_known(TAG, 9 + KNOWN_TIMEOUT));
    }

    #[test]
    fn a_source_on_its_way_keeps_its_place_while_it_is_served() {
        let entry = served_in(1..=3);
        assert_eq!(entry.taken_over(9, 3 + UNKNOWN_TIMEOUT), None);
        assert!(
            entry.taken_over(9, 4 + UNKNOWN_TIMEOUT).is_some_and(|entry| entry.is_of(9) && !entry.is_of(TAG))
        );
    }

    #[test]
    fn epochs_wrap_and_a_clock_that_jumps_back_frees_the_entry() {
        let end = EPOCH_MASK - 3;
        assert!(served_in(end..end + 8).is_known(TAG, end + 8));
        assert!(!served_in(100..108).is_known(TAG, 50));
        assert!(served_in(100..108).taken_over(9, 50).is_some());
    }
}
