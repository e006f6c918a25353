//! Every change of the policy in force goes through one transaction: by file, by verb, by `serve`, by confirmation and roll-back.
//!
//! Owns that these ways differ only in what they change: the same guards, the same derived values, the same warnings, and no change after a
//! failure.

use std::net::{IpAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use icmp_common::abi::SWITCH_CHANGE;
use icmp_ctl::instance::maps::InstanceMaps;
use icmp_ctl::instance::pins::Instance;
use icmp_ctl::instance::program::Entry;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::filters::{refuse_pinning, refuse_waiting};
use icmp_tests::folder::Folder;
use icmp_tests::host;
use icmp_tests::http::get;
use icmp_tests::netns::{HOST_IF, Namespace, PEER_IF, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process::{self, Finished, Watch};
use icmp_tests::wire::Tap;
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const GUARDED: Option<i32> = Some(6);

const LIMIT: Duration = Duration::from_secs(60);

const GUARDED_LIMITS: [(&str, &str); 4] = [
    ("neighbour-discovery", "neighbour-discovery"),
    ("path-mtu", "pmtud"),
    ("errors", "errors"),
    ("multicast-listener", "multicast-listener"),
];

#[test]
fn a_limit_that_starves_the_host_is_refused_by_verb_and_file_alike() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let before = ctl::run(host, "limit show -j").expect_success();
    for (limit, guard) in GUARDED_LIMITS {
        for (typed, written) in [("0", "rate = \"0\""), ("1/s --burst 1", "rate = \"1/s\", burst = 1")] {
            let file = folder.file("c.toml", &format!("[limits]\n{limit} = {{ {written} }}\n"));
            for done in [
                ctl::run(host, &format!("limit set {limit} {typed}")),
                ctl::run(host, &format!("apply -f {file}")),
            ] {
                assert_eq!(done.code, GUARDED, "{done}");
                assert!(done.stderr.contains(&format!("--allow-break {guard}")), "{done}");
            }
        }
    }
    assert_eq!(ctl::run(host, "limit show -j").expect_success(), before, "nothing has changed");
}

#[test]
fn what_was_broken_by_name_does_not_stand_in_the_way_of_another_change() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let _said = ctl::run(host, "limit set redirects 1/s --burst 1").expect_success();
    let _said = ctl::run(host, "limit set errors 0 --allow-break errors").expect_success();
    let _said =
        ctl::run(host, "rule add x --from 198.51.100.7 --type echo-request --action drop").expect_success();
    let done = ctl::run(host, "limit set path-mtu 0");
    assert_eq!(done.code, GUARDED, "another one is still guarded: {done}");
}

#[test]
fn a_limit_set_by_verb_admits_what_the_same_limit_of_a_file_does() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let large = folder.file("large.toml", "[limits]\nper-source = { rate = \"100/s\", burst = 10000 }\n");
    let attached = Attached::with(host, HOST_IF, &format!("-f {large}"));
    let _said = ctl::run(host, "limit set per-source 100/s --burst 4").expect_success();
    let _said = pair.peer.ping(&["-c60", "-i0.02", "192.0.2.2"]);
    assert_eq!(attached.counters().packets("answered"), 60, "50 a second are within 100");
}

#[test]
fn serve_with_a_busy_port_changes_nothing() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let before = ctl::run(host, "limit show -j").expect_success();
    let folder = Folder::new();
    let file = folder.file(
        "c.toml",
        &format!("interfaces = [\"{HOST_IF}\"]\n[limits]\nper-source = {{ rate = \"7/min\", burst = 9 }}\n"),
    );
    let _holder = host.enter(|| TcpListener::bind("127.0.0.1:9816").expect("the port is free"));
    let done = ctl::run(host, &format!("serve -f {file}"));
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains("127.0.0.1:9816"), "{done}");
    assert!(done.stderr.contains("another holds the port"), "{done}");
    assert_eq!(ctl::run(host, "limit show -j").expect_success(), before);
    // Nobody holds a port of an address that is not there.
    let nowhere = folder.file("nowhere.toml", "[metrics]\nlisten = \"203.0.113.77:9816\"\n");
    let done = ctl::run(host, &format!("serve -f {nowhere}"));
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains("; no interface that is up has that address here: "), "{done}");
}

