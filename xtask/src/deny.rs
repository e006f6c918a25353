//! `cargo xtask deny`: the dependencies of this workspace, by `deny.toml`.
//!
//! Owns the part that CI leaves out: known faults of the dependencies are read from a repository elsewhere, which not every machine reaches.

use anyhow::Result;

use crate::{build, interrupt, run, setup};

/// All of it; what cannot be read is an error.
pub(crate) fn verb() -> Result<()> {
    ready()?;
    check(&[])
}

/// Licences, versions and sources, which the change alone decides about; and known faults, where they can be read.
pub(crate) fn in_ci() -> Result<()> {
    ready()?;
    check(&["bans", "licenses", "sources"])?;
    if run::stream(build::cargo()?.args(["deny", "fetch", "db"])).is_err() {
        interrupt::check()?;
        println!("  known faults of the dependencies: not looked at, for they cannot be fetched here");
        return Ok(());
    }
    check(&["advisories"])
}

fn ready() -> Result<()> {
    setup::ready(setup::Purpose::Deny)?;
    run::heading("Dependencies");
    Ok(())
}

fn check(what: &[&str]) -> Result<()> {
    run::stream(build::cargo()?.args(["deny", "check"]).args(what))
}
