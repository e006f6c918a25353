//! Which addresses, groups and interfaces are the host's, seen from the wire, with many of them and with addresses that are two things.
//!
//! Owns what `icmp-ctl` tells the program about the host. icmp-common proves what the program does with it.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use icmp_ctl::host::netlink::{Network, peer_once};
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_IF, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process;
use icmp_tests::wire::Tap;

const DONE: Option<i32> = Some(0);
const ADDRESS_MASK_REQUEST: u8 = 17;
const NODE_INFORMATION_QUERY: u8 = 139;

#[test]
fn own_addresses_are_no_source_however_many_another_interface_has() {
    const ADDRESSES: u32 = 5_000;
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("link add other0 type veth peer name other1");
    let folder = Folder::new();
    let of_number = |i: u32| Ipv4Addr::from(0x0a00_0000 + i);
    let lines: String =
        (0..ADDRESSES).map(|i| format!("address add {}/32 dev other0\n", of_number(i))).collect();
    host.ip(&format!("-batch {}", folder.file("addresses", &lines)));
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    assert!(done.code == DONE && !done.stderr.contains("do not fit"), "{done}");
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    let sent = (0..ADDRESSES).step_by(10).map(|i| {
        let from = IpAddr::V4(of_number(i));
        peer.send(&Echo::new(from, address("192.0.2.2"), vec![0; 56]).frame()).expect("sent");
    });
    let sent = sent.count() as u64;
    let counters = counted(host, "own-source", sent);
    assert_eq!((counters.packets("own-source"), counters.answered()), (sent, 0));
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn interfaces_whose_indexes_agree_in_their_last_bits_are_all_attached() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let names: Vec<_> = (0..16).map(|i| format!("same{i}")).collect();
    for (i, name) in names.iter().enumerate() {
        host.ip(&format!("link add {name} index {} type veth peer name peer{i}", 100 + 32 * i));
        host.ip(&format!("link set {name} up"));
    }
    let done = ctl::run(host, &format!("attach {}", names.join(" ")));
    assert_eq!(done.code, DONE, "{done}");
    let status = ctl::run(host, "status").expect_success();
    assert!(names.iter().all(|name| status.contains(&format!("{name} "))), "{status}");
    let one_more = ctl::run(host, &format!("attach {HOST_IF}"));
    assert!(one_more.code != DONE && one_more.stderr.contains("16 interfaces"), "{one_more}");
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn an_alternative_name_is_a_name() {
    const OTHER: &str = "uplink-of-the-rack-on-the-left";
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    host.ip(&format!("link property add dev {HOST_IF} altname {OTHER}"));
    host.sysctl(&format!("net/ipv6/conf/{HOST_IF}/hop_limit"), "78");
    let done = ctl::run(host, &format!("attach {OTHER}"));
    assert!(done.code == DONE && done.stdout.contains(&format!("{HOST_IF}: attached")), "{done}");
    let said = pair.peer.ping(&["-c1", "2001:db8::2"]);
    assert!(said.contains("ttl=78"), "{said}");
    let done = ctl::run(host, &format!("attach {OTHER} {HOST_IF}"));
    assert!(done.code == DONE && done.stdout.contains("already attached"), "{done}");
    let done = ctl::run(host, &format!("detach {OTHER}"));
    assert!(done.code == DONE && done.stdout.contains(&format!("{HOST_IF}: detached")), "{done}");
}

#[test]
fn an_own_address_that_is_also_a_broadcast_address_is_left_to_the_kernel() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip(&format!("address add 192.0.2.255/32 dev {HOST_IF}"));
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    peer.send(&Echo::new(address("192.0.2.1"), address("192.0.2.255"), vec![0; 56]).frame()).expect("sent");
    let counters = counted(host, "group-echo", 1);
    assert_eq!((counters.packets("group-echo"), counters.answered()), (1, 0));
    assert_eq!(host.snmp("Icmp", "OutEchoReps"), 0, "the kernel, which had the prefix first, is silent");
}

