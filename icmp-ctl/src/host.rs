//! Which addresses belong in the table: the host's own, per attached interface and per VLAN above it.
//!
//! Owns the rules (R-12, R-61: an address counts only on the interface that has it) and the refresh of an instance from what the
//! kernel says. The kernel's answers are `netlink.rs`'s, the table `addresses.rs`'s.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use icmp_common::abi::{AddressKind, INTERFACE_STRIPS_TAGS, Interface, Scope};

use crate::addresses::{AddressTable, OwnAddress};
use crate::instance::Instance;
use crate::netlink::{Link, Network};
use crate::sys;

/// The entry of an interface in the interface table.
pub fn interface_entry(network: &Network, link: &Link, slot: u32) -> Interface {
    let mac = link.mac.unwrap_or_default().iter().fold(0, |mac, byte| mac << 8 | u64::from(*byte));
    let hides_vlans = vlans_of(network, link).next().is_some() && sys::strips_vlan_tags(&link.name);
    Interface {
        ifindex: link.index,
        slot,
        mac,
        flags: if hides_vlans { INTERFACE_STRIPS_TAGS } else { 0 },
        reserved: 0,
    }
}

/// VLAN devices directly above an interface.
fn vlans_of<'a>(network: &'a Network, link: &Link) -> impl Iterator<Item = (&'a Link, u32)> {
    let parent = link.index;
    network.links.iter().filter_map(move |device| {
        let vlan = device.vlan.filter(|vlan| vlan.parent == parent)?;
        let service = if vlan.service { Scope::SERVICE_ONLY << 12 } else { 0 };
        Some((device, u32::from(vlan.id) | service))
    })
}

/// The addresses of interfaces in their slots, and of the VLANs above them.
pub fn own_addresses(network: &Network, interfaces: &[(u32, &Link)]) -> Vec<OwnAddress> {
    let mut own = Vec::new();
    for (slot, link) in interfaces {
        add(&mut own, network, link.index, Scope::new(*slot, 0));
        for (device, vlan) in vlans_of(network, link) {
            let scope = Scope::new(*slot, vlan);
            own.push(OwnAddress { address: Ipv4Addr::UNSPECIFIED.into(), scope, kind: AddressKind::Present });
            add(&mut own, network, device.index, scope);
            for (inner_device, inner) in vlans_of(network, device) {
                let scope = Scope::new(*slot, vlan & 0xfff | inner << 12);
                own.push(OwnAddress {
                    address: Ipv4Addr::UNSPECIFIED.into(),
                    scope,
                    kind: AddressKind::Present,
                });
                add(&mut own, network, inner_device.index, scope);
            }
        }
    }
    own
}

fn add(own: &mut Vec<OwnAddress>, network: &Network, ifindex: u32, scope: Scope) {
    for address in network.addresses.iter().filter(|address| address.ifindex == ifindex) {
        own.push(OwnAddress { address: address.address, scope, kind: AddressKind::Own });
        let IpAddr::V4(v4) = address.address else { continue };
        // RFC 919: all ones in the host part, whether or not the kernel was told; prefixes of 31 and 32 bits have none.
        let directed =
            (address.prefix_len < 31).then(|| Ipv4Addr::from(u32::from(v4) | u32::MAX >> address.prefix_len));
        for broadcast in directed.into_iter().chain(address.broadcast) {
            if !network.addresses.iter().any(|a| a.ifindex == ifindex && a.address == IpAddr::V4(broadcast)) {
                own.push(OwnAddress { address: broadcast.into(), scope, kind: AddressKind::Broadcast });
            }
        }
    }
}

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
    let (table, left_out) = AddressTable::build(&own_addresses(network, &interfaces));
    if instance.maps.addresses()? != table {
        instance.maps.switch_addresses(&table)?;
    }
    Ok(left_out)
}
