//! Rules as compiled against rules as meant, in the kernel and on the host.
//!
//! Owns random policies and messages, and for each condition a message that just matches and one that just does not.

use std::fmt::Write as _;
use std::net::IpAddr;

use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::config::file::Config;
use icmp_ctl::host::defaults::HostDefaults;
use icmp_ctl::instance::program::Entry;
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::compile::compile_policy;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::generate::{self, Random};
use icmp_tests::host::{self, as_action};
use icmp_tests::interpreter::{Judgement, judge};
use icmp_tests::packet::{Echo, Tag};

const VLANS: [u16; 2] = [1, 100];

#[test]
fn compiled_rules_decide_as_one_rule_after_the_other_would() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let mut random = Random::new(generate::seed());
    let mut reasons = std::collections::BTreeSet::new();
    let (mut by_rule, mut would) = (0, 0);
    let mut kernel = host::unconfigured();
    for round in 0..40 {
        let text = policy(&mut random, round);
        let host = kernel.configure(&text, &VLANS);
        let rules = host::policy_of(&text).rules();
        let mut hits = vec![(0, 0); rules.len()];
        for _ in 0..150 {
            let echo = message(&mut random);
            let frame = echo.frame();
            let expected = judge(&rules, &echo);
            let outcome = host.run(&mut frame.clone());
            assert_eq!(outcome.reason, expected.reason, "{expected:?} of {echo:?} with {text}");
            let (verdict, _) = kernel.run(Entry::Xdp, &frame);
            assert_eq!(verdict, as_action(expected.reason.verdict()), "{expected:?} of {echo:?} with {text}");
            let Judgement { decided, would_decide, reason } = expected;
            if let Some(i) = decided {
                hits[i].0 += 1;
                by_rule += 1;
            }
            if let Some(i) = would_decide {
                hits[i].1 += 1;
                would += 1;
            }
            reasons.insert(reason.name());
        }
        // On the host nothing was there before, so each rule has the slot of its position.
        for rule_counters in [kernel.counters_in_force(), host.rule_counters()] {
            let counted: Vec<_> =
                rule_counters[..rules.len()].iter().map(|t| (t.hits, t.would_hit)).collect();
            assert_eq!(counted, hits, "hits and would-hits with {text}");
        }
    }
    println!("{by_rule} decided by rules, {would} would have been; ended for {reasons:?}");
    assert!(by_rule > 1000 && would > 200, "the rules match: {by_rule} and {would} of 6000");
    assert!(reasons.len() >= 6, "the messages end for many reasons: {reasons:?}");
}

