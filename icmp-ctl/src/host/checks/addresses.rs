//! Addresses of an interface, and whole prefixes of the host, that will not be answered, and why.
//!
//! Owns the messages. `host/addresses.rs` decides which addresses count where.

use std::net::IpAddr;

use icmp_common::abi::{AddressKind, Scope};
use ipnet::IpNet;

use crate::finding::{Finding, State};
use crate::host::addresses::{is_for_others, own_addresses};
use crate::host::interfaces::WITHOUT_IPV6;
use crate::host::netlink::{Link, Network, Unusable};

const CHECK: &str = "addresses";

/// A finding for each reason there is.
pub(super) fn unanswered(network: &Network, link: &Link) -> Vec<Finding> {
    let of_link = |unusable: &&Unusable| unusable.ifindex == link.index;
    let unusable = |duplicate: bool| {
        let unusable =
            network.unusable.iter().filter(of_link).filter(|unusable| unusable.duplicate == duplicate);
        unusable.map(|unusable| unusable.address).collect::<Vec<_>>()
    };
    // Any slot will do.
    let own = own_addresses(network, &[(1, link)], &[]);
    let is_groups = |address: &IpAddr| {
        own.iter().any(|own| {
            own.address == *address && own.scope == Scope::new(1, 0) && own.kind == AddressKind::Group
        })
    };
    let is_loopback = |index: u32| network.links.iter().any(|other| other.index == index && other.loopback);
    let without_route = network.without_route.iter().filter(|(ifindex, _)| *ifindex == link.index);
    let without_route = without_route.map(|(_, address)| *address);
    let disputed =
        network.disputed.iter().filter(|(ifindex, _)| *ifindex == link.index || is_loopback(*ifindex));
    let disputed = disputed.map(|(_, address)| *address);
    let of_link = network.addresses.iter().filter(|address| address.ifindex == link.index);
    let of_link: Vec<_> = of_link.map(|address| address.address).collect();
    let broadcast: Vec<_> =
        of_link.iter().copied().filter(|address| !address.is_multicast() && is_groups(address)).collect();
    let of_loopback = network.addresses.iter().filter(|address| is_loopback(address.ifindex));
    let kernels = of_loopback
        .map(|address| address.address)
        .filter(|address| link.without_ipv6 && address.is_ipv6() && is_for_others(address));
    [
        (State::Broken, unusable(true), "another host on the link has it, and one of the two has to change"),
        (
            State::Unknown,
            unusable(false),
            "the kernel is finding out whether another host has it, and does not use it yet",
        ),
        (
            State::Slow,
            broadcast,
            "it is also the broadcast address of a prefix of this host, so the kernel decides",
        ),
        (
            State::Slow,
            of_link.into_iter().filter(|address| !is_for_others(address)).collect(),
            "the kernel answers no other host from it",
        ),
        (State::Slow, kernels.collect(), WITHOUT_IPV6),
        (
            State::Unknown,
            without_route.collect(),
            "it has no local route any more, and without one in another table the kernel does not take in what is for it; taking the address off and \
             adding it again brings the route back",
        ),
        (
            State::Slow,
            disputed.collect(),
            "the local table has another route for it, or one for some packets alone (`ip route show table local`), so the kernel decides",
        ),
    ]
    .into_iter()
    .filter_map(|(state, addresses, why)| {
        let first = addresses.first()?;
        let what = match addresses.len() {
            1 => format!("{first} is not answered"),
            number => format!("{first} and {} more are not answered", number - 1),
        };
        Some(Finding::new(CHECK, state, what, why).on(&link.name))
    })
    .collect()
}

/// The prefixes that the kernel takes in as a whole, without those that these VIPs cover.
pub fn prefixes_left(network: &Network, vips: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let vips = IpNet::aggregate(&vips.collect());
    let is_covered = |net: &&IpNet| vips.iter().any(|vip| vip.contains(*net));
    network.local_prefixes.iter().filter(|net| !is_covered(net)).copied().collect()
}

