//! Measures the program against what a user would pick instead, on this machine, in one run: `cargo xtask bench`.
//!
//! Owns the order of things and the targets. What is compared is measured next to each other in every round, and ratios are made
//! within rounds. How each number comes about is in docs/performance.md.
#![forbid(unsafe_code)]

mod baseline;
mod clock;
mod control;
mod figures;
mod growth;
mod interrupt;
mod latency;
mod object;
mod program;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use icmp_tests::netns::Pair;

use crate::figures::{Bound, Figures, Target};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measure, next to what a user would pick instead")]
struct Args {
    /// Fewer rounds and packets: what moved a lot is still seen
    #[arg(long)]
    quick: bool,
    /// Write figures and ratios to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare the ratios with the committed ones, and fail if one has become worse than measuring alone explains
    #[arg(long)]
    check: bool,
    /// Measure also how costs grow, and draw it into this file
    #[arg(long, value_name = "SVG")]
    growth: Option<PathBuf>,
    /// Only this part; what needs the others is left out
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Of the programs and the wire, only figures whose name contains this
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// BPF_PROG_TEST_RUN
    Program,
    /// A veth pair
    Wire,
    /// Pings
    Latency,
    /// Commands and memory
    Control,
}

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 5;

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<()> {
    interrupt::watch()?;
    let rounds = if args.quick { QUICK_ROUNDS } else { ROUNDS };
    let mut figures = Figures::default();
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let is_wanted =
        |name: &str| args.case.is_empty() || args.case.iter().any(|part| name.contains(part.as_str()));

    if wanted(Part::Program) {
        let mut cases = program::cases()?;
        if args.growth.is_some() {
            cases.extend(growth::cases()?);
        }
        cases.retain(|case| is_wanted(&case.name));
        let mut bench = program::Bench::new(args.quick, cases)?;
        for round in 1..=rounds {
            eprintln!("program: round {round} of {rounds}");
            bench.round(&mut figures)?;
        }
    }
    if wanted(Part::Wire) {
        let world = wire::World::new()?;
        for round in 1..=rounds {
            eprintln!("wire: round {round} of {rounds}");
            world.round(&mut figures, args.quick, is_wanted)?;
        }
    }
    if wanted(Part::Latency) {
        let world = wire::World::new()?;
        for round in 1..=rounds {
            eprintln!("latency: round {round} of {rounds}");
            latency::round(&world, &mut figures, args.quick)?;
        }
    }
    if wanted(Part::Control) {
        let pair = Pair::new(1500);
        for round in 1..=rounds {
            eprintln!("control: round {round} of {rounds}");
            control::round(&pair, &mut figures)?;
        }
    }
    ratios(&mut figures);
    figures.print();
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&figures.document()).context("writing figures as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.growth {
        std::fs::write(path, growth::svg(&figures)).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.check { baseline::check(&figures) } else { Ok(()) }
}

/// What is promised, and beside it what the same looks like against better rivals.
fn ratios(figures: &mut Figures) {
    use Bound::{AtLeast, AtMost, None};
    let mut quotient = |name, bound, over: &str, under: &str| {
        figures.ratio(Target { name, bound }, |of| Some(of(over)? / of(under)?));
    };
    let conventional = "program.conventional.v4.64";
    quotient("program.header_vs_conventional", AtMost(0.12), "program.header.v4.64", conventional);
    quotient("program.full_vs_conventional", AtMost(0.20), "program.full.v4.64", conventional);
    quotient("program.bare_vs_conventional", None, "program.bare.v4.64", conventional);
    quotient(
        "program.full_vs_conventional_tuned",
        None,
        "program.full.v4.64",
        "program.conventional_tuned.v4.64",
    );
    quotient("program.v6_vs_v4", AtMost(1.3), "program.full.v6.64", "program.full.v4.64");
    quotient(
        "program.random_vs_conventional_random",
        AtMost(0.06),
        "program.full.random.v4",
        "program.conventional.random.v4",
    );
    quotient("program.pass_vs_conventional", AtMost(0.03), "program.pass.tcp.v4", conventional);
    for (name, family) in [("veth.v4_replies_vs_kernel", "v4"), ("veth.v6_replies_vs_kernel", "v6")] {
        quotient(name, AtLeast(9.0), &format!("veth.{family}.kernel"), &format!("veth.{family}.icmp-ctl"));
    }
    quotient("flood.one_vs_drop", AtMost(1.15), "flood.one.icmp-ctl", "flood.one.drop");
    quotient("flood.random_vs_drop", AtMost(1.5), "flood.random.icmp-ctl", "flood.random.drop");
    quotient("flood.one_vs_nft", AtMost(0.25), "flood.one.icmp-ctl", "flood.one.nft-input");
    quotient("flood.random_vs_nft", AtMost(0.10), "flood.random.icmp-ctl", "flood.random.nft-input");
    // At the ingress hook, which few use, nftables is cheaper.
    quotient("flood.one_vs_nft_ingress", None, "flood.one.icmp-ctl", "flood.one.nft-ingress");
    quotient("flood.random_vs_nft_ingress", None, "flood.random.icmp-ctl", "flood.random.nft-ingress");
    quotient("flood.one_vs_hashlimit", None, "flood.one.icmp-ctl", "flood.one.hashlimit-input");
    quotient("flood.random_vs_hashlimit", None, "flood.random.icmp-ctl", "flood.random.hashlimit-input");
    let ping = |at: &str, of: &str, which: &str| format!("latency.{at}.{of}.{which}");
    for (name, bound, at, which, rival) in [
        ("latency.idle_p50_vs_kernel", AtMost(0.8), "idle", "p50", "kernel"),
        ("latency.idle_p50_vs_nft", None, "idle", "p50", "nft-input"),
        ("latency.flood_p50_vs_kernel", None, "flood", "p50", "kernel"),
        ("latency.flood_p50_vs_kernel_behind_xdp", None, "flood", "p50", "kernel-behind-xdp"),
        ("latency.flood_p50_vs_nft", None, "flood", "p50", "nft-input"),
        ("latency.flood_p99_vs_kernel_behind_xdp", None, "flood", "p99", "kernel-behind-xdp"),
    ] {
        quotient(name, bound, &ping(at, "icmp-ctl", which), &ping(at, rival, which));
    }
    figures.ratio(Target { name: "program.random_extra_vs_conventional", bound: AtMost(0.12) }, |of| {
        Some((of("program.full.random.v4")? - of("program.full.v4.64")?) / of(conventional)?)
    });
    figures.ratio(Target { name: "program.prefixes_vs_conventional", bound: AtMost(0.25) }, |of| {
        Some((of("program.prefixes.50000.v4")? - of("program.full.v4.64")?) / of(conventional)?)
    });
    // What is not there adds nothing: how far this is from nothing is how much measuring alone makes.
    figures.ratio(Target { name: "program.no_prefixes_vs_conventional", bound: None }, |of| {
        Some((of("program.prefixes.0.v4")? - of("program.full.v4.64")?) / of(conventional)?)
    });
    figures.ratio(Target { name: "scale.two_cpus", bound: AtLeast(1.8) }, |of| {
        Some(2.0 * of("scale.one.one_cpu")? / of("scale.one.two_cpus")?)
    });
    figures.ratio(Target { name: "scale.two_cpus_random", bound: None }, |of| {
        Some(2.0 * of("scale.random.one_cpu")? / of("scale.random.two_cpus")?)
    });
}
