//! The entry of an interface: whose frames come in on it.
//!
//! Owns the entry. `netlink.rs` has the kernel's answers, `addresses.rs` the addresses of an interface.

use std::collections::BTreeSet;
use std::iter::successors;

use icmp_common::abi::{
    INTERFACE_MAC_SHARED, INTERFACE_PORT, INTERFACE_SHARED, INTERFACE_STRIPS_TAGS, Interface,
};
use icmp_common::wire::ethernet;
use netlink_packet_route::link::InfoKind;

use crate::host::bridge_ports::{taker_of_untagged, takers_of_tagged};
use crate::host::elsewhere;
use crate::host::netlink::{Link, Network};
use crate::host::other_macs::vrf_above;
use crate::host::routing_rules::RoutingRules;
use crate::host::vlan_stripping::stripping;

/// How many devices above one another are followed.
const DEPTH: u32 = 8;

/// What there is to say of an interface that has [`Link::without_ipv6`].
pub(super) const WITHOUT_IPV6: &str =
    "the kernel takes in no IPv6 on this interface, because of `disable_ipv6` or an MTU below 1280";

/// No frame is addressed to this, because an address has six bytes and not eight.
pub(super) const NOBODYS_MAC: u64 = u64::MAX;

fn mac_of(link: &Link) -> u64 {
    link.mac.map_or(NOBODYS_MAC, ethernet::address)
}

/// The bond or team that an interface is a port of, which takes in the frames of its ports as its own.
pub fn aggregate<'a>(links: &'a [Link], link: &Link) -> Option<&'a Link> {
    let controller = links.iter().find(|other| Some(other.index) == link.controller);
    controller.filter(|other| matches!(other.kind, Some(InfoKind::Bond | InfoKind::Team)))
}

/// The entries of an interface in the interface table: its own, and those of the ports whose frames it takes in.
///
/// In native mode the program of a bond runs on its ports, and is told the port that a frame came in on (bond_xdp_set() in
/// drivers/net/bonding/bond_main.c, Linux 5.15). What comes in on a port that stands by the bond does not take in, so there is no entry for it.
pub fn interface_entries(network: &Network, link: &Link, slot: u32) -> (Interface, Vec<Interface>) {
    let own = interface_entry(network, link, slot);
    let of_bond = own.flags & INTERFACE_MAC_SHARED;
    let entry = |port: &Link| Interface {
        ifindex: port.index,
        flags: flags(network, port) | of_bond | INTERFACE_PORT,
        ..own
    };
    (own, ports(network, link).map(entry).collect())
}

/// The ports of a bond whose frames it takes in.
pub(super) fn ports<'a>(network: &'a Network, link: &Link) -> impl Iterator<Item = &'a Link> {
    let bond = Some(link.index).filter(|_| link.kind == Some(InfoKind::Bond));
    network.links.iter().filter(move |port| bond.is_some() && port.controller == bond && port.active)
}

/// The device that an interface is a port of, or the VRF that it is in.
fn controller_of<'a>(network: &'a Network, link: &Link) -> Option<&'a Link> {
    network.links.iter().find(|other| Some(other.index) == link.controller)
}

/// The VRF that an interface is in.
pub fn vrf_of<'a>(network: &'a Network, link: &Link) -> Option<&'a Link> {
    controller_of(network, link).filter(|controller| controller.kind == Some(InfoKind::Vrf))
}

/// The device that is down and because of which the kernel takes in what comes in by an interface and may have no way for an answer: its VRF; or the
/// bond or team that it is or is above, of which the ports go on (`bond_handle_frame` in drivers/net/bonding/bond_main.c).
pub(super) fn silenced_by<'a>(
    link: &'a Link,
    by_index: impl Fn(u32) -> Option<&'a Link>,
) -> Option<&'a Link> {
    let is_vrf = |device: &&Link| device.kind == Some(InfoKind::Vrf);
    let has_ports = |device: &&Link| matches!(device.kind, Some(InfoKind::Bond | InfoKind::Team));
    let vrf = [Some(link), link.controller.and_then(&by_index)].into_iter().flatten().find(is_vrf);
    let below = successors(Some(link), |link| by_index(link.vlan?.parent)).take(DEPTH as usize);
    vrf.into_iter().chain(below.filter(has_ports)).find(|device| !device.up)
}

