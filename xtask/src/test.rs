//! `cargo xtask test`: everything that can be found out about this checkout on this machine's kernel.
//!
//! Owns the order of the steps and the summary. Every step runs, whatever became of those before, so that one run shows
//! all there is to mend; the exit code says whether all passed.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{build, fuzz, interrupt, run, setup, soak, verifier, vm_test};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains one of these; nothing but tests is run then
    filters: Vec<String>,
}

/// How much `all` does.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    /// Formatting, lints, the verifier's budget and the tests, on this machine's kernel.
    ThisKernel,
    /// Those, where a skipped test is a failed one, and VMs, fuzz targets and the soak.
    Everything,
}

pub(crate) fn verb(args: &Args) -> Result<()> {
    if args.filters.is_empty() {
        return all(Scope::ThisKernel);
    }
    run::require_root("the tests make network namespaces and load programs into the kernel, and")?;
    setup::ready(setup::Purpose::Test)?;
    run::heading("Tests");
    let results = tests(&args.filters, Scope::ThisKernel)?;
    conclude(&results)
}

pub(crate) fn all(scope: Scope) -> Result<()> {
    run::require_root("the tests make network namespaces and load programs into the kernel, and")?;
    let start = Instant::now();
    setup::ready(setup::Purpose::Test)?;
    if scope == Scope::Everything {
        setup::ready(setup::Purpose::Vm)?;
    }

    let mut results = TestResults::default();
    let mut summary = Summary::default();
    summary.step("Format", || run::stream(build::cargo()?.args(["fmt", "--all", "--check"])))?;
    summary.step("Lints", || {
        run::stream(build::cargo()?.args([
            "clippy",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    summary.step("Verifier budget", verifier::check)?;
    if scope == Scope::Everything {
        summary
            .step("Kernels in VMs", || vm_test::check(&vm_test::Kernel::ALL, vm_test::Architecture::Amd64))?;
        summary.step("Fuzz", fuzz::short)?;
        summary.step("Soak", soak::short)?;
    }
    // Last, so that the runner's own lines are the last ones.
    summary.step("Tests", || {
        results = tests(&[], scope)?;
        results.passed()
    })?;

    run::heading("Summary");
    let failed = summary.print();
    println!("  all in   {} s", start.elapsed().as_secs());
    if scope == Scope::ThisKernel {
        println!("  not run  Debian's kernels and systemd in VMs: `cargo xtask vm-test` runs these");
    }
    println!();
    conclude(&results)?;
    if failed > 0 {
        bail!("{failed} of {} steps failed; each says why under its heading above", summary.0.len());
    }
    Ok(())
}

/// What cargo's test runner said at the end of each test program, and whether it was content.
#[derive(Default)]
struct TestResults {
    lines: Vec<String>,
    failed: bool,
}

impl TestResults {
    fn passed(&self) -> Result<()> {
        if self.failed {
            bail!("tests failed");
        }
        Ok(())
    }
}

fn tests(filters: &[String], scope: Scope) -> Result<TestResults> {
    let mut cargo = build::cargo()?;
    cargo.args(["test", "--no-fail-fast"]);
    if !filters.is_empty() {
        cargo.arg("--").args(filters);
    }
    if scope == Scope::Everything || env::var_os("CI").is_some_and(|value| value == "true") {
        cargo.env("ICMP_TESTS_NO_SKIP", "1");
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let stdout = child.stdout.take().context("cargo's output")?;
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            if line.starts_with("test result:") {
                lines.push(line);
            }
        }
        lines
    });
    let status = interrupt::wait(&mut child, None, |_| ())?;
    let lines = reader.join().unwrap_or_default();
    Ok(TestResults { lines, failed: !status.is_some_and(|status| status.success()) })
}

/// The runner's own closing lines, and the error if one is due.
fn conclude(results: &TestResults) -> Result<()> {
    for line in &results.lines {
        println!("{line}");
    }
    results.passed()
}

/// Steps and how they ended.
#[derive(Default)]
struct Summary(Vec<(&'static str, u64, Option<anyhow::Error>)>);

impl Summary {
    /// Run a step. Only an interruption ends the run here.
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        run::heading(name);
        let start = Instant::now();
        let outcome = work();
        interrupt::check()?;
        if let Err(error) = &outcome {
            eprintln!("{name} failed: {error:#}");
        }
        self.0.push((name, start.elapsed().as_secs(), outcome.err()));
        Ok(())
    }

    /// Prints the steps; returns how many failed.
    fn print(&self) -> usize {
        for (name, seconds, error) in &self.0 {
            match error {
                None => println!("  passed   {name} ({seconds} s)"),
                Some(error) => println!("  FAILED   {name} ({seconds} s): {error:#}"),
            }
        }
        self.0.iter().filter(|(_, _, error)| error.is_some()).count()
    }
}
