//! An instance's interfaces and addresses follow the host's.

use anyhow::Result;

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
        instance.maps.switch_addresses(&table)?;
    }
    Ok(left_out)
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
