//! `upgrade`: the program of one build takes the place of another's, and nobody who pings, floods or reads counters notices.
//!
//! Owns what stays across an upgrade, and what becomes of one that fails or is killed. What another map ABI makes of the maps is at the end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use icmp_common::abi::VERSION;
use icmp_ctl::instance::program::BUILD;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::generate::{Random, seed};
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_MAC, Pair, join};
use icmp_tests::packet::Echo;
use icmp_tests::process::Finished;
use icmp_tests::wire::Tap;
use icmp_tests::xdp::PassLink;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const NOTHING_LOADED: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(5);

const ROOT: &str = "/sys/fs/bpf/icmp-ctl";

/// Whoever pings is let through, and everybody else has seven pings.
const CONFIG: &str = "
[limits]
per-source = { rate = \"7/h\", burst = 7 }

[[policy.rule]]
name = \"pinger\"
from = [\"192.0.2.1/32\"]
type = \"echo-request\"
action = \"answer\"
limit = \"unlimited\"
";

/// The host's second interface, in generic mode, and its other end in a namespace of its own.
const SECOND_IF: &str = "second0";
const ELSEWHERE_IF: &str = "second1";

/// The pair, and a third host that the second interface leads to.
struct World {
    pair: Pair,
    elsewhere: Namespace,
}

impl World {
    fn new(programs: &[&str]) -> Option<Self> {
        can_run(&[&["ip", "nsenter", "ping"], programs].concat()).then(|| {
            let (pair, elsewhere) = (Pair::new(1500), Namespace::new("elsewhere"));
            join(&pair.host, SECOND_IF, HOST_MAC, &elsewhere, ELSEWHERE_IF, PEER_MAC, 1500);
            pair.host.ip(&format!("address add 198.18.9.1/24 dev {SECOND_IF}"));
            Self { pair, elsewhere }
        })
    }

    /// Attaches to both interfaces, natively and generically.
    fn attach(&self) -> Attached<'_> {
        let attached = Attached::configured(&self.pair.host, HOST_IF, CONFIG);
        let _said = ctl::run(&self.pair.host, &format!("attach {SECOND_IF} --mode generic")).expect_success();
        attached
    }

    /// Pings in batches until `done`, at least so many; how many were sent and how many were answered.
    fn ping(&self, at_least: u64, done: &AtomicBool) -> [u64; 2] {
        let mut sum = [0; 2];
        while sum[0] < at_least || !done.load(Ordering::Relaxed) {
            let said = self.pair.peer.run("ping", &["-f", "-q", "-c", "5000", "-W", "5", "192.0.2.2"]);
            assert!(!said.stdout.contains("duplicate"), "{said}");
            let numbers = said.stdout.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
            let line: Vec<_> = numbers.skip_while(|number| *number != 5000).take(2).collect();
            let [sent, answered] = line[..] else { panic!("{said}") };
            sum = [sum[0] + sent, sum[1] + answered];
        }
        sum
    }

    /// Sends echo requests of one source over the second interface until `done`; how many.
    fn flood(&self, done: &AtomicBool) -> u64 {
        let tap = self.elsewhere.enter(|| Tap::open(ELSEWHERE_IF));
        let ip = |text: &str| text.parse().expect("an address");
        let frame = Echo::new(ip("198.18.9.66"), ip("198.18.9.1"), vec![0; 56]).frame();
        let mut sent = 0;
        while sent < 50 || !done.load(Ordering::Relaxed) {
            // A full queue is no matter: there is enough of it.
            sent += u64::from(tap.send(&frame).is_ok());
            std::thread::yield_now();
        }
        sent
    }

    /// Reads all counters until `done`, none of which ever falls; how often.
    fn watch_counters(&self, done: &AtomicBool, mut read: impl FnMut() -> BTreeMap<String, u64>) -> u32 {
        let (mut before, mut times) = (read(), 0);
        while times < 5 || !done.load(Ordering::Relaxed) {
            let now = read();
            for (counter, value) in &before {
                assert!(now.get(counter) >= Some(value), "{counter} was {value}: {now:?}");
            }
            (before, times) = (now, times + 1);
        }
        times
    }
}

/// All counters of the host, by interface and reason.
fn counters(host: &Namespace) -> BTreeMap<String, u64> {
    let text = ctl::run(host, "show counters -j").expect_success();
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let mut counters = BTreeMap::new();
    for interface in all["interfaces"].as_array().expect("a list") {
        let reasons = interface["reasons"].as_object().expect("an object");
        for (reason, count) in reasons {
            counters.insert(
                format!("{} {reason}", interface["name"]),
                count["packets"].as_u64().expect("a number"),
            );
        }
    }
    counters
}

fn shown(host: &Namespace, verb: &str) -> Value {
    serde_json::from_str(&ctl::run(host, &format!("{verb} -j")).expect_success()).expect("JSON")
}

/// Kernel ids of the programs on the interfaces, which are the instance's.
fn programs(host: &Namespace) -> Vec<u64> {
    let status = shown(host, "status");
    let rows = status["interfaces"].as_array().expect("a list");
    assert!(rows.iter().all(|row| row["tag"].as_str().is_some_and(|tag| tag.len() == 16)), "{status}");
    rows.iter().map(|row| row["program_id"].as_u64().expect("a number")).collect()
}

fn number(namespace: &Namespace) -> u64 {
    namespace.enter(|| fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino())
}

fn pins(host: &Namespace) -> PathBuf {
    PathBuf::from(format!("{ROOT}/v{VERSION}/{}", number(host)))
}

/// Where an upgrade makes what takes the place of the pins.
fn next(host: &Namespace) -> PathBuf {
    PathBuf::from(format!("{ROOT}/next/{}", number(host)))
}

/// As if another build of the same map ABI had loaded the program.
fn as_another_build(host: &Namespace) {
    let build = pins(host).join("build");
    fs::remove_file(&build).expect("a note of the build");
    symlink("0.0.1+another", build).expect("a note of the build");
    assert_eq!(shown(host, "status")["build"], "0.0.1+another");
}

fn answers(world: &World) {
    let said = world.pair.peer.run("ping", &["-q", "-c", "3", "-i", "0.01", "-W", "5", "192.0.2.2"]);
    assert!(said.stdout.contains(" 3 received"), "{said}");
}

#[test]
fn no_ping_is_lost_or_answered_twice_and_nobody_gets_a_fresh_burst() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let attached = world.attach();
    let _said = ctl::run(host, "limit set errors 123/s").expect_success();
    let _said = ctl::run(host, "rule add late --type timestamp-request --action drop").expect_success();
    as_another_build(host);
    let (rules, limits) = (ctl::run(host, "rule list").stdout, shown(host, "limit show"));
    let (before, done) = (programs(host), AtomicBool::new(false));
    let stop = Stop(&done);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| world.ping(20_000, &done));
        let flood = scope.spawn(|| world.flood(&done));
        let reads = scope.spawn(|| world.watch_counters(&done, || counters(host)));
        for _ in 0..3 {
            let said = ctl::run(host, "upgrade").expect_success();
            assert!(said.contains(HOST_IF) && said.contains(SECOND_IF), "{said}");
        }
        drop(stop);
        let [sent, answered] = pings.join().expect("it pings");
        let (flooded, reads) = (flood.join().expect("it sends"), reads.join().expect("it reads"));
        eprintln!("{answered} of {sent} pings answered, {flooded} of a flood, counters read {reads} times");
        assert_eq!(sent, answered);
        let counted = ctl::counters(host, SECOND_IF);
        assert_eq!(counted.answered(), 7, "what one source may have: {counted:?}");
        assert_eq!(counted.packets("limited-source"), flooded - 7);
        assert!(attached.counters().answered() >= sent);
    });
    let status = shown(host, "status");
    assert_eq!(status["build"], BUILD);
    let modes: Vec<_> =
        status["interfaces"].as_array().expect("a list").iter().map(|row| &row["mode"]).collect();
    assert_eq!(modes, ["native", "generic"]);
    assert!(programs(host).iter().all(|program| !before.contains(program)));
    assert_eq!(shown(host, "limit show"), limits);
    let named = |rules: &str| rules.matches("late").count() + rules.matches("pinger").count();
    assert_eq!(named(&ctl::run(host, "rule list").stdout), named(&rules));
    assert!(!next(host).exists());
}

