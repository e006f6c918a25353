//! Calls to the kernel that fail: afterwards the state is that of before or that of after, the command says which, and nothing stays behind.
//!
//! Owns failures that strace injects into the program as it is shipped. Which calls fail, and how, is chosen by the seed; with
//! `ICMP_TESTS_ERRORS=N` each call fails with N of the errors, which takes a quarter of an hour for each.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;

use icmp_common::abi::Settings;
use icmp_ctl::instance::pins::View;
use icmp_ctl::instance::program::Entry;
use icmp_ctl::policy::rules::Rule;
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::generate::{Random, seed};
use icmp_tests::netns::{HOST_MAC, Namespace, PEER_MAC, Pair, join, quiet};
use icmp_tests::process::Finished;

/// Where the program asks the kernel and changes it.
const CALLS: [&str; 4] = ["bpf", "socket", "sendto", "recvfrom"];

const ERRORS: [&str; 6] = ["EPERM", "ENOMEM", "EBUSY", "E2BIG", "ENOSPC", "EINTR"];

/// About how many of a verb's calls fail where not all do.
const FEW: usize = 20;

/// How many of its last bpf calls all do: what fails behind the change is what is easily told wrong.
const LAST: usize = 6;

/// Opens the instance to change it, and has nothing to do: so whatever a command has left to the next one is done.
const NEXT: &str = "rollback";

/// The host's second interface, and its other end.
const SECOND_IF: &str = "second0";
const ELSEWHERE_IF: &str = "second1";

