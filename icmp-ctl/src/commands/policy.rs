//! `show policy`: the action in force for each type, and why.

use anyhow::{Context as _, Result};
use icmp_common::types::Family;
use serde_json::json;

use super::table::{Column::Left, Column::Right, table};
use crate::cli::look::ShowPolicy;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::output::Output;
use crate::policy::rows::{PolicyRow, check_rows, preset_of, rows};
use crate::policy::types::TypeName;

pub(super) fn run(args: &ShowPolicy, verbose: bool) -> Result<Output> {
    let instance = View::open()?;
    let settings = instance
        .read(InstanceMaps::settings)?
        .context("no policy is in force; `icmp-ctl apply -f FILE` puts one in force")?;
    let (counters, rule_counters) = (instance.maps.counters()?, instance.maps.rule_counters()?);
    let hits = |row: &PolicyRow| -> u64 {
        let wanted = row.counter_row();
        counters.iter().filter(|((_, row, _), _)| *row == wanted).map(|(_, counter)| counter.packets).sum()
    };
    let mut rows = rows(&settings);
    if let Some(text) = &args.icmp_type {
        let wanted = wanted(text, args)?;
        rows.retain(|row| wanted.iter().any(|name| row.concerns(name)));
        // A code with a row of its own is that row, not its type's too.
        let refined: Vec<_> =
            rows.iter().filter(|row| row.name.code.is_some()).map(|row| row.name.family).collect();
        rows.retain(|row| row.name.code.is_some() || !refined.contains(&row.name.family));
    }
    let types: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "family": row.row.family.name(), "first": row.name.first, "last": row.name.last, "code": row.name.code,
                "name": row.name.to_string(), "title": row.row.title, "status": row.row.status, "action": row.action.name(),
                "budget": row.charged_to(), "hits": hits(row), "clause": row.clause,
            })
        })
        .collect();
    let checks: serde_json::Map<_, _> = check_rows(&settings, &rule_counters)
        .map(|(name, mode, failed)| (name.to_owned(), json!({ "mode": mode, "failed": failed })))
        .collect();
    let preset = preset_of(&settings).name();
    let json = json!({ "schema": 1, "preset": preset, "types": types, "checks": checks });
    let mut lines = Vec::new();
    if args.icmp_type.is_none() {
        lines.push(format!("preset {preset}"));
        lines.extend(
            check_rows(&settings, &rule_counters)
                .map(|(name, mode, failed)| format!("check {name}: {mode}, {failed} failed it")),
        );
    }
    for (family, heading) in [(Family::V4, "IPV4"), (Family::V6, "IPV6")] {
        let of_family: Vec<_> = rows.iter().filter(|row| row.row.family == family).collect();
        if of_family.is_empty() {
            continue;
        }
        let cells = |row: &&PolicyRow| {
            let name = row.name.to_string();
            // The row of one code comes behind the row of its type.
            let short = name.find('/').map_or(&name[..], |slash| &name[slash..]).to_owned();
            let clause = if verbose { row.clause } else { "" };
            let budget = row.charged_to().unwrap_or("-").to_owned();
            let action = row.action.name().to_owned();
            [row.name.number(), short, action, budget, hits(row).to_string(), clause.to_owned()]
        };
        let why = if verbose { "WHY" } else { "" };
        let columns = [Left(heading), Left("NAME"), Left("ACTION"), Left("BUDGET"), Right("HITS"), Left(why)];
        lines.extend(table(columns, of_family.iter().map(cells).collect()));
    }
    Ok(Output::shown(json, lines))
}

/// Types that were asked for. A number alone is one of ICMP below 128, and one of ICMPv6 from there on, where both have their messages.
fn wanted(text: &str, args: &ShowPolicy) -> Result<Vec<TypeName>> {
    let both = [Family::V4, Family::V6];
    let families = match (args.ipv4, args.ipv6) {
        (true, false) => &both[..1],
        (false, true) => &both[1..],
        _ => &both[..],
    };
    let mut names = TypeName::all(text, families).map_err(anyhow::Error::msg)?;
    if TypeName::is_number(text) && families.len() > 1 {
        names.retain(|name| (name.family == Family::V6) == (name.first >= 128));
    }
    Ok(names)
}
