//! The entries of peers, against a plain model of a path, and sentence by sentence.

use std::collections::BTreeSet;

use icmp_common::abi::{PEER_WAYS, Peer, Peers};
use icmp_common::frame::SliceFrame;
use icmp_common::peers::{Request, mapped, note};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// Somewhere in the life of a host.
const START: u64 = 3600 * SECOND;

/// The places of a bucket, and a clock.
struct Host {
    peers: Peers,
    now: u64,
}

impl Host {
    const fn new() -> Self {
        Self { peers: Peers::NONE, now: START }
    }

    /// A request of a source, so long after the last one.
    fn request(&mut self, source: u32, identifier: u16, sequence: u16, after: u64) -> bool {
        self.now += after;
        let request =
            Request { source: mapped(source), destination: mapped(0xc000_0201), identifier, sequence };
        note::<SliceFrame<'_>>(&mut self.peers.places, &request, self.now)
    }

    /// Requests of one source with these numbers, so far apart.
    fn ping(&mut self, sequences: impl IntoIterator<Item = u16>, interval: u64) {
        for sequence in sequences {
            assert!(self.request(1, 7, sequence, interval), "its own place is always there");
        }
    }

    fn used(&self) -> Vec<Peer> {
        self.peers.places.into_iter().filter(|peer| peer.first_at != 0).collect()
    }

    fn one(&self) -> Peer {
        let used = self.used();
        assert_eq!(used.len(), 1, "{used:?}");
        used[0]
    }
}

/// Received, lost, duplicates, late.
fn counts(peer: &Peer) -> (u32, u32, u32, u32) {
    (peer.received, peer.lost(), peer.duplicates, peer.late)
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Lost,
    Twice,
    /// Arrives behind so many later ones.
    Delayed(usize),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        8 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        1 => (1_usize..40).prop_map(Fate::Delayed),
    ];
    prop::collection::vec(fate, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn counts_are_those_of_who_remembers_every_request(fates in fates(), first in any::<u16>()) {
        // When each arrives, in steps of its sender.
        let mut arrivals: Vec<(usize, usize)> = Vec::new();
        for (sent, fate) in fates.iter().enumerate() {
            match fate {
                Fate::Arrives => arrivals.push((sent, sent)),
                Fate::Lost => {}
                Fate::Twice => arrivals.extend([(sent, sent); 2]),
                Fate::Delayed(by) => arrivals.push((sent + by, sent)),
            }
        }
        arrivals.sort_by_key(|(at, _)| *at);
        prop_assume!(!arrivals.is_empty());
        let (mut seen, mut duplicates, mut late) = (BTreeSet::new(), 0, 0);
        let mut host = Host::new();
        for (_, sent) in arrivals {
            host.request(1, 7, first.wrapping_add(sent as u16), 10 * MS);
            if seen.last().is_some_and(|last| *last > sent) && !seen.contains(&sent) {
                late += 1;
            }
            duplicates += u32::from(!seen.insert(sent));
        }
        let (oldest, newest) = (*seen.first().expect("one"), *seen.last().expect("one"));
        let lost = (newest - oldest + 1 - seen.len()) as u32;
        prop_assert_eq!(counts(&host.one()), (seen.len() as u32, lost, duplicates, late));
    }

    #[test]
    fn whatever_comes_no_more_is_received_than_was_expected(
        requests in prop::collection::vec((0_u32..6, 0_u16..3, any::<u16>(), 0_u64..(5 * SECOND)), 1..500)
    ) {
        let mut host = Host::new();
        let mut noted = 0;
        for (source, identifier, sequence, after) in requests {
            noted += u32::from(host.request(source, identifier, sequence, after));
        }
        let used = host.used();
        prop_assert!(used.iter().all(|peer| peer.received <= peer.expected && peer.received > 0), "{:?}", used);
        prop_assert!(used.iter().map(|peer| peer.received + peer.duplicates).sum::<u32>() <= noted);
    }
}

