//! Measures the program against its alternatives, on this machine, in one run: `cargo xtask bench`.
//!
//! Owns the order of the parts and the targets. Figures that are compared are measured next to each other in every round, and ratios are made
//! within rounds. docs/performance.md says how each figure is measured.
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
mod replay;
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
    /// Of the programs and the wire, only figures with this in their name, whole between its dots
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// So many rounds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
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
    /// A capture through `icmp-ctl replay`; only of the shipped build, so not with --quick
    Replay,
}

const ROUNDS: u32 = 7;
const QUICK_ROUNDS: u32 = 5;

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
    let rounds = args.rounds.unwrap_or(if args.quick { QUICK_ROUNDS } else { ROUNDS });
    let mut figures = Figures::default();
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let is_wanted = |name: &str| args.case.is_empty() || args.case.iter().any(|case| has(name, case));

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
            if is_wanted("scale") {
                bench.two_cpus(&mut figures)?;
            }
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
    if wanted(Part::Replay) && !args.quick {
        let world = replay::World::new()?;
        for round in 1..=rounds {
            eprintln!("replay: round {round} of {rounds}");
            world.round(&mut figures)?;
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

/// True if a figure's name, whose parts are between dots, has these parts in a row.
fn has(name: &str, case: &str) -> bool {
    format!(".{name}.").contains(&format!(".{case}."))
}

/// What is promised, and beside it what the same looks like against better rivals.
fn ratios(figures: &mut Figures) {
    use Bound::{AtLeast, AtMost, None};
    let mut quotient = |name, bound, over: &str, under: &str| {
        figures.ratio(Target { name, bound }, |of| Some(of(over)? / of(under)?));
    };
    for (name, bound, program, rival, sources) in [
        ("program.sources_1000_vs_conventional", AtMost(0.45), "full", "conventional", "sources_1000"),
        ("program.sources_10000_vs_conventional", None, "full", "conventional", "sources_10000"),
        ("program.sources_100000_vs_conventional", AtMost(0.19), "full", "conventional", "sources_100000"),
        ("program.random_vs_conventional", AtMost(0.15), "full", "conventional", "random"),
        ("program.one_vs_conventional", AtMost(0.40), "full", "conventional", "one"),
        ("program.header_1000_vs_conventional", AtMost(0.38), "header", "conventional", "sources_1000"),
        ("program.header_one_vs_conventional", AtMost(0.32), "header", "conventional", "one"),
        ("program.header_random_vs_conventional", AtMost(0.14), "header", "conventional", "random"),
        ("program.apart_1000_vs_conventional", None, "full", "conventional", "apart_1000"),
        ("program.apart_100000_vs_conventional", None, "full", "conventional", "apart_100000"),
        ("program.sources_1000_vs_conventional_tuned", None, "full", "conventional_tuned", "sources_1000"),
        ("program.bare_vs_conventional", None, "bare", "conventional", "sources_1000"),
    ] {
        let figure = |program| format!("program.{program}.{sources}.v4");
        quotient(name, bound, &figure(program), &figure(rival));
    }
    let v6 = ("program.full.sources_1000.v6", "program.full.sources_1000.v4");
    quotient("program.v6_vs_v4", AtMost(1.2), v6.0, v6.1);
    // What tracking an answer's sender adds, and what a watcher does.
    for (name, part, case) in [
        ("program.peers_one_vs_off", "peers", "one.v4"),
        ("program.peers_1000_vs_off", "peers", "sources_1000.v4"),
        ("program.peers_v6_1000_vs_off", "peers", "sources_1000.v6"),
        ("program.watched_answer_vs_off", "watched", "answered.v4"),
        ("program.watched_drop_vs_off", "watched", "limited-source.v4"),
    ] {
        let figure = |is| format!("program.{part}.{is}.{case}");
        quotient(name, None, &figure("on"), &figure("off"));
    }
    for (name, family) in [("veth.v4_1000_replies_vs_kernel", "v4"), ("veth.v6_1000_replies_vs_kernel", "v6")]
    {
        let figure = |of| format!("veth.{family}_1000.{of}");
        quotient(name, AtLeast(9.0), &figure("kernel"), &figure("icmp-ctl"));
    }
    quotient("flood.one_vs_drop", AtMost(1.15), "flood.one.icmp-ctl", "flood.one.drop");
    quotient("flood.random_vs_drop", AtMost(1.3), "flood.random.icmp-ctl", "flood.random.drop");
    // What is within the total as shipped is answered, which no program that drops does.
    let shipped = ("flood.random_shipped.icmp-ctl", "flood.random_shipped.drop");
    quotient("flood.random_shipped_vs_drop", None, shipped.0, shipped.1);
    quotient("flood.one_vs_nft", AtMost(0.25), "flood.one.icmp-ctl", "flood.one.nft-input");
    quotient("flood.random_vs_nft", AtMost(0.06), "flood.random.icmp-ctl", "flood.random.nft-input");
    // At the ingress hook, which few use, nftables is cheaper.
    quotient("flood.one_vs_nft_ingress", None, "flood.one.icmp-ctl", "flood.one.nft-ingress");
    quotient("flood.random_vs_nft_ingress", None, "flood.random.icmp-ctl", "flood.random.nft-ingress");
    quotient("flood.one_vs_hashlimit", None, "flood.one.icmp-ctl", "flood.one.hashlimit-input");
    quotient("flood.random_vs_hashlimit", None, "flood.random.icmp-ctl", "flood.random.hashlimit-input");
    for (name, bound, capture) in [
        ("replay.sources_1000_vs_tcpdump", AtMost(2.0), "sources_1000"),
        ("replay.random_vs_tcpdump", None, "random"),
    ] {
        let figure = |program| format!("replay.{capture}.{program}");
        quotient(name, bound, &figure("icmp-ctl"), &figure("tcpdump"));
    }
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
    figures.ratio(Target { name: "program.pass_vs_conventional", bound: AtMost(0.03) }, |of| {
        let passed = f64::midpoint(of("program.pass.tcp.v4")?, of("program.pass.udp.v4")?);
        Some(passed / of("program.conventional.one.v4")?)
    });
    let random = |of: &dyn Fn(&str) -> Option<f64>, figure| {
        Some((of(figure)? - of("program.full.random.v4")?) / of("program.conventional.random.v4")?)
    };
    figures.ratio(Target { name: "program.prefixes_vs_conventional", bound: AtMost(0.06) }, |of| {
        random(of, "program.prefixes.50000.random.v4")
    });
    // What is not there adds nothing: how far this is from nothing is how much measuring alone makes.
    figures.ratio(Target { name: "program.no_prefixes_vs_conventional", bound: None }, |of| {
        random(of, "program.prefixes.0.random.v4")
    });
    for (name, bound, sources) in
        [("scale.two_cpus", AtLeast(1.85), "sources_1000"), ("scale.two_cpus_random", None, "random")]
    {
        figures.ratio(Target { name, bound }, |of| {
            let cpus = |count| of(&format!("scale.{sources}.{count}"));
            Some(2.0 * cpus("one_cpu")? / cpus("two_cpus")?)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ratio_of_programs_is_made_of_cases_that_are_measured() {
        let mut figures = Figures::default();
        for case in program::cases().expect("they can be made") {
            figures.add(&case.name, "ns", 1.0);
        }
        ratios(&mut figures);
        let made = figures.ratios();
        for name in [
            "sources_1000_vs_conventional",
            "sources_100000_vs_conventional",
            "random_vs_conventional",
            "one_vs_conventional",
            "header_1000_vs_conventional",
            "header_one_vs_conventional",
            "header_random_vs_conventional",
            "v6_vs_v4",
            "pass_vs_conventional",
            "prefixes_vs_conventional",
            "peers_one_vs_off",
            "peers_1000_vs_off",
            "peers_v6_1000_vs_off",
            "watched_answer_vs_off",
            "watched_drop_vs_off",
        ] {
            assert!(made.contains_key(&format!("program.{name}")), "{name}");
        }
    }

    #[test]
    fn a_case_is_chosen_by_whole_parts_of_its_name() {
        let name = "program.full.sources_1000.v4";
        for chosen in ["program", "full", "sources_1000", "full.sources_1000", "v4", name] {
            assert!(has(name, chosen), "{chosen}");
        }
        for other in ["sources_10000", "sources_100", "full.v4", "1000"] {
            assert!(!has(name, other), "{other}");
        }
    }
}
