//! Calls to the kernel that fail while `serve` starts, reads its configuration again or is asked: it succeeds or fails, and says which.
//!
//! Owns that, and that a long-running process keeps no descriptor after a failure; `faults.rs` makes calls fail.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::faults::{CALLS, State, Tried, World, chosen, has_failed, told};
use icmp_tests::process::Watch;
use icmp_tests::readers::Readers;
use nix::sys::signal::Signal;

const DONE: Option<i32> = Some(0);
const LIMIT: Duration = Duration::from_secs(40);

const STARTED: &str = "serving metrics";
const RELOADED: [&str; 2] = ["and is in force", "what was in force stays"];

/// Messages to the service manager, one for each look at the host, within which it is through with what a failure has it do again.
const LOOKS: usize = 5;

/// The options of strace for one kind of call, or for all.
fn tracing(world: &World, calls: &str, inject: Option<String>) -> Vec<String> {
    let options = ["-yy", "-f", "-o", &world.log, "-e", &format!("trace={calls}")].map(str::to_owned);
    options.into_iter().chain(inject.into_iter().flat_map(|inject| ["-e".to_owned(), inject])).collect()
}

fn failure(call: &str, number: usize, error: &str) -> Option<String> {
    Some(format!("inject={call}:error={error}:when={number}"))
}

fn trace(world: &World) -> String {
    fs::read_to_string(&world.log).expect("a trace")
}

/// Libraries read and write pipes and sockets of their own by the others, for signals, to start a process and to be asked: they panic where they
/// cannot, or lose the signal.
fn is_ours(call: &str) -> bool {
    ["bpf", "socket"].contains(&call)
}

/// It watches for events from a moment after it is ready, with the instance's maps open.
fn until_watched(serve: &mut Watch) {
    let _line = serve.wait_for("policy: put in force by", LIMIT);
}

fn descriptors(serve: &Watch) -> usize {
    fs::read_dir(format!("/proc/{}/fd", serve.id())).expect("it is there").count()
}

/// Has strace at it until what is done is done.
fn beside<T>(world: &World, pid: u32, calls: &str, inject: Option<String>, act: impl FnOnce() -> T) -> T {
    let options = tracing(world, calls, inject);
    let mut strace = Watch::start(Command::new("strace").args(options).args(["-p", &pid.to_string()]));
    let _line = strace.wait_for("attached", LIMIT);
    let done = act();
    let _code = strace.end_by(Signal::SIGTERM);
    done
}

fn write(world: &World, ttl: u8) {
    let _path = world
        .folder
        .file("serve", &format!("interfaces = [\"host0\", \"second0\"]\n[responder]\nttl = {ttl}\n"));
}

fn each_call_fails_at_the_start(before: &[&str]) {
    let Some(world) = World::new() else { return };
    let host = &world.pair.host;
    write(&world, 7);
    let start = |calls: &str, inject| {
        let program = ctl::program().to_str().expect("a path in UTF-8").to_owned();
        let serve = [program, "serve".to_owned(), "-f".to_owned(), world.line("@serve")];
        let options = tracing(&world, calls, inject);
        // With -D it is `serve` that is our child.
        Watch::start(host.command("strace").arg("-D").args(options).args(serve))
    };
    let _old = world.prepare(before);
    let mut serve = start(&CALLS.join(","), None);
    let _line = serve.wait_for(STARTED, LIMIT);
    let new = State::of(host);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let mut old = world.prepare(before);
    let mut tried = Tried::default();
    for (call, number, error) in chosen(&trace(&world)) {
        let mut serve = start(call, failure(call, number, error));
        let has_started = serve.says(&[STARTED], LIMIT).is_some();
        let state = State::of(host);
        let code = serve.end_by(Signal::SIGTERM);
        tried.cases += usize::from(has_failed(&trace(&world)));
        let right = if has_started { state.is_like(&new) } else { state == old };
        if !right || (code == DONE) != has_started {
            let [of_old, of_new] = [&old, &new].map(|other| state.apart_from(other));
            let said = serve.heard().join("\n");
            tried.fault(&format!(
                "{call} number {number} fails with {error}: started {has_started}, {code:?}: {said}\napart from before: {of_old}\napart from \
                 after: {of_new}"
            ));
        }
        if state != old {
            old = world.prepare(before);
        }
    }
    tried.end(&format!("serve after {before:?}"));
}

