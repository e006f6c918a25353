//! The MAC addresses besides an interface's own for which the kernel takes in frames for the host.
//!
//! Owns the rules; `addresses.rs` decides whose addresses count in such frames.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::successors;

use icmp_common::wire::ethernet;
use netlink_packet_route::link::InfoKind;

use crate::host::netlink::{Link, Network};

/// How many devices above or below one another are followed.
const DEPTH: u32 = 8;

/// An interface and those that it is a port of, one above the other.
fn controllers<'a>(
    ifindex: u32,
    by_index: impl Fn(u32) -> Option<&'a Link>,
) -> impl Iterator<Item = &'a Link> {
    successors(by_index(ifindex), move |link| by_index(link.controller?)).take(DEPTH as usize)
}

/// The VRF that an interface is, or is in, or that a bridge, bond or team is in that it is a port of.
pub(super) fn vrf_above<'a>(ifindex: u32, by_index: impl Fn(u32) -> Option<&'a Link>) -> Option<u32> {
    controllers(ifindex, by_index).find(|link| link.kind == Some(InfoKind::Vrf)).map(|vrf| vrf.index)
}

/// Whether a device takes in what is for the MAC address of a port of it as the host does.
fn has_ports_of_host(device: &Link) -> bool {
    matches!(device.kind, Some(InfoKind::Bridge | InfoKind::Bond | InfoKind::Team))
}

/// The devices of a host, by what they are above.
pub(super) struct OtherMacs<'a> {
    links: BTreeMap<u32, &'a Link>,
    /// By the bridge, bond or team.
    ports: BTreeMap<u32, Vec<&'a Link>>,
    /// Macvlan devices by the interface below. What a macvtap takes in is a guest's.
    macvlans: BTreeMap<u32, Vec<&'a Link>>,
}

impl<'a> OtherMacs<'a> {
    pub(super) fn new(network: &'a Network) -> Self {
        let mut new = Self {
            links: network.links.iter().map(|link| (link.index, link)).collect(),
            ports: BTreeMap::new(),
            macvlans: BTreeMap::new(),
        };
        for link in &network.links {
            if let Some(controller) = link.controller {
                new.ports.entry(controller).or_default().push(link);
            }
            if let Some(lower) = link.lower.filter(|_| link.up && link.kind == Some(InfoKind::MacVlan)) {
                new.macvlans.entry(lower).or_default().push(link);
            }
        }
        new
    }

