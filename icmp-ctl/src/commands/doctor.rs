//! `doctor`: what would stop the program here, or slow it, each with the command that helps.

use anyhow::Result;
use serde_json::json;

use crate::doctor::examine;
use crate::finding::{Finding, State};
use crate::output::Output;

pub(super) fn run(names: &[String]) -> Result<Output> {
    let findings = examine(names)?;
    let rows: Vec<_> = findings.iter().map(Finding::json).collect();
    let mut lines = Vec::new();
    let mut of = &None;
    for finding in &findings {
        if finding.interface != *of {
            lines.extend(finding.interface.clone());
            of = &finding.interface;
        }
        lines.extend(finding.lines());
    }
    let output = Output::shown(json!({ "schema": 1, "findings": rows }), lines);
    let broken = findings.iter().filter(|finding| finding.state == State::Broken).count();
    Ok(match broken {
        0 => output,
        _ => output.failing(format!("{broken} of {} checks found something broken", findings.len())),
    })
}
