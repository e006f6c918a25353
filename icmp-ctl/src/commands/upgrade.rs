//! `upgrade`: puts the program of this binary in the place of the one that is loaded.

use anyhow::Result;
use icmp_common::abi::VERSION;
use serde_json::json;

use crate::diagnostics::warn;
use crate::failure::sentence;
use crate::host::netlink::Network;
use crate::instance::addresses::refresh;
use crate::instance::program::BUILD;
use crate::instance::upgrade::{Upgrade, Upgraded, upgrade};
use crate::output::Output;

pub(super) fn run(check: bool) -> Result<Output> {
    let plan = if check {
        let plan = Upgrade::plan()?;
        plan.verify()?;
        plan
    } else {
        let (mut instance, done) = upgrade()?;
        // What this build makes of the host may be something else.
        if let Err(error) = Network::read_once().and_then(|network| refresh(&mut instance, &network)) {
            warn(&format!(
                "the addresses are those of before, reading them again failed: {}",
                sentence(&error)
            ));
        }
        done
    };
    let mut lines: Vec<_> = plan.interfaces.iter().map(Upgraded::text).collect();
    lines.push(format!("build {} -> {BUILD}, maps v{VERSION}: all stay", plan.build));
    let interfaces: Vec<_> = plan.interfaces.iter().map(Upgraded::json).collect();
    let json = json!({ "schema": 1, "upgraded": !check, "build_before": plan.build, "build": BUILD, "maps": VERSION, "interfaces": interfaces });
    Ok(if check { Output::shown(json, lines) } else { Output::done(json, lines) })
}
