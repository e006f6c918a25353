//! Peers: the hosts that ping this one, and the figures of the path from each.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use icmp_common::abi::Peer;
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::peers::Room;
use icmp_ctl::instance::program::{Entry, LoadOptions};
use icmp_tests::ctl::{self, Attached, UNLIMITED};
use icmp_tests::folder::Folder;
use icmp_tests::generate::{self, Random};
use icmp_tests::host::{self, InKernel};
use icmp_tests::http;
use icmp_tests::netns::{self, HOST_IF, Namespace, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process::{self, Watch};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Everybody is tracked.
fn tracking() -> Compiled {
    host::policy_of(&tracked(""))
}

/// Everybody in the table.
fn all_of(kernel: &mut InKernel) -> (Vec<Peer>, Room) {
    let mut peers = Vec::new();
    let room = kernel.maps().each_peer(|peer| peers.push(*peer)).expect("the table");
    (peers, room)
}

/// All that does not depend on the clock.
type Timeless = ([u64; 4], u16, [u32; 4], u64, [u16; 5]);

fn timeless(peers: impl IntoIterator<Item = Peer>) -> Vec<Timeless> {
    let of = |peer: Peer| {
        (
            [peer.source_high, peer.source_low, peer.destination_high, peer.destination_low],
            peer.identifier,
            [peer.received, peer.expected, peer.duplicates, peer.late],
            peer.window,
            [peer.highest, peer.stride, peer.gap, peer.run, peer.span],
        )
    };
    let mut all: Vec<_> = peers.into_iter().map(of).collect();
    all.sort_unstable();
    all
}

fn request(source: u32, identifier: u16, sequence: u16) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = if source.is_multiple_of(2) {
        (Ipv4Addr::from(0x0a09_0000 + source).into(), Ipv4Addr::new(192, 0, 2, 2).into())
    } else {
        let from = Ipv6Addr::from_bits(0x2001_0db8_0009_0001_u128 << 64 | u128::from(source));
        (from.into(), "2001:db8::2".parse::<Ipv6Addr>().expect("an address").into())
    };
    let mut echo = Echo::new(from, to, vec![0x5a; 56]);
    echo.second_word = u32::from(identifier) << 16 | u32::from(sequence);
    echo.frame()
}

#[test]
fn kernel_and_host_agree_about_peers() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let mut random = Random::new(generate::seed());
    // A pause of the machine is a pause of all that ping; then it is tried again.
    for _ in 0..10 {
        let mut kernel = host::unconfigured();
        let host = kernel.policy(&tracking(), &[]);
        let (began, mut sequences) = (Instant::now(), [[0_u16; 2]; 300]);
        for n in 0..4000_u64 {
            let (source, identifier) = (random.below(300), random.below(2));
            let sequence = &mut sequences[source][identifier];
            // Some are lost, some come twice, and some late.
            let (ahead, back) =
                ([1, 1, 1, 1, 2, 3, 0][random.below(7)], [0, 0, 0, 0, 0, 2, 5][random.below(7)]);
            *sequence = sequence.wrapping_add(ahead);
            let frame = request(
                u32::try_from(source).expect("few"),
                u16::try_from(identifier).expect("few"),
                sequence.wrapping_sub(back),
            );
            let entry = if n % 2 == 0 { Entry::Xdp } else { Entry::XdpFrags };
            let (verdict, after) = kernel.run(entry, &frame);
            host.tables().set_monotonic_ns((1 << 40) + n * 100_000);
            let mut on_host = frame;
            assert_eq!((verdict, host.run(&mut on_host).reason), (Verdict::Answer, Reason::Answered));
            assert_eq!(after, on_host);
        }
        if began.elapsed() > Duration::from_secs(1) {
            continue;
        }
        let (in_kernel, room) = all_of(&mut kernel);
        let on_host: Vec<_> = host.tables().peers().collect();
        let without: u64 = on_host.iter().map(|(_, peers)| peers.without_place).sum();
        let on_host = on_host.iter().flat_map(|(_, peers)| peers.places).filter(|peer| peer.first_at != 0);
        assert_eq!(timeless(in_kernel.iter().copied()), timeless(on_host));
        assert_eq!(room.without_place, without);
        assert!(in_kernel.len() > 300 && in_kernel.iter().any(|peer| peer.late > 0));
        return;
    }
    panic!("no run of 4000 frames took less than a second");
}