#[test]
fn serve_reads_its_configuration_again_on_sighup_and_keeps_the_old_one_where_it_is_refused() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let write =
        |limits: &str| folder.file("c.toml", &format!("interfaces = [\"{HOST_IF}\"]\n[limits]\n{limits}\n"));
    let file = write("");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {file}")));
    serve.wait_for("127.0.0.1:9816", LIMIT);
    let rate = || json(host, "limit show -j")["limits"]["per-source"]["rate"].clone();
    let _same = write("per-source = { rate = \"7/min\", burst = 9 }");
    serve.signal(Signal::SIGHUP);
    serve.wait_for("is in force", LIMIT);
    assert_eq!(rate(), "7/min");
    let _same = write("per-source = { rate = \"8/min\", burst = 9 }\nerrors = { rate = \"0\" }");
    serve.signal(Signal::SIGHUP);
    serve.wait_for("--allow-break errors", LIMIT);
    assert_eq!(rate(), "7/min");
    // It goes on listening where it did, which is what another address is compared with.
    for (written, warns) in [("127.0.0.1:9999", true), ("127.0.0.1:9816", false)] {
        let text = format!("interfaces = [\"{HOST_IF}\"]\n[metrics]\nlisten = \"{written}\"\n");
        let _same = folder.file("c.toml", &text);
        serve.signal(Signal::SIGHUP);
        let said =
            serve.says(&["`listen` of [metrics] has changed", "is in force"], LIMIT).expect("it goes on");
        assert_eq!(said.contains("has changed"), warns, "{said}");
        if warns {
            serve.wait_for("is in force", LIMIT);
        }
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn memory_that_takes_a_new_load_is_shown_and_warned_about_until_it_has_it() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = folder.file("c.toml", "[limits]\nmemory = \"4MiB\"\n");
    {
        let _attached = Attached::new(host, HOST_IF);
        for change in [format!("apply -f {file}"), format!("attach {HOST_IF} -f {file}")] {
            let done = ctl::run(host, &change);
            assert_eq!(done.code, DONE, "{done}");
            assert!(
                done.stdout.contains("- limits.memory") && done.stdout.contains("loaded again"),
                "{done}"
            );
            assert!(done.stderr.contains("WARNING") && done.stderr.contains("detach --all"), "{done}");
        }
    }
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    let done = ctl::run(host, &format!("apply -f {file}"));
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("no change\n", ""), "{done}");
}

#[test]
fn a_change_that_cannot_wait_for_readers_fails_and_changes_nothing() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let [before, after] = ["11", "22"].map(|ttl| folder.file(ttl, &format!("[responder]\nttl = {ttl}\n")));
    let _attached = Attached::with(host, HOST_IF, &format!("-f {before}"));
    let change = |arguments: &str| {
        let mut command = ctl::command(host, arguments);
        // SAFETY: what is called before exec only makes two system calls.
        unsafe { command.pre_exec(refuse_waiting) };
        process::run(&mut command)
    };
    for arguments in [format!("apply -f {after}"), "limit set replies 7/s --burst 7".to_owned()] {
        let done = change(&arguments);
        assert_eq!(done.code, FAILED, "{done}");
        assert!(done.stderr.contains("CPUs"), "what it could not wait for: {done}");
        assert!(no_difference(host, &before), "{arguments} has changed something");
    }
    // What awaits confirmation goes on doing so.
    let _said = ctl::run(host, &format!("apply -f {after} --confirm 60s")).expect_success();
    assert_eq!(change(&format!("apply -f {before}")).code, FAILED);
    assert!(no_difference(host, &after));
    assert_eq!(ctl::run(host, "confirm").code, DONE);
}

