//! Policies as operators put them in force: presets, `show policy`, `apply`, guards, rules, and the handling of mistakes.
//!
//! Owns the contract of the commands and the transaction: a policy is in force whole or not at all, at whatever moment a command is killed.
//! `rules.rs` proves how rules match.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use icmp_common::policy::{PRESET_ROWS, Preset};
use icmp_common::reason::Reason;
use icmp_common::types::ROWS;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached, UNLIMITED};
use icmp_tests::folder::Folder;
use icmp_tests::generate::{self, Random};
use icmp_tests::host;
use icmp_tests::netns::{HOST_IF, Namespace, PEER_IF, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process;
use icmp_tests::vectors;
use icmp_tests::wire::Tap;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const NOTHING_LOADED: Option<i32> = Some(3);
const GUARDED: Option<i32> = Some(6);

/// Where the messages expected of wrong configurations are.
const WRONG: &str = include_str!("../data/wrong-configs.txt");

#[test]
fn show_policy_tells_name_action_budget_hits_and_clause_of_each_type() {
    let Some(pair) = pair(&["ping"]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
    let document = json(&pair.host, "show policy -j");
    assert_eq!((document["schema"].as_u64(), document["preset"].as_str()), (Some(1), Some("host")));
    let types = document["types"].as_array().expect("rows");
    assert_eq!(types.len(), ROWS.len(), "a row for each of the table");
    for (shown, row) in types.iter().zip(sorted_rows()) {
        assert_eq!(shown["name"], row.name);
        assert_eq!(
            (shown["action"].as_str(), shown["clause"].as_str()),
            (Some(row.action.name()), Some(row.clause))
        );
    }
    let one = |arguments: &str| {
        let document = json(&pair.host, &format!("show policy {arguments} -j"));
        let types = document["types"].as_array().expect("rows").clone();
        assert_eq!(types.len(), 1, "{arguments}: {document}");
        types[0].clone()
    };
    let echo = one("8");
    assert_eq!((echo["name"].as_str(), echo["budget"].as_str()), (Some("echo-request"), Some("replies")));
    assert_eq!(echo["hits"], 3);
    assert_eq!(one("3/4")["name"], "destination-unreachable/frag-needed");
    assert_eq!(one("3/4")["budget"], "path-mtu");
    assert_eq!(one("3 -6")["name"], "time-exceeded");
    assert_eq!(one("packet-too-big")["budget"], "path-mtu");
    assert_eq!(one("135")["name"], "nd-neighbor-solicit");
    assert_eq!(one("echo-request -6")["first"], 128);
    let text = ctl::run(&pair.host, "show policy 3/4 -v").expect_success();
    assert!(text.contains("RFC 1191 section 3"), "{text}");
    let done = ctl::run(&pair.host, "show policy echo-reqest");
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains("did you mean echo-request"), "{done}");
}

#[test]
fn each_preset_judges_every_vector_as_host_does_but_for_its_own_rows() {
    if !can_run(&[]) {
        return;
    }
    let under = |preset: &str| {
        let checks = "[policy.checks]\nneighbour-discovery = \"count\"\n";
        let config = format!("{UNLIMITED}[policy]\npreset = {preset:?}\n{checks}");
        let host = host::unconfigured().configure(&config, &[]);
        let frames = vectors::all().into_iter().filter(|v| v.ifconfig.vlans.is_empty());
        frames.map(|v| (v.id, host.run(&mut v.frame.clone()))).collect::<BTreeMap<_, _>>()
    };
    let by_host = under("host");
    for preset in [Preset::Router, Preset::Strict] {
        let own: Vec<_> =
            PRESET_ROWS.iter().filter(|row| row.preset == preset).map(|row| row.row as u8 + 3).collect();
        let mut changed = 0;
        for (id, outcome) in under(preset.name()) {
            let expected = if own.contains(&outcome.row) { Reason::PolicyDrop } else { by_host[&id].reason };
            assert_eq!(outcome.reason.name(), expected.name(), "{id} under {}", preset.name());
            changed += u32::from(outcome.reason != by_host[&id].reason);
        }
        assert!(changed > 0, "{} differs from host in some vector", preset.name());
    }
    for (id, outcome) in under("observe") {
        let expected = match by_host[&id].reason {
            Reason::Answered => Reason::WouldAnswer,
            Reason::PolicyDrop => Reason::WouldDrop,
            other => other,
        };
        assert_eq!(outcome.reason.name(), expected.name(), "{id} under observe");
    }
}

#[test]
fn the_documentation_has_every_row_of_every_preset() {
    let text = include_str!("../../docs/policy.md");
    for row in sorted_rows() {
        let code = row.code.map_or(String::new(), |code| format!("/{code}"));
        let types =
            if row.first == row.last { row.first.to_string() } else { format!("{}-{}", row.first, row.last) };
        let line = format!(
            "| {} | {types}{code} | {} | {} | {} |",
            row.family.name(),
            row.name,
            row.action.name(),
            row.clause
        );
        assert!(text.contains(&line), "docs/policy.md lacks the row of `host`:\n{line}");
    }
    for row in PRESET_ROWS {
        let of = &ROWS[row.row];
        let line = format!(
            "| {} | {} | {} | {} | {} | {} |",
            row.preset.name(),
            of.family.name(),
            of.first,
            of.name,
            row.action.name(),
            row.clause
        );
        assert!(text.contains(&line), "docs/policy.md lacks the row:\n{line}");
    }
}

#[test]
fn apply_changes_the_whole_policy_and_check_only_tells_what_it_would_change() {
    let Some(pair) = pair(&["ping"]) else { return };
    let attached = Attached::new(&pair.host, HOST_IF);
    let folder = Folder::new();
    let file = folder.file(
        "new.toml",
        "[responder]\nttl = 99\n[policy]\npreset = \"strict\"\n[[policy.rule]]\nname = \"no-pings\"\nfrom = \"192.0.2.1\"\ntype = \"echo-request\"\naction = \"drop\"\n",
    );
    let checked = json(&pair.host, &format!("apply -f {file} --check -j"));
    assert_eq!(checked["applied"], false);
    let lines = |document: &Value, key: &str| {
        document[key]
            .as_array()
            .expect("lines")
            .iter()
            .map(|l| l.as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&checked, "removed"), ["responder.ttl = 64", "policy.preset = host"]);
    let added = lines(&checked, "added");
    assert!(
        added.contains(&"policy.rule no-pings: from 192.0.2.1/32 type echo-request -> drop".to_owned()),
        "{added:?}"
    );
    assert_eq!(json(&pair.host, "show policy -j")["preset"], "host", "nothing has changed");

    let applied = json(&pair.host, &format!("apply -f {file} -j"));
    assert_eq!((applied["applied"].as_bool(), lines(&applied, "added")), (Some(true), added));
    assert!(no_difference(&pair.host, &file));
    assert_ne!(pair.peer.run("ping", &["-c1", "-W1", "192.0.2.2"]).code, DONE, "dropped");
    assert_eq!(attached.counters().packets("rule-drop"), 1);
    let _said = pair.peer.ping(&["-c1", "2001:db8::2"]);
}

#[test]
fn with_nothing_loaded_a_configuration_can_be_checked_but_not_applied() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let (empty, folder) = (Namespace::new("empty"), Folder::new());
    let file = folder.file("c.toml", "[policy]\npreset = \"router\"\n");
    assert_eq!(ctl::run(&empty, &format!("apply -f {file} --check")).code, DONE);
    assert_eq!(ctl::run(&empty, &format!("apply -f {file}")).code, NOTHING_LOADED);
    assert_eq!(ctl::run(&empty, "show policy").code, NOTHING_LOADED);
}

