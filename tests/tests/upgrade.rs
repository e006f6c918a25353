//! `upgrade`: the program of one build replaces that of another, and pings, floods and readers of counters do not notice.
//!
//! Owns what stays across an upgrade, and the state after one that fails or is killed. The maps of another map ABI are at the end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use icmp_common::abi::VERSION;
use icmp_ctl::instance::migration;
use icmp_ctl::instance::program::BUILD;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::faults::killed;
use icmp_tests::folder::Folder;
use icmp_tests::generate::{Random, seed};
use icmp_tests::netns::{HOST_IF, HOST_MAC, Namespace, PEER_MAC, Pair, join};
use icmp_tests::older;
use icmp_tests::packet::Echo;
use icmp_tests::process::{self, Watch};
use icmp_tests::wire::Tap;
use icmp_tests::xdp::{Counting, Kind, PassLink};
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const NOTHING_LOADED: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(5);

const ROOT: &str = "/sys/fs/bpf/icmp-ctl";

/// Whoever pings is let through, and everybody else has seven pings: one source by a bucket of its own, another by that of a rule.
const CONFIG: &str = "
[limits]
per-source = { rate = \"7/h\", burst = 7 }

[[policy.rule]]
name = \"pinger\"
from = [\"192.0.2.1/32\"]
type = \"echo-request\"
action = \"answer\"
limit = \"unlimited\"

[[policy.rule]]
name = \"few\"
from = [\"198.18.9.67/32\"]
type = [\"echo-request\"]
action = \"answer\"
limit = \"7/h\"
burst = 7
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

    /// Sends echo requests of two sources over the second interface until `done`; how many.
    fn flood(&self, done: &AtomicBool) -> u64 {
        let tap = self.elsewhere.enter(|| Tap::open(ELSEWHERE_IF));
        let ip = |text: &str| text.parse().expect("an address");
        let echo = |from| Echo::new(ip(from), ip("198.18.9.1"), vec![0; 56]).frame();
        let frames = ["198.18.9.66", "198.18.9.67"].map(echo);
        let mut sent = 0;
        while sent < 50 || !done.load(Ordering::Relaxed) {
            // A full queue is no matter: there is enough of it.
            sent += frames.iter().filter(|frame| tap.send(frame).is_ok()).count() as u64;
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
    by_interface_and_reason(&shown(host, "show counters"))
}

fn by_interface_and_reason(all: &Value) -> BTreeMap<String, u64> {
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
    shown_by(ctl::program(), host, verb)
}

fn shown_by(build: &Path, host: &Namespace, verb: &str) -> Value {
    serde_json::from_str(&ctl::run_of(build, host, &format!("{verb} -j")).expect_success()).expect("JSON")
}

/// Kernel ids of the programs on the interfaces, which are the instance's.
fn programs(host: &Namespace) -> Vec<u64> {
    programs_by(ctl::program(), host)
}

fn programs_by(build: &Path, host: &Namespace) -> Vec<u64> {
    let status = shown_by(build, host, "status");
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
    let _said = world.pair.peer.ping_each(3, &["192.0.2.2"]);
}

#[test]
fn no_ping_is_lost_or_answered_twice_and_nobody_gets_a_fresh_burst() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    as_another_build(host);
    let before = programs(host);
    let read = || counters(host);
    under_load(&world, ctl::program(), read, || {
        for _ in 0..3 {
            let said = ctl::run(host, "upgrade").expect_success();
            assert!(said.contains(HOST_IF) && said.contains(SECOND_IF), "{said}");
        }
    });
    assert!(programs(host).iter().all(|program| !before.contains(program)));
}

/// The same where maps are laid out differently, in each of the ways that `migration.rs` knows.
#[test]
fn maps_of_another_layout_are_carried_over_under_load_to_the_last_count() {
    let Some(world) = World::new(&[]) else { return };
    let (host, next_abi) = (&world.pair.host, ctl::next_abi());
    let attached = world.attach();
    let detached = DetachedBy(next_abi, host);
    for verb in ["status", "limit set errors 7/s"] {
        let refused = ctl::run_of(next_abi, host, verb);
        assert!(refused.code == FAILED && refused.stderr.contains("`icmp-ctl upgrade`"), "{refused}");
    }
    let check = shown_by(next_abi, host, "upgrade --check");
    assert_eq!(check["converted"], serde_json::json!(["INTERFACES", "COUNTERS", "BUDGETS"]));
    assert_eq!(check["anew"], serde_json::json!(["HEAVY_HITTERS"]));
    // One of the two can read them at any time.
    let read = || {
        let builds = [ctl::program(), next_abi].into_iter().cycle().take(20);
        let mut reads = builds.map(|build| ctl::run_of(build, host, "show counters -j"));
        let text = reads.find(|read| read.code == DONE).expect("one of the two reads").stdout;
        by_interface_and_reason(&serde_json::from_str(&text).expect("JSON"))
    };
    under_load(&world, next_abi, read, || {
        let done = ctl::run_of(next_abi, host, "upgrade");
        assert!(done.code == DONE && done.stderr.contains("WARNING: HEAVY_HITTERS"), "{done}");
    });
    assert!(!pins(host).exists(), "nothing is left of the version before");
    let refused = ctl::run(host, "limit set errors 7/s");
    assert!(refused.code == FAILED && refused.stderr.contains("newer"), "{refused}");
    // From here on it is an instance like another.
    let _said = ctl::run_of(next_abi, host, "limit set errors 124/s").expect_success();
    let _said = ctl::run_of(next_abi, host, "upgrade").expect_success();
    drop(detached);
    drop(attached);
}

#[test]
fn the_page_names_the_oldest_version_whose_maps_are_taken_over() {
    let oldest = (1..VERSION).find(|version| migration::from(*version).is_some()).expect("one version");
    assert!((oldest..=VERSION).all(|version| migration::from(version).is_some()), "versions in between");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/upgrade.md");
    let words = fs::read_to_string(page).expect("the page");
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("takes over from version {oldest} on;")), "from version {oldest} on");
}

/// Version 6 had the bit of `observe` where `own = "host"` has its own now, and is made of version 8 by giving the pins its name. The rest of
/// what became of its maps is in `migration.rs`.
#[test]
fn what_version_6_was_told_is_what_its_successor_does() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let attached = Attached::configured(host, HOST_IF, &format!("[responder]\nown = \"host\"\n{CONFIG}"));
    answers(&world);
    let _said = ctl::run(host, "limit set errors 123/s").expect_success();
    let answered = attached.counters().answered();
    let (limits, rules) = (shown(host, "limit show"), shown(host, "rule list"));
    let sixth = PathBuf::from(format!("{ROOT}/v6/{}", number(host)));
    fs::create_dir_all(sixth.parent().expect("that of the version")).expect("a directory");
    older::make_version_8(&pins(host));
    fs::rename(pins(host), &sixth).expect("the name of version 6");
    assert!(ctl::run(host, "status").code == FAILED, "the pins are not this version's");
    let check = shown(host, "upgrade --check");
    assert_eq!(
        check["converted"],
        serde_json::json!(["SETTINGS", "ADDRESSES4", "ADDRESSES6", "RULES", "COUNTERS"])
    );
    assert_eq!(check["anew"], serde_json::json!([]));
    let _said = ctl::run(host, "upgrade").expect_success();
    assert!(!sixth.exists() && pins(host).exists(), "nothing is left of the version before");
    assert_eq!((shown(host, "limit show"), shown(host, "rule list")), (limits, rules));
    answers(&world);
    let counters = attached.counters();
    assert_eq!(
        (counters.answered(), counters.packets("would-answer")),
        (answered, 3),
        "what observes answers nothing"
    );
}

/// Version 9 of the map ABI had nothing to capture with, version 10 nothing to tell of events with, and they are the same otherwise.
#[test]
fn an_instance_of_before_captures_or_events_is_taken_over_and_can_be_captured_from_and_watched() {
    for version in [9, 10] {
        let Some(world) = World::new(&["ping"]) else { return };
        let host = &world.pair.host;
        let _attached = world.attach();
        answers(&world);
        let before = counters(host);
        let make = if version == 9 { older::make_version_9 } else { older::make_version_10 };
        make(&pins(host));
        let old = PathBuf::from(format!("{ROOT}/v{version}/{}", number(host)));
        fs::create_dir_all(old.parent().expect("that of the version")).expect("a directory");
        fs::rename(pins(host), &old).expect("the name of the version");
        let said = ctl::run(host, "upgrade").expect_success();
        assert!(
            said.contains(&format!("maps v{version} -> v{VERSION}: SETTINGS is converted, all others stay")),
            "{said}"
        );
        assert!(!old.exists() && pins(host).exists(), "nothing is left of the version before");
        let now = counters(host);
        assert!(before.iter().all(|(counter, value)| now[counter] >= *value), "{before:?} {now:?}");
        let mut monitor = Watch::start(&mut ctl::command(host, "monitor"));
        let _said = monitor.wait_for("telling of events", process::LIMIT);
        let mut capture = Watch::start(&mut ctl::command(host, "capture -w /dev/null -c 3"));
        let _said = capture.wait_for("capturing", process::LIMIT);
        answers(&world);
        let _said = capture.wait_for("3 frames captured", process::LIMIT);
    }
}

/// Version 10 tracked nobody, and its settings were shorter.
#[test]
fn an_instance_of_before_peers_is_taken_over_and_can_track_them_then() {
    let Some(world) = World::new(&["ping"]) else { return };
    let host = &world.pair.host;
    let attached = Attached::configured(host, HOST_IF, CONFIG);
    answers(&world);
    let config = shown(host, "show config");
    let tenth = PathBuf::from(format!("{ROOT}/v10/{}", number(host)));
    older::make_version_10(&pins(host));
    fs::create_dir_all(tenth.parent().expect("that of the version")).expect("a directory");
    fs::rename(pins(host), &tenth).expect("the name of version 10");
    let said = ctl::run(host, "upgrade").expect_success();
    assert!(said.contains("maps v10 -> v11: SETTINGS is converted, all others stay"), "{said}");
    assert_eq!(shown(host, "show config"), config);
    let folder = Folder::new();
    let file = folder.file("icmp-ctl.toml", &format!("peers.track = 200\n{CONFIG}"));
    let _said = ctl::run(host, &format!("apply -f {file}")).expect_success();
    answers(&world);
    let peers = shown(host, "peers");
    assert_eq!(peers["peers"].as_array().expect("a list").len(), 1, "{peers}");
    assert_eq!(attached.counters().answered(), 6);
}

/// In version 8 no VIP had a check, and rules and counters were laid out differently.
#[test]
fn vips_of_version_8_are_answered_as_before_and_counters_and_rules_go_on() {
    let Some(world) = World::new(&["ping"]) else { return };
    let (host, peer) = (&world.pair.host, &world.pair.peer);
    let config = format!("[responder]\nvips = [\"198.51.100.7/32\"]\n{CONFIG}");
    let attached = Attached::configured(host, HOST_IF, &config);
    peer.ip("route add 198.51.100.7/32 via 192.0.2.2");
    let pinged = || _ = peer.ping(&["-c", "3", "-i", "0.01", "198.51.100.7"]);
    pinged();
    let eighth = PathBuf::from(format!("{ROOT}/v8/{}", number(host)));
    let (rules, config) = (shown(host, "rule list"), shown(host, "show config"));
    let counters = counters(host);
    older::make_version_8(&pins(host));
    fs::create_dir_all(eighth.parent().expect("that of the version")).expect("a directory");
    fs::rename(pins(host), &eighth).expect("the name of version 8");
    let said = ctl::run(host, "upgrade").expect_success();
    assert!(said.contains(&format!("maps v8 -> v{VERSION}")), "{said}");
    assert!(!eighth.exists() && pins(host).exists(), "nothing is left of the version before");
    assert_eq!((shown(host, "rule list"), shown(host, "show config")), (rules, config));
    // Neighbour discovery goes on.
    let now = self::counters(host);
    assert!(counters.iter().all(|(counter, value)| now[counter] >= *value), "{counters:?} {now:?}");
    assert_eq!(now[&format!("{HOST_IF:?} answered")], 3);
    pinged();
    assert_eq!(attached.counters().answered(), 6);
}

/// Version 8 of the map ABI has maps and folders that 7 has not, and is the same otherwise.
#[test]
fn an_instance_of_before_programs_in_front_of_others_is_taken_over_and_can_have_them_then() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    answers(&world);
    let (before, pins) = (programs(host), pins(host));
    for map in ["CHAIN", "CHAIN_FRAGS"] {
        fs::remove_file(pins.join(map)).expect("a pin");
    }
    for folder in ["behind", "behind_frags"] {
        fs::remove_dir(pins.join(folder)).expect("a folder");
    }
    older::make_version_8(&pins);
    let seventh = Path::new(ROOT).join(format!("v7/{}", number(host)));
    fs::create_dir_all(seventh.parent().expect("a folder")).expect("a folder");
    fs::rename(&pins, &seventh).expect("renamed");

    let refused = ctl::run(host, "status");
    assert!(refused.code == FAILED && refused.stderr.contains("`icmp-ctl upgrade`"), "{refused}");
    let said = ctl::run(host, "upgrade").expect_success();
    assert!(
        said.contains(&format!(
            "maps v7 -> v{VERSION}: SETTINGS is converted, RULES is converted, COUNTERS is converted, all others stay"
        )),
        "{said}"
    );
    assert!(!seventh.exists() && programs(host).iter().all(|program| !before.contains(program)));
    answers(&world);
    assert_eq!(counters(host)[&format!("{HOST_IF:?} answered")], 6);
    let other = Counting::new(Kind::USUAL);
    let _said = ctl::run(host, &format!("detach {SECOND_IF}")).expect_success();
    host.ip(&format!("link set dev {SECOND_IF} xdpgeneric pinned {}", other.pin()));
    let said = ctl::run(host, &format!("attach {SECOND_IF} --chain")).expect_success();
    assert!(said.contains("in front of"), "{said}");
}

