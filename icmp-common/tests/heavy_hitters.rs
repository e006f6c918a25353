//! The heavy hitters are found: recall on Zipf traffic.

use icmp_common::abi::{HEAVY_HITTER_BITS, HEAVY_HITTERS, HeavyHitter, Sampling, Source};
use icmp_common::heavy_hitters::until_next;
use icmp_common::limiter::hash4;

const SOURCES: usize = 100_000;
const PACKETS: usize = 8_000_000;
const TOP: usize = 20;

#[test]
fn the_top_twenty_of_zipf_traffic_are_found() {
    for seed in 1..=3_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let secret = [next(), next()];
        // Zipf with exponent 1: the source of rank r sends one packet in r of what the first does.
        let mut sums = Vec::with_capacity(SOURCES);
        let mut sum = 0.0;
        for rank in 1..=SOURCES {
            sum += 1.0 / rank as f64;
            sums.push(sum);
        }
        let mut heavy_hitters = vec![HeavyHitter::default(); HEAVY_HITTERS as usize];
        let (mut sampling, mut left, mut sent) = (Sampling::default(), 0, vec![0_u32; SOURCES]);
        for _ in 0..PACKETS {
            let at = (next() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
            let rank = sums.partition_point(|sum| *sum < at).min(SOURCES - 1);
            sent[rank] += 1;
            if left > 0 {
                left -= 1;
            } else {
                left = until_next(&mut sampling);
                let source = Source { high: rank as u64, low: 0, ip_version: 4, reserved: 0 };
                let index = (hash4(secret, rank as u32) >> (64 - HEAVY_HITTER_BITS)) as usize;
                heavy_hitters[index].note(&source, 0);
            }
        }
        heavy_hitters.sort_by_key(|heavy_hitter| std::cmp::Reverse(heavy_hitter.seen));
        let found: Vec<_> =
            heavy_hitters.iter().take(TOP).map(|heavy_hitter| heavy_hitter.source.high as usize).collect();
        let mut ranks: Vec<usize> = (0..SOURCES).collect();
        ranks.sort_by_key(|rank| std::cmp::Reverse(sent[*rank]));
        let hits = ranks.iter().take(TOP).filter(|rank| found.contains(rank)).count();
        assert!(hits * 100 >= TOP * 95, "seed {seed}: {hits} of {TOP} found: {found:?}");
    }
}
