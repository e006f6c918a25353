//! Beside another XDP program: refused by name, or in front of it, which gets what is passed, and alone again afterwards.
//!
//! Owns how programs share an interface, seen from the wire and from the other program. Who may touch an instance's pins is `pins.rs`'s.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use icmp_common::abi::VERSION;
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::xdp::{Counting, Kind};
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const NOTHING_LOADED: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(5);
const LIMIT: Duration = Duration::from_secs(20);
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
        let _said = pair.peer.run("ping", &["-c3", "-i0.01", "-W2", "192.0.2.2"]).expect_success();
        assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 3, "{mode} {kind:?}");
        let _said = pair.peer.run("ping", &["-c3", "-i0.01", "-W2", "-s", "100", "203.0.113.9"]);
        let passed = ctl::counters(host, HOST_IF).verdict("pass");
        assert!(passed >= 3 && other.count() - had == passed, "{} of {passed}", other.count() - had);

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
        let _code = ping.end_by(Signal::SIGINT);
        let summary = ping.heard().join("\n");
        let numbers = |line: &str| line.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
        let counted = ping.heard().iter().find(|line| line.contains("transmitted")).map(|line| numbers(line));
        let [sent, received, ..] = counted.as_deref().expect("a summary")[..] else { panic!("{summary}") };
        // The last one may be under way when it is told to end.
        assert!(sent > 1000 && sent - received <= 1, "{summary}");
        eprintln!("by link {by_link}: {summary}");
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
    let _said = pair.peer.run("ping", &["-c3", "-i0.01", "-W2", "192.0.2.2"]).expect_success();
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
    let _said = pair.peer.run("ping", &["-c3", "-i0.01", "-W2", "192.0.2.2"]).expect_success();
    assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), 3);
    let _said = ctl::run(host, "detach --all").expect_success();
    assert_eq!(on(host), before);
    assert!(!pins.exists());
}

#[test]
fn an_upgrade_is_refused_while_ours_is_in_front_of_another() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let other = Counting::new(Kind::USUAL);
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", other.pin()));
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let before = on(host);
    let done = ctl::run(host, "upgrade");
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains(&format!("icmp-ctl attach --chain {HOST_IF}")), "{done}");
    assert_eq!(on(host), before);
    let _said = ctl::run(host, "detach --all").expect_success();
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

fn status(host: &Namespace) -> Value {
    let text = ctl::run(host, "status -j").expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn pins_of(host: &Namespace) -> PathBuf {
    let namespace = host.enter(|| fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino());
    PathBuf::from(format!("{ROOT}/v{VERSION}/{namespace}"))
}
