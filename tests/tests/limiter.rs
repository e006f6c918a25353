//! The limiter in the running kernel: exact over CPUs, and holding in floods of spoofed sources.
//!
//! Owns what only the real maps, clock and CPUs can show. icmp-common's tests have the arithmetic's properties.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use icmp_common::abi::LINE_WORDS;
use icmp_common::limiter::{PairIndex, Shared as _, SharedWords as _, Table};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::instance::program::Entry;
use icmp_ctl::kernel::clock::Tick;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::generate::{self, Random};
use icmp_tests::host::{self, InKernel, OnHost};
use icmp_tests::netns::{HOST_IF, PEER_IF, Pair};
use icmp_tests::packet::{self, Echo, be16, put16};
use icmp_tests::process::stay_on;
use icmp_tests::wire::Tap;

const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

#[test]
fn one_source_gets_its_rate_and_burst_from_two_cpus_together() {
    exact_among(0);
}

#[test]
fn one_source_among_a_hundred_gets_its_rate_and_burst() {
    exact_among(99);
}

#[test]
fn one_source_among_a_hundred_thousand_gets_its_rate_and_burst() {
    exact_among(99_999);
}

/// Both CPUs send as one source for ten seconds, every other packet from one of `others`.
fn exact_among(others: u32) {
    const RATE: u64 = 1000;
    const BURST: u64 = 1000;
    const SECONDS: u64 = 10;
    if !can_run(&[]) {
        return;
    }
    let config = format!(
        "[limits]\nmemory = \"16MiB\"\nper-source = {{ rate = \"{RATE}/s\", burst = {BURST} }}\n\
         per-prefix = {{ rate = \"unlimited\" }}\nreplies = {{ rate = \"unlimited\" }}\n"
    );
    let (kernel, _) = host::both(&config, &[]);
    let measured = echo4(Ipv4Addr::new(198, 18, 0, 1));
    let others: Vec<_> = (0..others).map(|n| echo4(Ipv4Addr::from(0x0a00_0001 + n))).collect();
    let admitted = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (kernel, measured, others, admitted) = (&kernel, &measured, &others, &admitted);
            scope.spawn(move || {
                stay_on(cpu);
                let mut other = others.iter().cycle();
                while start.elapsed() < Duration::from_secs(SECONDS) {
                    if answered(kernel, measured) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Some(frame) = other.next() {
                        let _whatever = answered(kernel, frame);
                    }
                }
            });
        }
    });
    let (admitted, seconds) = (admitted.into_inner() as f64, start.elapsed().as_secs_f64());
    let due = RATE as f64 * seconds + BURST as f64;
    let tick = RATE as f64 / Tick::of_this_kernel().expect("a clock").per_second;
    println!("{admitted} admitted, {due:.0} due");
    assert!(admitted <= due + tick, "{admitted} admitted, {due} and one tick's {tick} due");
    assert!(admitted >= due * 0.99, "{admitted} admitted, {due} due");
}

#[test]
fn a_network_cycling_its_ipv6_addresses_is_one_source() {
    if !can_run(&[]) {
        return;
    }
    let (kernel, on_host) = host::both("[limits]\nper-source = { rate = \"1/h\", burst = 100 }\n", &[]);
    let mut random = Random::new(generate::seed());
    let mut admitted = (0, 0);
    for _ in 0..1000 {
        let low = random.bits();
        let frame = echo6(Ipv6Addr::from(0x2001_0db8_00aa_00bb_u128 << 64 | u128::from(low)));
        admitted.0 += u32::from(answered(&kernel, &frame));
        admitted.1 += u32::from(on_host.run(&mut frame.clone()).verdict() == Verdict::Answer);
    }
    assert_eq!(admitted, (100, 100), "in the kernel and on the host");
    assert!(answered(&kernel, &echo6("2001:db8:aa:bc::1".parse().expect("an address"))), "the /64 beside it");
}