#[test]
fn what_is_not_confirmed_goes_back_by_itself_and_what_is_stays() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let (before, file) =
        (folder.file("before.toml", ""), folder.file("c.toml", "[policy]\npreset = \"strict\"\n"));

    // The command is over by the time it takes effect; the program itself looks at the clock.
    let _said = ctl::run(host, &format!("apply -f {file} --confirm 300ms")).expect_success();
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    // Strict drops this, and host hands it to the kernel, which answers.
    let timestamp =
        Echo { kind: Some(13), ..Echo::new(address("192.0.2.1"), address("192.0.2.2"), vec![0; 12]) };
    let deadline = Instant::now() + Duration::from_secs(60);
    let answered = loop {
        tap.send(&timestamp.frame()).expect("sent");
        let soon = Instant::now() + Duration::from_millis(20);
        let reply = tap.find(soon, |seen| !seen.outgoing && seen.frame.len() >= 35 && seen.frame[34] == 14);
        if reply.is_some() || Instant::now() > deadline {
            break reply.is_some();
        }
    };
    assert!(answered, "the policy before is in force again");
    // Nobody has changed anything since.
    let status = ctl::run(host, "status").expect_success();
    assert!(!status.contains("PENDING"), "{status}");
    let status = ctl::run(host, "status -j").expect_success();
    assert!(status.contains("\"confirmation_pending_seconds\":null"), "{status}");
    assert!(no_difference(host, &before));
    let late = ctl::run(host, "confirm");
    assert_eq!(late.code, FAILED, "{late}");
    assert!(late.stderr.contains("rolled back"), "{late}");

    let _said = ctl::run(host, &format!("apply -f {file} --confirm 60s")).expect_success();
    assert_eq!(ctl::run(host, "confirm").code, DONE);
    assert!(no_difference(host, &file));
    let _said = ctl::run(host, &format!("apply -f {before}")).expect_success();
}