const A: &str = "
[responder]
ttl = 11
[[policy.rule]]
name = \"a\"
from = [\"10.0.0.0/8\"]
type = \"echo-request\"
action = \"drop\"
";

const B: &str = "
[responder]
ttl = 22
[[policy.rule]]
name = \"b\"
from = [\"10.1.0.0/16\", \"2001:db8::/32\"]
type = \"echo-request\"
action = \"drop\"
audit = true
";

const C: &str = "
[responder]
ttl = 33
[[policy.rule]]
name = \"c\"
from = [\"10.2.0.0/16\"]
type = \"echo-request\"
action = \"drop\"
";

/// What there is of an instance.
#[derive(Clone, Debug, PartialEq)]
struct State {
    /// Pins and notes, with what the notes say. The entry points are one: either may be loaded, and used, where the other is refused.
    pins: BTreeSet<String>,
    /// Kernel ids of the programs on the host's interfaces.
    programs: Vec<u32>,
    loaded: Option<Loaded>,
}

#[derive(Clone, Debug, PartialEq)]
struct Loaded {
    settings: Option<Settings>,
    rules: Vec<Rule>,
    awaits_confirmation: bool,
    interfaces: Vec<u32>,
    addresses: Vec<String>,
}

impl State {
    fn of(host: &Namespace) -> Self {
        let mut pins = BTreeSet::new();
        let lock = ctl::lock_of(host);
        let namespace = lock.file_name().and_then(|name| name.to_str()).expect("a number");
        let root = lock.ancestors().nth(2).expect("the directory of all instances");
        collect(root, namespace, &mut pins);
        let links = host.ip("-d link");
        let programs = links.split("prog/xdp id ").skip(1);
        let programs = programs.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect();
        Self { pins, programs, loaded: host.enter(loaded) }
    }

    /// Apart from which programs they are.
    fn is_like(&self, other: &Self) -> bool {
        let number = |state: &Self| state.programs.len();
        (number(self), &self.pins, &self.loaded) == (number(other), &other.pins, &other.loaded)
    }

    /// What is not as in the other, in short.
    fn apart_from(&self, other: &Self) -> String {
        let pins: Vec<_> = self.pins.symmetric_difference(&other.pins).collect();
        let of = |state: &Self| {
            let policy = state.loaded.as_ref().map(|loaded| {
                let rules: Vec<_> = loaded.rules.iter().map(|rule| (rule.name.clone(), rule.audit)).collect();
                let ttl = loaded.settings.map(|settings| settings.ttl);
                (ttl, rules, loaded.awaits_confirmation, loaded.interfaces.clone(), loaded.addresses.len())
            });
            format!("programs {:?}, {policy:?}", state.programs)
        };
        format!("pins {pins:?}; {} and not {}", of(self), of(other))
    }
}

fn loaded() -> Option<Loaded> {
    let view = View::find().expect("nothing fails now")?;
    let maps = &view.maps;
    let policy = maps.policy().expect("nothing fails now");
    let interfaces = maps.interfaces().expect("nothing fails now");
    let addresses = maps.addresses().expect("nothing fails now");
    Some(Loaded {
        // Which buffer the rules are in is nobody's business.
        settings: policy.as_ref().map(|policy| Settings { rules: 0, ..policy.settings }),
        rules: policy.map(|policy| policy.rules()).unwrap_or_default(),
        awaits_confirmation: maps.pending().expect("nothing fails now").is_some(),
        interfaces: interfaces.iter().map(|entry| entry.ifindex).filter(|index| *index != 0).collect(),
        addresses: addresses.addresses().iter().map(|own| format!("{own:?}")).collect(),
    })
}

/// All below a directory of the BPF file system that has the number of a namespace in its path.
fn collect(directory: &Path, namespace: &str, pins: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.iter().any(|part| part == namespace) {
            let target = fs::read_link(&path).map(|target| format!(" -> {}", target.display()));
            let pin = path.display().to_string().replace(Entry::XdpFrags.program(), Entry::Xdp.program());
            pins.insert(format!("{pin}{}", target.unwrap_or_default()));
        }
        if path.is_dir() && !path.is_symlink() {
            collect(&path, namespace, pins);
        }
    }
}

struct World {
    pair: Pair,
    _elsewhere: Namespace,
    folder: Folder,
    log: String,
}

impl World {
    fn new() -> Option<Self> {
        can_run(&["ip", "nsenter", "strace"]).then(|| {
            let folder = Folder::new();
            for (name, text) in [("a", A), ("b", B), ("c", C)] {
                let _path = folder.file(name, text);
            }
            let (pair, elsewhere) = (Pair::new(1500), Namespace::new("elsewhere"));
            quiet(&elsewhere);
            join(&pair.host, SECOND_IF, HOST_MAC, &elsewhere, ELSEWHERE_IF, PEER_MAC, 1500);
            Self { pair, _elsewhere: elsewhere, log: folder.file("trace", ""), folder }
        })
    }

    /// A command line, in which `@a` is the file a.
    fn line(&self, words: &str) -> String {
        words.replace('@', &format!("{}/", self.folder.path().display()))
    }

    fn run(&self, words: &str) -> Finished {
        ctl::run(&self.pair.host, &self.line(words))
    }

    /// Runs it with strace having an eye on one kind of call; what it has seen.
    fn traced(&self, words: &str, call: &str, inject: &[&str]) -> (Finished, String) {
        let (line, trace) = (self.line(words), format!("trace={call}"));
        let options = ["--seccomp-bpf", "-f", "-o", &self.log, "-e", &trace];
        let program = ctl::program().to_str().expect("a path in UTF-8");
        let words: Vec<_> = std::iter::once(program).chain(line.split_whitespace()).collect();
        let done = self.pair.host.run("strace", &[&options[..], inject, &words].concat());
        (done, fs::read_to_string(&self.log).expect("a trace"))
    }

    /// Runs it with its call of this number failing; `None` where it has not as many.
    fn failing(&self, words: &str, call: &str, number: usize, error: &str) -> Option<Finished> {
        let inject = format!("inject={call}:error={error}:when={number}");
        let (done, trace) = self.traced(words, call, &["-e", &inject]);
        trace.contains("(INJECTED)").then_some(done)
    }

    fn prepare(&self, before: &[&str]) -> State {
        let _may_have_nothing = self.run("detach --all");
        for words in before {
            let _said = self.run(words).expect_success();
        }
        State::of(&self.pair.host)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _may_have_nothing = self.run("detach --all");
    }
}

/// The calls of a trace that are to fail, each by its number among those of its kind and thread, and with which error.
fn chosen(trace: &str) -> Vec<(&'static str, usize, &'static str)> {
    let mut random = Random::new(seed());
    let errors: usize =
        env::var("ICMP_TESTS_ERRORS").map_or(0, |number| number.parse().expect("a number of errors"));
    let count = |call: &str| {
        let mut threads = BTreeMap::new();
        for (thread, rest) in trace.lines().filter_map(|line| line.split_once(' ')) {
            *threads.entry(thread).or_insert(0) += usize::from(rest.trim_start().starts_with(call));
        }
        threads.into_values().max().unwrap_or(0)
    };
    let total: usize = CALLS.iter().map(|call| count(call)).sum();
    let mut chosen = Vec::new();
    for call in CALLS {
        let calls = count(call);
        for number in 1..=calls {
            let is_one_of_few = random.below(total) < FEW || (call == "bpf" && number + LAST > calls);
            let some = ERRORS.iter().cycle().skip(random.below(ERRORS.len()));
            let some = some.take(if errors == 0 { usize::from(is_one_of_few) } else { errors });
            chosen.extend(some.map(|error| (call, number, *error)));
        }
    }
    chosen
}

/// What is tried with calls that fail.
#[derive(Clone, Copy)]
struct Case<'a> {
    /// What is done before.
    before: &'a [&'a str],
    /// What is tried.
    verb: &'a str,
    /// What a command says that had to leave it half-way, and how that state is made.
    half_way: Option<(&'a str, &'a [&'a str])>,
}

impl Case<'_> {
    /// Has calls fail, one in each run, and holds what is said against what is.
    fn try_it(self) {
        let Some(world) = World::new() else { return };
        let Self { before, verb, half_way } = self;
        let host = &world.pair.host;
        let old = world.prepare(before);
        let (done, trace) = world.traced(verb, &CALLS.join(","), &[]);
        let _said = done.expect_success();
        let new = State::of(host);
        let replaced = old.programs != new.programs;
        // The state that a failed command has left is that of before, and need not be made again.
        let mut old = world.prepare(before);
        let (mut cases, mut faults) = (0, Vec::new());
        for (call, number, error) in chosen(&trace) {
            // It may have fewer calls this time.
            let done = world.failing(verb, call, number, error);
            if let Some(done) = &done {
                cases += 1;
                if done.stderr.contains("next command that changes something") {
                    let _nothing_to_do = world.run(NEXT);
                }
                let state = State::of(host);
                let half_way = half_way.filter(|(says, _)| done.stderr.contains(says));
                let right = match (done.code, half_way) {
                    (Some(0), _) => state.is_like(&new) && (state.programs != old.programs) == replaced,
                    (_, Some((_, made))) => state.is_like(&world.prepare(made)),
                    _ => state == old,
                };
                if !right {
                    let [of_old, of_new] = [&old, &new].map(|other| state.apart_from(other));
                    faults.push(format!(
                        "{call} number {number} fails with {error}: {done}\napart from before: {of_old}\napart from after: {of_new}"
                    ));
                }
            }
            if State::of(host) != old {
                old = world.prepare(before);
            }
        }
        println!("{verb}: {cases} cases");
        assert!(cases > 0, "calls have failed");
        assert!(faults.is_empty(), "{} of {cases} cases:\n{}", faults.len(), faults.join("\n\n"));
    }
}

/// As [`Case::try_it`], of what is done whole or not at all.
fn each_call_fails(before: &[&str], verb: &str) {
    Case { before, verb, half_way: None }.try_it();
}

#[test]
fn attach_is_done_or_not_and_says_which() {
    each_call_fails(&[], "attach host0 -f @a");
}

#[test]
fn attach_to_several_is_done_or_not_and_says_which() {
    each_call_fails(&[], "attach host0 second0 -f @a");
}

#[test]
fn joining_what_is_in_force_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "attach second0 --mode generic");
}

