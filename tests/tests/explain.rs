//! `icmp-ctl explain`: its result for a packet is that of the program, and asking changes nothing.
//!
//! Owns the ways to give a packet. `explain_host.rs` has what is known about the host around the program; other tests prove the reasons of
//! frames, and the words of the stages are tested beside the code.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use icmp_common::reason::Verdict;
use icmp_ctl::explain::subject::Subject;
use icmp_ctl::instance::pins::View;
use icmp_ctl::instance::snapshot::Snapshot;
use icmp_tests::can_run;
use icmp_tests::capture::Order;
use icmp_tests::comparator::{Outcome, objections};
use icmp_tests::ctl::{self, Attached, UNLIMITED, explained};
use icmp_tests::faults::World;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, PEER_IF, Pair};
use icmp_tests::packet::{self, Echo};
use icmp_tests::process;
use icmp_tests::vectors::{self, from_hex};
use icmp_tests::wire::Tap;
use serde_json::{Value, json};

/// What a configuration alone makes of a packet to a host that has 192.0.2.2, by a user without privileges.
fn alone(arguments: &[&str]) -> Value {
    let mut command = Command::new(ctl::program());
    command.arg("explain").args(arguments).args(["-j", "--own", "192.0.2.2/24"]).uid(65_534).gid(65_534);
    let text = process::run(&mut command).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn ping(from: [u8; 4]) -> Vec<u8> {
    Echo::new(from.into(), [192, 0, 2, 2].into(), vec![7; 32]).frame()
}

#[test]
fn every_vector_is_explained_with_its_verdict_in_the_kernel_and_on_the_host() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let all = vectors::all();
    let (mut bad, mut judged) = (Vec::new(), 0);
    for mtu in [1500, 9000] {
        let pair = Pair::new(mtu);
        // A table of this size is copied in no time.
        let config = format!("{UNLIMITED}memory = \"128KiB\"\n");
        let _attached = Attached::configured(&pair.host, HOST_IF, &config);
        let of_mtu: Vec<_> = all.iter().filter(|v| v.ifconfig.mtu == mtu).collect();
        judged += of_mtu.len();
        bad.extend(pair.host.enter(|| {
            let mut subject = Subject::in_force(None).expect("it is attached");
            assert!(subject.loaded().is_some_and(|loaded| loaded.is_same), "this build has loaded it");
            let mut bad = Vec::new();
            for vector in &of_mtu {
                let Ok(explained) = subject.explain(&vector.frame) else {
                    assert!(vector.frame.len() < 14, "{}: it cannot be run", vector.id);
                    eprintln!("{}: not runnable without an Ethernet header", vector.id);
                    continue;
                };
                let outcome = match (explained.reply(), explained.reason().verdict()) {
                    (Some(reply), _) => Outcome::Answer(reply.to_vec()),
                    (None, Verdict::Pass) => Outcome::Pass,
                    (None, _) => Outcome::Drop,
                };
                let objections = objections(vector, &outcome).into_iter().chain(explained.disagreement());
                bad.extend(objections.map(|what| format!("{}: {what}", vector.id)));
            }
            bad
        }));
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(judged, vectors::COUNT);
}

#[test]
fn a_packet_is_the_same_given_as_fields_as_digits_or_in_a_capture() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "[limits]\nper-source = { rate = \"5/s\", burst = 9 }\n");
    for fields in [
        "--from 198.51.100.7 --to 192.0.2.2",
        "--from 198.51.100.7 --to 192.0.2.2 --size 1400 --hop-limit 9",
        "--from 198.51.100.7 --to 192.0.2.2 --vlan 100",
        "--from 198.51.100.7 --to 192.0.2.2 --vlan 100,7 --size 0",
        "--from 198.51.100.7 --to 192.0.2.2 --type 3/4",
        "--from 2001:db8::7 --to ff02::1 --type nd-neighbor-solicit --hop-limit 255",
    ] {
        let fields: Vec<_> = fields.split(' ').collect();
        let said = alone(&[&fields[..], &["-f", &config]].concat());
        let digits = said["frame"]["hex"].as_str().expect("digits");
        assert_eq!(alone(&["--hex", digits, "-f", &config]), said, "{fields:?}");
        let frames = [ping([198, 51, 100, 1]), from_hex(digits).expect("digits")].map(|frame| (0, frame));
        let file = folder.path().join("capture");
        fs::write(&file, Order { big: true }.pcapng(6, &frames)).expect("written");
        let file = file.to_str().expect("UTF-8");
        assert_eq!(alone(&["--pcap", file, "--packet", "2", "-f", &config]), said, "{fields:?}");
        if said["frame"]["type"] == 8 {
            assert_eq!(said["verdict"]["reason"], "answered", "its checksums are right: {said}");
            let reply = from_hex(said["reply"]["hex"].as_str().expect("digits")).expect("digits");
            assert_eq!(packet::objections_to_reply(&reply), Vec::<String>::new(), "{fields:?}");
        }
    }
}

