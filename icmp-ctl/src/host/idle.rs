//! Why an attached program may get no frames.
//!
//! Owns the reasons that can be seen from outside and the command against each. None of them is an error: an interface may come up later.

use std::collections::BTreeSet;

use netlink_packet_route::link::InfoKind;

use crate::diagnostics::shell_word;
use crate::finding::{Finding, State};
use crate::host::elsewhere;
use crate::host::interfaces::{decided_by_rules, senders, silenced_by, taker, taker_above, tunnel_below};
use crate::host::netlink::{Link, Network};

/// Whether frames come in on an interface, and whether the kernel has a way for answers where these are taken in.
pub fn up(network: &Network, link: &Link) -> Vec<Finding> {
    let name = &link.name;
    let broken = |what: String, why: &str, down: &Link| {
        Finding::new("link", State::Broken, what, why)
            .on(name)
            .fixed_by(format!("ip link set dev {} up", shell_word(&down.name)))
    };
    let by_index = |index| network.links.iter().find(|other| other.index == index);
    let mut findings = Vec::new();
    if !link.up && silenced_by(link, by_index).is_none_or(|down| down.index != link.index) {
        findings.push(broken("is down".to_owned(), "no frame comes in", link));
    }
    let senders = senders(network, link, taker(network, link));
    for device in senders.iter().filter(|device| device.without_arp) {
        let what = format!("{} asks nobody for MAC addresses (`arp off`)", device.name);
        let why =
            "pings that come in there are left to the kernel, which sends answers to its own MAC address";
        let fix = format!("ip link set dev {} arp on", shell_word(&device.name));
        findings.push(Finding::new("link", State::Slow, what, why).on(name).fixed_by(fix));
    }
    for device in &senders {
        let families = match decided_by_rules(&network.routing_rules, device, by_index) {
            [false, false] => continue,
            [true, false] => "IPv4",
            [false, true] => "IPv6",
            [true, true] => "IPv4 and IPv6",
        };
        let what = format!(
            "rules of routing (`ip rule`) may decide about {families} of {} before the local table",
            device.name
        );
        let why = "pings to addresses of this host that come in there are left to the kernel";
        findings.push(Finding::new("link", State::Slow, what, why).on(name));
    }
    let mut known = BTreeSet::new();
    for device in senders {
        let Some(down) = silenced_by(device, by_index).filter(|down| known.insert(down.index)) else {
            continue;
        };
        let who =
            if device.index == link.index { String::new() } else { format!("{} above it ", device.name) };
        let what = match down.kind {
            _ if down.index == device.index => format!("{who}is down"),
            Some(InfoKind::Vrf) => format!("{who}is in the VRF {}, which is down", down.name),
            _ => format!("{who}is above {}, which is down", down.name),
        };
        findings.push(broken(
            what,
            "pings that come in there are left to the kernel, which finds no way for answers",
            down,
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("link", "is up").on(name));
    }
    findings
}

/// Whether any ping is for an interface; `has_vips` is whether any address of others is answered for.
pub fn addressed(network: &Network, link: &Link, has_vips: bool) -> Finding {
    let name = &link.name;
    if let Some(tunnel) = tunnel_below(network, link) {
        let what = format!("frames come out of {}, a tunnel in mode `external`", tunnel.name);
        let why = "no answer of XDP finds its way back into it, so that all pings are left to the kernel";
        return Finding::new("addresses", State::Slow, what, why).on(name);
    }
    let controller =
        link.controller.and_then(|index| network.links.iter().find(|other| other.index == index));
    // In a VRF an interface has its own addresses.
    let controller = controller.filter(|controller| controller.kind != Some(InfoKind::Vrf));
    if let Some(controller) = controller {
        let above = &controller.name;
        if !controller.programs.is_empty() {
            return Finding::fine("addresses", format!("is a port of {above}, which has a program")).on(name);
        }
        if let Some(taker) = taker(network, link).filter(|taker| taker.index != link.index) {
            if link.locked {
                let what =
                    format!("is a locked port of {above}, which takes in what known senders send alone");
                let why = "all pings are left to the kernel, within policy and limits";
                return Finding::new("addresses", State::Slow, what, why)
                    .on(name)
                    .fixed_by(format!("bridge link set dev {} locked off", shell_word(name)));
            }
            let of = if taker.index == controller.index { "that" } else { &taker.name };
            let what = format!("is a port of {above}, and pings are for the addresses of {of}");
            return Finding::fine("addresses", what).on(name);
        }
        if let Some(kind @ InfoKind::Other(_)) = &controller.kind {
            let what = format!(
                "is a port of {above}, of kind {kind}, which deals its frames out by rules of its own"
            );
            return Finding::new("addresses", State::Slow, what, "all pings are left to the kernel").on(name);
        }
        if link.active && controller.vlan_filtering {
            let what = format!("is a port of {above}, and what comes in without a tag is not for this host");
            let why = format!(
                "all pings are left to the kernel, unless {name} and {above} have one VLAN in common that is `pvid untagged` on both (`bridge vlan show`)"
            );
            return Finding::new("addresses", State::Slow, what, why).on(name);
        }
        if controller.kind == Some(InfoKind::Bridge) && !controller.up {
            let what = format!("is a port of {above}, which is down");
            return Finding::new(
                "addresses",
                State::Broken,
                what,
                "the kernel takes nothing in that comes in on it",
            )
            .on(name)
            .fixed_by(format!("ip link set dev {} up", shell_word(above)));
        }
        // Frames of a bridge come in at it a second time, where a generic program sees them.
        let mode = if controller.kind == Some(InfoKind::Bridge) { " --mode generic" } else { "" };
        let what = format!("is a port of {above}, which has the addresses");
        let why = format!("all pings are left to the kernel, unless the program is on {above}");
        Finding::new("addresses", State::Slow, what, why)
            .on(name)
            .fixed_by(format!("icmp-ctl attach {}{mode}", shell_word(above)))
    } else if let Some(above) = taker_above(network, link) {
        let what = format!("is below {}, which takes frames for itself", above.name);
        Finding::new("addresses", State::Slow, what, "all pings are left to the kernel").on(name)
    } else if elsewhere::has_one_unseen(network, link) {
        let what = "a device above it is in a network namespace that cannot be seen from here, and may take its frames for itself";
        Finding::new("addresses", State::Slow, what, "all pings are left to the kernel").on(name)
    } else if !has_vips && !has_address(network, link.index) {
        let what = "has no address, and neither has a VLAN device on it";
        let why = format!(
            "no ping is for it; `ip address add ADDRESS dev {}` helps, or `vips` in [responder]",
            shell_word(name)
        );
        Finding::new("addresses", State::Broken, what, why).on(name)
    } else {
        Finding::fine("addresses", "pings are for it, or for a VLAN device on it").on(name)
    }
}

/// Whether an interface has an address, or a VLAN device above it.
fn has_address(network: &Network, index: u32) -> bool {
    let above = |device: &&Link| device.vlan.is_some_and(|vlan| vlan.parent == index);
    network.addresses.iter().any(|address| address.ifindex == index)
        || network
            .links
            .iter()
            .filter(above)
            .any(|device| device.index != index && has_address(network, device.index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::{Address, Vlan};
    use crate::host::routing_rules::RoutingRules;

    fn link(index: u32) -> Link {
        Link { index, name: format!("if{index}"), up: true, ..Link::default() }
    }

    #[test]
    fn an_interface_where_nothing_can_be_answered_is_told_why() {
        let bridge = Link { kind: Some(InfoKind::Bridge), ..link(9) };
        let bond = Link { kind: Some(InfoKind::Bond), ..link(8) };
        let switch = Link { kind: Some(InfoKind::Other("openvswitch".to_owned())), ..link(6) };
        let vrf = Link { kind: Some(InfoKind::Vrf), ..link(7) };
        let vlan = Link { vlan: Some(Vlan { parent: 2, id: 7, service: false }), ..link(3) };
        let filtering = Link { vlan_filtering: true, kind: Some(InfoKind::Bridge), ..link(5) };
        let macvlan = Link { lower: Some(11), takes_below: true, ..link(10) };
        let network = Network {
            links: vec![link(1), link(2), vlan, bridge, bond, vrf, switch, filtering, macvlan],
            addresses: [1, 3]
                .map(|ifindex| Address {
                    ifindex,
                    address: "192.0.2.1".parse().expect("an address"),
                    peer: None,
                    prefix_len: 24,
                    broadcast: None,
                    global: true,
                })
                .into(),
            ..Network::default()
        };
        let of = |link: &Link| {
            let all = [up(&network, link), vec![addressed(&network, link, false)]].concat();
            all.iter().filter(|it| it.state != State::Fine).map(Finding::text).collect::<String>()
        };
        assert_eq!(
            (of(&link(1)), of(&link(2))),
            (String::new(), String::new()),
            "the second has a VLAN device"
        );
        assert!(of(&link(11)).contains("is below if10, which takes frames for itself"));
        assert!(of(&Link { up: false, ..link(1) }).contains("ip link set dev if1 up"));
        assert!(of(&Link { controller: Some(9), ..link(4) }).contains("icmp-ctl attach if9 --mode generic"));
        assert_eq!(of(&Link { controller: Some(9), active: true, ..link(4) }), "");
        let ruled = Network {
            routing_rules: RoutingRules::refusing("if1"),
            links: vec![link(1)],
            ..Network::default()
        };
        assert!(up(&ruled, &ruled.links[0])[0].what.contains("may decide about IPv4 of if1"));
        let locked = Link { controller: Some(9), active: true, locked: true, ..link(4) };
        assert!(of(&locked).contains("is a locked port of if9"), "{}", of(&locked));
        assert!(
            of(&Link { controller: Some(5), active: true, ..link(4) }).contains("`pvid untagged` on both")
        );
        assert!(of(&Link { controller: Some(8), ..link(4) }).contains("`icmp-ctl attach if8`"));
        assert!(of(&Link { controller: Some(6), ..link(4) }).ends_with("are left to the kernel"));
        assert_eq!(of(&Link { controller: Some(7), ..link(1) }), "", "in a VRF its addresses are its own");
        assert!(of(&link(4)).contains("no address"));
        assert_eq!(addressed(&network, &link(4), true).state, State::Fine, "VIPs are everywhere");
        assert!(of(&Link { external: true, ..link(1) }).contains("tunnel in mode `external`"));
    }

    #[test]
    fn a_device_that_is_down_is_named_where_it_leaves_the_kernel_without_a_way_for_answers() {
        let of = |kind, link| Link { kind: Some(kind), ..link };
        let down = |kind, index| Link { up: false, ..of(kind, link(index)) };
        let port = |index, controller| Link { controller: Some(controller), active: true, ..link(index) };
        let vlan = |link, parent| Link { vlan: Some(Vlan { parent, id: 7, service: false }), ..link };
        let no_way = "left to the kernel, which finds no way for answers; `ip link set dev";
        // The first link is attached.
        let cases: [(&str, Vec<Link>, String); 10] = [
            (
                "a bridge without ARP",
                vec![port(1, 9), Link { without_arp: true, ..of(InfoKind::Bridge, link(9)) }],
                "if9 asks nobody for MAC addresses (`arp off`)".to_owned(),
            ),
            ("all up", vec![port(1, 9), of(InfoKind::Vrf, link(9))], String::new()),
            (
                "a VRF",
                vec![port(1, 9), down(InfoKind::Vrf, 9)],
                format!("is in the VRF if9, which is down; pings that come in there are {no_way} if9 up` helps"),
            ),
            (
                "a bridge in a VRF",
                vec![port(1, 8), of(InfoKind::Bridge, port(8, 9)), down(InfoKind::Vrf, 9)],
                "if8 above it is in the VRF if9, which is down".to_owned(),
            ),
            (
                "a VLAN device in a VRF",
                vec![link(1), vlan(port(2, 9), 1), down(InfoKind::Vrf, 9)],
                "if2 above it is in the VRF if9, which is down".to_owned(),
            ),
            ("a bond", vec![down(InfoKind::Bond, 1)], format!("is down; pings that come in there are {no_way}")),
            ("a team", vec![down(InfoKind::Team, 1)], format!("is down; pings that come in there are {no_way}")),
            (
                "a VLAN device on a bond",
                vec![vlan(link(1), 9), down(InfoKind::Bond, 9)],
                "if1: is above if9, which is down".to_owned(),
            ),
            ("a card", vec![Link { up: false, ..link(1) }], "is down; no frame comes in".to_owned()),
            (
                "a bridge",
                vec![Link { active: false, ..port(1, 9) }, down(InfoKind::Bridge, 9)],
                "is a port of if9, which is down; the kernel takes nothing in that comes in on it; `ip link set dev if9 up`"
                    .to_owned(),
            ),
        ];
        for (what, links, expected) in cases {
            let network = Network { links, ..Network::default() };
            let attached = &network.links[0];
            let all = [up(&network, attached), vec![addressed(&network, attached, true)]].concat();
            let told: Vec<_> = all.iter().filter(|it| it.state != State::Fine).map(Finding::text).collect();
            let is_told = told.len() == 1 && told[0].contains(&expected);
            assert!(is_told || expected.is_empty() && told.is_empty(), "{what}: {told:?}");
        }
    }
}
