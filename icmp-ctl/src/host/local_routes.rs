//! Routes by which the kernel takes packets in (`local`, `broadcast` and `anycast`), besides those that it makes for each address by itself.
//!
//! Owns which of them stand for an address or a group and which for a whole prefix, which addresses have none, and for which others may come first.
//! `checks/addresses.rs` reports prefixes and these addresses.

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
const SOURCE_LEN: usize = 2;
const TOS: usize = 3;
const PROTOCOL: usize = 5;
const TYPE: usize = 7;
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
    kind: Kind,
    /// The kernel has made it for an address.
    is_kernels: bool,
    /// It holds for all packets, and not for those with a TOS or from a source alone.
    is_for_all: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    /// A broadcast or anycast address.
    Group,
    /// The kernel takes nothing in by it.
    Other,
}

/// What the routes of one prefix say together.
#[derive(Default)]
struct Routes {
    /// The kernel takes packets in by one of them.
    take_in: bool,
    /// One of type `local` holds for all packets.
    are_local: bool,
    /// One is of another type, and not one that the kernel has made for an address: which is the first is not looked at.
    are_disputed: bool,
}

/// What they say.
pub(super) struct LocalRoutes {
    /// Addresses that have a route and that the host knows by nothing else, each with the index of its interface.
    pub(super) addresses: Vec<(u32, IpAddr)>,
    /// Broadcast and anycast addresses, each with the index of its interface.
    pub(super) groups: Vec<(u32, IpAddr)>,
    /// Whole prefixes that other hosts can send to.
    pub(super) prefixes: Vec<IpNet>,
    /// What all of them are for, by the VRF whose table they are in.
    all: BTreeMap<Option<u32>, BTreeMap<IpNet, Routes>>,
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

    /// Those of these addresses that have one, and of which another route may decide: one of the same prefix, or of a longer one, that the kernel takes
    /// nothing in by; or the other way round, where theirs is not for all packets (`fib_table_lookup` in net/ipv4/fib_trie.c).
    pub(super) fn disputed(
        &self,
        addresses: impl Iterator<Item = (u32, IpAddr)>,
        domains: &BTreeMap<u32, Option<u32>>,
    ) -> BTreeSet<(u32, IpAddr)> {
        let is_disputed = |(ifindex, address): &(u32, IpAddr)| {
            domains
                .get(ifindex)
                .is_some_and(|domain| self.have(*address, *domain) && !self.are_sure(*address, *domain))
        };
        addresses.filter(is_disputed).collect()
    }

    fn have(&self, address: IpAddr, vrf: Option<u32>) -> bool {
        let Some(nets) = self.all.get(&vrf) else { return false };
        nets.get(&address.into()).is_some_and(|routes| routes.take_in)
            || nets.iter().any(|(net, routes)| routes.take_in && net.contains(&address))
    }

