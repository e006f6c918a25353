//! Real clients, across namespaces: what people and their tools see of a host that has the program.
//!
//! Owns the proof that the fast path answers what it should (the program's counter rises and the stack's
//! `InEchos` does not), and that everything else about the host works as before.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached, UNLIMITED};
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_IF, PEER_MAC, Pair, join, quiet};
use icmp_tests::packet::{self, Echo};
use icmp_tests::wire::Tap;
use icmp_tests::xdp::PassLink;

/// Every address of the host that a client can name.
const TARGETS: [&str; 6] =
    ["192.0.2.2", "192.0.2.77", "198.51.100.2", "2001:db8::2", "2001:db8:0:1::2", "fe80::ff:fe00:2%peer0"];

#[test]
fn every_address_of_the_host_is_answered_by_the_program() {
    let Some(world) = World::new(&["ping"]) else { return };
    let host = world.attach();
    for target in TARGETS {
        host.answers(3, || world.ping(target, 3, 56));
    }
}

#[test]
fn a_ping_that_fits_the_mtu_is_answered_by_the_program_and_a_larger_one_by_the_kernel() {
    let Some(world) = World::new(&["ping"]) else { return };
    let host = world.attach();
    for size in [0, 1, 8, 56, 1000, 1472] {
        host.answers(3, || world.ping("192.0.2.2", 3, size));
    }
    for size in [1473, 8000, 65507] {
        host.leaves_to_the_kernel(3, || world.ping("192.0.2.2", 3, size));
    }
    for size in [0, 1, 8, 56, 1000, 1452] {
        host.answers(3, || world.ping("2001:db8::2", 3, size));
    }
    for size in [1453, 8000, 65507] {
        host.leaves_to_the_kernel(3, || world.ping("2001:db8::2", 3, size));
    }
}

#[test]
fn a_flood_of_pings_loses_nothing() {
    let Some(world) = World::new(&["ping"]) else { return };
    let attached = Attached::configured(&world.pair.host, HOST_IF, UNLIMITED);
    let host = Host { pair: &world.pair, attached };
    for target in ["192.0.2.2", "2001:db8::2"] {
        host.answers(2000, || {
            let said = world.pair.peer.ping(&["-f", "-q", "-c", "2000", target]);
            assert!(said.contains(" 0% packet loss"), "{said}");
        });
    }
}

#[test]
fn fping_finds_every_address_alive() {
    let Some(world) = World::new(&["fping"]) else { return };
    let host = world.attach();
    let v4 = &TARGETS[..3];
    host.answers(15, || {
        let done = world.pair.peer.run("fping", &[&["-4", "-q", "-c", "5", "-p", "20"], v4].concat());
        assert_eq!(done.code, Some(0), "{done}");
        assert_eq!(done.output().matches("xmt/rcv/%loss = 5/5/0%").count(), 3, "{done}");
    });
    let v6 = &TARGETS[3..5];
    host.answers(10, || {
        let done = world.pair.peer.run("fping", &[&["-6", "-q", "-c", "5", "-p", "20"], v6].concat());
        assert_eq!(done.code, Some(0), "{done}");
        assert_eq!(done.output().matches("xmt/rcv/%loss = 5/5/0%").count(), 2, "{done}");
    });
}

#[test]
fn nping_loses_no_reply() {
    let Some(world) = World::new(&["nping"]) else { return };
    let host = world.attach();
    host.answers(5, || {
        let said = world
            .pair
            .peer
            .run("nping", &["--icmp", "-c", "5", "--rate", "50", "192.0.2.2"])
            .expect_success();
        assert!(said.contains("Rcvd: 5"), "{said}");
    });
}

#[test]
fn hping3_loses_no_reply() {
    let Some(world) = World::new(&["hping3"]) else { return };
    let host = world.attach();
    host.answers(5, || {
        let done = world.pair.peer.run("hping3", &["--icmp", "-c", "5", "-i", "u20000", "192.0.2.2"]);
        assert!(done.output().contains("5 packets transmitted, 5 packets received"), "{done}");
    });
}

