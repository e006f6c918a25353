//! Routes of type `local`, besides those that the kernel makes for each address by itself.
//!
//! Owns which of them stand for an address and which for a whole prefix, and which addresses have none. `checks/addresses.rs` reports prefixes
//! and these addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;
use nix::libc;

use crate::kernel::netlink::{attributes, local_routes};

/// Length of struct rtmsg, and where its members are.
const HEADER: usize = 12;
const FAMILY: usize = 0;
const PREFIX_LEN: usize = 1;
const PROTOCOL: usize = 5;
/// Attributes (include/uapi/linux/rtnetlink.h).
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;

/// One of them.
struct Route {
    /// Index of the VRF whose table it is in.
    vrf: Option<u32>,
    /// `None` of one that leads to several.
    ifindex: Option<u32>,
    net: IpNet,
    /// The kernel has made it for an address.
    is_kernels: bool,
}

/// What they say.
pub(super) struct LocalRoutes {
    /// Addresses that have a route and that the host knows by nothing else, each with the index of its interface.
    pub(super) addresses: Vec<(u32, IpAddr)>,
    /// Whole prefixes that other hosts can send to.
    pub(super) prefixes: Vec<IpNet>,
    /// What all of them are for, by the VRF whose table they are in.
    all: BTreeMap<Option<u32>, BTreeSet<IpNet>>,
}

impl LocalRoutes {
    /// Those of these addresses, each with the index of its interface, that have none in the table that is looked at there, whatever interface a route
    /// leads to: that of a VRF, or the host's. Of interfaces that are not among the `domains` nothing is said.
    pub(super) fn missing(
        &self,
        addresses: impl Iterator<Item = (u32, IpAddr)>,
        domains: &BTreeMap<u32, Option<u32>>,
    ) -> BTreeSet<(u32, IpAddr)> {
        let is_missing = |(ifindex, address): &(u32, IpAddr)| {
            !address.is_multicast()
                && domains.get(ifindex).is_some_and(|domain| !self.have(*address, *domain))
        };
        addresses.filter(is_missing).collect()
    }

    fn have(&self, address: IpAddr, vrf: Option<u32>) -> bool {
        let Some(nets) = self.all.get(&vrf) else { return false };
        nets.contains(&address.into()) || nets.iter().any(|net| net.contains(&address))
    }
}

/// Those of the host and of its VRFs, each of which is an index and a table, without addresses that are known. A route in the table of a VRF is the
/// VRF's own where its interface is not in that.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn read(
    vrfs: &[(u32, u32)],
    is_in: impl Fn(u32, u32) -> bool,
    is_known: impl Fn(&IpAddr) -> bool,
) -> Result<LocalRoutes> {
    let mut routes = Vec::new();
    let main = (None, libc::RT_TABLE_LOCAL.into());
    for (vrf, table) in [main].into_iter().chain(vrfs.iter().map(|(vrf, table)| (Some(*vrf), *table))) {
        routes.extend(local_routes(table)?.iter().filter_map(|body| route(body, vrf, &is_in)));
    }
    Ok(sorted(routes, is_known))
}

