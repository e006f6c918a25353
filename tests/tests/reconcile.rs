//! Every number in every output, compared with the frames that were sent.
//!
//! Owns that the counters as text, as JSON, in the metrics, in a capture and by rule, the driver's own, and those of both ends of the wire
//! agree about the same frames. Other tests prove the reasons of frames.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use icmp_common::reason::Reason;
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::generate::repair;
use icmp_tests::http::get;
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_IF, PEER_MAC, Pair};
use icmp_tests::packet::{ETHERTYPE_EXPERIMENT, Echo, Tag, be16, objections_to_reply, put16};
use icmp_tests::process::{self, Watch};
use icmp_tests::wire::Tap;
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const METRICS: &str = "127.0.0.1:9816";
const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// Second word of the requests that the kernel must not answer, so that a reply with it is the program's.
const OURS: u32 = 0xa115_0001;

/// Who sends more than one source may, and who shares its prefix and sends the rest that this may.
const LOUD: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const BESIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);

fn config(preset: &str, replies: &str) -> String {
    format!(
        "interfaces = [\"{HOST_IF}\"]
[limits]
per-source = {{ rate = \"1/h\", burst = 40 }}
per-prefix = {{ rate = \"1/h\", burst = 50 }}
replies    = {{ rate = \"{replies}\" }}
redirects  = {{ rate = \"0\" }}
[policy]
preset = \"{preset}\"
[policy.ipv4]
address-mask-request = \"pass\"
[policy.checks]
quote = \"drop\"
path-mtu = \"drop\"
router-guard = \"drop\"
routers = [\"fe80::1\"]
[[policy.rule]]
name = \"passed\"
from = [\"198.19.1.0/24\"]
type = \"echo-request\"
action = \"pass\"
[[policy.rule]]
name = \"blocked\"
from = [\"198.19.2.0/24\"]
type = \"echo-request\"
action = \"drop\"
[[policy.rule]]
name = \"slow\"
from = [\"198.19.3.0/24\"]
type = \"echo-request\"
action = \"limit\"
limit = \"1/h\"
burst = 1
[[responder.vip]]
prefix = \"203.0.113.1/32\"
check = \"file:/nowhere/at/all\"
[[responder.vip]]
prefix = \"203.0.113.2/32\"
check = \"file:/nowhere/at/all\"
unhealthy = \"drop\"
"
    )
}

/// A frame that is sent so many times, and what each ends in: its verdict, its reason, and the family and type it is counted under.
struct Part {
    ends: [&'static str; 4],
    times: u64,
    frame: Vec<u8>,
}

const PING: [&str; 2] = ["ipv4", "echo-request"];
const PING6: [&str; 2] = ["ipv6", "echo-request"];
/// Where nobody has looked for a message.
const NONE: [&str; 2] = ["ipv4", ""];

fn part(verdict_and_reason: [&'static str; 2], about: [&'static str; 2], times: u64, frame: Vec<u8>) -> Part {
    let ([verdict, reason], [family, icmp_type]) = (verdict_and_reason, about);
    Part { ends: [verdict, reason, family, icmp_type], times, frame }
}

/// A ping of a source of its own network, which no limit knows.
fn ping(network: u8) -> Echo {
    Echo::new(Ipv4Addr::new(198, 18, network, 1).into(), HOST4.into(), vec![7; usize::from(network)])
}

fn ping6(network: u16) -> Echo {
    let from = Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, 1);
    Echo::new(from.into(), HOST6.into(), vec![7; 32])
}

/// What the program answers, or stops.
fn ours(echo: Echo) -> Vec<u8> {
    Echo { second_word: OURS, ..echo }.frame()
}

fn from(source: Ipv4Addr) -> Echo {
    Echo { from: source.into(), ..ping(32) }
}

fn to(network: u8, destination: &str) -> Echo {
    Echo { to: destination.parse().expect("an address"), ..ping(network) }
}

fn changed(echo: Echo, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = echo.frame();
    change(&mut frame);
    frame
}

/// A message about a packet from this address.
fn error(network: u8, kind: u8, code: u8, second_word: u32, about: IpAddr) -> Vec<u8> {
    let quoted = Echo::new(about, Ipv4Addr::new(198, 18, 250, 1).into(), vec![0; 4]).frame();
    Echo { kind: Some(kind), code, second_word, data: quoted[14..].to_vec(), ..ping(network) }.frame()
}

fn discovery(kind: u8, from: &str, hop_limit: u8) -> Vec<u8> {
    let (from, to) = (from.parse().expect("one"), "ff02::1".parse().expect("one"));
    Echo { kind: Some(kind), ttl: hop_limit, second_word: 0, ..Echo::new(from, to, vec![0; 8]) }.frame()
}

/// What ends in each reason under the preset `host`; no two reasons have as many frames, so that none can be taken for another.
fn as_host() -> Vec<Part> {
    let experiment = [&HOST_MAC[..], &PEER_MAC, &ETHERTYPE_EXPERIMENT.to_be_bytes(), &[7; 40]].concat();
    let tagged = Echo { tags: vec![Tag { tpid: 0x8100, tci: 100 }], ..ping(34) };
    let padded = vec![0, 1, 4, 0, 0, 0, 0];
    let udp = changed(ping(35), |frame| {
        frame[23] = 17;
        repair(frame);
    });
    let of_version_5 = changed(ping(36), |frame| frame[14] = 0x55);
    let too_long = changed(ping(37), |frame| {
        put16(frame, 16, 1400);
        repair(frame);
    });
    let spoilt = |frame: &mut Vec<u8>| *frame.last_mut().expect("bytes") ^= 1;
    let to_all = Echo { to_mac: [1, 0, 0x5e, 0, 0, 1], ..to(58, "224.0.0.1") };
    let kind = |network: u8, kind: u8| Echo { kind: Some(kind), ..ping(network) }.frame();
    let elsewhere = Ipv4Addr::new(203, 0, 113, 9).into();
    vec![
        part(["answer", "answered"], PING, 40, ours(from(LOUD))),
        part(["limit", "limited-source"], PING, 2, ours(from(LOUD))),
        part(["answer", "answered"], PING, 10, ours(from(BESIDE))),
        part(["limit", "limited-prefix"], PING, 3, ours(from(BESIDE))),
        part(["answer", "answered"], PING6, 5, ours(ping6(9))),
        part(["pass", "not-icmp"], NONE, 4, udp),
        part(["pass", "not-ip"], ["other", ""], 5, experiment),
        part(["pass", "unknown-vlan"], NONE, 6, tagged.frame()),
        part(["pass", "truncated"], NONE, 7, ping(38).frame()[..20].to_vec()),
        part(["pass", "bad-ip-header"], NONE, 8, of_version_5),
        part(["pass", "ip-options"], PING, 9, Echo { options: vec![1; 4], ..ping(39) }.frame()),
        part(["pass", "reserved-flag"], PING, 10, Echo { fragment: 0x8000, ..ping(40) }.frame()),
        part(["pass", "fragment"], PING, 11, Echo { fragment: 0x2000, ..ping(41) }.frame()),
        part(
            ["pass", "extension-header"],
            PING6,
            12,
            Echo { extensions: vec![(60, padded)], ..ping6(10) }.frame(),
        ),
        part(["pass", "bad-length"], NONE, 13, too_long),
        part(["pass", "bad-ip-checksum"], NONE, 14, changed(ping(42), |frame| frame[24] ^= 1)),
        part(["pass", "foreign-mac"], NONE, 15, Echo { to_mac: [2, 0, 0, 0, 0, 77], ..ping(43) }.frame()),
        part(["pass", "link-group"], PING, 16, Echo { to_mac: [0xff; 6], ..ping(44) }.frame()),
        part(["pass", "not-own-address"], NONE, 17, to(59, "203.0.113.9").frame()),
        part(["pass", "martian-source"], NONE, 18, from([224, 0, 0, 9].into()).frame()),
        part(["pass", "own-source"], PING, 19, from([192, 0, 2, 77].into()).frame()),
        part(["pass", "policy-pass"], ["ipv4", "address-mask-request"], 20, kind(45, 17)),
        part(["pass", "within-limit"], ["ipv4", "timestamp-request"], 43, kind(46, 13)),
        part(["pass", "group-echo"], PING, 22, to_all.frame()),
        part(["pass", "echo-code"], PING, 23, Echo { code: 1, ..ping(47) }.frame()),
        part(["pass", "bad-icmp-checksum"], PING, 24, changed(ping(48), spoilt)),
        part(["pass", "rule-pass"], PING, 25, from([198, 19, 1, 1].into()).frame()),
        part(["pass", "unhealthy-vip"], PING, 27, to(60, "203.0.113.1").frame()),
        part(["drop", "unhealthy-vip-drop"], PING, 28, ours(to(61, "203.0.113.2"))),
        part(["drop", "policy-drop"], ["ipv4", "traceroute"], 29, kind(49, 30)),
        part(["drop", "rule-drop"], PING, 30, ours(from([198, 19, 2, 1].into()))),
        part(["drop", "bad-quote"], ["ipv4", "destination-unreachable"], 31, error(50, 3, 1, 0, elsewhere)),
        part(
            ["drop", "bad-path-mtu"],
            ["ipv4", "destination-unreachable/frag-needed"],
            32,
            error(51, 3, 4, 20, HOST4.into()),
        ),
        part(["drop", "bad-discovery"], ["ipv6", "nd-neighbor-solicit"], 33, discovery(135, "fe80::3", 64)),
        part(["drop", "router-guard"], ["ipv6", "nd-router-advert"], 34, discovery(134, "fe80::3", 255)),
        // What its rule has for it, first.
        part(["pass", "rule-pass"], PING, 1, from([198, 19, 3, 1].into()).frame()),
        part(["limit", "limited-rule"], PING, 35, ours(from([198, 19, 3, 1].into()))),
        part(["limit", "limited-budget"], ["ipv4", "redirect"], 36, error(52, 5, 1, 0, HOST4.into())),
        // From then on no more of IPv4 goes through at once.
        part(
            ["pass", "within-limit"],
            ["ipv4", "destination-unreachable/frag-needed"],
            1,
            error(53, 3, 4, 600, HOST4.into()),
        ),
        part(["pass", "beyond-path-mtu"], PING, 37, Echo { data: vec![7; 900], ..ping(54) }.frame()),
    ]
}

fn without_replies() -> Vec<Part> {
    vec![part(["limit", "limited-total"], PING, 38, ours(ping(55)))]
}

fn as_observer() -> Vec<Part> {
    vec![
        part(["pass", "would-answer"], PING, 39, ping(56).frame()),
        part(["pass", "would-drop"], ["ipv4", "traceroute"], 41, Echo { kind: Some(30), ..ping(57) }.frame()),
        part(["pass", "would-limit"], PING, 42, from(LOUD).frame()),
    ]
}

/// Frames and bytes, by what they have in common.
type Account<const N: usize> = BTreeMap<[String; N], (u64, u64)>;

fn add<const N: usize>(account: &mut Account<N>, of: [&str; N], packets: u64, bytes: u64) {
    let sum = account.entry(of.map(str::to_owned)).or_default();
    *sum = (sum.0 + packets, sum.1 + bytes);
}

/// What was sent, by verdict, reason, family and type.
fn sent(parts: &[Part]) -> Account<4> {
    let mut account = Account::new();
    for part in parts {
        add(&mut account, part.ends, part.times, part.times * part.frame.len() as u64);
    }
    account
}

/// The same by verdict and reason.
fn by_reason(account: &Account<4>) -> Account<2> {
    let mut sums = Account::new();
    for ([verdict, reason, ..], (packets, bytes)) in account {
        add(&mut sums, [verdict, reason], *packets, *bytes);
    }
    sums
}

fn packets(account: &Account<4>, is_of: impl Fn(&str) -> bool) -> u64 {
    account.iter().filter(|([verdict, ..], _)| is_of(verdict)).map(|(_, (packets, _))| packets).sum()
}

fn in_text(host: &Namespace) -> Account<2> {
    let text = ctl::run(host, "show counters").expect_success();
    let mut account = Account::new();
    for line in text.lines().skip(2) {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{line}"));
        add(&mut account, [words[0], words[1]], number(2), number(3));
    }
    let all: u64 = account.values().map(|(packets, _)| packets).sum();
    assert!(text.starts_with(&format!("{HOST_IF}: received {all}\n")), "{text}");
    account
}

fn in_json(host: &Namespace) -> Account<2> {
    let mut account = Account::new();
    for (name, reason) in ctl::counters(host, HOST_IF).reasons {
        if reason.packets > 0 {
            add(&mut account, [&reason.verdict, &name], reason.packets, reason.bytes);
        }
    }
    account
}

/// The samples of a metric with their labels.
fn samples(page: &str, metric: &str) -> Vec<(BTreeMap<String, String>, u64)> {
    let sample = |line: &str| {
        let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
        let labels = labels.split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Some((labels.collect(), value.parse().unwrap_or_else(|_| panic!("{line}"))))
    };
    page.lines().filter_map(sample).collect()
}

/// The one sample of a metric that has this label.
fn sample(page: &str, metric: &str, label: (&str, &str)) -> u64 {
    let all = samples(page, metric);
    let of: Vec<_> =
        all.iter().filter(|(labels, _)| labels.get(label.0).is_some_and(|v| v == label.1)).collect();
    assert_eq!(of.len(), 1, "{metric} of {label:?}: {all:?}");
    of[0].1
}

fn in_metrics(page: &str) -> Account<4> {
    let mut account = Account::new();
    for (metric, weights) in [("icmp_ctl_packets_total", (1, 0)), ("icmp_ctl_bytes_total", (0, 1))] {
        for (labels, value) in samples(page, metric).into_iter().filter(|(_, value)| *value > 0) {
            assert_eq!(labels["interface"], HOST_IF);
            let of = ["verdict", "reason", "family", "type"].map(|label| labels[label].as_str());
            add(&mut account, of, value * weights.0, value * weights.1);
        }
    }
    account
}

/// What the comments of a capture say.
fn in_comments(file: &str) -> Account<2> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", file, "-T", "fields", "-e", "frame.len", "-e", "frame.comment"]);
    let mut account = Account::new();
    for line in process::run(&mut tshark).expect_success().lines() {
        let mut words = line.split(['\t', ' ', ':', '.']).filter(|word| !word.is_empty());
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
        let (bytes, verdict, reason) = (word().parse().expect("a length"), word(), word());
        add(&mut account, [verdict, reason], 1, bytes);
    }
    account
}

/// A counter of the driver, over all queues.
fn in_driver(host: &Namespace, name: &str) -> u64 {
    let text = host.run("ethtool", &["-S", HOST_IF]).expect_success();
    let of = |line: &str| {
        let (counter, value) = line.trim().split_once(": ")?;
        counter.ends_with(name).then(|| value.parse::<u64>().expect("a number"))
    };
    let values: Vec<_> = text.lines().filter_map(of).collect();
    assert!(!values.is_empty(), "{name} in {text}");
    values.iter().sum()
}

/// Frames that have come to an interface, until there were so many, and those behind.
fn received(tap: &Tap, wanted: u64, is_meant: impl Fn(&[u8]) -> bool) -> u64 {
    let deadline = Instant::now() + LIMIT;
    let mut count = 0;
    while count < wanted && tap.find(deadline, |seen| is_meant(&seen.frame)).is_some() {
        count += 1;
    }
    count + std::iter::from_fn(|| tap.find(Instant::now(), |seen| is_meant(&seen.frame))).count() as u64
}

/// A reply to what only the program may answer.
fn is_ours(frame: &[u8]) -> bool {
    let word = if be16(frame, 12) == 0x0800 { 38 } else { 58 };
    frame.get(word..word + 4) == Some(&OURS.to_be_bytes()[..]) && objections_to_reply(frame).is_empty()
}

/// A pair whose stacks answer what is passed without a word on the wire to the host.
fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter", "ethtool", "tshark"]).then(|| {
        let pair = Pair::new(1500);
        for address in ["192.0.2.1", "2001:db8::1"] {
            pair.host.ip(&format!(
                "neighbour replace {address} lladdr 02:00:00:00:00:01 dev {HOST_IF} nud permanent"
            ));
        }
        for namespace in [&pair.host, &pair.peer] {
            namespace.sysctl("net/ipv4/ip_forward", "0");
        }
        pair
    })
}

#[test]
fn every_number_shown_is_of_the_frames_that_were_sent() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let mut serve = Watch::start(&mut ctl::command(
        host,
        &format!("serve -f {}", folder.file("host.toml", &config("host", "unlimited"))),
    ));
    serve.wait_for("serving metrics", LIMIT);
    let before = ctl::counters(host, HOST_IF).received;
    assert_eq!(before, 0, "nothing is on the wire that this test has not sent");
    let link_before = sample(
        &get(host, METRICS, "/metrics"),
        "icmp_ctl_interface_received_frames_total",
        ("interface", HOST_IF),
    );
    let driver_before = ["xdp_packets", "xdp_drops", "xdp_tx"].map(|name| in_driver(host, name));

    let stages = [
        (None, as_host()),
        (Some(config("host", "0")), without_replies()),
        (Some(config("observe", "unlimited")), as_observer()),
    ];
    let total: u64 = stages.iter().flat_map(|(_, parts)| parts).map(|part| part.times).sum();
    let file = folder.path().join("all.pcapng");
    let file = file.to_str().expect("UTF-8");
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let words = format!("capture -w {file} -c {total} --rate unlimited -j --reason {}", reasons.join(","));
    let mut capture = Watch::start(&mut ctl::command(host, &words));
    capture.wait_for("capturing", LIMIT);

    let at_host = pair.host.enter(|| Tap::open_for_incoming(HOST_IF));
    let (at_peer, sender) = pair.peer.enter(|| (Tap::open_for_incoming(PEER_IF), Tap::open(PEER_IF)));
    let (mut all, mut so_far) = (Vec::new(), 0);
    for (config, parts) in stages {
        if let Some(config) = config {
            let _said =
                ctl::run(host, &format!("apply -f {}", folder.file("next.toml", &config))).expect_success();
        }
        for part in parts {
            for _ in 0..part.times {
                sender.send(&part.frame).expect("sent");
            }
            so_far += part.times;
            let deadline = Instant::now() + LIMIT;
            while ctl::counters(host, HOST_IF).received < so_far {
                assert!(Instant::now() < deadline, "{:?} is not counted", part.ends);
            }
            all.push(part);
        }
    }
    let sent = sent(&all);
    let by_reason = by_reason(&sent);
    let counts: BTreeSet<_> = by_reason.values().map(|(packets, _)| packets).collect();
    assert_eq!(counts.len(), by_reason.len(), "as many frames of two reasons tell nothing: {by_reason:?}");

    assert_eq!(in_json(host), by_reason, "show counters -j");
    assert_eq!(in_text(host), by_reason, "show counters");
    let page = get(host, METRICS, "/metrics");
    assert_eq!(in_metrics(&page), sent, "/metrics");
    assert_eq!(in_metrics(&ctl::run(host, "show metrics").expect_success()), sent, "show metrics");
    let said: Value = serde_json::from_str(&capture.wait_for("schema", LIMIT)).expect("JSON");
    for (field, count) in [("captured", total), ("asked", total), ("over_rate", 0), ("lost", 0)] {
        assert_eq!(said[field], count, "{said}");
    }
    assert_eq!(in_comments(file), by_reason, "the comments of the capture");

    let reason =
        |name: &str| by_reason.iter().find(|([_, reason], _)| reason == name).map_or(0, |(_, sum)| sum.0);
    for (check, failed) in [
        ("quote", "bad-quote"),
        ("path-mtu", "bad-path-mtu"),
        ("neighbour-discovery", "bad-discovery"),
        ("router-guard", "router-guard"),
    ] {
        let failures = sample(&page, "icmp_ctl_check_failures_total", ("check", check));
        assert_eq!(failures, reason(failed), "{check}");
    }
    let listed: Value = serde_json::from_str(&ctl::run(host, "rule list -j").expect_success()).expect("JSON");
    let rules = listed["rules"].as_array().expect("a list").iter();
    let hits: Vec<_> = rules.map(|rule| (rule["hits"].as_u64(), rule["limited"].as_u64())).collect();
    let slow = (Some(reason("limited-rule") + 1), Some(reason("limited-rule")));
    assert_eq!(
        hits,
        [(Some(reason("rule-pass") - 1), Some(0)), (Some(reason("rule-drop")), Some(0)), slow],
        "{listed}"
    );

    let (passed, answered) = (packets(&sent, |v| v == "pass"), packets(&sent, |v| v == "answer"));
    let stopped = packets(&sent, |v| v == "drop" || v == "limit");
    let driver = ["xdp_packets", "xdp_drops", "xdp_tx"].map(|name| in_driver(host, name));
    let driver: Vec<_> = driver.iter().zip(driver_before).map(|(now, before)| now - before).collect();
    assert_eq!(driver, [total, stopped, answered], "the driver's own counters");
    assert_eq!(in_driver(host, "xdp_tx_errors"), 0);
    assert_eq!(sample(&page, "icmp_ctl_driver_tx_failures_total", ("interface", HOST_IF)), 0);
    let link = sample(&page, "icmp_ctl_interface_received_frames_total", ("interface", HOST_IF));
    assert_eq!(link - link_before, total, "the frames of the link");
    assert_eq!(received(&at_peer, answered, is_ours), answered, "answers that have come back");
    assert_eq!(received(&at_host, passed, |_| true), passed, "frames that the kernel has");

    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let _done = ctl::run(host, "detach --all").expect_success();
}
