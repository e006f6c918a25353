//! `cargo xtask pictures`: draws the pictures of the documentation that show the program.
//!
//! Owns the list. `demo.rs` records, `dashboard.rs` draws the dashboard; tests draw screens of `top` and the packet path, and compare them.

use anyhow::Result;

use crate::{build, dashboard, demo, run};

/// Tests that draw pictures: package, and which of its tests.
const DRAWN_BY_TESTS: [(&str, &[&str]); 2] =
    [("icmp-common", &["--test", "packet_path"]), ("icmp-ctl", &["--lib", "top::screen"])];

pub(crate) fn verb() -> Result<()> {
    run::require_root("the pictures show programs in the kernel and network namespaces, and making them")?;
    // First, because it installs what building needs.
    demo::record()?;
    run::heading("Screens of top, and the packet path");
    for (package, tests) in DRAWN_BY_TESTS {
        let mut test = build::cargo()?;
        test.args(["test", "--quiet", "--package", package]).args(tests).env("ICMP_TESTS_BLESS", "1");
        run::stream(&mut test)?;
    }
    dashboard::picture()
}
