//! `show metrics`: the page of metrics without `serve`, printed or as a file for node_exporter.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::Builder;

use crate::kernel::files::seen_by_caller;
use crate::observe::metrics::{Format, render};
use crate::output::Output;

/// What node_exporter finds in its folder.
const NAME: &str = "icmp-ctl.prom";

pub(super) fn show(folder: Option<&Path>) -> Result<Output> {
    let page = render(Format::Prometheus)?;
    let Some(folder) = folder else {
        let lines = page.lines().map(str::to_owned).collect();
        return Ok(Output::shown(json!({ "schema": 1, "metrics": page }), lines));
    };
    let file = folder.join(NAME);
    write(&seen_by_caller(folder), &page).with_context(|| format!("writing {}", file.display()))?;
    let line = format!("{} written", file.display());
    Ok(Output::done(json!({ "schema": 1, "file": file }), vec![line]))
}

/// Whoever reads it meanwhile gets the whole page of before, or this one.
fn write(folder: &Path, page: &str) -> Result<()> {
    let mut file =
        Builder::new().prefix(".icmp-ctl-").permissions(Permissions::from_mode(0o644)).tempfile_in(folder)?;
    file.write_all(page.as_bytes())?;
    file.persist(folder.join(NAME))?;
    Ok(())
}