/// All that is counted, and all that is remembered.
fn everything() -> (String, String) {
    let read = View::look(|view| {
        let maps = &view.maps;
        let counted = (maps.counters()?, maps.rule_counters()?, maps.heavy_hitters()?);
        let copy = Snapshot::of(view)?.expect("a policy");
        Ok((format!("{counted:?}"), format!("{:?}", (copy.memory, copy.cpus, maps.switch()?))))
    });
    read.expect("read").expect("it is loaded")
}

const QUESTIONS: [&str; 4] = [
    "--from 198.51.100.7 --to 192.0.2.2",
    "--from 2001:db8::7 --to 2001:db8::2",
    "--from 198.51.100.7 --to 192.0.2.2 --type timestamp-request",
    "--from 198.51.100.7 --to 192.0.2.2 --type 3/4",
];

#[test]
fn nothing_is_changed_by_explaining() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let config = "[limits]\nper-source = { rate = \"1/h\", burst = 20 }\n";
    let _attached = Attached::configured(&pair.host, HOST_IF, config);
    // What the peer's stack says by itself may come in between.
    for _ in 0..10 {
        let before = pair.host.enter(everything);
        for question in QUESTIONS {
            let said = explained(&pair.host, question);
            assert_eq!(said["kernel"]["agrees"], true, "{said}");
        }
        let after = pair.host.enter(everything);
        if after.0 == before.0 {
            assert!(after.1 == before.1, "nothing was counted, and what is remembered is another");
            return;
        }
    }
    panic!("something was counted each time");
}

#[test]
fn nothing_is_changed_by_explaining_while_a_flood_is_handled() {
    const FLOOD: u64 = 20_000;
    const BURST: u64 = 3;
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let config = format!("[limits]\nper-source = {{ rate = \"1/h\", burst = {BURST} }}\n");
    let attached = Attached::configured(&pair.host, HOST_IF, &config);
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    let before = attached.counters();
    let pinged = |counters: &ctl::Counters| -> u64 {
        ["answered", "limited-source"].iter().map(|reason| counters.packets(reason)).sum()
    };
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for i in 0..FLOOD {
                tap.send(&ping([203, 0, 113, (i % 8) as u8])).expect("sent");
                if i % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        // More often than the burst allows.
        let mut asked = 0;
        while asked <= BURST || !flood.is_finished() {
            let said = explained(&pair.host, QUESTIONS[0]);
            assert_eq!(said["verdict"]["reason"], "answered", "after {asked}: {said}");
            let of_source = said["limits"].as_array().into_iter().flatten();
            let of_source: Vec<_> = of_source.filter(|limit| limit["limit"] == "per-source").collect();
            assert_eq!(
                (&of_source[0]["before"], &of_source[0]["after"]),
                (&json!(BURST), &json!(BURST - 1)),
                "{said}"
            );
            asked += 1;
        }
    });
    let deadline = Instant::now() + process::LIMIT;
    let mut now = attached.counters();
    while pinged(&now) < pinged(&before) + FLOOD && Instant::now() < deadline {
        now = attached.counters();
    }
    assert_eq!(pinged(&now) - pinged(&before), FLOOD, "{now:?}");
    assert_eq!(now.answered() - before.answered(), 8 * BURST, "{now:?}");
}

