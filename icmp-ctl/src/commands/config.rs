//! `show config`: the policy in force, as a file for `apply`.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::config::edit::edit;
use crate::config::file::Config;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{View, nothing_loaded};
use crate::output::Output;
use crate::policy::saved::shown;

pub(super) fn show() -> Result<Output> {
    let config = View::look(|view| {
        let policy = view.read(InstanceMaps::policy)?;
        shown(view, &policy.context("no policy is in force; `icmp-ctl apply -f FILE` puts one in force")?)
    });
    let config = config?.ok_or_else(nothing_loaded)?;
    let text = edit("", &Config::default(), &config)?.text;
    let lines = text.lines().map(str::to_owned).collect();
    Ok(Output::shown(json!({ "schema": 1, "config": config, "toml": text }), lines))
}
