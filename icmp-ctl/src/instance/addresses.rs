//! Brings an instance's interfaces and addresses in line with the host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use icmp_common::abi::{
    ADDRESS_BUCKETS, AddressKind, INTERFACE_MAC_SHARED, Interface, SETTINGS_OWN_HOST, SETTINGS_VIPS, Scope,
};
use ipnet::IpNet;

use crate::diagnostics::warn;
use crate::failure::sentence;
use crate::finding::{Finding, State, report};
use crate::host::address_table::{AddressTable, OwnAddress};
use crate::host::addresses::own_addresses;
use crate::host::checks::addresses::{prefixes_left, taken_in_whole};
use crate::host::interfaces::interface_entries;
use crate::host::netlink::{Link, Network};
use crate::instance::compiled::Compiled;
use crate::instance::links;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{Instance, Pins, View};

/// Buckets of the smallest address table that is tried. What a host needs is doubled, for what it gets later.
const FEWEST_BUCKETS: u32 = ADDRESS_BUCKETS / 2;
/// Buckets of the largest, which both buffers together makes 32 MiB.
const MOST_BUCKETS: u32 = 1 << 17;

/// What has changed in the tables.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Names of interfaces whose entries have changed.
    pub interfaces: Vec<String>,
    /// Entries that are new.
    pub entered: usize,
    /// Entries that are gone.
    pub removed: usize,
    /// Entries that found no place.
    left_out: Vec<OwnAddress>,
    /// Ports of bonds that found no place.
    ports_left_out: usize,
}

impl Refreshed {
    /// How many entries found no place, and what there is to say about them.
    pub fn left_out(&self) -> Option<(usize, String)> {
        let finding = no_room(&self.left_out).or_else(|| no_place(self.ports_left_out))?;
        Some((self.left_out.len() + self.ports_left_out, finding.text()))
    }
}

/// The addresses that are answered by what is in force. One that counts on all interfaces is told of each by itself where there are some on which
/// it does not: those whose MAC address others may have, and of IPv6 those that take none in.
///
/// # Errors
/// A map cannot be read.
pub fn answered(maps: &InstanceMaps) -> Result<Vec<OwnAddress>> {
    let own_host = maps.settings()?.is_some_and(|settings| settings.flags & SETTINGS_OWN_HOST != 0);
    Ok(answered_among(&maps.addresses()?.addresses(), own_host, &maps.interfaces()?))
}

fn answered_among(known: &[OwnAddress], own_host: bool, interfaces: &[Interface]) -> Vec<OwnAddress> {
    let left: BTreeSet<(IpAddr, u32)> = known
        .iter()
        .filter(|own| own.kind == AddressKind::Anywhere)
        .map(|own| (own.address, own.scope.0))
        .collect();
    let attached: Vec<_> = interfaces.iter().filter(|entry| entry.is_attached()).collect();
    let mut answered = Vec::new();
    for own in known.iter().filter(|own| own.is_answered(own_host)) {
        let scope = |entry: &Interface| Scope::new(entry.slot, 0);
        let takes = |entry: &&&Interface| {
            entry.flags & INTERFACE_MAC_SHARED == 0 && !left.contains(&(own.address, scope(entry).0))
        };
        let on: Vec<_> = attached.iter().filter(takes).collect();
        if own.scope != Scope::ANYWHERE || on.len() == attached.len() {
            answered.push(*own);
        } else {
            answered.extend(on.into_iter().map(|entry| OwnAddress { scope: scope(entry), ..*own }));
        }
    }
    answered
}

/// That entries found no place.
fn no_room(left_out: &[OwnAddress]) -> Option<Finding> {
    let first = left_out.first()?;
    let what = match left_out.len() {
        1 => format!("{first} does not fit the address tables"),
        number => format!("{number} addresses do not fit the address tables, {first} among them"),
    };
    let why = "the kernel answers for what does not fit, and a ping that claims to come from it is taken for one from outside; `icmp-ctl detach \
               --all` and attaching again makes tables that are large enough";
    Some(Finding::new("addresses", State::Slow, what, why))
}

/// That ports of bonds found no place.
fn no_place(ports: usize) -> Option<Finding> {
    let what = match ports {
        0 => return None,
        1 => "a port of a bond does not fit the interface table".to_owned(),
        number => format!("{number} ports of bonds do not fit the interface table"),
    };
    let why = "what comes in there is left to the kernel; detaching another interface makes room";
    Some(Finding::new("addresses", State::Slow, what, why))
}

