//! `cargo xtask ci`: what CI does, so that it can be had before CI does it.
//!
//! Owns the difference to `test`: the VMs run, a test that is skipped has failed, each fuzz target runs for a minute and the soak for another, the shipped
//! program is built and looked at, dependencies are, the book is made, and a short bench is printed. What that finds is for
//! people to judge: a shared machine's figures are no reason to fail.

use anyhow::Result;

use crate::{bench, book, deny, interrupt, release, test};

pub(crate) fn verb() -> Result<()> {
    test::all(test::Scope::Everything)?;
    release::verb()?;
    deny::in_ci()?;
    book::verb()?;
    if let Err(error) = bench::quick_check() {
        interrupt::check()?;
        println!("  the bench: {error:#}");
    }
    Ok(())
}
