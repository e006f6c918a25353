//! `show counters`: frames and bytes by reason.

use anyhow::Result;
use icmp_common::reason::Reason;
use serde_json::{Map, Value, json};

use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::View;
use crate::output::Output;

pub(super) fn show() -> Result<Output> {
    let instance = View::open()?;
    let mut interfaces = Vec::new();
    for (slot, name) in slots(&instance, &Network::read_once()?)? {
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
        lines.push(format!("  {:<8} {:<18} {:>14} {:>16}  WHY", "VERDICT", "REASON", "PACKETS", "BYTES"));
        let seen = Reason::ALL.iter().zip(totals).filter(|(_, (packets, _))| *packets != 0);
        lines.extend(seen.map(|(reason, (packets, bytes))| {
            format!(
                "  {:<8} {:<18} {packets:>14} {bytes:>16}  {}",
                reason.verdict().name(),
                reason.name(),
                reason.description().trim()
            )
        }));
    }
    Ok(Output::shown(json!({ "schema": 1, "interfaces": json }), lines))
}

fn received(totals: &[(u64, u64)]) -> u64 {
    totals.iter().map(|(packets, _)| packets).sum()
}