#[test]
fn a_change_is_planned_without_the_lock() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let rule = |from: &str| {
        let text = format!(
            "[[policy.rule]]\nname = \"r\"\nfrom = [{from}]\ntype = \"echo-request\"\naction = \"drop\"\n"
        );
        folder.file(if from.is_empty() { "empty.toml" } else { "full.toml" }, &text)
    };
    let (full, empty) = (rule("\"10.0.0.0/8\""), rule(""));
    let _attached = Attached::with(host, HOST_IF, &format!("-f {full}"));
    let _held = host.enter(|| Instance::open().expect("it is loaded"));
    // That these are refused is known only once what is in force has been read and compared.
    for (arguments, code) in [
        (format!("apply -f {empty}"), GUARDED),
        (format!("attach {HOST_IF} -f {empty}"), GUARDED),
        ("limit set errors 0".to_owned(), GUARDED),
        ("rule del nobody".to_owned(), FAILED),
        ("rule add r --type echo-request --action drop".to_owned(), FAILED),
    ] {
        let done = ctl::run(host, &arguments);
        assert_eq!(done.code, code, "{done}");
        assert!(!done.stderr.contains("waiting for"), "{done}");
    }
}

#[test]
fn a_change_of_what_is_no_longer_in_force_is_planned_again_under_the_lock() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let first = folder.file("first.toml", "[responder]\nttl = 11\n");
    let [after, applied] = [22, 33].map(|ttl| {
        let text = format!("[responder]\nttl = {ttl}\n[limits]\nreplies = {{ rate = \"7/s\", burst = 7 }}\n");
        folder.file(&ttl.to_string(), &text)
    });
    let _attached = Attached::with(host, HOST_IF, &format!("-f {first}"));
    for (arguments, ttl, said, in_force) in [
        ("limit set replies 7/s --burst 7".to_owned(), 22, "replies", &after),
        (format!("apply -f {applied}"), 44, "- responder.ttl = 44", &applied),
    ] {
        let mut held = host.enter(|| Instance::open().expect("it is loaded"));
        let mut waits = Watch::start(&mut ctl::command(host, &arguments));
        // It has planned, from what is in force no longer when it gets the lock.
        waits.wait_for("waiting for process", LIMIT);
        let mut policy = held.maps.policy().expect("readable").expect("one is in force");
        policy.settings.ttl = ttl;
        held.maps.publish(&policy, None).expect("done");
        drop(held);
        waits.wait_for(said, LIMIT);
        assert!(no_difference(host, in_force), "{arguments}");
    }
}

#[test]
fn an_interface_that_joins_what_is_in_force_needs_no_configuration() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let host = &pair.host;
    host.ip("link add other0 type veth peer name other1");
    let program = ctl::program().to_str().expect("a path in UTF-8");
    // Unreadable, and refused by a guard.
    for (text, code) in [("nonsense = 1\n", FAILED), ("[limits]\nerrors = { rate = \"0\" }\n", GUARDED)] {
        let attach = |arguments: &str| {
            let folder = Folder::new();
            let file = folder.file("config.toml", text);
            let script = format!(
                "cd $(dirname {file}); mkdir icmp-ctl; cp config.toml icmp-ctl; mount --bind . /etc; exec $0 attach {arguments}"
            );
            host.run("unshare", &["--mount", "sh", "-ec", &script.replace("FILE", &file), program])
        };
        let done = attach("other0");
        assert_eq!(done.code, code, "it would be what is in force: {done}");
        let _attached = Attached::new(host, HOST_IF);
        let before = ctl::run(host, "limit show -j").expect_success();
        let done = attach("other0 -f FILE");
        assert_eq!(done.code, code, "it is named: {done}");
        let done = attach("other0");
        assert_eq!(done.code, DONE, "{done}");
        assert!(done.stderr.contains("WARNING") && done.stderr.contains("not needed now"), "{done}");
        assert_eq!(ctl::run(host, "limit show -j").expect_success(), before);
    }
}