#[test]
fn a_source_over_its_limit_is_told_with_what_is_left_to_it() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let config = "[limits]\nper-source = { rate = \"1/h\", burst = 2 }\n";
    let attached = Attached::configured(&pair.host, HOST_IF, config);
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    let before = attached.counters();
    (0..3).for_each(|_| tap.send(&ping([198, 51, 100, 7])).expect("sent"));
    let deadline = Instant::now() + process::LIMIT;
    while attached.counters().packets("limited-source") == before.packets("limited-source") {
        assert!(Instant::now() < deadline, "the third was not limited");
    }
    let said = explained(&pair.host, QUESTIONS[0]);
    assert_eq!(said["verdict"]["reason"], "limited-source", "{said}");
    let mut limits = said["limits"].as_array().into_iter().flatten();
    let limit = limits.find(|limit| limit["limit"] == "per-source").expect("the limit");
    let left = json!({ "limit": "per-source", "of": "198.51.100.7/32", "rate": "1/h", "burst": 2, "before": 0,
                       "after": 0, "cpu_before": null, "cpu_after": null });
    assert_eq!(*limit, left, "{said}");
    let other = explained(&pair.host, "--from 198.51.100.8 --to 192.0.2.2");
    assert_eq!(other["verdict"]["reason"], "answered", "{other}");
}

#[test]
fn a_configuration_that_is_not_in_force_is_explained_on_this_host() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let folder = Folder::new();
    let pair = Pair::new(1500);
    let _attached = Attached::configured(&pair.host, HOST_IF, UNLIMITED);
    let strict = folder.file("strict.toml", "[policy]\npreset = \"strict\"\n");
    let question = "--from 198.51.100.7 --to 192.0.2.2 --type timestamp-request";
    assert_eq!(explained(&pair.host, question)["verdict"]["reason"], "within-limit");
    let said = explained(&pair.host, &format!("{question} -f {strict} -i {HOST_IF}"));
    assert_eq!(
        (&said["verdict"]["reason"], &said["kernel"]["agrees"]),
        (&json!("policy-drop"), &json!(true))
    );
    // Which interface is meant has to be known.
    let refused = ctl::run(&pair.host, &format!("explain {question} -f {strict}"));
    assert!(refused.code == Some(1) && refused.stderr.contains("-i IFACE"), "{refused}");
}

/// Breaks a guard, and has a rule that matches nothing.
const REFUSED: &str = "
[[policy.rule]]
name = \"nobody\"
from = []
type = \"echo-request\"
action = \"drop\"
[[policy.rule]]
name = \"errors\"
from = [\"198.51.100.0/24\"]
family = \"ipv4\"
type = \"3/4\"
action = \"drop\"
";

#[test]
fn a_configuration_that_apply_refuses_is_explained_and_replayed_with_what_apply_says() {
    let folder = Folder::new();
    let config = folder.file("config.toml", REFUSED);
    let run = |arguments: &[&str]| process::run(Command::new(ctl::program()).args(arguments));
    let apply = run(&["apply", "--check", "-f", &config]);
    let sentence = apply.stderr.trim_start_matches("icmp-ctl: ").trim_end();
    assert!(apply.code == Some(6) && sentence.contains("--allow-break pmtud"), "{apply}");
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &[(0, ping([198, 51, 100, 1]))])).expect("written");
    let file = file.to_str().expect("UTF-8");
    let allowed =
        folder.file("allowed.toml", &format!("[policy]\nallow-break = [\"pmtud\", \"errors\"]\n{REFUSED}"));
    for of in [
        &["explain", "--pcap", file, "--own", "192.0.2.2", "-f"][..],
        &["replay", file, "--own", "192.0.2.2", "-f"],
        &["replay", file, "--own", "192.0.2.2", "-f", &allowed, "--against"],
    ] {
        let done = run(&[of, &[&config]].concat());
        assert!(done.code == Some(0) && done.stderr.contains(sentence), "{done}");
        assert!(done.stderr.contains("rule \"nobody\" matches nothing"), "{done}");
        let done = run(&[of, &[&allowed]].concat());
        assert!(done.code == Some(0) && !done.stderr.contains("refuses"), "{done}");
    }
}