/// That the kernel takes in these prefixes as a whole.
pub fn taken_in_whole(prefixes: &[IpNet]) -> Option<Finding> {
    let first = prefixes.first()?;
    let (whole, them) = match prefixes.len() {
        1 => (format!("all of {first}, because of a local route"), "it"),
        number => (format!("all of {first} and {} more, because of local routes", number - 1), "them"),
    };
    let why = format!(
        "pings to {them} are left to the kernel without a limit, and pings that claim to come from {them} are answered; with `vips = [\"{first}\"]` \
         in [responder] pings to {first} are limited and answered"
    );
    Some(Finding::new(CHECK, State::Slow, format!("the kernel takes in {whole}"), why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::Address;

    #[test]
    fn whole_prefixes_are_told_where_no_vips_cover_them() {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let local_prefixes = ["203.0.113.0/24", "2001:db8:1::/64"].map(net).to_vec();
        let network = Network { local_prefixes, ..Network::default() };
        let both: &[&str] = &["203.0.113.0/24", "2001:db8:1::/64"];
        for (vips, left) in [
            (vec![], both),
            (vec!["203.0.113.0/25"], both),
            (vec!["203.0.113.0/25", "203.0.113.128/25"], &both[1..]),
            (vec!["2001:db8::/32"], &both[..1]),
            (vec!["0.0.0.0/0", "2001:db8:1::/64"], &[]),
        ] {
            let found = prefixes_left(&network, vips.iter().map(|vip| net(vip)));
            assert_eq!(found, left.iter().map(|text| net(text)).collect::<Vec<_>>(), "{vips:?}");
            let told = taken_in_whole(&found).map(|finding| finding.what);
            let expected = match left {
                [] => None,
                [one] => Some(format!("the kernel takes in all of {one}, because of a local route")),
                [first, ..] => {
                    Some(format!("the kernel takes in all of {first} and 1 more, because of local routes"))
                }
            };
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn addresses_that_are_not_answered_are_told_by_why() {
        let link = Link { index: 3, name: "eth0".to_owned(), up: true, ..Link::default() };
        let address = |text: &str, prefix_len| Address {
            ifindex: 3,
            address: text.parse().expect("an address"),
            peer: None,
            prefix_len,
            broadcast: None,
            global: true,
        };
        let unusable = |text: &str, ifindex, duplicate| Unusable {
            ifindex,
            address: text.parse().expect("an address"),
            duplicate,
        };
        let network = Network {
            links: vec![link.clone()],
            addresses: vec![address("192.0.2.1", 24), address("192.0.2.255", 32), address("127.0.0.9", 8)],
            unusable: vec![
                unusable("2001:db8::1", 3, true),
                unusable("2001:db8::2", 3, true),
                unusable("2001:db8::3", 3, false),
                unusable("2001:db8::4", 9, true),
            ],
            without_route: [(3, "192.0.2.40"), (9, "192.0.2.41")]
                .map(|(ifindex, text)| (ifindex, text.parse().expect("an address")))
                .into(),
            disputed: [(3, "192.0.2.42"), (9, "192.0.2.43")]
                .map(|(ifindex, text)| (ifindex, text.parse().expect("an address")))
                .into(),
            ..Network::default()
        };
        let found = unanswered(&network, &link);
        let told: Vec<_> = found.iter().map(|finding| (finding.state, finding.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (State::Broken, "2001:db8::1 and 1 more are not answered"),
                (State::Unknown, "2001:db8::3 is not answered"),
                (State::Slow, "192.0.2.255 is not answered"),
                (State::Slow, "127.0.0.9 is not answered"),
                (State::Unknown, "192.0.2.40 is not answered"),
                (State::Slow, "192.0.2.42 is not answered"),
            ]
        );
        assert_eq!(
            unanswered(&Network { addresses: vec![address("192.0.2.1", 24)], ..Network::default() }, &link),
            []
        );
        let of_loopback = ["::1", "203.0.113.1", "2001:db8:1::1"];
        let of_loopback = of_loopback.map(|text| Address { ifindex: 1, ..address(text, 32) }).to_vec();
        let loopback = Link { index: 1, loopback: true, ..link.clone() };
        let network = Network { links: vec![loopback], addresses: of_loopback, ..Network::default() };
        for (without_ipv6, expected) in [(false, &[][..]), (true, &["2001:db8:1::1 is not answered"])] {
            let found = unanswered(&network, &Link { without_ipv6, ..link.clone() });
            assert_eq!(found.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>(), expected);
        }
    }
}