#[test]
fn a_network_gets_no_more_than_its_prefix_limit_from_all_its_sources() {
    if !can_run(&[]) {
        return;
    }
    let (kernel, _) = host::both("[limits]\nper-prefix = { rate = \"1/h\", burst = 150 }\n", &[]);
    let admitted = (0..=255)
        .chain(0..=255)
        .filter(|last| answered(&kernel, &echo4(Ipv4Addr::new(198, 18, 0, *last))))
        .count();
    assert_eq!(admitted, 150);
    assert!(answered(&kernel, &echo4(Ipv4Addr::new(198, 18, 1, 1))), "the /24 beside it");
}

#[test]
fn with_echo_exhausted_all_else_is_passed_as_before() {
    if !can_run(&[]) {
        return;
    }
    let config = "[limits]\nper-source = { rate = \"1/h\", burst = 1 }\nreplies = { rate = \"1/h\", burst = 5 }\n\
                  unverified = { rate = \"unlimited\" }\n";
    let (kernel, _) = host::both(config, &[]);
    let from: IpAddr = "2001:db8::1".parse().expect("an address");
    let flood = (0..2000).filter(|n| answered(&kernel, &echo4(Ipv4Addr::from(0xc612_0001 + n)))).count();
    assert!(flood <= 5, "{flood} replies");
    // Neighbour solicitation and advertisement, packet too big, unreachable, time exceeded, parameter problem.
    for kind in [135, 136, 2, 1, 3, 4] {
        let echo = Echo {
            ttl: 255,
            kind: Some(kind),
            second_word: if kind == 2 { 1280 } else { 0 },
            // A target without options, or too little of a quote.
            ..Echo::new(from, IpAddr::V6(HOST6), vec![0; 16])
        };
        for _ in 0..100 {
            let (verdict, _) = kernel.run(Entry::Xdp, &echo.frame());
            assert_eq!(verdict, Verdict::Pass, "type {kind}");
        }
    }
    for kind in [3, 11, 12] {
        let echo = Echo {
            kind: Some(kind),
            ..Echo::new("192.0.2.1".parse().expect("an address"), HOST4.into(), vec![0; 64])
        };
        for _ in 0..100 {
            assert_eq!(kernel.run(Entry::Xdp, &echo.frame()).0, Verdict::Pass, "type {kind}");
        }
    }
}

#[test]
fn buckets_full_of_a_future_time_are_repaired() {
    let config = "[limits]\nper-source = { rate = \"100/s\", burst = 20 }\n";
    if !can_run(&[]) {
        return;
    }
    let (_, on_host) = host::both(config, &[]);
    let tables = on_host.tables();
    for bucket in (0..).map_while(|index| tables.bucket(index)) {
        bucket.store(1 << 62);
    }
    for table in [Table::Sources, Table::Prefixes] {
        for line in 0.. {
            let pair = |word| tables.pair(table, PairIndex { line, words: [word, LINE_WORDS / 2 + word] });
            if pair(0).is_none() {
                break;
            }
            for bucket in (0..LINE_WORDS / 2).filter_map(pair).flatten() {
                bucket.store(1 << 62);
            }
        }
    }
    let frame = echo4(Ipv4Addr::new(198, 18, 0, 1));
    let admitted = |on_host: &OnHost| {
        (0..100).filter(|_| on_host.run(&mut frame.clone()).verdict() == Verdict::Answer).count()
    };
    assert_eq!(admitted(&on_host), 0, "nothing is given for a clock that jumped");
    let hour = (Tick::of_this_kernel().expect("a clock").per_second * 3600.0) as u64;
    tables.set_ticks((1 << 32) + hour);
    // Total, source and prefix each find out for themselves, one after the other.
    for hours in 1..3 {
        tables.set_ticks((1 << 32) + hours * hour);
        assert_eq!(admitted(&on_host), 0);
    }
    tables.set_ticks((1 << 32) + 3 * hour);
    assert_eq!(admitted(&on_host), 20, "and then everything is as ever");
}

