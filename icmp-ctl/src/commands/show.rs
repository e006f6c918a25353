//! `show addresses` and `show counters`.

use anyhow::Result;
use icmp_common::abi::{AddressKind, Scope};
use icmp_common::reason::Reason;
use serde_json::{Map, Value, json};

use crate::host::netlink::Network;
use crate::instance::pins::Instance;

/// Slots in use with the names of their interfaces.
fn slots(instance: &Instance, network: &Network) -> Result<Vec<(u32, String)>> {
    let mut slots: Vec<_> = instance
        .maps
        .interfaces()?
        .iter()
        .filter(|entry| entry.ifindex != 0)
        .map(|entry| {
            let link = network.links.iter().find(|link| link.index == entry.ifindex);
            (entry.slot, link.map_or_else(|| format!("index {}", entry.ifindex), |link| link.name.clone()))
        })
        .collect();
    slots.sort();
    Ok(slots)
}

pub(super) fn addresses(json: bool) -> Result<()> {
    let instance = Instance::open()?;
    let slots = slots(&instance, &super::network()?)?;
    let mut rows = Vec::new();
    for own in instance.maps.addresses()?.addresses() {
        if own.kind != AddressKind::Own {
            continue;
        }
        let interface =
            slots.iter().find(|(slot, _)| *slot == own.scope.0 & 0x1f).map_or("", |(_, name)| name);
        rows.push((interface.to_owned(), vlan(own.scope), own.address));
    }
    rows.sort();
    let vips = instance.maps.vips()?;
    if json {
        let addresses: Vec<_> = rows
            .iter()
            .map(|(interface, vlan, address)| json!({ "interface": interface, "vlan": vlan, "address": address }))
            .collect();
        println!("{}", json!({ "schema": 1, "addresses": addresses, "vips": vips }));
        return Ok(());
    }
    println!("{:<16} {:<9} ADDRESS", "INTERFACE", "VLAN");
    for (interface, vlan, address) in &rows {
        println!("{interface:<16} {:<9} {address}", vlan.as_deref().unwrap_or("-"));
    }
    for vip in vips {
        println!("{:<16} {:<9} {vip} (VIP)", "all", "-");
    }
    Ok(())
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

pub(super) fn counters(json: bool) -> Result<()> {
    let instance = Instance::open()?;
    let mut interfaces = Vec::new();
    for (slot, name) in slots(&instance, &super::network()?)? {
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
