//! Sources that no other host has, the host's own among them, and destinations that are the kernel's: what the kernel acts on goes through
//! policy and limits, and none of it is answered here.
//!
//! Owns the comparison of the packet path with the kernel alone, which is asked by its own counters.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use icmp_common::abi::{AddressKind, Scope};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::host::address_table::OwnAddress;
use icmp_ctl::instance::program::Entry;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::host;
use icmp_tests::netns::{ELSEWHERE, HOST_IF, HOST_MAC, PEER_IF, PEER_MAC, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::vectors::from_hex;
use icmp_tests::wire::Tap;

const SOURCES4: [&str; 17] = [
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
];
const SOURCES6: [&str; 14] = [
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
];
const DESTINATIONS4: [&str; 6] =
    ["192.0.2.2", "224.0.0.1", "255.255.255.255", "192.0.2.255", "203.0.113.77", "127.0.0.1"];
const DESTINATIONS6: [&str; 4] = ["2001:db8::2", "fe80::ff:fe00:2", "ff02::1", "2001:db8:77::77"];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Echo request, an error, timestamp request or neighbour solicitation, from each source to each destination; and the frame of a report.
fn frames() -> Vec<(String, Vec<u8>)> {
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
            frames.push((format!("type {kind} from {from} to {to}"), echo.frame()));
        }
    }
    let reported = "02000000000d020000000001080045000024000100004001c8d4f0000001c00002020800161c000100017878787878787878";
    let mut frame = from_hex(reported).expect("a frame");
    frame[..6].copy_from_slice(&HOST_MAC);
    frames.push(("the one of the report".to_owned(), frame));
    frames
}

#[test]
fn odd_sources_are_never_answered_and_what_the_kernel_acts_on_goes_through_policy() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
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
    let tap = pair.peer.enter(|| Tap::open_for_incoming(PEER_IF));
    let received = || [pair.host.snmp("Icmp", "InMsgs"), pair.host.snmp("Icmp6", "InMsgs")];
    let (mut acted_on, mut bad) = (0, Vec::new());
    for (number, (what, frame)) in frames().iter().enumerate() {
        let (verdict, _) = answering.run(Entry::Xdp, frame);
        let is_elsewhere = what.ends_with("to 127.0.0.1")
            || ELSEWHERE.iter().any(|address| what.ends_with(address.split('/').next().expect("an address")));
        let is_ordinary = what.contains("from 1.0.0.1 ")
            || what.contains("from 223.255")
            || what.contains("1::1 ")
            || what.contains("64:ff9b");
        if verdict == Verdict::Answer && (is_elsewhere || !is_ordinary) {
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
        tap.send(frame).expect("sent");
        tap.send(&mark.frame()).expect("sent");
        let wanted = mark.second_word.to_be_bytes();
        let deadline = Instant::now() + Duration::from_secs(5);
        let reply = tap.find(deadline, |seen| {
            seen.frame.get(..6) == Some(&PEER_MAC)
                && seen.frame.get(34) == Some(&0)
                && seen.frame.get(38..42) == Some(&wanted)
        });
        assert!(reply.is_some(), "no answer to the ping behind {what}");
        let after = received();
        // Of ICMPv6 the kernel counts its own business as well: only what is IPv4 is exact.
        let is_ipv4 = frame[12..14] == [8, 0];
        let acted = if is_ipv4 { after[0] - before[0] > 1 } else { after[1] > before[1] };
        acted_on += u32::from(acted);
        if acted && reason != Reason::RuleDrop {
            bad.push(format!(
                "{what}: the kernel acts on it, and it ends in {} without a rule",
                reason.name()
            ));
        }
    }
    println!("the kernel acted on {acted_on} of {}", frames().len());
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
        anywhere.share_interface();
        assert_eq!(reason(&anywhere), Reason::NotOwnAddress, "{address}, where others listen");
        let somewhere = host_with(AddressKind::Somewhere);
        assert_eq!(reason(&somewhere), Reason::NotOwnAddress, "{address}, with VRFs");
    }
}
