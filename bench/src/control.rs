//! Times of commands, their start included, and memory.
//!
//! Owns the order of commands and the reading of memory. Each command runs in the host's namespace without a helper, from its start to its end.
//! Memory is that of the maps, as the kernel accounts for it, and the resident memory of `serve`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::Watch;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::figures::Figures;
use crate::interrupt;
use crate::program::{IpVersion, MANY, listing};

/// Where `serve` listens unless it is told otherwise.
const METRICS: &str = "127.0.0.1:9816";
/// Of short commands, the quickest of this many is nearest to what they take by themselves.
const TRIES: usize = 3;
/// `serve` is ready long before.
const READY: Duration = Duration::from_secs(10);

/// One round of everything.
pub(crate) fn round(pair: &Pair, figures: &mut Figures) -> Result<()> {
    let host = &pair.host;
    let folder = Folder::new();
    let empty = folder.file("empty.toml", "");
    let many = folder.file("many.toml", &listing(IpVersion::V4, MANY));
    let many_label = MANY.to_string();

    let gone = Detached { host };
    command(host, figures, "attach", &format!("attach {HOST_IF} --mode native -f {empty}"), 1)?;
    for (label, config, tries) in [("default", &empty, TRIES), (many_label.as_str(), &many, 1)] {
        command(host, figures, &format!("apply.{label}"), &format!("apply -f {config}"), tries)?;
        command(host, figures, &format!("status.{label}"), "status", TRIES)?;
        command(host, figures, &format!("limit-set.{label}"), "limit set per-source 200/s", TRIES)?;
        let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {empty}")));
        serve.wait_for(METRICS, READY);
        let least = least(TRIES, || host.enter(scrape))?;
        figures.add(&format!("control.scrape.{label}"), "ms", least);
        figures.add(&format!("control.memory.serve.{label}"), "MiB", resident(serve.id())?);
        serve.end_by(Signal::SIGTERM);
        figures.add(&format!("control.memory.maps.{label}"), "MiB", maps(host)?);
    }
    command(host, figures, "detach", &format!("detach {HOST_IF}"), 1)?;
    drop(gone);
    Ok(())
}

/// Measures a command of icmp-ctl.
fn command(host: &Namespace, figures: &mut Figures, name: &str, arguments: &str, tries: usize) -> Result<()> {
    let run = || -> Result<f64> {
        host.enter(|| {
            let start = Instant::now();
            let done = Command::new(ctl::program()).args(arguments.split_whitespace()).output();
            let took = start.elapsed();
            let done = done.with_context(|| format!("starting {}", ctl::program().display()))?;
            let said = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "icmp-ctl {arguments}: {}: {said}", done.status);
            Ok(took.as_secs_f64() * 1e3)
        })
    };
    figures.add(&format!("control.{name}"), "ms", least(tries, run)?);
    Ok(())
}

fn least(tries: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..tries {
        interrupt::check()?;
        least = least.min(measure()?);
    }
    Ok(least)
}

/// Milliseconds from the connection to the last byte, as a scraper has it.
fn scrape() -> Result<f64> {
    let start = Instant::now();
    let mut answer = String::new();
    let scraped = TcpStream::connect(METRICS).and_then(|mut stream| {
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    let took = start.elapsed();
    scraped.with_context(|| format!("scraping {METRICS}"))?;
    ensure!(answer.contains(" 200 "), "scraping {METRICS}: {answer}");
    Ok(took.as_secs_f64() * 1e3)
}

const KIB_IN_MIB: f64 = 1024.0;

/// What a process has resident.
fn resident(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(number(&text, "VmRSS:").with_context(|| format!("no VmRSS in {path}"))? / KIB_IN_MIB)
}

/// What the maps of the attached program hold.
fn maps(host: &Namespace) -> Result<f64> {
    let status = ctl::run(host, "status -j").expect_success();
    let status: Value = serde_json::from_str(&status).context("understanding the status")?;
    let id = status["interfaces"][0]["program_id"].as_u64().context("an attached program has a number")?;
    let mut bytes = 0.0;
    for program in loaded_programs() {
        let program = program.context("listing the loaded programs")?;
        if u64::from(program.id()) != id {
            continue;
        }
        for map in program.map_ids()?.unwrap_or_default() {
            let map = MapInfo::from_id(map)?.fd()?;
            let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            bytes += number(&text, "memlock:").with_context(|| format!("no memlock in {path}"))?;
        }
    }
    ensure!(bytes > 0.0, "program {id} is attached, but not among the loaded ones");
    Ok(bytes / KIB_IN_MIB / KIB_IN_MIB)
}

/// The number behind a key of a file of /proc.
fn number(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

/// Takes the program off the host when this value goes, whatever has happened.
struct Detached<'a> {
    host: &'a Namespace,
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        const NOTHING_LOADED: Option<i32> = Some(3);
        let done = ctl::command(self.host, "detach --all").output();
        if !done.as_ref().is_ok_and(|done| done.status.success() || done.status.code() == NOTHING_LOADED) {
            eprintln!("detaching from {HOST_IF}: {done:?}");
        }
    }
}
