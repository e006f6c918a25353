//! An instance's interfaces and addresses follow the host's.

use anyhow::Result;

use crate::diagnostics::warn;
use crate::host::address_table::{AddressTable, OwnAddress};
use crate::host::addresses::{interface_entry, own_addresses};
use crate::host::netlink::Network;
use crate::instance::pins::{Instance, Pins};

/// Brings interface and address tables in line with what the kernel says now; the addresses that found no place.
///
/// # Errors
/// A map cannot be read or written; the tables of before are then in force.
pub fn refresh(instance: &mut Instance, network: &Network) -> Result<Vec<OwnAddress>> {
    let entries = instance.maps.interfaces()?;
    let mut interfaces = Vec::new();
    for entry in entries.iter().filter(|entry| entry.ifindex != 0) {
        if let Some(link) = network.links.iter().find(|link| link.index == entry.ifindex) {
            let now = interface_entry(network, link, entry.slot);
            if now != *entry {
                instance.maps.set_interface(now)?;
            }
            interfaces.push((entry.slot, link));
        }
    }
    let (table, left_out) =
        AddressTable::build(&own_addresses(network, &interfaces), instance.maps.address_buckets());
    if instance.maps.addresses()? != table {
        instance.maps.publish_addresses(&table)?;
    }
    Ok(left_out)
}

/// Brings the tables in line with the host; what cannot be done now is said, and tried again at the next change.
pub async fn follow() {
    // It waits for whoever else changes the instance, and this thread has others to serve.
    let refreshed = tokio::task::spawn_blocking(|| match Instance::find()? {
        Some(mut instance) => refresh(&mut instance, &Network::read_once()?),
        None => Ok(Vec::new()),
    });
    match refreshed.await.map_err(anyhow::Error::from).flatten() {
        Ok(left_out) if left_out.is_empty() => {}
        Ok(left_out) => warn(&format!("{} addresses do not fit the address table", left_out.len())),
        Err(error) => warn(&format!("following the host's addresses: {error:#}")),
    }
}

/// Slots in use with the names of their interfaces.
///
/// # Errors
/// The interface table cannot be read.
pub fn slots(instance: &Pins, network: &Network) -> Result<Vec<(u32, String)>> {
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
