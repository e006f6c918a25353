//! Ports of a bridge that filters VLANs: which device of the host takes in a port's frames and sends its answers the way the requests came.
//!
//! Owns the rules. `bridge_vlans.rs` reads the VLANs; `addresses.rs` decides which addresses follow.

use netlink_packet_route::link::InfoKind;

use crate::host::netlink::{Link, Network};

/// Which device takes in what comes in without a tag on a port of a bridge that filters VLANs, and has its answers leave there without one.
pub(super) fn taker_of_untagged<'a>(network: &'a Network, port: &Link, bridge: &'a Link) -> Option<&'a Link> {
    let ranges = network.bridge_vlans.get(&port.index)?;
    let own = ranges.iter().find(|range| range.pvid && range.untagged && range.forwards)?;
    taker(network, bridge, *own.ids.start())
}

/// The devices that take in what comes in with a tag on a port of a bridge that filters VLANs, and have their answers leave there with it;
/// each with its VLAN.
pub(super) fn takers_of_tagged<'a>(
    network: &'a Network,
    port: &Link,
    bridge: &'a Link,
) -> Vec<(&'a Link, u16)> {
    let ranges = |link: &Link| network.bridge_vlans.get(&link.index).map_or(&[][..], Vec::as_slice);
    let is_sent_tagged = |id: &u16| {
        ranges(port).iter().any(|range| range.ids.contains(id) && !range.untagged && range.forwards)
    };
    // A VLAN device on the port has its frames before the bridge has, and discards them while it is down.
    let is_the_ports = |id: &u16| {
        network
            .links
            .iter()
            .filter_map(|link| link.vlan)
            .any(|vlan| vlan.parent == port.index && vlan.id == *id)
    };
    let own = ranges(bridge).iter().filter(|range| range.pvid).map(|range| *range.ids.start());
    let of_devices = network.links.iter().filter_map(|link| link.vlan);
    let of_devices = of_devices.filter(|vlan| vlan.parent == bridge.index).map(|vlan| vlan.id);
    let mut ids: Vec<_> = own.chain(of_devices).filter(is_sent_tagged).collect();
    ids.retain(|id| !is_the_ports(id));
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().filter_map(|id| Some((taker(network, bridge, id)?, id))).collect()
}

