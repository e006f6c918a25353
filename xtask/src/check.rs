//! `cargo xtask check`: checks for daily work, in less than a minute.
//!
//! Owns what is left out: everything that needs a kernel, a network namespace, or an optimised program.

use anyhow::Result;

use crate::{build, run};

pub(crate) fn verb() -> Result<()> {
    run::heading("Format");
    run::stream(build::cargo()?.args(["fmt", "--all", "--check"]))?;
    run::heading("Lints");
    run::stream(build::cargo()?.args(["clippy", "--all-targets", "--all-features", "--", "-D", "warnings"]))?;
    run::heading("Tests of the packet path, of the controller's parts, and of the pages' links");
    run::stream(build::cargo()?.args(["test", "--quiet", "--package", "icmp-common"]))?;
    run::stream(build::cargo()?.args(["test", "--quiet", "--package", "icmp-ctl", "--lib"]))?;
    // With icmp-ctl, so that its library is not built a second time, with the features that the other tests need of its dependencies.
    run::stream(build::cargo()?.args([
        "test",
        "--quiet",
        "--package",
        "icmp-ctl",
        "--package",
        "icmp-tests",
        "--test",
        "layers",
        "--test",
        "links",
    ]))
}
