//! `cargo xtask bench`: the program, measured against its alternatives.
//!
//! Owns the building and the call; the bench owns what is measured and printed (bench/, docs/performance.md).

use std::env::consts::ARCH;
use std::path::PathBuf;

use anyhow::Result;

use crate::{build, release, run, setup};

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Fewer rounds and packets: what moved a lot is still seen
    #[arg(long)]
    quick: bool,
    /// Write figures and ratios to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the ratios in bench/baseline.json, and fail if one has become worse
    #[arg(long)]
    check: bool,
    /// Measure also how costs grow, and draw it into this file
    #[arg(long, value_name = "SVG")]
    growth: Option<PathBuf>,
    /// Only these parts
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Of the programs and the wire, only figures with this in their name, whole between its dots
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// So many rounds
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

pub(crate) fn verb(args: &Args) -> Result<()> {
    run::require_root("the bench makes network namespaces and loads programs into the kernel, and")?;
    setup::ready(setup::Purpose::Test)?;
    if !args.quick {
        setup::ready(setup::Purpose::Release)?;
    }
    measure(args)
}

/// The short run with the comparison, as CI has it.
pub(crate) fn quick_check() -> Result<()> {
    measure(&Args { quick: true, check: true, ..Args::default() })
}

fn measure(args: &Args) -> Result<()> {
    run::heading("Build what is measured");
    // eBPF objects are always built for release; waiting for the rest of it is what the short run spares.
    let profile: &[&str] = if args.quick { &[] } else { &["--release"] };
    let icmp_ctl = if args.quick { build::icmp_ctl(profile)?.program } else { release::program(ARCH)? };
    run::stream(build::cargo()?.args(["build", "--package", "icmp-bench"]).args(profile))?;
    run::heading("Bench");
    let mut bench = build::cargo()?;
    bench.args(["run", "--quiet", "--package", "icmp-bench"]).args(profile).arg("--");
    bench.env("ICMP_CTL_BIN", icmp_ctl);
    // With it, which developers like to set and servers do not, each error that was expected costs a walk over the stack.
    bench.env_remove("RUST_BACKTRACE");
    if args.quick {
        bench.arg("--quick");
    }
    if args.check {
        bench.arg("--check");
    }
    if let Some(path) = &args.json {
        bench.arg("--json").arg(std::path::absolute(path)?);
    }
    if let Some(path) = &args.growth {
        bench.arg("--growth").arg(std::path::absolute(path)?);
    }
    for part in &args.only {
        bench.args(["--only", part]);
    }
    for name in &args.case {
        bench.args(["--case", name]);
    }
    if let Some(rounds) = args.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    run::stream(&mut bench)
}