/// Ends what runs beside a test, also where that fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_check_says_what_would_be_done_and_changes_nothing() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    as_another_build(host);
    let before = (programs(host), files(&pins(host)));
    let said = ctl::run(host, "upgrade --check").expect_success();
    for part in [HOST_IF, SECOND_IF, "would be replaced", "0.0.1+another", BUILD] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let said = shown(host, "upgrade --check");
    assert_eq!((&said["upgraded"], &said["build_before"]), (&false.into(), &"0.0.1+another".into()));
    assert_eq!((programs(host), files(&pins(host))), before);
    assert!(!next(host).exists());
}

/// All pins below a folder, with what they are pins of.
fn files(folder: &PathBuf) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        files.push((entry.clone(), fs::symlink_metadata(&entry).expect("it is there").ino()));
        if entry.is_dir() {
            files.extend(self::files(&entry));
        }
    }
    files.sort();
    files
}

#[test]
fn nothing_that_is_loaded_is_exit_code_3() {
    let Some(world) = World::new(&[]) else { return };
    for verb in ["upgrade", "upgrade --check"] {
        let done = ctl::run(&world.pair.host, verb);
        assert_eq!(done.code, NOTHING_LOADED, "{done}");
    }
}

#[test]
fn a_program_that_cannot_be_loaded_leaves_the_one_of_before_on_all_interfaces() {
    let Some(world) = World::new(&["sh"]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    let before = (programs(host), files(&pins(host)));
    let program = ctl::program().display();
    let mut failures = 0;
    for files_open in (5..).step_by(4) {
        let done = host.run("sh", &["-c", &format!("ulimit -n {files_open}; exec {program} upgrade")]);
        if done.code == DONE {
            break;
        }
        assert_eq!(done.code, FAILED, "{files_open}: {done}");
        assert_eq!((programs(host), files(&pins(host))), before, "{files_open}: {done}");
        assert!(!next(host).exists(), "{files_open}: {done}");
        failures += 1;
    }
    assert!(failures > 3, "it was tried");
    answers(&world);
}

/// The kernel compares attach types when a link is to run another program, and libraries differ in what they load programs with.
#[test]
fn where_one_link_refuses_all_run_the_program_of_before_and_what_a_replacement_costs_is_said() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    let index = host.ip(&format!("-o link show {SECOND_IF}")).split(':').next().expect("an index").to_owned();
    let link = pins(host).join("links").join(index);
    fs::remove_file(&link).expect("a pin");
    let other = loop {
        // The kernel takes the program off some time after the pin is gone.
        if !host.ip(&format!("link show {SECOND_IF}")).contains("xdp") {
            break host.enter(|| PassLink::attach_without_type(SECOND_IF));
        }
    };
    other.pin(&pins(host).join("icmp_ctl_frags"), &link);
    let before = (programs(host), files(&pins(host)));
    let done = ctl::run(host, "upgrade");
    assert_eq!(done.code, REFUSED, "{done}");
    for part in [SECOND_IF, "attach type", "all is as before", "icmp-ctl detach --all", "begin anew"] {
        assert!(done.stderr.contains(part), "{part} in {done}");
    }
    assert_eq!((programs(host), files(&pins(host))), before);
    assert!(!next(host).exists());
    answers(&world);
}

