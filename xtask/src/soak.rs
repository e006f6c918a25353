//! `cargo xtask soak`: load and disturbances for a while, with checks throughout.
//!
//! Owns the building and the call; the soak owns the load, the disturbances and the checks (soak/).

use anyhow::Result;

use crate::{build, run, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: u32,
}

pub(crate) fn verb(args: &Args) -> Result<()> {
    run::require_root("the soak makes network namespaces and loads programs into the kernel, and")?;
    setup::ready(setup::Purpose::Test)?;
    soak(args.minutes, &["--release"])
}

/// A minute of it, as CI has it. Expects `setup` to be done.
pub(crate) fn short() -> Result<()> {
    soak(1, &[])
}

fn soak(minutes: u32, profile: &[&str]) -> Result<()> {
    let icmp_ctl = build::icmp_ctl(profile)?.program;
    run::heading(&format!("Soak for {minutes} min"));
    let mut soak = build::cargo()?;
    soak.args(["run", "--quiet", "--package", "icmp-soak"]).args(profile);
    soak.args(["--", "--minutes", &minutes.to_string()]).env("ICMP_CTL_BIN", icmp_ctl);
    run::stream(&mut soak)
}