/// Who is known is asked of a summary first, which is to leave out nobody, and to forget.
#[test]
fn every_known_source_is_answered_while_the_total_is_exhausted() {
    const EPOCH_SECONDS: f64 = 4.2;
    let config = "[limits]\nreplies = { rate = \"8000/s\", burst = 8000 }\n";
    let host = host::on_host(config, &[]);
    let epoch = (Tick::of_this_kernel().expect("a clock").per_second * EPOCH_SECONDS) as u64;
    let seed = generate::seed();
    let mut random = Random::new(seed);
    let reason_of = |source: u32| host.run(&mut echo4(Ipv4Addr::from(source))).reason;
    let monitors: Vec<_> = (0..300).map(|_| 0x0b00_0000 | random.bits() as u32 & 0xff_ffff).collect();
    for number in 0..10 {
        host.tables().set_ticks((1 << 32) + number * epoch);
        for monitor in &monitors {
            assert_eq!(reason_of(*monitor), Reason::Answered);
        }
    }
    let answered_at = |ticks: u64| {
        host.tables().set_ticks((1 << 32) + ticks);
        let strangers: Vec<_> = (0..9000).map(|n| reason_of(0x2000_0000 + n * 257)).collect();
        assert_eq!(strangers.last(), Some(&Reason::LimitedTotal), "nothing is left for strangers");
        monitors.iter().filter(|monitor| reason_of(**monitor) == Reason::Answered).count()
    };
    // A few share both of their words with two others.
    let answered = answered_at(20 * epoch);
    assert!(answered >= monitors.len() - 3, "{answered} of them were known");
    assert_eq!(answered_at(120 * epoch), 0, "and are no longer");
}

#[test]
fn limits_change_while_it_runs_and_a_wrong_one_changes_nothing() {
    if !can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let attached = Attached::new(host, HOST_IF);
    let limits = || ctl::run(host, "limit show -j").expect_success();
    let flood = || {
        let before = attached.counters().answered();
        let _said = pair.peer.run("ping", &["-q", "-c", "2000", "-l", "2000", "-W", "1", "192.0.2.2"]);
        attached.counters().answered() - before
    };
    let _said = ctl::run(host, "limit set per-source 1/h --burst 200").expect_success();
    assert_eq!(flood(), 200, "a source that was idle gets its burst");
    let _said = ctl::run(host, "limit set per-source 1/h --burst 1000").expect_success();
    assert!(limits().contains("\"rate\":\"1/h\""), "{}", limits());
    assert_eq!(flood(), 0, "no fresh burst with a new limit");
    let _said = ctl::run(host, "limit set per-source unlimited").expect_success();
    assert_eq!(flood(), 2000);
    let _said = ctl::run(host, "limit set per-source 0").expect_success();
    assert_eq!(flood(), 0);

    let before = limits();
    for (arguments, why) in [
        ("per-source 1000Mpps --burst 9", "the highest is"),
        ("per-source 10k/s --burst 1", "the smallest is 40"),
        ("per-source 1/h --burst 100000000000", "the largest is"),
        ("per-source fast", "write it like"),
        ("per-sorce 1/s", "per-source"),
    ] {
        let done = ctl::run(host, &format!("limit set {arguments}"));
        assert_ne!(done.code, Some(0), "{done}");
        assert!(done.stderr.contains(why), "{why:?} in {done}");
        assert_eq!(limits(), before, "after {arguments}");
    }
}

#[test]
fn who_sends_most_and_who_is_limited_most_is_shown() {
    if !can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    // Far below what is sent, so that a busy machine's pings are too many as well.
    let config = "[limits]\nper-source = { rate = \"10/s\", burst = 10 }\n";
    let _attached = Attached::configured(&pair.host, HOST_IF, config);
    let expected = [Some("192.0.2.1"), Some("2001:db8::/64")];
    let shown = sources_of_two_families(&pair, |shown| {
        let is_expected = |list: &str| [0, 1].map(|n| shown[list][n]["source"].as_str()) == expected;
        shown["sources"] == 2 && is_expected("heavy_hitters") && is_expected("limited")
    });
    assert_eq!(shown["flood_from_everywhere"], false, "{shown}");
}

