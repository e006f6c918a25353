//! `upgrade`: replaces the loaded program with that of this binary.

use anyhow::Result;
use icmp_common::abi::VERSION;
use serde_json::json;

use crate::diagnostics::{note, warn};
use crate::failure::{Exit, exit_of, sentence};
use crate::host::netlink::Network;
use crate::instance::addresses::refresh;
use crate::instance::migration::{Carried, Different};
use crate::instance::program::BUILD;
use crate::instance::upgrade::{Upgrade, Upgraded, upgrade};
use crate::output::Output;

/// The same before `serve` begins, where another build's program is loaded.
pub(super) fn of_another_build() -> Result<()> {
    match Upgrade::plan() {
        Ok(plan) if (&*plan.build, plan.version) == (BUILD, VERSION) => Ok(()),
        Err(error) if exit_of(&error) == Exit::NothingLoaded => Ok(()),
        _ => run(false).map(|_done| note(&format!("the program is that of build {BUILD} now"))),
    }
}

pub(super) fn run(check: bool) -> Result<Output> {
    let plan = Upgrade::plan()?;
    for (map, lost) in begin_anew(&plan) {
        warn(&format!("{map} cannot be carried over and begins anew, and lost is {lost}"));
    }
    if check {
        plan.verify()?;
        return Ok(Output::shown(json(&plan, false), lines(&plan)));
    }
    let (done, instance) = upgrade()?;
    // What this build makes of the host may be something else.
    let refreshed = instance.and_then(|mut instance| refresh(&mut instance, &Network::read_once()?));
    if let Err(error) = refreshed {
        warn(&format!(
            "the upgrade is done, but what it replaced may not be cleared away, and the addresses are those of before, until the next command that \
             changes something: {}",
            sentence(&error)
        ));
    }
    Ok(Output::done(json(&done, true), lines(&done)))
}

fn lines(plan: &Upgrade) -> Vec<String> {
    let mut lines: Vec<_> = plan.interfaces.iter().map(Upgraded::text).collect();
    lines.push(format!("build {} -> {BUILD}", plan.build));
    let mut maps = format!("maps v{} -> v{VERSION}: ", plan.version);
    for Different { map, carried } in plan.different {
        let how = if matches!(carried, Carried::Anew(_)) { "begins anew" } else { "is converted" };
        maps.push_str(&format!("{map} {how}, "));
    }
    lines.push(format!("{maps}all {}stay", if plan.different.is_empty() { "" } else { "others " }));
    lines
}

fn begin_anew(plan: &Upgrade) -> impl Iterator<Item = (&str, &str)> {
    plan.different.iter().filter_map(|Different { map, carried }| match carried {
        Carried::Anew(lost) => Some((*map, *lost)),
        _ => None,
    })
}

fn json(plan: &Upgrade, upgraded: bool) -> serde_json::Value {
    let interfaces: Vec<_> = plan.interfaces.iter().map(Upgraded::json).collect();
    let anew: Vec<_> = begin_anew(plan).map(|(map, _)| map).collect();
    let maps = plan.different.iter().map(|different| different.map);
    let converted: Vec<_> = maps.filter(|map| !anew.contains(map)).collect();
    json!({ "schema": 1, "upgraded": upgraded, "build_before": plan.build, "build": BUILD, "maps_before": plan.version, "maps": VERSION,
            "converted": converted, "anew": anew, "interfaces": interfaces })
}
