//! `cargo xtask ci`: all that CI does, so that it can be run before.
//!
//! Owns the difference from `test`: the VMs run, a skipped test has failed, each fuzz target runs for a minute and the soak for another, the
//! shipped program is built and checked, so are the dependencies, the book is made, and a short bench is printed. People judge its figures: a
//! shared machine's are no reason to fail.

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