#[test]
fn detach_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "detach --all");
}

#[test]
fn detaching_several_is_done_or_not_or_says_how_far_it_has_come() {
    let before = &["attach host0 second0 -f @a"][..];
    let half_way = Some(("host0 detached, and nothing else", &[before[0], "detach host0"][..]));
    Case { before, verb: "detach --all", half_way }.try_it();
}

#[test]
fn attach_with_a_configuration_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "attach host0 -f @b");
}

#[test]
fn apply_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "apply -f @b");
}

#[test]
fn apply_over_what_awaits_confirmation_is_done_or_not_and_says_which() {
    let before = &["attach host0 -f @a", "apply -f @b --confirm 60s"][..];
    let half_way = Some(("what awaited confirmation is gone", &before[..1]));
    Case { before, verb: "apply -f @c --confirm 60s", half_way }.try_it();
}

#[test]
fn confirm_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a", "apply -f @b --confirm 60s"], "confirm");
}

#[test]
fn rollback_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a", "apply -f @b --confirm 60s"], "rollback");
}

#[test]
fn a_limit_is_set_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @a"], "limit set replies 5k/s --burst 6000");
}

#[test]
fn a_rule_is_added_or_not_and_it_is_said_which() {
    each_call_fails(
        &["attach host0 -f @a"],
        "rule add z --from 10.9.0.0/16 --type echo-request --action drop",
    );
}

#[test]
fn a_rule_is_removed_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @a"], "rule del a");
}

#[test]
fn a_rule_is_promoted_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @b"], "rule promote b");
}

#[test]
fn upgrade_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 second0 -f @a"], "upgrade");
}

#[test]
fn a_host_that_cannot_be_asked_about_its_interfaces_is_none_whose_interfaces_are_gone() {
    let Some(world) = World::new() else { return };
    let host = &world.pair.host;
    let before = world.prepare(&["attach host0 --mode native"]);
    let mut refused = 0;
    for (call, error) in
        [("sendto", "ENOMEM"), ("sendto", "EINTR"), ("recvfrom", "ENOMEM"), ("recvfrom", "ENOSPC")]
    {
        for number in 1.. {
            let verb = format!("limit set errors {}/s", 1000 + number);
            let Some(done) = world.failing(&verb, call, number, error) else { break };
            assert_eq!(State::of(host).programs, before.programs, "{done}");
            assert!(!done.stderr.contains("moved"), "{done}");
            refused += u32::from(done.code != Some(0));
        }
    }
    assert!(refused > 0, "some of these calls are needed");
    let _said = world.run("limit set errors 900/s").expect_success();
}

#[test]
fn a_probe_that_has_failed_is_no_feature_that_the_kernel_lacks() {
    let Some(world) = World::new() else { return };
    let before = world.prepare(&[]);
    // The types of BTF, of its functions and of those that are verified by themselves.
    for number in 1..=3 {
        let done = world.failing("attach host0", "bpf", number, "ENOMEM").expect("it asks");
        assert_ne!(done.code, Some(0), "{done}");
        assert!(done.stderr.contains("which features of BPF it has"), "{done}");
        assert_eq!(State::of(&world.pair.host), before, "{done}");
    }
}