/// That addresses the host has now have no place in the tables, of whatever is in force.
///
/// # Errors
/// A map cannot be read.
pub fn without_room(pins: &Pins, network: &Network) -> Result<Option<Finding>> {
    let entries = pins.maps.interfaces()?;
    let link_of = |entry: &Interface| {
        Some((entry.slot, network.links.iter().find(|link| link.index == entry.ifindex)?))
    };
    let interfaces: Vec<_> = entries.iter().filter(|entry| entry.is_attached()).filter_map(link_of).collect();
    let own = own_addresses(network, &interfaces, &gated(&pins.maps)?);
    let (_, left_out) = AddressTable::build(&own, pins.maps.address_buckets());
    Ok(no_room(&left_out))
}

/// The prefixes that the kernel takes in as a whole, without those that the VIPs in force cover.
///
/// # Errors
/// A map cannot be read.
pub fn prefixes_left_of(pins: &Pins, network: &Network) -> Result<Vec<IpNet>> {
    Ok(prefixes_left(network, pins.maps.vips()?.iter().map(|vip| vip.net)))
}

/// Says which prefixes the kernel takes in as a whole. That it cannot be told is said, and fails nothing: what was wanted is done by then.
pub fn say_prefixes_left() {
    let left = View::look(|view| prefixes_left_of(view, &Network::read_once()?)).unwrap_or_else(|error| {
        warn(&format!("which prefixes the kernel takes in as a whole is not known: {}", sentence(&error)));
        None
    });
    report(taken_in_whole(&left.unwrap_or_default()).as_slice());
}

/// Buckets that the address tables need for a host with these interfaces attached, and as many again.
pub fn buckets_for(network: &Network, interfaces: &[&Link]) -> u32 {
    let slots: Vec<_> = (1..).zip(interfaces.iter().copied()).collect();
    let own = own_addresses(network, &slots, &[]);
    let sizes = std::iter::successors(Some(FEWEST_BUCKETS), |buckets| Some(buckets * 2));
    let mut sizes = sizes.take_while(|buckets| *buckets < MOST_BUCKETS);
    2 * sizes.find(|buckets| AddressTable::build(&own, *buckets).1.is_empty()).unwrap_or(MOST_BUCKETS / 2)
}

/// The prefixes of VIPs with a check, of the policy in force and of the one that comes back where that is not confirmed: the program changes
/// over by itself.
fn gated(maps: &InstanceMaps) -> Result<Vec<IpNet>> {
    let has_vips = maps.settings()?.is_some_and(|settings| settings.flags & SETTINGS_VIPS != 0);
    let in_force = if has_vips { maps.policy()? } else { None };
    Ok([in_force, maps.confirmed_policy()?].iter().flatten().flat_map(Compiled::gated).collect())
}

/// Brings interface and address tables in line with what the kernel says now, and with which VIPs have a check.
///
/// # Errors
/// A map cannot be read or written; the tables of before are then in force.
pub fn refresh(instance: &mut Instance, network: &Network) -> Result<Refreshed> {
    let entries = instance.maps.interfaces()?;
    let (mut interfaces, mut changed) = (Vec::new(), Vec::new());
    let (mut own_entries, mut of_ports) = (Vec::new(), Vec::new());
    for entry in entries.iter().filter(|entry| entry.is_attached()) {
        let Some(link) = network.links.iter().find(|link| link.index == entry.ifindex) else {
            own_entries.push(*entry);
            continue;
        };
        let (own, ports) = interface_entries(network, link, entry.slot);
        let ports_before = entries.iter().filter(|before| before.slot == entry.slot).count() - 1;
        if own != *entry || ports.len() != ports_before || ports.iter().any(|port| !entries.contains(port)) {
            changed.push(link.name.clone());
        }
        own_entries.push(own);
        of_ports.extend(ports);
        interfaces.push((entry.slot, link));
    }
    // Of an interface that was attached and became a port, the first entry counts.
    let ports_left_out = instance.maps.set_interfaces(&[own_entries, of_ports].concat())?.len();
    let own = own_addresses(network, &interfaces, &gated(&instance.maps)?);
    let (table, left_out) = AddressTable::build(&own, instance.maps.address_buckets());
    let before = instance.maps.addresses()?;
    let mut refreshed = Refreshed { interfaces: changed, left_out, ports_left_out, ..Refreshed::default() };
    if before != table {
        let entries = |table: &AddressTable| -> BTreeSet<(IpAddr, u32)> {
            table.addresses().iter().map(|own| (own.address, own.scope.with_kind(own.kind).0)).collect()
        };
        let (before, now) = (entries(&before), entries(&table));
        refreshed.entered = now.difference(&before).count();
        refreshed.removed = before.difference(&now).count();
        instance.maps.publish_addresses(&table)?;
    }
    Ok(refreshed)
}