#[test]
fn traceroute_ends_at_the_host_behind_a_router() {
    let Some(world) = World::new(&["traceroute"]) else { return };
    let host = world.attach();
    let client = world.client_behind_the_peer(1500);
    for (family, router, target) in
        [("-4", "203.0.113.1", "192.0.2.2"), ("-6", "2001:db8:2::1", "2001:db8::2")]
    {
        host.answers_at_least(1, || {
            let said = client
                .run("traceroute", &[family, "-I", "-n", "-q", "1", "-w", "2", target])
                .expect_success();
            let hops: Vec<_> =
                said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            assert_eq!(hops, [router, target], "{said}");
        });
    }
}

#[test]
fn mtr_reports_the_host_behind_a_router_without_loss() {
    let Some(world) = World::new(&["mtr"]) else { return };
    let host = world.attach();
    let client = world.client_behind_the_peer(1500);
    for (family, router, target) in
        [("-4", "203.0.113.1", "192.0.2.2"), ("-6", "2001:db8:2::1", "2001:db8::2")]
    {
        host.answers_at_least(3, || {
            let arguments =
                [family, "--report", "--no-dns", "--report-cycles", "3", "--interval", "0.2", target];
            let said = client.run("mtr", &arguments).expect_success();
            for hop in [router, target] {
                let line = said.lines().find(|line| line.contains(&format!(" {hop} ")));
                assert!(line.is_some_and(|line| line.contains(" 0.0% ")), "{hop} without loss in {said}");
            }
        });
    }
}