/// Runs an upgrade that is killed before its n-th system call of this name.
fn killed(host: &Namespace, call: &str, nth: usize) -> Finished {
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    host.run(
        "strace",
        &["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, program, "upgrade"],
    )
}

#[test]
fn an_upgrade_that_is_killed_at_any_point_leaves_one_program_whole() {
    const RANDOM: usize = 3;
    let Some(world) = World::new(&["strace"]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    // What one is made of: each call with how many of its name it is.
    let folder = Folder::new();
    let log = folder.path().join("calls");
    let trace = "trace=bpf,mkdir,link,linkat,symlink,symlinkat,rename,renameat2,unlink,unlinkat,rmdir";
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let options = ["-f", "-qq", "-o", log.to_str().expect("a path in UTF-8"), "-e", trace];
    let _said = host.run("strace", &[&options[..], &[program, "upgrade"]].concat()).expect_success();
    let log = fs::read_to_string(log).expect("a log");
    let mut seen = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((head, _)) = line.split_once('(') else { continue };
        let name = head.rsplit(' ').next().expect("a name").to_owned();
        let nth = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1_usize);
        calls.push((name, *nth, line));
    }
    let switched =
        calls.iter().position(|(.., line)| line.contains("LINK_UPDATE")).expect("links are updated");
    let replaced = calls.iter().position(|(name, ..)| name == "renameat2").expect("the pins are");
    let mut random = Random::new(seed());
    let mut points = vec![switched, switched + 3, replaced, replaced + 1, replaced + 5];
    points.extend((0..RANDOM).map(|_| random.below(calls.len())));
    let mut before = counters(host);
    for (round, point) in points.into_iter().enumerate() {
        let (name, nth, line) = &calls[point];
        let done = killed(host, name, *nth);
        assert_eq!(done.code, None, "it was killed before {line}: {done}");
        answers(&world);
        // Whoever changes something next ends it, and so does another upgrade.
        let verb =
            if round % 2 == 0 { "upgrade".to_owned() } else { format!("limit set errors {}/s", 100 + round) };
        let _said = ctl::run(host, &verb).expect_success();
        assert!(!next(host).exists(), "after {line}");
        assert_eq!(programs(host).len(), 2, "after {line}");
        answers(&world);
        let now = counters(host);
        assert!(before.iter().all(|(counter, value)| now.get(counter) >= Some(value)), "after {line}");
        before = now;
    }
    let rate = |limits: &Value| limits["limits"]["errors"]["rate"].clone();
    assert_eq!(rate(&shown(host, "limit show")), "107/s");
}
