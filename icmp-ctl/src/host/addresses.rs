//! Which addresses belong in the table: the host's own, per attached interface and per VLAN above it.
//!
//! Owns the rules (R-12, R-61: an address counts only on the interface that has it). The kernel's answers are `netlink.rs`'s, the table
//! `address_table.rs`'s, putting it in force `instance/addresses.rs`'s.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group that neighbour solicitations for an address go to, ff02::1:ff00:0/104 and its last 24 bits (RFC 4291 section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0xff_ffff)
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
    own.extend(anywhere(network));
    own
}

/// addresses that the host has on any interface; no outside host may use them as a source. A link-local address means another host on
/// each link (RFC 4291 section 2.5.6), and loopback's never come from outside.
fn anywhere(network: &Network) -> impl Iterator<Item = OwnAddress> {
    let own_on_one_link = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let addresses: BTreeSet<IpAddr> = network.addresses.iter().map(|address| address.address).collect();
    addresses
        .into_iter()
        .filter(move |address| !own_on_one_link(address) && !address.is_loopback())
        .map(|address| OwnAddress { address, scope: Scope::ANYWHERE, kind: AddressKind::Anywhere })
}

fn add(own: &mut Vec<OwnAddress>, network: &Network, ifindex: u32, scope: Scope) {
    let group = |address: IpAddr| OwnAddress { address, scope, kind: AddressKind::Group };
    // Every host belongs to these: all-systems (RFC 1112 section 4) and all-nodes (RFC 4291 section 2.8).
    own.extend([group(ALL_SYSTEMS.into()), group(ALL_NODES.into())]);
    for address in network.addresses.iter().filter(|address| address.ifindex == ifindex) {
        own.push(OwnAddress { address: address.address, scope, kind: AddressKind::Own });
        let v4 = match address.address {
            IpAddr::V4(v4) => v4,
            IpAddr::V6(v6) => {
                own.push(group(solicited_node(v6).into()));
                continue;
            }
        };
        // RFC 919: all ones in the host part, whether or not the kernel was told; prefixes of 31 and 32 bits have none.
        let directed =
            (address.prefix_len < 31).then(|| Ipv4Addr::from(u32::from(v4) | u32::MAX >> address.prefix_len));
        for broadcast in directed.into_iter().chain(address.broadcast) {
            if !network.addresses.iter().any(|a| a.ifindex == ifindex && a.address == IpAddr::V4(broadcast)) {
                own.push(group(broadcast.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::{Address, Vlan};

    fn link(index: u32, up: bool, vlan: Option<Vlan>) -> Link {
        Link {
            index,
            name: format!("if{index}"),
            mac: Some([2; 6]),
            mtu: 1500,
            up,
            xdp: None,
            programs: Vec::new(),
            vlan,
        }
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
    fn what_the_host_owns_is_its_own_anywhere_but_for_link_local_addresses() {
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
        let anywhere: Vec<_> = own
            .iter()
            .filter(|own| own.kind == AddressKind::Anywhere)
            .map(|own| own.address.to_string())
            .collect();
        assert_eq!(anywhere, ["192.0.2.1", "192.0.2.2"]);
    }
}
