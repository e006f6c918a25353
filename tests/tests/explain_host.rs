//! `icmp-ctl explain` on a host: what is known about the host around the program.
//!
//! Owns what stops a packet before and after the program. `explain.rs` has the ways to give a packet.

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached, explained};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::packet::Echo;
use serde_json::{Value, json};

fn stopped_by(said: &Value) -> Vec<String> {
    let findings = said["stack"].as_array().unwrap_or_else(|| panic!("it is not passed: {said}"));
    let not_fine = findings.iter().filter(|finding| finding["state"] != "fine");
    not_fine.map(|finding| format!("{}: {} {}", finding["check"], finding["what"], finding["why"])).collect()
}

#[test]
fn an_interface_on_which_nothing_comes_in_or_from_which_no_answer_arrives_is_told() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    // The sentences of `doctor`, of what is not as it should be.
    let found = |host: &Namespace, arguments: &str| {
        let said = explained(host, &format!("--from 192.0.2.1 --to 192.0.2.2 {arguments}"));
        assert_eq!(said["verdict"]["verdict"], "answer", "{said}");
        let all = said["interface"]["findings"].as_array().expect("a list").clone();
        let not_fine = all.iter().filter(|finding| finding["state"] != "fine");
        not_fine.map(|finding| finding["what"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let pair = Pair::new(1500);
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    assert_eq!(found(host, ""), [""; 0]);
    host.ip(&format!("link set dev {HOST_IF} down"));
    assert_eq!(found(host, ""), ["is down"]);
    let text = ctl::run(host, "explain --from 192.0.2.1 --to 192.0.2.2").expect_success();
    assert!(text.contains(&format!("`ip link set dev {HOST_IF} up` helps")), "{text}");

    let pair = Pair::without_program(1500);
    let (host, folder) = (&pair.host, Folder::new());
    let alone = ["is a veth, and its other end has no XDP program in native mode"];
    let config = folder.file("config.toml", "");
    assert_eq!(found(host, &format!("-f {config} -i {HOST_IF}")), alone);
    let native = Attached::with(host, HOST_IF, "--mode native");
    assert_eq!(found(host, ""), alone);
    drop(native);
    let _generic = Attached::with(host, HOST_IF, "--mode generic");
    assert_eq!(found(host, ""), [""; 0]);
}

#[test]
fn an_interface_that_was_moved_away_is_called_that_as_status_does() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let (host, other) = (&pair.host, Namespace::new("other"));
    host.ip("link add left type veth peer name right");
    let _attached = Attached::new(host, HOST_IF);
    let _said = ctl::run(host, "attach left --mode generic").expect_success();
    host.ip(&format!("link set left netns {}", other.name()));
    let question = "explain --from 192.0.2.1 --to 192.0.2.2 -i";
    let said = ctl::run(host, &format!("{question} left"));
    let sentence = said.stderr.trim_start_matches("icmp-ctl: ").trim_end();
    assert!(said.code == Some(1) && sentence.contains("was moved to another network namespace"), "{said}");
    let status = ctl::run(host, "status");
    assert!(status.stderr.contains(sentence), "{said} {status}");
    let said = ctl::run(host, &format!("{question} nothere"));
    assert!(said.stderr.contains("nothere: nothing of ours is attached"), "{said}");
}

#[test]
fn on_a_port_of_a_bridge_a_packet_is_for_the_addresses_of_the_bridge() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    for line in [
        "link add br0 type bridge".to_owned(),
        format!("link set {HOST_IF} master br0"),
        "link set br0 up".to_owned(),
        format!("addr flush dev {HOST_IF}"),
        "addr add 192.0.2.2/24 dev br0".to_owned(),
    ] {
        host.ip(&line);
    }
    let _attached = Attached::new(host, HOST_IF);
    let said = explained(host, "--from 192.0.2.1 --to 192.0.2.2");
    assert_eq!(
        (&said["verdict"]["reason"], &said["interface"]["name"]),
        (&json!("answered"), &json!(HOST_IF)),
        "{said}"
    );
    // By the bridge the kernel takes it in, and by its routes a reply leaves.
    let said = explained(host, "--from 192.0.2.1 --to 192.0.2.2 --type 8/1");
    assert_eq!((&said["verdict"]["reason"], stopped_by(&said)), (&json!("echo-code"), Vec::new()), "{said}");
}

