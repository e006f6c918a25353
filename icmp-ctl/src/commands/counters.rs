//! `show counters`: frames and bytes by reason.

use anyhow::Result;
use icmp_common::reason::Reason;
use serde_json::json;

use super::reasons::{self, received};
use super::table::only;
use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::{View, nothing_loaded};
use crate::output::Output;

pub(super) fn show(names: &[String]) -> Result<Output> {
    View::look(|instance| see(instance, names))?.ok_or_else(nothing_loaded)
}

fn see(instance: &View, names: &[String]) -> Result<Output> {
    let mut interfaces = Vec::new();
    let network = Network::read_once()?;
    let slots = only(slots(instance, &network)?, names, &network, |(_, name)| name)?;
    for (slot, name) in slots {
        let mut totals = vec![(0_u64, 0_u64); Reason::ALL.len()];
        for ((_, reason), counter) in instance.maps.counters_of(slot)? {
            let total = &mut totals[usize::from(reason)];
            total.0 += counter.packets;
            total.1 += counter.bytes;
        }
        interfaces.push((name, totals));
    }
    let json: Vec<_> = interfaces
        .iter()
        .map(|(name, totals)| {
            json!({ "name": name, "received": received(totals), "reasons": reasons::in_json(totals) })
        })
        .collect();
    let mut lines = Vec::new();
    for (name, totals) in &interfaces {
        lines.push(format!("{name}: received {}", received(totals)));
        lines.extend(reasons::lines(totals));
    }
    Ok(Output::shown(json!({ "schema": 1, "interfaces": json }), lines))
}