#[test]
fn an_attach_whose_link_cannot_be_pinned_leaves_nothing() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    host.ip("link add other0 type veth peer name other1");
    host.ip("link set other0 up");
    let left = || {
        let instance = host.enter(|| Instance::open().expect("it is loaded"));
        let entries = instance.maps.interfaces().expect("readable").iter().filter(|e| e.ifindex != 0).count();
        let pins = instance.program_pin(Entry::Xdp);
        let folder = |name: &str| {
            let folder = pins.parent().expect("of the instance").join(name);
            std::fs::read_dir(folder).expect("readable").count()
        };
        (entries, folder("names"), folder("links"))
    };
    let before = left();
    let mut command = ctl::command(host, "attach other0 --mode native");
    // SAFETY: what is called before exec only makes two system calls.
    unsafe { command.pre_exec(refuse_pinning) };
    let done = process::run(&mut command);
    assert!(done.code == FAILED && done.stderr.contains("pinning the link"), "{done}");
    assert_eq!(left(), before, "entries, names, links");
    assert!(!host.ip("link show other0").contains("xdp"));
}

#[test]
fn what_awaits_confirmation_shows_in_status_json_and_metrics() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let serves = folder.file("serve.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {serves}")));
    serve.wait_for("127.0.0.1:9816", LIMIT);
    let pending = || {
        let text = ctl::run(host, "status").expect_success();
        let metrics = get(host, "127.0.0.1:9816", "/metrics");
        (
            text.contains("CONFIRMATION PENDING"),
            json(host, "status -j")["confirmation_pending_seconds"].as_f64().is_some_and(|left| left > 0.0),
            metrics.lines().any(|line| line == "icmp_ctl_confirmation_pending 1"),
        )
    };
    assert_eq!(pending(), (false, false, false));
    let file = folder.file("c.toml", "[policy]\npreset = \"strict\"\n");
    let _said = ctl::run(host, &format!("apply -f {file} --confirm 1h")).expect_success();
    assert_eq!(pending(), (true, true, true));
    let _said = ctl::run(host, "confirm").expect_success();
    assert_eq!(pending(), (false, false, false));
    // Whose time is over is not in force any more, and awaits nothing.
    let file = folder.file("c.toml", "[policy]\npreset = \"observe\"\n");
    let _said = ctl::run(host, &format!("apply -f {file} --confirm 1s")).expect_success();
    while ctl::run(host, "show config").expect_success().contains("observe") {}
    assert_eq!(pending(), (false, false, false));
    assert!(json(host, "status -j")["confirmation_pending_seconds"].is_null());
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn the_time_for_a_confirmation_goes_by_the_programs_clock_in_a_time_namespace_too() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let file = folder.file("c.toml", "[policy]\npreset = \"strict\"\n");
    // The clock of a container that was moved here from a machine that has run for longer.
    let inside = |arguments: &str| {
        let mut command = host.command("unshare");
        command.args(["--time", "--monotonic", "1000000"]).arg(ctl::program());
        process::run(command.args(arguments.split_whitespace())).expect_success()
    };
    let _said = inside(&format!("apply -f {file} --confirm 1h"));
    for said in [inside("status -j"), ctl::run(host, "status -j").expect_success()] {
        let status: Value = serde_json::from_str(&said).expect("JSON");
        let left = status["confirmation_pending_seconds"].as_f64().expect("it is pending");
        assert!((3000.0..=3600.0).contains(&left), "{said}");
    }
    let _said = inside("rollback");
}

/// Three policies that any mix would give away.
fn three(folder: &Folder) -> [String; 3] {
    ["11", "22", "33"].map(|ttl| {
        let rule =
            format!("name = \"of-{ttl}\"\ntype = \"echo-request\"\nlength = {ttl}\naction = \"drop\"\n");
        folder.file(ttl, &format!("[responder]\nttl = {ttl}\n[[policy.rule]]\n{rule}"))
    })
}

#[test]
fn a_rollback_goes_back_at_once_and_only_while_something_is_pending() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let [a, b, _] = three(&folder);
    let _attached = Attached::with(host, HOST_IF, &format!("-f {a}"));
    let done = ctl::run(host, "rollback");
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains("nothing awaits confirmation"), "{done}");
    let _said = ctl::run(host, &format!("apply -f {b} --confirm 1h")).expect_success();
    let done = ctl::run(host, "rollback");
    assert_eq!(done.code, DONE, "{done}");
    assert!(
        done.stdout.contains("- responder.ttl = 22\n") && done.stdout.contains("+ responder.ttl = 11"),
        "{done}"
    );
    assert!(no_difference(host, &a));
    assert_eq!(ctl::run(host, "confirm").code, FAILED, "it is over");
}

