//! `cargo xtask pictures`: the pictures of the documentation that show the program, drawn anew.
//!
//! Owns which these are. The recording is `demo.rs`'s, the dashboard `dashboard.rs`'s; screens of `top` and the packet path are drawn by the tests that
//! hold them to what there is.

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