#[test]
fn each_condition_is_met_by_what_just_meets_it_and_not_by_what_just_does_not() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let from = |from: &str| {
        let from: IpAddr = from.parse().expect("an address");
        let to = if from.is_ipv4() { "192.0.2.2" } else { "2001:db8::2" };
        Echo {
            kind: Some(if from.is_ipv4() { 13 } else { 144 }),
            ..Echo::new(from, to.parse().expect("one"), vec![0; 12])
        }
    };
    let (v4, v6) = (from("203.0.113.9"), from("2001:db8:77::9"));
    let tagged = |echo: &Echo, vlan| Echo { tags: vec![Tag { tpid: 0x8100, tci: vlan }], ..echo.clone() };
    let cases = [
        ("family = \"ipv6\"", v6.clone(), v4.clone()),
        ("from = \"203.0.113.8/31\"", v4.clone(), from("203.0.113.10")),
        ("from = [\"203.0.112.0/24\", \"203.0.113.9\"]", v4.clone(), from("203.0.113.8")),
        ("from = \"2001:db8:77::/48\"", v6.clone(), from("2001:db8:78::")),
        ("from = \"2001:db8:77::8/127\"", v6.clone(), from("2001:db8:77::a")),
        ("to = \"192.0.2.2\"", v4.clone(), Echo { to: "192.0.2.77".parse().expect("one"), ..v4.clone() }),
        (
            "to = \"2001:db8::/64\"",
            v6.clone(),
            Echo { to: "2001:db8:0:1::2".parse().expect("one"), ..v6.clone() },
        ),
        ("type = \"timestamp-request\"", v4.clone(), Echo { kind: Some(14), ..v4.clone() }),
        ("type = \"13/0\"\nfamily = \"ipv4\"", v4.clone(), Echo { code: 1, ..v4.clone() }),
        ("type = [\"144/7\", \"145\"]\nfamily = \"ipv6\"", Echo { code: 7, ..v6.clone() }, v6.clone()),
        ("vlan = 100", tagged(&v4, 100), tagged(&v4, 1)),
        ("vlan = [0, 1]", v4.clone(), tagged(&v4, 100)),
        ("length = \"20-20\"", v4.clone(), Echo { data: vec![0; 13], ..v4.clone() }),
        ("length = \"0-20\"", v6.clone(), Echo { data: vec![0; 13], ..v6.clone() }),
        ("length = \"21-\"", Echo { data: vec![0; 13], ..v4.clone() }, v4.clone()),
        ("hop-limit = \"64-\"", v4.clone(), Echo { ttl: 63, ..v4.clone() }),
        ("hop-limit = \"0-64\"", v6.clone(), Echo { ttl: 65, ..v6.clone() }),
        ("hop-limit = 255", Echo { ttl: 255, ..v6.clone() }, v6.clone()),
    ];
    let mut kernel = host::unconfigured();
    for (condition, matching, other) in cases {
        let text = format!("{UNLIMITED}[[policy.rule]]\nname = \"x\"\naction = \"drop\"\n{condition}\n");
        let host = kernel.configure(&text, &VLANS);
        for (echo, dropped) in [(matching, true), (other, false)] {
            let reason = host.run(&mut echo.frame()).reason;
            assert_eq!(reason == Reason::RuleDrop, dropped, "{condition}: {} for {echo:?}", reason.name());
            let (verdict, _) = kernel.run(Entry::Xdp, &echo.frame());
            assert_eq!(verdict == Verdict::Drop, dropped, "{condition} in the kernel, for {echo:?}");
        }
    }
}

#[test]
fn a_rule_with_a_limit_stands_for_the_other_limits_and_has_a_cap() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    // So slow that nothing comes back while the test runs.
    let text = "
[limits]
per-source = { rate = \"2/h\", burst = 2 }
[[policy.rule]]
name = \"monitors\"
from = \"203.0.113.9\"
action = \"answer\"
limit = \"2/h\"
burst = 5
";
    let (mut kernel, host) = host::both(text, &[]);
    for (from, answered) in [("203.0.113.9", 5), ("203.0.113.10", 2)] {
        let echo = Echo::new(from.parse().expect("one"), "192.0.2.2".parse().expect("one"), vec![0; 8]);
        let (mut by_kernel, mut by_host) = (0, 0);
        for _ in 0..10 {
            by_kernel += u32::from(kernel.run(Entry::Xdp, &echo.frame()).0 == Verdict::Answer);
            by_host += u32::from(host.run(&mut echo.frame()).reason == Reason::Answered);
        }
        assert_eq!((by_kernel, by_host), (answered, answered), "{from}");
    }
    for rule_counter in [kernel.rule_counters()[0], host.rule_counters()[0]] {
        assert_eq!((rule_counter.hits, rule_counter.limited), (10, 5));
    }
}

#[test]
fn an_audited_limit_counts_what_it_would_refuse_and_refuses_nothing() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let text = format!(
        "{UNLIMITED}[[policy.rule]]\nname = \"x\"\naction = \"limit\"\nlimit = \"2/h\"\nburst = 4\naudit = true\n"
    );
    let (mut kernel, host) = host::both(&text, &[]);
    let echo = Echo::new("203.0.113.9".parse().expect("one"), "192.0.2.2".parse().expect("one"), vec![0; 8]);
    for _ in 0..10 {
        assert_eq!(kernel.run(Entry::Xdp, &echo.frame()).0, Verdict::Answer);
        assert_eq!(host.run(&mut echo.frame()).reason, Reason::Answered);
    }
    for rule_counter in [kernel.rule_counters()[0], host.rule_counters()[0]] {
        assert_eq!(
            (rule_counter.hits, rule_counter.limited, rule_counter.would_hit, rule_counter.would_limit),
            (0, 0, 10, 6)
        );
    }
}