#[test]
fn whatever_replaces_what_is_pending_the_way_back_leads_to_what_was_confirmed_last() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let [a, b, c] = three(&folder);
    let _attached = Attached::with(host, HOST_IF, &format!("-f {a}"));
    let run = |arguments: &str| ctl::run(host, arguments).expect_success();
    let apply = |file: &str| run(&format!("apply -f {file} --confirm 1h"));

    let (_b, _c) = (apply(&b), apply(&c));
    assert!(no_difference(host, &c));
    let _said = run("rollback");
    assert!(no_difference(host, &a), "not the one in between");

    // A single change is part of what is pending, and waits as long.
    let _b = apply(&b);
    let _said = run("limit set replies 7/s --burst 7");
    let _said = run("rule add x --type echo-request --length 44 --action drop");
    assert!(json(host, "status -j")["confirmation_pending_seconds"].is_number());
    let rules = json(host, "rule list -j");
    assert_eq!((&rules["rules"][0]["name"], &rules["rules"][1]["name"]), (&"of-22".into(), &"x".into()));
    let _said = run("rollback");
    assert!(no_difference(host, &a));

    // An apply without a time corrects it for good.
    for corrects in [format!("apply -f {c}"), format!("attach {HOST_IF} -f {c}")] {
        let _b = apply(&b);
        let _c = run(&corrects);
        assert_eq!(ctl::run(host, "rollback").code, FAILED, "nothing is pending any more: {corrects}");
        assert!(no_difference(host, &c));
    }
}

#[test]
fn whoever_changes_what_awaits_confirmation_is_told_what_becomes_of_it() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let [a, b, c] = three(&folder);
    let _attached = Attached::with(host, HOST_IF, &format!("-f {a}"));
    for (change, becomes) in [
        (format!("apply -f {c} --confirm 1h"), "what awaited confirmation is replaced\n"),
        ("limit set replies 7/s --burst 7".to_owned(), "this is part of what awaits confirmation"),
        (
            "rule add x --type echo-request --length 44 --action drop".to_owned(),
            "this is part of what awaits",
        ),
        (format!("apply -f {c}"), "this stays in force: what awaited confirmation is replaced"),
        (format!("attach {HOST_IF} -f {c}"), "this stays in force: what awaited confirmation is replaced"),
    ] {
        for pending in [true, false] {
            if pending {
                let _b = ctl::run(host, &format!("apply -f {b} --confirm 1h")).expect_success();
            }
            let done = ctl::run(host, &change);
            assert!(done.code == DONE && done.stderr.contains(becomes) == pending, "{change}: {done}");
            if ctl::run(host, "rollback").code != DONE {
                let _a = ctl::run(host, &format!("apply -f {a}")).expect_success();
            }
        }
    }
}

#[test]
fn detaching_the_last_interface_tells_what_is_lost_and_attaching_what_it_starts_from() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let [a, b, _] = three(&folder);
    let done = ctl::run(host, &format!("attach {HOST_IF} -f {a}"));
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stderr.contains(&format!("limits, from {a}: ")), "{done}");
    let _said = ctl::run(host, &format!("apply -f {b} --confirm 1h")).expect_success();
    let done = ctl::run(host, &format!("detach {HOST_IF}"));
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stderr.contains("WARNING") && done.stderr.contains("awaited confirmation"), "{done}");
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    assert!(done.stderr.contains("limits, from the defaults: "), "{done}");
    let done = ctl::run(host, "detach --all");
    assert_eq!((done.code, done.stderr.as_str()), (DONE, ""), "nothing was pending");
}

