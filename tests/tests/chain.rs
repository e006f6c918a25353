//! Beside another XDP program: refused by name, or in front of it, so that it gets the passed frames, and alone again afterwards.
//!
//! Owns how programs share an interface, seen from the wire and from the other program. `pins.rs` has who may touch an instance's pins.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use icmp_common::abi::VERSION;
use icmp_ctl::policy::start::{Wanted, start};
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::{self, Watch};
use icmp_tests::xdp::{Counting, Kind};
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const NOTHING_LOADED: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(5);
const LIMIT: Duration = Duration::from_secs(60);
const ROOT: &str = "/sys/fs/bpf/icmp-ctl";

#[test]
fn another_program_is_named_with_its_mode_and_how_it_is_attached() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    let said = |id: u32, how: &str, cures: [&str; 2]| {
        let done = ctl::run(host, &format!("attach {HOST_IF}"));
        assert_eq!(done.code, FAILED, "{done}");
        for part in [Counting::NAME, &format!("with id {id} "), how, cures[0], cures[1], "attach --chain"] {
            assert!(done.stderr.contains(part), "{part} in {done}");
        }
        assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
    };
    for mode in ["xdpdrv", "xdpgeneric"] {
        host.ip(&format!("link set dev {HOST_IF} {mode} pinned {}", other.pin()));
        let how = if mode == "xdpdrv" { "(native mode, by netlink)" } else { "(generic mode, by netlink)" };
        said(on(host).0, how, ["ip link set", &format!("{mode} off")]);
        host.ip(&format!("link set dev {HOST_IF} {mode} off"));
    }
    let _link = host.enter(|| other.link(HOST_IF));
    said(on(host).0, "(native mode, by link ", ["holds the link", "bpftool link detach id"]);
}

#[test]
fn a_program_that_a_command_takes_off_while_serve_puts_it_back_stays_off() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    // Which keeps the instance loaded.
    host.ip("link add other0 type veth peer name other1");
    host.ip("link set other0 up");
    assert_eq!(ctl::run(host, "attach other0 --mode generic").code, DONE);
    let other = Counting::new(Kind::USUAL);
    // Of the interface, and of the instance with it.
    for detach in [format!("detach {HOST_IF}"), "detach --all".to_owned()] {
        for (is_detached, attached) in [(false, 1), (true, 0)] {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
            assert_eq!(ctl::run(host, &format!("attach {HOST_IF} --chain")).code, DONE);
            host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
            if is_detached {
                assert_eq!(ctl::run(host, &detach).code, DONE);
            }
            // What `serve` does once it has seen that ours is gone.
            let interfaces = [HOST_IF.to_owned()];
            let wanted = Wanted { again: true, ..Wanted::on(&interfaces) };
            let started = host.enter(|| start(wanted, || unreachable!("what is in force is joined")));
            let started = started.expect("nothing refuses");
            assert_eq!(started.map_or(0, |started| started.attached.len()), attached);
            let _is_off = ctl::run(host, &format!("detach {HOST_IF}"));
        }
    }
}

