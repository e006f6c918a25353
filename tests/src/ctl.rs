//! Owns the use of `icmp-ctl` by the tests, as a user has it: the built program and its JSON.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use crate::folder::Folder;
use crate::netns::Namespace;
use crate::process::{self, Finished};

/// The program that belongs to this build: `ICMP_CTL_BIN` from the environment, or else cargo makes it now, which takes
/// no time where it is fresh. (Cargo tells a test of another package nothing about where the program is.)
///
/// # Panics
/// If it can't be built.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("ICMP_CTL_BIN") {
        Some(given) => given.into(),
        None => built("icmp-ctl", &[]),
    })
}

/// The same of a next version of the map ABI, which exists for tests: cargo makes it now.
///
/// # Panics
/// If it can't be built.
#[must_use]
pub fn next_abi() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("icmp-ctl-next-abi", &["--features", "next-abi"]))
}

fn built(name: &str, options: &[&str]) -> PathBuf {
    // target/<profile>/deps/<this test>
    let this = std::env::current_exe().expect("a running program has a path");
    let folder = this.ancestors().nth(2).expect("cargo puts tests two folders deep").to_owned();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "icmp-ctl", "--bin", name]).args(options);
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => {
            cargo.args(["--profile", profile]);
        }
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "building {name}: {status:?}");
    let program = folder.join(name);
    assert!(program.is_file(), "{} was not built", program.display());
    program
}

/// Runs `icmp-ctl` inside a namespace, with arguments written as a line.
#[must_use]
pub fn run(namespace: &Namespace, arguments: &str) -> Finished {
    process::run(&mut command(namespace, arguments))
}

/// The command that [`run`] runs.
#[must_use]
pub fn command(namespace: &Namespace, arguments: &str) -> Command {
    command_of(program(), namespace, arguments)
}

/// As [`run`], of another build.
#[must_use]
pub fn run_of(program: &Path, namespace: &Namespace, arguments: &str) -> Finished {
    process::run(&mut command_of(program, namespace, arguments))
}

fn command_of(program: &Path, namespace: &Namespace, arguments: &str) -> Command {
    let mut command = namespace.command(program.to_str().expect("a path in UTF-8"));
    command.args(arguments.split_whitespace());
    command
}

/// The lock of a namespace's instance.
///
/// # Panics
/// If the namespace can't be asked for its number.
#[must_use]
pub fn lock_of(namespace: &Namespace) -> PathBuf {
    let number =
        namespace.enter(|| std::fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino());
    PathBuf::from(format!("/sys/fs/bpf/icmp-ctl/locks/{number}"))
}

/// Configuration of a host that limits nothing: for tests that send more than a well-behaved client would.
pub const UNLIMITED: &str = "
[limits]
per-source = { rate = \"unlimited\" }
per-prefix = { rate = \"unlimited\" }
replies    = { rate = \"unlimited\" }
errors     = { rate = \"unlimited\" }
path-mtu   = { rate = \"unlimited\" }
neighbour-discovery = { rate = \"unlimited\" }
multicast-listener  = { rate = \"unlimited\" }
queries    = { rate = \"unlimited\" }
redirects  = { rate = \"unlimited\" }
unverified = { rate = \"unlimited\" }
";

/// An attached program; detached, and its pins gone, when this value goes.
#[derive(Debug)]
pub struct Attached<'a> {
    namespace: &'a Namespace,
    interface: String,
}

impl<'a> Attached<'a> {
    /// Attaches to `interface` of the namespace, natively.
    ///
    /// # Panics
    /// If it does not succeed.
    #[must_use]
    pub fn new(namespace: &'a Namespace, interface: &str) -> Self {
        Self::with(namespace, interface, "--mode native")
    }

    /// Attaches with these options.
    ///
    /// # Panics
    /// If it does not succeed.
    #[must_use]
    pub fn with(namespace: &'a Namespace, interface: &str, options: &str) -> Self {
        let _said = run(namespace, &format!("attach {interface} {options}")).expect_success();
        Self { namespace, interface: interface.to_owned() }
    }

    /// Attaches natively with this configuration.
    ///
    /// # Panics
    /// If it does not succeed.
    #[must_use]
    pub fn configured(namespace: &'a Namespace, interface: &str, config: &str) -> Self {
        let folder = Folder::new();
        let file = folder.file("icmp-ctl.toml", config);
        Self::with(namespace, interface, &format!("--mode native -f {file}"))
    }

    /// What its counters say now.
    ///
    /// # Panics
    /// If `show counters` fails, or its totals do not reconcile.
    #[must_use]
    pub fn counters(&self) -> Counters {
        counters(self.namespace, &self.interface)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let status = command(self.namespace, "detach --all").output();
        if !status.as_ref().is_ok_and(|done| done.status.success()) {
            eprintln!("detaching from {}: {status:?}", self.interface);
        }
    }
}

/// The counters of one interface, as `show counters -j` prints them.
#[derive(Clone, Debug, Deserialize)]
pub struct Counters {
    /// The interface.
    pub name: String,
    /// Frames received.
    pub received: u64,
    /// What became of them.
    pub reasons: BTreeMap<String, Reason>,
}

/// How many frames ended for one reason.
#[derive(Clone, Debug, Deserialize)]
pub struct Reason {
    /// pass, answer, drop or limit.
    pub verdict: String,
    /// Frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Counters {
    /// Frames that ended for this reason; a reason that is not listed has none.
    #[must_use]
    pub fn packets(&self, reason: &str) -> u64 {
        self.reasons.get(reason).map_or(0, |r| r.packets)
    }

    /// Frames that ended with this verdict.
    #[must_use]
    pub fn verdict(&self, verdict: &str) -> u64 {
        self.reasons.values().filter(|r| r.verdict == verdict).map(|r| r.packets).sum()
    }

    /// Frames that were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.verdict("answer")
    }
}

/// The counters of an interface that has the program.
///
/// # Panics
/// If `show counters` fails, or its totals do not reconcile.
#[must_use]
pub fn counters(namespace: &Namespace, interface: &str) -> Counters {
    #[derive(Deserialize)]
    struct Document {
        schema: u32,
        interfaces: Vec<Counters>,
    }
    let text = run(namespace, "show counters -j").expect_success();
    let document: Document =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("show counters -j: {e}\n{text}"));
    assert_eq!(document.schema, 1);
    let counters = document.interfaces.into_iter().find(|i| i.name == interface);
    let counters = counters.unwrap_or_else(|| panic!("no counters of {interface} in {text}"));
    let sum: u64 = counters.reasons.values().map(|r| r.packets).sum();
    assert_eq!(counters.received, sum, "received is the sum over reasons: {text}");
    counters
}

/// What `explain` says of a packet, in JSON.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn explained(namespace: &Namespace, arguments: &str) -> Value {
    let text = run(namespace, &format!("explain {arguments} -j")).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}
