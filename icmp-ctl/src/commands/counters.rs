//! `show counters`: frames and bytes by reason.

use anyhow::Result;
use icmp_common::reason::Reason;
use serde_json::{Map, Value, json};

use super::table::{Column::Left, Column::Right, only, table};
use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::View;
use crate::output::Output;

pub(super) fn show(names: &[String]) -> Result<Output> {
    let instance = View::open()?;
    let mut interfaces = Vec::new();
    let network = Network::read_once()?;
    let slots = only(slots(&instance, &network)?, names, &network, |(_, name)| name)?;
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
            let reasons: Map<String, Value> = Reason::ALL
                .iter()
                .zip(totals)
                .map(|(reason, (packets, bytes))| {
                    let value =
                        json!({ "verdict": reason.verdict().name(), "packets": packets, "bytes": bytes });
                    (reason.name().to_owned(), value)
                })
                .collect();
            json!({ "name": name, "received": received(totals), "reasons": reasons })
        })
        .collect();
    let mut lines = Vec::new();
    for (name, totals) in &interfaces {
        lines.push(format!("{name}: received {}", received(totals)));
        let seen = Reason::ALL.iter().zip(totals).filter(|(_, (packets, _))| *packets != 0);
        let rows = seen.map(|(reason, (packets, bytes))| {
            [
                reason.verdict().name().to_owned(),
                reason.name().to_owned(),
                packets.to_string(),
                bytes.to_string(),
                reason.description().trim().to_owned(),
            ]
        });
        let columns = [Left("VERDICT"), Left("REASON"), Right("PACKETS"), Right("BYTES"), Left("WHY")];
        lines.extend(table(columns, rows.collect()).into_iter().map(|line| format!("  {line}")));
    }
    Ok(Output::shown(json!({ "schema": 1, "interfaces": json }), lines))
}

fn received(totals: &[(u64, u64)]) -> u64 {
    totals.iter().map(|(packets, _)| packets).sum()
}
