//! Owns the failing of calls to the kernel, one in each run of the program as it is shipped, or its being killed before one; and what is looked at
//! afterwards.
//!
//! strace has them fail. Which do, and how, is chosen by the seed; with `ICMP_TESTS_ERRORS=EPERM,ENOMEM` each call fails with each of these errors,
//! which takes a quarter of an hour for each, and it is killed before each change.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;

use icmp_common::abi::Settings;
use icmp_ctl::instance::compiled::Vip;
use icmp_ctl::instance::pins::View;
use icmp_ctl::instance::program::Entry;
use icmp_ctl::policy::rules::Rule;
use serde_json::Value;

use crate::can_run;
use crate::ctl;
use crate::folder::Folder;
use crate::generate::{Random, seed};
use crate::netns::{HOST_MAC, Namespace, PEER_MAC, Pair, join, quiet};
use crate::process::Finished;

/// Where the program asks the kernel and changes it.
pub const CALLS: [&str; 4] = ["bpf", "socket", "sendto", "recvfrom"];

/// With what it changes what stays when it ends.
const CHANGES: &str =
    "bpf,sendto,mkdir,mkdirat,symlink,symlinkat,link,linkat,rename,renameat2,unlink,unlinkat,rmdir";

/// Those of bpf(2) and rtnetlink that do so.
const CHANGING: [&str; 8] = [
    "BPF_MAP_UPDATE",
    "BPF_MAP_DELETE",
    "BPF_OBJ_PIN",
    "BPF_LINK_CREATE",
    "BPF_LINK_UPDATE",
    "BPF_LINK_DETACH",
    "BPF_PROG_ATTACH",
    "RTM_SETLINK",
];

const ERRORS: [&str; 6] = ["EPERM", "ENOMEM", "EBUSY", "E2BIG", "ENOSPC", "EINTR"];

/// About how many of a verb's calls fail where not all do.
const FEW: usize = 10;

/// So many calls around one that is not to fail do not fail either: there may be more or fewer before it the next time.
const NEAR: usize = 3;

/// How many of its last bpf calls all do: what fails behind the change is what is easily told wrong.
const LAST: usize = 6;

/// The host's second interface, and its other end.
pub const SECOND_IF: &str = "second0";
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

const V: &str = "
[[responder.vip]]
prefix = \"198.51.100.7/32\"
check = \"file:/nowhere/seven\"
[[responder.vip]]
prefix = \"2001:db8:7::/64\"
check = \"file:/nowhere/eight\"
";

const W: &str = "
[responder]
vips = [\"203.0.113.0/24\"]
[[responder.vip]]
prefix = \"198.51.100.7/32\"
check = \"tcp:127.0.0.1:443\"
unhealthy = \"drop\"
";

/// What there is of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Pins and notes, with what the notes say, but for that of who has changed the policy last: it has the time, and nothing goes by it. The entry
    /// points are one: each is loaded when an interface may have a use for it, and then stays.
    pins: BTreeSet<String>,
    /// Kernel ids of the programs on the host's interfaces.
    pub programs: Vec<u32>,
    loaded: Option<Loaded>,
}

#[derive(Clone, Debug, PartialEq)]
struct Loaded {
    settings: Option<Settings>,
    rules: Vec<Rule>,
    vips: Vec<Vip>,
    awaits_confirmation: bool,
    interfaces: Vec<u32>,
    addresses: Vec<String>,
}

impl State {
    /// As it is now.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn of(host: &Namespace) -> Self {
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
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let number = |state: &Self| state.programs.len();
        (number(self), &self.pins, &self.loaded) == (number(other), &other.pins, &other.loaded)
    }

    /// What is not as in the other, in short.
    #[must_use]
    pub fn apart_from(&self, other: &Self) -> String {
        let pins: Vec<_> = self.pins.symmetric_difference(&other.pins).collect();
        let of = |state: &Self| {
            let policy = state.loaded.as_ref().map(|loaded| {
                let rules: Vec<_> = loaded.rules.iter().map(|rule| (rule.name.clone(), rule.audit)).collect();
                let ttl = loaded.settings.map(|settings| settings.ttl);
                let vips: Vec<_> = loaded.vips.iter().map(|vip| (vip.net, vip.gate.is_some())).collect();
                let (awaits, interfaces) = (loaded.awaits_confirmation, loaded.interfaces.clone());
                (ttl, rules, vips, awaits, interfaces, loaded.addresses.len())
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
        rules: policy.as_ref().map(|policy| policy.rules()).unwrap_or_default(),
        vips: policy.map(|policy| policy.vips()).unwrap_or_default(),
        awaits_confirmation: maps.pending().expect("nothing fails now").is_some(),
        interfaces: interfaces.iter().map(|entry| entry.ifindex).filter(|index| *index != 0).collect(),
        addresses: addresses.addresses().iter().map(|own| format!("{own:?}")).collect(),
    })
}

/// All below a directory of the BPF file system that has the number of a namespace in its path.
fn collect(directory: &Path, namespace: &str, pins: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.iter().any(|part| part == namespace) && !path.ends_with("changed") {
            let target = fs::read_link(&path).map(|target| format!(" -> {}", target.display()));
            let is_entry = Entry::ALL.iter().any(|entry| path.ends_with(entry.program()));
            let pin = if is_entry { path.with_file_name(Entry::Xdp.program()) } else { path.clone() };
            pins.insert(format!("{}{}", pin.display(), target.unwrap_or_default()));
        }
        if path.is_dir() && !path.is_symlink() {
            collect(&path, namespace, pins);
        }
    }
}