fn sorted(routes: Vec<Route>, is_known: impl Fn(&IpAddr) -> bool) -> LocalRoutes {
    let (mut addresses, mut prefixes, mut all) = (Vec::new(), Vec::new(), BTreeMap::new());
    for Route { vrf, ifindex, net, is_kernels } in routes {
        all.entry(vrf).or_insert_with(BTreeSet::new).insert(net);
        let address = net.addr();
        if net.prefix_len() != net.max_prefix_len() {
            prefixes.extend(Some(net).filter(|_| !is_of_host_or_link(address)));
        } else if !is_kernels && !is_known(&address) {
            addresses.extend(ifindex.map(|index| (index, address)));
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    LocalRoutes { addresses, prefixes, all }
}

fn is_of_host_or_link(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    is_link_local || address.is_loopback() || address.is_multicast()
}

fn route(body: &[u8], vrf: Option<u32>, is_in: impl Fn(u32, u32) -> bool) -> Option<Route> {
    let header = body.get(..HEADER)?;
    let (mut destination, mut ifindex) = (None, None);
    for (kind, value) in attributes(&body[HEADER..]) {
        match kind {
            RTA_DST => destination = Some(value),
            RTA_OIF => ifindex = value.try_into().ok().map(u32::from_ne_bytes),
            _ => {}
        }
    }
    // A route for everything has no destination.
    let address: IpAddr = match i32::from(header[FAMILY]) {
        libc::AF_INET => <[u8; 4]>::try_from(destination.unwrap_or(&[0; 4])).ok().map(Ipv4Addr::from)?.into(),
        libc::AF_INET6 => {
            <[u8; 16]>::try_from(destination.unwrap_or(&[0; 16])).ok().map(Ipv6Addr::from)?.into()
        }
        _ => return None,
    };
    let net = IpNet::new(address, header[PREFIX_LEN]).ok()?;
    if let Some(vrf) = vrf {
        ifindex = ifindex.filter(|index| is_in(*index, vrf)).or(Some(vrf));
    }
    Some(Route { vrf, ifindex, net, is_kernels: header[PROTOCOL] == libc::RTPROT_KERNEL })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::attribute;

    /// As the kernel tells of a route that leads to interface 7.
    fn body(net: IpNet, protocol: u8) -> Vec<u8> {
        let family = if net.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let mut body = vec![family as u8, net.prefix_len(), 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0];
        body.extend(match net.addr() {
            IpAddr::V4(v4) => attribute(RTA_DST, &v4.octets()),
            IpAddr::V6(v6) => attribute(RTA_DST, &v6.octets()),
        });
        body.extend(attribute(RTA_OIF, &7_u32.to_ne_bytes()));
        body
    }

    #[test]
    fn a_route_of_one_address_is_an_address_and_a_longer_one_a_prefix_but_where_no_other_host_sends_to() {
        let own: IpAddr = "192.0.2.2".parse().expect("an address");
        for (net, protocol, exact, prefix) in [
            ("203.0.113.5/32", libc::RTPROT_STATIC, true, false),
            ("2001:db8:1::5/128", libc::RTPROT_BOOT, true, false),
            ("203.0.113.5/32", libc::RTPROT_KERNEL, false, false),
            ("192.0.2.2/32", libc::RTPROT_STATIC, false, false),
            ("203.0.113.0/24", libc::RTPROT_STATIC, false, true),
            ("203.0.113.0/24", libc::RTPROT_KERNEL, false, true),
            ("2001:db8:1::/64", libc::RTPROT_BOOT, false, true),
            ("127.0.0.0/8", libc::RTPROT_KERNEL, false, false),
            ("169.254.0.0/16", libc::RTPROT_STATIC, false, false),
            ("fe80::/64", libc::RTPROT_STATIC, false, false),
            ("224.0.0.0/4", libc::RTPROT_STATIC, false, false),
            ("ff00::/8", libc::RTPROT_STATIC, false, false),
        ] {
            let net: IpNet = net.parse().expect("a prefix");
            let route = route(&body(net, protocol), None, |_, _| false).expect("a route");
            let LocalRoutes { addresses, prefixes, .. } = sorted(vec![route], |address| *address == own);
            assert_eq!(addresses, [(7, net.addr())][..usize::from(exact)], "{net} by {protocol}");
            assert_eq!(prefixes, [net][..usize::from(prefix)], "{net} by {protocol}");
        }
    }

    #[test]
    fn a_route_in_the_table_of_a_vrf_is_of_its_interface_where_that_is_in_it_and_else_of_the_vrf() {
        let net: IpNet = "203.0.113.5/32".parse().expect("a prefix");
        for (vrf, is_in, ifindex) in [(None, false, 7), (Some(9), true, 7), (Some(9), false, 9)] {
            let route = route(&body(net, libc::RTPROT_STATIC), vrf, |_, _| is_in).expect("a route");
            let found = sorted(vec![route], |_| false).addresses;
            assert_eq!(found, [(ifindex, net.addr())], "{vrf:?} {is_in}");
        }
    }

    #[test]
    fn an_address_has_a_route_of_its_own_or_of_a_prefix_around_it_in_the_table_of_its_interface() {
        let of_main =
            ["192.0.2.2/32", "127.0.0.0/8", "2001:db8:1::/64", "198.51.100.1/32"].map(|net| (None, net));
        let of_vrf = ["192.0.2.40/32", "203.0.113.0/24", "2001:db8::40/128"].map(|net| (Some(9), net));
        let read = |(vrf, net): (Option<u32>, &str)| {
            route(&body(net.parse().expect("a prefix"), libc::RTPROT_KERNEL), vrf, |_, _| true)
        };
        let routes = sorted(of_main.into_iter().chain(of_vrf).filter_map(read).collect(), |_| false);
        let domains = [(1, None), (3, Some(9))].into();
        // By interface: one, one that is in a VRF, and one of which nothing is said.
        for (address, has) in [
            ("192.0.2.2", [true, false, true]),
            ("127.0.0.9", [true, false, true]),
            ("2001:db8:1::9", [true, false, true]),
            ("198.51.100.1", [true, false, true]),
            ("192.0.2.40", [false, true, true]),
            ("203.0.113.7", [false, true, true]),
            ("2001:db8::40", [false, true, true]),
            ("192.0.2.41", [false, false, true]),
            ("224.0.0.9", [true; 3]),
        ] {
            for (ifindex, has) in [1, 3, 2].into_iter().zip(has) {
                let address: IpAddr = address.parse().expect("an address");
                let missing = routes.missing([(ifindex, address)].into_iter(), &domains);
                assert_eq!(missing.is_empty(), has, "{address} of {ifindex}");
            }
        }
    }
}
