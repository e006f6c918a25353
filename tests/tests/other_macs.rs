//! Frames to another MAC address of the host than that of the interface's entry: those that the kernel takes in go through policy and limits.
//!
//! Owns the comparison with the kernel, which has to answer such a ping. icmp-common proves the handling of an entry, icmp-ctl which entries
//! there are.

use std::net::IpAddr;
use std::time::Instant;

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_IF, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process;
use icmp_tests::wire::Tap;

const ADDRESS_MASK_REQUEST: u8 = 17;
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const GUESTS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// Sends messages to a MAC address and a guest's on an interface where the program is, and holds against the kernel what becomes of them.
fn compare(what: &str, commands: &[&str], attached: &str, to_mac: [u8; 6], to: &str) {
    let pair = Pair::new(1500);
    let host = &pair.host;
    for command in commands {
        let program = if command.starts_with("fdb ") { "bridge" } else { "ip" };
        let _said = host.run(program, &command.split(' ').collect::<Vec<_>>()).expect_success();
    }
    let _done = ctl::run(host, &format!("attach {attached} --mode generic")).expect_success();
    let peer = pair.peer.enter(|| Tap::open(PEER_IF));
    let [from, to]: [IpAddr; 2] = ["192.0.2.1", to].map(|text| text.parse().expect("an address"));
    let ping = Echo { to_mac, ..Echo::new(from, to, vec![0; 56]) };
    let message = Echo { kind: Some(ADDRESS_MASK_REQUEST), ..ping.clone() };
    for frame in [&message, &Echo { to_mac: GUESTS_MAC, ..message.clone() }, &ping] {
        peer.send(&frame.frame()).expect("sent");
    }
    let deadline = Instant::now() + process::LIMIT;
    while host.snmp("Icmp", "OutEchoReps") == 0 && Instant::now() < deadline {}
    assert_eq!(host.snmp("Icmp", "OutEchoReps"), 1, "{what}: the kernel takes it in");
    let counters = counted(host, attached, "not-own-address");
    let found = ["policy-drop", "not-own-address", "answered"].map(|reason| counters.packets(reason));
    assert_eq!(found, [1, 1, 0], "{what}");
    // A bridge gives what is for a guest to that.
    assert_eq!(counters.packets("foreign-mac"), u64::from(attached == HOST_IF), "{what}");
    let shown = ctl::run(host, "show addresses").expect_success();
    assert!(!shown.contains("6d:6163"), "{what}: {shown}");
    let _done = ctl::run(host, "detach --all").expect_success();
}

/// The counters, as soon as a frame has ended for a reason.
fn counted(host: &Namespace, interface: &str, reason: &str) -> ctl::Counters {
    let deadline = Instant::now() + process::LIMIT;
    loop {
        let counters = ctl::counters(host, interface);
        if counters.packets(reason) > 0 || Instant::now() > deadline {
            return counters;
        }
    }
}

#[test]
fn what_the_kernel_takes_in_by_another_mac_address_goes_by_the_policy_and_a_guests_does_not() {
    if !can_run(&["bridge", "ip", "nsenter"]) {
        return;
    }
    let bridge = [
        "address flush dev host0",
        "link add br0 address 02:00:00:00:00:10 type bridge",
        "link set host0 master br0",
        "link set br0 up",
        "address add 192.0.2.2/24 dev br0",
    ];
    let to_port = HOST_MAC;
    compare("a port of a bridge", &bridge, HOST_IF, to_port, "192.0.2.2");
    compare("the bridge", &bridge, "br0", to_port, "192.0.2.2");
    let locked = [
        &bridge[..],
        &[
            "link set host0 type bridge_slave locked on",
            "fdb replace 02:00:00:00:00:01 dev host0 master static",
        ],
    ]
    .concat();
    compare("a locked port of a bridge", &locked, HOST_IF, OTHER_MAC, "192.0.2.2");
    let macvlan = [
        "link add macvlan0 link host0 address 02:00:00:00:00:10 type macvlan mode bridge",
        "link set macvlan0 up",
        "address add 203.0.113.2/24 dev macvlan0",
    ];
    compare("a macvlan, for the interface's address", &macvlan, HOST_IF, OTHER_MAC, "192.0.2.2");
    compare("a macvlan, for its own address", &macvlan, HOST_IF, OTHER_MAC, "203.0.113.2");
    compare("below a macvlan, for the address of that", &macvlan, HOST_IF, HOST_MAC, "203.0.113.2");
    let port_of_bridge = [
        "link add macvlan0 link host0 address 02:00:00:00:00:10 type macvlan mode bridge",
        "link add br1 type bridge",
        "link set macvlan0 master br1",
        "link set macvlan0 up",
        "link set br1 up",
        "address add 203.0.113.2/24 dev br1",
    ];
    for to in ["192.0.2.2", "203.0.113.2"] {
        compare("a macvlan that is a port of a bridge", &port_of_bridge, HOST_IF, OTHER_MAC, to);
    }
    let of_another =
        ["link add other0 type bridge", "link set other0 up", "address add 203.0.113.2/32 dev other0"];
    let commands = [&bridge[..], &of_another].concat();
    compare(
        "the bridge's, for an address of another interface",
        &commands,
        HOST_IF,
        OTHER_MAC,
        "203.0.113.2",
    );
}