#[test]
fn in_front_of_another_program_pings_are_answered_and_the_other_gets_the_rest() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    for (mode, kind) in [
        ("xdpdrv", Kind::USUAL),
        ("xdpgeneric", Kind::USUAL),
        ("xdpdrv", Kind { frags: true, ..Kind::USUAL }),
    ] {
        let other = Counting::new(kind);
        host.ip(&format!("link set dev {HOST_IF} {mode} pinned {}", other.pin()));
        let before = on(host);

        let said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
        assert!(said.contains(&format!("in front of {}", Counting::NAME)), "{said}");
        assert_eq!(on(host).1, before.1, "in the mode that the other had");
        let had = other.count();
        // The one address is answered, the other one passed: a rule of the kernel's for echo is asked by who passes.
        let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
        assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 3, "{mode} {kind:?}");
        let _said = pair.peer.run("ping", &["-c3", "-i0.01", "-W2", "-s", "100", "203.0.113.9"]);
        let passed = ctl::counters(host, HOST_IF).verdict("pass");
        assert!(passed >= 3 && other.count() - had == passed, "{} of {passed}", other.count() - had);

        let explained = ctl::run(host, "explain --from 192.0.2.1 --to 203.0.113.9").expect_success();
        let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        let first = format!("another XDP program may stop it first; ours is in front of {}", Counting::NAME);
        assert!(explained.contains(&first), "{explained}");

        let row = &status(host)["interfaces"][0];
        assert_eq!(row["behind"]["program_id"], before.0, "{row}");
        assert_eq!(row["behind"]["attached"], "by netlink", "{row}");
        assert_eq!(row["entry"], if kind.frags { "xdp.frags" } else { "xdp" }, "{row}");
        let again = ctl::run(host, &format!("attach {HOST_IF}"));
        assert!(again.code == DONE && again.stdout.contains("already attached"), "{again}");

        let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
        assert_eq!(on(host), before, "as it was");
        assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
        host.ip(&format!("link set dev {HOST_IF} {mode} off"));
        assert!(!pins_of(host).exists());
    }
}

#[test]
fn with_nobody_to_go_in_front_of_chain_attaches_as_without() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    assert!(!said.contains("in front"), "{said}");
    assert_eq!(status(host)["interfaces"][0]["behind"], Value::Null);
    let _said = ctl::run(host, "detach --all").expect_success();
}

/// Both the answers and what the other program gets: no ping is lost, and none is missed by both.
#[test]
fn no_ping_is_lost_when_it_is_put_in_front_and_taken_away_again() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", ctl::UNLIMITED);
    for by_link in [false, true] {
        let other = Counting::new(Kind::USUAL);
        let link = by_link.then(|| host.enter(|| other.link(HOST_IF)));
        if !by_link {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
        }
        let mut ping = pair.peer.watch("ping", &["-f", "-q", "-c", "1000000", "192.0.2.2"]);
        ping.wait_for("PING", LIMIT);
        for _ in 0..3 {
            let _said = ctl::run(host, &format!("attach {HOST_IF} --chain -f {config}")).expect_success();
            until("ours answers", || ctl::counters(host, HOST_IF).packets("answered") > 100);
            let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
            let had = other.count();
            until("the other one gets them", || other.count() > had + 100);
        }
        let (sent, received) = summary(&mut ping);
        // The last one may be under way when it is told to end.
        assert!(sent > 1000 && sent - received <= 1, "{received} of {sent}");
        eprintln!("by link {by_link}: {received} of {sent} pings answered");
        drop(link);
        if !by_link {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
        }
    }
}

#[test]
fn a_link_of_another_owner_runs_ours_and_then_its_own_again() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    let link = host.enter(|| other.link(HOST_IF));
    let before = on(host);
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let attached = status(host)["interfaces"][0]["behind"]["attached"].clone();
    assert!(attached.as_str().is_some_and(|how| how.starts_with("by link ")), "{attached}");
    let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
    assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 3);
    let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
    assert_eq!(on(host), before, "as it was");

    // Its owner's end is the end of what is attached by it.
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    drop(link);
    until("ours is gone with it", || program_on(host).is_none());
    let status = ctl::run(host, "status");
    assert!(status.stdout.contains("displaced") && status.stderr.contains("attach --chain"), "{status}");
    let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
    assert!(!pins_of(host).exists());
}

#[test]
fn a_program_that_cannot_be_called_is_refused_with_the_reason_and_stays() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind { attach_type: false, ..Kind::USUAL });
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let before = on(host);
    let done = ctl::run(host, &format!("attach {HOST_IF} --chain"));
    if done.code == DONE {
        // Kernels before 6.18 make no difference.
        let _said = ctl::run(host, "detach --all").expect_success();
    } else {
        assert_eq!(done.code, REFUSED, "{done}");
        assert!(done.stderr.contains("attach type") && done.stderr.contains(Counting::NAME), "{done}");
    }
    assert_eq!(on(host), before);
    assert!(!pins_of(host).exists());
    let done = ctl::run(host, &format!("attach {HOST_IF} --chain --mode generic"));
    assert!(done.code == FAILED && done.stderr.contains("native mode"), "{done}");
}

