//! The checks of messages: which messages they let through, and which they do not.
//!
//! Owns the golden frames under checks that drop, the ways in which neighbour discovery can be wrong, and the router guard.

use icmp_common::path::checks::check_counter;
use std::net::IpAddr;

use icmp_common::path::checks::Check;
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::instance::program::Entry;
use icmp_tests::can_run;
use icmp_tests::comparator::{Outcome, objections};
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::host::{self, InKernel, OnHost, as_action};
use icmp_tests::packet::Echo;
use icmp_tests::vectors;

const DROP: &str = "[policy.checks]\nquote = \"drop\"\npath-mtu = \"drop\"\nneighbour-discovery = \"drop\"\n";

#[test]
fn with_checks_that_drop_every_vector_is_judged_right() {
    if !can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let _host = kernel.configure(&format!("{UNLIMITED}{DROP}"), &[100]);
    let mut bad = Vec::new();
    // The host on the VLAN knows more than the one without, which its own vectors are for.
    for vector in vectors::all().iter().filter(|v| v.frame.len() >= 14 && !v.id.starts_with("vlan")) {
        let outcome = match kernel.run(Entry::Xdp, &vector.frame) {
            (Verdict::Answer, reply) => Outcome::Answer(reply),
            (Verdict::Pass, _) => Outcome::Pass,
            (Verdict::Drop | Verdict::Limit, _) => Outcome::Drop,
        };
        bad.extend(objections(vector, &outcome).into_iter().map(|why| format!("{}: {why}", vector.id)));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn each_check_drops_counts_or_is_off_as_configured() {
    if !can_run(&[]) {
        return;
    }
    let failing = [
        ("v4-t3-c4-mtu67", Check::PathMtu, Reason::BadPathMtu),
        ("v6-t2-mtu1279", Check::PathMtu, Reason::BadPathMtu),
        ("v4-err-short-19", Check::Quote, Reason::BadQuote),
        ("v6-t1-short", Check::Quote, Reason::BadQuote),
        ("v6-t2-foreign", Check::Quote, Reason::BadQuote),
        ("v6-nd-ns-hl254", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-na-hl1", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-rs-hl64", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-ra-hl1", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-redirect-hl1", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-ns-opt0", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-ns-mctarget", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-ns-unspec-sll", Check::NeighbourDiscovery, Reason::BadDiscovery),
        ("v6-nd-redirect-global-src", Check::NeighbourDiscovery, Reason::BadDiscovery),
    ];
    let mut kernel = host::unconfigured();
    let all = vectors::all();
    for mode in ["drop", "count", "off"] {
        let host = kernel.configure(&(UNLIMITED.to_owned() + &DROP.replace("drop", mode)), &[]);
        for (id, check, reason) in failing {
            let frame = &all.iter().find(|v| v.id == id).expect("a vector").frame;
            let expected = if mode == "drop" { reason } else { Reason::WithinLimit };
            let failed = u64::from(mode != "off");
            let ended = both(&mut kernel, &host, frame, check, failed);
            assert_eq!(ended.name(), expected.name(), "{id} with {mode}");
        }
    }
}

#[test]
fn neighbour_discovery_is_held_to_its_rfc_and_to_no_more() {
    if !can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let host = kernel.configure(&format!("{UNLIMITED}{DROP}"), &[]);
    let (own, all_nodes, router) = ("fe80::ff:fe00:2", "ff02::1", "fe80::ff:fe00:1");
    let target = |text: &str| text.parse::<std::net::Ipv6Addr>().expect("an address").octets().to_vec();
    let build = |kind: u8, from: &str, to: &str, second_word: u32, data: Vec<u8>| Echo {
        kind: Some(kind),
        ttl: 255,
        second_word,
        ..Echo::new(from.parse().expect("one"), to.parse().expect("one"), data)
    };
    let link_layer = |kind: u8| vec![kind, 1, 2, 0, 0, 0, 0, 1];
    let unknown = |units: u8| [vec![200, units], vec![0; usize::from(units) * 8 - 2]].concat();
    let solicit = build(135, router, own, 0, [target(own), link_layer(1)].concat());
    let advertise = build(134, router, all_nodes, 0x4000_0708, [vec![0; 8], link_layer(1)].concat());
    let redirect = build(137, router, own, 0, [target("fe80::9"), target("2001:db8::77")].concat());
    let data = |echo: &Echo, data: Vec<u8>| Echo { data, ..echo.clone() };
    let valid = [
        ("a solicitation", solicit.clone()),
        ("one without options", data(&solicit, target(own))),
        (
            "one with options nobody knows",
            data(&solicit, [target(own), unknown(1), unknown(7), link_layer(1)].concat()),
        ),
        (
            "one with more options than are looked at",
            data(&solicit, [target(own), unknown(1).repeat(20)].concat()),
        ),
        ("duplicate address detection", build(135, "::", "ff02::1:ff00:2", 0, target("2001:db8::2"))),
        (
            "a solicited advertisement",
            build(136, router, own, 0x6000_0000, [target(router), link_layer(2)].concat()),
        ),
        ("an unsolicited one to all", build(136, router, all_nodes, 0x2000_0000, target(router))),
        ("a router solicitation", build(133, router, "ff02::2", 0, link_layer(1))),
        ("one from nobody yet", build(133, "::", "ff02::2", 0, Vec::new())),
        ("a router advertisement", advertise.clone()),
        ("a redirect", redirect.clone()),
        (
            "a redirect to the target itself",
            data(&redirect, [target("2001:db8::77"), target("2001:db8::77")].concat()),
        ),
    ];
    let wrong = [
        ("from beyond the link", Echo { ttl: 254, ..solicit.clone() }),
        ("with a code", Echo { code: 1, ..solicit.clone() }),
        ("too short", data(&solicit, target(own)[..15].to_vec())),
        ("with an option of no length", data(&solicit, [target(own), vec![1, 0, 0, 0, 0, 0, 0, 0]].concat())),
        (
            "the same behind another option",
            data(&solicit, [target(own), unknown(3), vec![9, 0, 0, 0, 0, 0, 0, 0]].concat()),
        ),
        ("about a group", data(&solicit, target("ff02::7"))),
        ("from nobody to a host's group of all", build(135, "::", all_nodes, 0, target("2001:db8::2"))),
        (
            "from nobody with its link-layer address",
            build(135, "::", "ff02::1:ff00:2", 0, [target("2001:db8::2"), link_layer(1)].concat()),
        ),
        ("solicited and to all", build(136, router, all_nodes, 0x4000_0000, target(router))),
        ("a router solicitation from nobody with its address", build(133, "::", "ff02::2", 0, link_layer(1))),
        ("a router of another link", Echo { from: "2001:db8::1".parse().expect("one"), ..advertise.clone() }),
        ("a router advertisement that is too short", data(&advertise, vec![0; 7])),
        (
            "a redirect of another link's router",
            Echo { from: "2001:db8::1".parse().expect("one"), ..redirect.clone() },
        ),
        ("a redirect for a group", data(&redirect, [target("fe80::9"), target("ff0e::1")].concat())),
        (
            "a redirect to a far gateway",
            data(&redirect, [target("2001:db8::9"), target("2001:db8::77")].concat()),
        ),
        ("a redirect that is too short", data(&redirect, vec![0xfe; 31])),
    ];
    for (what, echo) in valid {
        let ended = both(&mut kernel, &host, &echo.frame(), Check::NeighbourDiscovery, 0);
        assert_eq!(ended.name(), Reason::WithinLimit.name(), "{what} is valid");
    }
    for (what, echo) in wrong {
        let ended = both(&mut kernel, &host, &echo.frame(), Check::NeighbourDiscovery, 1);
        assert_eq!(ended.name(), Reason::BadDiscovery.name(), "{what} is not valid");
    }
}

#[test]
fn quoted_packets_are_those_of_the_address_the_error_is_for() {
    if !can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let host = kernel.configure(&format!("{UNLIMITED}{DROP}"), &[]);
    for (router, own, other, kind) in
        [("203.0.113.9", "192.0.2.2", "192.0.2.3", 11), ("2001:db8:ffff::1", "2001:db8::2", "2001:db8::3", 3)]
    {
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let error = |quoted: Vec<u8>| Echo {
            kind: Some(kind),
            second_word: 0,
            ..Echo::new(address(router), address(own), quoted)
        };
        let quote = |from: &str| Echo::new(address(from), address(router), vec![0; 4]).frame()[14..].to_vec();
        let complete = if own.contains(':') { 48 } else { 28 };
        let mut other_version = quote(own);
        other_version[0] ^= 0xf0;
        for (what, quoted, valid) in [
            ("whole", quote(own), true),
            ("just complete", quote(own)[..complete].to_vec(), true),
            ("a byte short", quote(own)[..complete - 1].to_vec(), false),
            ("of somebody else", quote(other), false),
            ("of another version", other_version, false),
        ] {
            let frame = error(quoted).frame();
            let ended = both(&mut kernel, &host, &frame, Check::Quote, u64::from(!valid));
            let expected = if valid { Reason::WithinLimit } else { Reason::BadQuote };
            assert_eq!(ended.name(), expected.name(), "{what}, from {router}");
        }
    }
}

#[test]
fn the_router_guard_knows_its_routers() {
    if !can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let config = format!(
        "{UNLIMITED}[policy.checks]\nrouter-guard = \"drop\"\nrouters = [\"fe80::1\", \"fe80::2\"]\n"
    );
    let host = kernel.configure(&config, &[]);
    for (from, named) in [("fe80::1", true), ("fe80::2", true), ("fe80::3", false), ("fe80:0:0:1::1", false)]
    {
        let advertisement = Echo {
            kind: Some(134),
            ttl: 255,
            ..Echo::new(from.parse().expect("one"), "ff02::1".parse().expect("one"), vec![0; 8])
        };
        let ended = both(&mut kernel, &host, &advertisement.frame(), Check::RouterGuard, u64::from(!named));
        let expected = if named { Reason::WithinLimit } else { Reason::RouterGuard };
        assert_eq!(ended.name(), expected.name(), "{from}");
    }
}

#[test]
fn every_check_that_drops_drops_whatever_else_the_message_fails() {
    if !can_run(&[]) {
        return;
    }
    let build = |kind: u8, code: u8, from: &str, to: &str, second_word: u32| Echo {
        kind: Some(kind),
        code,
        second_word,
        ..Echo::new(from.parse().expect("one"), to.parse().expect("one"), vec![0; 48])
    };
    let own = "fe80::ff:fe00:2";
    // A path MTU that cannot be, about a packet that is not ours; an advertisement from afar, of a router that is not named.
    let messages = [
        (build(3, 4, "198.51.100.7", "192.0.2.2", 20), [Check::PathMtu, Check::Quote]),
        (build(2, 0, "2001:db8:7::1", "2001:db8::2", 20), [Check::PathMtu, Check::Quote]),
        (build(134, 0, "fe80::9", own, 0), [Check::NeighbourDiscovery, Check::RouterGuard]),
    ];
    let mut kernel = host::unconfigured();
    for (message, failed) in messages {
        for drops in 0..2 {
            for other in ["off", "count"] {
                let (check, beside) = (failed[drops], failed[1 - drops]);
                let config = format!(
                    "{UNLIMITED}[policy.checks]\nrouters = [\"fe80::1\"]\n{} = \"drop\"\n{} = \"{other}\"\n",
                    check.name(),
                    beside.name()
                );
                let host = kernel.configure(&config, &[]);
                let counted = |host: &OnHost| host.rule_counters()[check_counter(beside) as usize].hits;
                let before = counted(&host);
                let ended = both(&mut kernel, &host, &message.frame(), check, 1);
                assert_eq!(
                    ended.verdict(),
                    Verdict::Drop,
                    "{} beside {other}: {}",
                    check.name(),
                    ended.name()
                );
                assert_eq!(counted(&host) - before, u64::from(other == "count"), "{}", beside.name());
            }
        }
    }
}

/// How the frame ends, on which kernel and host have to agree, and in that so many messages more have failed a check.
fn both(kernel: &mut InKernel, host: &OnHost, frame: &[u8], check: Check, failed: u64) -> Reason {
    let index = check_counter(check) as usize;
    let before = (kernel.rule_counters()[index].hits, host.rule_counters()[index].hits);
    let reason = host.run(&mut frame.to_vec()).reason;
    let (verdict, _) = kernel.run(Entry::Xdp, frame);
    assert_eq!(verdict, as_action(reason.verdict()), "kernel and host, which says {}", reason.name());
    let after = (kernel.rule_counters()[index].hits, host.rule_counters()[index].hits);
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (failed, failed),
        "failed {}: {}",
        check.name(),
        reason.name()
    );
    reason
}
