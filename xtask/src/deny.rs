//! `cargo xtask deny`: what this workspace depends on, by `deny.toml`.
//!
//! Owns nothing but the call. It is not in `ci`: known faults are read from a repository elsewhere, and a fault that becomes known is no fault of a change.

use anyhow::Result;

use crate::{build, run, setup};

pub(crate) fn verb() -> Result<()> {
    setup::ready(setup::Purpose::Deny)?;
    run::heading("Dependencies");
    run::stream(build::cargo()?.args(["deny", "check"]))
}