#[test]
fn attach_says_which_limits_are_in_force_and_how_to_change_them() {
    let Some(pair) = pair(&[]) else { return };
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF}"));
    assert_eq!(done.code, DONE, "{done}");
    for part in ["one source 1k/s burst 2000", "icmp-ctl limit set per-source", "icmp-ctl apply -f"] {
        assert!(done.stderr.contains(part), "{part:?} in {done}");
    }
    let _said = ctl::run(&pair.host, "limit set per-source 7/s --burst 70").expect_success();
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF}"));
    assert!(done.stderr.contains("from what was in force") && done.stderr.contains("7/s burst 70"), "{done}");
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn the_limits_as_shipped_lose_nothing_of_what_monitors_send() {
    let Some(pair) = pair(&["ping"]) else { return };
    let attached = Attached::new(&pair.host, HOST_IF);
    let _said = pair.peer.ping(&["-c400", "-i0.005", "192.0.2.2"]);
    assert_eq!(attached.counters().packets("answered"), 400);
}

#[test]
fn a_repeated_attach_and_serve_warn_as_the_first_did() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
    let warned = |done: &Finished| done.stderr.contains("net.ipv4.icmp_echo_ignore_all is on");
    for _ in ["first", "second"] {
        let done = ctl::run(host, &format!("attach {HOST_IF}"));
        assert!(done.code == DONE && warned(&done), "{done}");
    }
    let folder = Folder::new();
    let file = folder.file("serve.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    for _ in ["first", "second"] {
        let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {file}")));
        serve.wait_for("net.ipv4.icmp_echo_ignore_all is on", LIMIT);
        serve.wait_for("127.0.0.1:9816", LIMIT);
        assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    }
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn an_interface_named_twice_is_attached_once() {
    let Some(pair) = pair(&[]) else { return };
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF} {HOST_IF} --mode generic -j"));
    assert_eq!(done.code, DONE, "{done}");
    let document: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(document["interfaces"].as_array().map(Vec::len), Some(1), "{done}");
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn apply_tells_of_interfaces_that_it_neither_attaches_nor_detaches() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("link add other0 type veth peer name far0");
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let is = "interfaces: not put in force: `apply` attaches and detaches nothing;";
    for (interfaces, said) in [
        (String::new(), None),
        (format!("interfaces = [\"{HOST_IF}\"]\n"), None),
        (format!("interfaces = [\"{HOST_IF}*\", \"nothere*\"]\n"), None),
        (
            format!("interfaces = [\"{HOST_IF}\", \"other0\", \"nothere\"]\n"),
            Some(
                "named and not attached: other0, nothere; `icmp-ctl attach other0 nothere` changes that"
                    .to_owned(),
            ),
        ),
        (
            "interfaces = [\"other?\"]\n".to_owned(),
            Some(format!(
                "named and not attached: other0; attached and not named: {HOST_IF}; \
                 `icmp-ctl attach other0` with `icmp-ctl detach {HOST_IF}` changes that"
            )),
        ),
    ] {
        let file = folder.file("c.toml", &interfaces);
        for check in ["", " --check"] {
            let done = ctl::run(host, &format!("apply -f {file}{check}"));
            assert_eq!(done.code, DONE, "{done}");
            assert_eq!(done.stderr.contains(is), said.is_some(), "{interfaces}: {done}");
            assert!(said.as_ref().is_none_or(|said| done.stderr.contains(said)), "{interfaces}: {done}");
        }
    }
}

#[test]
fn a_limit_that_admits_all_or_nothing_is_told_without_a_burst() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let folder = Folder::new();
    let limits = "[limits]\nper-source = { rate = \"unlimited\" }\nreplies = { rate = \"0\" }\n";
    let done = ctl::run(&pair.host, &format!("apply -f {}", folder.file("c.toml", limits)));
    let told = done.expect_success();
    assert!(told.contains("+ limits.per-source = unlimited /32 and /64\n"), "{told}");
    assert!(told.contains("+ limits.replies = 0\n"), "{told}");
}

