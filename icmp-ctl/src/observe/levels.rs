//! How full the budgets are, and how many buckets of sources and prefixes are in use.
//!
//! Owns the level that a bucket's word means at a moment. `icmp_common::limiter` owns buckets.

use anyhow::Result;
use icmp_common::abi::{Limit, Settings};
use icmp_common::budget::budget_bucket;
use icmp_common::limiter;

use crate::instance::maps::InstanceMaps;
use crate::policy::limits::LimitName;

/// The parts of budgets that are left, from 0 to 1, by the names they have in `[limits]`; `None` where there is no limit.
///
/// # Errors
/// The map cannot be read.
pub fn levels(maps: &InstanceMaps, settings: &Settings, ticks: u64) -> Result<Vec<(LimitName, Option<f64>)>> {
    let buckets = maps.limit_buckets()?;
    let level = |name: LimitName| match name {
        LimitName::Budget(budget) => {
            let bucket = buckets[budget_bucket(budget as usize) as usize];
            Some((name, left(bucket, &name.of(settings), limiter::now(ticks))))
        }
        LimitName::Source | LimitName::Prefix => None,
    };
    Ok(LimitName::settable().filter_map(level).collect())
}

/// The parts of the buckets that are in use, which are not full again, of sources and of prefixes; `None` where there is no limit.
///
/// # Errors
/// A map cannot be read.
pub fn used(
    maps: &InstanceMaps,
    settings: &Settings,
    ticks: u64,
) -> Result<[(&'static str, Option<f64>); 2]> {
    let [sources, prefixes] = maps.some_buckets()?;
    let of = |buckets: &[u64], limit: &Limit| part_used(buckets, limit, limiter::now(ticks));
    Ok([
        ("sources", of(&sources, &settings.source.limit)),
        ("prefixes", of(&prefixes, &settings.prefix.limit)),
    ])
}

fn part_used(buckets: &[u64], limit: &Limit, now: u64) -> Option<f64> {
    // Where nothing is admitted nothing is charged either.
    if limit.is_unlimited() || limit.capacity < limit.interval {
        return None;
    }
    let used = buckets.iter().filter(|bucket| left(**bucket, limit, now).is_some_and(|left| left < 1.0));
    Some(used.count() as f64 / buckets.len() as f64)
}

/// The part of a bucket that is left.
fn left(bucket: u64, limit: &Limit, now: u64) -> Option<f64> {
    if limit.is_unlimited() {
        return None;
    }
    if limit.capacity < limit.interval {
        return Some(0.0);
    }
    Some(filled(bucket, limit, now) as f64 / limit.capacity as f64)
}

/// The packets that are left in a bucket; `None` where there is no limit.
pub fn packets_left(bucket: u64, limit: &Limit, now: u64) -> Option<u64> {
    filled(bucket, limit, now).checked_div(limit.interval)
}

/// What a bucket holds, in units of time: its word is when it was, or will have been, empty.
fn filled(bucket: u64, limit: &Limit, now: u64) -> u64 {
    (now.wrapping_sub(bucket) as i64).clamp(0, limit.capacity as i64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_full_when_it_was_never_touched_and_empty_at_its_word() {
        let limit = Limit { interval: 10, capacity: 100 };
        for (bucket, part) in [(0, 1.0), (999_900, 1.0), (999_950, 0.5), (1_000_000, 0.0), (1_000_010, 0.0)] {
            assert_eq!(left(bucket, &limit, 1_000_000), Some(part), "{bucket}");
        }
        for (bucket, packets) in [(0, 10), (999_949, 5), (999_951, 4), (1_000_000, 0), (1_000_010, 0)] {
            assert_eq!(packets_left(bucket, &limit, 1_000_000), Some(packets), "{bucket}");
        }
        assert_eq!(packets_left(0, &Limit::UNLIMITED, 7), None);
        assert_eq!(part_used(&[0, 999_900, 999_950, 1_000_010], &limit, 1_000_000), Some(0.5));
        assert_eq!(part_used(&[0], &Limit::UNLIMITED, 7), None);
        assert_eq!(left(0, &Limit::UNLIMITED, 7), None);
        assert_eq!(left(0, &Limit::NOTHING, 7), Some(0.0));
    }
}