    /// An interface and the devices below it, through which its frames come in: the kernel takes in what is for the MAC address of any
    /// (`eth_type_trans` in net/ethernet/eth.c).
    pub(super) fn below(&self, link: &'a Link) -> Vec<&'a Link> {
        let mut below = vec![link];
        let mut first = 0;
        for _ in 0..DEPTH {
            let last = below.len();
            for at in first..last {
                let lower = below[at].vlan.and_then(|vlan| self.links.get(&vlan.parent));
                let has_ports = has_ports_of_host(below[at]);
                let ports = self.ports.get(&below[at].index).filter(|_| has_ports);
                below.extend(lower.into_iter().chain(ports.into_iter().flatten()));
            }
            first = last;
        }
        below
    }

    /// The MAC addresses beside this one of frames that a device takes in where they have come in `below`: those of all devices on the way
    /// (`br_handle_frame` in net/bridge/br_input.c, `vlan_do_receive` in net/8021q/vlan_core.c), and those of macvlan devices above the last and of
    /// bridges, bonds and teams that these are ports of, unless another routing table decides there.
    pub(super) fn of(&self, below: &[&Link], device: u32, mac: u64) -> BTreeSet<[u8; 6]> {
        let mut macs: BTreeSet<_> = below.iter().filter_map(|link| link.mac).collect();
        let mut at = self.links.get(&device);
        for _ in 0..DEPTH {
            let Some(link) = at else { break };
            macs.extend(link.mac);
            at = link.vlan.and_then(|vlan| self.links.get(&vlan.parent));
        }
        let by_index = |index| self.links.get(&index).copied();
        let vrf = vrf_above(device, by_index);
        let is_hosts = |above: &Link| has_ports_of_host(above) || above.kind == Some(InfoKind::Vrf);
        let is_here = |macvlan: &&&Link| {
            vrf_above(macvlan.index, by_index) == vrf
                && controllers(macvlan.index, by_index).skip(1).all(is_hosts)
        };
        let macvlans = self.macvlans.get(&device).into_iter().flatten();
        macs.extend(macvlans.filter(is_here).filter_map(|macvlan| macvlan.mac));
        macs.retain(|other| ethernet::address(*other) != mac);
        macs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::Vlan;
    use crate::host::testing::link;

    fn of_mac(number: u8, link: Link) -> Link {
        Link { mac: Some([number; 6]), ..link }
    }

    fn above(lower: u32, kind: InfoKind, link: Link) -> Link {
        Link { lower: Some(lower), kind: Some(kind), ..link }
    }

    #[test]
    fn what_is_for_the_mac_address_of_a_device_on_the_way_is_taken_in_and_a_guests_is_not() {
        let vlan = |parent| Some(Vlan { parent, id: 100, service: false });
        let port = |index, controller| Link { controller: Some(controller), ..link(index, true, None) };
        let of_kind = |kind, index| Link { kind: Some(kind), ..link(index, true, None) };
        let card = || of_mac(2, link(1, true, None));
        let port_of = |controller| of_mac(2, port(1, controller));
        let bridge = || of_mac(4, of_kind(InfoKind::Bridge, 9));
        let above_bridge = || Link { kind: Some(InfoKind::Bridge), ..port(7, 8) };
        let macvlan = |link| above(1, InfoKind::MacVlan, of_mac(6, link));
        // The first link is attached, and the last takes its frames in but for what is above that.
        let cases: [(&str, Vec<Link>, u32, &[u8]); 19] = [
            ("nothing above", vec![card()], 1, &[]),
            (
                "a bridge, of which the other port is not on the way",
                vec![port_of(9), of_mac(8, port(2, 9)), bridge()],
                9,
                &[2],
            ),
            (
                "the bridge itself, and its ports",
                vec![bridge(), port_of(9), of_mac(8, port(3, 9))],
                9,
                &[2, 8],
            ),
            ("a VLAN device", vec![card(), of_mac(6, link(2, true, vlan(1)))], 2, &[6]),
            ("one with the interface's address", vec![card(), of_mac(2, link(2, true, vlan(1)))], 2, &[]),
            ("the VLAN device itself", vec![of_mac(6, link(2, true, vlan(1))), card()], 2, &[2]),
            (
                "a VLAN device on a bridge",
                vec![port_of(9), of_mac(6, link(3, true, vlan(9))), bridge()],
                3,
                &[2, 4],
            ),
            ("a macvlan", vec![card(), macvlan(link(2, true, None))], 1, &[6]),
            ("a macvlan that is down", vec![card(), macvlan(link(2, false, None))], 1, &[]),
            ("a macvlan in a VRF", vec![card(), macvlan(port(2, 7)), of_kind(InfoKind::Vrf, 7)], 1, &[]),
            (
                "a macvlan in the VRF of the interface",
                vec![port_of(7), macvlan(port(2, 7)), of_kind(InfoKind::Vrf, 7)],
                1,
                &[6],
            ),
            (
                "a VRF, whose ports take their frames in themselves",
                vec![of_mac(4, of_kind(InfoKind::Vrf, 7)), port_of(7)],
                7,
                &[],
            ),
            (
                "a VLAN device that is a port, and what it is above",
                vec![of_mac(8, Link { vlan: vlan(1), ..port(2, 9) }), card(), bridge()],
                9,
                &[2, 8],
            ),
            (
                "a team whose ports have addresses of their own",
                vec![of_mac(4, of_kind(InfoKind::Team, 9)), port_of(9)],
                9,
                &[2],
            ),
            (
                "a macvlan that is a port of a bridge",
                vec![card(), macvlan(port(2, 7)), of_kind(InfoKind::Bridge, 7)],
                1,
                &[6],
            ),
            (
                "one that is a port of a bridge in a VRF",
                vec![card(), macvlan(port(2, 7)), above_bridge(), of_kind(InfoKind::Vrf, 8)],
                1,
                &[],
            ),
            (
                "one that is a port of a switch with rules of its own",
                vec![card(), macvlan(port(2, 7)), of_kind(InfoKind::Other("openvswitch".to_owned()), 7)],
                1,
                &[],
            ),
            ("a macvtap", vec![card(), above(1, InfoKind::MacVtap, of_mac(6, link(2, true, None)))], 1, &[]),
            (
                "a bond whose ports have addresses of their own",
                vec![of_mac(4, of_kind(InfoKind::Bond, 9)), port_of(9), of_mac(4, port(3, 9))],
                9,
                &[2],
            ),
        ];
        for (what, links, device, expected) in cases {
            let network = Network { links, ..Network::default() };
            let macs = OtherMacs::new(&network);
            let attached = &network.links[0];
            let taker = network.links.iter().find(|link| link.index == device).expect("it is there");
            // An entry has the taker's address, but for a VLAN device's, which has the interface's.
            let entry =
                if taker.vlan.is_some_and(|vlan| vlan.parent == attached.index) { attached } else { taker };
            let mac = ethernet::address(entry.mac.expect("it has one"));
            let found = macs.of(&macs.below(attached), device, mac);
            assert_eq!(found, expected.iter().map(|number| [*number; 6]).collect(), "{what}");
        }
    }
}
