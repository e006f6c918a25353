//! Developer verbs, each `cargo xtask VERB`.
//!
//! Owns the list of verbs and the exit code. Each verb is one file; what several of them share is in [`run`] (commands
//! with progress), [`interrupt`] (Ctrl-C), [`build`] (cargo), [`debian`] (its packages),
//! [`netns`] and [`cpio`].

mod bench;
mod book;
mod build;
mod check;
mod ci;
mod cpio;
mod dashboard;
mod debian;
mod demo;
mod deny;
mod dist;
mod fuzz;
mod interrupt;
mod netns;
mod pictures;
mod release;
mod run;
mod setup;
mod soak;
mod stack;
mod test;
mod test_programs;
mod verifier;
mod vm_systemd;
mod vm_test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer verbs of this repository", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building, the demo or the tests need and is missing here
    Setup(setup::Args),
    /// See in a minute what this is for: two namespaces, real pings, a flood, the counters
    Demo,
    /// Draw the pictures of the documentation: screens of top, the recorded demo, Grafana's dashboard
    Pictures,
    /// Run formatting, lints, the verifier's budget and every test, on this machine's kernel
    Test(test::Args),
    /// Find out in less than a minute what needs no kernel: formatting, lints, the packet path's tests
    Check,
    /// Build the documentation as a book
    Book,
    /// Print what each program costs the kernel's verifier, and fail beyond the committed bound
    Verifier,
    /// Build icmp-ctl as it is shipped, for this machine: static, without symbols, and without paths of this machine
    Release,
    /// Build all that a release has, into `target/dist`: programs, archives, packages, an image
    Dist(dist::Args),
    /// Look at the dependencies: their licences, where they are from, what is known of them
    Deny,
    /// Load, attach and ping under Debian's kernels in QEMU
    VmTest(vm_test::Args),
    /// Measure against the kernel, nftables, iptables and other XDP programs
    Bench(bench::Args),
    /// Look for frames and configurations that break what has to hold
    Fuzz(fuzz::Args),
    /// Keep everything in motion for a while, and look throughout at what has to hold
    Soak(soak::Args),
    /// Do what CI does: all of `test`, where a skipped test is a failed one, the VMs, and more
    Ci,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = interrupt::watch().and_then(|()| match cli.verb {
        Verb::Setup(args) => setup::verb(&args),
        Verb::Demo => demo::verb(),
        Verb::Pictures => pictures::verb(),
        Verb::Test(args) => test::verb(&args),
        Verb::Check => check::verb(),
        Verb::Book => book::verb(),
        Verb::Verifier => verifier::verb(),
        Verb::Release => release::verb(),
        Verb::Dist(args) => dist::verb(&args),
        Verb::Deny => deny::verb(),
        Verb::VmTest(args) => vm_test::verb(&args),
        Verb::Bench(args) => bench::verb(&args),
        Verb::Fuzz(args) => fuzz::verb(&args),
        Verb::Soak(args) => soak::verb(&args),
        Verb::Ci => ci::verb(),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::requested() => {
            eprintln!("\ninterrupted, and cleaned up");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
