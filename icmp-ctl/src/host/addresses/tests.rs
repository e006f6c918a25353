//! Which addresses count where.

use super::*;
use crate::host::bridge_vlans::VlanRange;
use crate::host::groups::Group;
use crate::host::netlink::Vlan;
use crate::host::testing::link;

fn address(ifindex: u32, text: &str) -> Address {
    Address {
        ifindex,
        address: text.parse().expect("an address"),
        peer: None,
        prefix_len: 32,
        broadcast: None,
        global: true,
    }
}

#[test]
fn addresses_that_no_packet_of_another_host_is_for_are_nobodys() {
    let texts = ["127.0.0.9", "0.0.0.0", "255.255.255.255", "::1", "::ffff:192.0.2.1"];
    let addresses = texts.map(|text| address(1, text)).to_vec();
    let network = Network { links: vec![link(1, true, None)], addresses, ..Network::default() };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    assert_eq!(own.iter().map(|own| own.address.to_string()).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn an_address_without_a_local_route_is_nobodys_and_its_broadcast_address_stays() {
    let addresses = vec![Address { prefix_len: 24, ..address(1, "192.0.2.1") }, address(1, "2001:db8::1")];
    for (without_route, expected) in [
        (vec![], &["192.0.2.1", "192.0.2.255", "2001:db8::1"][..]),
        (vec![(1, addresses[0].address)], &["192.0.2.255", "2001:db8::1"]),
        (vec![(1, addresses[1].address), (2, addresses[0].address)], &["192.0.2.1", "192.0.2.255"]),
    ] {
        let network = Network {
            links: vec![link(1, true, None)],
            addresses: addresses.clone(),
            without_route: without_route.into_iter().collect(),
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        let texts: BTreeSet<_> = own.iter().map(|own| own.address.to_string()).collect();
        assert_eq!(texts.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_address_of_which_another_route_may_decide_is_the_kernels_everywhere() {
    for (disputed, own, anywhere) in [
        (vec![], AddressKind::Own, AddressKind::Host),
        (vec![1, 2], AddressKind::Anywhere, AddressKind::Anywhere),
    ] {
        let network = Network {
            links: vec![link(1, true, None), link(2, true, None)],
            addresses: vec![address(1, "192.0.2.1"), address(2, "192.0.2.2")],
            disputed: disputed
                .iter()
                .map(|index| (*index, format!("192.0.2.{index}").parse().expect("an address")))
                .collect(),
            ..Network::default()
        };
        let found = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(kind_of(&found, Scope::new(1, 0), "192.0.2.1"), Some(own));
        assert_eq!(kind_of(&found, Scope::ANYWHERE, "192.0.2.2"), Some(anywhere));
    }
}

#[test]
fn a_vlan_device_counts_while_it_is_up() {
    let vlan = Some(Vlan { parent: 1, id: 100, service: false });
    for up in [true, false] {
        let network = Network {
            links: vec![link(1, true, None), link(2, up, vlan)],
            addresses: vec![address(1, "192.0.2.1"), address(2, "192.0.2.2")],
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        let scopes = own.iter().filter(|own| own.kind == AddressKind::Own).map(|own| own.scope);
        let expected: &[Scope] =
            if up { &[Scope::new(1, 0), Scope::new(1, 100)] } else { &[Scope::new(1, 0)] };
        assert_eq!(scopes.collect::<Vec<_>>(), expected, "up: {up}");
    }
}

#[test]
fn on_a_port_of_a_bridge_that_filters_vlans_each_address_counts_where_its_vlan_comes_in() {
    let port = Link { controller: Some(9), active: true, ..link(1, true, None) };
    let bridge = Link { kind: Some(InfoKind::Bridge), vlan_filtering: true, ..link(9, true, None) };
    let device = |index, id| link(index, true, Some(Vlan { parent: 9, id, service: false }));
    let range = |ids, untagged| VlanRange { ids, pvid: untagged, untagged, forwards: true };
    let ranges = vec![range(1..=1, true), range(100..=199, false)];
    let network = Network {
        links: vec![port, bridge, device(2, 100), device(3, 200)],
        addresses: vec![address(9, "192.0.2.9"), address(2, "192.0.2.100"), address(3, "192.0.2.200")],
        bridge_vlans: [1, 9].map(|index| (index, ranges.clone())).into(),
        ..Network::default()
    };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    let own = own.iter().filter(|own| own.kind == AddressKind::Own);
    let own: Vec<_> = own.map(|own| (own.scope, own.address.to_string())).collect();
    let expected = [(Scope::new(1, 0), "192.0.2.9"), (Scope::new(1, 100), "192.0.2.100")];
    assert_eq!(own, expected.map(|(scope, text)| (scope, text.to_owned())));
}

#[test]
fn in_vlans_of_a_port_what_is_for_the_ports_mac_address_is_the_kernels() {
    let on_port = Some(Vlan { parent: 1, id: 100, service: false });
    for (mac, active, kind, others) in [
        ([4; 6], true, AddressKind::Anywhere, &[(0, 2), (100, 2), (100, 6)][..]),
        ([2; 6], true, AddressKind::Own, &[(100, 6)]),
        // The bridge takes nothing in, and the VLAN device does.
        ([4; 6], false, AddressKind::Anywhere, &[(100, 2), (100, 6)]),
    ] {
        let network = Network {
            links: vec![
                Link { controller: Some(9), active, ..link(1, true, None) },
                Link { mac: Some([6; 6]), ..link(2, true, on_port) },
                Link { kind: Some(InfoKind::Bridge), mac: Some(mac), ..link(9, true, None) },
            ],
            addresses: vec![address(2, "192.0.2.2"), address(9, "192.0.2.9")],
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(kind_of(&own, Scope::new(1, 100), "192.0.2.2"), Some(kind), "{mac:?} {active}");
        let of_macs: Vec<_> = own.iter().filter(|own| own.is_mac()).copied().collect();
        let expected = others.iter().map(|(vlan, mac)| OwnAddress::of_mac([*mac; 6], Scope::new(1, *vlan)));
        assert_eq!(of_macs, expected.collect::<Vec<_>>(), "{mac:?} {active}");
    }
}

#[test]
fn on_a_locked_port_of_a_bridge_all_is_the_kernels_and_the_bridges_mac_address_another_one_of_the_hosts() {
    for (locked, kind, others) in
        [(false, AddressKind::Own, &[2][..]), (true, AddressKind::Anywhere, &[2, 4])]
    {
        let network = Network {
            links: vec![
                Link { controller: Some(9), active: true, locked, ..link(1, true, None) },
                Link { kind: Some(InfoKind::Bridge), mac: Some([4; 6]), ..link(9, true, None) },
            ],
            addresses: vec![address(9, "192.0.2.9")],
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(kind_of(&own, Scope::new(1, 0), "192.0.2.9"), Some(kind), "{locked}");
        let of_macs: Vec<_> = own.iter().filter(|own| own.is_mac()).copied().collect();
        let expected = others.iter().map(|mac| OwnAddress::of_mac([*mac; 6], Scope::new(1, 0)));
        assert_eq!(of_macs, expected.collect::<Vec<_>>(), "{locked}");
    }
}

#[test]
fn below_a_macvlan_that_takes_its_frames_no_mac_address_is_the_hosts() {
    let other = Link {
        takes_below: true,
        kind: Some(InfoKind::MacVlan),
        lower: Some(1),
        mac: Some([4; 6]),
        ..link(2, true, None)
    };
    for takes_below in [false, true] {
        let links = vec![link(1, true, None), Link { takes_below, ..other.clone() }];
        let network = Network { links, ..Network::default() };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(own.iter().filter(|own| own.is_mac()).count(), usize::from(!takes_below));
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
        ..Network::default()
    };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    let anywhere: Vec<_> =
        own.iter().filter(|own| own.kind == AddressKind::Host).map(|own| own.address.to_string()).collect();
    assert_eq!(anywhere, ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn with_vrfs_what_another_interface_has_may_be_another_hosts() {
    for (kind, expected) in [(InfoKind::Veth, AddressKind::Host), (InfoKind::Vrf, AddressKind::Somewhere)] {
        let other = Link { kind: Some(kind), ..link(3, true, None) };
        let network = Network {
            links: vec![link(1, true, None), link(2, true, None), other],
            addresses: vec![address(2, "192.0.2.2")],
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(kind_of(&own, Scope::ANYWHERE, "192.0.2.2"), Some(expected));
    }
}

#[test]
fn an_address_counts_elsewhere_by_its_interface_its_scope_and_its_routing_table() {
    let loopback = Link { loopback: true, ..link(1, true, None) };
    let vrf = Link { kind: Some(InfoKind::Vrf), ..link(9, true, None) };
    let other = || link(3, true, None);
    let in_vrf = |link: Link| Link { controller: Some(9), ..link };
    let (untagged, anywhere) = (Scope::new(1, 0), Scope::ANYWHERE);
    let local = |ifindex| Address { global: false, ..address(ifindex, "192.0.2.9") };
    for (what, links, of, scope, expected) in [
        (
            "loopback",
            vec![loopback.clone()],
            address(1, "192.0.2.9"),
            anywhere,
            Some(AddressKind::Everywhere),
        ),
        ("another", vec![other()], address(3, "192.0.2.9"), anywhere, Some(AddressKind::Host)),
        ("of the host alone", vec![loopback.clone()], local(1), anywhere, Some(AddressKind::Anywhere)),
        ("down", vec![link(3, false, None)], address(3, "192.0.2.9"), anywhere, Some(AddressKind::Anywhere)),
        (
            "loopback, VRFs",
            vec![loopback, vrf.clone()],
            address(1, "192.0.2.9"),
            untagged,
            Some(AddressKind::Everywhere),
        ),
        (
            "another, VRFs",
            vec![other(), vrf.clone()],
            address(3, "192.0.2.9"),
            untagged,
            Some(AddressKind::Host),
        ),
        ("of a VRF", vec![in_vrf(other()), vrf.clone()], address(3, "192.0.2.9"), untagged, None),
        ("the VRF itself", vec![vrf], address(9, "192.0.2.9"), untagged, None),
    ] {
        let mut network = Network { links, addresses: vec![of], ..Network::default() };
        network.links.push(link(2, true, None));
        let attached = network.links.last().expect("it is there");
        let own = own_addresses(&network, &[(1, attached)], &[]);
        assert_eq!(kind_of(&own, scope, "192.0.2.9"), expected, "{what}");
    }
    let vrf = Link { kind: Some(InfoKind::Vrf), ..link(9, true, None) };
    let network = Network {
        links: vec![in_vrf(link(2, true, None)), in_vrf(other()), vrf],
        addresses: vec![address(3, "192.0.2.3"), address(9, "192.0.2.9")],
        ..Network::default()
    };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    assert_eq!(kind_of(&own, untagged, "192.0.2.3"), Some(AddressKind::Host), "of the same VRF");
    assert_eq!(kind_of(&own, untagged, "192.0.2.9"), Some(AddressKind::Everywhere), "the VRF's own");
}

#[test]
fn broadcast_and_anycast_addresses_of_another_interface_are_the_hosts_anywhere_while_it_is_up() {
    let group = |text: &str| Group { ifindex: 2, address: text.parse().expect("a group") };
    for up in [true, false] {
        let wide = |text| Address { prefix_len: 24, ..address(2, text) };
        let network = Network {
            links: vec![link(1, true, None), link(2, up, None)],
            addresses: vec![
                wide("198.51.100.1"),
                Address { broadcast: Some(Ipv4Addr::BROADCAST), ..wide("127.0.0.1") },
                Address { broadcast: Some(Ipv4Addr::BROADCAST), ..wide("203.0.113.1") },
                address(2, "2001:db8:e::1"),
            ],
            groups: ["2001:db8:e::", "fe80::", "ff02::1", "224.0.0.9"].map(group).to_vec(),
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        let of = |text| kind_of(&own, Scope::ANYWHERE, text);
        let while_up = Some(AddressKind::Anywhere).filter(|_| up);
        assert_eq!(of("198.51.100.255"), while_up);
        assert_eq!(of("203.0.113.255"), while_up);
        assert_eq!(of("2001:db8:e::"), Some(AddressKind::Anywhere), "the kernel lists it while it is there");
        for text in ["255.255.255.255", "127.0.0.255", "fe80::", "ff02::1", "224.0.0.9"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}

#[test]
fn an_ipv6_address_that_stays_on_an_interface_that_is_down_is_nobodys() {
    let gated = ["2001:db8::/32".parse().expect("a prefix")];
    for (up, gated, expected) in [
        (true, &[][..], [Some(AddressKind::Host); 2]),
        (false, &[], [Some(AddressKind::Anywhere), None]),
        (false, &gated, [Some(AddressKind::Anywhere), None]),
    ] {
        let network = Network {
            links: vec![link(1, true, None), link(2, up, None)],
            addresses: ["198.51.100.1", "2001:db8:e::1"].map(|text| address(2, text)).to_vec(),
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], gated);
        let found = ["198.51.100.1", "2001:db8:e::1"].map(|text| kind_of(&own, Scope::ANYWHERE, text));
        assert_eq!(found, expected, "up: {up}");
    }
}

#[test]
fn what_comes_in_through_a_vrf_or_a_bond_that_is_down_is_the_kernels() {
    let silent = Some(AddressKind::Anywhere);
    for (kind, up, own, of_controller) in [
        (InfoKind::Vrf, true, Some(AddressKind::Own), Some(AddressKind::Everywhere)),
        (InfoKind::Vrf, false, silent, silent),
        (InfoKind::Bond, true, Some(AddressKind::Own), Some(AddressKind::Own)),
        (InfoKind::Bond, false, Some(AddressKind::Own), silent),
        (InfoKind::Team, false, Some(AddressKind::Own), silent),
    ] {
        let is_vrf = kind == InfoKind::Vrf;
        let what = format!("{kind}, up: {up}");
        let network = Network {
            links: vec![
                Link { controller: Some(9), active: true, ..link(1, true, None) },
                Link { kind: Some(kind), ..link(9, up, None) },
            ],
            addresses: vec![address(1, "192.0.2.1"), address(9, "192.0.2.9")],
            ..Network::default()
        };
        let interfaces: Vec<_> = (1..).zip(&network.links).collect();
        let found = own_addresses(&network, &interfaces, &[]);
        assert_eq!(kind_of(&found, Scope::new(1, 0), "192.0.2.1"), own, "{what}");
        let slot = if is_vrf { 1 } else { 2 };
        assert_eq!(kind_of(&found, Scope::new(slot, 0), "192.0.2.9"), of_controller, "{what}");
    }
}

#[test]
fn what_comes_in_where_no_mac_addresses_are_asked_for_is_the_kernels() {
    let port = || Link { controller: Some(9), active: true, ..link(1, true, None) };
    for (without_arp, expected) in [(false, AddressKind::Own), (true, AddressKind::Anywhere)] {
        let network = Network {
            links: vec![port(), Link { kind: Some(InfoKind::Bridge), without_arp, ..link(9, true, None) }],
            addresses: vec![address(9, "192.0.2.1")],
            ..Network::default()
        };
        let found = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(kind_of(&found, Scope::new(1, 0), "192.0.2.1"), Some(expected), "{without_arp}");
    }
}

#[test]
fn what_comes_in_by_a_vlan_device_that_stays_up_above_a_bond_that_is_down_is_the_kernels() {
    let vlan = Some(Vlan { parent: 9, id: 100, service: false });
    for (up, expected) in [(true, AddressKind::Own), (false, AddressKind::Anywhere)] {
        let network = Network {
            links: vec![Link { kind: Some(InfoKind::Bond), ..link(9, up, None) }, link(2, true, vlan)],
            addresses: vec![address(2, "192.0.2.1")],
            ..Network::default()
        };
        let found = own_addresses(&network, &[(1, &network.links[0])], &[]);
        assert_eq!(kind_of(&found, Scope::new(1, 100), "192.0.2.1"), Some(expected), "up: {up}");
    }
}

fn kind_of(own: &[OwnAddress], scope: Scope, text: &str) -> Option<AddressKind> {
    let address: IpAddr = text.parse().expect("an address");
    own.iter().find(|own| own.scope == scope && own.address == address).map(|own| own.kind)
}

#[test]
fn where_a_rule_of_routing_comes_first_all_is_the_kernels_that_the_host_has_anywhere() {
    let interface = || link(1, true, None);
    let loopback = Link { loopback: true, ..link(2, true, None) };
    for (about, v4) in [("if1", Some(AddressKind::Anywhere)), ("if3", None)] {
        let network = Network {
            links: vec![interface(), loopback.clone()],
            addresses: [(1, "192.0.2.1"), (2, "203.0.113.5"), (2, "2001:db8::5")]
                .map(|(ifindex, text)| address(ifindex, text))
                .to_vec(),
            routing_rules: RoutingRules::refusing(about),
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        let of = |text| kind_of(&own, Scope::new(1, 0), text);
        assert_eq!(of("192.0.2.1"), v4.or(Some(AddressKind::Own)), "{about}");
        assert_eq!((of("203.0.113.5"), of("2001:db8::5")), (v4, None), "{about}");
    }
}

#[test]
fn an_own_address_that_is_also_a_broadcast_address_is_a_group() {
    let wide = Address { prefix_len: 24, ..address(1, "192.0.2.2") };
    let elsewhere = Address { prefix_len: 24, ..address(2, "198.51.100.2") };
    let addresses = [wide, elsewhere, address(1, "192.0.2.255"), address(1, "198.51.100.255")];
    for first in 0..addresses.len() {
        let mut addresses = addresses.to_vec();
        addresses.rotate_left(first);
        let network = Network { links: vec![link(1, true, None)], addresses, ..Network::default() };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        for (text, kind) in [
            ("192.0.2.2", AddressKind::Own),
            ("192.0.2.255", AddressKind::Group),
            ("198.51.100.255", AddressKind::Group),
        ] {
            assert_eq!(kind_of(&own, Scope::new(1, 0), text), Some(kind), "{text}, {first}");
        }
    }
}

#[test]
fn the_broadcast_address_of_a_prefix_is_that_of_the_other_ends_where_there_is_one() {
    let peer = "198.51.100.1".parse().ok();
    let addresses = vec![Address { peer, prefix_len: 24, ..address(1, "192.0.2.2") }];
    let network = Network { links: vec![link(1, true, None)], addresses, ..Network::default() };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    let of = |text| kind_of(&own, Scope::new(1, 0), text);
    assert_eq!((of("198.51.100.255"), of("192.0.2.255")), (Some(AddressKind::Group), None));
}

#[test]
fn what_another_interface_has_is_the_kernels_where_that_takes_in_no_ipv6() {
    let loopback = Link { loopback: true, ..link(9, true, None) };
    let vlan = Some(Vlan { parent: 1, id: 100, service: false });
    for (without_ipv6, of_vlan) in [(false, None), (true, Some(AddressKind::Anywhere))] {
        let device = Link { without_ipv6, ..link(2, true, vlan) };
        let network = Network {
            links: vec![link(1, true, None), device, loopback.clone()],
            addresses: ["192.0.2.9", "2001:db8::9"].map(|text| address(9, text)).to_vec(),
            ..Network::default()
        };
        let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
        let of = |scope| ["192.0.2.9", "2001:db8::9"].map(|text| kind_of(&own, scope, text));
        assert_eq!(of(Scope::new(1, 100)), [None, of_vlan]);
        assert_eq!(of(Scope::ANYWHERE), [Some(AddressKind::Everywhere); 2]);
    }
}

#[test]
fn an_address_that_a_check_decides_about_is_own_nowhere_and_no_source_of_others() {
    let loopback = Link { loopback: true, ..link(9, true, None) };
    let vlan = Some(Vlan { parent: 1, id: 100, service: false });
    let vrf = || Link { kind: Some(InfoKind::Vrf), ..link(7, true, None) };
    let addresses =
        [(1, "192.0.2.1"), (2, "192.0.2.2"), (9, "192.0.2.9"), (1, "198.51.100.1"), (1, "fe80::1")];
    let mut network = Network {
        links: vec![link(1, true, None), link(2, true, vlan), loopback],
        addresses: addresses.map(|(ifindex, text)| address(ifindex, text)).to_vec(),
        ..Network::default()
    };
    let gated = ["192.0.2.0/24", "fe80::/10"].map(|net| net.parse().expect("a prefix"));
    for anywhere in [AddressKind::Anywhere, AddressKind::Somewhere] {
        let own = own_addresses(&network, &[(1, &network.links[0])], &gated);
        let own_ones = own.iter().filter(|own| own.kind == AddressKind::Own);
        let own_ones: Vec<_> = own_ones.map(|own| own.address.to_string()).collect();
        assert_eq!(own_ones, ["198.51.100.1", "fe80::1"], "others, and those that each link has");
        for (_, text) in &addresses[..3] {
            assert_eq!(kind_of(&own, Scope::ANYWHERE, text), Some(anywhere), "{text}");
        }
        network.links.push(vrf());
    }
    let own = own_addresses(&network, &[(1, &network.links[0])], &gated);
    assert_eq!(kind_of(&own, Scope::new(1, 0), "192.0.2.9"), Some(AddressKind::Anywhere), "with VRFs");
    network.addresses =
        vec![Address { prefix_len: 24, ..address(1, "192.0.2.2") }, address(1, "192.0.2.255")];
    let own = own_addresses(&network, &[(1, &network.links[0])], &gated);
    let of_broadcast = kind_of(&own, Scope::new(1, 0), "192.0.2.255");
    assert_eq!(
        of_broadcast,
        Some(AddressKind::Group),
        "what is a broadcast address, too, stays the kernel's"
    );
}

#[test]
fn groups_that_an_interface_has_joined_are_those_of_its_scope() {
    let vlan = Some(Vlan { parent: 1, id: 100, service: false });
    let group = |ifindex, text: &str| Group { ifindex, address: text.parse().expect("a group") };
    let network = Network {
        links: vec![link(1, true, None), link(2, true, vlan)],
        addresses: Vec::new(),
        groups: vec![group(1, "ff02::1:ff00:2"), group(2, "224.0.0.251"), group(3, "224.0.0.9")],
        ..Network::default()
    };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    let (untagged, tagged) = (Scope::new(1, 0), Scope::new(1, 100));
    assert_eq!(kind_of(&own, untagged, "ff02::1:ff00:2"), Some(AddressKind::Group));
    assert_eq!(kind_of(&own, tagged, "224.0.0.251"), Some(AddressKind::Group));
    for (scope, text) in [(untagged, "224.0.0.251"), (tagged, "ff02::1:ff00:2"), (untagged, "224.0.0.9")] {
        assert_eq!(kind_of(&own, scope, text), None, "{text}");
    }
}

#[test]
fn an_own_address_that_is_also_an_anycast_address_is_own() {
    let group = |text: &str| Group { ifindex: 1, address: text.parse().expect("an address") };
    let network = Network {
        links: vec![link(1, true, None)],
        addresses: vec![address(1, "2001:db8::"), address(1, "2001:db8:1::1")],
        groups: vec![group("2001:db8::"), group("2001:db8:1::")],
        ..Network::default()
    };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    let scope = Scope::new(1, 0);
    assert_eq!(kind_of(&own, scope, "2001:db8::"), Some(AddressKind::Own));
    assert_eq!(kind_of(&own, scope, "2001:db8:1::"), Some(AddressKind::Group));
}

#[test]
fn entries_grow_with_vlans_and_addresses_and_not_with_their_product() {
    let count = |n: u32| {
        let vlan = |id| Some(Vlan { parent: 1, id, service: false });
        let mut links = vec![link(1, true, None)];
        links.extend((0..n).map(|i| link(2 + i, true, vlan(1 + i as u16))));
        let addresses =
            (0..n).map(|i| address(2 + i, &Ipv4Addr::from(0x0a00_0000 + i).to_string())).collect();
        let network = Network { links, addresses, ..Network::default() };
        own_addresses(&network, &[(1, &network.links[0])], &[]).len() as u32
    };
    // One for the VLAN, one for its address, and one for the address anywhere.
    assert_eq!((count(100), count(400)), (300, 1200));
}

#[test]
fn own_addresses_of_attached_interfaces_come_before_those_of_others() {
    let network = Network {
        links: vec![link(1, true, None), link(2, true, None)],
        addresses: vec![address(2, "10.0.0.1"), address(1, "192.0.2.1"), address(2, "10.0.0.2")],
        groups: vec![Group { ifindex: 1, address: "224.0.0.1".parse().expect("a group") }],
        ..Network::default()
    };
    let own = own_addresses(&network, &[(1, &network.links[0])], &[]);
    let texts: Vec<_> = own.iter().map(|own| own.address.to_string()).collect();
    assert_eq!(texts, ["192.0.2.1", "192.0.2.1", "224.0.0.1", "10.0.0.1", "10.0.0.2"]);
}