#[test]
fn a_capture_is_explained_from_standard_input() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let file = folder.path().join("capture");
    let frames = [[198, 51, 100, 1], [198, 51, 100, 2]].map(|from| (0, ping(from)));
    fs::write(&file, Order { big: false }.pcap(false, 1, &frames)).expect("written");
    let script = "\"$0\" explain --pcap - --packet 2 -f \"$1\" --own 192.0.2.2 < \"$2\"";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(ctl::program()).arg(&config).arg(&file);
    let said = process::run(&mut command).expect_success();
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("198.51.100.2 to 192.0.2.2"), "{said}");
    let mut twice = Command::new(ctl::program());
    let refused = process::run(twice.args(["explain", "--pcap", "-", "-f", "-", "--own", "192.0.2.2"]));
    assert!(refused.code == Some(2) && refused.stderr.contains("can be read once"), "{refused}");
}

#[test]
fn explaining_takes_three_times_the_memory_of_the_limiter_and_no_more() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "[limits]\nmemory = \"64MiB\"\n");
    // Kilobytes that it may have of its own: those, and half as much for all else.
    let script = "ulimit -d $((64 * 1024 * 7 / 2)); exec \"$0\" explain --from 192.0.2.1 --to 192.0.2.2 -f \"$1\" --own 192.0.2.2";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(ctl::program()).arg(&config);
    let said = process::run(&mut command).expect_success();
    assert!(said.contains("answer, answered"), "{said}");
}

/// What is found about a passed packet and not fine, as `check: text`.

#[test]
fn a_packet_under_a_policy_that_awaits_confirmation_is_told_that_it_does() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let folder = Folder::new();
    let pair = Pair::new(1500);
    let host = &pair.host;
    let _attached = Attached::configured(host, HOST_IF, UNLIMITED);
    let strict = folder.file("strict.toml", "[policy]\npreset = \"strict\"\n");
    let question = "explain --from 198.51.100.7 --to 192.0.2.2 --type timestamp-request -j";
    let told = |reason: &str, is_pending: bool| {
        let done = ctl::run(host, question);
        let note = "the policy that awaits confirmation";
        assert_eq!(done.stderr.contains(note), is_pending, "{done}");
        let said: Value = serde_json::from_str(&done.expect_success()).expect("JSON");
        let left = said["confirmation_pending_seconds"].as_f64();
        assert_eq!((&said["verdict"]["reason"], left.is_some()), (&json!(reason), is_pending), "{said}");
    };
    told("within-limit", false);
    let _pending = ctl::run(host, &format!("apply -f {strict} --confirm 1h")).expect_success();
    told("policy-drop", true);
    let _back = ctl::run(host, "rollback").expect_success();
    told("within-limit", false);
    let _pending = ctl::run(host, &format!("apply -f {strict} --confirm 1h")).expect_success();
    let _kept = ctl::run(host, "confirm").expect_success();
    told("policy-drop", false);
}