#[test]
fn requests_that_a_rule_answers_with_a_limit_of_its_own_are_no_samples() {
    if !can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let rule = "[[policy.rule]]\nname = \"monitors\"\nfrom = \"192.0.2.1\"\ntype = \"echo-request\"\naction = \"answer\"\n";
    let _attached = Attached::configured(&pair.host, HOST_IF, &format!("{rule}limit = \"10k/s\"\n"));
    // The other source sends a fifth of what this one sends.
    let shown = sources_of_two_families(&pair, |shown| !shown["heavy_hitters"][0].is_null());
    let sources = shown["heavy_hitters"].as_array().expect("a list");
    assert!(sources.iter().all(|source| source["source"] == "2001:db8::/64"), "{shown}");
    let rules = ctl::run(&pair.host, "rule list -j").expect_success();
    let rules: serde_json::Value = serde_json::from_str(&rules).expect("JSON");
    assert!(rules["rules"][0]["hits"].as_u64() > Some(0), "{rules}");
}

/// What `show sources` has while both addresses of the host are pinged, as soon as that is enough.
fn sources_of_two_families(pair: &Pair, is_enough: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let _pings = [("192.0.2.2", "0.001"), ("2001:db8::2", "0.005")]
        .map(|(target, interval)| pair.peer.watch("ping", &["-q", "-i", interval, target]));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = ctl::run(&pair.host, "show sources -j").expect_success();
        let shown = serde_json::from_str(&text).expect("JSON");
        if is_enough(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "{shown}");
    }
}