/// Which device takes in a VLAN of a bridge: the bridge, if it is to it what comes without a tag, or the VLAN device on it.
fn taker<'a>(network: &'a Network, bridge: &'a Link, id: u16) -> Option<&'a Link> {
    // With service tags others count as none.
    if bridge.service_vlans {
        return None;
    }
    let ranges = network.bridge_vlans.get(&bridge.index)?;
    let range = ranges.iter().find(|range| range.ids.contains(&id) && range.forwards)?;
    if range.untagged {
        return Some(bridge).filter(|_| range.pvid);
    }
    let is_vrf =
        |index| network.links.iter().any(|link| link.index == index && link.kind == Some(InfoKind::Vrf));
    network.links.iter().find(|device| {
        device.vlan.is_some_and(|vlan| vlan.parent == bridge.index && vlan.id == id && !vlan.service)
            && device.up
            // The bridge sends frames to another one elsewhere.
            && device.mac == bridge.mac
            && device.controller.is_none_or(is_vrf)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::bridge_vlans::VlanRange;
    use crate::host::netlink::Vlan;
    use crate::host::testing::{bridge_vlan as vlan, link};

    const PORT: u32 = 1;
    const BRIDGE: u32 = 9;

    /// A port of a bridge that filters VLANs, with a VLAN device 100 on it.
    fn network(port: &[VlanRange], bridge: &[VlanRange]) -> Network {
        let on_bridge = Some(Vlan { parent: BRIDGE, id: 100, service: false });
        let port_link = Link { controller: Some(BRIDGE), active: true, ..link(PORT, true, None) };
        let bridge_link =
            Link { kind: Some(InfoKind::Bridge), vlan_filtering: true, ..link(BRIDGE, true, None) };
        Network {
            links: vec![port_link, bridge_link, link(100, true, on_bridge)],
            bridge_vlans: BTreeMap::from([(PORT, port.to_vec()), (BRIDGE, bridge.to_vec())]),
            ..Network::default()
        }
    }

    fn of_untagged(network: &Network) -> Option<u32> {
        taker_of_untagged(network, &network.links[0], &network.links[1]).map(|taker| taker.index)
    }

    fn of_tagged(network: &Network) -> Vec<(u32, u16)> {
        let takers = takers_of_tagged(network, &network.links[0], &network.links[1]);
        takers.into_iter().map(|(taker, id)| (taker.index, id)).collect()
    }

    #[test]
    fn a_frame_is_taken_in_where_the_answer_leaves_as_it_came() {
        let (untagged, tagged, none) = ("pvid untagged", "", &[][..]);
        for (what, port, bridge, expected, expected_tagged) in [
            ("as a bridge is made", vlan(1, untagged), vlan(1, untagged), Some(BRIDGE), none),
            ("another VLAN", vlan(100, untagged), vlan(1, untagged), None, none),
            ("an access port", vlan(100, untagged), vlan(100, tagged), Some(100), none),
            ("an access port without a VLAN device", vlan(7, untagged), vlan(7, tagged), None, none),
            ("a trunk", vlan(100, tagged), vlan(100, tagged), None, &[(100, 100)]),
            ("a trunk of the bridge's own", vlan(7, tagged), vlan(7, untagged), None, &[(BRIDGE, 7)]),
            ("a trunk of another VLAN", vlan(8, tagged), vlan(100, tagged), None, none),
            ("answers get a tag", vlan(1, "pvid"), vlan(1, untagged), None, &[(BRIDGE, 1)]),
            ("requests need a tag", vlan(1, "untagged"), vlan(1, untagged), None, none),
            ("answers are of another VLAN", vlan(1, untagged), vlan(1, "untagged"), None, none),
            ("the port's VLAN is blocked", vlan(1, "pvid untagged blocked"), vlan(1, untagged), None, none),
            ("the bridge's is", vlan(1, untagged), vlan(1, "pvid untagged blocked"), None, none),
            ("a trunk's is", vlan(100, "blocked"), vlan(100, tagged), None, none),
        ] {
            let network = network(&[port], &[bridge]);
            assert_eq!(of_untagged(&network), expected, "{what}");
            assert_eq!(of_tagged(&network), expected_tagged, "{what}, with a tag");
        }
        assert_eq!(of_untagged(&Network { bridge_vlans: BTreeMap::new(), ..network(&[], &[]) }), None);
    }

    #[test]
    fn a_vlan_device_takes_frames_in_that_is_up_has_the_bridges_mac_address_and_is_no_port() {
        let with = |change: fn(&mut Network)| {
            let mut network = network(&[vlan(100, "pvid untagged"), vlan(101, "")], &[vlan(100, "")]);
            change(&mut network);
            of_untagged(&network)
        };
        assert_eq!(with(|_| ()), Some(100));
        assert_eq!(with(|network| network.links[2].up = false), None, "down");
        assert_eq!(with(|network| network.links[2].mac = Some([4; 6])), None, "another MAC address");
        assert_eq!(with(|network| network.links[2].controller = Some(7)), None, "a port of another bridge");
        assert_eq!(with(|network| network.links[1].service_vlans = true), None, "service tags");
        let in_vrf = with(|network| {
            network.links[2].controller = Some(7);
            network.links.push(Link { kind: Some(InfoKind::Vrf), ..link(7, true, None) });
        });
        assert_eq!(in_vrf, Some(100), "in a VRF");
    }

    #[test]
    fn frames_of_a_vlan_device_on_the_port_never_reach_the_bridge() {
        for up in [true, false] {
            let mut network = network(&[vlan(100, "")], &[vlan(100, "")]);
            assert_eq!(of_tagged(&network), [(100, 100)]);
            network.links.push(link(2, up, Some(Vlan { parent: PORT, id: 100, service: false })));
            assert_eq!(of_tagged(&network), [], "up: {up}");
        }
    }
}
