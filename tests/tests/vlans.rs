//! No ping is answered that the kernel, which knows a frame's VLAN and whose frames an interface gets, leaves unanswered.
//!
//! Owns the cases that need no VLAN device; `cargo xtask vm-test` has the others, under kernels with VLAN devices (docs/vlans.md has all of
//! them).

use icmp_ctl::kernel::ethtool::TagOffloads;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_IF, PEER_MAC, Pair};
use nix::net::if_::if_nametoindex;

const ADDRESS: &str = "192.0.2.2";

/// A host that pings an address without asking for its MAC address.
fn pair() -> Option<Pair> {
    if !can_run(&["ip", "nsenter", "ping", "ethtool"]) {
        return None;
    }
    let pair = Pair::new(1500);
    let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    pair.peer.ip(&format!("neigh replace {ADDRESS} lladdr {mac} dev {PEER_IF}"));
    Some(pair)
}

fn is_answered(pair: &Pair) -> bool {
    let done = pair.peer.run("ping", &["-c2", "-i0.05", "-W1", ADDRESS]);
    assert!(matches!(done.code, Some(0 | 1)), "{done}");
    done.code == Some(0)
}

#[test]
fn below_a_macvlan_that_takes_frames_for_itself_nothing_is_answered_as_by_the_kernel() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Place {
        Here,
        MovedAway,
        // The host has no number for the namespace then.
        MadeElsewhere,
    }
    let modes = ["bridge", "passthru", "source nodst"];
    let places = [Place::Here, Place::MovedAway, Place::MadeElsewhere];
    for (mode, place) in modes.into_iter().flat_map(|mode| places.map(|place| (mode, place))) {
        let Some(pair) = pair() else { return };
        let container = Namespace::new("container");
        let maker = if place == Place::MadeElsewhere { &container } else { &pair.host };
        let lower = if place == Place::MadeElsewhere {
            container.ip(&format!("netns set {} 7", pair.host.name()));
            let index = pair.host.enter(|| if_nametoindex(HOST_IF).expect("it is there"));
            format!("if{index} link-netnsid 7")
        } else {
            HOST_IF.to_owned()
        };
        maker.ip(&format!("link add link {lower} name above type macvlan mode {mode}"));
        if mode == "source nodst" {
            let peer = PEER_MAC.map(|byte| format!("{byte:02x}")).join(":");
            maker.ip(&format!("link set above type macvlan macaddr add {peer}"));
        }
        if place == Place::MovedAway {
            pair.host.ip(&format!("link set above netns {}", container.name()));
        }
        let namespace = if place == Place::Here { &pair.host } else { &container };
        namespace.ip("link set above up");
        let by_the_kernel = is_answered(&pair);
        assert_eq!(by_the_kernel, mode == "bridge", "what this test goes by");
        let attached = Attached::new(&pair.host, HOST_IF);
        let doctor = ctl::run(&pair.host, &format!("doctor -j {HOST_IF}")).stdout;
        let said = match place {
            Place::MadeElsewhere => "that cannot be seen from here",
            _ if by_the_kernel => "fine",
            _ => "which takes frames for itself",
        };
        assert!(doctor.contains(said), "{mode}, {place:?}: {doctor}");
        assert_eq!(is_answered(&pair), by_the_kernel, "{mode}, {place:?}");
        // In doubt the kernel answers.
        let expected = by_the_kernel && place != Place::MadeElsewhere;
        let answered = attached.counters().answered();
        assert_eq!(answered != 0, expected, "{answered} answered in mode {mode}, {place:?}");
    }
}

#[test]
fn an_option_that_does_not_help_on_a_veth_says_so_and_changes_nothing() {
    let Some(pair) = pair() else { return };
    let offloads = || pair.host.run("ethtool", &["-k", HOST_IF]).expect_success();
    let before = offloads();
    assert!(before.contains("rx-vlan-offload: on"), "{before}");
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF} --mode native --disable-rx-vlan-offload"));
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("does not help on a veth"), "{done}");
    assert_eq!(offloads(), before);
    let _said = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn of_tags_nothing_is_said_where_no_vlan_is_in_use() {
    let Some(pair) = pair() else { return };
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF} --mode native"));
    assert_eq!((done.code, done.stderr.contains("tag")), (Some(0), false), "{done}");
    let status = ctl::run(&pair.host, "status -j").expect_success();
    assert!(status.contains("\"strips_tags\":false"), "{status}");
    let _said = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn the_offloads_of_a_driver_are_those_that_ethtool_names() {
    let Some(pair) = pair() else { return };
    for (customer, service) in [(true, true), (false, true), (true, false), (false, false)] {
        let word = |on| if on { "on" } else { "off" };
        let wanted = ["-K", HOST_IF, "rxvlan", word(customer), "rx-vlan-stag-hw-parse", word(service)];
        let _said = pair.host.run("ethtool", &wanted).expect_success();
        let read = pair.host.enter(|| TagOffloads::read(HOST_IF).unwrap_or_else(|e| panic!("{e:#}")));
        assert_eq!(read, TagOffloads { customer, service });
        let other = TagOffloads { customer: !customer, service: !service };
        pair.host.enter(|| other.write(HOST_IF).unwrap_or_else(|e| panic!("{e:#}")));
        let said = pair.host.run("ethtool", &["-k", HOST_IF]).expect_success();
        for line in [
            format!("rx-vlan-offload: {}", word(!customer)),
            format!("rx-vlan-stag-hw-parse: {}", word(!service)),
        ] {
            assert!(said.contains(&line), "{line} in {said}");
        }
    }
}
