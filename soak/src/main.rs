//! Keeps the program, the controller and their host in motion for a while: `cargo xtask soak`.
//!
//! Owns the order: load from one end of a wire, disturbances at the other end one after the other, and after each of them the checks. [`load`]
//! has the frames and the judgement of replies, [`disturbances`] the changes of the host, [`invariants`] the checks.
#![forbid(unsafe_code)]

mod disturbances;
mod invariants;
mod load;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use icmp_tests::generate::{Random, seed};
use icmp_tests::netns::Pair;

use crate::disturbances::{Disturbance, Host};
use crate::invariants::Invariants;
use crate::load::Load;

#[derive(Parser)]
#[command(name = "cargo xtask soak", about = "Load and disturbances, and what has to hold throughout")]
struct Args {
    /// How long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: u32,
}

fn main() -> ExitCode {
    match soak(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(args: &Args) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("watching for signals")?;
    }
    let end = Instant::now() + Duration::from_secs(u64::from(args.minutes) * 60);
    let mut random = Random::new(seed());

    let pair = Pair::new(1500);
    let mut host = Host::start(&pair)?;
    let load = Load::start(&pair, random.bits());
    let mut invariants = Invariants::new(&host)?;
    let mut done: BTreeMap<Disturbance, u32> = BTreeMap::new();
    let mut said = Instant::now();
    while Instant::now() < end {
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let disturbance = random.pick(&Disturbance::ALL);
        let what = || format!("after {done:?} and then {disturbance:?}");
        host.disturb(disturbance, &load, &mut random).with_context(what)?;
        load.failure().with_context(what)?;
        invariants.look(&host, &load).with_context(what)?;
        *done.entry(disturbance).or_default() += 1;
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            println!("  {load}");
        }
    }
    load.failure()?;
    println!("  {}", load.end()?);
    println!("  {}", invariants.end(&host)?);
    let disturbed: Vec<String> = done.iter().map(|(what, times)| format!("{what:?} {times}")).collect();
    println!("  disturbed: {}", disturbed.join(", "));
    host.end()?;
    drop(pair);
    invariants::none_left(&invariants.objects)
}
