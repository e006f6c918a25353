//! Which addresses belong in the table: the host's own and its groups, per attached interface and per VLAN above it.
//!
//! Owns the rules (R-12, R-61: an address counts only on the interface that has it). `netlink.rs` has the kernel's answers, `address_table.rs`
//! the table, `instance/addresses.rs` puts it in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use icmp_common::abi::{AddressKind, Scope};
use ipnet::IpNet;
use netlink_packet_route::link::InfoKind;

use crate::host::address_table::OwnAddress;
use crate::host::interfaces::{
    decided_by_rules, interface_entry, silenced_by, sure_taker, taker, takers_in_vlans,
};
use crate::host::netlink::{Address, Link, Network};
use crate::host::other_macs::{OtherMacs, vrf_above};
use crate::host::routing_rules::RoutingRules;

/// The interface below a VLAN device, and its VLAN as a scope counts it.
fn vlan_of(device: &Link) -> Option<(u32, u32)> {
    // The kernel takes nothing in through a device that is down.
    let vlan = device.vlan.filter(|_| device.up)?;
    let service = if vlan.service { Scope::SERVICE_ONLY << 12 } else { 0 };
    Some((vlan.parent, u32::from(vlan.id) | service))
}

/// Whether a packet for an address of the host may come from another one. The kernel takes none in for loopback's, for 0.0.0.0 and for
/// 255.255.255.255, whoever has them (`ip_route_input_slow` in net/ipv4/route.c, but for `route_localnet`; net/ipv6/ip6_input.c), and sends none
/// from an IPv4 address in IPv6 (`ip6_dst_lookup_tail` in net/ipv6/ip6_output.c; RFC 4291 section 2.5.5.2).
pub fn is_for_others(address: &IpAddr) -> bool {
    let is_nobodys = match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !address.is_loopback() && !is_nobodys
}

/// Whether an address means another host on each link (RFC 4291 section 2.5.6).
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The addresses of interfaces in their slots, and of the VLANs above them; those first that are missed most where there is no room. It
/// takes time and entries that grow with what there is, not with its square.
///
/// Addresses in one of the `gated` prefixes, which are VIPs with a check, are nowhere among the own ones: they are found as VIPs, and the
/// check decides.
pub fn own_addresses(network: &Network, interfaces: &[(u32, &Link)], gated: &[IpNet]) -> Vec<OwnAddress> {
    let host = Host::new(network, gated);
    let macs = OtherMacs::new(network);
    let mut own = Vec::new();
    for (slot, link) in interfaces {
        let mac = interface_entry(network, link, *slot).mac;
        let taker = taker(network, link);
        let is_sure = sure_taker(network, link).is_some();
        let below = macs.below(link);
        // Where it is not known whose frames come in.
        let others = |device: u32, scope: Scope| {
            let of = if taker.is_some() && !is_sure { BTreeSet::new() } else { macs.of(&below, device, mac) };
            of.into_iter().map(move |mac| OwnAddress::of_mac(mac, scope))
        };
        if let Some(taker) = taker {
            let scope = Scope::new(*slot, 0);
            host.add(&mut own, taker.index, scope, !link.locked);
            own.extend(others(taker.index, scope));
        }
        for (taker, id) in takers_in_vlans(network, link) {
            let scope = Scope::new(*slot, id.into());
            host.add_vlan(&mut own, taker.index, scope, !link.locked);
            own.extend(others(taker.index, scope));
        }
        // VLAN devices on a port have its frames before the bridge has: those for the port's MAC address, which is not answered.
        let is_answered = taker.is_some_and(|taker| taker.mac == link.mac) && !link.locked;
        for (device, vlan) in host.vlans_of(link.index) {
            let scope = Scope::new(*slot, *vlan);
            host.add_vlan(&mut own, *device, scope, is_answered);
            own.extend(others(*device, scope));
            for (inner_device, inner) in host.vlans_of(*device) {
                let scope = Scope::new(*slot, vlan & 0xfff | inner << 12);
                host.add_vlan(&mut own, *inner_device, scope, is_answered);
                own.extend(others(*inner_device, scope));
            }
        }
    }
    let attached: BTreeSet<IpAddr> = own.iter().map(|own| own.address).collect();
    own.extend(host.anywhere());
    own.sort_by_key(|own| match own.kind {
        AddressKind::Present if own.is_mac() => 5,
        AddressKind::Present => 0,
        AddressKind::Own | AddressKind::Everywhere => 1,
        _ if own.kind != AddressKind::Group && attached.contains(&own.address) => 2,
        AddressKind::Group => 3,
        AddressKind::Host | AddressKind::Anywhere | AddressKind::Somewhere => 4,
    });
    own
}

