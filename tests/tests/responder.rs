//! The operator's settings for answers: addresses, time to live, verification.
//!
//! Owns the settings of `[responder]` and the values that `attach` takes from the host, each seen from the wire.

use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::netns::{HOST_IF, HOST_MAC, PEER_IF, Pair, join};
use icmp_tests::packet::{self, Echo};
use icmp_tests::wire::{Seen, Tap};
use icmp_tests::xdp::PassLink;

#[test]
fn the_time_to_live_is_the_hosts_own() {
    let Some(pair) = pair(&["ping"]) else { return };
    pair.host.sysctl("net/ipv4/ip_default_ttl", "77");
    for scope in ["default", HOST_IF] {
        pair.host.sysctl(&format!("net/ipv6/conf/{scope}/hop_limit"), "78");
    }
    let attached = Attached::new(&pair.host, HOST_IF);
    for (target, ttl) in [("192.0.2.2", "ttl=77"), ("2001:db8::2", "ttl=78")] {
        let said = pair.peer.ping(&["-c1", target]);
        assert!(said.contains(ttl), "{ttl} in {said}");
    }
    assert_eq!(attached.counters().packets("answered"), 2);
}

#[test]
fn addresses_of_a_vip_prefix_are_answered_although_the_host_has_none_of_them() {
    let Some(pair) = pair(&["ping"]) else { return };
    let config = "[responder]\nvips = [\"203.0.113.64/26\", \"2001:db8:77::/64\"]\n";
    let attached = Attached::configured(&pair.host, HOST_IF, config);
    for target in ["203.0.113.64", "203.0.113.127", "2001:db8:77::", "2001:db8:77::1:2:3"] {
        let _said = pair.peer.ping(&["-c1", target]);
    }
    assert_eq!(attached.counters().packets("answered"), 4);
    for target in ["203.0.113.63", "203.0.113.128", "2001:db8:78::1"] {
        let wire = Wire::new(&pair);
        let frame = request(target).frame();
        assert_eq!(wire.what_becomes_of(&frame), Fate::Passed, "{target}");
    }
    assert_eq!(attached.counters().packets("answered"), 4);
}

#[test]
fn a_request_with_a_wrong_checksum_is_passed_by_default() {
    let Some(pair) = pair(&[]) else { return };
    let attached = Attached::new(&pair.host, HOST_IF);
    let wire = Wire::new(&pair);
    for target in ["192.0.2.2", "2001:db8::2"] {
        let mut frame = request(target).frame();
        *frame.last_mut().expect("it has data") ^= 1;
        assert_eq!(wire.what_becomes_of(&frame), Fate::Passed, "{target}");
    }
    assert_eq!(attached.counters().packets("bad-icmp-checksum"), 2);
}

#[test]
fn with_verify_header_a_wrong_checksum_stays_wrong_in_the_answer() {
    let Some(pair) = pair(&[]) else { return };
    let attached = Attached::configured(&pair.host, HOST_IF, "[responder]\nverify = \"header\"\n");
    let wire = Wire::new(&pair);
    for target in ["192.0.2.2", "2001:db8::2"] {
        let mut frame = request(target).frame();
        let Fate::Answered(right) = wire.what_becomes_of(&frame) else { panic!("{target} is not answered") };
        assert_eq!(packet::objections_to_reply(&right), Vec::<String>::new(), "{target}");

        *frame.last_mut().expect("it has data") ^= 1;
        let Fate::Answered(wrong) = wire.what_becomes_of(&frame) else { panic!("{target} is not answered") };
        let objections = packet::objections_to_reply(&wrong);
        assert_eq!(
            objections.len(),
            1,
            "only the receiver's check fails, as it would have here: {objections:?}"
        );
        assert!(objections[0].contains("checksum does not verify"), "{objections:?}");
    }
    assert_eq!(attached.counters().packets("answered"), 4);
}

#[test]
fn with_echo_off_the_stack_answers() {
    let Some(pair) = pair(&["ping"]) else { return };
    let attached = Attached::configured(&pair.host, HOST_IF, "[responder]\necho = false\n");
    for target in ["192.0.2.2", "2001:db8::2"] {
        let _said = pair.peer.ping(&["-c1", target]);
    }
    assert_eq!(attached.counters().packets("answered"), 0);
    assert_eq!((pair.host.snmp("Icmp", "InEchos"), pair.host.snmp("Icmp6", "InEchos")), (1, 1));
}

