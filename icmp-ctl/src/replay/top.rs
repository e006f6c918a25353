//! The largest counts, in memory that does not grow.
//!
//! Owns the counting (Misra and Gries, "Finding repeated elements", 1982): an entry of the list was counted at least as often as shown, and at
//! most [`Top::missed`] more; one that is not in the list was counted at most that often.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Entries of a list.
const ENTRIES: usize = 4096;

/// Counts by key.
#[derive(Clone, Debug)]
pub struct Top<K> {
    counts: HashMap<K, u64, RandomState>,
    missed: u64,
    /// Counted under all keys.
    pub total: u64,
}

impl<K> Default for Top<K> {
    fn default() -> Self {
        Self { counts: HashMap::default(), missed: 0, total: 0 }
    }
}

impl<K: Copy + Eq + Hash + Ord> Top<K> {
    /// Counts one.
    pub fn count(&mut self, key: K) {
        self.total += 1;
        if self.counts.len() < ENTRIES {
            *self.counts.entry(key).or_default() += 1;
        } else if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else {
            // It takes as many more to come here again, so that this costs each of them little.
            self.missed += 1;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Those that are counted most, and how often.
    pub fn most(&self, number: usize) -> Vec<(K, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(key, count)| (*key, *count)).collect();
        all.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        all.truncate(number);
        all
    }

    /// How many more each may have been.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Begins again.
    pub fn clear(&mut self) {
        self.counts.clear();
        (self.missed, self.total) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_counted_often_is_in_the_list_however_many_others_there_are() {
        let mut top = Top::default();
        for n in 0..100_000_u32 {
            top.count(n + 10);
            if n % 10 == 0 {
                top.count(7);
            }
        }
        let (key, count) = top.most(1)[0];
        assert_eq!(key, 7);
        assert!((10_000 - top.missed()..=10_000).contains(&count), "{count}, {} missed", top.missed());
        assert!(top.counts.len() <= ENTRIES);
        assert_eq!(top.total, 110_000);
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut top = Top::default();
        [3, 1, 3, 2, 2, 3].iter().for_each(|key| top.count(*key));
        assert_eq!((top.most(2), top.missed()), (vec![(3, 3), (2, 2)], 0));
        top.clear();
        assert_eq!((top.most(2), top.total), (vec![], 0));
    }
}