#[test]
fn sequence_numbers_wrap_without_a_loss() {
    let mut host = Host::new();
    host.ping((0..200_000_u32).map(|n| (n + 65_000) as u16), MS);
    assert_eq!(counts(&host.one()), (200_000, 0, 0, 0));
}

#[test]
fn a_peer_that_never_stops_keeps_its_share_of_lost_requests() {
    for (expected, received) in [(u32::MAX, u32::MAX / 2), (1 << 31, 1 << 31), (u32::MAX, u32::MAX)] {
        let mut host = Host::new();
        host.ping(0..20, SECOND);
        let peer = &mut host.peers.places.iter_mut().find(|peer| peer.first_at != 0).expect("noted");
        (peer.expected, peer.received, peer.irregular) = (expected, received, received / 8);
        let share = |peer: &Peer| f64::from(peer.lost()) / f64::from(peer.expected);
        let before = share(peer);
        host.ping(20..200, SECOND);
        let peer = host.one();
        assert!(peer.is_regular() && peer.expected < 1 << 31, "{peer:?}");
        assert!((share(&peer) - before).abs() < 1e-6, "{peer:?}");
    }
}

#[test]
fn an_outage_is_lost_however_long_where_there_was_time_for_it() {
    let mut host = Host::new();
    host.ping(1..=100, SECOND);
    host.ping([3101], 3001 * SECOND);
    assert_eq!(counts(&host.one()), (101, 3000, 0, 0));
    assert_eq!(host.one().recently_lost(), (63, 64));
    host.ping(3102..=3164, SECOND);
    assert_eq!(host.one().recently_lost(), (0, 64));
}

#[test]
fn a_ping_that_starts_again_loses_nothing_by_it() {
    for (identifier, pause) in [(8, 6 * SECOND), (7, 6 * SECOND)] {
        let mut host = Host::new();
        host.ping(1..=50, SECOND);
        host.request(1, identifier, 1, pause);
        for n in 2..=20 {
            host.request(1, identifier, n, SECOND);
        }
        assert_eq!(counts(&host.one()), (70, 0, 0, 0), "identifier {identifier}");
    }
    // From far ahead, without time for so many.
    let mut host = Host::new();
    host.ping((1..=50).chain(9000..9050), SECOND);
    assert_eq!(counts(&host.one()), (100, 0, 0, 0));
}

#[test]
fn what_was_lost_before_a_new_start_stays_lost() {
    let mut host = Host::new();
    host.ping((1..=50).filter(|n| n % 10 != 5), SECOND);
    host.ping(1..=50, 6 * SECOND);
    assert_eq!(counts(&host.one()), (95, 5, 0, 0));
}

#[test]
fn two_pings_from_one_source_are_two_peers() {
    let mut host = Host::new();
    for n in 1..=100 {
        host.request(1, 7, n, 500 * MS);
        host.request(1, 8, n * 2, 500 * MS);
    }
    let mut counted: Vec<_> = host.used().iter().map(|peer| (peer.identifier, counts(peer))).collect();
    counted.sort();
    // The second counts on by two, which is learnt.
    assert_eq!(counted, [(7, (100, 0, 0, 0)), (8, (100, 0, 0, 0))]);
}

#[test]
fn by_how_much_a_sender_counts_on_is_learnt_and_a_loss_still_counts_then() {
    // As fping with so many targets does.
    for targets in [2, 5, 200, 1000] {
        let mut host = Host::new();
        host.ping((0..400_u32).filter(|n| n % 50 != 49).map(|n| (n * targets) as u16), SECOND);
        let peer = host.one();
        assert_eq!((counts(&peer), u32::from(peer.stride)), ((392, 7, 0, 0), targets));
        assert!(peer.interval.abs_diff(SECOND) < SECOND / 20 && peer.is_regular(), "{peer:?}");
    }
}