/// Of which families, IPv4 before IPv6, a rule of routing may decide about what comes in on an interface, before the local table is looked into: by its
/// name, or by that of its VRF.
pub(super) fn decided_by_rules<'a>(
    rules: &RoutingRules,
    link: &'a Link,
    by_index: impl Fn(u32) -> Option<&'a Link>,
) -> [bool; 2] {
    let vrf = vrf_above(link.index, &by_index).and_then(&by_index);
    let names: Vec<_> = [link].into_iter().chain(vrf).map(|link| link.name.as_str()).collect();
    [false, true].map(|is_v6| rules.come_first(is_v6, &names))
}

/// Which interface takes in the frames of one that have no tag: itself, or the bridge it is a port of, or a VLAN device on that. `None` where
/// the bridge does not take them in, or where it is a port of a device that deals them out by rules of its own, VLANs among them (Open vSwitch).
pub fn taker<'a>(network: &'a Network, link: &'a Link) -> Option<&'a Link> {
    let Some(controller) = controller_of(network, link) else { return Some(link) };
    match controller.kind {
        Some(InfoKind::Bridge) if !link.active => None,
        Some(InfoKind::Bridge) if controller.vlan_filtering => taker_of_untagged(network, link, controller),
        Some(InfoKind::Bridge) => Some(controller),
        Some(InfoKind::Bond | InfoKind::Team | InfoKind::Vrf) | None => Some(link),
        Some(_) => None,
    }
}

/// Which other devices take in the frames of an interface that have a tag, each with its VLAN, and have their answers leave there with it:
/// those of a bridge that filters VLANs. They have the MAC address that the interface's entry has.
pub fn takers_in_vlans<'a>(network: &'a Network, link: &Link) -> Vec<(&'a Link, u16)> {
    let bridge = controller_of(network, link).filter(|bridge| link.active && bridge.vlan_filtering);
    bridge.map(|bridge| takers_of_tagged(network, link, bridge)).unwrap_or_default()
}

/// The same, where what comes in is surely for that one.
pub(super) fn sure_taker<'a>(network: &'a Network, link: &'a Link) -> Option<&'a Link> {
    // In doubt what is above it and cannot be seen takes its frames.
    let is_sure = |of: &Link| {
        taker_above(network, of).is_none()
            && tunnel_below(network, of).is_none()
            && !elsewhere::has_one_unseen(network, of)
    };
    taker(network, link).filter(|taker| is_sure(link) && is_sure(taker))
}

/// An interface's own entry.
pub fn interface_entry(network: &Network, link: &Link, slot: u32) -> Interface {
    let taker = sure_taker(network, link);
    // Nothing is answered, and the address of what takes the frames in is another one of the host's (`other_macs.rs`).
    let mac = taker.filter(|_| !link.locked).map_or(NOBODYS_MAC, mac_of);
    let (mtu4, mtu6) = mtus(network, link, taker);
    Interface { ifindex: link.index, slot, mac, flags: flags(network, link), mtu4, mtu6 }
}

/// What sends the kernel's answers to what comes in on an interface: it, whoever takes its frames in, and the VLAN devices above those.
pub(super) fn senders<'a>(network: &'a Network, link: &'a Link, taker: Option<&'a Link>) -> Vec<&'a Link> {
    let in_vlans = takers_in_vlans(network, link).into_iter().map(|(device, _)| device);
    let mut senders: Vec<&Link> = [link].into_iter().chain(taker).chain(in_vlans).collect();
    let mut at = 0;
    while let Some(below) = senders.get(at).map(|below| below.index) {
        for device in network.links.iter().filter(|device| device.up) {
            let is_above = device.vlan.is_some_and(|vlan| vlan.parent == below);
            if is_above && senders.iter().all(|known| known.index != device.index) {
                senders.push(device);
            }
        }
        at += 1;
    }
    senders
}