#[test]
fn cpus_that_meet_in_a_bucket_leave_each_other_whole() {
    const EACH: u16 = 1000;
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let _host = kernel.policy(&tracking(), &[]);
    let shared = &kernel;
    thread::scope(|scope| {
        for identifier in 0..4 {
            scope.spawn(move || {
                for sequence in 1..=EACH {
                    let (verdict, _) = shared.run(Entry::Xdp, &request(0, identifier, sequence));
                    assert_eq!(verdict, Verdict::Answer);
                }
            });
        }
    });
    let (peers, _room) = all_of(&mut kernel);
    let mut identifiers: Vec<_> = peers.iter().map(|peer| peer.identifier).collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [0, 1, 2, 3], "one bucket has all of them");
    for peer in &peers {
        assert_eq!((peer.duplicates, peer.late, peer.stride), (0, 0, 1), "{peer:?}");
        assert!(peer.highest <= EACH && peer.received <= peer.expected, "{peer:?}");
        // A CPU that is not let in leaves a request out; here, unlike in the driver, who has the lock may be made to pause.
        assert!((u32::from(EACH) / 2..=u32::from(EACH)).contains(&peer.received), "{peer:?}");
    }
}

#[test]
fn a_larger_table_has_a_place_for_each_of_as_many() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let options = LoadOptions::new(LoadOptions::DEFAULT_LINES).expect("random numbers");
    let mut kernel = host::loaded(LoadOptions { peer_buckets: 1 << 11, ..options });
    let _host = kernel.policy(&tracking(), &[]);
    for source in 0..4096 {
        let (verdict, _) = kernel.run(Entry::Xdp, &request(source, 1, 1));
        assert_eq!(verdict, Verdict::Answer);
    }
    let (peers, room) = all_of(&mut kernel);
    assert_eq!(peers.len() as u64 + room.without_place, 4096);
    assert!(room.without_place < 4096 / 10, "{}", room.without_place);
}

/// Addresses of a client behind a router, and what that loses.
const CLIENT: &str = "10.9.0.1";

/// A client, a router in between that the host's peer is, and the host.
struct Path {
    pair: Pair,
    client: Namespace,
}

impl Path {
    fn new() -> Self {
        let pair = Pair::new(1500);
        let client = Namespace::new("client");
        netns::join(&client, "client0", [2, 0, 0, 0, 0, 9], &pair.peer, "middle0", [2, 0, 0, 0, 0, 8], 1500);
        client.ip(&format!("address add {CLIENT}/24 dev client0"));
        pair.peer.ip("address add 10.9.0.254/24 dev middle0");
        for (namespace, interface) in [(&client, "client0"), (&pair.peer, "middle0")] {
            namespace.ip(&format!("link set {interface} up"));
        }
        client.ip("route add default via 10.9.0.254");
        pair.host.ip("route add 10.9.0.0/24 via 192.0.2.1");
        pair.peer.sysctl("net/ipv4/ip_forward", "1");
        Self { pair, client }
    }

    /// Has the router do this with requests to the host.
    fn nft(&self, rules: &str) {
        let folder = Folder::new();
        let chain = format!(
            "table ip t {{\n chain c {{\n type filter hook prerouting priority 0;\n {rules}\n }}\n }}\n"
        );
        let file = folder.file("rules.nft", &chain);
        let _done = process::run(self.pair.peer.command("nft").args(["-f", &file])).expect_success();
    }

    /// Packets that the router has counted.
    fn counted(&self) -> f64 {
        let listed = self.pair.peer.run("nft", &["-j", "list", "ruleset"]).expect_success();
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let mut counters = Vec::new();
        counters_in(&listed, &mut counters);
        assert_eq!(counters.len(), 1, "{listed}");
        counters[0]
    }
}

fn counters_in(value: &Value, found: &mut Vec<f64>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value["packets"].as_f64() {
            Some(packets) if key == "counter" => found.push(packets),
            _ => counters_in(value, found),
        }),
        Value::Array(values) => values.iter().for_each(|value| counters_in(value, found)),
        _ => {}
    }
}

fn peers(namespace: &Namespace, words: &str) -> Vec<Value> {
    let said = ctl::run(namespace, &format!("peers -j {words}")).expect_success();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["schema"], &said["tracking"]), (&json!(1), &json!(true)), "{said}");
    said["peers"].as_array().expect("a list").clone()
}

fn tracked(more: &str) -> String {
    format!("[peers]\ntrack = 10000\n{more}\n{UNLIMITED}")
}

