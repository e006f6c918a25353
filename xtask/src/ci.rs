//! `cargo xtask ci`: what CI does, so that it can be had before CI does it.
//!
//! Owns the difference to `test`: nothing is left out, and a test that is skipped has failed.

use anyhow::Result;

use crate::test;

pub(crate) fn verb() -> Result<()> {
    test::all(&test::Scope { vms: true, forbid_skips: true })
}