/// A host with two interfaces, and files of configurations: `a`, `b` and `c` with a rule each, `v` and `w` with VIPs.
#[derive(Debug)]
pub struct World {
    /// The host and its peer.
    pub pair: Pair,
    _elsewhere: Namespace,
    /// Where the files are.
    pub folder: Folder,
    /// What strace writes.
    pub log: String,
}

impl World {
    /// Makes it, where what it takes is installed.
    #[must_use]
    pub fn new() -> Option<Self> {
        can_run(&["ip", "nsenter", "strace"]).then(|| {
            let folder = Folder::new();
            for (name, text) in [("a", A), ("b", B), ("c", C), ("v", V), ("w", W)] {
                let _path = folder.file(name, text);
            }
            let (pair, elsewhere) = (Pair::new(1500), Namespace::new("elsewhere"));
            quiet(&elsewhere);
            join(&pair.host, SECOND_IF, HOST_MAC, &elsewhere, ELSEWHERE_IF, PEER_MAC, 1500);
            // What is taken where the interfaces cannot be read is another one.
            pair.host.sysctl("net/ipv6/conf/host0/hop_limit", "77");
            Self { pair, _elsewhere: elsewhere, log: folder.file("trace", ""), folder }
        })
    }

    /// A command line, in which `@a` is the file a.
    #[must_use]
    pub fn line(&self, words: &str) -> String {
        words.replace('@', &format!("{}/", self.folder.path().display()))
    }

    /// Runs it as it is.
    #[must_use]
    pub fn run(&self, words: &str) -> Finished {
        ctl::run(&self.pair.host, &self.line(words))
    }

    /// Runs it with strace having an eye on one kind of call; what it has seen.
    ///
    /// # Panics
    /// If it can't be run.
    #[must_use]
    pub fn traced(&self, words: &str, call: &str, inject: &[&str]) -> (Finished, String) {
        let (line, trace) = (self.line(words), format!("trace={call}"));
        let options = ["--seccomp-bpf", "-yy", "-f", "-o", &self.log, "-e", &trace];
        let program = ctl::program().to_str().expect("a path in UTF-8");
        let words: Vec<_> = std::iter::once(program).chain(line.split_whitespace()).collect();
        let done = self.pair.host.run("strace", &[&options[..], inject, &words].concat());
        (done, fs::read_to_string(&self.log).expect("a trace"))
    }

    /// Runs it with its call of this number failing; `None` where it has not as many.
    #[must_use]
    pub fn failing(&self, words: &str, call: &str, number: usize, error: &str) -> Option<Finished> {
        let inject = format!("inject={call}:error={error}:when={number}");
        let (done, trace) = self.traced(words, call, &["-e", &inject]);
        has_failed(&trace).then_some(done)
    }

    /// The changes that it makes when it is run, and what it said: each call with which one of its kind and thread it is, and as it was.
    #[must_use]
    pub fn changes(&self, words: &str) -> (Finished, Vec<(String, usize, String)>) {
        let (done, trace) = self.traced(words, CHANGES, &[]);
        let (mut seen, mut changes) = (BTreeMap::new(), Vec::new());
        for (thread, rest) in trace.lines().filter_map(|line| line.split_once(' ')) {
            let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
            let number = seen.entry((thread, call)).and_modify(|number| *number += 1).or_insert(1_usize);
            let asks = ["bpf", "sendto"].contains(&call);
            if !asks || CHANGING.iter().any(|changing| rest.contains(changing)) {
                changes.push((call.to_owned(), *number, rest.trim_start().to_owned()));
            }
        }
        (done, changes)
    }