#[test]
fn loss_is_right_within_half_a_percentage_point_over_two_thousand_pings() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping", "nft"]) {
        return;
    }
    let path = Path::new();
    let named = format!("[[peers.named]]\nname = \"site-b\"\naddress = \"{CLIENT}\"");
    let folder = Folder::new();
    let file = folder.file("icmp-ctl.toml", &tracked(&named));
    let _attached = Attached::with(&path.pair.host, HOST_IF, &format!("--mode native -f {file}"));
    path.nft("ip daddr 192.0.2.2 icmp type echo-request numgen random mod 100 < 20 counter drop");
    let _said = path.client.run("ping", &["-q", "-c", "2000", "-i", "0.002", "-W", "1", "192.0.2.2"]);
    let rows = peers(&path.pair.host, "");
    let row = rows.iter().find(|row| row["address"] == CLIENT).expect("the client");
    let lost = path.counted() / 2000.0;
    let shown = row["loss"].as_f64().expect("a regular peer");
    assert!((shown - lost).abs() <= 0.005, "{lost} were dropped: {row}");
    assert!((0.15..0.25).contains(&lost), "{lost}");
    assert_eq!(
        (&row["duplicates"], &row["reordered"], &row["name"]),
        (&json!(0), &json!(0), &json!("site-b"))
    );
    let interval = row["interval_ns"].as_f64().expect("a number") / 1e6;
    assert!((1.0..20.0).contains(&interval), "{row}");
    // What is shown is the same, and can be asked for by name.
    let text = ctl::run(&path.pair.host, "peers site-b").expect_success();
    assert!(text.contains(&format!("{:.1} %", shown * 100.0)), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(peers(&path.pair.host, "192.0.2.0/24"), Vec::<Value>::new());
    let metrics = ctl::run(&path.pair.host, "show metrics").expect_success();
    assert!(metrics.contains("icmp_ctl_peer_loss_ratio{peer=\"site-b\"} 0."), "{metrics}");
    assert!(metrics.contains("icmp_ctl_peers 1\n"), "{metrics}");
    assert!(!metrics.contains(CLIENT), "no address is a label: {metrics}");
}

/// The file is read for each scrape, and understood where its text is another one.
#[test]
fn a_scrape_has_the_names_that_the_file_has_now() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let folder = Folder::new();
    let write = |name: &str| {
        let named = format!("[[peers.named]]\nname = \"{name}\"\naddress = \"192.0.2.1\"");
        folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{}", tracked(&named)))
    };
    let file = write("site-b");
    let mut serve = Watch::start(&mut ctl::command(&pair.host, &format!("serve -f {file}")));
    let _line = serve.wait_for("serving metrics", Duration::from_secs(30));
    let _said = pair.peer.ping(&["-c", "1", "192.0.2.2"]);
    for name in ["site-b", "site-b", "site-c"] {
        let _path = write(name);
        let page = http::get(&pair.host, "127.0.0.1:9816", "/metrics");
        let named: Vec<_> =
            page.lines().filter(|line| line.starts_with("icmp_ctl_peer_silent_seconds{")).collect();
        let start = format!("icmp_ctl_peer_silent_seconds{{peer=\"{name}\"}} ");
        assert!(matches!(named[..], [one] if one.starts_with(&start)), "{name}: {named:?}");
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let _detached = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn a_client_that_numbers_over_several_targets_loses_nothing_by_that() {
    if !icmp_tests::can_run(&["ip", "nsenter", "fping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let config = tracked("[responder]\nvips = [\"198.51.100.7/32\"]");
    let _attached = Attached::configured(&pair.host, HOST_IF, &config);
    pair.peer.ip("route add 198.51.100.7/32 via 192.0.2.2");
    let words = ["-q", "-c", "60", "-p", "4", "-i", "1", "192.0.2.2", "192.0.2.77", "198.51.100.7"];
    let _said = pair.peer.run("fping", &words).expect_success();
    let rows = peers(&pair.host, "192.0.2.0/24");
    let destinations: BTreeSet<_> = rows.iter().filter_map(|row| row["destination"].as_str()).collect();
    assert_eq!(destinations, BTreeSet::from(["192.0.2.2", "192.0.2.77", "198.51.100.7"]), "{rows:?}");
    for row in rows {
        assert_eq!((&row["received"], &row["expected"]), (&json!(60), &json!(60)), "{row}");
    }
}

#[test]
fn where_prefixes_are_named_others_are_not_tracked_and_what_is_in_force_says_so() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let _attached = Attached::configured(&pair.host, HOST_IF, UNLIMITED);
    let nobody = ctl::run(&pair.host, "peers").expect_success();
    assert!(nobody.contains("no peer is tracked"), "{nobody}");
    let folder = Folder::new();
    let apply = |track: &str| {
        let file = folder.file("icmp-ctl.toml", &format!("peers.track = {track}\n{UNLIMITED}"));
        ctl::run(&pair.host, &format!("apply -f {file}")).expect_success()
    };
    let said = apply("[\"2001:db8::/64\"]");
    assert!(
        said.contains("- peers.track = nobody\n") && said.contains("+ peers.track = 2001:db8::/64\n"),
        "{said}"
    );
    for target in ["192.0.2.2", "2001:db8::2"] {
        let _said = pair.peer.ping_each(3, &[target]);
    }
    let rows = peers(&pair.host, "");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["address"], &rows[0]["destination"]),
        (&json!("2001:db8::1"), &json!("2001:db8::2"))
    );
    let shown = ctl::run(&pair.host, "show config").expect_success();
    assert!(shown.contains("track = [\"2001:db8::/64\"]"), "{shown}");
    // More than there is room for is tracked as far as there is.
    let said = apply("200000");
    assert!(
        said.contains("+ peers.track = 200000\n") && said.contains("when the program is loaded again"),
        "{said}"
    );
    let _said = pair.peer.ping_each(3, &["192.0.2.2"]);
    assert_eq!(peers(&pair.host, "").len(), 2);
}

