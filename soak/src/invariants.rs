//! The properties that hold during the soak.
//!
//! Owns the checks after each disturbance: counters only grow, a source gets what its limit allows, and `serve`'s files and memory, the pins
//! and the kernel's BPF objects do not grow. `icmp_tests::ctl` asserts that counters agree whenever they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use icmp_tests::ctl;
use icmp_tests::netns::HOST_IF;
use icmp_tests::process;
use serde_json::Value;

use crate::disturbances::Host;
use crate::load::Load;

const PINS: &str = "/sys/fs/bpf/icmp-ctl";
/// Files that `serve` has open between two looks at the host: the instance's maps, which it watches, its sockets, and the programs that tell it the
/// kernel's two clocks. It has them a moment after it is ready, so that the first count says nothing; one more is a file that is never closed.
const FILES: usize = 43;
/// What memory may grow by in one life of `serve`, in KiB: what its allocator keeps at hand differs by that.
const GROWTH: u64 = 4096;
/// How long `serve` may take for a look at the host; and the kernel to free what nobody holds any more, which waits for RCU and work behind it.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Invariants {
    /// Packets by reason, the last time.
    packets: BTreeMap<String, u64>,
    pins: BTreeSet<PathBuf>,
    /// The life of `serve` that `first` is of.
    life: u32,
    first_memory: u64,
    most: Held,
    /// BPF objects that were in use at some time.
    pub(crate) objects: BTreeSet<(&'static str, u64)>,
}

/// What `serve` holds.
#[derive(Clone, Copy)]
struct Held {
    files: usize,
    /// KiB.
    memory: u64,
}

impl Invariants {
    pub(crate) fn new(host: &Host<'_>) -> Result<Self> {
        let first = held(host.serve.id())?;
        Ok(Self {
            packets: BTreeMap::new(),
            pins: pins(host)?,
            life: host.lives,
            first_memory: first.memory,
            most: Held { files: 0, ..first },
            objects: BTreeSet::new(),
        })
    }

    pub(crate) fn look(&mut self, host: &Host<'_>, load: &Load) -> Result<()> {
        let counters = ctl::counters(host.namespace, HOST_IF);
        for (reason, counted) in &counters.reasons {
            let before = self.packets.insert(reason.clone(), counted.packets).unwrap_or(0);
            ensure!(counted.packets >= before, "{reason} fell from {before} to {}", counted.packets);
        }
        let (answered, allowed) = (load.offender_answered(), host.allowed());
        ensure!(
            answered <= allowed,
            "one source was answered {answered} times where its limits allow {allowed}"
        );
        let pins = pins(host)?;
        ensure!(
            pins == self.pins,
            "the pins are not those there were: {:?}",
            pins.symmetric_difference(&self.pins).collect::<Vec<_>>()
        );
        self.objects.extend(objects(host)?);
        if self.life != host.lives {
            (self.life, self.first_memory) = (host.lives, held(host.serve.id())?.memory);
        }
        let now = self.at_rest(host)?;
        self.most = Held { files: self.most.files.max(now.files), memory: self.most.memory.max(now.memory) };
        Ok(())
    }

    /// What `serve` holds when it is not looking at the host, for which it opens every pin.
    fn at_rest(&self, host: &Host<'_>) -> Result<Held> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let now = held(host.serve.id())?;
            if now.files <= FILES && now.memory <= self.first_memory + GROWTH {
                return Ok(now);
            }
            ensure!(
                Instant::now() < deadline,
                "serve has {} files open and {} KiB, of {FILES} and the {} KiB that it began with",
                now.files,
                now.memory,
                self.first_memory
            );
        }
    }

    /// What was seen at the end.
    pub(crate) fn end(&self, host: &Host<'_>) -> Result<String> {
        let counters = ctl::counters(host.namespace, HOST_IF);
        Ok(format!(
            "program: {} frames, {} answered; {} pins; serve: at most {} files and {} KiB",
            counters.received,
            counters.answered(),
            self.pins.len(),
            self.most.files,
            self.most.memory
        ))
    }
}

fn held(process: u32) -> Result<Held> {
    let files = fs::read_dir(format!("/proc/{process}/fd")).context("the open files of serve")?.count();
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the memory of serve")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its resident memory")?;
    let memory = line.split_whitespace().next().context("a number")?.parse().context("a number of KiB")?;
    Ok(Held { files, memory })
}

/// Pins of the host's instance: whatever lies in a directory that is named after its namespace, below one of a version. The entry point in front of other
/// programs is left out, which is there from when it is needed to the next upgrade when it is not.
fn pins(host: &Host<'_>) -> Result<BTreeSet<PathBuf>> {
    let number = host
        .namespace
        .enter(|| fs::metadata("/proc/thread-self/ns/net"))
        .context("the number of a namespace")?
        .ino()
        .to_string();
    let versions = fs::read_dir(PINS).with_context(|| format!("reading {PINS}"))?;
    let mut folders: Vec<_> = versions.flatten().map(|version| version.path().join(&number)).collect();
    folders.retain(|folder| folder.is_dir());
    let mut pins = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry.context("reading the pins")?;
            if entry.file_name() == "icmp_ctl_chain" {
                continue;
            }
            if entry.file_type().context("reading the pins")?.is_dir() {
                folders.push(entry.path());
            }
            pins.insert(entry.path());
        }
    }
    Ok(pins)
}

/// The kernel's BPF objects that are the program on the host's interface and what it holds, by kind and number.
fn objects(host: &Host<'_>) -> Result<BTreeSet<(&'static str, u64)>> {
    let shown = host.namespace.ip(&format!("-json link show {HOST_IF}"));
    let shown: Value = serde_json::from_str(&shown).context("what ip says of a link")?;
    let program = shown[0]["xdp"]["prog"]["id"].as_u64().context("the interface has no program")?;
    let mut objects = BTreeSet::from([("prog", program)]);
    let maps = bpftool(&format!("prog show id {program}"))?;
    objects.extend(numbers(&maps["map_ids"]).map(|map| ("map", map)));
    let links = bpftool("link list")?;
    let links = links.as_array().into_iter().flatten().filter(|link| link["prog_id"] == program);
    objects.extend(links.filter_map(|link| Some(("link", link["id"].as_u64()?))));
    Ok(objects)
}

fn numbers(list: &Value) -> impl Iterator<Item = u64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_u64)
}

fn bpftool(arguments: &str) -> Result<Value> {
    let listed = process::run(Command::new("bpftool").arg("-j").args(arguments.split_whitespace()));
    serde_json::from_str(&listed.expect_success()).with_context(|| format!("bpftool {arguments}"))
}

/// Says so if one of these objects is still there.
pub(crate) fn none_left(ours: &BTreeSet<(&'static str, u64)>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut left = BTreeSet::new();
        for kind in ["prog", "map", "link"] {
            let listed = bpftool(&format!("{kind} list"))?;
            let ids = listed.as_array().into_iter().flatten().filter_map(|object| object["id"].as_u64());
            left.extend(ids.map(|id| (kind, id)).filter(|object| ours.contains(object)));
        }
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left behind in the kernel: {left:?}");
    }
}
