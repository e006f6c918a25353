//! `cargo xtask test`: all checks of this checkout on this machine's kernel.
//!
//! Owns the order of the steps and the summary. Every step runs, also after a failed one, so one run shows all faults; the exit code says
//! whether all passed.

use std::env;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::test_programs::{Results, TestPrograms};
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

impl Scope {
    fn forbids_skips(self) -> bool {
        self == Self::Everything || env::var_os("CI").is_some_and(|value| value == "true")
    }
}

pub(crate) fn verb(args: &Args) -> Result<()> {
    if args.filters.is_empty() {
        return all(Scope::ThisKernel);
    }
    run::require_root("the tests make network namespaces and load programs into the kernel, and")?;
    setup::ready(setup::Purpose::Test)?;
    run::heading("Tests");
    let results = TestPrograms::build()?.run(&args.filters, Scope::ThisKernel.forbids_skips())?;
    conclude(&results)
}

pub(crate) fn all(scope: Scope) -> Result<()> {
    run::require_root("the tests make network namespaces and load programs into the kernel, and")?;
    let start = Instant::now();
    setup::ready(setup::Purpose::Test)?;
    if scope == Scope::Everything {
        setup::ready(setup::Purpose::Vm)?;
    }

    let mut programs = None;
    let mut results = Results::default();
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
    summary.step("Build", || {
        programs = Some(TestPrograms::build()?);
        Ok(())
    })?;
    let programs = || programs.as_ref().context("the tests were not built");
    summary.step("Verifier budget", || verifier::check(&programs()?.icmp_ctl.object))?;
    if scope == Scope::Everything {
        summary
            .step("Kernels in VMs", || vm_test::check(&vm_test::Kernel::ALL, vm_test::Architecture::Amd64))?;
        summary.step("Fuzz", fuzz::short)?;
        summary.step("Soak", soak::short)?;
    }
    // Last, so that the runner's own lines are the last ones.
    summary.step("Tests", || {
        results = programs()?.run(&[], scope.forbids_skips())?;
        passed(&results)
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

/// The runner's own closing lines, and the error if one is due.
fn conclude(results: &Results) -> Result<()> {
    for line in &results.lines {
        println!("{line}");
    }
    passed(results)
}

fn passed(results: &Results) -> Result<()> {
    if !results.failed.is_empty() {
        bail!("tests failed: {}", results.failed.join(", "));
    }
    Ok(())
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