/// All that what comes in on an interface, or the kernel's answer to it, may come through in this host, each once: what sends answers, the bond or team
/// that it is a port of with what is above that, and their VRFs.
pub(super) fn passed_through<'a>(network: &'a Network, link: &'a Link) -> Vec<&'a Link> {
    let from = successors(Some(link), |link| aggregate(&network.links, link)).take(DEPTH as usize);
    let mut all: Vec<_> = from.flat_map(|one| senders(network, one, taker(network, one))).collect();
    let vrfs: Vec<_> = all.iter().filter_map(|one| vrf_of(network, one)).collect();
    all.extend(vrfs);
    let mut known = BTreeSet::new();
    all.retain(|one| known.insert(one.index));
    all
}

/// The least MTUs of IPv4 and IPv6 of what sends the kernel's answers to what comes in on an interface. What one of them cannot send in one piece is
/// left to the kernel whichever sends it.
fn mtus<'a>(network: &'a Network, link: &'a Link, taker: Option<&'a Link>) -> (u16, u16) {
    let senders = senders(network, link, taker);
    // The loopback interface's is more than any packet has.
    let least = |of: fn(&Link) -> u32| {
        let known = senders.iter().map(|sender| of(sender)).filter(|mtu| *mtu != 0);
        known.min().map_or(0, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
    };
    (least(|link| link.mtu), least(|link| link.mtu6))
}

/// The tunnel that what comes in on an interface, or on the one below it, comes out of, where an answer does not find its way back into it
/// ([`Link::external`]).
pub(super) fn tunnel_below<'a>(network: &'a Network, mut link: &'a Link) -> Option<&'a Link> {
    for _ in 0..DEPTH {
        if link.external {
            return Some(link);
        }
        let shows_below = matches!(link.kind, Some(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::MacVtap));
        link = network.links.iter().find(|below| shows_below && link.lower == Some(below.index))?;
    }
    None
}

/// The device above an interface that takes its frames for itself.
pub(super) fn taker_above<'a>(network: &'a Network, of: &Link) -> Option<&'a Link> {
    let all = network.links.iter().chain(&network.above_elsewhere);
    all.filter(|above| takes_below(above)).find(|above| above.lower == Some(of.index))
}

/// Whether what comes in on the interface below a device may not be for that interface, whoever has its address: the device is a macvlan of a mode that
/// takes it; or a port of a switch, whose frames come in on the conduit with a tag behind them, perhaps, that tells which port they are of
/// (net/dsa/tag_trailer.c). Before Linux 6.1 these ports have no kind, as network cards, which have no interface below.
fn takes_below(device: &Link) -> bool {
    let is_port_of_switch = match &device.kind {
        None => device.vlan.is_none(),
        Some(InfoKind::Other(kind)) => kind == "dsa",
        Some(_) => false,
    };
    device.takes_below || is_port_of_switch
}

fn flags(network: &Network, link: &Link) -> u32 {
    let strips_tags = if stripping(network, link).is_some() { INTERFACE_STRIPS_TAGS } else { 0 };
    let shared = if is_shared(network, link, DEPTH) { INTERFACE_SHARED } else { 0 };
    let is_mac_shared = sure_taker(network, link).is_none() || shares_mac(network, link, DEPTH);
    strips_tags | shared | if is_mac_shared { INTERFACE_MAC_SHARED } else { 0 }
}

