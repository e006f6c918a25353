//! `status`: the attached interfaces and their state.

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use icmp_common::abi::INTERFACE_STRIPS_TAGS;
use serde_json::json;

use super::table::{Column::Left, Column::Right, only, table};
use crate::diagnostics::count;
use crate::finding::{Finding, State};
use crate::host::netlink::Network;
use crate::instance::maps::InstanceMaps;
use crate::instance::past::{Which, frames};
use crate::instance::pins::{View, nothing_loaded};
use crate::instance::program::BUILD;
use crate::output::Output;
use crate::policy::gates::{gated, state};

pub(super) fn run(names: &[String]) -> Result<Output> {
    View::look(|instance| see(instance, names))?.ok_or_else(nothing_loaded)
}

fn see(instance: &View, names: &[String]) -> Result<Output> {
    let (network, entries) = (Network::read_once()?, instance.maps.interfaces()?);
    let (mut rows, mut warnings, pins) = (Vec::new(), Vec::new(), instance.links()?);
    for pin in &pins {
        let link = network.links.iter().find(|link| pin.is_of(link));
        warnings.extend(pin.finding().map(|finding| finding.text()));
        let entry = instance.entry_of(pin.program_id)?;
        let info = entry.map(|entry| ProgramInfo::from_pin(instance.program_pin(entry)));
        let info = info.transpose().context("asking about the program")?;
        let attached_at = pin.attached_at(info.as_ref().and_then(ProgramInfo::loaded_at));
        let tag = info.map_or_else(String::new, |info| format!("{:016x}", info.tag()));
        rows.push(json!({
            "name": link.map_or(&pin.name, |link| &link.name),
            "mode": pin.mode(link),
            "entry": entry.map_or("", |entry| entry.section()),
            "program_id": pin.program_id,
            "tag": tag,
            "attached_at": attached_at.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "age_seconds": attached_at.elapsed().map_or(0, |age| age.as_secs()),
            "behind": pin.behind_now()?,
            "strips_tags": entries.iter().any(|e| e.ifindex == pin.ifindex && e.flags & INTERFACE_STRIPS_TAGS != 0),
        }));
    }
    let rows = only(rows, names, &network, |row| row["name"].as_str().unwrap_or_default())?;
    let past = frames(instance, &pins, Which::Unused)?;
    warnings.extend(past.iter().filter(|finding| finding.state != State::Fine).map(Finding::text));
    let (build, memory, pressure) =
        (instance.build(), instance.maps.limiter_bytes(), instance.maps.pressure());
    let known = instance.read(InstanceMaps::addresses)?.addresses();
    let addresses = known.iter().filter(|own| !own.is_mac()).count();
    let pending = instance.maps.pending()?.map(|left| left.as_secs_f64());
    let listed = rows.iter().map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_u64().unwrap_or_default();
        let (program, old) = (number("program_id").to_string(), age(number("age_seconds")));
        let behind = &row["behind"];
        let [other, attached] = ["name", "attached"].map(|key| behind[key].as_str().unwrap_or_default());
        let behind = behind["priority"].as_u64().map_or_else(
            || format!("{other} {attached}"),
            |priority| format!("in {other}, priority {priority}, {attached}"),
        );
        [text("name"), text("mode"), text("entry"), program, text("tag"), behind, old]
    });
    let [name, mode, entry] = ["INTERFACE", "MODE", "ENTRY"].map(Left);
    let columns = [name, mode, entry, Right("PROGRAM"), Left("TAG"), Left("BEHIND"), Right("AGE")];
    let mut lines = table(columns, listed.collect());
    let listed = count(addresses as u64, "address", "addresses");
    lines.push(format!("limiter {} KiB, {listed}, loaded by build {build}", memory >> 10));
    if pressure == Some(true) {
        lines.push(
            "UNDER PRESSURE: the reply budget is exhausted; known sources have a share of their own"
                .to_owned(),
        );
    }
    let mut unhealthy = instance.read(gated)?;
    unhealthy.retain(|vip| !vip.is_healthy);
    lines.extend(unhealthy.iter().map(|vip| format!("{}: {}", vip.net, state(vip))));
    if let Some(left) = pending {
        lines.push(format!(
            "CONFIRMATION PENDING: in {left:.0} s the policy that was confirmed last comes back, unless `icmp-ctl confirm` keeps this one"
        ));
    }
    let notes =
        (build != BUILD).then(|| format!("this is build {BUILD}, another one than has loaded the program"));
    let json = json!({ "schema": 1, "interfaces": rows, "build": build, "limiter_bytes": memory, "addresses": addresses,
                       "under_pressure": pressure, "confirmation_pending_seconds": pending,
                       "unhealthy_vips": unhealthy.iter().map(|vip| vip.net).collect::<Vec<_>>() });
    Ok(Output::shown(json, lines).warning(warnings).noting(notes.into_iter().collect()))
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}