/// For a moment an upgrade to other maps has a link pinned with neither.
#[test]
fn an_interface_whose_link_is_just_being_moved_is_counted_by_its_name() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    host.ip("link add other0 type veth peer name other1");
    host.ip("link set other0 up");
    let _said = ctl::run(host, &format!("attach {HOST_IF} other0")).expect_success();
    let names = || -> Vec<String> {
        let counters = shown(host, "show counters");
        let interfaces = counters["interfaces"].as_array().expect("a list");
        interfaces.iter().map(|interface| interface["name"].as_str().expect("a name").to_owned()).collect()
    };
    let before = names();
    let links = pins(host).join("links");
    let pin =
        links.join(host.ip(&format!("-o link show {HOST_IF}")).split(':').next().expect("an index").trim());
    fs::rename(&pin, links.join("moved")).expect("it is there");
    let meanwhile = names();
    fs::rename(links.join("moved"), &pin).expect("it is there");
    assert_eq!(meanwhile, before);
    let _done = ctl::run(host, "detach --all").expect_success();
}

/// Pings around a change: `ICMP_TESTS_PINGS` from the environment, or as many as take some seconds.
fn pings() -> u64 {
    std::env::var("ICMP_TESTS_PINGS").map_or(20_000, |number| number.parse().expect("a number of pings"))
}

