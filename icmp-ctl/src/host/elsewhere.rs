//! Devices above an interface that are in another network namespace; the kernel lists them only there.
//!
//! Owns finding them by the traces that they leave on the interface. `addresses.rs` and `vlan_stripping.rs` decide what follows.

use std::collections::BTreeSet;

use netlink_packet_route::link::InfoKind;

use crate::host::groups::{ALL_HOSTS, Group};
use crate::host::netlink::{Link, Network};

/// The MAC addresses that an interface takes in for devices that are not among those of this namespace. Macvlans have addresses of their own.
pub(super) fn macs(network: &Network, link: &Link) -> BTreeSet<[u8; 6]> {
    let is_known = |mac: [u8; 6]| {
        let is_its = |device: &Link| device.mac == Some(mac);
        is_its(link) || network.links.iter().any(|device| device.vlan.is_some() && is_its(device))
    };
    let own = network.taken_in.iter().filter(|(ifindex, _)| *ifindex == link.index);
    own.map(|(_, mac)| *mac).filter(|mac| !is_known(*mac)).collect()
}

/// Whether a device above an interface is up in another namespace that has the interface's own MAC address: a VLAN device, an ipvlan, or a
/// macvlan in passthru mode.
pub(super) fn has_one_with_its_mac(network: &Network, link: &Link) -> bool {
    // Macvlans of this namespace have addresses of their own, too.
    let above = network.links.iter().filter(|other| is_above(other, link));
    let own_macs: BTreeSet<_> = above.filter_map(|other| other.mac).collect();
    more_above(network, link) > macs(network, link).difference(&own_macs).count()
}

/// Whether a device above an interface is up in a namespace that cannot be seen from here: one that it was made in, with this one's number, and not
/// moved to from here.
pub(super) fn has_one_unseen(network: &Network, link: &Link) -> bool {
    let seen = network.above_elsewhere.iter().filter(|other| other.up && is_above(other, link));
    more_above(network, link) > seen.count()
}

/// How many devices above an interface are up in other namespaces, at least.
///
/// Each device above has the interface take in the group of all hosts once more, and so does each device below at which the interface itself
/// has it taken in (__hw_addr_sync_one() in net/core/dev_addr_lists.c).
fn more_above(network: &Network, link: &Link) -> usize {
    let takes = network.all_hosts.get(&link.index).copied().unwrap_or_default();
    let itself = usize::from(network.groups.contains(&Group { ifindex: link.index, address: ALL_HOSTS }));
    let above = network.links.iter().filter(|other| is_above(other, link)).count();
    let here = itself + below(network, link) + above + usize::from(link.controller.is_some());
    takes.saturating_sub(here)
}

fn is_above(other: &Link, link: &Link) -> bool {
    other.lower == Some(link.index) && is_on_one_below(other)
}

/// Whether a device has what it takes in taken in at the one below. A tunnel that is bound to an interface names that as the one below too, and
/// so does a veth its peer. A port of a switch (DSA) has no kind before Linux 6.1.
fn is_on_one_below(device: &Link) -> bool {
    match &device.kind {
        Some(
            InfoKind::Vlan
            | InfoKind::MacVlan
            | InfoKind::MacVtap
            | InfoKind::IpVlan
            | InfoKind::IpVtap
            | InfoKind::MacSec,
        ) => true,
        Some(InfoKind::Other(kind)) => kind == "dsa",
        Some(_) => false,
        None => device.lower.is_some(),
    }
}