#[test]
fn what_show_config_says_of_more_peers_than_there_is_room_for_changes_nothing() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let (pair, folder) = (Pair::new(1500), Folder::new());
    let _attached = Attached::new(&pair.host, HOST_IF);
    for track in ["200000", "[\"192.0.2.0/24\"]", "[]", "100"] {
        let file = folder.file("icmp-ctl.toml", &format!("peers.track = {track}\n"));
        let _said = ctl::run(&pair.host, &format!("apply -f {file}")).expect_success();
        let shown = ctl::run(&pair.host, "show config").expect_success();
        let file = folder.file("shown.toml", &shown);
        for command in ["apply --check", "apply"] {
            let said = ctl::run(&pair.host, &format!("{command} -f {file}")).expect_success();
            assert_eq!(said, "no change\n", "{command} {track}: {shown}");
        }
    }
}

#[test]
fn peers_that_are_asked_for_and_cannot_be_or_are_not_there_are_told() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let (pair, folder) = (Pair::new(1500), Folder::new());
    let named = tracked("[[peers.named]]\nname = \"site-b\"\naddress = \"192.0.2.1\"");
    let file = folder.file("icmp-ctl.toml", &named);
    let _attached = Attached::with(&pair.host, HOST_IF, &format!("-f {file}"));
    for (words, code, why) in [
        ("site-c", 1, "no peer is called \"site-c\" by `[[peers.named]]`; did you mean site-b?"),
        ("192.0.2.1/24", 1, "the prefix is 192.0.2.0/24"),
        ("192.0.2.1 10.0.0.0/33", 1, "is no address and no prefix"),
        ("-n 0", 2, "it is 1 or more"),
        ("site-b", 0, "site-b: no ping from there was answered"),
        ("198.51.100.0/24", 0, "198.51.100.0/24: no ping from there was answered"),
    ] {
        let asked = ctl::run(&pair.host, &format!("peers {words}"));
        assert!(asked.code == Some(code) && asked.stderr.contains(why), "{words}: {asked}");
    }
    let _said = pair.peer.ping_each(3, &["192.0.2.2"]);
    let asked = ctl::run(&pair.host, "peers site-b 192.0.2.0/24");
    assert!(asked.code == Some(0) && asked.stderr.is_empty() && asked.stdout.contains("site-b"), "{asked}");
}

#[test]
fn names_that_apply_does_not_take_are_told_with_the_file_that_has_them() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let (pair, folder) = (Pair::new(1500), Folder::new());
    let started = folder.file("started.toml", &tracked(""));
    let _attached = Attached::with(&pair.host, HOST_IF, &format!("-f {started}"));
    let named = "[[peers.named]]\nname = \"site-b\"\naddress = \"192.0.2.1\"";
    let other = folder.file("other.toml", &tracked(&format!("{named}\n[serve]\non-stop = \"detach\"\n")));
    let why = format!("[[peers.named]], [serve]: not put in force: it is taken from {started}");
    for (command, is_told) in [
        (format!("apply --check -f {other}"), true),
        (format!("apply -f {other} --save={other}"), true),
        (format!("apply -f {other}"), true),
        (format!("apply -f {started}"), false),
        (format!("apply -f {other} --save"), false),
        (format!("apply -f {other}"), false),
    ] {
        let applied = ctl::run(&pair.host, &command);
        assert_eq!(applied.stderr.contains(&why), is_told, "{applied}");
        assert_eq!(applied.code, Some(0), "{applied}");
    }
    let unknown = ctl::run(&pair.host, "peers site-b");
    assert_eq!(unknown.code, Some(0), "it is saved: {unknown}");
    std::fs::remove_file(&started).expect("it is there");
    let applied = ctl::run(&pair.host, &format!("apply -f {other}"));
    assert!(
        applied.stderr.contains("comes back from, which is not there; `--save` writes it there"),
        "{applied}"
    );
}
