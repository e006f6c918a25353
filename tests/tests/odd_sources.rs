//! Sources that no other host has, the host's own among them, destinations that are the kernel's, and packets that are never answered: those
//! that the kernel acts on go through policy and limits, and none is answered here.
//!
//! Owns the comparison of the packet path with the kernel alone, by the kernel's own counters.

use std::net::IpAddr;
use std::time::Instant;

use icmp_common::abi::{AddressKind, INTERFACE_MAC_SHARED, INTERFACE_SHARED, Scope};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::host::address_table::OwnAddress;
use icmp_ctl::instance::program::Entry;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::host;
use icmp_tests::netns::{ANYCAST, ELSEWHERE, GROUPS_ELSEWHERE, HOST_IF, HOST_MAC, PEER_IF, PEER_MAC, Pair};
use icmp_tests::packet::{self, ETHERTYPE_IPV4, Echo, Layers, Tag, put16};
use icmp_tests::vectors::from_hex;
use icmp_tests::wire::Tap;

const SOURCES4: [&str; 18] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "250.1.2.3",
    "255.255.255.254",
    "255.255.255.255",
    "192.0.2.0",
    "192.0.2.255",
    "1.0.0.1",
    "223.255.255.255",
    "192.0.2.2",
    "192.0.2.77",
    "198.51.100.2",
    GROUPS_ELSEWHERE[0],
];
const SOURCES6: [&str; 16] = [
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::c633:6407",
    "::ffff:192.0.2.9",
    "::1:0:0:1",
    "0:0:0:1::1",
    "64:ff9b::1",
    "ff02::1",
    "ff0e::1",
    "2001:db8::2",
    "2001:db8:0:1::2",
    "fe80::ff:fe00:2",
    ANYCAST,
    GROUPS_ELSEWHERE[1],
];
const DESTINATIONS4: [&str; 7] = [
    "192.0.2.2",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.255",
    "203.0.113.77",
    "127.0.0.1",
    GROUPS_ELSEWHERE[0],
];
const DESTINATIONS6: [&str; 6] =
    ["2001:db8::2", "fe80::ff:fe00:2", "ff02::1", "2001:db8:77::77", ANYCAST, GROUPS_ELSEWHERE[1]];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Echo request, an error, timestamp request or neighbour solicitation, from each source to each destination; and the frame of a report.
fn frames() -> Vec<(String, Vec<Vec<u8>>)> {
    let mut frames = Vec::new();
    for (sources, destinations, kinds) in
        [(&SOURCES4[..], &DESTINATIONS4[..], [8, 3, 13]), (&SOURCES6, &DESTINATIONS6, [128, 1, 135])]
    {
        for (from, to, kind) in sources
            .iter()
            .flat_map(|from| destinations.iter().flat_map(move |to| kinds.map(|kind| (from, to, kind))))
        {
            let echo =
                Echo { kind: Some(kind), ttl: 255, ..Echo::new(address(from), address(to), vec![0; 48]) };
            frames.push((format!("type {kind} from {from} to {to}"), vec![echo.frame()]));
        }
    }
    let reported = "02000000000d020000000001080045000024000100004001c8d4f0000001c00002020800161c000100017878787878787878";
    let mut frame = from_hex(reported).expect("a frame");
    frame[..6].copy_from_slice(&HOST_MAC);
    frames.push(("the one of the report".to_owned(), vec![frame]));
    frames
}

#[test]
fn odd_sources_are_never_answered_and_what_the_kernel_acts_on_goes_through_policy() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    compare_with_the_kernel(&frames(), |what| {
        let is_elsewhere = what.ends_with("to 127.0.0.1")
            || what.ends_with(ANYCAST)
            || GROUPS_ELSEWHERE.iter().any(|address| what.ends_with(address))
            || ELSEWHERE.iter().any(|address| what.ends_with(address.split('/').next().expect("an address")));
        let is_ordinary = what.contains("from 1.0.0.1 ")
            || what.contains("from 223.255")
            || what.contains("1::1 ")
            || what.contains("64:ff9b");
        is_ordinary && !is_elsewhere
    });
}

