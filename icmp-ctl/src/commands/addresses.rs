//! `show addresses`: the addresses that the program answers for.

use anyhow::Result;
use icmp_common::abi::Scope;
use serde_json::json;

use super::table::{Column::Left, table};
use crate::config::words::Named as _;
use crate::host::netlink::Network;
use crate::instance::addresses::{answered, slots};
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{View, nothing_loaded};
use crate::output::Output;
use crate::policy::gates::{check_text, gated, state, unhealthy};

pub(super) fn show() -> Result<Output> {
    View::look(see)?.ok_or_else(nothing_loaded)
}

fn see(instance: &View) -> Result<Output> {
    let slots = slots(instance, &Network::read_once()?)?;
    let mut rows = Vec::new();
    for own in instance.read(answered)? {
        let interface = slots.iter().find(|(slot, _)| *slot == own.scope.0 & 0x1f).map(|(_, name)| name);
        rows.push((interface.cloned(), vlan(own.scope), own.address));
    }
    rows.sort();
    rows.dedup();
    let vips: Vec<_> = instance.read(InstanceMaps::vips)?.iter().map(|vip| vip.net).collect();
    let gated = instance.read(gated)?;
    let addresses: Vec<_> = rows
        .iter()
        .map(|(interface, vlan, address)| json!({ "interface": interface, "vlan": vlan, "address": address }))
        .collect();
    let listed = rows.into_iter().map(|(interface, vlan, address)| {
        [
            interface.unwrap_or_else(|| "all".to_owned()),
            vlan.unwrap_or_else(|| "-".to_owned()),
            address.to_string(),
        ]
    });
    let everywhere = vips.iter().map(|vip| {
        let gated = gated.iter().find(|gated| gated.net == *vip).map(|gated| format!(", {}", state(gated)));
        ["all".to_owned(), "-".to_owned(), format!("{vip} (VIP{})", gated.unwrap_or_default())]
    });
    let columns = [Left("INTERFACE"), Left("VLAN"), Left("ADDRESS")];
    let lines = table(columns, listed.chain(everywhere).collect());
    let checked: Vec<_> = gated
        .iter()
        .map(|vip| {
            json!({ "prefix": vip.net, "check": check_text(&vip.gate), "healthy": vip.is_healthy,
                    "unhealthy": unhealthy(&vip.gate).name() })
        })
        .collect();
    let json = json!({ "schema": 1, "addresses": addresses, "vips": vips, "checked": checked });
    Ok(Output::shown(json, lines))
}

/// The VLAN of a scope as people write it: `100`, `100.20` for two tags, `100 (802.1ad)`.
fn vlan(scope: Scope) -> Option<String> {
    let (outer, inner) = (scope.0 >> 8 & 0xfff, scope.0 >> 20);
    match (outer, inner) {
        (0, _) => None,
        (_, 0) => Some(outer.to_string()),
        (_, Scope::SERVICE_ONLY) => Some(format!("{outer} (802.1ad)")),
        _ => Some(format!("{outer}.{inner}")),
    }
}
