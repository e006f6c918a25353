//! Flows: requests that go by what was decided of one like them.
//!
//! Owns what must hold of them whatever they save: the same is said, sent and counted as without them, no limit gives more, and nothing
//! that the controller changes is overlooked.

use std::net::{IpAddr, Ipv4Addr};

use icmp_common::abi::{Interface, SWITCH_CHANGE};
use icmp_common::outcome::Outcome;
use icmp_common::reason::{Reason, Verdict};
use icmp_common::tables::Tables as _;
use icmp_ctl::instance::program::Entry;
use icmp_tests::can_run;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::generate::{self, Random};
use icmp_tests::host::{self, Counters, InKernel, OnHost};
use icmp_tests::packet::{self, Echo, put16};
use icmp_tests::vectors::to_hex;

const HOST: &str = "192.0.2.2";

/// Answers by flows so far.
fn by_flows(host: &OnHost) -> u64 {
    let leases = host.tables().leases().expect("the host has leases");
    leases.answered.iter().flatten().map(|counter| counter.packets).sum()
}

fn by_flows_in_kernel(kernel: &mut InKernel) -> u64 {
    let leases = kernel.maps().leases().expect("the leases can be read");
    leases.iter().flat_map(|leases| leases.answered.iter().flatten()).map(|counter| counter.packets).sum()
}

