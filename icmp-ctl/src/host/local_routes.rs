//! Routes by which the kernel takes packets in as the host's own (type `local`), beside those that it makes for each address by itself.
//!
//! Owns which of them stand for an address and which for a whole prefix. Of prefixes `checks/addresses.rs` tells.

use std::collections::BTreeSet;
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
    /// What all of them are for.
    all: BTreeSet<IpNet>,
}

impl LocalRoutes {
    /// Whether there is one for an address, whatever interface it is of.
    pub(super) fn have(&self, address: IpAddr) -> bool {
        self.all.contains(&address.into()) || self.all.iter().any(|net| net.contains(&address))
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
    let of_table = |table: u32| -> Result<Vec<Route>> {
        Ok(local_routes(table)?.iter().filter_map(|body| route(body)).collect())
    };
    let mut routes = of_table(libc::RT_TABLE_LOCAL.into())?;
    for (vrf, table) in vrfs {
        let of_vrf = |route: Route| {
            if route.ifindex.is_some_and(|index| is_in(index, *vrf)) {
                route
            } else {
                Route { ifindex: Some(*vrf), ..route }
            }
        };
        routes.extend(of_table(*table)?.into_iter().map(of_vrf));
    }
    Ok(sorted(routes, is_known))
}

fn sorted(routes: Vec<Route>, is_known: impl Fn(&IpAddr) -> bool) -> LocalRoutes {
    let (mut addresses, mut prefixes, mut all) = (Vec::new(), Vec::new(), BTreeSet::new());
    for Route { ifindex, net, is_kernels } in routes {
        all.insert(net);
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

fn route(body: &[u8]) -> Option<Route> {
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
    Some(Route { ifindex, net, is_kernels: header[PROTOCOL] == libc::RTPROT_KERNEL })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::attribute;

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
            let family = if net.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
            let mut body = vec![family as u8, net.prefix_len(), 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0];
            body.extend(match net.addr() {
                IpAddr::V4(v4) => attribute(RTA_DST, &v4.octets()),
                IpAddr::V6(v6) => attribute(RTA_DST, &v6.octets()),
            });
            body.extend(attribute(RTA_OIF, &7_u32.to_ne_bytes()));
            let route = route(&body).expect("a route");
            let LocalRoutes { addresses, prefixes, .. } = sorted(vec![route], |address| *address == own);
            assert_eq!(addresses, [(7, net.addr())][..usize::from(exact)], "{net} by {protocol}");
            assert_eq!(prefixes, [net][..usize::from(prefix)], "{net} by {protocol}");
        }
    }

    #[test]
    fn an_address_has_a_route_of_its_own_or_of_a_prefix_around_it_wherever_that_leads() {
        let routes = ["192.0.2.2/32", "127.0.0.0/8", "2001:db8:1::/64"].map(|net| Route {
            ifindex: None,
            net: net.parse().expect("a prefix"),
            is_kernels: false,
        });
        let routes = sorted(routes.into(), |_| false);
        for (address, has) in [
            ("192.0.2.2", true),
            ("127.0.0.9", true),
            ("2001:db8:1::9", true),
            ("192.0.2.40", false),
            ("2001:db8::40", false),
        ] {
            assert_eq!(routes.have(address.parse().expect("an address")), has, "{address}");
        }
    }
}
