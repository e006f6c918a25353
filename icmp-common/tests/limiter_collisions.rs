//! How often a source is refused below its limit because other sources share its buckets.
//!
//! Owns the comparison of two tables of the same size: two rows, and lines of eight buckets, of which each source has two, as in the limiter.
//! `limiter_model.rs` shows that neither admits too much.

use icmp_common::abi::Limit;
use std::cell::Cell;

use icmp_common::abi::LINE_WORDS;
use icmp_common::limiter::{Admission, Pair, PairIndex, Shared, UNITS_PER_TICK, hash4};

/// Buckets of each table: an eighth of what an instance has by default, and so are the sources.
const BUCKETS: usize = 1 << 13;
/// Ticks of a second.
const HZ: u64 = 1000;
/// A hundred packets a second, and 200 at once.
const LIMIT: Limit = Limit { interval: HZ / 100 * UNITS_PER_TICK, capacity: 200 * HZ / 100 * UNITS_PER_TICK };
const SECONDS: u64 = 5;

struct Word<'a>(&'a Cell<u64>);

impl Shared for Word<'_> {
    fn load(&self) -> u64 {
        self.0.get()
    }

    fn swap(&self, old: u64, new: u64) -> bool {
        let swapped = self.0.get() == old;
        if swapped {
            self.0.set(new);
        }
        swapped
    }

    fn store(&self, value: u64) {
        self.0.set(value);
    }
}

/// Where a source's two buckets are.
type Places = fn((u64, u64)) -> (usize, usize);

/// One in each half.
fn in_two_rows((one, other): (u64, u64)) -> (usize, usize) {
    let row = |hash: u64| (hash >> (64 - (BUCKETS / 2).ilog2())) as usize;
    (row(one), BUCKETS / 2 + row(other))
}

/// Two different ones of one line, as the limiter has them.
fn in_one_line((one, _): (u64, u64)) -> (usize, usize) {
    let PairIndex { line, words: [first, second] } = PairIndex::new(one, 64 - (BUCKETS / LINE_WORDS).ilog2());
    (line as usize * LINE_WORDS + first, line as usize * LINE_WORDS + second)
}

fn admits(buckets: &[Cell<u64>], (first, second): (usize, usize), now: u64) -> bool {
    let pair = Pair::read([Word(&buckets[first]), Word(&buckets[second])]);
    matches!(pair.charge(&LIMIT, now), Admission::Admitted { .. })
}

/// Percentages of the packets that were due and refused: of sources that send three times what they may, and of as many that send a
/// twentieth.
fn refused_although_due(seed: u64, sources: usize, places: Places) -> [f64; 2] {
    let mut random = seed;
    // SplitMix64.
    let mut next = || {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let secrets = [[next(), next()], [next(), next()]];
    let shared = vec![Cell::new(0); BUCKETS];
    // Two for each source: what it is due is what it gets where it shares with nobody.
    let alone = vec![Cell::new(0); 4 * sources];
    let places: Vec<_> = (0..2 * sources)
        .map(|_| {
            let address = next() as u32;
            places((hash4(secrets[0], address), hash4(secrets[1], address)))
        })
        .collect();
    let (mut due, mut got) = ([0_u32; 2], [0_u32; 2]);
    for tick in 0..SECONDS * HZ {
        let now = (1 << 32 | tick) * UNITS_PER_TICK;
        for (source, places) in places.iter().enumerate() {
            let heavy = source % 2 == 0;
            let sends = next() % (HZ * 20) < if heavy { 300 * 20 } else { 5 * 20 };
            if sends && admits(&alone, (2 * source, 2 * source + 1), now) {
                due[source % 2] += 1;
                got[source % 2] += u32::from(admits(&shared, *places, now));
            }
        }
    }
    [0, 1].map(|of| f64::from(due[of] - got[of]) / f64::from(due[of]) * 100.0)
}

/// The same over several seeds.
fn mean(sources: usize, places: Places) -> [f64; 2] {
    let of_seed = |seed| {
        let refused = refused_although_due(seed, sources, places);
        println!("seed {seed}, {sources} sources: {refused:.3?} %");
        refused
    };
    (1..=4).map(of_seed).fold([0.0; 2], |[heavy, light], of| [heavy + of[0] / 4.0, light + of[1] / 4.0])
}

#[test]
fn two_rows_refuse_little_of_what_is_due_and_two_buckets_of_a_line_several_times_as_much() {
    for (sources, by_rows, by_lines) in [(125, 0.05, 0.5), (500, 0.5, 1.5), (1000, 1.5, 5.0)] {
        let rows = mean(sources, in_two_rows);
        let line = mean(sources, in_one_line);
        println!(
            "{sources} at three times their limit, and as many light ones: {rows:.3?} % by rows, {line:.3?} % by lines"
        );
        assert!(rows[0] <= by_rows && line[0] <= by_lines, "{rows:?} % by rows, {line:?} % by lines");
        assert!(rows[1] <= 2.5 && line[1] <= 4.0, "light ones: {rows:?} % by rows, {line:?} % by lines");
    }
}
