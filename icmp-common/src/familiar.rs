//! Familiar sources: who was served at a normal rate over a while, remembered in one word a source.
//!
//! Owns what a word holds and how it changes: pure, word and time come in, word comes out. It does not own where words lie, or what
//! familiarity is good for (`pipeline.rs`). Words are written by plain stores: a lost race forgets one epoch of one source.
//!
//! Time is counted in epochs of about four seconds ([`crate::abi::Settings::epoch_shift`]). A source is familiar after
//! [`STREAK`] epochs in which it was served, none of them more than [`GRACE`] after the one before. A word is given to another
//! source only when its own has been silent for [`HOLD`] epochs, or for [`FORGET`] if it is familiar: a flood of sources that come
//! once cannot push a familiar one out, and none of them lasts (docs/adr/0006-limiter.md).

/// Epochs of service that make a source familiar.
pub const STREAK: u32 = 8;
/// Longest gap between two of them, about a minute, so that who pings once a minute can get there.
pub const GRACE: u32 = 16;
/// Epochs of silence after which the word of a source that is not familiar yet may be taken over.
pub const HOLD: u32 = 2;
/// Epochs of silence after which a familiar source is forgotten, about four minutes.
pub const FORGET: u32 = 64;

/// Log2 of [`PLACES`].
pub const PLACE_BITS: u32 = 12;
/// Entries of `FAMILIAR`: each the epoch in which a familiar source that belongs there was last served. It tells sources that are not
/// familiar without a look at their words, which lie anywhere in the limiter's table, and are what a flood of random sources would wait
/// for (docs/performance.md).
pub const PLACES: u32 = 1 << PLACE_BITS;

/// False where an entry of `FAMILIAR` says that nobody who belongs there is familiar.
#[inline(always)]
pub const fn may_hold(entry: u64, epoch: u32) -> bool {
    epoch.wrapping_sub(entry as u32) <= FORGET
}

/// The word of a source: its tag, the low 24 bits of the epoch it was last served in, and its streak. Layout: tag in bits 32 to
/// 63, epoch in 8 to 31, streak in 0 to 7; 0 is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

const EPOCH_MASK: u32 = 0xff_ffff;

impl Word {
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

    /// What tells a source from others, out of the low half of a hash; odd, so that no free word has it.
    #[inline(always)]
    pub const fn tag(hash: u64) -> u32 {
        hash as u32 | 1
    }

    /// True if this is the word of the source with this tag, and the source was served in this epoch already.
    #[inline(always)]
    pub const fn is_current(self, tag: u32, epoch: u32) -> bool {
        self.0 >> 8 == Self::new(tag, epoch, 0).0 >> 8
    }

    /// True if this is the word of the source with this tag.
    #[inline(always)]
    pub const fn is_of(self, tag: u32) -> bool {
        (self.0 >> 32) as u32 == tag
    }

    /// True if its source has been served long enough to be familiar.
    #[inline(always)]
    pub const fn has_streak(self) -> bool {
        self.streak() >= STREAK
    }

    /// True if the source with this tag is familiar.
    #[inline(always)]
    pub const fn is_familiar(self, tag: u32, epoch: u32) -> bool {
        self.is_of(tag) && self.has_streak() && self.silent(epoch) <= FORGET
    }

    /// The word after its source was served once more; the same word within an epoch.
    #[inline(always)]
    pub const fn served(self, epoch: u32) -> Self {
        let silent = self.silent(epoch);
        let streak = self.streak();
        if silent == 0 {
            return self;
        }
        let streak = if self.has_streak() && silent <= FORGET {
            STREAK
        } else if silent <= GRACE {
            streak + 1
        } else {
            1
        };
        Self::new((self.0 >> 32) as u32, epoch, streak)
    }

    /// The first word of another source, if this one may be given to it.
    #[inline(always)]
    pub const fn taken_over(self, tag: u32, epoch: u32) -> Option<Self> {
        let hold = if self.has_streak() { FORGET } else { HOLD };
        if self.0 == 0 || self.silent(epoch) > hold { Some(Self::new(tag, epoch, 1)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Word = Word(0);
    const TAG: u32 = 7;

    /// A word whose source was served in each of these epochs.
    fn served_in(epochs: impl IntoIterator<Item = u32>) -> Word {
        epochs.into_iter().fold(FREE, |word, epoch| {
            if word.is_of(TAG) { word.served(epoch) } else { word.taken_over(TAG, epoch).expect("free") }
        })
    }

    #[test]
    fn a_source_is_familiar_after_eight_epochs_and_not_before() {
        assert!(!served_in(1..=7).is_familiar(TAG, 7));
        assert!(served_in(1..=8).is_familiar(TAG, 8));
        assert!(!served_in(1..=8).is_familiar(TAG + 1, 8), "and nobody else");
    }

    #[test]
    fn many_packets_in_one_epoch_count_once() {
        assert!(!served_in([5; 1000]).is_familiar(TAG, 5));
    }

    #[test]
    fn once_a_minute_is_enough_and_less_is_not() {
        assert!(served_in((1..=8).map(|n| n * GRACE)).is_familiar(TAG, 8 * GRACE));
        assert!(!served_in((1..=100).map(|n| n * (GRACE + 1))).is_familiar(TAG, 100 * (GRACE + 1)));
    }

    #[test]
    fn nobody_takes_the_place_of_a_familiar_source_before_it_is_forgotten() {
        let word = served_in(1..=8);
        assert_eq!(word.taken_over(9, 8 + FORGET), None);
        assert!(word.is_familiar(TAG, 8 + FORGET));
        assert!(word.taken_over(9, 9 + FORGET).is_some());
        assert!(!word.is_familiar(TAG, 9 + FORGET));
    }

    #[test]
    fn a_source_on_its_way_keeps_its_place_while_it_is_served() {
        let word = served_in(1..=3);
        assert_eq!(word.taken_over(9, 3 + HOLD), None);
        assert!(word.taken_over(9, 4 + HOLD).is_some_and(|word| word.is_of(9) && !word.is_of(TAG)));
    }

    #[test]
    fn epochs_wrap_and_a_clock_that_jumps_back_frees_the_word() {
        let end = EPOCH_MASK - 3;
        assert!(served_in(end..end + 8).is_familiar(TAG, end + 8));
        assert!(!served_in(100..108).is_familiar(TAG, 50));
        assert!(served_in(100..108).taken_over(9, 50).is_some());
    }
}