#[test]
fn serve_starts_or_not_and_says_which() {
    each_call_fails_at_the_start(&[]);
}

#[test]
fn serve_starts_on_what_is_loaded_or_not_and_says_which() {
    each_call_fails_at_the_start(&["attach host0 -f @a"]);
}

/// The next message to the service manager.
fn heard(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = manager.recv(&mut bytes).expect("a message in time");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn serve_reads_its_configuration_again_or_not_and_says_which_and_keeps_no_descriptor() {
    let Some(world) = World::new() else { return };
    let host = &world.pair.host;
    let path = world.folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let until_ready = || while !heard(&manager).contains("READY=1") {};
    write(&world, 7);
    let mut serve =
        Watch::start(ctl::command(host, &world.line("serve -f @serve")).env("NOTIFY_SOCKET", &path));
    until_ready();
    until_watched(&mut serve);
    // Reads it again with strace at it; how that has ended.
    let reload = |serve: &mut Watch, calls: &str, inject| {
        beside(&world, serve.id(), calls, inject, || {
            serve.signal(Signal::SIGHUP);
            let said = serve.says(&RELOADED, LIMIT).expect("it stays");
            until_ready();
            said
        })
    };
    write(&world, 8);
    let mut states = [(7, State::of(host))].to_vec();
    let _said = reload(&mut serve, &CALLS.join(","), None);
    states.push((8, State::of(host)));
    let before = (0..LOOKS)
        .map(|_| {
            let _message = heard(&manager);
            descriptors(&serve)
        })
        .min()
        .expect("there are looks");
    let mut tried = Tried::default();
    for (call, number, error) in chosen(&trace(&world)).into_iter().filter(|(call, ..)| is_ours(call)) {
        // What is in force is the last one.
        let (wanted, new) = states[0].clone();
        write(&world, wanted);
        let said = reload(&mut serve, call, failure(call, number, error));
        let state = State::of(host);
        tried.cases += usize::from(has_failed(&trace(&world)));
        let is_done = said.contains(RELOADED[0]);
        if state != if is_done { new } else { states[1].1.clone() } {
            tried.fault(&format!(
                "{call} number {number} fails with {error}: {said}: {}",
                state.apart_from(&states[1].1)
            ));
        }
        let settles = (0..LOOKS).any(|_| descriptors(&serve) <= before || heard(&manager).is_empty());
        if !settles {
            tried.fault(&format!(
                "{call} number {number} fails with {error}: {before} descriptors, now {}",
                descriptors(&serve)
            ));
        }
        if is_done {
            states.swap(0, 1);
        }
    }
    tried.end("reload");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
}

#[test]
fn members_who_ask_are_told_what_is_or_nothing_and_no_descriptor_is_kept() {
    let Some(world) = World::new() else { return };
    if !can_run(&["unshare", "mount", "install", "setpriv"]) {
        return;
    }
    write(&world, 7);
    let mut readers = Readers::start(&world.pair.host, &world.line("@serve"), "");
    until_watched(&mut readers.serve);
    let pid = readers.serve.id();
    let mut tried = Tried::default();
    for verb in ["status -j", "show policy -j", "show addresses -j"] {
        let right = told(&beside(&world, pid, &CALLS.join(","), None, || readers.member(verb)), None);
        let before = (0..LOOKS).map(|_| descriptors(&readers.serve)).min().expect("there are looks");
        for (call, number, error) in chosen(&trace(&world)).into_iter().filter(|(call, ..)| is_ours(call)) {
            let inject = failure(call, number, error);
            let done = beside(&world, pid, call, inject, || readers.member(verb));
            tried.cases += usize::from(has_failed(&trace(&world)));
            if done.code == DONE && told(&done, Some(&right)) != right {
                tried.fault(&format!("{call} number {number} fails with {error}: {done}"));
            }
            let settles = (0..LOOKS).any(|_| {
                let next = readers.member(verb);
                assert_eq!(
                    told(&next, Some(&right)),
                    right,
                    "{call} number {number} has failed with {error}"
                );
                descriptors(&readers.serve) <= before
            });
            if !settles {
                tried.fault(&format!(
                    "{call} number {number} fails with {error}: {before} descriptors, now {}",
                    descriptors(&readers.serve)
                ));
            }
        }
    }
    tried.end("members who ask");
    assert_eq!(readers.serve.end_by(Signal::SIGTERM), DONE);
}