#[test]
fn rules_that_never_decide_or_disagree_are_warned_about_and_exceptions_are_not() {
    let Some(pair) = pair(&[]) else { return };
    let rule = |name: &str, conditions: &str, action: &str| {
        format!(
            "[[policy.rule]]\nname = \"{name}\"\n{conditions}\ntype = \"echo-request\"\naction = \"{action}\"\n"
        )
    };
    let rules = [
        rule("exception", "from = [\"10.1.0.0/16\"]", "answer"),
        rule("wide", "from = [\"10.0.0.0/8\"]", "pass"),
        rule("hidden", "from = [\"10.2.0.0/16\"]", "answer"),
        rule("crossing", "to = [\"192.0.2.2\"]", "drop"),
    ];
    let folder = Folder::new();
    let file = folder.file("c.toml", &rules.concat());
    let done = ctl::run(&pair.host, &format!("apply -f {file} --check"));
    assert_eq!(done.code, DONE, "{done}");
    let warnings: Vec<_> = done.stderr.lines().filter(|line| line.contains("WARNING")).collect();
    let expected = [
        "rule \"hidden\" never decides anything: \"wide\"",
        "rules \"exception\" and \"crossing\" overlap",
        "rules \"wide\" and \"crossing\" overlap",
    ];
    assert_eq!(warnings.len(), expected.len(), "{done}");
    for text in expected {
        assert!(warnings.iter().any(|line| line.contains(text)), "no {text}: {done}");
    }
}

#[test]
fn a_rule_that_no_message_can_match_is_warned_about() {
    let Some(pair) = pair(&[]) else { return };
    let folder = Folder::new();
    for (condition, why) in [
        ("length = \"0\"", Some("`length` ends at 0, and a message of ICMP has at least 8 bytes")),
        ("length = \"0-7\"", Some("`length` ends at 7, and")),
        ("length = \"0-8\"", None),
        ("from = [\"224.0.0.1\", \"ff02::/16\"]", Some("`from` has only 224.0.0.1/32, ff02::/16, and")),
        ("from = \"::1\"", Some("`from` has only ::1/128")),
        ("from = [\"255.255.255.255\", \"192.0.2.1\"]", None),
        ("from = \"240.0.0.0/4\"", None),
    ] {
        let text = format!(
            "[[policy.rule]]\nname = \"r\"\ntype = \"echo-request\"\naction = \"drop\"\n{condition}\n"
        );
        let file = folder.file("c.toml", &text);
        let done = ctl::run(&pair.host, &format!("apply -f {file} --check"));
        assert_eq!(done.code, DONE, "{done}");
        assert_eq!(done.stderr.contains("\"r\" matches nothing"), why.is_some(), "{condition}: {done}");
        assert!(why.is_none_or(|why| done.stderr.contains(why)), "{condition}: {done}");
    }
}