#[test]
fn what_is_no_utf_8_in_a_label_or_a_name_hides_no_address_no_group_and_no_other_end() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let ip = |namespace: &Namespace, words: &str, text: &[u8]| {
        let mut change = namespace.command("ip");
        change.args(words.split_whitespace()).arg(OsStr::from_bytes(text));
        let _said = process::run(&mut change).expect_success();
    };
    ip(host, &format!("address add 192.0.2.9/24 dev {HOST_IF} label"), format!("{HOST_IF}:B").as_bytes());
    ip(
        host,
        &format!("address add 192.0.2.10/24 dev {HOST_IF} label"),
        &[HOST_IF.as_bytes(), b":B\xfc"].concat(),
    );
    // The first that the kernel lists, and one in the middle of a name.
    ip(host, "link add other1 type veth peer name", b"a\xff");
    ip(host, "link add other2 type veth peer name", "b\u{2003}c".as_bytes());
    ip(&pair.peer, &format!("link set dev {PEER_IF} alias"), b"B\xfcro");
    let network = host.enter(Network::read_once).expect("the kernel tells");
    let has = |text: &str| network.addresses.iter().any(|one| one.address == address(text));
    assert!(["192.0.2.2", "192.0.2.9", "192.0.2.10"].into_iter().all(has), "{:?}", network.addresses);
    let link = network.link(HOST_IF).expect("it is there");
    assert!(network.groups.iter().any(|group| group.ifindex == link.index), "{:?}", network.groups);
    let peer = host.enter(|| peer_once(&network, link)).expect("the kernel tells");
    assert_eq!(peer.expect("it is seen from here").name, PEER_IF);
    let attached = Attached::new(host, HOST_IF);
    for to in ["192.0.2.9", "192.0.2.10"] {
        let _said = pair.peer.run("ping", &["-c1", "-W2", to]).expect_success();
    }
    assert_eq!(attached.counters().packets("answered"), 2);
}

#[test]
fn messages_to_groups_are_the_hosts_where_it_has_joined_them() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip(&format!("address add 239.1.2.3/32 dev {HOST_IF} autojoin"));
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    for (group, mac) in [("239.1.2.3", [1, 0, 0x5e, 1, 2, 3]), ("ff02::1", [0x33, 0x33, 0, 0, 0, 1])] {
        peer.send(&to_group(group, mac).frame()).expect("sent");
    }
    for (group, mac) in
        [("239.1.2.4", [1, 0, 0x5e, 1, 2, 4]), ("ff02::1:ffad:beef", [0x33, 0x33, 0xff, 0xad, 0xbe, 0xef])]
    {
        peer.send(&to_group(group, mac).frame()).expect("sent");
    }
    let counters = counted(host, "not-own-address", 2);
    assert_eq!((counters.packets("policy-drop"), counters.packets("not-own-address")), (2, 2));
}

#[test]
fn messages_to_the_anycast_address_of_a_router_go_by_its_policy_and_are_not_answered() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    // The kernel joins the subnet-router anycast address of each prefix (RFC 4291 section 2.6.1).
    host.sysctl("net/ipv6/conf/all/forwarding", "1");
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    let ping = Echo::new(address("2001:db8::1"), address("2001:db8::"), vec![0; 16]);
    peer.send(&Echo { kind: Some(NODE_INFORMATION_QUERY), ..ping.clone() }.frame()).expect("sent");
    peer.send(&ping.frame()).expect("sent");
    let counters = counted(host, "group-echo", 1);
    assert_eq!((counters.packets("policy-drop"), counters.answered()), (1, 0));
}

#[test]
fn broadcast_and_anycast_addresses_of_another_interface_go_by_the_policy_and_are_no_sources() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.sysctl("net/ipv6/conf/all/forwarding", "1");
    another_interface(host);
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    let send = |from: &str, to: &str, kind| {
        let ping = Echo::new(address(from), address(to), vec![0; 16]);
        peer.send(&Echo { kind, ..ping }.frame()).expect("sent");
    };
    send("192.0.2.1", "203.0.113.255", Some(ADDRESS_MASK_REQUEST));
    send("2001:db8::1", "2001:db8:e::", Some(NODE_INFORMATION_QUERY));
    for (from, to) in [
        ("203.0.113.255", "192.0.2.2"),
        ("2001:db8:e::", "2001:db8::2"),
        ("2001:db8::", "2001:db8::2"),
        ("192.0.2.1", "203.0.113.255"),
    ] {
        send(from, to, None);
    }
    let counters = counted(host, "not-own-address", 1);
    let [dropped, own, martian] =
        ["policy-drop", "own-source", "martian-source"].map(|reason| counters.packets(reason));
    assert_eq!((dropped, own, martian, counters.answered()), (2, 2, 1, 0));
}