#[test]
fn what_was_killed_between_the_steps_is_the_old_state_or_the_new_one() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let before = on(host);
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let pins = pins_of(host);
    assert!(pins.join("behind").read_dir().expect("pins").count() == 1, "what was there is pinned");

    // As an attach that was killed before ours was in front, or a detach behind that: all pins, and the other one alone.
    host.ip(&format!("-force link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    assert_eq!(on(host), before);
    let status = ctl::run(host, "status");
    assert!(status.stdout.contains("displaced"), "{status}");
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
    assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 3);
    let _said = ctl::run(host, "detach --all").expect_success();
    assert_eq!(on(host), before);
    assert!(!pins.exists());
}

#[test]
fn a_detach_that_did_not_come_to_its_end_is_told_as_that_and_not_as_what_others_have_done() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    // What it does before the pins go.
    host.ip(&format!("-force link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let status = ctl::run(host, "status");
    let truth = format!("{} (program {}) is there alone", Counting::NAME, on(host).0);
    for part in
        [truth.as_str(), "did not come to its end", &format!("`icmp-ctl detach {HOST_IF}` clears away")]
    {
        assert!(status.stderr.contains(part), "{part} in {status}");
    }
    assert!(!status.stderr.contains("taken both off"), "{status}");
    let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
    assert!(!pins_of(host).exists() && on(host).0 > 0, "the other one stays");
}

#[test]
fn an_interface_whose_new_name_is_no_utf_8_keeps_both_programs_until_it_is_detached() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let before = on(host).0;
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    host.ip(&format!("link set {HOST_IF} down"));
    let mut rename = host.command("ip");
    rename.args(["link", "set", HOST_IF, "name"]).arg(OsStr::from_bytes(b"odd\xff"));
    let _said = process::run(&mut rename).expect_success();
    let done = ctl::run(host, "limit set errors 99/s");
    assert!(done.code == DONE && !done.stderr.contains("is gone"), "{done}");
    let _said = ctl::run(host, "detach odd\\xff").expect_success();
    let mut rename = host.command("ip");
    rename.args(["link", "set"]).arg(OsStr::from_bytes(b"odd\xff")).args(["name", HOST_IF]);
    let _said = process::run(&mut rename).expect_success();
    assert!(on(host).0 == before && !pins_of(host).exists(), "the other one is alone");
}

/// By a command that changes something, by `serve`, and then by `attach`.
#[test]
fn what_others_do_to_the_attachment_is_shown_and_costs_nothing_but_the_attachment() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let (first, second) = (Counting::new(Kind::USUAL), Counting::new(Kind::USUAL));
    for done_to_it in ["replaced by netlink", "replaced on its link", "put back", "taken off"] {
        let other = if done_to_it == "put back" { &first } else { &second };
        let link = (done_to_it == "replaced on its link").then(|| host.enter(|| first.link(HOST_IF)));
        if link.is_none() {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", first.pin()));
        }
        let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
        let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
        if let Some(link) = &link {
            second.update(link);
        } else if done_to_it == "taken off" {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
        } else {
            host.ip(&format!("-force link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
        }
        let now = program_on(host);
        let displaced = || {
            let shown = ctl::run(host, "status");
            let said = format!("`icmp-ctl attach --chain {HOST_IF}`");
            assert!(shown.stdout.contains("displaced") && shown.stderr.contains(&said), "{shown}");
        };
        displaced();
        let _said = ctl::run(host, "limit set errors 99/s").expect_success();
        displaced();
        let mut serve = Watch::start(&mut ctl::command(host, "serve"));
        if now.is_some() {
            let said = if done_to_it == "put back" { "is there alone" } else { "is not there any more" };
            let said = serve.wait_for(said, LIMIT);
            assert!(said.contains(&format!("`icmp-ctl attach --chain {HOST_IF}`")), "{said}");
            assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
            displaced();
            assert_eq!(program_on(host), now, "what is another's is left to who may do anything");
            let said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
            assert!(said.contains("in front of"), "as it was before: {said}");
        } else {
            serve.wait_for(&format!("{HOST_IF}: attached"), LIMIT);
            assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
        }
        let had = other.count();
        let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
        let _said = pair.peer.run("ping", &["-c3", "-i0.01", "-W2", "203.0.113.9"]);
        assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 6, "counters stay");
        assert!(now.is_none() || other.count() >= had + 3, "{done_to_it}: it gets what is passed");
        assert!(ctl::run(host, "limit show").stdout.contains("99/s"), "and so does the rest");
        let _said = ctl::run(host, "detach --all").expect_success();
        assert_eq!(program_on(host), now, "as it was");
        assert!(!pins_of(host).exists());
        if link.is_none() {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
        }
    }
}