/// An answer of XDP goes back with what the request came in with, which such a tunnel drops.
#[test]
fn pings_that_come_out_of_an_external_tunnel_are_answered_by_the_kernel() {
    let Some(world) = World::new(&["ping"]) else { return };
    let Pair { host, peer, .. } = &world.pair;
    for (namespace, tunnel, mac, other, address, others) in [
        (
            peer,
            "type vxlan id 100 remote 192.0.2.2 dev peer0",
            "02:00:00:00:01:01",
            "02:00:00:00:01:02",
            "10.7.0.1",
            "10.7.0.2",
        ),
        (host, "type vxlan external", "02:00:00:00:01:02", "02:00:00:00:01:01", "10.7.0.2", "10.7.0.1"),
    ] {
        namespace.ip(&format!("link add vx0 address {mac} {tunnel} dstport 4789"));
        namespace.ip(&format!("address add {address}/32 dev vx0"));
        namespace.ip("link set vx0 up");
        namespace.ip(&format!("neighbour add {others} lladdr {other} dev vx0"));
    }
    peer.ip("route add 10.7.0.2/32 dev vx0");
    host.ip("route add 10.7.0.1/32 encap ip id 100 dst 192.0.2.1 dev vx0");
    let alone = peer.ping(&["-c", "2", "-i", "0.01", "10.7.0.2"]);
    let said = ctl::run(host, "attach vx0");
    assert!(said.stderr.contains("a tunnel in mode `external`"), "{said}");
    let with = peer.ping(&["-c", "2", "-i", "0.01", "10.7.0.2"]);
    for said in [alone, with] {
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
    let _detached = ctl::run(host, "detach vx0").expect_success();
}

/// As a router announces it (RFC 4861 section 4.6.4).
#[test]
fn a_ping_longer_than_the_mtu_that_ipv6_has_on_the_link_is_answered_by_the_kernel() {
    let Some(world) = World::new(&["ping"]) else { return };
    world.pair.host.sysctl("net/ipv6/conf/host0/mtu", "1280");
    let host = world.attach();
    host.answers(3, || world.ping("2001:db8::2", 3, 1232));
    host.leaves_to_the_kernel(3, || world.ping("2001:db8::2", 3, 1233));
    host.answers(3, || world.ping("192.0.2.2", 3, 1472));
}

#[test]
fn the_host_learns_the_mtu_of_a_smaller_link_on_its_way() {
    let Some(world) = World::new(&["ping"]) else { return };
    let host = world.attach();
    let client = world.client_behind_the_peer(1280);
    for (target, too_big, fits) in [("203.0.113.2", "1472", "1252"), ("2001:db8:2::2", "1452", "1232")] {
        let passed = host.attached.counters().verdict("pass");
        let done = world
            .pair
            .host
            .run("ping", &["-M", "do", "-c", "2", "-i", "0.05", "-W", "1", "-s", too_big, target]);
        assert_ne!(done.code, Some(0), "a packet of 1500 bytes has no way there: {done}");
        assert!(done.output().contains("1280"), "the router's message reached ping: {done}");
        let route = world.pair.host.ip(&format!("route get {target}"));
        assert!(route.contains("mtu 1280"), "the message reached the routing table: {route}");
        let _said = world.pair.host.ping(&["-M", "do", "-c", "2", "-i", "0.05", "-s", fits, target]);
        assert!(host.attached.counters().verdict("pass") >= passed + 3, "messages and replies were passed");
    }
    // And the other way round: a request of what the link can carry is answered as before.
    host.answers(2, || {
        let _said = client.ping(&["-M", "do", "-c", "2", "-i", "0.05", "-s", "1252", "192.0.2.2"]);
    });
}

#[test]
fn neighbour_discovery_works_in_both_directions() {
    let Some(world) = World::new(&["ndisc6", "ping"]) else { return };
    let host = world.attach();
    let said = world.pair.peer.run("ndisc6", &["-q", "2001:db8::2", PEER_IF]).expect_success();
    assert_eq!(said.trim().to_ascii_lowercase(), "02:00:00:00:00:02");
    let said = world.pair.host.run("ndisc6", &["-q", "2001:db8::1", HOST_IF]).expect_success();
    assert_eq!(said.trim().to_ascii_lowercase(), "02:00:00:00:00:01");
    // ARP and discovery from nothing, by the kernels.
    world.pair.peer.ip("neighbour flush all");
    world.pair.host.ip("neighbour flush all");
    for target in ["192.0.2.2", "2001:db8::2"] {
        world.ping(target, 1, 56);
    }
    drop(host);
}

#[test]
fn duplicate_address_detection_ends_as_it_does_without_the_program() {
    let Some(world) = Wire::new(&["ip"]) else { return };
    let host = &world.host;
    let _attached = Attached::new(host, HOST_IF);
    host.ip(&format!("address add 2001:db8::2/64 dev {HOST_IF}"));
    host.until("the host's address is no longer tentative", LIMIT, || {
        let address = host.ip(&format!("-6 address show dev {HOST_IF} to 2001:db8::2"));
        assert!(!address.contains("dadfailed"), "nobody else has it: {address}");
        address.contains("2001:db8::2") && !address.contains("tentative")
    });
    // Somebody else wants it: the host's stack has to see the question to defend its address.
    let peer = &world.peer;
    peer.ip(&format!("address add 2001:db8::2/64 dev {PEER_IF}"));
    peer.until("the peer learns that the address is taken", LIMIT, || {
        peer.ip(&format!("-6 address show dev {PEER_IF} to 2001:db8::2")).contains("dadfailed")
    });
}

#[test]
fn an_advertised_prefix_becomes_an_address() {
    let Some(world) = Wire::new(&["ip", "rdisc6"]) else { return };
    let host = &world.host;
    let _attached = Attached::new(host, HOST_IF);
    let router = world.peer.enter(|| Tap::open(PEER_IF));
    router.send(&router_advertisement()).expect("sent");
    host.until("the address of the prefix", LIMIT, || {
        let addresses = host.ip(&format!("-6 address show dev {HOST_IF} scope global"));
        addresses.contains("2001:db8:5::ff:fe00:2/64") && !addresses.contains("tentative")
    });
    let route = host.ip("-6 route show default");
    assert!(route.contains("via fe80::ff:fe00:1"), "the advertisement's sender is the router: {route}");

    // A solicitation leaves, and its answer arrives at a program that waits for it. A new tap, for the first has seen those of the
    // kernel, which ended with the router's first word.
    let router = world.peer.enter(|| Tap::open(PEER_IF));
    let mut discovery = host.watch("rdisc6", &["-1", "-w", "10000", HOST_IF]);
    let solicitation =
        router.find(Instant::now() + LIMIT, |seen| seen.frame.len() > 54 && seen.frame[54] == 133);
    assert!(solicitation.is_some(), "rdisc6 solicits");
    router.send(&router_advertisement()).expect("sent");
    discovery.wait_for("2001:db8:5::/64", LIMIT);
}

#[test]
fn tcpdump_sees_what_was_passed_and_not_what_was_answered() {
    let Some(world) = World::new(&["tcpdump", "ping"]) else { return };
    let host = world.attach();
    let mut dump = world.pair.host.watch("tcpdump", &["-l", "-n", "-Q", "in", "-i", HOST_IF]);
    dump.wait_for("listening on", LIMIT);
    host.answers(1, || world.ping("192.0.2.2", 1, 56));
    host.answers(1, || world.ping("2001:db8::2", 1, 56));
    world.pair.peer.enter(|| {
        let socket = UdpSocket::bind("192.0.2.1:0").expect("a socket");
        let sent = socket.send_to(b"passed", "192.0.2.2:9").expect("sent");
        assert_eq!(sent, 6);
    });
    dump.wait_for("192.0.2.2.9: UDP, length 6", LIMIT);
    let before: Vec<_> = dump.heard().iter().filter(|line| line.contains("echo request")).cloned().collect();
    assert_eq!(before, Vec::<String>::new(), "an answered request is not seen");

    // Record route: for the stack to fill in.
    host.leaves_to_the_kernel(1, || {
        let said = world.pair.peer.ping(&["-R", "-c", "1", "192.0.2.2"]);
        assert!(said.contains("RR:"), "{said}");
    });
    dump.wait_for("ICMP echo request", LIMIT);
}

/// No event in these tests takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The pair, where the host can get the program.
struct World {
    pair: Pair,
}

/// The host with the program.
struct Host<'a> {
    pair: &'a Pair,
    attached: Attached<'a>,
}