/// Whether others than this host have the MAC address of an interface, or of what takes its frames in: a device of another namespace, and a guest behind
/// an ipvtap. Macvlans have addresses of their own, and an ipvlan of this namespace is this host.
fn shares_mac(network: &Network, link: &Link, depth: u32) -> bool {
    let is_by = |other: &Link| depth > 0 && shares_mac(network, other, depth - 1);
    elsewhere::has_one_with_its_mac(network, link)
        || controller_of(network, link).is_some_and(is_by)
        || network.links.iter().filter(|upper| upper.lower == Some(link.index)).any(|upper| {
            match upper.kind {
                Some(InfoKind::IpVtap) => true,
                Some(InfoKind::Vlan) => is_by(upper),
                _ => false,
            }
        })
}

/// Whether frames for others come in on an interface as well, to groups the host belongs to too: whoever is behind the bridge that it, or a
/// device above it, is a port of, and whoever has one of the devices that share it.
fn is_shared(network: &Network, link: &Link, depth: u32) -> bool {
    let by_controller = link.controller.is_some_and(|index| match aggregate(&network.links, link) {
        // What these take in they take in as one interface of this host.
        Some(bond) => depth > 0 && is_shared(network, bond, depth - 1),
        None => network.links.iter().all(|other| other.index != index || other.kind != Some(InfoKind::Vrf)),
    });
    by_controller
        || !elsewhere::macs(network, link).is_empty()
        || elsewhere::has_one_with_its_mac(network, link)
        || network.links.iter().filter(|upper| upper.lower == Some(link.index)).any(|upper| {
            match upper.kind {
                Some(InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap) => true,
                Some(InfoKind::Vlan) => depth > 0 && is_shared(network, upper, depth - 1),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::groups::{ALL_HOSTS, Group};
    use crate::host::netlink::Vlan;
    use crate::host::testing::link;

    /// A device of some kind above an interface.
    fn above(index: u32, kind: InfoKind, lower: u32) -> Link {
        Link { kind: Some(kind), lower: Some(lower), ..link(index, true, None) }
    }

    #[test]
    fn the_least_mtu_of_what_sends_answers_is_that_of_the_interface() {
        let vlan = |index, parent, up, mtu| Link {
            mtu,
            ..link(index, up, Some(Vlan { parent, id: index as u16, service: false }))
        };
        let links = vec![
            Link { mtu: 9000, mtu6: 1500, ..link(1, true, None) },
            vlan(2, 1, true, 4000),
            vlan(3, 2, true, 3000),
            vlan(4, 1, false, 1000),
            vlan(5, 7, true, 1000),
            Link { mtu: 65_536, ..link(6, true, None) },
        ];
        let network = Network { links, ..Network::default() };
        let mtus = |at: usize| {
            let entry = interface_entry(&network, &network.links[at], 1);
            (entry.mtu4, entry.mtu6)
        };
        assert_eq!((mtus(0), mtus(5)), ((3000, 1500), (u16::MAX, 0)));
    }

    #[test]
    fn frames_pass_through_what_takes_them_in_and_the_bond_the_bridge_and_the_vrf_above() {
        let port_of = |index, controller| Link {
            controller: Some(controller),
            active: true,
            ..link(index, true, None)
        };
        let of = |kind, link| Link { kind: Some(kind), ..link };
        let links = vec![
            port_of(1, 2),
            of(InfoKind::Bond, port_of(2, 3)),
            of(InfoKind::Bridge, link(3, true, None)),
            Link { vlan: Some(Vlan { parent: 3, id: 100, service: false }), ..port_of(4, 5) },
            of(InfoKind::Vrf, link(5, true, None)),
            link(6, true, None),
        ];
        let network = Network { links, ..Network::default() };
        let of = |at: usize| {
            let all = passed_through(&network, &network.links[at]).into_iter();
            all.map(|link| link.index).collect::<Vec<_>>()
        };
        assert_eq!((of(0), of(3), of(5)), (vec![1, 2, 3, 4, 5], vec![4, 5], vec![6]));
    }

    #[test]
    fn below_a_macvlan_that_takes_frames_for_itself_nothing_is_for_the_interface() {
        let other = |takes_below| Link { takes_below, ..above(2, InfoKind::MacVlan, 1) };
        for (takes_below, mac) in [(false, ethernet::address([2; 6])), (true, NOBODYS_MAC)] {
            let here = Network { links: vec![link(1, true, None), other(takes_below)], ..Network::default() };
            let links = vec![link(1, true, None)];
            let elsewhere =
                Network { links, above_elsewhere: vec![other(takes_below)], ..Network::default() };
            for network in [here, elsewhere] {
                assert_eq!(interface_entry(&network, &network.links[0], 1).mac, mac, "{takes_below}");
            }
        }
    }

    #[test]
    fn nothing_is_for_an_interface_below_a_device_that_cannot_be_seen() {
        let own = [2; 6];
        for (times, mac) in [(1, ethernet::address(own)), (2, NOBODYS_MAC)] {
            let groups = vec![Group { ifindex: 1, address: ALL_HOSTS }];
            let all_hosts = [(1, times)].into();
            let network =
                Network { links: vec![link(1, true, None)], groups, all_hosts, ..Network::default() };
            assert_eq!(interface_entry(&network, &network.links[0], 1).mac, mac, "{times}");
        }
    }

    #[test]
    fn what_comes_out_of_a_tunnel_that_no_answer_finds_back_into_is_answered_by_nobody() {
        let tunnel = |external| Link { external, ..above(1, InfoKind::Vxlan, 9) };
        let vlan = Link { kind: Some(InfoKind::Vlan), lower: Some(1), ..link(2, true, None) };
        for (external, mac) in [(false, ethernet::address([2; 6])), (true, NOBODYS_MAC)] {
            // The tunnel runs over the last one, which knows nothing of what is in it.
            let links =
                vec![tunnel(external), vlan.clone(), above(3, InfoKind::MacVlan, 2), link(9, true, None)];
            let network = Network { links, ..Network::default() };
            let macs = network.links.iter().map(|link| interface_entry(&network, link, 1).mac);
            assert_eq!(macs.collect::<Vec<_>>(), [mac, mac, mac, ethernet::address([2; 6])], "{external}");
        }
    }

    #[test]
    fn nothing_is_for_the_conduit_of_a_switch() {
        for (kind, is_its_own) in [
            (None, false),
            (Some(InfoKind::Other("dsa".to_owned())), false),
            (Some(InfoKind::Vlan), true),
            // Its peer.
            (Some(InfoKind::Veth), true),
            (Some(InfoKind::MacSec), true),
            (Some(InfoKind::Other("unheard-of".to_owned())), true),
        ] {
            let what = format!("{kind:?}");
            let port = Link { lower: Some(1), kind, ..link(2, true, None) };
            let network = Network { links: vec![link(1, true, None), port], ..Network::default() };
            let mac = if is_its_own { ethernet::address([2; 6]) } else { NOBODYS_MAC };
            assert_eq!(interface_entry(&network, &network.links[0], 1).mac, mac, "{what}");
        }
    }

    #[test]
    fn a_bond_has_an_entry_for_each_of_its_active_ports_and_its_own() {
        let port = |index, active| Link {
            controller: Some(9),
            active,
            mac: Some([index as u8; 6]),
            ..link(index, true, None)
        };
        let bond = |kind| Link { kind: Some(kind), mac: Some([4; 6]), ..link(9, true, None) };
        let others = Link { controller: Some(8), active: true, ..link(3, true, None) };
        for (kind, expected) in [(InfoKind::Bond, &[1][..]), (InfoKind::Team, &[]), (InfoKind::Bridge, &[])] {
            let links = vec![port(1, true), port(2, false), others.clone(), bond(kind.clone())];
            let network = Network { links, ..Network::default() };
            let (own, ports) = interface_entries(&network, &network.links[3], 5);
            assert!(own.ifindex == 9 && own.is_attached(), "{kind}");
            assert_eq!(ports.iter().map(|port| port.ifindex).collect::<Vec<_>>(), expected, "{kind}");
            for port in ports {
                assert!(!port.is_attached() && port.slot == 5 && port.mac == ethernet::address([4; 6]));
            }
        }
    }

    #[test]
    fn frames_of_a_port_are_the_bridges_where_it_takes_them_in_and_tells_no_vlans_apart() {
        let bridge = |vlan_filtering| Link {
            kind: Some(InfoKind::Bridge),
            mac: Some([4; 6]),
            vlan_filtering,
            ..link(9, true, None)
        };
        let port = |active, locked| Link { controller: Some(9), active, locked, ..link(1, true, None) };
        let of_bridge = ethernet::address([4; 6]);
        let unsure = INTERFACE_SHARED | INTERFACE_MAC_SHARED;
        for (active, locked, filters, mac, flags) in [
            (true, false, false, of_bridge, INTERFACE_SHARED),
            (false, false, false, NOBODYS_MAC, unsure),
            (true, false, true, NOBODYS_MAC, unsure),
            (true, true, false, NOBODYS_MAC, INTERFACE_SHARED),
            (false, true, false, NOBODYS_MAC, unsure),
        ] {
            let network =
                Network { links: vec![port(active, locked), bridge(filters)], ..Network::default() };
            let entry = interface_entry(&network, &network.links[0], 5);
            assert_eq!((entry.mac, entry.flags & unsure), (mac, flags), "{active} {locked} {filters}");
        }
    }

    #[test]
    fn nothing_is_for_a_port_of_a_device_that_deals_its_frames_out_by_rules_of_its_own() {
        let port = Link { controller: Some(9), active: true, ..link(1, true, None) };
        for (kind, is_its_own) in [
            (Some(InfoKind::Other("openvswitch".to_owned())), false),
            (Some(InfoKind::Bond), true),
            (Some(InfoKind::Team), true),
            (Some(InfoKind::Vrf), true),
            // That of a virtual function, such as netvsc, which has its MAC address and takes all in.
            (None, true),
        ] {
            let what = format!("{kind:?}");
            let network = Network {
                links: vec![port.clone(), Link { kind, ..link(9, true, None) }],
                ..Network::default()
            };
            let mac = if is_its_own { ethernet::address([2; 6]) } else { NOBODYS_MAC };
            assert_eq!(interface_entry(&network, &network.links[0], 5).mac, mac, "{what}");
        }
    }

    #[test]
    fn an_interface_is_shared_where_others_take_in_what_comes_in_on_it() {
        let vlan = Some(Vlan { parent: 1, id: 100, service: false });
        let port_of = |index, controller| Link { controller: Some(controller), ..link(index, true, None) };
        let of_kind = |index, kind| Link { kind: Some(kind), ..link(index, true, None) };
        let guest = Link { controller: Some(9), ..link(2, true, vlan) };
        let bond = Link { controller: Some(9), ..of_kind(2, InfoKind::Bond) };
        let cases: [(&str, Vec<Link>, bool); 9] = [
            ("nothing above", vec![link(1, true, None)], false),
            ("a VLAN", vec![link(1, true, None), link(2, true, vlan)], false),
            ("a port of a bridge", vec![port_of(1, 9), of_kind(9, InfoKind::Bridge)], true),
            ("a port of something unknown", vec![port_of(1, 9)], true),
            ("in a VRF", vec![port_of(1, 9), of_kind(9, InfoKind::Vrf)], false),
            ("in a bond", vec![port_of(1, 2), of_kind(2, InfoKind::Bond)], false),
            ("in a bond in a bridge", vec![port_of(1, 2), bond, of_kind(9, InfoKind::Bridge)], true),
            ("a VLAN in a bridge", vec![link(1, true, None), guest, of_kind(9, InfoKind::Bridge)], true),
            (
                "a macvlan on a VLAN",
                vec![link(1, true, None), link(2, true, vlan), above(3, InfoKind::MacVlan, 2)],
                true,
            ),
        ];
        for (what, links, shared) in cases {
            let network = Network { links, addresses: Vec::new(), ..Network::default() };
            assert_eq!(is_shared(&network, &network.links[0], DEPTH), shared, "{what}");
        }
        for kind in [InfoKind::MacVlan, InfoKind::MacVtap, InfoKind::IpVlan, InfoKind::IpVtap] {
            let links = vec![link(1, true, None), above(2, kind.clone(), 1)];
            let network = Network { links, addresses: Vec::new(), ..Network::default() };
            assert!(is_shared(&network, &network.links[0], DEPTH), "{kind}");
        }
    }

    #[test]
    fn an_address_of_another_interface_is_nobodys_where_others_may_have_the_mac_address() {
        let vlan = Some(Vlan { parent: 1, id: 100, service: false });
        let of_kind = |index, kind| Link { kind: Some(kind), ..link(index, true, None) };
        let port = |active| Link { controller: Some(9), active, ..link(1, true, None) };
        let bridge = || of_kind(9, InfoKind::Bridge);
        let ovs = of_kind(9, InfoKind::Other("openvswitch".to_owned()));
        let cases: [(&str, Vec<Link>, usize, bool); 11] = [
            ("nothing above", vec![link(1, true, None)], 0, false),
            ("a macvlan", vec![link(1, true, None), above(2, InfoKind::MacVlan, 1)], 0, false),
            ("a macvtap", vec![link(1, true, None), above(2, InfoKind::MacVtap, 1)], 0, false),
            ("an ipvlan", vec![link(1, true, None), above(2, InfoKind::IpVlan, 1)], 0, false),
            ("an ipvtap", vec![link(1, true, None), above(2, InfoKind::IpVtap, 1)], 0, true),
            (
                "an ipvtap on a VLAN",
                vec![link(1, true, None), link(2, true, vlan), above(3, InfoKind::IpVtap, 2)],
                0,
                true,
            ),
            ("a device of another namespace", vec![link(1, true, None)], 1, true),
            ("a bridge", vec![port(true), bridge()], 0, false),
            ("a bridge that takes nothing in", vec![port(false), bridge()], 0, true),
            ("a switch with rules of its own", vec![port(true), ovs], 0, true),
            ("an ipvtap on a bridge", vec![port(true), bridge(), above(2, InfoKind::IpVtap, 9)], 0, true),
        ];
        for (what, links, elsewhere, expected) in cases {
            let here = 1 + links.iter().filter(|other| other.lower == Some(1)).count();
            let here = here + usize::from(links[0].controller.is_some());
            let other = Link { lower: Some(1), kind: Some(InfoKind::IpVlan), up: true, ..Link::default() };
            let network = Network {
                links,
                groups: vec![Group { ifindex: 1, address: ALL_HOSTS }],
                all_hosts: [(1, here + elsewhere)].into(),
                above_elsewhere: vec![other; elsewhere],
                ..Network::default()
            };
            let flags = interface_entry(&network, &network.links[0], 1).flags;
            assert_eq!(flags & INTERFACE_MAC_SHARED != 0, expected, "{what}");
        }
    }

    #[test]
    fn an_interface_is_shared_with_a_macvlan_that_was_moved_away_and_not_with_its_own_vlans() {
        let vlan = Some(Vlan { parent: 1, id: 100, service: false });
        let of_vlan = Link { mac: Some([6; 6]), ..link(2, true, vlan) };
        for (mac, shared) in [([2; 6], false), ([6; 6], false), ([10; 6], true)] {
            let links = vec![link(1, true, None), of_vlan.clone()];
            let network = Network { links, taken_in: vec![(1, mac), (3, [10; 6])], ..Network::default() };
            assert_eq!(is_shared(&network, &network.links[0], DEPTH), shared, "{mac:?}");
        }
    }
}