#[test]
fn an_address_of_another_interface_is_no_source_and_no_target() {
    let Some(pair) = pair(&[]) else { return };
    pair.host.ip("link add other0 type veth peer name other1");
    pair.host.ip("link set other0 up");
    pair.host.ip("address add 203.0.113.9/32 dev other0");
    pair.host.ip("address add 2001:db8:99::9/128 dev other0 nodad");
    let attached = Attached::new(&pair.host, HOST_IF);
    let wire = Wire::new(&pair);
    for (source, target) in [("203.0.113.9", "192.0.2.2"), ("2001:db8:99::9", "2001:db8::2")] {
        assert_eq!(wire.what_becomes_of(&from(source, target).frame()), Fate::Passed, "{source}");
    }
    assert_eq!(attached.counters().packets("own-source"), 2);
    for target in ["203.0.113.9", "2001:db8:99::9"] {
        assert_eq!(wire.what_becomes_of(&request(target).frame()), Fate::Passed, "{target}");
    }
    assert_eq!(attached.counters().packets("not-own-address"), 2);
}

#[test]
fn no_vip_prefix_is_wide_enough_for_a_loopback_address() {
    let Some(pair) = pair(&[]) else { return };
    let config = "[responder]\nwide-vips = true\nvips = [\"0.0.0.0/0\", \"::/0\"]\n";
    let attached = Attached::configured(&pair.host, HOST_IF, config);
    let wire = Wire::new(&pair);
    for target in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
        assert_eq!(wire.what_becomes_of(&request(target).frame()), Fate::Passed, "{target}");
    }
    assert_eq!(attached.counters().packets("not-own-address"), 4);
}