/// Sends all frames of each entry to the kernel alone, and holds what the program would do with the first of them against what the kernel
/// does. `may_be_answered` says of which the program may answer.
fn compare_with_the_kernel(entries: &[(String, Vec<Vec<u8>>)], may_be_answered: impl Fn(&str) -> bool) {
    // Whatever gets as far as the rules is dropped.
    let everything = format!(
        "{UNLIMITED}[policy.checks]\nquote = \"off\"\nneighbour-discovery = \"off\"\n[[policy.rule]]\nname = \"all\"\naction = \"drop\"\n"
    );
    let (judging, by_rules) = host::both(&everything, &[]);
    let (answering, _) = host::both(UNLIMITED, &[]);
    let pair = Pair::new(1500);
    // The kernel, which has a default route, is to act on as much as it can be made to.
    for scope in ["all", HOST_IF] {
        pair.host.sysctl(&format!("net/ipv4/conf/{scope}/route_localnet"), "1");
        pair.host.sysctl(&format!("net/ipv4/conf/{scope}/accept_local"), "1");
        pair.host.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0");
    }
    pair.host.sysctl("net/ipv4/icmp_echo_ignore_broadcasts", "0");
    for address in ELSEWHERE {
        pair.host.ip(&format!("address add {address} dev lo"));
    }
    // A router has anycast addresses.
    pair.host.sysctl("net/ipv6/conf/all/forwarding", "1");
    pair.host.ip("link add other0 type veth peer name other1");
    pair.host.ip("link set other1 up");
    pair.host.ip("link set other0 up");
    for address in ["203.0.113.65/26", "2001:db8:e::1/64"] {
        pair.host.ip(&format!("address add {address} dev other0"));
    }
    let tap = pair.peer.enter(|| Tap::open_for_incoming(PEER_IF));
    let received = || [pair.host.snmp("Icmp", "InMsgs"), pair.host.snmp("Icmp6", "InMsgs")];
    let (mut acted_on, mut bad) = (0, Vec::new());
    for (number, (what, frames)) in entries.iter().enumerate() {
        let frame = &frames[0];
        let (verdict, _) = answering.run(Entry::Xdp, frame);
        if verdict == Verdict::Answer && !may_be_answered(what) {
            bad.push(format!("{what}: answered"));
        }
        let reason = by_rules.run(&mut frame.clone()).reason;
        let (verdict, _) = judging.run(Entry::Xdp, frame);
        assert_eq!(
            verdict,
            host::as_action(reason.verdict()),
            "kernel and host, which says {}: {what}",
            reason.name()
        );
        // A ping behind it tells when it has been seen to.
        let mark = Echo {
            second_word: 0x4d41_0000 | u32::try_from(number).expect("few"),
            ..Echo::new(address("192.0.2.1"), address("192.0.2.2"), vec![0x4d; 8])
        };
        let before = received();
        for frame in frames {
            tap.send(frame).expect("sent");
        }
        tap.send(&mark.frame()).expect("sent");
        let wanted = mark.second_word.to_be_bytes();
        let deadline = Instant::now() + icmp_tests::process::LIMIT;
        let reply = tap.find(deadline, |seen| {
            seen.frame.get(..6) == Some(&PEER_MAC)
                && seen.frame.get(34) == Some(&0)
                && seen.frame.get(38..42) == Some(&wanted)
        });
        assert!(reply.is_some(), "no answer to the ping behind {what}");
        let after = received();
        // Of ICMPv6 the kernel counts its own business as well: only what is IPv4 is exact.
        let is_ipv4 = Layers::of(frame).is_some_and(|layers| layers.ethertype == ETHERTYPE_IPV4);
        let acted = if is_ipv4 { after[0] - before[0] > 1 } else { after[1] > before[1] };
        acted_on += usize::from(acted);
        if !acted {
            println!("the kernel does not act on: {what}");
        }
        if acted && reason != Reason::RuleDrop {
            bad.push(format!(
                "{what}: the kernel acts on it, and it ends in {} without a rule",
                reason.name()
            ));
        }
    }
    println!("the kernel acted on {acted_on} of {}", entries.len());
    assert!(acted_on > 20, "the kernel acts on some of them: {acted_on}");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn what_another_interface_has_is_left_alone_where_it_may_be_another_hosts() {
    for address in ELSEWHERE.map(|text| address(text.split('/').next().expect("an address"))) {
        let (from, reply) = if address.is_ipv4() { ("192.0.2.1", 14) } else { ("2001:db8::1", 129) };
        let echo = Echo { kind: Some(reply), ..Echo::new(from.parse().expect("one"), address, vec![0; 12]) };
        let reason = |host: &host::OnHost| host.run(&mut echo.frame()).reason;
        let host_with = |kind| host::on_host_with(&[OwnAddress { address, scope: Scope::ANYWHERE, kind }]);
        let mut anywhere = host_with(AddressKind::Anywhere);
        assert_eq!(reason(&anywhere), Reason::WithinLimit, "{address}");
        for (flags, expected) in
            [(INTERFACE_SHARED, Reason::WithinLimit), (INTERFACE_MAC_SHARED, Reason::NotOwnAddress)]
        {
            anywhere.flag_interface(flags);
            assert_eq!(reason(&anywhere), expected, "{address}, flags {flags}");
        }
        let somewhere = host_with(AddressKind::Somewhere);
        assert_eq!(reason(&somewhere), Reason::NotOwnAddress, "{address}, with VRFs");
    }
}

/// An IPv4 packet in two fragments, of which the first has 24 bytes of the message.
fn fragments4(echo: &Echo) -> Vec<Vec<u8>> {
    let whole = Echo { fragment: 0, ..echo.clone() }.frame();
    let (headers, message) = whole.split_at(34);
    let fragment = |part: &[u8], field: u16| {
        let mut frame = [headers, part].concat();
        put16(&mut frame, 16, u16::try_from(20 + part.len()).expect("short"));
        put16(&mut frame, 20, field);
        put16(&mut frame, 24, 0);
        let sum = packet::checksum(&frame[14..34]);
        put16(&mut frame, 24, sum);
        frame
    };
    vec![fragment(&message[..24], 0x2000), fragment(&message[24..], 3)]
}

/// An IPv6 packet in two fragments, of which the first has 24 bytes of what is behind its header.
fn fragments6(echo: &Echo) -> Vec<Vec<u8>> {
    let whole = echo.frame();
    let (headers, behind) = whole.split_at(54);
    let fragment = |part: &[u8], field: u16| {
        let mut frame = headers.to_vec();
        let next_header = std::mem::replace(&mut frame[20], 44);
        put16(&mut frame, 18, u16::try_from(8 + part.len()).expect("short"));
        frame.extend([next_header, 0]);
        frame.extend(field.to_be_bytes());
        frame.extend(echo.second_word.to_be_bytes());
        frame.extend(part);
        frame
    };
    vec![fragment(&behind[..24], 1), fragment(&behind[24..], 24)]
}

/// A kind of packet that is never answered: what makes it one, as all frames that it takes.
type Unusual = (&'static str, IpAddr, fn(Echo) -> Vec<Vec<u8>>);

/// Every kind of packet that is never answered whatever its addresses are.
fn unusual() -> Vec<Unusual> {
    /// Extension headers by kind, eight bytes each.
    fn behind(mut echo: Echo, kinds: &[u8]) -> Echo {
        // A pad of four bytes, no segments left, or the first and last fragment.
        let content = |kind| if matches!(kind, 43 | 44) { [0; 7] } else { [0, 1, 4, 0, 0, 0, 0] };
        echo.extensions = kinds.iter().map(|kind| (*kind, content(*kind).to_vec())).collect();
        echo
    }
    fn one(echo: &Echo) -> Vec<Vec<u8>> {
        vec![echo.frame()]
    }
    fn tagged(mut echo: Echo, tags: &[u16]) -> Vec<Vec<u8>> {
        echo.tags = tags.iter().map(|tpid| Tag { tpid: *tpid, tci: 0 }).collect();
        one(&echo)
    }
    let (v4, v6) = (address("192.0.2.2"), address("2001:db8::2"));
    vec![
        ("no-operation options", v4, |echo| one(&Echo { options: vec![1; 4], ..echo })),
        ("a record-route option", v4, |echo| one(&Echo { options: vec![7, 7, 4, 0, 0, 0, 0, 0], ..echo })),
        ("forty bytes of options", v4, |echo| one(&Echo { options: vec![1; 40], ..echo })),
        ("the reserved flag", v4, |echo| one(&Echo { fragment: 0x8000, ..echo })),
        ("two IPv4 fragments", v4, |echo| fragments4(&echo)),
        ("hop-by-hop options", v6, |echo| one(&behind(echo, &[0]))),
        ("destination options", v6, |echo| one(&behind(echo, &[60]))),
        ("a routing header", v6, |echo| one(&behind(echo, &[43]))),
        ("an atomic fragment", v6, |echo| one(&behind(echo, &[44]))),
        ("one header of each kind", v6, |echo| one(&behind(echo, &[0, 60, 43, 44, 60]))),
        ("two IPv6 fragments", v6, |echo| fragments6(&echo)),
        ("fragments before destination options", v6, |echo| fragments6(&behind(echo, &[60]))),
        ("a first fragment that ends within the chain", v6, |echo| fragments6(&behind(echo, &[60; 4]))),
        ("a first fragment that ends within a header within the chain", v6, |echo| {
            let mut echo = behind(echo, &[60; 4]);
            echo.extensions[2].1 = vec![1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            fragments6(&echo)
        }),
        ("eight destination options headers", v6, |echo| one(&behind(echo, &[60; 8]))),
        ("nine destination options headers", v6, |echo| one(&behind(echo, &[60; 9]))),
        ("forty destination options headers", v6, |echo| one(&behind(echo, &[60; 40]))),
        ("a length of zero before hop-by-hop options", v6, |echo| {
            let mut frames = one(&behind(echo, &[0]));
            put16(&mut frames[0], 18, 0);
            frames
        }),
        ("two tags of VLAN 0 over IPv4", v4, |echo| tagged(echo, &[0x8100; 2])),
        ("three tags of VLAN 0 over IPv4", v4, |echo| tagged(echo, &[0x88a8, 0x8100, 0x8100])),
        ("forty tags of VLAN 0 over IPv4", v4, |echo| tagged(echo, &[0x8100; 40])),
        ("two tags of VLAN 0 over IPv6", v6, |echo| tagged(echo, &[0x8100; 2])),
        ("tags of VLAN 0, and options", v4, |echo| {
            tagged(Echo { options: vec![1; 4], ..echo }, &[0x8100; 2])
        }),
    ]
}

/// A message of a type that the peer sends to an address of the host.
fn from_peer(to: IpAddr, kind: u8) -> Echo {
    let from = address(if to.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" });
    Echo {
        kind: Some(kind),
        second_word: u32::from(kind) << 16 | 0x7c,
        ..Echo::new(from, to, vec![0x2a; 48])
    }
}

#[test]
fn what_is_unusual_about_a_packet_keeps_the_kernel_from_nothing_and_policy_from_nothing() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let mut entries = Vec::new();
    for (what, to, build) in unusual() {
        for kind in if to.is_ipv4() { [8, 0, 13] } else { [128, 129, 1] } {
            entries.push((format!("type {kind} with {what}"), build(from_peer(to, kind))));
        }
    }
    compare_with_the_kernel(&entries, |_| false);
}

#[test]
fn limits_hold_for_pings_that_are_never_answered_and_within_them_each_is_passed_with_its_reason() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let config = "[limits]\nper-source = { rate = \"2/h\", burst = 5 }\n";
    for (what, to, build) in unusual() {
        let (kernel, host) = host::both(config, &[]);
        let request = build(from_peer(to, if to.is_ipv4() { 8 } else { 128 })).swap_remove(0);
        let reason = match what {
            _ if ["nine", "forty dest", "within the chain"]
                .iter()
                .any(|unreadable| what.contains(unreadable)) =>
            {
                Reason::PolicyDrop
            }
            _ if what.contains("options") && to.is_ipv4() => Reason::IpOptions,
            _ if what.contains("tags") => Reason::UnknownVlan,
            "a record-route option" => Reason::IpOptions,
            "the reserved flag" => Reason::ReservedFlag,
            "two IPv4 fragments" => Reason::Fragment,
            _ => Reason::ExtensionHeader,
        };
        for number in 0..12 {
            let ended = host.run(&mut request.clone()).reason;
            let expected =
                if reason != Reason::PolicyDrop && number >= 5 { Reason::LimitedSource } else { reason };
            assert_eq!(ended.name(), expected.name(), "request {number} with {what}");
            let (verdict, after) = kernel.run(Entry::Xdp, &request);
            assert_eq!(verdict, host::as_action(ended.verdict()), "request {number} with {what}");
            assert_eq!(after, request, "with {what}");
        }
    }
}

#[test]
fn only_the_first_fragment_is_judged_and_charged() {
    let host = host::on_host("[limits]\nper-source = { rate = \"2/h\", burst = 1 }\n", &[]);
    for (to, kind, reason) in
        [("192.0.2.2", 8, Reason::Fragment), ("2001:db8::2", 128, Reason::ExtensionHeader)]
    {
        let echo = from_peer(address(to), kind);
        let fragments = if kind == 8 { fragments4(&echo) } else { fragments6(&echo) };
        for _ in 0..5 {
            assert_eq!(host.run(&mut fragments[1].clone()).reason, reason, "{to}");
        }
        assert_eq!(host.run(&mut fragments[0].clone()).reason, reason, "{to}");
        assert_eq!(host.run(&mut fragments[0].clone()).reason, Reason::LimitedSource, "{to}");
    }
}

#[test]
fn neighbour_discovery_in_fragments_fails_its_check_and_a_path_mtu_in_one_does_not() {
    let host = host::on_host(UNLIMITED, &[]);
    let mut solicitation = Echo {
        kind: Some(135),
        ttl: 255,
        second_word: 0,
        ..Echo::new(address("2001:db8::1"), address("2001:db8::2"), vec![])
    };
    solicitation.data = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2].to_vec();
    assert_eq!(host.run(&mut solicitation.frame()).reason, Reason::WithinLimit);
    solicitation.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0])];
    assert_eq!(host.run(&mut solicitation.frame()).reason, Reason::WithinLimit);
    solicitation.extensions = vec![(44, vec![0; 7])];
    assert_eq!(host.run(&mut solicitation.frame()).reason, Reason::BadDiscovery);
    let quoted = Echo::new(address("2001:db8::2"), address("2001:db8::9"), vec![0; 64]).frame().split_off(14);
    let report = Echo {
        kind: Some(2),
        second_word: 1400,
        ..Echo::new(address("2001:db8::1"), address("2001:db8::2"), quoted)
    };
    let whole = report.frame();
    let mut first = whole[..54].to_vec();
    first[20] = 44;
    first.extend([58, 0, 0, 1, 0, 0, 0, 1]);
    first.extend(&whole[54..54 + 80]);
    put16(&mut first, 18, 88);
    assert_eq!(host.run(&mut first).reason, Reason::WithinLimit, "its sum is that of the whole message");
    let large = Echo::new(address("2001:db8::1"), address("2001:db8::2"), vec![0; 1380]);
    assert_eq!(host.run(&mut large.frame()).reason, Reason::BeyondPathMtu, "and it is believed");
}

#[test]
fn listener_messages_behind_hop_by_hop_options_are_charged_to_their_budget() {
    let host = host::on_host("[limits]\nmulticast-listener = { rate = \"2/h\", burst = 5 }\n", &[]);
    let mut query = Echo {
        kind: Some(130),
        ttl: 1,
        to_mac: [0x33, 0x33, 0, 0, 0, 1],
        ..Echo::new(address("fe80::ff:fe00:1"), address("ff02::1"), vec![0; 16])
    };
    query.extensions = vec![(0, vec![0, 5, 2, 0, 0, 1, 0])];
    let reasons: Vec<_> = (0..7).map(|_| host.run(&mut query.frame()).reason).collect();
    assert_eq!(reasons[..5], [Reason::WithinLimit; 5]);
    assert_eq!(reasons[5..], [Reason::LimitedBudget; 2]);
}