#[test]
fn of_the_addresses_of_an_interface_that_is_down_the_kernel_takes_in_for_ipv4_alone() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.sysctl("net/ipv6/conf/all/forwarding", "1");
    another_interface(host);
    host.sysctl("net/ipv6/conf/other0/keep_addr_on_down", "1");
    host.ip("link set other0 down");
    let kept = host.enter(Network::read_once).expect("the kernel tells").addresses;
    assert!(kept.iter().any(|one| one.address == address("2001:db8:e::1")), "{kept:?}");
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    for (from, to, kind) in [
        ("192.0.2.1", "203.0.113.1", ADDRESS_MASK_REQUEST),
        ("192.0.2.1", "203.0.113.255", ADDRESS_MASK_REQUEST),
        ("2001:db8::1", "2001:db8:e::1", NODE_INFORMATION_QUERY),
    ] {
        let message = Echo::new(address(from), address(to), vec![0; 16]);
        peer.send(&Echo { kind: Some(kind), ..message }.frame()).expect("sent");
    }
    let counters = counted(host, "not-own-address", 2);
    assert_eq!((counters.packets("policy-drop"), counters.packets("not-own-address")), (1, 2));
}

#[test]
fn on_a_port_of_a_bridge_no_message_to_a_group_is_touched() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("link add br0 type bridge");
    host.ip(&format!("link set {HOST_IF} master br0"));
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    peer.send(&to_group("224.0.0.1", [1, 0, 0x5e, 0, 0, 1]).frame()).expect("sent");
    peer.send(&to_group("ff02::1", [0x33, 0x33, 0, 0, 0, 1]).frame()).expect("sent");
    let counters = counted(host, "not-own-address", 2);
    assert_eq!((counters.packets("policy-drop"), counters.packets("not-own-address")), (0, 2));
}

#[test]
fn below_a_macvlan_of_another_namespace_no_message_to_a_group_is_touched() {
    let Some(pair) = pair(&[]) else { return };
    let (host, container) = (&pair.host, Namespace::new("container"));
    host.ip(&format!("link add macvlan0 link {HOST_IF} type macvlan mode bridge"));
    host.ip(&format!("link set macvlan0 netns {}", container.name()));
    container.ip("link set macvlan0 up");
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    peer.send(&to_group("224.0.0.1", [1, 0, 0x5e, 0, 0, 1]).frame()).expect("sent");
    peer.send(&to_group("ff02::1", [0x33, 0x33, 0, 0, 0, 1]).frame()).expect("sent");
    let counters = counted(host, "not-own-address", 2);
    assert_eq!((counters.packets("policy-drop"), counters.packets("not-own-address")), (0, 2));
}