#[test]
fn a_link_local_address_is_answered_on_its_own_link_only() {
    let Some(pair) = pair(&[]) else { return };
    let second_mac = [2, 0, 0, 0, 1, 2];
    join(&pair.host, "host1", second_mac, &pair.peer, "peer1", [2, 0, 0, 0, 1, 1], 1500);
    pair.host.ip("address add fe80::ff:fe00:102/64 dev host1 nodad");
    let _pass = pair.peer.enter(|| PassLink::attach("peer1"));
    let _done = ctl::run(&pair.host, &format!("attach {HOST_IF} host1 --mode native")).expect_success();

    let to = |mac, address: &str| Echo { to_mac: mac, ..from("fe80::ff:fe00:1", address) }.frame();
    let (first, second) = (Wire::new(&pair), Wire::on(&pair, "host1", "peer1"));
    for (wire, mac, own, other) in [
        (first, HOST_MAC, "fe80::ff:fe00:2", "fe80::ff:fe00:102"),
        (second, second_mac, "fe80::ff:fe00:102", "fe80::ff:fe00:2"),
    ] {
        assert!(matches!(wire.what_becomes_of(&to(mac, own)), Fate::Answered(_)), "{own} on its link");
        assert_eq!(wire.what_becomes_of(&to(mac, other)), Fate::Passed, "{other} on another link");
    }
    for interface in [HOST_IF, "host1"] {
        let counters = ctl::counters(&pair.host, interface);
        assert_eq!(
            (counters.packets("answered"), counters.packets("not-own-address")),
            (1, 1),
            "{interface}"
        );
    }
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn on_a_port_of_a_bridge_its_addresses_are_answered_while_it_takes_the_frames_in() {
    let Some(pair) = pair(&["bridge"]) else { return };
    let host = &pair.host;
    let bridge_mac = [2, 0, 0, 0, 9, 9];
    host.ip("link add br0 address 02:00:00:00:09:09 type bridge");
    host.ip(&format!("link set {HOST_IF} master br0"));
    host.ip("link set br0 up");
    host.ip("address add 203.0.113.1/24 dev br0");
    host.ip("address add 2001:db8:7::1/64 dev br0 nodad");
    let attached = Attached::new(host, HOST_IF);
    let wire = Wire::new(&pair);
    let to = |to_mac, target| Echo { to_mac, ..request(target) }.frame();
    for target in ["203.0.113.1", "2001:db8:7::1"] {
        let Fate::Answered(reply) = wire.what_becomes_of(&to(bridge_mac, target)) else { panic!("{target}") };
        assert_eq!(reply[6..12], bridge_mac, "{target}");
        // The kernel takes it in, and the table has one MAC address.
        assert_eq!(wire.what_becomes_of(&to(HOST_MAC, target)), Fate::Passed, "{target}");
    }
    assert_eq!(wire.what_becomes_of(&to(bridge_mac, "192.0.2.2")), Fate::Passed, "the port's own address");
    for (passes, undo) in [
        ("bridge link set dev host0 state 0", "bridge link set dev host0 state 3"),
        ("bridge link set dev host0 locked on", "bridge link set dev host0 locked off"),
    ] {
        for (command, is_answered) in [(passes, false), (undo, true)] {
            let words: Vec<_> = command.split_whitespace().collect();
            let _done = host.run(words[0], &words[1..]).expect_success();
            let _done = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
            let fate = wire.what_becomes_of(&to(bridge_mac, "203.0.113.1"));
            assert_eq!(matches!(fate, Fate::Answered(_)), is_answered, "{command}");
        }
    }
    assert_eq!(attached.counters().packets("answered"), 4);
}

/// As a VRRP router sets up its virtual address (RFC 9568 section 7.3).
#[test]
fn a_macvlan_with_a_mac_address_of_its_own_is_answered_with_that() {
    let Some(pair) = pair(&[]) else { return };
    let virtual_mac = [0, 0, 0x5e, 0, 1, 0x0a];
    pair.host
        .ip(&format!("link add vrrp0 link {HOST_IF} address 00:00:5e:00:01:0a type macvlan mode private"));
    pair.host.ip("address add 192.0.2.10/24 dev vrrp0");
    pair.host.ip("address add 2001:db8::10/64 dev vrrp0 nodad");
    pair.host.ip("link set vrrp0 up");
    let attached = Attached::with(&pair.host, "vrrp0", "--mode generic");
    let (wire, below) = (Wire::on(&pair, "vrrp0", PEER_IF), Wire::new(&pair));
    for target in ["192.0.2.10", "2001:db8::10"] {
        let to = |to_mac| Echo { to_mac, ..request(target) }.frame();
        let Fate::Answered(reply) = wire.what_becomes_of(&to(virtual_mac)) else {
            panic!("{target} is not answered")
        };
        assert_eq!(reply[6..12], virtual_mac, "{target}");
        assert_eq!(below.what_becomes_of(&to(HOST_MAC)), Fate::Passed, "{target}");
    }
    assert_eq!(attached.counters().packets("answered"), 2);
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

/// From the peer, as its ping would send it.
fn request(target: &str) -> Echo {
    from(if target.contains(':') { "2001:db8::1" } else { "192.0.2.1" }, target)
}

fn from(source: &str, target: &str) -> Echo {
    let address = |text: &str| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    Echo::new(address(source), address(target), (0..56).collect())
}

/// What became of a frame from the peer.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The host's stack got it.
    Passed,
    /// The peer got this, and the host's stack nothing.
    Answered(Vec<u8>),
}

/// A packet socket at each end.
struct Wire {
    host: Tap,
    peer: Tap,
}

impl Wire {
    fn new(pair: &Pair) -> Self {
        Self::on(pair, HOST_IF, PEER_IF)
    }

    fn on(pair: &Pair, host: &str, peer: &str) -> Self {
        Self { host: pair.host.enter(|| Tap::open(host)), peer: pair.peer.enter(|| Tap::open(peer)) }
    }

    /// Waits for one or the other, which has to come.
    fn what_becomes_of(&self, frame: &[u8]) -> Fate {
        self.peer.send(frame).expect("sent");
        let deadline = Instant::now() + icmp_tests::process::LIMIT;
        let is_it = |seen: &Seen| !seen.outgoing && seen.frame == frame;
        let is_reply = |seen: &Seen| {
            !seen.outgoing && seen.frame.len() == frame.len() && seen.frame[..6] == frame[6..12]
        };
        while Instant::now() < deadline {
            let soon = Instant::now() + Duration::from_millis(5);
            if self.host.find(soon, is_it).is_some() {
                return Fate::Passed;
            }
            if let Some(reply) = self.peer.find(Instant::now(), is_reply) {
                // The stack would have been asked first.
                return if self.host.find(Instant::now(), is_it).is_some() {
                    Fate::Passed
                } else {
                    Fate::Answered(reply.frame)
                };
            }
        }
        panic!("neither passed nor answered: {frame:02x?}")
    }
}