#[test]
fn of_a_passed_packet_is_told_what_stops_it_in_the_kernel() {
    if !can_run(&["ip", "nsenter", "nft"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    // A ping that is the kernel's to answer.
    let passed = "--from 192.0.2.1 --to 192.0.2.2 --type 8/1";
    let answered = explained(host, "--from 192.0.2.1 --to 192.0.2.2");
    assert_eq!((&answered["verdict"]["verdict"], &answered["stack"]), (&json!("answer"), &Value::Null));
    let said = explained(host, passed);
    assert_eq!((&said["verdict"]["reason"], stopped_by(&said)), (&json!("echo-code"), Vec::new()), "{said}");
    for (prepare, question, stopped) in [
        ("nft add table inet t", passed, None),
        ("nft add chain inet t c { type filter hook input priority 0; }", passed, None),
        ("nft add rule inet t c icmp code 0 drop", passed, None),
        ("nft add rule inet t c icmp code 1 drop", passed, Some("drop")),
        ("nft flush chain inet t c", passed, None),
        ("nft add rule inet t c icmp type echo-request drop", passed, Some("icmp type echo-request drop")),
        ("sysctl -qw net.ipv4.icmp_echo_ignore_all=1", passed, Some("icmp_echo_ignore_all is on")),
        (
            "ip route add blackhole 203.0.113.0/24",
            "--from 203.0.113.9 --to 192.0.2.2 --type 8/1",
            Some("no route for a reply, 192.0.2.2 to 203.0.113.9\" \"a route says `blackhole`"),
        ),
        ("true", "--from 192.0.2.1 --to 192.0.2.2 --vlan 77", Some("no interface that is known takes it in")),
        (
            "sysctl -qw net.ipv4.ip_forward=0",
            "--from 192.0.2.1 --to 192.0.2.99",
            Some("does not forward here"),
        ),
        ("sysctl -qw net.ipv4.ip_forward=1", "--from 192.0.2.1 --to 192.0.2.99", Some("forwards")),
        ("ip route add 100.64.0.0/10 dev lo", passed, Some("icmp_echo_ignore_all is on")),
        (
            "sysctl -qw net.ipv4.conf.host0.rp_filter=1",
            "--from 100.64.0.1 --to 192.0.2.2 --type 8/1",
            Some("`rp_filter` is on"),
        ),
        (
            "sysctl -qw net.ipv6.conf.all.forwarding=0",
            "--from 2001:db8::1 --to 2001:db8::99",
            Some("does not forward here"),
        ),
        (
            "sysctl -qw net.ipv6.conf.all.forwarding=1",
            "--from 2001:db8::1 --to 2001:db8::99",
            Some("forwards"),
        ),
        (
            "sysctl -qw net.ipv6.conf.host0.disable_ipv6=1",
            "--from 2001:db8::1 --to 2001:db8::99",
            Some("takes in no IPv6"),
        ),
        (
            "sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=1",
            "--from 192.0.2.1 --to 192.0.2.255",
            Some("ignore_broadcasts is on"),
        ),
        (
            "sysctl -qw net.ipv6.icmp.echo_ignore_all=1",
            "--from 2001:db8::1 --to 2001:db8::2 --type 128/1",
            Some("echo_ignore_all is on"),
        ),
    ] {
        let mut words = prepare.split(' ');
        let program = words.next().expect("a word");
        let _done = host.run(program, &words.collect::<Vec<_>>()).expect_success();
        let found = stopped_by(&explained(host, question));
        match stopped {
            None => assert_eq!(found, Vec::<String>::new(), "{prepare}"),
            Some(text) => assert!(found.iter().any(|found| found.contains(text)), "{prepare}: {found:?}"),
        }
    }
    // The first fragment of a ping, which goes the same way.
    let mut fragment = Echo::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), vec![7; 32]).frame();
    let (flags, checksum) = (20, 24);
    fragment[flags] |= 0x20;
    let sum = u32::from(!u16::from_be_bytes([fragment[checksum], fragment[checksum + 1]])) + 0x2000;
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    fragment[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    let digits: String = fragment.iter().map(|byte| format!("{byte:02x}")).collect();
    let said = explained(host, &format!("--hex {digits}"));
    assert_eq!((&said["verdict"]["reason"], &said["frame"]["fragment"]), (&json!("fragment"), &json!(0)));
    assert!(stopped_by(&said).iter().any(|found| found.contains("icmp_echo_ignore_all is on")), "{said}");
    // Nothing of the kernel's is known about other kinds, nor said to be.
    let other = ctl::run(host, "explain --from 192.0.2.1 --to 192.0.2.2 --type timestamp-request");
    let unfolded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!unfolded(&other.expect_success()).contains("nothing that is known of stops it there"));
    let long = ctl::run(host, "explain --from 192.0.2.1 --to 192.0.2.2 --size 1473").expect_success();
    let long = unfolded(&long);
    assert!(long.contains("comes in fragments, because the MTU of the interface is 1500"), "{long}");
}