#[test]
fn the_limit_of_a_rule_is_told_after_others_before_it_have_gone() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let rule = |name: &str, from: &str| {
        format!(
            "[[policy.rule]]\nname = \"{name}\"\nfrom = [\"{from}\"]\ntype = [\"echo-request\"]\naction = \"answer\"\n\
             limit = \"1/h\"\nburst = 1\n"
        )
    };
    let config = [rule("first", "203.0.113.1"), rule("second", "203.0.113.2")].concat();
    let attached = Attached::configured(&pair.host, HOST_IF, &config);
    let _said = ctl::run(&pair.host, "rule del first").expect_success();
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    (0..2).for_each(|_| tap.send(&ping([203, 0, 113, 2])).expect("sent"));
    let deadline = Instant::now() + process::LIMIT;
    while attached.counters().packets("limited-rule") == 0 {
        assert!(Instant::now() < deadline, "the second was not limited");
    }
    let said = explained(&pair.host, "--from 203.0.113.2 --to 192.0.2.2");
    assert_eq!(
        (&said["verdict"]["reason"], &said["kernel"]["agrees"]),
        (&json!("limited-rule"), &json!(true))
    );
    let limit = &said["limits"][0];
    assert_eq!(
        (&limit["of"], &limit["before"], &said["rule"]["name"]),
        (&json!("second"), &json!(0), &json!("second"))
    );
}

#[test]
fn what_cannot_be_explained_is_refused_with_why() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &[(0, ping([198, 51, 100, 1]))])).expect("written");
    let own = format!("-f {config} --own 192.0.2.2");
    let host = Namespace::new("explain");
    for (arguments, code, said) in [
        (format!("--pcap {} --packet 2 {own}", file.display()), 1, "no frame 2; the last one is 1"),
        (format!("--hex 0011 {own}"), 1, "has 14 bytes at least, and this one has 2"),
        (format!("--hex 001g {own}"), 2, "no hexadecimal digit"),
        (format!("--pcap {} --packet 0 {own}", file.display()), 2, "it is 1 or more"),
        (format!("--from host --to 192.0.2.2 {own}"), 2, "\"host\" is no address"),
        (format!("--from 192.0.2.1 --to 192.0.2.256 {own}"), 2, "\"192.0.2.256\" is no address"),
        (format!("--from 192.0.2.1 --to ::1 {own}"), 2, "two families"),
        (format!("--from 192.0.2.1 --to 192.0.2.2 --type echo-reqest {own}"), 2, "did you mean"),
        (format!("--from 192.0.2.1 --to 192.0.2.2 --vlan 4095 {own}"), 2, "from 0 to 4094"),
        (format!("--from 192.0.2.1 --to 192.0.2.2 --hex 00 {own}"), 2, "cannot be used with"),
        (format!("--hex 00 --hop-limit 3 {own}"), 2, "cannot be used with"),
        (format!("--from 192.0.2.1 --to 192.0.2.2 --size 65508 {own}"), 2, "room for 65507 bytes"),
        ("--from 192.0.2.1 --to 192.0.2.2".to_owned(), 3, "nothing is loaded"),
    ] {
        let done = ctl::run(&host, &format!("explain {arguments}"));
        assert_eq!(done.code, Some(code), "{arguments}: {done}");
        assert!(done.stderr.contains(said), "{arguments}: {done}");
    }
    let mut command = Command::new(ctl::program());
    command.args(["explain", "--from", "192.0.2.1", "--to", "192.0.2.2"]).uid(65_534).gid(65_534);
    let refused = process::run(&mut command);
    assert!(refused.code == Some(4) && refused.stderr.contains("CAP_BPF"), "{refused}");
}

/// The verifier takes up to a second, in which buckets fill up again.
#[test]
fn what_decides_is_copied_when_the_private_program_is_loaded() {
    let Some(world) = World::new() else { return };
    let _attached = world.run("attach host0 -f @a").expect_success();
    let (done, trace) = world.traced("explain --from 192.0.2.1 --to 192.0.2.2", "bpf", &[]);
    let _said = done.expect_success();
    let calls: Vec<_> = trace.lines().collect();
    let is = |call: &'static str| move |line: &&str| line.contains(call);
    let copied = calls.iter().position(is("BPF_MAP_LOOKUP_BATCH")).expect("tables are copied");
    let made = calls.iter().rposition(is("BPF_MAP_CREATE")).expect("maps are made");
    assert!(copied > made, "{trace}");
}