#[test]
fn a_link_that_somebody_else_detaches_is_told_as_that_and_left_off_until_attach() {
    let Some(pair) = pair(&["ping", "bpftool"]) else { return };
    let host = &pair.host;
    host.ip("link add also0 type veth peer name also1");
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    let _said = ctl::run(host, &format!("attach {HOST_IF} also0")).expect_success();
    let _said = ctl::run(host, "limit set errors 99/s").expect_success();
    let index = host.ip(&format!("-o link show {HOST_IF}"));
    let index = index.split(':').next().expect("an index");
    let pin = pins_of(host).join("links").join(index);
    let detach = || {
        let shown = host.run("bpftool", &["-j", "link", "show", "pinned", &pin.display().to_string()]);
        let shown: Value = serde_json::from_str(&shown.expect_success()).expect("JSON");
        let id = shown["id"].as_u64().expect("an id").to_string();
        let _said = host.run("bpftool", &["link", "detach", "id", &id]).expect_success();
        assert_eq!(program_on(host), None);
    };
    detach();
    let said = format!(
        "did not come to its end, or another process has detached the link; nothing is answered or limited here; `icmp-ctl attach {HOST_IF}`"
    );
    let shown = ctl::run(host, "status");
    assert!(shown.stdout.contains("taken off") && shown.stderr.contains(&said), "{shown}");
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    assert!(done.code == DONE && done.stderr.contains("another process has detached the link"), "{done}");
    assert!(ctl::run(host, "limit show").stdout.contains("99/s"), "another interface had it all the time");
    detach();
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(&format!("{HOST_IF}: attached"), LIMIT);
    serve.wait_for("serving metrics", LIMIT);
    detach();
    // Whoever looks first says the one, and serve the other.
    let both = ["another process has detached the link", "was detached, and is left alone"];
    let first = serve.says(&both, LIMIT).expect("it goes on");
    let second = both.into_iter().find(|text| !first.contains(text)).expect("a line says one of them");
    serve.wait_for(second, LIMIT);
    assert_eq!((serve.end_by(Signal::SIGTERM), program_on(host)), (DONE, None));
    let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
    let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
    let _said = ctl::run(host, "detach --all").expect_success();
    assert!(!pins_of(host).exists());
}

/// It may not open another's link.
#[test]
fn serve_takes_off_at_its_end_what_it_may_and_says_before_where_it_may_not() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("link add also0 type veth peer name also1");
    let other = Counting::new(Kind::USUAL);
    let folder = Folder::new();
    let config = format!("interfaces = [\"{HOST_IF}\", \"also0\"]\n[serve]\non-stop = \"detach\"\n");
    let config = folder.file("icmp-ctl.toml", &config);
    for by_link in [false, true] {
        let link = by_link.then(|| host.enter(|| other.link(HOST_IF)));
        if !by_link {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
        }
        let before = on(host);
        let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
        let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
        let stays = format!("{HOST_IF}: stays attached when `serve` is stopped");
        serve.wait_for(if by_link { &stays } else { "serving metrics" }, LIMIT);
        let ours = on(host);
        let code = serve.end_by(Signal::SIGTERM);
        let heard = serve.heard();
        assert_eq!(code == DONE, !by_link, "{heard:?}");
        assert!(heard.iter().all(|line| !line.contains(&stays)), "said once, or not at all: {heard:?}");
        assert_eq!(on(host), if by_link { ours } else { before });
        assert!(!host.ip("link show also0").contains("xdp"), "whatever becomes of another: {heard:?}");
        if by_link {
            let said = "link of another owner, for which the kernel asks for CAP_SYS_ADMIN";
            assert!(heard.iter().any(|line| line.contains(said)), "{heard:?}");
            let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
            assert_eq!(on(host), before);
        }
        assert!(!pins_of(host).exists());
        drop(link);
        if !by_link {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
        }
    }
}

