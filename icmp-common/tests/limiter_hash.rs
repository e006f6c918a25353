//! How often two sources share places in the limiter's tables, over many secrets.
//!
//! Owns the pairs of sources that a weaker hash would lead to one place whatever the secret. Which secret is for which table is
//! `path/limit.rs`'s.

use icmp_common::limiter::{hash4, hash6};
use icmp_common::wire::ipv6::Halves;

/// Bits compared, of those that may be used.
const BITS: u32 = 9;
const SECRETS: u32 = 1 << 15;
/// Meetings due: one secret in 2^9 for each pair. The bounds are more than five standard deviations away.
const DUE: u32 = SECRETS >> BITS;
const MOST: u32 = 2 * DUE;

/// SplitMix64, always the same sequence: this is about the hash, not about luck.
fn secrets() -> impl Iterator<Item = [u64; 6]> {
    let mut state = 0_u64;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    (0..SECRETS).map(move |_| std::array::from_fn(|_| next()))
}

fn meetings(meet: impl Fn([u64; 6]) -> bool) -> u32 {
    secrets().filter(|secret| meet(*secret)).count() as u32
}

fn top(hash: u64) -> u64 {
    hash >> (64 - BITS)
}

#[test]
fn ipv6_sources_that_differ_in_any_bits_meet_no_more_often_than_by_chance() {
    let (high, low) = (0x2001_0db8_0000_0001_u64, 0x0000_0001_8000_0042_u64);
    let differences: [Halves; 9] = [
        (1 << 63, 1 << 63),
        (1 << 63, 1 << 31),
        (1 << 63, 1 << 63 | 1 << 31),
        (0, 1 << 63 | 1 << 31),
        (1 << 63 | 1 << 31, 0),
        (1 << 63 | 1 << 31, 1 << 63 | 1 << 31),
        (1, 1),
        (0, 1),
        (1 << 32, 1 << 32),
    ];
    for (by_high, by_low) in differences {
        let met = meetings(|[_, _, a, b, c, d]| {
            let secret = [a, b, c, d];
            top(hash6(secret, (high, low))) == top(hash6(secret, (high ^ by_high, low ^ by_low)))
        });
        assert!((DUE / 3..=MOST).contains(&met), "{by_high:#x} {by_low:#x}: {met} times, {DUE} due");
    }
}

#[test]
fn ipv4_sources_that_differ_in_any_bit_meet_no_more_often_than_by_chance() {
    for bit in 0..32 {
        let met = meetings(|[a, b, ..]| {
            top(hash4([a, b], 0xc633_6407)) == top(hash4([a, b], 0xc633_6407 ^ 1 << bit))
        });
        assert!((DUE / 3..=MOST).contains(&met), "bit {bit}: {met} times, {DUE} due");
    }
}

#[test]
fn sources_of_the_two_families_meet_no_more_often_than_by_chance() {
    for source in [(0xc633_6407, 0), (0, 0xc633_6407), (0xc633_6407, 1), (0xc633_6407 << 32, 0)] {
        let met = meetings(|[a, b, c, d, e, f]| {
            top(hash4([a, b], 0xc633_6407)) == top(hash6([c, d, e, f], source))
        });
        assert!((DUE / 3..=MOST).contains(&met), "{source:x?}: {met} times, {DUE} due");
    }
}