/// A request of one of a few flows, mostly as its sender would send the next one, now and then changed in a way that a flow has to see.
fn request(random: &mut Random) -> Vec<u8> {
    const LENGTHS: [usize; 6] = [0, 3, 22, 56, 120, 1000];
    let number = 1 + random.below(6);
    let (from, to): (IpAddr, IpAddr) = if random.once_in(2) {
        (Ipv4Addr::from(0xcb00_7100 + number as u32).into(), HOST.parse().expect("an address"))
    } else {
        let from = format!("2001:db8:9::{number}");
        (from.parse().expect("an address"), "2001:db8::2".parse().expect("an address"))
    };
    let len = if random.once_in(8) { random.below(300) } else { LENGTHS[number % LENGTHS.len()] };
    let mut echo = Echo::new(from, to, random.bytes(len));
    echo.second_word = random.bits() as u32;
    if from.is_ipv4() {
        echo.id = u32::from(random.word_or(&[0, 1, 0x1234]));
        echo.fragment = if number.is_multiple_of(2) { 0x4000 } else { 0 };
    }
    if random.once_in(8) {
        echo.ttl = random.pick(&[1, 63, 255]);
    }
    if random.once_in(12) {
        echo.tos = random.byte();
    }
    let mut frame = echo.frame();
    match random.below(24) {
        // Checksums, identification, data, lengths, addresses: whatever is there.
        0 | 1 => {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        2 => frame.truncate(random.below(frame.len())),
        3 => frame.extend(random.bytes(9)),
        4 if from.is_ipv4() => {
            put16(&mut frame, 14 + 10, 0);
            let sum = packet::checksum(&frame[14..34]);
            put16(&mut frame, 14 + 10, if random.once_in(2) { sum } else { !sum });
        }
        _ => {}
    }
    frame
}

/// What a request ended in. The limit that a flow was over at first is the one it stays over, even if the total, which is asked before
/// the others, is exhausted later in the same tick.
fn said(outcome: Outcome) -> Outcome {
    match outcome.verdict() {
        Verdict::Limit => Outcome { reason: Reason::LimitedTotal, ..outcome },
        _ => outcome,
    }
}

fn counted(host: &OnHost) -> Counters {
    let mut counters = Counters::new();
    for ((slot, row, reason), (packets, bytes)) in host.counters() {
        let reason = said(Outcome { reason: Reason::ALL[usize::from(reason)], row }).reason as u8;
        let counter = counters.entry((slot, row, reason)).or_default();
        *counter = (counter.0 + packets, counter.1 + bytes);
    }
    counters
}

#[test]
fn a_flow_says_what_is_said_without_it() {
    let mut random = Random::new(generate::seed());
    let header = format!("[responder]\nverify = \"header\"\nttl = 77\n{UNLIMITED}");
    let rule = format!(
        "{UNLIMITED}\n[[policy.rule]]\nname = \"some\"\ntype = \"echo-request\"\naction = \"answer\"\nfrom = [\"203.0.113.0/30\", \"2001:db8:9::/126\"]\n"
    );
    let generous = "[limits]
per-source = { rate = \"50Mpps\", burst = 10000000 }
per-prefix = { rate = \"50Mpps\", burst = 10000000 }
replies    = { rate = \"50Mpps\", burst = 10000000 }
";
    let refusing = "[limits]
per-source = { rate = \"20/s\", burst = 9 }
per-prefix = { rate = \"60/s\", burst = 14, ipv4-prefix = 8, ipv6-prefix = 16 }
replies    = { rate = \"150/s\", burst = 25 }
";
    for (config, answers) in
        [(UNLIMITED, true), (header.as_str(), true), (&rule, true), (generous, true), (refusing, false)]
    {
        let [with, without] = host::on_host_both_ways(config, &[]);
        for n in 0..20_000 {
            for host in [&with, &without] {
                host.tables().set_ticks((1 << 32) + n / 500);
            }
            let frame = request(&mut random);
            let (mut one, mut other) = (frame.clone(), frame.clone());
            let outcomes = (said(with.run(&mut one)), said(without.run(&mut other)));
            assert_eq!(outcomes.0, outcomes.1, "request {n}, {} under {config:?}", to_hex(&frame));
            assert_eq!(to_hex(&one), to_hex(&other), "request {n}, {} under {config:?}", to_hex(&frame));
        }
        assert_eq!(counted(&with), counted(&without), "{config:?}");
        assert_eq!(with.tallies(), without.tallies(), "{config:?}");
        assert_eq!(by_flows(&without), 0);
        assert!(!answers || by_flows(&with) > 5_000, "{} went by a flow, {config:?}", by_flows(&with));
    }
}

#[test]
fn paid_in_advance_a_source_gets_no_more_than_its_limit_and_little_less() {
    const RATE: u64 = 1000;
    const BURST: u64 = 1000;
    const TICKS: u64 = 2500;
    let config = format!(
        "[limits]\nper-source = {{ rate = \"{RATE}/s\", burst = {BURST} }}\nper-prefix = {{ rate = \"unlimited\" }}\n\
         replies = {{ rate = \"unlimited\" }}\n"
    );
    let per_second = icmp_ctl::kernel::clock::Tick::of_this_kernel().expect("a clock").per_second as u64;
    let due = BURST + RATE * TICKS / per_second;
    for per_tick in [20, 70, 400] {
        let [host, _] = host::on_host_both_ways(&config, &[]);
        let mut answered = 0;
        for tick in 0..TICKS {
            host.tables().set_ticks((1 << 32) + tick);
            for _ in 0..per_tick {
                let mut frame = echo("198.51.100.7").frame();
                answered += u64::from(host.run(&mut frame).reason == Reason::Answered);
            }
        }
        assert!(answered <= due, "{answered} of {due} at {per_tick} a tick");
        // What a flow has paid for when half of the burst is gone is lost, a 64th of it at most, and that half is come to twice at most.
        assert!(answered >= due - BURST / 32, "{answered} of {due} at {per_tick} a tick");
        assert!(by_flows(&host) > 100, "{} by flows", by_flows(&host));
    }
}

#[test]
fn a_source_that_keeps_within_its_limit_is_never_refused() {
    let config = "[limits]\nper-source = { rate = \"10000/s\", burst = 10000 }\nper-prefix = { rate = \"unlimited\" }\n";
    let per_second = icmp_ctl::kernel::clock::Tick::of_this_kernel().expect("a clock").per_second as u64;
    let [host, _] = host::on_host_both_ways(config, &[]);
    for tick in 0..5 * per_second {
        host.tables().set_ticks((1 << 32) + tick);
        for _ in 0..9_500 / per_second {
            let mut frame = echo("198.51.100.7").frame();
            assert_eq!(host.run(&mut frame).reason, Reason::Answered, "in tick {tick}");
        }
    }
    assert!(by_flows(&host) > 10_000, "{} by flows", by_flows(&host));
}

#[test]
fn a_change_of_the_controllers_ends_every_flow_at_once() {
    let [host, _] = host::on_host_both_ways(UNLIMITED, &[]);
    let send = || {
        let before = by_flows(&host);
        assert_eq!(host.run(&mut echo("192.0.2.1").frame()).reason, Reason::Answered);
        by_flows(&host) - before
    };
    for switch in [0, SWITCH_CHANGE, 3 * SWITCH_CHANGE] {
        host.tables().set_switch(switch);
        assert_eq!([send(), send(), send(), send()], [0, 0, 1, 1]);
    }
}

#[test]
fn every_change_of_the_controllers_can_be_seen() {
    if !can_run(&[]) {
        return;
    }
    let frame = echo("192.0.2.1").frame();
    let (mut kernel, _) = host::both(UNLIMITED, &[]);
    let off = host::policy_of(&format!("[responder]\necho = false\n{UNLIMITED}"));
    let (other, _) = icmp_ctl::host::address_table::AddressTable::build(&[]);
    let elsewhere = Interface { mac: host::interface().mac ^ 2, ..host::interface() };
    for round in 0..3 {
        let _host = kernel.configure(UNLIMITED, &[]);
        let before = by_flows_in_kernel(&mut kernel);
        while by_flows_in_kernel(&mut kernel) == before {
            assert_eq!(kernel.run(Entry::Xdp, &frame).0, Verdict::Answer);
        }
        let maps = kernel.maps();
        let switch = maps.switch().expect("the switch can be read");
        match round {
            0 => maps.switch_policy(&off, None),
            1 => maps.switch_addresses(&other),
            _ => maps.set_interface(elsewhere),
        }
        .unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(kernel.run(Entry::Xdp, &frame).0, Verdict::Pass, "round {round}");
        let now = kernel.maps().switch().expect("the switch can be read");
        assert_eq!(now / SWITCH_CHANGE % 32, (switch / SWITCH_CHANGE + 1) % 32, "round {round}");
    }
}

#[test]
fn cleared_counters_are_zero_and_count_on() {
    if !can_run(&[]) {
        return;
    }
    let slot = host::interface().slot;
    let (mut kernel, _) = host::both(UNLIMITED, &[]);
    let frame = echo("192.0.2.1").frame();
    for runs in [40, 7] {
        for _ in 0..runs {
            assert_eq!(kernel.run(Entry::Xdp, &frame).0, Verdict::Answer);
        }
        let counters = kernel.counters();
        assert_eq!(counters.values().copied().collect::<Vec<_>>(), [(runs, runs * frame.len() as u64)]);
        kernel.maps().clear_counters(slot).unwrap_or_else(|e| panic!("{e:#}"));
        assert!(kernel.counters().is_empty(), "{:?}", kernel.counters());
    }
    assert!(by_flows_in_kernel(&mut kernel) > 0, "some went by a flow");
}

fn echo(from: &str) -> Echo {
    let address = |text: &str| text.parse().expect("an address");
    Echo::new(address(from), address(HOST), vec![0x5a; 56])
}