/// What there is, by interface.
struct Host<'a> {
    /// [`Network::routing_rules`].
    rules: &'a RoutingRules,
    links: BTreeMap<u32, &'a Link>,
    has_vrfs: bool,
    /// what the host has on any interface, by VRF, and what it is on the others of that one.
    elsewhere: BTreeMap<Option<u32>, BTreeMap<IpAddr, AddressKind>>,
    addresses: BTreeMap<u32, Vec<&'a Address>>,
    groups: BTreeMap<u32, Vec<IpAddr>>,
    /// Index and VLAN of the devices above an interface.
    vlans: BTreeMap<u32, Vec<(u32, u32)>>,
    /// Broadcast addresses of all interfaces.
    broadcasts: BTreeSet<Ipv4Addr>,
    /// Addresses that are found as VIPs.
    gated: BTreeSet<IpAddr>,
    /// [`Network::without_route`].
    without_route: &'a BTreeSet<(u32, IpAddr)>,
    /// [`Network::disputed`].
    disputed: &'a BTreeSet<(u32, IpAddr)>,
}

impl<'a> Host<'a> {
    fn new(network: &'a Network, gated: &[IpNet]) -> Self {
        let all = network.addresses.iter().map(|address| address.address);
        let is_gated =
            |address: &IpAddr| !is_link_local(address) && gated.iter().any(|net| net.contains(address));
        let mut host = Self {
            rules: &network.routing_rules,
            links: network.links.iter().map(|link| (link.index, link)).collect(),
            has_vrfs: network.links.iter().any(|link| link.kind == Some(InfoKind::Vrf)),
            elsewhere: BTreeMap::new(),
            addresses: BTreeMap::new(),
            groups: BTreeMap::new(),
            vlans: BTreeMap::new(),
            broadcasts: network.addresses.iter().flat_map(broadcasts).collect(),
            gated: all.filter(is_gated).collect(),
            without_route: &network.without_route,
            disputed: &network.disputed,
        };
        for address in network.addresses.iter().filter(|address| is_for_others(&address.address)) {
            host.addresses.entry(address.ifindex).or_default().push(address);
            if let Some(kind) = host.elsewhere_kind(address) {
                host.add_elsewhere(address.ifindex, address.address, kind);
            }
            // The kernel has no route to those of an interface that is down.
            if host.is_up(address.ifindex) {
                for broadcast in broadcasts(address) {
                    host.add_elsewhere(address.ifindex, broadcast.into(), AddressKind::Anywhere);
                }
            }
        }
        for group in &network.groups {
            host.groups.entry(group.ifindex).or_default().push(group.address);
            // An anycast address.
            if !group.address.is_multicast() {
                host.add_elsewhere(group.ifindex, group.address, AddressKind::Anywhere);
            }
        }
        for device in &network.links {
            if let Some((parent, vlan)) = vlan_of(device) {
                host.vlans.entry(parent).or_default().push((device.index, vlan));
            }
        }
        host
    }

    /// The VRF that an interface is, or is in; its routing table decides what is the host's there.
    fn vrf_of(&self, ifindex: u32) -> Option<u32> {
        vrf_above(ifindex, |index| self.links.get(&index).copied())
    }