#[test]
fn a_change_warns_about_what_it_touches_and_a_file_about_all_of_it() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let rule = |name: &str, condition: &str, action: &str| {
        format!(
            "[[policy.rule]]\nname = \"{name}\"\n{condition}\ntype = \"echo-request\"\naction = \"{action}\"\n"
        )
    };
    let rules = [
        rule("one", "from = \"10.0.0.0/8\"", "pass"),
        rule("two", "to = \"192.0.2.2\"", "drop"),
        rule("other", "hop-limit = 7\nlength = 7", "drop"),
    ];
    let file = folder.file("c.toml", &rules.concat());
    let warnings = |arguments: &str| {
        let done = ctl::run(host, arguments);
        assert_eq!(done.code, DONE, "{done}");
        done.stderr.lines().filter(|line| line.contains("WARNING")).map(str::to_owned).collect::<Vec<_>>()
    };
    for _ in ["first", "second"] {
        let said = warnings(&format!("apply -f {file}"));
        assert!(said.iter().any(|line| line.contains("\"one\" and \"two\" overlap")), "{said:?}");
    }
    assert_eq!(warnings("rule del other"), [""; 0]);
    assert_eq!(warnings("limit set replies 10k/s"), [""; 0]);
    let said = warnings("rule add three --from 172.16.0.0/12 --type echo-request --action pass");
    assert!(said.len() == 1 && said[0].contains("\"three\""), "{said:?}");
}

#[test]
fn an_empty_list_matches_nothing_and_says_so() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let list = folder.file("list.txt", "# nobody any more\n\n");
    for from in ["[]".to_owned(), format!("\"file:{list}\"")] {
        for key in ["from", "to"] {
            let text = format!(
                "[[policy.rule]]\nname = \"r\"\n{key} = {from}\ntype = \"echo-request\"\naction = \"drop\"\n"
            );
            let done = ctl::run(host, &format!("apply -f {}", folder.file("c.toml", &text)));
            assert_eq!(done.code, DONE, "{text}: {done}");
            assert!(
                done.stderr.contains(&format!("\"r\" matches nothing: its list `{key}`")),
                "{text}: {done}"
            );
            let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
            let _said = pair.peer.ping(&["-c1", "2001:db8::2"]);
        }
    }
    let rule = format!("rule add s --from file:{list} --type echo-request --action drop");
    let done = ctl::run(host, &rule);
    assert!(done.code == DONE && done.stderr.contains("\"s\" matches nothing"), "{done}");
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    assert_eq!(json(host, "rule list -j")["rules"][1]["from"], Value::Array(Vec::new()));
}

#[test]
fn a_list_that_became_empty_is_refused_until_its_rule_is_named() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let list = folder.file("list.txt", "192.0.2.1\n");
    let file = folder.file(
        "c.toml",
        &format!("[[policy.rule]]\nname = \"bad\"\nfrom = \"file:{list}\"\ntype = \"echo-request\"\naction = \"drop\"\n"),
    );
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    let ping = || pair.peer.run("ping", &["-c1", "-W1", "192.0.2.2"]).code;
    assert_ne!(ping(), DONE, "it is on the list");
    let _same = folder.file("list.txt", "");
    for change in [format!("apply -f {file}"), format!("attach {HOST_IF} -f {file}")] {
        let done = ctl::run(host, &change);
        assert_eq!(done.code, GUARDED, "{done}");
        assert!(done.stderr.contains("--allow-empty bad"), "{done}");
        assert_ne!(ping(), DONE, "nothing has changed");
    }
    assert_eq!(ctl::run(host, &format!("apply -f {file} --allow-empty other")).code, GUARDED);
    assert_eq!(ctl::run(host, &format!("apply -f {file} --allow-empty bad")).code, DONE);
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    assert_eq!(ctl::run(host, &format!("apply -f {file}")).code, DONE, "it was empty before");
}

#[test]
fn a_difference_that_is_none_is_said_and_a_prefix_is_told_once() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let nets: Vec<_> = (0..6).map(|i| format!("\"198.51.{i}.0/24\"")).collect();
    for many in [&nets[..2], &nets[..]] {
        let text = format!(
            "[[policy.rule]]\nname = \"r\"\nfrom = [{}]\ntype = \"echo-request\"\naction = \"drop\"\n",
            many.join(", ")
        );
        let file = folder.file("c.toml", &text);
        let done = ctl::run(host, &format!("apply -f {file}"));
        let times = done.stdout.lines().filter(|l| l.starts_with('+') && l.contains("198.51.1.0/24")).count();
        assert_eq!((done.code, times), (DONE, 1), "{done}");
        assert_eq!(ctl::run(host, &format!("apply -f {file}")).stdout, "no change\n");
    }
}