/// A pin does not know its interface as a link does.
#[test]
fn what_a_namespace_has_left_that_had_the_same_number_is_not_believed() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let _said = ctl::run(host, "limit set errors 99/s").expect_success();
    host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
    assert!(ctl::run(host, "status").stdout.contains("displaced"));
    let note = pins_of(host).join("namespace");
    fs::remove_file(&note).expect("a note");
    std::os::unix::fs::symlink("1", &note).expect("a note");
    assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
    let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
    assert!(!ctl::run(host, "limit show").stdout.contains("99/s"), "it begins anew");
    let _said = ctl::run(host, "detach --all").expect_success();
}

/// By netlink and by a link of its owner, to the same map ABI and to another: ours is exchanged from one frame to the next.
#[test]
fn an_upgrade_in_front_of_another_loses_no_ping_and_no_frame_that_the_other_gets() {
    let Some(pair) = pair(&["ping"]) else { return };
    let (host, next_abi) = (&pair.host, ctl::next_abi());
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", ctl::UNLIMITED);
    for by_link in [false, true] {
        let other = Counting::new(Kind { frags: by_link, ..Kind::USUAL });
        let link = by_link.then(|| host.enter(|| other.link(HOST_IF)));
        if !by_link {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
        }
        let before = on(host);
        let _said = ctl::run(host, &format!("attach {HOST_IF} --chain -f {config}")).expect_success();
        let not_passed = not_passed(ctl::program(), host, &other);
        let behind = status(host)["interfaces"][0]["behind"].clone();
        let mut answered = pair.peer.watch("ping", &["-f", "-q", "-c", "1000000", "192.0.2.2"]);
        let mut passed = pair.peer.watch("ping", &["-f", "-q", "-c", "1000000", "203.0.113.9"]);
        answered.wait_for("PING", LIMIT);
        passed.wait_for("PING", LIMIT);
        for build in [ctl::program(), ctl::program(), next_abi] {
            let (had, ours) = (other.count(), on(host).0);
            until("the other one gets some", || other.count() > had + 10);
            let check = ctl::run_of(build, host, "upgrade --check").expect_success();
            assert!(check.contains("would be replaced") && on(host).0 == ours, "{check}");
            let _said = ctl::run_of(build, host, "upgrade").expect_success();
            assert_ne!(on(host).0, ours);
        }
        let _code = passed.end_by(Signal::SIGINT);
        let (sent, received) = summary(&mut answered);
        // The last one may be under way when it is told to end.
        assert!(sent > 1000 && sent - received <= 1, "{received} of {sent}");
        eprintln!("by link {by_link}: {received} of {sent} pings answered");
        assert_eq!(self::not_passed(next_abi, host, &other), not_passed, "each frame that was passed");
        assert_eq!(shown(next_abi, host, "status")["interfaces"][0]["behind"], behind);
        let _said = ctl::run_of(next_abi, host, "detach --all").expect_success();
        assert_eq!(on(host), before, "as it was");
        drop(link);
        if !by_link {
            host.ip(&format!("link set dev {HOST_IF} xdpdrv off"));
        }
    }
}

