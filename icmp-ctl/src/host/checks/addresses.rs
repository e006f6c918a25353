//! Addresses of an interface that will not be answered, and why.
//!
//! Owns what is said. Which addresses count where is `host/addresses.rs`'s.

use std::net::IpAddr;

use icmp_common::abi::{AddressKind, Scope};

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
    let of_link = network.addresses.iter().filter(|address| address.ifindex == link.index);
    let of_link: Vec<_> = of_link.map(|address| address.address).collect();
    let broadcast: Vec<_> =
        of_link.iter().copied().filter(|address| !address.is_multicast() && is_groups(address)).collect();
    let is_loopback = |index: u32| network.links.iter().any(|other| other.index == index && other.loopback);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::Address;

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