#[test]
fn whatever_is_published_is_another_generation() {
    if !can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let _on_host = kernel.configure("", &[]);
    let policy = host::policy_of("[responder]\nttl = 9\n");
    let later = u64::MAX;
    type Change<'a> = &'a dyn Fn(&mut InstanceMaps);
    let changes: [(&str, Change<'_>); 6] = [
        ("a policy", &|maps| maps.publish(&policy, None).expect("done")),
        ("one that awaits confirmation", &|maps| maps.publish(&policy, Some(later)).expect("done")),
        ("another in its place", &|maps| maps.publish(&policy, Some(later)).expect("done")),
        ("going back", &|maps| assert!(maps.roll_back().expect("done"))),
        ("addresses", &|maps| maps.publish_addresses(&host::addresses(&[])).expect("done")),
        ("an interface", &|maps| maps.set_interface(host::interface()).expect("done")),
    ];
    for (what, change) in changes {
        let generation = |maps: &InstanceMaps| maps.switch().expect("readable") / SWITCH_CHANGE;
        let before = generation(kernel.maps());
        change(kernel.maps());
        assert_ne!(generation(kernel.maps()), before, "{what}");
    }
}

/// As where the time of what awaits confirmation runs out while `limit set` is at work.
#[test]
fn a_change_whose_time_is_over_before_it_is_in_force_is_refused() {
    if !can_run(&[]) {
        return;
    }
    let mut kernel = host::unconfigured();
    let _on_host = kernel.configure("[responder]\nttl = 7\n", &[]);
    let policy = host::policy_of("[responder]\nttl = 9\n");
    for pending in [None, Some(u64::MAX)] {
        if pending.is_some() {
            kernel.maps().publish(&host::policy_of("[responder]\nttl = 8\n"), pending).expect("done");
        }
        let error = kernel.maps().publish(&policy, Some(1)).expect_err("it would lapse at once");
        assert!(error.to_string().contains("what was confirmed last is in force"), "{error:#}");
        let ttl = kernel.maps().settings().expect("readable").map(|settings| settings.ttl);
        assert_eq!((ttl, kernel.maps().rollback_at().expect("readable")), (Some(7), None));
    }
}

#[test]
fn a_tighter_limit_holds_at_once_and_0_answers_nobody() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let attached = Attached::new(host, HOST_IF);
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    let flood = |network: u8| {
        let before = attached.counters();
        for i in 0..1000_u32 {
            let from = format!("10.{network}.{}.{}", i / 250, 1 + i % 250);
            let from: IpAddr = from.parse().expect("an address");
            tap.send(&Echo::new(from, "192.0.2.2".parse().expect("an address"), vec![0; 56]).frame())
                .expect("sent");
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            let now = attached.counters();
            if now.received >= before.received + 1000 {
                break now.answered() - before.answered();
            }
            assert!(Instant::now() < deadline, "{now:?}");
        }
    };
    assert_eq!(flood(1), 1000, "within the limits as shipped");
    let _said = ctl::run(host, "limit set replies 1/h --burst 10").expect_success();
    assert!(flood(2) <= 10, "what was taken from the old budget is not answered from");
    let _said = ctl::run(host, "limit set replies 1M/s --burst 100000").expect_success();
    assert!(flood(3) > 900);
    let _said = ctl::run(host, "limit set replies 0").expect_success();
    assert_eq!(flood(4), 0);
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

/// True where what is in force is what the file says.
fn no_difference(namespace: &Namespace, file: &str) -> bool {
    let document = json(namespace, &format!("apply -f {file} --check -j"));
    ["removed", "added"].iter().all(|key| document[key].as_array().is_some_and(Vec::is_empty))
}

fn json(namespace: &Namespace, arguments: &str) -> Value {
    let text = ctl::run(namespace, arguments).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {text}"))
}