#[test]
fn addresses_of_loopback_are_answered_on_every_interface_and_all_with_own_host() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    host.ip("link add other0 type veth peer name other1");
    host.ip("link set other0 up");
    host.ip("address add 203.0.113.1/32 dev lo");
    host.ip("address add 2001:db8:1::1/128 dev lo");
    host.ip("address add 203.0.113.2/32 dev other0");
    host.ip("address add 203.0.113.3/32 dev other0 scope link");
    pair.peer.ip("route add 203.0.113.0/24 via 192.0.2.2");
    pair.peer.ip("route add 2001:db8:1::/64 via 2001:db8::2");
    let folder = Folder::new();
    let file = |own: &str| folder.file("own.toml", &format!("[responder]\nown = \"{own}\"\n"));
    let _done = ctl::run(host, &format!("attach {HOST_IF} -f {}", file("interface"))).expect_success();
    let answered = |to: &str| {
        let before = ctl::counters(host, HOST_IF).answered();
        let _said = pair.peer.ping(&["-c1", to]);
        ctl::counters(host, HOST_IF).answered() - before
    };
    for (own, by_the_program) in
        [("interface", [1, 1, 0, 0]), ("host", [1, 1, 1, 0]), ("interface", [1, 1, 0, 0])]
    {
        let _done = ctl::run(host, &format!("apply -f {}", file(own))).expect_success();
        let all = ["203.0.113.1", "2001:db8:1::1", "203.0.113.2", "203.0.113.3"].map(answered);
        assert_eq!(all, by_the_program, "own = {own}");
        let shown = ctl::run(host, "show addresses").expect_success();
        assert!(shown.contains("203.0.113.1"), "{shown}");
        assert_eq!(shown.contains("203.0.113.2"), own == "host", "{shown}");
    }
    host.ip("link set lo down");
    let _done = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
    assert!(!ctl::run(host, "show addresses").expect_success().contains("203.0.113.1"), "lo is down");
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn addresses_of_loopback_are_answered_also_where_frames_of_others_come_in() {
    for commands in [
        &["link add macvlan0 link host0 type macvlan mode bridge", "link set macvlan0 up"][..],
        &[
            "address flush dev host0",
            "link add br0 address 02:00:00:00:00:0d type bridge",
            "link set host0 master br0",
            "link set br0 up",
            "address add 192.0.2.2/24 dev br0",
        ],
    ] {
        let Some(pair) = pair(&["ping"]) else { return };
        let host = &pair.host;
        for command in commands {
            host.ip(command);
        }
        host.ip("address add 203.0.113.5/32 dev lo");
        pair.peer.ip("route add 203.0.113.0/24 via 192.0.2.2");
        let attached = Attached::new(host, HOST_IF);
        let _said = pair.peer.ping(&["-c1", "203.0.113.5"]);
        assert_eq!(attached.counters().answered(), 1, "{commands:?}");
    }
}

#[test]
fn a_local_route_of_one_address_is_answered_and_one_of_a_prefix_told_of_until_it_is_a_vip() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    for net in ["203.0.113.5/32", "203.0.113.64/26", "2001:db8:1::5/128", "2001:db8:2::/64"] {
        host.ip(&format!("route add local {net} dev lo"));
    }
    host.ip("address add 203.0.113.17/28 dev lo");
    pair.peer.ip("route add 203.0.113.0/24 via 192.0.2.2");
    pair.peer.ip("route add 2001:db8::/32 via 2001:db8::2");
    let folder = Folder::new();
    let file = |vips: &str| folder.file("vips.toml", &format!("[responder]\nvips = [{vips}]\n"));
    let no_vips = file("");
    let answered = |to: &str| {
        let before = ctl::counters(host, HOST_IF).answered();
        let _said = pair.peer.ping(&["-c1", to]);
        ctl::counters(host, HOST_IF).answered() - before
    };
    let of_routes = ["203.0.113.5", "2001:db8:1::5"];
    let of_prefixes = ["203.0.113.18", "203.0.113.65", "2001:db8:2::1"];
    let told = |text: &str| text.contains("takes in all of 203.0.113.16/28 and 2 more");
    let done = ctl::run(host, &format!("attach {HOST_IF} -f {no_vips}"));
    assert!(done.code == DONE && told(&done.stderr), "{done}");
    assert_eq!((of_routes.map(answered), of_prefixes.map(answered)), ([1; 2], [0; 3]));
    let doctor = || ctl::run(host, "doctor -j").stdout;
    assert!(told(&doctor()), "{}", doctor());
    let vips = file("\"203.0.113.0/24\", \"2001:db8:2::/64\"");
    let done = ctl::run(host, &format!("attach {HOST_IF} -f {vips}"));
    assert!(done.code == DONE && !done.stderr.contains("takes in all"), "{done}");
    assert!(!doctor().contains("takes in all"), "{}", doctor());
    assert_eq!((of_routes.map(answered), of_prefixes.map(answered)), ([1; 2], [1; 3]));
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn an_address_whose_local_route_was_deleted_is_answered_once_it_has_one_again() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let without = ["192.0.2.40", "2001:db8::40"];
    let others = ["192.0.2.2", "2001:db8::2", "192.0.2.41"];
    let change = |verb: &str| {
        for (address, length) in without.iter().zip([24, 64]) {
            host.ip(&format!("address {verb} {address}/{length} dev {HOST_IF}"));
        }
    };
    host.ip(&format!("address add 192.0.2.41/24 dev {HOST_IF} noprefixroute"));
    change("add");
    for address in without {
        host.ip(&format!("route del local {address} dev {HOST_IF} table local"));
    }
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    let ping_all = || {
        // What comes last is counted last.
        for to in others.iter().chain(&without) {
            let from = if to.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
            peer.send(&Echo::new(address(from), address(to), vec![0; 56]).frame()).expect("sent");
        }
    };
    let is_told = || {
        let found = ctl::run(host, &format!("doctor {HOST_IF} -j")).stdout;
        found.contains("192.0.2.40 and 1 more are not answered")
    };
    {
        let _attached = Attached::new(host, HOST_IF);
        ping_all();
        let counters = counted(host, "not-own-address", 2);
        assert_eq!((counters.packets("not-own-address"), counters.answered()), (2, 3));
        assert!(is_told());
    }
    change("del");
    change("add");
    let _attached = Attached::new(host, HOST_IF);
    ping_all();
    assert_eq!(counted(host, "answered", 5).answered(), 5);
    assert!(!is_told(), "both have one again");
}