#[test]
fn an_upgrade_that_is_killed_leaves_the_other_behind_the_program_of_before() {
    let Some(pair) = pair(&["ping", "strace"]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let before = on(host);
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let row = || status(host)["interfaces"][0].clone();
    let (ours, behind) = (on(host), row()["behind"].clone());
    // When the interface has the new program, and the pins are still those of the old one.
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let inject = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=renameat2:signal=KILL", program, "upgrade"];
    let done = host.run("strace", &inject);
    assert!(done.code.is_none() && on(host) != ours, "{done}");
    assert_eq!((&row()["behind"], &row()["mode"]), (&behind, &"native".into()));
    let _said = ctl::run(host, "limit set errors 99/s").expect_success();
    assert_eq!((on(host), &row()["behind"]), (ours, &behind));
    let _said = pair.peer.ping(&["-c3", "-i0.01", "192.0.2.2"]);
    assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 3);
    let _said = ctl::run(host, "detach --all").expect_success();
    assert_eq!(on(host), before);
}

#[test]
fn what_reads_the_state_shows_one_in_front_of_another_like_any_other_and_says_what_is_behind_it() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let config = || ctl::run(host, "show config").expect_success();
    let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
    let alone = config();
    let _said = ctl::run(host, "detach --all").expect_success();
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let before = on(host);
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    assert_eq!(config(), alone);
    let folder = Folder::new();
    let same = ctl::run(host, &format!("apply --check -f {}", folder.file("icmp-ctl.toml", &alone)));
    assert!(same.code == DONE && same.stdout.contains("no change"), "{same}");
    let metric =
        format!("icmp_ctl_interface_chained{{interface=\"{HOST_IF}\",program=\"{}\"}} 1", Counting::NAME);
    assert!(ctl::run(host, "show metrics").expect_success().contains(&metric));
    let doctor = ctl::run(host, &format!("doctor {HOST_IF}"));
    let said = format!("ours is in front of {} (program {})", Counting::NAME, before.0);
    assert!(doctor.stdout.contains(&said) && !doctor.stdout.contains("no other XDP program"), "{doctor}");
    let _said = ctl::run(host, "detach --all").expect_success();
    assert_eq!(on(host), before);
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

/// The program on the interface: its kernel id, and the kernel's number for its mode.
fn on(host: &Namespace) -> (u32, u64) {
    program_on(host).unwrap_or_else(|| panic!("{HOST_IF} has no program"))
}

fn program_on(host: &Namespace) -> Option<(u32, u64)> {
    let text = host.ip(&format!("-j link show {HOST_IF}"));
    let links: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let xdp = &links[0]["xdp"];
    Some((u32::try_from(xdp["prog"]["id"].as_u64()?).expect("an id"), xdp["mode"].as_u64()?))
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "after {LIMIT:?} still not: {what}");
    }
}

/// Ends a ping: how many were sent, and how many answered.
fn summary(ping: &mut Watch) -> (u64, u64) {
    let _code = ping.end_by(Signal::SIGINT);
    let line = ping.heard().iter().find(|line| line.contains("transmitted")).expect("a summary");
    let numbers: Vec<_> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [sent, received, ..] = numbers[..] else { panic!("{line}") };
    (sent, received)
}

/// How many frames the other program got more than ours has passed, at a moment when none comes.
fn not_passed(build: &Path, host: &Namespace, other: &Counting) -> u64 {
    let mut found = None;
    until("no frames come", || {
        let had = other.count();
        let counters = shown(build, host, "show counters");
        let reasons = counters["interfaces"][0]["reasons"].as_object().expect("reasons").values();
        let passed = reasons.filter(|reason| reason["verdict"] == "pass");
        let passed: u64 = passed.map(|reason| reason["packets"].as_u64().expect("a number")).sum();
        found = Some(had - passed);
        had == other.count()
    });
    found.expect("it was counted")
}

fn status(host: &Namespace) -> Value {
    shown(ctl::program(), host, "status")
}

fn shown(build: &Path, host: &Namespace, verb: &str) -> Value {
    let text = ctl::run_of(build, host, &format!("{verb} -j")).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn pins_of(host: &Namespace) -> PathBuf {
    let namespace = host.enter(|| fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino());
    PathBuf::from(format!("{ROOT}/v{VERSION}/{namespace}"))
}