impl World {
    fn new(programs: &[&str]) -> Option<Self> {
        can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Self { pair: Pair::new(1500) })
    }

    fn attach(&self) -> Host<'_> {
        Host { pair: &self.pair, attached: Attached::new(&self.pair.host, HOST_IF) }
    }

    /// ping that has to get every reply, each with the data it sent.
    fn ping(&self, target: &str, count: u32, size: u32) {
        let said = self.pair.peer.ping_each(count, &["-s", &size.to_string(), target]);
        assert!(!said.contains("wrong data byte") && !said.contains("DUP"), "{said}");
    }

    /// A client that reaches the host through the peer, over a link of this MTU.
    fn client_behind_the_peer(&self, mtu: u32) -> Namespace {
        let (client, router) = (Namespace::new("client"), &self.pair.peer);
        quiet(&client);
        join(&client, "client0", [2, 0, 0, 0, 0, 4], router, "router0", [2, 0, 0, 0, 0, 3], mtu);
        client.ip("address add 203.0.113.2/24 dev client0");
        client.ip("address add 2001:db8:2::2/64 dev client0 nodad");
        client.ip("route add default via 203.0.113.1");
        client.ip("route add default via 2001:db8:2::1");
        router.ip("address add 203.0.113.1/24 dev router0");
        router.ip("address add 2001:db8:2::1/64 dev router0 nodad");
        // A router asks for its neighbours from its link-local address.
        router.ip("address add fe80::1/64 dev router0 nodad");
        client.ip("address add fe80::2/64 dev client0 nodad");
        for (parameter, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // The router's own limits are not what is tested.
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ] {
            router.sysctl(parameter, value);
        }
        client
    }
}