/// Does something while there are pings, a flood and readers of counters; afterwards `build` is loaded.
fn under_load(
    world: &World,
    build: &Path,
    read: impl Fn() -> BTreeMap<String, u64> + Sync,
    change: impl FnOnce(),
) {
    let host = &world.pair.host;
    let _said = ctl::run(host, "limit set errors 123/s").expect_success();
    let _said = ctl::run(host, "rule add late --type timestamp-request --action drop").expect_success();
    let limits = shown(host, "limit show");
    let done = AtomicBool::new(false);
    let stop = Stop(&done);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| world.ping(pings(), &done));
        let flood = scope.spawn(|| world.flood(&done));
        let reads = scope.spawn(|| world.watch_counters(&done, &read));
        change();
        drop(stop);
        let [sent, answered] = pings.join().expect("it pings");
        let (flooded, reads) = (flood.join().expect("it sends"), reads.join().expect("it reads"));
        eprintln!("{answered} of {sent} pings answered, {flooded} of a flood, counters read {reads} times");
        assert_eq!(sent, answered);
        let now = read();
        let count = |interface: &str, reason: &str| now[&format!("{interface:?} {reason}")];
        assert_eq!(count(HOST_IF, "answered"), sent, "each is counted, and once");
        assert_eq!(count(SECOND_IF, "answered"), 14, "what the two sources may have");
        let limited = count(SECOND_IF, "limited-source") + count(SECOND_IF, "limited-rule");
        assert_eq!(limited, flooded - 14, "{now:?}");
    });
    let status = shown_by(build, host, "status");
    assert_eq!(status["build"], BUILD);
    let rows = status["interfaces"].as_array().expect("a list");
    let modes: Vec<_> = rows.iter().map(|row| &row["mode"]).collect();
    assert_eq!(modes, ["native", "generic"]);
    assert_eq!(shown_by(build, host, "limit show"), limits);
    let rules = ctl::run_of(build, host, "rule list").stdout;
    assert!(["pinger", "few", "late"].iter().all(|rule| rules.contains(rule)), "{rules}");
    assert!(!next(host).exists());
}

