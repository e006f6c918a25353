//! What a stranger can use up or break: which sender can use up which limit, from the link and from afar, and what is lost then.
//!
//! Owns the floods of one kind of message each and the messages that have to get through meanwhile, in the kernel and in memory.

use std::net::IpAddr;

use icmp_common::abi::INTERFACE_SHARED;
use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::Budget;
use icmp_ctl::instance::program::Entry;
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::limits::LimitName;
use icmp_tests::can_run;
use icmp_tests::host::{self, InKernel, OnHost, as_action};
use icmp_tests::packet::{Echo, put16};
use icmp_tests::vectors::from_hex;

const OWN4: &str = "192.0.2.2";
const OWN6: &str = "2001:db8::2";
/// The host's link-local address, and a neighbour's.
const OWN_LINK: &str = "fe80::ff:fe00:2";
const NEIGHBOUR: &str = "fe80::ff:fe00:1";
/// Somebody far away, and a router on the way.
const FAR4: &str = "203.0.113.9";
const FAR6: &str = "2001:db8:ffff::9";

/// Budgets of which nothing comes back while a test runs; eight of neighbour discovery are one for each sender.
const SMALL: &str = "
[limits]
errors = { rate = \"10/h\", burst = 40 }
path-mtu = { rate = \"10/h\", burst = 40 }
neighbour-discovery = { rate = \"10/h\", burst = 80 }
multicast-listener = { rate = \"10/h\", burst = 40 }
queries = { rate = \"10/h\", burst = 40 }
redirects = { rate = \"10/h\", burst = 40 }
unverified = { rate = \"10/h\", burst = 40 }
";

fn message(from: &str, to: &str, kind: u8, second_word: u32, data: Vec<u8>) -> Echo {
    Echo { kind: Some(kind), second_word, ..Echo::new(address(from), address(to), data) }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn octets(text: &str) -> Vec<u8> {
    match address(text) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An error about a packet from `sender`.
fn error(router: &str, own: &str, kind: u8, code: u8, second_word: u32, sender: &str) -> Echo {
    let quoted = Echo::new(address(sender), address(router), vec![0; 8]).frame()[14..].to_vec();
    Echo { code, ..message(router, own, kind, second_word, quoted) }
}

fn solicitation() -> Echo {
    Echo { ttl: 255, ..message(NEIGHBOUR, OWN_LINK, 135, 0, octets(OWN_LINK)) }
}

fn from_mac(echo: &Echo, last: u8) -> Echo {
    Echo { from_mac: [2, 0, 0, 0, 1, last], ..echo.clone() }
}

/// With a checksum that does not verify.
fn spoilt(echo: &Echo) -> Vec<u8> {
    let mut frame = echo.frame();
    *frame.last_mut().expect("it has data") ^= 1;
    frame
}

/// One host, twice.
struct Both {
    kernel: InKernel,
    host: OnHost,
}

impl Both {
    fn new(config: &str) -> Self {
        let (kernel, host) = host::both(config, &[]);
        Self { kernel, host }
    }

    /// Why the frame ends, on which kernel and host have to agree.
    fn reason(&self, frame: &[u8]) -> Reason {
        let reason = self.host.run(&mut frame.to_vec()).reason;
        let (verdict, _) = self.kernel.run(Entry::Xdp, frame);
        assert_eq!(verdict, as_action(reason.verdict()), "kernel and host, which says {}", reason.name());
        reason
    }

    fn ends(&self, frame: &[u8], expected: Reason, what: &str) {
        assert_eq!(self.reason(frame).name(), expected.name(), "{what}");
    }

    /// Runs so many of the frame; how many are passed.
    fn passed(&self, frame: &[u8], count: usize) -> usize {
        (0..count).filter(|_| self.reason(frame).verdict() == Verdict::Pass).count()
    }
}

// -------------------------------------------------------------------------------------------------- neighbour discovery

#[test]
fn neighbour_discovery_from_afar_is_dropped_as_shipped_and_spends_nothing() {
    if !can_run(&[]) {
        return;
    }
    let both = Both::new(SMALL);
    let valid = solicitation();
    let target = octets(OWN_LINK);
    for (what, frame) in [
        ("from afar", Echo { ttl: 57, ..valid.clone() }.frame()),
        ("with a code", Echo { code: 1, ..valid.clone() }.frame()),
        ("too short", Echo { data: target[..15].to_vec(), ..valid.clone() }.frame()),
        ("with a wrong checksum", spoilt(&valid)),
        (
            "with an option behind its end",
            Echo { data: [target, vec![1, 2, 0, 0, 0, 0, 0, 0]].concat(), ..valid.clone() }.frame(),
        ),
    ] {
        for _ in 0..200 {
            both.ends(&frame, Reason::BadDiscovery, what);
        }
    }
    both.ends(&valid.frame(), Reason::WithinLimit, "a valid one");
}

#[test]
fn neighbour_discovery_that_is_only_counted_spends_the_budget_of_what_fails() {
    if !can_run(&[]) {
        return;
    }
    let both = Both::new(&format!("{SMALL}[policy.checks]\nneighbour-discovery = \"count\"\n"));
    let far = Echo { ttl: 57, ..solicitation() }.frame();
    assert_eq!(both.passed(&far, 500), 40, "the budget `unverified`");
    both.ends(&solicitation().frame(), Reason::WithinLimit, "a valid one");
}

#[test]
fn one_sender_on_the_link_takes_an_eighth_of_neighbour_discovery_at_most() {
    if !can_run(&[]) {
        return;
    }
    let both = Both::new(SMALL);
    let greedy = from_mac(&solicitation(), 1).frame();
    assert_eq!(both.passed(&greedy, 1000), 10);
    for sender in 2..8 {
        assert_eq!(both.passed(&from_mac(&solicitation(), sender).frame(), 10), 10, "sender {sender}");
    }
}

#[test]
fn what_is_not_neighbour_discovery_spends_none_of_its_budget() {
    if !can_run(&[]) {
        return;
    }
    let both = Both::new(SMALL);
    // Inverse discovery, certification paths, duplicate addresses: some of them are routed, and none is checked.
    for kind in [141, 142, 148, 149, 157, 158] {
        let _some = both.passed(&message(FAR6, OWN6, kind, 0, vec![0; 24]).frame(), 200);
    }
    assert_eq!(both.passed(&solicitation().frame(), 10), 10);
}

// -------------------------------------------------------------------------------------------------------------- budgets

#[test]
fn errors_that_quote_nothing_of_ours_spend_nothing_that_others_need() {
    if !can_run(&[]) {
        return;
    }
    for (router, own, other, kind, code, mtu_kind, mtu_code) in
        [(FAR4, OWN4, FAR4, 3, 1, 3, 4), (FAR6, OWN6, FAR6, 1, 0, 2, 0)]
    {
        let both = Both::new(SMALL);
        let zeroes = Echo { code, ..message(router, own, kind, 0, vec![0; 8]) }.frame();
        assert_eq!(both.passed(&zeroes, 500), 40, "the budget `unverified`, from {router}");
        let others = error(router, own, mtu_kind, mtu_code, 1400, other).frame();
        assert_eq!(both.passed(&others, 500), 0, "it is one budget");
        both.ends(
            &error(router, own, kind, code, 0, own).frame(),
            Reason::WithinLimit,
            "an error about ours",
        );
        both.ends(
            &error(router, own, mtu_kind, mtu_code, 1400, own).frame(),
            Reason::WithinLimit,
            "a path MTU",
        );
    }
}

/// Floods from afar, what each of them may use up, and that nothing else is touched by it: docs/policy.md has the same list.
#[test]
fn a_flood_spends_the_budget_of_its_kind_and_no_other() {
    if !can_run(&[]) {
        return;
    }
    let hop_by_hop = Echo {
        ttl: 1,
        extensions: vec![(0, vec![0, 5, 2, 0, 0, 1, 0])],
        ..message(NEIGHBOUR, "ff02::1", 130, 0, vec![0; 16])
    };
    let redirect =
        Echo { ttl: 255, ..message(NEIGHBOUR, OWN_LINK, 137, 0, [octets("fe80::9"), octets(FAR6)].concat()) };
    let needed: [(Budget, Echo); 6] = [
        (Budget::Errors, error(FAR4, OWN4, 11, 0, 0, OWN4)),
        (Budget::PathMtu, error(FAR6, OWN6, 2, 0, 1400, OWN6)),
        (Budget::NeighbourDiscovery, solicitation()),
        (Budget::MulticastListener, hop_by_hop.clone()),
        (Budget::Queries, message(FAR4, OWN4, 0, 7, vec![0; 8])),
        (Budget::Redirects, redirect),
    ];
    // As from a router on the link, but for one thing each.
    let listener_far = message(FAR6, OWN6, 143, 0, vec![0; 16]);
    let listener_hop_limit = Echo { ttl: 2, ..hop_by_hop.clone() };
    let floods: [(Budget, Echo); 10] = [
        (Budget::Errors, error(FAR4, OWN4, 3, 1, 0, OWN4)),
        (Budget::PathMtu, error(FAR6, OWN6, 2, 0, 1400, OWN6)),
        (Budget::Queries, message(FAR6, OWN6, 129, 7, vec![0; 8])),
        (Budget::Queries, message(FAR6, OWN6, 141, 0, vec![0; 24])),
        (Budget::MulticastListener, hop_by_hop),
        (Budget::Unverified, Echo { ttl: 1, ..listener_far }),
        (Budget::Unverified, listener_hop_limit),
        (Budget::Redirects, error(FAR4, OWN4, 5, 1, 0, OWN4)),
        (Budget::Unverified, error(FAR4, OWN4, 5, 1, 0, FAR4)),
        (Budget::Unverified, error(FAR6, OWN6, 4, 0, 0, FAR6)),
    ];
    for (spent, flood) in floods {
        let both = Both::new(SMALL);
        let passed = both.passed(&flood.frame(), 500);
        assert_eq!(passed, 40, "{} is spent", spent.name());
        for (budget, echo) in &needed {
            let expected = if *budget == spent { Reason::LimitedBudget } else { Reason::WithinLimit };
            both.ends(&echo.frame(), expected, &format!("{} in a flood of {}", budget.name(), spent.name()));
        }
        both.ends(&Echo::new(address(FAR4), address(OWN4), vec![]).frame(), Reason::Answered, "a ping");
    }
}

#[test]
fn every_limit_that_can_be_set_is_in_the_documentation() {
    let cli = include_str!("../../docs/cli.md");
    let policy = include_str!("../../docs/policy.md");
    let (_, reference) = cli.split_once("```toml").expect("the configuration");
    let (_, set) = cli.split_once("### `limit set").expect("the verb");
    for limit in LimitName::settable() {
        let name = limit.name();
        assert!(
            reference.contains(&format!("\n{name} = {{ rate")),
            "{name} in the configuration's reference"
        );
        assert!(set.contains(&format!("`{name}`")), "{name} at `limit set`");
        assert!(policy.contains(&format!("| `{name}` |")), "{name} in docs/policy.md: who can spend it");
    }
}

#[test]
fn the_documented_defaults_are_those_of_an_empty_configuration() {
    let cli = include_str!("../../docs/cli.md");
    let (_, reference) = cli.split_once("[limits]\nmemory").expect("the limits");
    let (limits, _) = reference.split_once("# [policy]").expect("their end");
    let tick = Tick { per_second: 250.0 };
    let documented = host::policy_at(&format!("[limits]\nmemory{limits}"), tick).expect("it can be copied");
    let default = host::policy_at("", tick).expect("the default");
    assert_eq!(documented.settings, default.settings);
}

// --------------------------------------------------------------------------------------------------------------- groups

#[test]
fn messages_to_groups_that_are_not_ours_are_passed_untouched() {
    if !can_run(&[]) {
        return;
    }
    let mut both = Both::new(SMALL);
    let foreign = [
        Echo { ttl: 255, ..message(NEIGHBOUR, "ff02::1:ffad:beef", 135, 0, octets("fe80::ffad:beef")) },
        message(NEIGHBOUR, "ff02::2:1234:5678", 139, 0, vec![0; 16]),
        message(NEIGHBOUR, "ff02::fb", 128, 0, vec![0; 16]),
        message("192.0.2.1", "224.0.0.251", 17, 0, vec![0; 4]),
        message("192.0.2.1", "239.1.2.3", 13, 0, vec![0; 12]),
        message("192.0.2.1", "192.0.3.255", 17, 0, vec![0; 4]),
    ];
    let ours = [
        (
            Echo { ttl: 255, ..message(NEIGHBOUR, "ff02::1:ff00:2", 135, 0, octets(OWN_LINK)) },
            Reason::WithinLimit,
        ),
        (message(NEIGHBOUR, "ff02::1", 139, 0, vec![0; 16]), Reason::PolicyDrop),
        (message("192.0.2.1", "224.0.0.1", 17, 0, vec![0; 4]), Reason::PolicyDrop),
        (message("192.0.2.1", "255.255.255.255", 17, 0, vec![0; 4]), Reason::PolicyDrop),
        (message("192.0.2.1", "192.0.2.255", 17, 0, vec![0; 4]), Reason::PolicyDrop),
    ];
    for echo in &foreign {
        for _ in 0..100 {
            both.ends(&echo.frame(), Reason::NotOwnAddress, &echo.to.to_string());
        }
    }
    for (echo, reason) in &ours {
        both.ends(&echo.frame(), *reason, &echo.to.to_string());
    }
    // A bridge port, or the parent of a macvlan: the groups are those of other hosts, too.
    both.kernel.flag_interface(INTERFACE_SHARED);
    both.host.flag_interface(INTERFACE_SHARED);
    for echo in foreign.iter().chain(ours.iter().map(|(echo, _)| echo)) {
        let echo = Echo { to_mac: [0xff; 6], ..echo.clone() };
        both.ends(&echo.frame(), Reason::NotOwnAddress, &format!("{} where others listen", echo.to));
    }
    both.ends(&solicitation().frame(), Reason::WithinLimit, "what is for this host alone");
    both.ends(&Echo::new(address(FAR4), address(OWN4), vec![]).frame(), Reason::Answered, "and its pings");
}

// -------------------------------------------------------------------------------------------------------------- sources

#[test]
fn no_ipv6_source_spends_what_an_ipv4_host_has() {
    if !can_run(&[]) {
        return;
    }
    let both = Both::new(
        "[limits]\nper-source = { rate = \"2/h\", burst = 10 }\nper-prefix = { rate = \"2/h\", burst = 10 }\n",
    );
    let ping = |from: &str, to: &str| Echo::new(address(from), address(to), vec![0; 8]).frame();
    for low in 1..100 {
        let _some = both.reason(&ping(&format!("0:0:c633:6407::{low:x}"), OWN6));
    }
    for _ in 0..10 {
        both.ends(&ping("198.51.100.7", OWN4), Reason::Answered, "the host with these bits in IPv4");
    }
    both.ends(&ping("198.51.100.7", OWN4), Reason::LimitedSource, "and no more");
}

#[test]
fn an_unlimited_rule_exempts_from_the_limits_of_its_source_within_the_total() {
    if !can_run(&[]) {
        return;
    }
    let text = |limit: &str| {
        format!(
            "[limits]\nper-source = {{ rate = \"2/h\", burst = 5 }}\nreplies = {{ rate = \"2/h\", burst = 100 }}\n\
             [[policy.rule]]\nname = \"monitors\"\nfrom = \"203.0.113.9\"\naction = \"answer\"\n{limit}"
        )
    };
    let answered = |both: &Both| {
        let frame = Echo::new(address(FAR4), address(OWN4), vec![0; 8]).frame();
        (0..1000).filter(|_| both.reason(&frame) == Reason::Answered).count()
    };
    assert_eq!(answered(&Both::new(&text(""))), 5, "a rule without a limit exempts nobody");
    let exempt = Both::new(&text("limit = \"unlimited\"\n"));
    assert_eq!(answered(&exempt), 100, "the total holds for all");
    let policy = host::policy_of(&text("limit = \"unlimited\"\n"));
    let tick = Tick::of_this_kernel().expect("a clock");
    let shown = policy.rules()[0].text(tick);
    assert!(shown.ends_with("-> answer limit unlimited"), "{shown}");
    assert!(
        !host::policy_of(&text("")).rules()[0].text(tick).contains("limit"),
        "what it does not have is not shown"
    );
}

#[test]
fn a_source_that_may_send_one_packet_at_a_time_can_become_known() {
    const EPOCH_SECONDS: f64 = 4.2;
    let config = "[limits]\nper-source = { rate = \"10/s\", burst = 1 }\nreplies = { rate = \"1000/s\", burst = 1000 }\n";
    let host = host::on_host(config, &[]);
    let epoch = (Tick::of_this_kernel().expect("a clock").per_second * EPOCH_SECONDS) as u64;
    let ping = |from: IpAddr| host.run(&mut Echo::new(from, address(OWN4), vec![]).frame()).reason;
    let monitor = address("203.0.113.9");
    for number in 0..12 {
        host.tables().set_ticks((1 << 32) + number * epoch);
        assert_eq!(ping(monitor), Reason::Answered);
    }
    host.tables().set_ticks((1 << 32) + 12 * epoch);
    let strangers: Vec<_> =
        (0..2000_u32).map(|n| ping(std::net::Ipv4Addr::from(0x2000_0000 + n * 257).into())).collect();
    assert_eq!(strangers.last(), Some(&Reason::LimitedTotal), "nothing is left for strangers");
    assert_eq!(ping(monitor), Reason::Answered);
}

// ---------------------------------------------------------------------------------------------------------- small quotes

#[test]
fn whole_packets_that_are_short_are_quotes() {
    if !can_run(&[]) {
        return;
    }
    let both = Both::new("[policy.checks]\nquote = \"drop\"\n");
    // Of the public report: protocol unreachable about a packet of twenty bytes.
    let reported = "02000000000d020000000001080045000030000100004001f6c8c0000201c00002020302fcfd00000000450000140001000001fdbae0c0000202cb007109";
    let mut frame = from_hex(reported).expect("a frame");
    frame[..6].copy_from_slice(&icmp_tests::netns::HOST_MAC);
    both.ends(&frame, Reason::WithinLimit, "the one of the report");
    for (own, header, kind, code, router) in [(OWN4, 20, 3, 2, FAR4), (OWN6, 40, 1, 4, FAR6)] {
        for payload in 0..8 {
            // A header, and so much behind it.
            let mut quoted =
                Echo::new(address(own), address(router), vec![]).frame()[14..][..header + payload].to_vec();
            if header == 20 {
                put16(&mut quoted, 2, u16::try_from(header + payload).expect("small"));
            } else {
                put16(&mut quoted, 4, u16::try_from(payload).expect("small"));
            }
            let whole = Echo { code, ..message(router, own, kind, 0, quoted.clone()) };
            both.ends(&whole.frame(), Reason::WithinLimit, &format!("{} bytes, all of them", quoted.len()));
            let cut = Echo { data: quoted[..quoted.len() - 1].to_vec(), ..whole };
            both.ends(&cut.frame(), Reason::BadQuote, &format!("one of {} is missing", quoted.len()));
        }
    }
}

// -------------------------------------------------------------------------------------------------------------- path MTU

/// A request whose answer is an IP packet of this length.
fn ping_of(from: &str, own: &str, len: usize) -> Vec<u8> {
    let headers = if own.contains(':') { 48 } else { 28 };
    Echo::new(address(from), address(own), vec![7; len - headers]).frame()
}

#[test]
fn answers_longer_than_a_path_mtu_that_was_reported_are_the_kernels() {
    if !can_run(&[]) {
        return;
    }
    for (router, own, kind, code, mtu) in [(FAR4, OWN4, 3, 4, 1280), (FAR6, OWN6, 2, 0, 1280)] {
        let both = Both::new("");
        both.ends(&ping_of(router, own, 1448), Reason::Answered, "before");
        both.ends(&error(router, own, kind, code, mtu, own).frame(), Reason::WithinLimit, "the report");
        both.ends(&ping_of(router, own, 1448), Reason::BeyondPathMtu, "a long one");
        both.ends(&ping_of(router, own, 1281), Reason::BeyondPathMtu, "a byte too long");
        both.ends(&ping_of(router, own, 1280), Reason::Answered, "just as long");
        both.ends(&ping_of(router, own, 100), Reason::Answered, "a short one");
        // A larger one of another router changes nothing, a smaller one does.
        both.ends(&error(router, own, kind, code, 1400, own).frame(), Reason::WithinLimit, "a larger report");
        both.ends(&ping_of(router, own, 1281), Reason::BeyondPathMtu, "the smallest counts");
    }
    let both = Both::new("");
    both.ends(&error(FAR4, OWN4, 3, 4, 576, OWN4).frame(), Reason::WithinLimit, "a small one of IPv4");
    both.ends(&ping_of(FAR4, OWN4, 577), Reason::BeyondPathMtu, "IPv4");
    both.ends(&error(FAR4, OWN4, 3, 4, 0, OWN4).frame(), Reason::WithinLimit, "an old router's");
    both.ends(&ping_of(FAR4, OWN4, 553), Reason::BeyondPathMtu, "which can mean any");
    both.ends(&ping_of(FAR4, OWN4, 552), Reason::Answered, "but none below what the kernel believes");
    both.ends(&ping_of(FAR6, OWN6, 1280), Reason::Answered, "nor below that of IPv6");
    both.ends(&ping_of(FAR6, OWN6, 1281), Reason::BeyondPathMtu, "IPv6");
}

#[test]
fn no_report_of_a_path_mtu_takes_pings_of_the_usual_size_from_the_program() {
    let host = host::on_host("", &[]);
    for (router, own, kind, code, mtu) in
        [(FAR4, OWN4, 3, 4, 68), (FAR4, OWN4, 3, 4, 0), (FAR6, OWN6, 2, 0, 1280)]
    {
        assert_eq!(
            host.run(&mut error(router, own, kind, code, mtu, own).frame()).reason,
            Reason::WithinLimit
        );
        for len in [84, 552] {
            assert_eq!(
                host.run(&mut ping_of(router, own, len)).reason,
                Reason::Answered,
                "{len} after {mtu}"
            );
        }
    }
}

#[test]
fn a_path_mtu_is_forgotten_after_ten_minutes() {
    let host = host::on_host("", &[]);
    let tick = Tick::of_this_kernel().expect("a clock").per_second;
    let after = |seconds: f64| host.tables().set_ticks((1 << 32) + (seconds * tick) as u64);
    let ping = || host.run(&mut ping_of(FAR6, OWN6, 1448)).reason;
    assert_eq!(host.run(&mut error(FAR6, OWN6, 2, 0, 1280, OWN6).frame()).reason, Reason::WithinLimit);
    // How long it lasts is a number of epochs, which are a power of two of ticks.
    for (seconds, reason) in
        [(0.0, Reason::BeyondPathMtu), (470.0, Reason::BeyondPathMtu), (800.0, Reason::Answered)]
    {
        after(seconds);
        assert_eq!(ping(), reason, "after {seconds} seconds");
    }
    assert_eq!(host.run(&mut error(FAR6, OWN6, 2, 0, 1400, OWN6).frame()).reason, Reason::WithinLimit);
    assert_eq!(ping(), Reason::BeyondPathMtu, "a larger one than what is forgotten");
    assert_eq!(host.run(&mut ping_of(FAR6, OWN6, 1400)).reason, Reason::Answered);
}

#[test]
fn a_path_mtu_that_is_not_to_be_believed_changes_nothing() {
    if !can_run(&[]) {
        return;
    }
    for checks in ["count", "drop", "off"] {
        let text = format!("[policy.checks]\nquote = \"{checks}\"\npath-mtu = \"{checks}\"\n");
        for (router, own, other, kind, code, below) in
            [(FAR4, OWN4, FAR4, 3, 4, 67), (FAR6, OWN6, FAR6, 2, 0, 1279)]
        {
            let both = Both::new(&text);
            let valid = error(router, own, kind, code, 1280, own);
            for (what, frame) in [
                ("about another's packet", error(router, own, kind, code, 1280, other).frame()),
                ("smaller than any link's", error(router, own, kind, code, below, own).frame()),
                ("with a wrong checksum", spoilt(&valid)),
                ("another error", error(router, own, kind, 9, 1280, other).frame()),
            ] {
                let _ended = both.reason(&frame);
                both.ends(&ping_of(router, own, 1448), Reason::Answered, &format!("{what}, with {checks}"));
            }
        }
    }
    let both = Both::new(
        "[limits]\npath-mtu = { rate = \"10/s\", burst = 10 }\n[policy]\nallow-break = [\"pmtud\"]\n[policy.ipv4]\n\"3/4\" = \"drop\"\n",
    );
    both.ends(
        &error(FAR4, OWN4, 3, 4, 1280, OWN4).frame(),
        Reason::PolicyDrop,
        "one that the kernel does not see",
    );
    both.ends(&ping_of(FAR4, OWN4, 1448), Reason::Answered, "so the kernel would not go by it either");
}
