//! `cargo xtask book`: the documentation as a book of HTML pages, in `target/book`.
//!
//! Owns that it is built without a warning. Tests hold its links and the outputs of commands.

use anyhow::{Context as _, Result, bail, ensure};

use crate::{run, setup};

pub(crate) fn verb() -> Result<()> {
    setup::ready(setup::Purpose::Book)?;
    check()
}

/// Build. Expects `setup` to be done.
pub(crate) fn check() -> Result<()> {
    let root = run::root()?;
    let made = run::output(run::command("mdbook").arg("build").arg(&root))?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "mdbook failed ({}): {}", made.status, said.trim());
    if let Some(warning) = said.lines().find(|line| line.contains("WARN") || line.contains("ERROR")) {
        bail!("mdbook warns: {}", warning.trim());
    }
    let page = root.join("target/book/index.html");
    println!(
        "  {}",
        page.canonicalize().with_context(|| format!("looking for {}", page.display()))?.display()
    );
    Ok(())
}