#[test]
fn broadcast_and_anycast_addresses_by_a_route_go_by_the_policy() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip(&format!("route add broadcast 198.51.100.7/32 dev {HOST_IF} table local"));
    host.ip(&format!("route add anycast 2001:db8:7::7/128 dev {HOST_IF} table local"));
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    for to_mac in [HOST_MAC, [0xff; 6]] {
        for (from, to, kind) in [
            ("192.0.2.1", "198.51.100.7", ADDRESS_MASK_REQUEST),
            ("2001:db8::1", "2001:db8:7::7", NODE_INFORMATION_QUERY),
        ] {
            let message = Echo::new(address(from), address(to), vec![0; 16]);
            peer.send(&Echo { kind: Some(kind), to_mac, ..message }.frame()).expect("sent");
        }
    }
    let counters = counted(host, "policy-drop", 4);
    assert_eq!((counters.packets("policy-drop"), counters.packets("not-own-address")), (4, 0));
}

#[test]
fn an_address_of_which_another_route_may_decide_is_left_to_the_kernel_and_told_of() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    for route in [
        "prepend blackhole 192.0.2.2/32 table local".to_owned(),
        "add local 198.51.100.8/32 dev lo tos 0x10".to_owned(),
        format!("add local 2001:db8:7::8/128 dev {HOST_IF} table local"),
        "add blackhole 2001:db8:7::8/128 table local metric 1".to_owned(),
    ] {
        host.ip(&format!("route {route}"));
    }
    let _attached = Attached::new(host, HOST_IF);
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    let disputed = ["192.0.2.2", "198.51.100.8", "2001:db8:7::8"];
    for (to, other) in
        disputed.iter().zip([ADDRESS_MASK_REQUEST, ADDRESS_MASK_REQUEST, NODE_INFORMATION_QUERY])
    {
        let from = if to.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
        for kind in [Some(other), None] {
            let message = Echo::new(address(from), address(to), vec![0; 16]);
            peer.send(&Echo { kind, ..message }.frame()).expect("sent");
        }
    }
    let counters = counted(host, "not-own-address", 3);
    let found = ["policy-drop", "not-own-address", "answered"].map(|reason| counters.packets(reason));
    assert_eq!(found, [3, 3, 0]);
    let by_kernel = [("Icmp", "OutEchoReps"), ("Icmp6", "OutEchoReplies")];
    assert_eq!(by_kernel.map(|(family, name)| host.snmp(family, name)), [0; 2], "the kernel is silent");
    let told = ctl::run(host, &format!("doctor {HOST_IF} -j")).stdout;
    assert!(told.contains("198.51.100.8 and 2 more are not answered"), "{told}");
}

