//! Rates: frames in a span of time, shown as long as the output is read.
//!
//! Owns `show counters --rate` and `--watch`. Other tests prove the counters.

use std::fs;
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::netns::{HOST_IF, Pair};
use icmp_tests::process::Watch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const NOTHING_LOADED: Option<i32> = Some(3);

#[test]
fn each_line_has_what_came_in_its_span_and_all_lines_have_what_was_sent() {
    let Some(pair) = pair(&["ping"]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let _before = pair.peer.ping(&["-c7", "-i0.001", "192.0.2.2"]);
    let mut watch = Watch::start(&mut ctl::command(&pair.host, "show counters --rate 50ms -w -j"));
    let mut next = || -> Value { serde_json::from_str(&watch.wait_for("", LIMIT)).expect("a line of JSON") };
    let first = next();
    assert_eq!((first["schema"].as_u64(), first["interfaces"][0]["name"].as_str()), (Some(1), Some(HOST_IF)));
    assert_eq!(first["interfaces"][0]["answer"], 0, "what came before is in no span");
    let _sent = pair.peer.ping(&["-c120", "-i0.001", "192.0.2.2"]);
    let mut answered = 0;
    while answered < 120 {
        let line = next();
        let interface = &line["interfaces"][0];
        answered += interface["answer"].as_u64().expect("a count");
        let parts =
            ["answer", "pass", "drop", "limit"].map(|name| interface[name].as_u64().expect("a count"));
        assert_eq!(interface["received"].as_u64(), Some(parts.iter().sum()), "{line}");
    }
    assert_eq!(answered, 120);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_watch() {
    let Some(pair) = pair(&["sh", "head"]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let script = "\"$0\" show counters -w --rate 10ms | head -2; exit ${PIPESTATUS[0]}";
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let lines = pair.host.run("bash", &["-c", script, program]).expect_success();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("INTERFACE") && lines[1].starts_with(HOST_IF),
        "{lines:?}"
    );
}

/// The kernel kills a process that has no handler for a signal, but for the first of a container, which goes on.
#[test]
fn a_signal_ends_the_watch_also_where_it_is_the_first_process_of_a_container() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let program = ctl::program().to_str().expect("a path in UTF-8");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = pair.host.command("unshare");
        command.args(["--pid", "--fork", program, "show", "counters", "-w", "--rate", "10ms"]);
        let mut container = Watch::start(&mut command);
        let _line = container.wait_for(HOST_IF, LIMIT);
        let id = container.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("its children");
        let first = children.trim().parse().expect("one of them");
        kill(Pid::from_raw(first), signal).expect("it is there");
        // What has made the container ends with it; a signal that does nothing to it.
        assert_eq!(container.end_by(Signal::SIGCONT), Some(0), "{signal}");
    }
}

#[test]
fn one_span_is_shown_without_watching_and_what_is_not_there_is_said() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    assert_eq!(ctl::run(host, "show counters --rate 10ms").code, NOTHING_LOADED);
    let _attached = Attached::new(host, HOST_IF);
    let shown = ctl::run(host, &format!("show counters {HOST_IF} --rate 10ms")).expect_success();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    let done = ctl::run(host, "show counters eth9 --rate 10ms");
    assert!(done.code == Some(1) && done.stderr.contains("eth9: nothing of ours is attached"), "{done}");
    let done = ctl::run(host, "show counters --rate 10");
    assert!(done.code == Some(2) && done.stderr.contains("write it like 250ms"), "{done}");
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}