#[test]
fn a_guard_refuses_by_name_and_is_overridden_by_name() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let folder = Folder::new();
    for (name, policy) in [
        ("pmtud", "[policy.ipv4]\n\"3/4\" = \"drop\"\n"),
        ("pmtud", "[limits]\npath-mtu = { rate = \"5/s\", burst = 5 }\n"),
        ("errors", "[policy.ipv6]\ntime-exceeded = \"drop\"\n"),
        ("neighbour-discovery", "[policy.ipv6]\nnd-router-advert = \"drop\"\n"),
        ("multicast-listener", "[policy.ipv6]\nmld-listener-query = \"drop\"\n"),
        (
            "neighbour-discovery",
            "[[policy.rule]]\nname = \"x\"\naction = \"drop\"\ntype = \"nd-neighbor-advert\"\n",
        ),
    ] {
        let file = folder.file("c.toml", policy);
        let done = ctl::run(&pair.host, &format!("apply -f {file}"));
        assert_eq!(done.code, GUARDED, "{policy}: {done}");
        assert!(
            done.stderr.contains(&format!("--allow-break {name}")) && done.stderr.contains("RFC"),
            "{done}"
        );
        let done = ctl::run(&pair.host, &format!("apply -f {file} --allow-break {name}"));
        assert_eq!(done.code, DONE, "{policy}: {done}");
        // What only counts breaks nothing.
        let audited = if policy.contains("rule") {
            policy.to_owned() + "audit = true\n"
        } else {
            format!("[policy]\npreset = \"observe\"\n{policy}")
        };
        let file = folder.file("c.toml", &audited);
        assert_eq!(ctl::run(&pair.host, &format!("apply -f {file}")).code, DONE, "{audited}");
    }
    let done = ctl::run(&pair.host, "rule add all --action drop");
    assert_eq!(done.code, GUARDED, "{done}");
    assert!(done.stderr.contains("\"all\""), "the rule's name: {done}");
}

#[test]
fn rules_are_added_counted_promoted_and_removed_and_the_others_keep_their_counters() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let list = folder_list();
    let rules = || -> Vec<(String, u64, u64)> {
        let document = json(host, "rule list -j");
        let rules = document["rules"].as_array().expect("rules").clone();
        let number = |rule: &Value, key: &str| rule[key].as_u64().expect("a number");
        rules
            .iter()
            .map(|r| {
                (r["name"].as_str().expect("a name").to_owned(), number(r, "hits"), number(r, "would_hit"))
            })
            .collect()
    };
    let ping = || pair.peer.run("ping", &["-c1", "-W1", "192.0.2.2"]).code;
    let named = |name: &str, hits, would| (name.to_owned(), hits, would);
    let run = |arguments: &str| ctl::run(host, arguments).expect_success();

    run(&format!("rule add trial --from file:{} --type echo-request --action drop --audit", list.1));
    run("rule add friends --from 192.0.2.1 --action answer --limit 10k/s");
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    assert_eq!(rules(), [named("trial", 0, 1), named("friends", 1, 0)]);
    run("rule add first --from 198.51.100.7 --type echo-request --action drop --before trial");
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    assert_eq!(rules(), [named("first", 0, 0), named("trial", 0, 2), named("friends", 2, 0)]);
    run("rule promote trial");
    assert_ne!(ping(), DONE, "dropped now");
    run("rule del first");
    assert_eq!(rules(), [named("trial", 1, 2), named("friends", 2, 0)]);
    for (wrong, why) in [
        ("rule promote trial", "in force already"),
        ("rule del nobody", "no rule is called"),
        ("rule add trial --action pass", "already"),
        ("rule add x --action limit", "to what"),
        ("rule add x --action pass --before nobody", "no rule is called"),
    ] {
        let done = ctl::run(host, wrong);
        assert_eq!(done.code, FAILED, "{done}");
        assert!(done.stderr.contains(why), "{why:?} in {done}");
    }
    assert_eq!(rules(), [named("trial", 1, 2), named("friends", 2, 0)]);
}

#[test]
fn a_type_that_both_families_have_is_listed_once() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let added = "rule add both --type echo-request,time-exceeded --action drop --audit -j";
    let document: Value = serde_json::from_str(&ctl::run(&pair.host, added).expect_success()).expect("JSON");
    let types = document["rules"][0]["types"].as_array().expect("types").iter();
    let types: Vec<_> = types.map(|name| name.as_str().expect("a name")).collect();
    assert_eq!(types.iter().filter(|name| **name == "echo-request").count(), 1, "{types:?}");
    assert_eq!(types.iter().filter(|name| **name == "time-exceeded").count(), 1, "{types:?}");
    assert_eq!(document["rules"][0]["families"], serde_json::json!(["ipv4", "ipv6"]));
}

