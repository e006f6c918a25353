//! Which addresses belong in the table: the host's own, per attached interface and per VLAN above it.
//!
//! Owns the rules (R-12, R-61: an address counts only on the interface that has it). The kernel's answers are `netlink.rs`'s, the table
//! `address_table.rs`'s, putting it in force `instance/addresses.rs`'s.

use std::net::{IpAddr, Ipv4Addr};

use icmp_common::abi::{AddressKind, INTERFACE_STRIPS_TAGS, Interface, Scope};
use icmp_common::wire::ethernet;

use crate::host::address_table::OwnAddress;
use crate::host::netlink::{Link, Network};
use crate::kernel::ethtool;

/// The entry of an interface in the interface table.
pub fn interface_entry(network: &Network, link: &Link, slot: u32) -> Interface {
    let mac = ethernet::address(link.mac.unwrap_or_default());
    let hides_vlans = vlans_of(network, link).next().is_some() && ethtool::strips_vlan_tags(&link.name);
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
        // The kernel takes nothing in through a device that is down.
        let vlan = device.vlan.filter(|vlan| device.up && vlan.parent == parent)?;
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
    let elsewhere = own_elsewhere(network, &own, interfaces);
    own.extend(elsewhere);
    own
}

/// addresses of all other interfaces, for each scope that has addresses; no outside host may use them as a source.
fn own_elsewhere(network: &Network, own: &[OwnAddress], interfaces: &[(u32, &Link)]) -> Vec<OwnAddress> {
    let mut scopes: Vec<Scope> = interfaces.iter().map(|(slot, _)| Scope::new(*slot, 0)).collect();
    scopes.extend(own.iter().filter(|own| own.kind == AddressKind::Present).map(|own| own.scope));
    let mut elsewhere: Vec<OwnAddress> = Vec::new();
    for scope in scopes {
        for address in network.addresses.iter().map(|address| address.address) {
            let known =
                |list: &[OwnAddress]| list.iter().any(|own| own.scope == scope && own.address == address);
            // A link-local address means another host on each link (RFC 4291 section 2.5.6); loopback's are martian anyway.
            let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if !link_local && !address.is_loopback() && !known(own) && !known(&elsewhere) {
                elsewhere.push(OwnAddress { address, scope, kind: AddressKind::Elsewhere });
            }
        }
    }
    elsewhere
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::{Address, Vlan};

    fn link(index: u32, up: bool, vlan: Option<Vlan>) -> Link {
        Link { index, name: format!("if{index}"), mac: Some([2; 6]), mtu: 1500, up, xdp: None, vlan }
    }

    fn address(ifindex: u32, text: &str) -> Address {
        Address { ifindex, address: text.parse().expect("an address"), prefix_len: 32, broadcast: None }
    }

    #[test]
    fn a_vlan_device_counts_while_it_is_up() {
        let vlan = Some(Vlan { parent: 1, id: 100, service: false });
        for up in [true, false] {
            let network = Network {
                links: vec![link(1, true, None), link(2, up, vlan)],
                addresses: vec![address(1, "192.0.2.1"), address(2, "192.0.2.2")],
            };
            let own = own_addresses(&network, &[(1, &network.links[0])]);
            let scopes = own.iter().filter(|own| own.kind == AddressKind::Own).map(|own| own.scope);
            let expected: &[Scope] =
                if up { &[Scope::new(1, 0), Scope::new(1, 100)] } else { &[Scope::new(1, 0)] };
            assert_eq!(scopes.collect::<Vec<_>>(), expected, "up: {up}");
        }
    }

    #[test]
    fn what_other_interfaces_own_is_elsewhere() {
        let network = Network {
            links: vec![link(1, true, None), link(2, true, None)],
            addresses: vec![
                address(1, "192.0.2.1"),
                address(2, "192.0.2.2"),
                address(2, "fe80::2"),
                address(2, "::1"),
            ],
        };
        let own = own_addresses(&network, &[(1, &network.links[0])]);
        let elsewhere: Vec<_> = own
            .iter()
            .filter(|own| own.kind == AddressKind::Elsewhere)
            .map(|own| own.address.to_string())
            .collect();
        assert_eq!(elsewhere, ["192.0.2.2"]);
    }
}