/// Detaches what another build has attached.
struct DetachedBy<'a>(&'a Path, &'a Namespace);

impl Drop for DetachedBy<'_> {
    fn drop(&mut self) {
        let _where_a_test_failed_there_may_be_none = ctl::run_of(self.0, self.1, "detach --all");
    }
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
fn serve_puts_its_program_in_the_place_of_another_builds_where_it_is_told_to() {
    let Some(world) = World::new(&["ping"]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    let serve = |options: &str, build: &str| {
        let mut serve = Watch::start(&mut ctl::command(host, &format!("serve {options}")));
        serve.wait_for("serving metrics", process::LIMIT);
        assert_eq!(shown(host, "status")["build"], build, "{options}");
        let ids = programs(host);
        assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
        ids
    };
    as_another_build(host);
    let before = programs(host);
    assert_eq!(serve("", "0.0.1+another"), before);
    let after = serve("--upgrade", BUILD);
    assert_ne!(after, before);
    answers(&world);
    assert_eq!(serve("--upgrade", BUILD), after, "it is this build's already");
    let _done = ctl::run(host, "detach --all").expect_success();
    let mut serve = Watch::start(&mut ctl::command(host, "serve --upgrade"));
    serve.wait_for("serving metrics", process::LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
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

/// What one is made of: each call with how many of its name it is, and as it was.
fn calls_of_an_upgrade(build: &Path, host: &Namespace) -> Vec<(String, usize, String)> {
    let folder = Folder::new();
    let log = folder.path().join("calls");
    let trace = "trace=bpf,mkdir,link,linkat,symlink,symlinkat,rename,renameat2,unlink,unlinkat,rmdir";
    let program = build.to_str().expect("a path in UTF-8");
    let options = ["-f", "-qq", "-o", log.to_str().expect("a path in UTF-8"), "-e", trace];
    let _said = host.run("strace", &[&options[..], &[program, "upgrade"]].concat()).expect_success();
    let log = fs::read_to_string(log).expect("a log");
    let mut seen = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((head, _)) = line.split_once('(') else { continue };
        let name = head.rsplit(' ').next().expect("a name").to_owned();
        let nth = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1_usize);
        calls.push((name, *nth, line.to_owned()));
    }
    calls
}

/// Before the new pins are in place the version before is in force, from then on this one; and the other build is refused.
#[test]
fn an_upgrade_to_another_map_abi_that_is_killed_leaves_one_of_the_two_whole() {
    let Some(world) = World::new(&["strace"]) else { return };
    let (host, next_abi) = (&world.pair.host, ctl::next_abi());
    let attached = world.attach();
    let detached = DetachedBy(next_abi, host);
    let calls = calls_of_an_upgrade(next_abi, host);
    let last_of = |text: &str| calls.iter().rposition(|(.., line)| line.contains(text)).expect("it is there");
    let (switched, replaced) = (last_of("LINK_UPDATE"), last_of("renameat2"));
    // How many calls of bpf(2) there are depends on what was counted, so behind the switch other calls are gone by.
    let removals: Vec<_> = (replaced..calls.len()).filter(|at| calls[*at].0 == "unlinkat").collect();
    let [first, .., last] = removals[..] else { panic!("pins are removed: {calls:?}") };
    let middle = removals[removals.len() / 2];
    for point in [switched, switched + 2, replaced, first, middle, last] {
        let _said = ctl::run_of(next_abi, host, "detach --all").expect_success();
        let again = world.attach();
        answers(&world);
        let (name, nth, line) = &calls[point];
        let done = killed(next_abi, host, "upgrade", name, *nth);
        assert_eq!(done.code, None, "it was killed before {line}: {done}");
        answers(&world);
        let builds = [ctl::program(), next_abi];
        let (whole, other) = if point <= replaced { (builds[0], builds[1]) } else { (builds[1], builds[0]) };
        assert_eq!(ctl::run_of(other, host, "limit set errors 7/s").code, FAILED, "{line}");
        let _said = ctl::run_of(whole, host, "limit set errors 99/s").expect_success();
        assert_eq!(programs_by(whole, host).len(), 2, "{line}");
        let now = by_interface_and_reason(&shown_by(whole, host, "show counters"));
        assert!(now[&format!("{HOST_IF:?} answered")] >= 3, "{line}: {now:?}");
        assert!(!next(host).exists(), "{line}");
        answers(&world);
        let _said = ctl::run_of(next_abi, host, "upgrade").expect_success();
        assert_eq!(shown_by(next_abi, host, "limit show")["limits"]["errors"]["rate"], "99/s");
        assert!(!pins(host).exists(), "{line}");
        // The other build has nothing to detach any more.
        std::mem::forget(again);
    }
    drop(detached);
    drop(attached);
}

#[test]
fn an_upgrade_that_is_killed_at_any_point_leaves_one_program_whole() {
    const RANDOM: usize = 3;
    let Some(world) = World::new(&["strace"]) else { return };
    let host = &world.pair.host;
    let _attached = world.attach();
    let calls = calls_of_an_upgrade(ctl::program(), host);
    let switched =
        calls.iter().position(|(.., line)| line.contains("LINK_UPDATE")).expect("links are updated");
    let replaced = calls.iter().position(|(name, ..)| name == "renameat2").expect("the pins are");
    let mut random = Random::new(seed());
    let mut points = vec![switched, switched + 3, replaced, replaced + 1, replaced + 5];
    points.extend((0..RANDOM).map(|_| random.below(calls.len())));
    let mut before = counters(host);
    for (round, point) in points.into_iter().enumerate() {
        let (name, nth, line) = &calls[point];
        let done = killed(ctl::program(), host, "upgrade", name, *nth);
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