#[test]
fn what_the_kernel_would_refuse_is_told_and_can_be_followed() {
    let Some(pair) = pair(&["ping", "nft"]) else { return };
    let host = &pair.host;
    host.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
    let _done = host.run("nft", &["add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c icmpv6 type echo-request drop"]).expect_success();
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    assert_eq!(done.code, DONE, "{done}");
    for part in ["net.ipv4.icmp_echo_ignore_all is on", "icmpv6 type echo-request drop"] {
        assert!(done.stderr.contains(part), "{part:?} in {done}");
    }
    let ping = || pair.peer.run("ping", &["-c1", "-W1", "192.0.2.2"]).code;
    // The program answers.
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    let folder = Folder::new();
    let file = folder.file("c.toml", "[responder]\nrespect-sysctl = true\n");
    let done = ctl::run(host, &format!("apply -f {file}"));
    assert!(done.code == DONE && !done.stderr.contains("icmp_echo_ignore_all"), "{done}");
    assert_ne!(ping(), DONE, "and now leaves it to the kernel, which ignores it");
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn fifty_thousand_prefixes_are_put_in_force_and_each_is_found() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let folder = Folder::new();
    // Every second /24 below 10/8 and 11/8, so that none swallows another.
    let nets: Vec<_> = (0..50_000_u32)
        .map(|i| format!("{}.{}.{}.0/24", 10 + i / 32_768, i / 128 % 256, i % 128 * 2))
        .collect();
    let list = folder.file("list.txt", &nets.join("\n"));
    let file = folder.file("c.toml", &format!("[[policy.rule]]\nname = \"many\"\nfrom = \"file:{list}\"\ntype = \"echo-request\"\naction = \"drop\"\n"));
    let start = Instant::now();
    let _said = ctl::run(&pair.host, &format!("apply -f {file}")).expect_success();
    println!("50,000 prefixes in {:?}, the command's start and a debug build included", start.elapsed());
    let document = json(&pair.host, "rule list -j");
    assert_eq!(document["rules"][0]["from"].as_array().map(Vec::len), Some(50_000));
    assert!(no_difference(&pair.host, &file));
}

#[test]
fn a_wrong_configuration_is_refused_where_it_is_wrong_and_changes_nothing() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let running = folder.file(
        "running.toml",
        "[policy]\npreset = \"strict\"\n[[policy.rule]]\nname = \"kept\"\naction = \"pass\"\n",
    );
    let _attached = Attached::with(host, HOST_IF, &format!("-f {running}"));
    let mut found = String::new();
    let mut count = 0;
    for case in WRONG.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let config = rest.split("---\n").next().expect("a configuration");
        let file = folder.file("c.toml", config);
        let done = ctl::run(host, &format!("apply -f {file}"));
        assert!([FAILED, GUARDED].contains(&done.code), "{name}: {done}");
        assert!(done.stdout.is_empty(), "{name}: {done}");
        let message = done.stderr.replace(&file, "FILE");
        found.push_str(&format!(
            "=== {name}\n{config}---\nexit code {}\n{message}",
            done.code.unwrap_or_default()
        ));
        assert!(no_difference(host, &running), "{name} has changed what is in force");
        count += 1;
    }
    assert!(count >= 60, "{count} wrong configurations");
    if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/data/wrong-configs.txt"), &found)
            .expect("written");
        return;
    }
    for (found, expected) in found.split("=== ").zip(WRONG.split("=== ")) {
        assert_eq!(
            found, expected,
            "tests/data/wrong-configs.txt has another message; ICMP_TESTS_BLESS=1 writes the ones found"
        );
    }
}

/// Two policies that a mix would give away: each answers one length of request with its own time to live, and drops the other's.
const ONE: &str = "[responder]\nttl = 11\n[[policy.rule]]\nname = \"a\"\ntype = \"echo-request\"\nlength = 64\naction = \"drop\"\n";
const OTHER: &str = "[responder]\nttl = 22\n[[policy.rule]]\nname = \"b\"\ntype = \"echo-request\"\nlength = 65\naction = \"drop\"\n";