/// Fifty monitors that have pinged once a second for a minute, fifty strangers who start with the flood, and a flood from
/// sources all over the address space, a quarter of it from one network.
#[test]
fn in_a_spoofed_flood_known_monitors_are_answered_and_the_budgets_hold() {
    const WARM_UP: u16 = 60;
    const FLOOD: u16 = 15;
    const REPLIES: f64 = 2000.0;
    const PREFIX: f64 = 50.0;
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let config = format!(
        "[limits]\nreplies = {{ rate = \"{REPLIES}/s\", burst = 200 }}\nper-prefix = {{ rate = \"{PREFIX}/s\", burst = 50 }}\n"
    );
    let attached = Attached::configured(&pair.host, HOST_IF, &config);
    let memory = || {
        let status: serde_json::Value =
            serde_json::from_str(&ctl::run(&pair.host, "status -j").expect_success()).expect("JSON");
        status["limiter_bytes"].as_u64().expect("a size")
    };
    let bytes = memory();
    let (sender, receiver) = pair.peer.enter(|| (Tap::open(PEER_IF), Tap::open_for_incoming(PEER_IF)));
    let flooder = pair.peer.enter(|| Tap::open(PEER_IF));
    let seed = generate::seed();

    // Each in a network of its own; the second group starts with the flood.
    let group =
        |second: u8| -> Vec<Ipv4Addr> { (1..=50).map(|n| Ipv4Addr::new(198, second, n, 7)).collect() };
    let (monitors, strangers) = (group(18), group(19));
    let mut answers: BTreeMap<(Ipv4Addr, u16), u32> = BTreeMap::new();
    let mut from_one_network = 0_u32;
    let mut round = |number: u16, with_strangers: bool| {
        let until = Instant::now() + Duration::from_secs(1);
        let groups = if with_strangers { &[&monitors, &strangers][..] } else { &[&monitors] };
        for source in groups.iter().flat_map(|group| group.iter()) {
            let mut echo = Echo::new((*source).into(), HOST4.into(), vec![0; 16]);
            echo.second_word = u32::from(number);
            sender.send(&echo.frame()).expect("sent");
        }
        while let Some(seen) = receiver.receive(until) {
            let Some((to, sequence)) = reply_to(&seen.frame) else { continue };
            if to.octets()[0] == 198 {
                *answers.entry((to, sequence)).or_default() += 1;
            }
            from_one_network += u32::from(to.octets()[..3] == [203, 0, 113]);
        }
    };
    for number in 0..WARM_UP {
        round(number, false);
    }
    let stop = AtomicBool::new(false);
    let before = attached.counters();
    let (sent, seconds) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut random = Random::new(seed);
            let mut frame = echo4(Ipv4Addr::UNSPECIFIED);
            let (mut sent, start) = (0_u64, Instant::now());
            while !stop.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
                let bits = random.bits();
                let [a, b, c, d, which, ..] = bits.to_be_bytes();
                // 198/8 is kept for the others.
                let source = match (which % 4, a) {
                    (0, _) => [203, 0, 113, d],
                    (_, 1..=126 | 128..=191) => [a, b, c, d],
                    _ => [11, b, c, d],
                };
                set_source(&mut frame, source);
                sent += u64::from(flooder.send(&frame).is_ok());
            }
            (sent, start.elapsed().as_secs_f64())
        });
        for number in WARM_UP..WARM_UP + FLOOD {
            round(number, true);
        }
        let status = ctl::run(&pair.host, "status").expect_success();
        stop.store(true, Ordering::Relaxed);
        assert!(status.contains("UNDER PRESSURE"), "{status}");
        flood.join().expect("the flood ended")
    });
    let after = attached.counters();
    let answered = |group: &[Ipv4Addr]| {
        let pings =
            (WARM_UP..WARM_UP + FLOOD).flat_map(|number| group.iter().map(move |source| (*source, number)));
        pings.filter(|ping| answers.contains_key(ping)).count() as f64 / f64::from(50 * FLOOD)
    };
    let (known, strange) = (answered(&monitors), answered(&strangers));
    let replies = (after.answered() - before.answered()) as f64;
    println!(
        "{:.0} packets/s for {seconds:.1} s: {:.1} % of the monitors' pings answered, {:.1} % of the strangers'; {:.0} replies/s",
        sent as f64 / seconds,
        known * 100.0,
        strange * 100.0,
        replies / seconds
    );
    assert!(sent as f64 / seconds > 5.0 * REPLIES, "a flood");
    assert!(known >= 0.99, "{known} of the monitors' pings are answered");
    assert!(strange < 0.5, "the flood is one: {strange} of the strangers' pings are answered");
    assert!(replies <= (REPLIES * seconds + 200.0) * 1.02, "{replies} replies in {seconds} s");
    assert!(replies >= REPLIES * seconds * 0.9, "the budget is used: {replies} replies in {seconds} s");
    assert!(
        f64::from(from_one_network) <= PREFIX * (seconds + 1.0) + 50.0,
        "{from_one_network} to one network"
    );
    assert!(after.packets(Reason::LimitedTotal.name()) > before.packets(Reason::LimitedTotal.name()));
    assert_eq!(memory(), bytes, "memory is what it was");
}

/// Destination and sequence number of an echo reply.
fn reply_to(frame: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let ip = frame.get(14..42)?;
    let is_reply = be16(frame, 12) == packet::ETHERTYPE_IPV4 && ip[9] == 1 && ip[20] == 0;
    is_reply.then(|| (Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]), be16(ip, 26)))
}

fn set_source(frame: &mut [u8], source: [u8; 4]) {
    frame[26..30].copy_from_slice(&source);
    put16(frame, 24, 0);
    let sum = packet::checksum(&frame[14..34]);
    put16(frame, 24, sum);
}

fn echo4(source: Ipv4Addr) -> Vec<u8> {
    Echo::new(source.into(), HOST4.into(), vec![0; 16]).frame()
}

fn echo6(source: Ipv6Addr) -> Vec<u8> {
    Echo::new(source.into(), HOST6.into(), vec![0; 16]).frame()
}

fn answered(kernel: &InKernel, frame: &[u8]) -> bool {
    kernel.run(Entry::Xdp, frame).0 == Verdict::Answer
}