    /// Whether a packet for an address is surely taken in by a route of type `local`.
    fn are_sure(&self, address: IpAddr, vrf: Option<u32>) -> bool {
        let Some(nets) = self.all.get(&vrf) else { return false };
        let longest = nets.get(&address.into()).or_else(|| {
            let around = nets.iter().filter(|(net, _)| net.contains(&address));
            around.max_by_key(|(net, _)| net.prefix_len()).map(|(_, routes)| routes)
        });
        longest.is_some_and(|routes| routes.are_local && !routes.are_disputed)
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
    let (mut addresses, mut groups, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    let mut all: BTreeMap<_, BTreeMap<_, Routes>> = BTreeMap::new();
    for Route { vrf, ifindex, net, kind, is_kernels, is_for_all } in routes {
        let of_net = all.entry(vrf).or_default().entry(net).or_default();
        of_net.take_in |= kind != Kind::Other;
        of_net.are_local |= kind == Kind::Local && is_for_all;
        of_net.are_disputed |= kind != Kind::Local && !is_kernels;
        let address = net.addr();
        let of_interface = ifindex.map(|index| (index, address));
        match kind {
            Kind::Other => {}
            _ if net.prefix_len() != net.max_prefix_len() => {
                prefixes.extend(Some(net).filter(|_| !is_of_host_or_link(address)));
            }
            Kind::Group => groups.extend(of_interface),
            Kind::Local if is_kernels || is_known(&address) => {}
            Kind::Local => addresses.extend(of_interface),
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    LocalRoutes { addresses, groups, prefixes, all }
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
    let kind = match header[TYPE] {
        libc::RTN_LOCAL => Kind::Local,
        libc::RTN_BROADCAST | libc::RTN_ANYCAST => Kind::Group,
        _ => Kind::Other,
    };
    let is_kernels = header[PROTOCOL] == libc::RTPROT_KERNEL;
    Some(Route {
        vrf,
        ifindex,
        net,
        kind,
        is_kernels,
        is_for_all: header[TOS] == 0 && header[SOURCE_LEN] == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::attribute;

    /// As the kernel tells of a route that leads to interface 7.
    fn body(net: IpNet, protocol: u8) -> Vec<u8> {
        let family = if net.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let mut body =
            vec![family as u8, net.prefix_len(), 0, 0, 0, protocol, 0, libc::RTN_LOCAL, 0, 0, 0, 0];
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
    fn an_address_is_disputed_where_another_route_may_come_first_or_its_own_is_not_for_all_packets() {
        let [own, around, default] = ["192.0.2.2/32", "192.0.2.0/24", "0.0.0.0/0"];
        let (by_kernel, by_user) = (libc::RTPROT_KERNEL, libc::RTPROT_BOOT);
        let local = (own, libc::RTN_LOCAL, 0, by_kernel);
        let local_by = |net, tos, source| (net, libc::RTN_LOCAL, [tos, source], by_user);
        let other = |net, kind| (net, kind, [0; 2], by_user);
        let local = (local.0, local.1, [local.2; 2], local.3);
        for (what, routes, expected) in [
            ("its own alone", vec![local], (false, false)),
            ("none", vec![other(default, libc::RTN_UNREACHABLE)], (true, false)),
            ("a blackhole", vec![local, other(own, libc::RTN_BLACKHOLE)], (false, true)),
            ("a throw, in front", vec![other(own, libc::RTN_THROW), local], (false, true)),
            ("a broadcast", vec![local, other(own, libc::RTN_BROADCAST)], (false, true)),
            ("a unicast", vec![local, other(own, libc::RTN_UNICAST)], (false, true)),
            (
                "the kernel's anycast",
                vec![local, (own, libc::RTN_ANYCAST, [0; 2], by_kernel)],
                (false, false),
            ),
            ("a shorter prefix", vec![local, other(around, libc::RTN_BLACKHOLE)], (false, false)),
            ("a longer prefix", vec![other(own, libc::RTN_BLACKHOLE), local_by(around, 0, 0)], (false, true)),
            ("for a TOS alone", vec![local_by(own, 0x10, 0)], (false, true)),
            ("for sources alone", vec![local_by(own, 0, 24)], (false, true)),
            ("for a TOS, too", vec![local, local_by(own, 0x10, 0)], (false, false)),
        ] {
            let read = |(net, kind, [tos, source], protocol): (&str, u8, [u8; 2], u8)| {
                let mut body = body(net.parse().expect("a prefix"), protocol);
                (body[TYPE], body[TOS], body[SOURCE_LEN]) = (kind, tos, source);
                route(&body, None, |_, _| true).expect("a route")
            };
            let routes = sorted(routes.into_iter().map(read).collect(), |_| true);
            let address = || [(1, "192.0.2.2".parse().expect("an address"))].into_iter();
            let domains = [(1, None)].into();
            let found = (routes.missing(address(), &domains), routes.disputed(address(), &domains));
            assert_eq!((!found.0.is_empty(), !found.1.is_empty()), expected, "{what}");
        }
    }

    #[test]
    fn a_broadcast_or_anycast_address_by_a_route_is_a_group_of_its_interface() {
        for (net, kind) in
            [("198.51.100.7/32", libc::RTN_BROADCAST), ("2001:db8:7::7/128", libc::RTN_ANYCAST)]
        {
            let net: IpNet = net.parse().expect("a prefix");
            for (kind, is_group) in [(kind, true), (libc::RTN_BLACKHOLE, false)] {
                let mut body = body(net, libc::RTPROT_BOOT);
                body[TYPE] = kind;
                let found = sorted(route(&body, None, |_, _| true).into_iter().collect(), |_| false);
                assert_eq!(found.groups, [(7, net.addr())][..usize::from(is_group)], "{net}");
                assert_eq!((found.addresses, found.prefixes), (vec![], vec![]), "{net}");
            }
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