#[test]
fn an_apply_in_a_flood_shows_no_packet_a_mix_and_loses_none() {
    let Some(pair) = pair(&[]) else { return };
    let folder = Folder::new();
    let files = [ONE, OTHER].map(|policy| {
        folder.file(if policy == ONE { "one.toml" } else { "other.toml" }, &format!("{policy}{UNLIMITED}"))
    });
    let attached = Attached::with(&pair.host, HOST_IF, &format!("--mode native -f {}", files[0]));
    let (sender, receiver) = pair.peer.enter(|| (Tap::open(PEER_IF), Tap::open(PEER_IF)));
    let requests =
        [56, 57].map(|data| Echo::new(address("192.0.2.1"), address("192.0.2.2"), vec![7; data]).frame());
    let over = AtomicBool::new(false);
    let (sent, answered) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0_u64;
            while !over.load(Ordering::Relaxed) {
                sender.send(&requests[sent as usize % 2]).expect("sent");
                sent += 1;
            }
            sent
        });
        let listener = scope.spawn(|| {
            let mut answered = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                let Some(seen) = receiver.receive(Instant::now() + Duration::from_millis(100)) else {
                    continue;
                };
                if !seen.outgoing && seen.frame.len() > 34 && seen.frame[34] == 0 {
                    // Bytes of the message, and the TTL.
                    *answered.entry((seen.frame.len() - 34, seen.frame[22])).or_insert(0_u64) += 1;
                }
            }
            answered
        });
        let applied: Vec<_> =
            (1..=40).map(|i| ctl::run(&pair.host, &format!("apply -f {}", files[i % 2]))).collect();
        over.store(true, Ordering::Relaxed);
        assert!(applied.iter().all(|done| done.code == DONE), "{applied:?}");
        (flood.join().expect("the flood"), listener.join().expect("the listener"))
    });
    let kinds: Vec<_> = answered.keys().copied().collect();
    assert_eq!(
        kinds,
        [(64, 22), (65, 11)],
        "each policy answers its length with its TTL, and no other: {answered:?}"
    );
    let counters = attached.counters();
    assert_eq!(
        counters.answered() + counters.packets("rule-drop"),
        sent,
        "each is answered or dropped: {counters:?}"
    );
}

#[test]
fn an_apply_that_is_killed_leaves_one_whole_policy() {
    let Some(pair) = pair(&[]) else { return };
    let folder = Folder::new();
    let files =
        [ONE, OTHER].map(|policy| folder.file(if policy == ONE { "one.toml" } else { "other.toml" }, policy));
    let _attached = Attached::with(&pair.host, HOST_IF, &format!("-f {}", files[0]));
    let mut random = Random::new(generate::seed());
    let (mut in_force, mut seen) = (0, [0, 0]);
    let mut longest = Duration::from_millis(60);
    for i in 0..200 {
        let other = 1 - in_force;
        let mut child = ctl::command(&pair.host, &format!("apply -f {}", files[other]))
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        // A random instant is what is wanted, and there is no event to it. It is sought around the switch, wherever that is on this machine now.
        std::thread::sleep(longest.mul_f64((random.bits() % 1000) as f64 / 1000.0));
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        let whole = files.each_ref().map(|file| no_difference(&pair.host, file));
        assert_ne!(whole[0], whole[1], "one of the two and not a mix, after {i}");
        let is_switched = whole[other];
        seen[usize::from(is_switched)] += 1;
        if is_switched {
            in_force = other;
        }
        longest = longest.mul_f64(if is_switched { 0.8 } else { 1.25 });
    }
    println!("{seen:?} of 200");
    assert!(seen.iter().all(|n| *n > 0), "some were killed before and some after the switch: {seen:?}");
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// A list of prefixes, and its path.
fn folder_list() -> (Folder, String) {
    let folder = Folder::new();
    let file = folder.file("list.txt", "# the peer\n192.0.2.1\n\n203.0.113.0/24 # and others\n");
    (folder, file)
}

/// True where what is in force is what the file says.
fn no_difference(namespace: &Namespace, file: &str) -> bool {
    let document = json(namespace, &format!("apply -f {file} --check -j"));
    ["removed", "added"].iter().all(|key| document[key].as_array().is_some_and(Vec::is_empty))
}

fn json(namespace: &Namespace, arguments: &str) -> Value {
    let text = process::run(&mut ctl::command(namespace, arguments)).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {text}"))
}

/// The rows in the order of families and types, a code behind its type.
fn sorted_rows() -> Vec<&'static icmp_common::types::TypeRow> {
    static TABLE: [icmp_common::types::TypeRow; ROWS.len()] = ROWS;
    let mut rows: Vec<_> = TABLE.iter().collect();
    rows.sort_by_key(|row| (row.family, row.first, row.code));
    rows
}