impl Host<'_> {
    /// `action` brings exactly `count` requests, and the program answers all of them.
    fn answers(&self, count: u64, action: impl FnOnce()) {
        let (answered, _) = self.during(action);
        assert_eq!(answered, count, "answers of the program");
    }

    /// `action` brings at least `count` requests, and the program answers all of them.
    fn answers_at_least(&self, count: u64, action: impl FnOnce()) {
        let (answered, _) = self.during(action);
        assert!(answered >= count, "{answered} answers of the program, at least {count} expected");
    }

    fn during(&self, action: impl FnOnce()) -> (u64, u64) {
        let (answered, echos) = (self.attached.counters().packets("answered"), self.echos());
        action();
        let by_kernel = self.echos() - echos;
        assert_eq!(by_kernel, 0, "requests that reached the stack");
        (self.attached.counters().packets("answered") - answered, by_kernel)
    }

    /// `action` brings exactly `count` requests, and the stack sees all of them.
    fn leaves_to_the_kernel(&self, count: u64, action: impl FnOnce()) {
        let (answered, echos) = (self.attached.counters().packets("answered"), self.echos());
        action();
        assert_eq!(self.echos() - echos, count, "requests that reached the stack");
        assert_eq!(self.attached.counters().packets("answered"), answered, "the program answers none");
    }

    /// Echo requests that the host's stack has received.
    fn echos(&self) -> u64 {
        self.pair.host.snmp("Icmp", "InEchos") + self.pair.host.snmp("Icmp6", "InEchos")
    }
}

/// Two namespaces and a wire, with an IPv6 that does all that it does by itself: link-local addresses, duplicate address
/// detection, autoconfiguration.
struct Wire {
    host: Namespace,
    peer: Namespace,
    _pass: PassLink,
}

impl Wire {
    fn new(programs: &[&str]) -> Option<Self> {
        if !can_run(&[&["ip", "nsenter"], programs].concat()) {
            return None;
        }
        let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
        host.sysctl("net/ipv6/conf/default/accept_ra", "1");
        peer.sysctl("net/ipv6/conf/default/accept_ra", "0");
        join(&host, HOST_IF, HOST_MAC, &peer, PEER_IF, PEER_MAC, 1500);
        let pass = peer.enter(|| PassLink::attach(PEER_IF));
        Some(Self { host, peer, _pass: pass })
    }
}

/// RFC 4861 section 4.2, with one prefix to make addresses of (section 4.6.2).
fn router_advertisement() -> Vec<u8> {
    const PREFIX_INFORMATION: u8 = 3;
    const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;
    let lifetime = 3600_u32.to_be_bytes();
    let mut data = vec![0; 8];
    data.extend([PREFIX_INFORMATION, 4, 64, ON_LINK_AND_AUTONOMOUS]);
    data.extend(lifetime);
    data.extend(lifetime);
    data.extend([0; 4]);
    data.extend("2001:db8:5::".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    let echo = Echo {
        to_mac: [0x33, 0x33, 0, 0, 0, 1],
        ttl: 255,
        id: 0,
        kind: Some(134),
        // Hop limit 64, no flags, a router for half an hour.
        second_word: 64 << 24 | 1800,
        ..Echo::new(
            "fe80::ff:fe00:1".parse().expect("an address"),
            "ff02::1".parse().expect("an address"),
            data,
        )
    };
    let frame = echo.frame();
    assert_eq!(packet::icmpv6_sum(&frame[14..]), 0xffff);
    frame
}
