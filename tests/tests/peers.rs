//! Peers: who pings this host, and what is told of the path from there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use icmp_common::abi::{Peer, SETTINGS_PEERS};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::program::{Entry, LoadOptions};
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::generate::{self, Random};
use icmp_tests::host;
use icmp_tests::packet::Echo;

/// Everybody is tracked.
fn tracking() -> Compiled {
    let mut policy = host::policy_of(UNLIMITED);
    policy.settings.flags |= SETTINGS_PEERS;
    policy
}

/// All that does not depend on the clock.
type Timeless = ([u64; 4], u16, [u32; 4], u64, [u16; 5]);

fn timeless(peers: impl IntoIterator<Item = Peer>) -> Vec<Timeless> {
    let of = |peer: Peer| {
        (
            [peer.source_high, peer.source_low, peer.destination_high, peer.destination_low],
            peer.identifier,
            [peer.received, peer.expected, peer.duplicates, peer.late],
            peer.window,
            [peer.highest, peer.stride, peer.gap, peer.run, peer.span],
        )
    };
    let mut all: Vec<_> = peers.into_iter().map(of).collect();
    all.sort_unstable();
    all
}

fn request(source: u32, identifier: u16, sequence: u16) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = if source % 2 == 0 {
        (Ipv4Addr::from(0x0a09_0000 + source).into(), Ipv4Addr::new(192, 0, 2, 2).into())
    } else {
        let from = Ipv6Addr::from_bits(0x2001_0db8_0009_0001_u128 << 64 | u128::from(source));
        (from.into(), "2001:db8::2".parse::<Ipv6Addr>().expect("an address").into())
    };
    let mut echo = Echo::new(from, to, vec![0x5a; 56]);
    echo.second_word = u32::from(identifier) << 16 | u32::from(sequence);
    echo.frame()
}

#[test]
fn kernel_and_host_agree_about_peers() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let mut random = Random::new(generate::seed());
    // A pause of the machine is a pause of all that ping; then it is tried again.
    for _ in 0..10 {
        let mut kernel = host::unconfigured();
        let host = kernel.policy(&tracking(), &[]);
        let (began, mut sequences) = (Instant::now(), [[0_u16; 2]; 300]);
        for n in 0..4000_u64 {
            let (source, identifier) = (random.below(300), random.below(2));
            let sequence = &mut sequences[source][identifier];
            // Some are lost, some come twice, and some late.
            let (ahead, back) =
                ([1, 1, 1, 1, 2, 3, 0][random.below(7)], [0, 0, 0, 0, 0, 2, 5][random.below(7)]);
            *sequence = sequence.wrapping_add(ahead);
            let frame = request(
                u32::try_from(source).expect("few"),
                u16::try_from(identifier).expect("few"),
                sequence.wrapping_sub(back),
            );
            let entry = if n % 2 == 0 { Entry::Xdp } else { Entry::XdpFrags };
            let (verdict, after) = kernel.run(entry, &frame);
            host.tables().set_monotonic_ns((1 << 40) + n * 100_000);
            let mut on_host = frame;
            assert_eq!((verdict, host.run(&mut on_host).reason), (Verdict::Answer, Reason::Answered));
            assert_eq!(after, on_host);
        }
        if began.elapsed() > Duration::from_secs(1) {
            continue;
        }
        let in_kernel = kernel.maps().tracked().expect("the table");
        let on_host: Vec<_> = host.tables().peers().collect();
        let without: u64 = on_host.iter().map(|(_, peers)| peers.without_place).sum();
        let on_host = on_host.iter().flat_map(|(_, peers)| peers.places).filter(|peer| peer.first_at != 0);
        assert_eq!(timeless(in_kernel.peers.iter().copied()), timeless(on_host));
        assert_eq!(in_kernel.without_place, without);
        assert!(in_kernel.peers.len() > 300 && in_kernel.peers.iter().any(|peer| peer.late > 0));
        return;
    }
    panic!("no run of 4000 frames took less than a second");
}

#[test]
fn cpus_that_meet_in_a_bucket_leave_each_other_whole() {
    const EACH: u16 = 3000;
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let _host = kernel.policy(&tracking(), &[]);
    let shared = &kernel;
    thread::scope(|scope| {
        for identifier in 0..4 {
            scope.spawn(move || {
                for sequence in 1..=EACH {
                    let (verdict, _) = shared.run(Entry::Xdp, &request(0, identifier, sequence));
                    assert_eq!(verdict, Verdict::Answer);
                }
            });
        }
    });
    let tracked = kernel.maps().tracked().expect("the table");
    let mut identifiers: Vec<_> = tracked.peers.iter().map(|peer| peer.identifier).collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [0, 1, 2, 3], "one bucket has all of them");
    for peer in &tracked.peers {
        assert_eq!((peer.highest, peer.duplicates, peer.late), (EACH, 0, 0), "{peer:?}");
        // Who is not let in leaves a request out.
        assert!(peer.received > u32::from(EACH) * 99 / 100 && peer.expected <= u32::from(EACH), "{peer:?}");
    }
}

#[test]
fn a_larger_table_has_a_place_for_each_of_as_many() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let options = LoadOptions::new(LoadOptions::DEFAULT_LINES).expect("random numbers");
    let mut kernel = host::loaded(LoadOptions { peer_buckets: 1 << 11, ..options });
    let _host = kernel.policy(&tracking(), &[]);
    for source in 0..4096 {
        let (verdict, _) = kernel.run(Entry::Xdp, &request(source, 1, 1));
        assert_eq!(verdict, Verdict::Answer);
    }
    let tracked = kernel.maps().tracked().expect("the table");
    assert_eq!(tracked.peers.len() as u64 + tracked.without_place, 4096);
    assert!(tracked.without_place < 4096 / 10, "{}", tracked.without_place);
}
