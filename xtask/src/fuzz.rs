//! `cargo xtask fuzz`: random frames, tables and configurations, guided by coverage.
//!
//! Owns the building with the compiler's instrumentation, where inputs are kept, and how long each target runs. fuzz/src owns the properties.

use std::fs;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{build, interrupt, run, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long for each target
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: u32,
    /// Only this one
    #[arg(long, value_name = "NAME")]
    target: Option<Target>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Frames through the packet path, on tables of every kind
    Process,
    /// Text as a configuration, compiled and read back
    Config,
    /// Bytes as a capture, read to its end
    Capture,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Config => "config",
            Self::Capture => "capture",
        }
    }

    /// The longest input, in bytes: what is longer finds nothing that a shorter one does not.
    const fn longest(self) -> u32 {
        match self {
            Self::Process => 2048,
            Self::Config | Self::Capture => 4096,
        }
    }
}

/// Counters for every edge, and what comparisons compare: what `cargo fuzz` asks for too, and stable compilers have.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

pub(crate) fn verb(args: &Args) -> Result<()> {
    setup::ready(setup::Purpose::Fuzz)?;
    match args.target {
        Some(target) => fuzz(target, args.minutes),
        None => Target::value_variants().iter().try_for_each(|target| fuzz(*target, args.minutes)),
    }
}

/// Every target for a minute, as CI has it.
pub(crate) fn short() -> Result<()> {
    verb(&Args { minutes: 1, target: None })
}

fn fuzz(target: Target, minutes: u32) -> Result<()> {
    let name = target.name();
    run::heading(&format!("Fuzz {name} for {minutes} min"));
    let cargo = |verb| -> Result<_> {
        let mut cargo = build::cargo()?;
        cargo.args([
            verb,
            "--package",
            "icmp-fuzz",
            "--bin",
            name,
            "--features",
            "libfuzzer",
            "--profile",
            "fuzz",
        ]);
        // With a target named, build scripts and the eBPF object are not instrumented.
        cargo.args(["--target", "host-tuple"]).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
        Ok(cargo)
    };
    run::stream(&mut cargo("build")?)?;

    let folder = run::root()?.join("target/fuzzing").join(name);
    let [seeds, corpus] = ["seeds", "corpus"].map(|part| folder.join(part));
    for folder in [&seeds, &corpus] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let found = folder.join("found-");
    let mut fuzzer = cargo("run")?;
    fuzzer
        .args(["--quiet", "--"])
        .arg(format!("-max_total_time={}", u64::from(minutes) * 60))
        .arg(format!("-max_len={}", target.longest()))
        .arg(format!("-artifact_prefix={}", found.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"])
        // What is new is added to the first.
        .args([&corpus, &seeds])
        .env("ICMP_FUZZ_SEEDS", &seeds)
        // Tables are made anew for each input: giving their memory back to the kernel every time takes most of the time.
        .env("MALLOC_MMAP_THRESHOLD_", "33554432")
        .env("MALLOC_TRIM_THRESHOLD_", "1073741824");
    let fuzzed = run::stream(&mut fuzzer);
    interrupt::check()?;
    fuzzed.with_context(|| {
        format!(
            "{name} found something: what does not hold is above, with the input as text; the input itself is {}*. Keep it with a \
             line about it in fuzz/regressions/{name}, where a test runs it",
            found.display()
        )
    })
}