/// Slots in use with the names of their interfaces, as they were last seen here where they are gone: their index may be another's now.
///
/// # Errors
/// The interface table or a link cannot be read.
pub fn slots(instance: &Pins, network: &Network) -> Result<Vec<(u32, String)>> {
    let links = links::read(&instance.directory, &network.links)?;
    let mut slots: Vec<_> = instance
        .maps
        .interfaces()?
        .iter()
        .filter(|entry| entry.is_attached())
        .map(|entry| {
            let link = links.iter().find(|link| link.ifindex == entry.ifindex).map(|link| &link.name);
            // An upgrade that just moves the link to other maps leaves the interface where it is.
            let here =
                || network.links.iter().find(|link| link.index == entry.ifindex).map(|link| &link.name);
            (entry.slot, link.or_else(here).cloned().unwrap_or_else(|| format!("index {}", entry.ifindex)))
        })
        .collect();
    slots.sort();
    Ok(slots)
}

/// Clears away what a command that was killed has left, also where nothing is attached any more.
///
/// # Errors
/// As [`Instance::find`].
pub fn clear_up() -> Result<()> {
    if let Some(mut instance) = Instance::find()? {
        forget_addresses(&mut instance);
    }
    Ok(())
}

/// Forgets the addresses of interfaces that the program was taken off; it says so where it cannot.
pub fn forget_addresses(instance: &mut Instance) {
    if let Err(error) = Network::read_once().and_then(|network| refresh(instance, &network)) {
        warn(&format!("its addresses are known until the next change: {}", sentence(&error)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::Address;

    #[test]
    fn what_counts_on_all_interfaces_is_told_of_those_on_which_it_does() {
        let (everywhere, anywhere) = (AddressKind::Everywhere, AddressKind::Anywhere);
        let own =
            |text: &str, scope, kind| OwnAddress { address: text.parse().expect("an address"), scope, kind };
        let known = [
            own("203.0.113.1", Scope::ANYWHERE, everywhere),
            own("2001:db8::1", Scope::ANYWHERE, everywhere),
            own("2001:db8::1", Scope::new(1, 0), anywhere),
        ];
        let entry = |slot, flags| Interface { ifindex: slot, slot, flags, ..Interface::default() };
        for (interfaces, v4, v6) in [
            (vec![], vec![Scope::ANYWHERE], vec![Scope::ANYWHERE]),
            (vec![entry(1, 0)], vec![Scope::ANYWHERE], vec![]),
            (vec![entry(1, 0), entry(2, 0)], vec![Scope::ANYWHERE], vec![Scope::new(2, 0)]),
            (vec![entry(2, 0)], vec![Scope::ANYWHERE], vec![Scope::ANYWHERE]),
            (
                vec![entry(2, 0), entry(3, INTERFACE_MAC_SHARED)],
                vec![Scope::new(2, 0)],
                vec![Scope::new(2, 0)],
            ),
        ] {
            let answered = answered_among(&known, false, &interfaces);
            let of = |is_v6| answered.iter().filter(move |own| own.address.is_ipv6() == is_v6);
            let scopes = [false, true].map(|is_v6| of(is_v6).map(|own| own.scope).collect::<Vec<_>>());
            assert_eq!(scopes, [v4, v6], "{interfaces:?}");
        }
    }

    #[test]
    fn tables_are_as_large_as_the_host_needs() {
        let network = |addresses: u32| Network {
            links: Vec::new(),
            addresses: (0..addresses)
                .map(|i| Address {
                    ifindex: 9,
                    address: (0x0a00_0000 + i).to_be_bytes().into(),
                    peer: None,
                    prefix_len: 32,
                    broadcast: None,
                    global: true,
                })
                .collect(),
            ..Network::default()
        };
        assert_eq!(buckets_for(&network(20), &[]), ADDRESS_BUCKETS);
        for addresses in [5_000, 20_000] {
            let network = network(addresses);
            let (_, left_out) =
                AddressTable::build(&own_addresses(&network, &[], &[]), buckets_for(&network, &[]));
            assert_eq!(left_out.len(), 0, "{addresses}");
        }
        assert_eq!(buckets_for(&network(300_000), &[]), MOST_BUCKETS, "not without end");
    }
}