const NETS: [&str; 14] = [
    "203.0.113.0/24",
    "203.0.113.8/31",
    "203.0.113.9",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "128.0.0.0/1",
    "192.0.2.0/25",
    "198.51.100.2",
    "2001:db8::/32",
    "2001:db8:77::/48",
    "2001:db8:77::9",
    "::/0",
    "fe80::/10",
    "2001:db8::2",
];
const FROM: [&str; 8] = [
    "203.0.113.9",
    "203.0.113.10",
    "203.0.114.1",
    "10.255.255.254",
    "192.0.2.1",
    "2001:db8:77::9",
    "2001:db8:78::1",
    "fe80::ff:fe00:1",
];
const TYPES: [&str; 10] = [
    "echo-request",
    "destination-unreachable",
    "time-exceeded",
    "time-exceeded/1",
    "echo-request/9",
    "echo-reply",
    "parameter-problem/0",
    "0-20",
    "100-200",
    "1/3",
];

/// Random rules, some of which can match nothing together.
fn policy(random: &mut Random, round: usize) -> String {
    let mut text = format!(
        "{UNLIMITED}[policy.checks]\nquote = \"off\"\npath-mtu = \"off\"\nneighbour-discovery = \"off\"\n"
    );
    for i in 0..=random.below(64) {
        let mut rule =
            format!("[[policy.rule]]\nname = \"rule-{round}-{i}\"\naudit = {}\n", random.once_in(3));
        for (key, one_in) in [("from", 2), ("to", 4)] {
            if random.once_in(one_in) {
                let nets: Vec<_> = (0..=random.below(3)).map(|_| random.pick(&NETS)).collect();
                let _ = writeln!(rule, "{key} = {nets:?}");
            }
        }
        let answers = random.once_in(4);
        let family = random.pick(&["ipv4", "ipv6"]);
        if answers {
            rule.push_str("action = \"answer\"\n");
        } else {
            let _ = writeln!(rule, "action = {:?}", random.pick(&["drop", "pass"]));
            if random.once_in(2) {
                let types: Vec<_> = (0..=random.below(2)).map(|_| random.pick(&TYPES)).collect();
                let _ = writeln!(rule, "family = {family:?}\ntype = {types:?}");
            }
        }
        if random.once_in(5) {
            let _ = writeln!(rule, "vlan = {}", random.pick(&["0", "100", "[0, 1]", "[1, 100, 7]"]));
        }
        if random.once_in(5) {
            let _ = writeln!(rule, "length = {:?}", random.pick(&["8", "9-64", "64-", "-1000", "1000-"]));
        }
        if random.once_in(5) {
            let _ = writeln!(rule, "hop-limit = {:?}", random.pick(&["0", "64", "1-63", "64-", "-254"]));
        }
        // Families that do not meet are refused, rightly.
        let alone = Config::parse(&rule, "test").expect("well-formed");
        let host = HostDefaults { ttl: 64, hop_limit: 64 };
        if compile_policy(&alone, Tick { per_second: 250.0 }, host, 1).is_ok() {
            text.push_str(&rule);
        }
    }
    text
}

/// A message that reaches the policy: for an address of the host, from one that another host can have.
fn message(random: &mut Random) -> Echo {
    let from: IpAddr = random.pick(&FROM).parse().expect("an address");
    let tags = match random.below(4) {
        0 => vec![Tag { tpid: 0x8100, tci: random.pick(&[0, 1, 100, 0xe000]) }],
        _ => Vec::new(),
    };
    let on_vlan = tags.iter().any(|tag| tag.tci & 0xfff != 0);
    // On a VLAN the host owns its first address only.
    let to = match (from.is_ipv4(), on_vlan) {
        (true, true) => "192.0.2.2",
        (true, false) => random.pick(&["192.0.2.2", "192.0.2.77", "198.51.100.2"]),
        (false, true) => "2001:db8::2",
        (false, false) => random.pick(&["2001:db8::2", "2001:db8:0:1::2"]),
    };
    let length = random.pick(&[0, 1, 8, 56, 57, 991, 992, 1400]);
    let mut echo = Echo::new(from, to.parse().expect("an address"), vec![0; length]);
    echo.tags = tags;
    echo.ttl = random.pick(&[0, 1, 63, 64, 65, 254, 255]);
    echo.code = random.pick(&[0, 0, 0, 1, 3, 9]);
    if random.once_in(2) {
        echo.kind = Some(random.byte_or(&[0, 1, 3, 8, 11, 12, 13, 128, 129, 135, 150]));
    }
    echo
}
