//! `show counters`: frames and bytes by reason.

use anyhow::Result;
use icmp_common::reason::Reason;
use serde_json::{Map, Value, json};

use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::Instance;

pub(super) fn show(json: bool) -> Result<()> {
    let instance = Instance::open()?;
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
    if json {
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|(name, totals)| {
                let reasons: Map<String, Value> = Reason::ALL
                    .iter()
                    .zip(totals)
                    .map(|(reason, (packets, bytes))| {
                        let value = json!({ "verdict": reason.verdict().name(), "packets": packets, "bytes": bytes });
                        (reason.name().to_owned(), value)
                    })
                    .collect();
                json!({ "name": name, "received": totals.iter().map(|(packets, _)| packets).sum::<u64>(), "reasons": reasons })
            })
            .collect();
        println!("{}", json!({ "schema": 1, "interfaces": interfaces }));
        return Ok(());
    }
    for (name, totals) in &interfaces {
        println!("{name}: received {}", totals.iter().map(|(packets, _)| packets).sum::<u64>());
        println!("  {:<8} {:<18} {:>14} {:>16}  WHY", "VERDICT", "REASON", "PACKETS", "BYTES");
        for (reason, (packets, bytes)) in
            Reason::ALL.iter().zip(totals).filter(|(_, (packets, _))| *packets != 0)
        {
            println!(
                "  {:<8} {:<18} {packets:>14} {bytes:>16}  {}",
                reason.verdict().name(),
                reason.name(),
                reason.description().trim()
            );
        }
    }
    Ok(())
}