    fn is_up(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex).is_some_and(|link| link.up)
    }

    /// Enters what the host has on an interface among what it has anywhere, but for what means another host on each link and for what no packet
    /// is for. What an address is on two of them, it is by the kind that says more.
    fn add_elsewhere(&mut self, ifindex: u32, address: IpAddr, kind: AddressKind) {
        if is_link_local(&address) || !is_for_others(&address) {
            return;
        }
        let of_domain = self.elsewhere.entry(self.vrf_of(ifindex)).or_default();
        let known = of_domain.entry(address).or_insert(kind);
        *known = if kind as u8 > *known as u8 { kind } else { *known };
    }

    /// Whether the kernel has a local route to an address; without one it forwards what is for that. It has none to IPv6 addresses that stay on an
    /// interface while it is down (`keep_addr_on_down`).
    fn has_route(&self, address: &Address) -> bool {
        (address.address.is_ipv4() || self.is_up(address.ifindex))
            && !self.without_route.contains(&(address.ifindex, address.address))
    }

    fn is_disputed(&self, address: &Address) -> bool {
        self.disputed.contains(&(address.ifindex, address.address))
    }

    /// What an address is on other interfaces than its own: no source of another host's, and the kernel's as a destination. `None` for groups,
    /// and where there is no route to it.
    fn elsewhere_kind(&self, address: &Address) -> Option<AddressKind> {
        if address.address.is_multicast() || !self.has_route(address) {
            return None;
        }
        if self.gated.contains(&address.address) || self.is_disputed(address) {
            return Some(AddressKind::Anywhere);
        }
        let is_broadcast = matches!(address.address, IpAddr::V4(v4) if self.broadcasts.contains(&v4));
        Some(match self.links.get(&address.ifindex) {
            // Of an interface that is down, the kernel has a local route to an IPv4 address all the same.
            Some(link) if link.up && address.global && !is_broadcast => {
                if link.loopback || link.kind == Some(InfoKind::Vrf) {
                    AddressKind::Everywhere
                } else {
                    AddressKind::Host
                }
            }
            _ => AddressKind::Anywhere,
        })
    }

    /// What the host has anywhere. Where there are VRFs, what that is depends on where a packet comes in ([`Self::add`]).
    fn anywhere(&self) -> impl Iterator<Item = OwnAddress> {
        let has_vrfs = self.has_vrfs;
        let all: BTreeMap<IpAddr, AddressKind> =
            self.elsewhere.values().flatten().map(|(address, kind)| (*address, *kind)).collect();
        all.into_iter().map(move |(address, kind)| {
            let kind = if has_vrfs { AddressKind::Somewhere } else { kind };
            OwnAddress { address, scope: Scope::ANYWHERE, kind }
        })
    }

    fn vlans_of(&self, ifindex: u32) -> &[(u32, u32)] {
        self.vlans.get(&ifindex).map_or(&[], Vec::as_slice)
    }

    fn add_vlan(&self, own: &mut Vec<OwnAddress>, device: u32, scope: Scope, is_answered: bool) {
        own.push(OwnAddress { address: Ipv4Addr::UNSPECIFIED.into(), scope, kind: AddressKind::Present });
        self.add(own, device, scope, is_answered);
    }

    /// What an interface has, each address once; all that is no group is the kernel's where nothing is answered.
    fn add(&self, own: &mut Vec<OwnAddress>, ifindex: u32, scope: Scope, is_answered: bool) {
        let mut kinds: BTreeMap<IpAddr, AddressKind> = BTreeMap::new();
        for address in self.addresses.get(&ifindex).into_iter().flatten() {
            // A group that is joined with `ip address add … autojoin` is listed as an address, too.
            if !address.address.is_multicast() && !self.without_route.contains(&(ifindex, address.address)) {
                let is_disputed = self.is_disputed(address);
                let kind = if is_disputed { AddressKind::Anywhere } else { AddressKind::Own };
                kinds.insert(address.address, kind);
            }
            kinds.extend(broadcasts(address).map(|v4| (v4.into(), AddressKind::Group)));
        }
        for (address, kind) in &mut kinds {
            // The kernel has both in one table for all interfaces, and which comes first depends on which was there first.
            if matches!(address, IpAddr::V4(v4) if self.broadcasts.contains(v4)) {
                *kind = AddressKind::Group;
            }
        }
        kinds.retain(|address, kind| *kind != AddressKind::Own || !self.gated.contains(address));
        for group in self.groups.get(&ifindex).into_iter().flatten() {
            // A router may have its anycast address for itself.
            let _own = kinds.entry(*group).or_insert(AddressKind::Group);
        }
        let is_silent = self.is_silent(ifindex);
        for (address, kind) in self.elsewhere.get(&self.vrf_of(ifindex)).into_iter().flatten() {
            if is_silent[usize::from(address.is_ipv6())] {
                let _own = kinds.entry(*address).or_insert(AddressKind::Anywhere);
            } else if self.has_vrfs {
                let _own = kinds.entry(*address).or_insert(*kind);
            }
        }
        for (address, kind) in kinds.iter_mut().filter(|(_, kind)| **kind != AddressKind::Group) {
            if !is_answered || is_silent[usize::from(address.is_ipv6())] {
                *kind = AddressKind::Anywhere;
            }
        }
        own.extend(kinds.into_iter().map(|(address, kind)| OwnAddress { address, scope, kind }));
    }

    /// Whether the kernel may not answer what comes in on an interface, of IPv4 and of IPv6: it has no way for an answer, it takes nothing in, or a rule of
    /// routing comes first.
    fn is_silent(&self, ifindex: u32) -> [bool; 2] {
        let by_index = |index| self.links.get(&index).copied();
        let Some(link) = by_index(ifindex) else { return [false; 2] };
        let is_mute = silenced_by(link, by_index).is_some() || link.without_arp;
        let [by_rule4, by_rule6] = decided_by_rules(self.rules, link, by_index);
        [is_mute || by_rule4, is_mute || by_rule6 || link.without_ipv6]
    }
}

/// The broadcast addresses of an address's prefix: all ones in the host part (RFC 919), whether or not the kernel was told, and what the
/// kernel was told. Prefixes of 31 and 32 bits have none. As `fib_add_ifaddr` in net/ipv4/fib_frontend.c.
fn broadcasts(address: &Address) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let directed = match address.peer.unwrap_or(address.address) {
        IpAddr::V4(v4) if address.prefix_len < 31 => {
            Some(Ipv4Addr::from(u32::from(v4) | u32::MAX >> address.prefix_len))
        }
        _ => None,
    };
    directed.into_iter().chain(address.broadcast)
}

#[cfg(test)]
mod tests;