    /// Makes the state in which these are done, and nothing else is.
    ///
    /// # Panics
    /// If one fails.
    #[must_use]
    pub fn prepare(&self, before: &[&str]) -> State {
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

/// Runs the program of a build, which is killed before its call of this kind and number.
#[must_use]
pub fn killed(build: &Path, host: &Namespace, line: &str, call: &str, number: usize) -> Finished {
    let program = build.to_str().expect("a path in UTF-8");
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}"));
    let options = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, program];
    host.run("strace", &options.into_iter().chain(line.split_whitespace()).collect::<Vec<_>>())
}

/// What a verb that only looks has told in JSON, but for the age of interfaces, which goes on, and for pressure, which is left out where it cannot be
/// known. How a program is attached is told as one or the other where only CAP_SYS_ADMIN may ask (`EPERM`): that agrees with what is `right`.
///
/// # Panics
/// If it was no JSON.
#[must_use]
pub fn told(done: &Finished, right: Option<&Value>) -> Value {
    let mut told: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done}"));
    for (number, interface) in told["interfaces"].as_array_mut().into_iter().flatten().enumerate() {
        interface["age_seconds"] = Value::Null;

        let Some(attached) = interface.pointer_mut("/behind/attached") else { continue };
        if let (Some(right), Some("by netlink or a link")) = (right, attached.as_str()) {
            *attached = right["interfaces"][number]["behind"]["attached"].clone();
        }
    }
    told["under_pressure"] = Value::Null;
    told
}

/// The errors with which each call is to fail; none where it is a few calls, with one.
///
/// # Panics
/// If `ICMP_TESTS_ERRORS` has another one.
#[must_use]
pub fn errors() -> Vec<&'static str> {
    let named = env::var("ICMP_TESTS_ERRORS").unwrap_or_default();
    let of = |name: &str| *ERRORS.iter().find(|error| **error == name).expect("one of the errors");
    named.split_terminator(',').map(of).collect()
}

/// What was tried, and what of it went wrong: that is told at once, because a run with all errors is long and may be cut off.
#[derive(Debug, Default)]
pub struct Tried {
    /// How often it was tried.
    pub cases: usize,
    faults: usize,
}

impl Tried {
    /// Tells of something that went wrong.
    pub fn fault(&mut self, what: &str) {
        eprintln!("case {}: {what}\n", self.cases);
        self.faults += 1;
    }

    /// That is all.
    ///
    /// # Panics
    /// If nothing was tried, or something went wrong.
    pub fn end(self, what: &str) {
        println!("{what}: {} cases", self.cases);
        assert!(self.cases > 0, "{what}: something was tried");
        assert_eq!(self.faults, 0, "{what}: faults in {} cases", self.cases);
    }
}

/// Whether a call has failed in a trace that was to.
#[must_use]
pub fn has_failed(trace: &str) -> bool {
    trace.lines().any(|line| line.contains("(INJECTED)") && is_the_kernels(line))
}

/// Not where a process is started: there the standard library panics if it cannot ask its child.
fn is_the_kernels(line: &str) -> bool {
    !line.contains("<UNIX")
}

/// The calls of a trace that are to fail, each by its number among those of its kind and thread, and with which error.
#[must_use]
pub fn chosen(trace: &str) -> Vec<(&'static str, usize, &'static str)> {
    let mut random = Random::new(seed());
    let errors = errors();
    let mut threads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (thread, rest) in trace.lines().filter_map(|line| line.split_once(' ')) {
        threads.entry(thread).or_default().push(rest.trim_start());
    }
    let of = |call: &str| {
        let of_thread = threads.values().map(|lines| lines.iter().filter(|line| line.starts_with(call)));
        of_thread.max_by_key(|lines| lines.clone().count()).into_iter().flatten().copied().collect::<Vec<_>>()
    };
    let total: usize = CALLS.iter().map(|call| of(call).len()).sum();
    let mut chosen = Vec::new();
    for call in CALLS {
        let lines = of(call);
        let calls = lines.len();
        for number in 1..=calls {
            let near = &lines[number.saturating_sub(1 + NEAR)..calls.min(number + NEAR)];
            if near.iter().any(|line| !is_the_kernels(line)) {
                continue;
            }
            let is_one_of_few = random.below(total) < FEW || (call == "bpf" && number + LAST > calls);
            let one = ERRORS[random.below(ERRORS.len())];
            chosen.extend((errors.is_empty() && is_one_of_few).then_some((call, number, one)));
            chosen.extend(errors.iter().map(|error| (call, number, *error)));
        }
    }
    chosen
}