/// At how many devices below it an interface has taken in what it takes in itself: the one that it is on, or ports of its own, whether they are
/// in use or not; but for a bond with a backup, which does so at the active port (`bond_set_rx_mode` in drivers/net/bonding/bond_main.c).
fn below(network: &Network, link: &Link) -> usize {
    let ports = || network.links.iter().filter(|port| port.controller == Some(link.index));
    match link.kind {
        _ if is_on_one_below(link) => usize::from(link.up),
        Some(InfoKind::Bond) if link.uses_one_port => ports().filter(|port| port.active).count(),
        Some(InfoKind::Bond | InfoKind::Team) => ports().count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_device_of_another_namespace_is_one_more_than_there_are_here() {
        let link = |index, lower, mac| Link { index, lower, mac: Some([mac; 6]), ..Link::default() };
        let kind = |kind, link| Link { kind: Some(kind), ..link };
        let vlan = kind(InfoKind::Vlan, link(2, Some(1), 2));
        let macvlan = kind(InfoKind::MacVlan, link(3, Some(1), 4));
        let peer = kind(InfoKind::Veth, link(4, Some(1), 6));
        let tunnel = kind(InfoKind::GreTap, link(5, Some(1), 8));
        let macsec = kind(InfoKind::MacSec, link(6, Some(1), 2));
        for (what, links, taken_in, times) in [
            ("nothing above", vec![], vec![], 1),
            ("a VLAN here", vec![vlan.clone()], vec![], 2),
            ("the peer of a veth here", vec![peer], vec![], 1),
            ("a tunnel bound to it", vec![tunnel], vec![], 1),
            ("a MACsec here", vec![macsec], vec![], 2),
            ("a macvlan here", vec![macvlan.clone()], vec![(1, [4; 6])], 2),
            ("a macvlan elsewhere", vec![], vec![(1, [8; 6])], 2),
            (
                "a VLAN and a macvlan here, a macvlan elsewhere",
                vec![vlan, macvlan],
                vec![(1, [4; 6]), (1, [8; 6])],
                4,
            ),
        ] {
            let mut network = Network { taken_in, ..Network::default() };
            network.links.push(link(1, None, 2));
            network.links.extend(links);
            network.groups.push(Group { ifindex: 1, address: ALL_HOSTS });
            for (more, expected) in [(0, false), (1, true)] {
                network.all_hosts = BTreeMap::from([(1, times + more)]);
                assert_eq!(
                    has_one_with_its_mac(&network, &network.links[0]),
                    expected,
                    "{what}, {more} more"
                );
            }
        }
        let port = |active, link| Link { controller: Some(1), active, ..link };
        let ports = [port(true, link(2, None, 2)), port(false, link(3, None, 2))];
        for (upper, uses_one_port, times) in [
            (InfoKind::MacVlan, false, 2),
            (InfoKind::Vlan, false, 2),
            (InfoKind::MacSec, false, 2),
            (InfoKind::Bond, true, 2),
            // One that aggregates links has groups taken in also at a port that is not in use yet.
            (InfoKind::Bond, false, 3),
            (InfoKind::Team, false, 3),
        ] {
            for (more, expected) in [(0, false), (1, true)] {
                let itself = Link { up: true, uses_one_port, ..kind(upper.clone(), link(1, None, 2)) };
                let network = Network {
                    links: [vec![itself], ports.to_vec()].concat(),
                    groups: vec![Group { ifindex: 1, address: ALL_HOSTS }],
                    all_hosts: BTreeMap::from([(1, times + more)]),
                    ..Network::default()
                };
                assert_eq!(
                    has_one_with_its_mac(&network, &network.links[0]),
                    expected,
                    "{upper}, {more} more"
                );
            }
        }
        assert!(!has_one_with_its_mac(&Network::default(), &link(1, None, 2)), "no list");
    }

    #[test]
    fn a_device_that_is_seen_in_another_namespace_is_none_unseen_and_an_entry_of_a_mac_address_is_no_device()
    {
        let device = |kind, mac, up| Link {
            kind: Some(kind),
            lower: Some(1),
            mac: Some([mac; 6]),
            up,
            ..Link::default()
        };
        let macvlan = |up| device(InfoKind::MacVlan, 8, up);
        let vlan = device(InfoKind::Vlan, 2, true);
        let cases: [(&str, Vec<Link>, usize, bool); 7] = [
            ("nothing above", vec![], 1, false),
            ("one that is seen", vec![macvlan(true)], 2, false),
            ("one that is not", vec![], 2, true),
            ("one that is seen and one that is not", vec![macvlan(true)], 3, true),
            ("one that is seen, and down, and one that is not", vec![macvlan(false)], 2, true),
            ("two that are seen", vec![macvlan(true), vlan.clone()], 3, false),
            ("one above another interface", vec![Link { lower: Some(9), ..vlan }], 2, true),
        ];
        for (what, above_elsewhere, times, expected) in cases {
            for taken_in in [vec![], vec![(1, [8; 6])]] {
                let network = Network {
                    links: vec![Link { index: 1, mac: Some([2; 6]), ..Link::default() }],
                    above_elsewhere: above_elsewhere.clone(),
                    taken_in,
                    groups: vec![Group { ifindex: 1, address: ALL_HOSTS }],
                    all_hosts: BTreeMap::from([(1, times)]),
                    ..Network::default()
                };
                assert_eq!(has_one_unseen(&network, &network.links[0]), expected, "{what}");
            }
        }
    }
}