#[test]
fn where_a_rule_of_routing_comes_before_the_local_table_pings_are_left_to_the_kernel_within_limits() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("address add 203.0.113.5/32 dev lo");
    host.ip("rule add pref 6 lookup local");
    host.ip(&format!("rule add pref 5 iif {HOST_IF} blackhole"));
    host.ip("rule del pref 0");
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    let told = format!("may decide about IPv4 of {HOST_IF}");
    assert!(done.code == DONE && done.stderr.contains(&told), "{done}");
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    for to in ["192.0.2.2", "203.0.113.5"] {
        for kind in [Some(ADDRESS_MASK_REQUEST), None] {
            let message = Echo::new(address("192.0.2.1"), address(to), vec![0; 16]);
            peer.send(&Echo { kind, ..message }.frame()).expect("sent");
        }
    }
    peer.send(&Echo::new(address("2001:db8::1"), address("2001:db8::2"), vec![0; 16]).frame()).expect("sent");
    let counters = counted(host, "answered", 1);
    let found = ["policy-drop", "not-own-address", "answered"].map(|reason| counters.packets(reason));
    assert_eq!(found, [2, 2, 1]);
    assert_eq!(host.snmp("Icmp", "OutEchoReps"), 0, "the kernel is silent");
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn where_no_mac_addresses_are_asked_for_pings_are_left_to_the_kernel() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip(&format!("link set {HOST_IF} arp off"));
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    assert!(done.code == DONE && done.stderr.contains("`arp off`"), "{done}");
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    peer.send(&Echo::new(address("192.0.2.1"), address("192.0.2.2"), vec![0; 16]).frame()).expect("sent");
    let counters = counted(host, "not-own-address", 1);
    assert_eq!((counters.packets("not-own-address"), counters.answered()), (1, 0));
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn what_the_kernel_takes_nothing_in_for_is_answered_by_nobody() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("address add 2001:db8:1::1/128 dev lo");
    host.ip(&format!("address add 255.255.255.255/32 dev {HOST_IF}"));
    host.sysctl(&format!("net/ipv6/conf/{HOST_IF}/disable_ipv6"), "1");
    let _attached = Attached::new(host, HOST_IF);
    let shown = ctl::run(host, "show addresses").expect_success();
    assert!(shown.contains("192.0.2.2") && !shown.contains("2001:db8:1::1"), "{shown}");
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    for (from, to) in [("192.0.2.1", "255.255.255.255"), ("2001:db8::1", "2001:db8:1::1")] {
        peer.send(&Echo::new(address(from), address(to), vec![0; 56]).frame()).expect("sent");
    }
    let counters = counted(host, "not-own-address", 1);
    assert_eq!((counters.packets("group-echo"), counters.answered()), (1, 0));
}

/// Another interface that has addresses of both families.
fn another_interface(host: &Namespace) {
    host.ip("link add other0 type veth peer name other1");
    host.ip("link set other1 up");
    host.ip("link set other0 up");
    host.ip("address add 203.0.113.1/24 dev other0");
    host.ip("address add 2001:db8:e::1/64 dev other0 nodad");
}

/// A message that the shipped policy drops, to a group.
fn to_group(group: &str, mac: [u8; 6]) -> Echo {
    let (from, kind) = match group.contains(':') {
        true => ("fe80::ff:fe00:1", NODE_INFORMATION_QUERY),
        false => ("192.0.2.1", ADDRESS_MASK_REQUEST),
    };
    Echo { to_mac: mac, kind: Some(kind), ttl: 255, ..Echo::new(address(from), address(group), vec![0; 16]) }
}

/// The counters, as soon as so many frames have ended for a reason.
fn counted(host: &Namespace, reason: &str, packets: u64) -> ctl::Counters {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let counters = ctl::counters(host, HOST_IF);
        if counters.packets(reason) >= packets || Instant::now() > deadline {
            return counters;
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}