#[test]
fn a_path_that_loses_every_second_request_at_random_is_not_taken_for_a_way_to_count() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut host = Host::new();
    let mut sent = 0;
    while host.used().first().is_none_or(|peer| peer.received < 20_000) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sent += 1;
        if random >> 63 == 0 {
            host.request(1, 7, sent as u16, MS);
        } else {
            host.now += MS;
        }
    }
    let peer = host.one();
    assert!(peer.expected.abs_diff(sent) < 10 && peer.stride == 1 && peer.is_regular(), "{sent}: {peer:?}");
}

#[test]
fn little_endian_numbers_are_learnt() {
    let mut host = Host::new();
    host.ping((1..=1000_u16).filter(|n| n % 100 != 50).map(u16::swap_bytes), SECOND);
    assert_eq!(counts(&host.one()), (990, 10, 0, 0));
}

#[test]
fn who_pings_at_no_interval_is_not_regular() {
    let mut host = Host::new();
    // As blackbox_exporter numbers over several targets, with probes of other intervals between.
    for (n, sequence) in (0..200_u16).zip((0..).scan(0_u16, |sum, n: u32| {
        *sum += [1, 4, 2, 7, 3][n as usize % 5];
        Some(*sum)
    })) {
        host.request(1, 7, sequence, 15 * SECOND + u64::from(n % 3) * MS);
    }
    let peer = host.one();
    assert!(!peer.is_regular() && peer.lost() > 100, "{peer:?}");
}

#[test]
fn interval_and_jitter_are_those_of_the_arrivals() {
    let mut host = Host::new();
    host.ping(1..=500, SECOND);
    let peer = host.one();
    assert!(peer.interval.abs_diff(SECOND) < 100 && peer.jitter >> 4 < 100, "{peer:?}");
    // Each second one 30 ms late: from one to the next, 30 ms more or less than the interval.
    for n in 501..=1000_u16 {
        host.ping([n], if n % 2 == 0 { SECOND + 30 * MS } else { SECOND - 30 * MS });
    }
    let peer = host.one();
    assert!((peer.jitter >> 4).abs_diff(30 * MS) < MS, "{} ns", peer.jitter >> 4);
    assert!(peer.interval.abs_diff(SECOND) < 5 * MS && peer.is_regular(), "{peer:?}");
}

#[test]
fn who_changes_its_interval_is_known_by_the_new_one() {
    let mut host = Host::new();
    host.ping(1..=100, 10 * MS);
    host.ping(101..=300, SECOND);
    let peer = host.one();
    assert!(peer.interval.abs_diff(SECOND) < SECOND / 50 && peer.lost() == 0, "{peer:?}");
}

#[test]
fn a_flood_from_everywhere_takes_no_place_of_who_goes_on() {
    let mut host = Host::new();
    host.ping(1..=20, SECOND);
    let mut noted = 0;
    for source in 100..100_000 {
        noted += u32::from(host.request(source, 1, 1, MS));
        if source % 1000 == 0 {
            host.ping([(source / 1000) as u16 + 20], 0);
        }
    }
    let peer = host.used().into_iter().find(|peer| peer.source_low as u32 == 1).expect("it keeps its place");
    assert_eq!(counts(&peer), (119, 0, 0, 0));
    assert!(noted > 100, "the others take turns: {noted}");
}

#[test]
fn the_place_of_who_has_gone_is_given_away_and_not_before() {
    let mut host = Host::new();
    for source in 1..=PEER_WAYS as u32 {
        for n in 1..=10 {
            host.request(source, 7, n, 10 * MS);
        }
    }
    assert!(!host.request(99, 1, 1, 59 * SECOND), "all are held for a minute");
    assert!(host.request(99, 1, 1, 2 * SECOND));
    assert_eq!(host.used().iter().filter(|peer| peer.source_low as u32 == 99).count(), 1);
}

#[test]
fn one_that_comes_late_before_the_first_counts_as_late_and_what_is_between_as_missing() {
    let mut host = Host::new();
    host.ping([5, 2], 10 * MS);
    assert_eq!(counts(&host.one()), (2, 2, 0, 1));
    host.ping([3, 4, 4], 10 * MS);
    assert_eq!(counts(&host.one()), (4, 0, 1, 3));
}
