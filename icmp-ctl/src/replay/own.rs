//! The host of a capture: its links, each with a MAC address, addresses and VLANs.
//!
//! Owns what is guessed of it from the beginning of the capture. `host/addresses.rs` owns what an address means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use icmp_common::abi::{ADDRESS_BUCKETS, Interface, MAX_INTERFACES};
use icmp_common::host_tables::HostTables;
use icmp_common::wire::ethernet;
use ipnet::IpNet;

use crate::capture::ethernet::{Kind, OWN_MAC, frame, has_own_mac};
use crate::capture::packet::{Packet, source};
use crate::capture::read::{Capture, Record};
use crate::host::address_table::AddressTable;
use crate::host::addresses::own_addresses;
use crate::host::groups::Group;
use crate::host::netlink::{Address, Link, Network, Vlan};
use crate::instance::compiled::Compiled;
use crate::instance::host_tables::host_tables;
use crate::instance::program::LoadOptions;

/// Frames at the beginning of a capture from which is guessed what nobody has said.
pub const FIRST_LOOK: u64 = 100_000;
/// Addresses and VLANs that are guessed at most.
const MOST: usize = 1024;
/// The first interface of the replay, and its slot. Each link of the host has the next one.
const IFINDEX: u32 = 1;
/// See [`IFINDEX`].
const SLOT: u32 = 1;

/// Tags from the outer one on: the EtherType and the VLAN of each.
type Tags = Vec<(u16, u16)>;

/// The host of a capture.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its links, that with the most frames first; there is one at least.
    links: Vec<OwnLink>,
    /// Which of the links an interface of the capture is on, where that is not the first.
    of_interface: BTreeMap<u32, usize>,
    /// Nobody has said its addresses.
    pub guessed: bool,
    /// The beginning of the capture shows frames for it.
    pub seen: bool,
    /// What else that shows.
    pub looked_at: LookedAt,
}

/// What the beginning of a capture has, whoever it is for.
#[derive(Clone, Debug, Default)]
pub struct LookedAt {
    /// Records.
    pub records: u64,
    /// Frames that the capture says were going out.
    pub sent: u64,
    /// Link types that are not read.
    pub unknown_links: BTreeSet<i32>,
    /// Records of these, or too short for their header.
    pub unknown: u64,
}

/// Where a host is with one of its MAC addresses.
#[derive(Clone, Debug)]
pub struct OwnLink {
    /// The MAC address.
    pub mac: [u8; 6],
    /// The addresses with the lengths of their prefixes.
    pub addresses: Vec<IpNet>,
    /// The VLANs that it is on.
    vlans: BTreeSet<Tags>,
}

impl OwnLink {
    /// The MAC address as it is written.
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// What the beginning of a capture shows of one MAC address on one interface of the capture, or on all of them.
#[derive(Default)]
struct Seen {
    frames: u64,
    addresses: BTreeSet<IpAddr>,
    vlans: BTreeSet<Tags>,
}

/// What the beginning of a capture shows of all of them.
struct FirstLook<'a> {
    said: &'a [IpNet],
    by_place: BTreeMap<(u32, [u8; 6]), Seen>,
    /// There are links without MAC addresses.
    has_no_mac: bool,
    looked_at: LookedAt,
}

impl FirstLook<'_> {
    fn note(&mut self, record: &Record<'_>, frame: &[u8]) {
        let has_own_mac = has_own_mac(record.link_type);
        self.has_no_mac |= !has_own_mac;
        if let Some(mac) = frame.first_chunk::<6>().filter(|mac| mac[0] & 1 == 0)
            && let Some(packet) = Packet::read(frame)
            && is_telling(&packet, self.said)
        {
            let place = (record.interface, *mac);
            let known = self.by_place.len() < MOST || self.by_place.contains_key(&place);
            if known && (has_own_mac || *mac == OWN_MAC) {
                self.by_place.entry(place).or_default().note(&packet, tags(frame));
            }
        }
    }

    fn own(self) -> Own {
        let mut of_interfaces: BTreeMap<u32, ([u8; 6], Seen)> = BTreeMap::new();
        for ((interface, mac), seen) in self.by_place {
            let most = of_interfaces.entry(interface).or_default();
            if seen.frames >= most.1.frames {
                *most = (mac, seen);
            }
        }
        let macs: BTreeMap<u32, [u8; 6]> = of_interfaces.iter().map(|(i, (mac, _))| (*i, *mac)).collect();
        let mut by_mac: BTreeMap<[u8; 6], Seen> = BTreeMap::new();
        if self.has_no_mac || of_interfaces.is_empty() {
            by_mac.insert(OWN_MAC, Seen::default());
        }
        for (mac, seen) in of_interfaces.into_values() {
            by_mac.entry(mac).or_default().add(seen);
        }
        let mut links: Vec<_> = by_mac.into_iter().collect();
        links.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.frames));
        links.truncate(MAX_INTERFACES as usize);
        let seen_anywhere = |own: &IpNet| links.iter().any(|(_, seen)| seen.addresses.contains(&own.addr()));
        let (mut unseen, guessed) = (self.said.to_vec(), self.said.is_empty());
        unseen.retain(|own| !seen_anywhere(own));
        let of_link = |(mac, seen): ([u8; 6], Seen)| {
            let mut addresses: Vec<_> = if guessed {
                seen.addresses.iter().map(|address| IpNet::from(*address)).collect()
            } else {
                self.said.iter().filter(|own| seen.addresses.contains(&own.addr())).copied().collect()
            };
            addresses.extend(&unseen);
            OwnLink { mac, addresses, vlans: seen.vlans }
        };
        let seen = links.iter().any(|(_, seen)| seen.frames > 0);
        let links: Vec<_> = links.into_iter().map(of_link).collect();
        let place = |mac| links.iter().position(|link| link.mac == mac);
        let of_interface = macs.into_iter().filter_map(|(i, mac)| Some((i, place(mac)?))).collect();
        Own { links, of_interface, guessed, seen, looked_at: self.looked_at }
    }
}

impl Own {
    /// Guesses from the beginning of a capture what is not said: on each interface of the capture, the host has the MAC address that most echo
    /// requests go to (of those to `said`, where addresses are said), the addresses that they are for, and the VLANs that they are in. What is
    /// said and seen nowhere, it has everywhere.
    ///
    /// # Errors
    /// The capture cannot be opened. Where it is damaged is left to whoever reads it whole.
    pub fn look(path: &Path, said: &[IpNet]) -> Result<Self> {
        let mut first_look =
            FirstLook { said, by_place: BTreeMap::new(), has_no_mac: false, looked_at: LookedAt::default() };
        let mut room = Vec::new();
        let mut capture = Capture::open(path)?;
        let looked = capture.each(
            |record| {
                first_look.looked_at.records += 1;
                match frame(record, &mut room) {
                    (Kind::Frame, frame) => first_look.note(record, frame),
                    (Kind::Sent, _) => first_look.looked_at.sent += 1,
                    (Kind::Unknown, _) => {
                        first_look.looked_at.unknown += 1;
                        first_look.looked_at.unknown_links.insert(record.link_type);
                    }
                }
                Ok(if record.number < FIRST_LOOK {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            },
            |_, _| (),
        );
        // What is wrong with the file is said by whoever reads all of it.
        drop(looked);
        Ok(first_look.own())
    }

    /// The host of one frame: it has the addresses that are said, the MAC address that the frame is for, and the VLAN that it is in.
    pub fn of_frame(frame: &[u8], said: &[IpNet]) -> Self {
        let mac = frame.first_chunk::<6>().filter(|mac| mac[0] & 1 == 0).copied();
        let vlans = Some(tags(frame)).filter(is_vlan).into_iter().collect();
        let link = OwnLink { mac: mac.unwrap_or(OWN_MAC), addresses: said.to_vec(), vlans };
        Self {
            links: vec![link],
            of_interface: BTreeMap::new(),
            guessed: false,
            seen: true,
            looked_at: LookedAt::default(),
        }
    }

    /// Its links, that with the most frames first.
    pub fn links(&self) -> &[OwnLink] {
        &self.links
    }

    /// Its addresses on all links.
    pub fn addresses(&self) -> BTreeSet<IpNet> {
        self.links.iter().flat_map(|link| &link.addresses).copied().collect()
    }

    /// The interface of the replay on which a record comes in.
    pub(super) fn ifindex(&self, record: &Record<'_>) -> u32 {
        let link = if has_own_mac(record.link_type) {
            self.of_interface.get(&record.interface).copied()
        } else {
            self.links.iter().position(|link| link.mac == OWN_MAC)
        };
        IFINDEX + link.unwrap_or_default() as u32
    }

    /// Whether the host itself sent a frame: by its MAC addresses, or by its IP address where the link has none.
    pub(super) fn sent(&self, record: &Record<'_>, frame: &[u8]) -> bool {
        if has_own_mac(record.link_type) {
            let mac = frame.get(ethernet::SOURCE..ethernet::ETHER_TYPE);
            return self.links.iter().any(|link| mac == Some(&link.mac));
        }
        source(frame).is_some_and(|source| self.has(source))
    }

    /// Whether the host has this address.
    fn has(&self, address: IpAddr) -> bool {
        self.links.iter().flat_map(|link| &link.addresses).any(|own| own.addr() == address)
    }

    /// The tables of this host with a policy in force, and the addresses for which there was no room.
    pub(super) fn tables(&self, policy: &Compiled, lines: u32) -> (HostTables, usize) {
        let (addresses, left_out, interfaces) = self.ingresses(&policy.gated());
        let mut tables = host_tables(policy, &addresses, &LoadOptions::reproducible(lines));
        interfaces.into_iter().for_each(|interface| tables.add_interface(interface));
        (tables, left_out)
    }

    /// Its address table with these prefixes of VIPs that have a check, how many addresses found no room in it, and its first interface.
    pub fn ingress(&self, gated: &[IpNet]) -> (AddressTable, usize, Interface) {
        let (table, left_out, interfaces) = self.ingresses(gated);
        (table, left_out, interfaces[0])
    }

    /// The same with all of its interfaces.
    fn ingresses(&self, gated: &[IpNet]) -> (AddressTable, usize, Vec<Interface>) {
        let network = self.network();
        let links: Vec<_> = (SLOT..).zip(&network.links[..self.links.len()]).collect();
        let own = own_addresses(&network, &links, gated);
        let (table, left_out) = AddressTable::build(&own, ADDRESS_BUCKETS);
        let interface = |(slot, link): &(u32, &Link)| Interface {
            ifindex: link.index,
            slot: *slot,
            mac: ethernet::address(link.mac.unwrap_or(OWN_MAC)),
            flags: 0,
            mtu4: 0,
            mtu6: 0,
        };
        (table, left_out.len(), links.iter().map(interface).collect())
    }

    /// The host as the kernel would describe it: an interface for each link, a device above it for each VLAN, and the addresses of the link
    /// on each of them. The interfaces come first.
    fn network(&self) -> Network {
        let mut network = Network::default();
        for (own, index) in self.links.iter().zip(IFINDEX..) {
            network.links.push(own.device(index, None));
        }
        for (own, index) in self.links.iter().zip(IFINDEX..) {
            own.add(index, &mut network);
        }
        network
    }
}

impl OwnLink {
    fn device(&self, index: u32, vlan: Option<Vlan>) -> Link {
        Link {
            index,
            name: format!("capture{index}"),
            mac: Some(self.mac),
            up: true,
            vlan,
            lower: vlan.map(|vlan| vlan.parent),
            ..Link::default()
        }
    }

    /// Adds what is on the interface of this index.
    fn add(&self, index: u32, network: &mut Network) {
        let mut devices: BTreeMap<&[(u16, u16)], u32> = BTreeMap::from([(&[][..], index)]);
        for tags in &self.vlans {
            for depth in 1..=tags.len() {
                let (tag, id) = tags[depth - 1];
                let parent = devices[&tags[..depth - 1]];
                let index = IFINDEX + network.links.len() as u32;
                let service = tag == ethernet::SERVICE_TAG;
                if devices.contains_key(&tags[..depth]) {
                    continue;
                }
                devices.insert(&tags[..depth], index);
                network.links.push(self.device(index, Some(Vlan { parent, id, service })));
            }
        }
        for ifindex in devices.into_values() {
            for own in &self.addresses {
                let (address, prefix_len) = (own.addr(), own.prefix_len());
                network.addresses.push(Address {
                    ifindex,
                    address,
                    peer: None,
                    prefix_len,
                    broadcast: None,
                    global: true,
                });
                network.groups.extend(groups(address).into_iter().map(|address| Group { ifindex, address }));
            }
        }
    }
}

/// The groups that a host with this address belongs to: those of all hosts, and the address's own (RFC 1112 section 4, RFC 4291 section 2.8).
fn groups(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(_) => vec![Ipv4Addr::new(224, 0, 0, 1).into()],
        IpAddr::V6(v6) => {
            let [.., a, b] = v6.segments();
            let of_all = [0xff01, 0xff02].map(|scope| Ipv6Addr::new(scope, 0, 0, 0, 0, 0, 0, 1).into());
            let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a & 0xff, b).into();
            [&of_all[..], &[solicited]].concat()
        }
    }
}

fn is_telling(packet: &Packet<'_>, said: &[IpNet]) -> bool {
    if said.is_empty() {
        packet.is_echo_request() && !packet.destination.is_multicast()
    } else {
        said.iter().any(|own| own.addr() == packet.destination)
    }
}

impl Seen {
    fn note(&mut self, packet: &Packet<'_>, tags: Tags) {
        self.frames += 1;
        if self.addresses.len() < MOST {
            self.addresses.insert(packet.destination);
        }
        if is_vlan(&tags) && self.vlans.len() < MOST {
            self.vlans.insert(tags);
        }
    }

    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.addresses.extend(other.addresses);
        self.vlans.extend(other.vlans);
    }
}

/// A tag of VLAN 0 has a priority only.
fn is_vlan(tags: &Tags) -> bool {
    !tags.is_empty() && tags.iter().all(|(_, id)| *id != 0)
}

/// The tags of a frame, of which the packet path reads two.
fn tags(frame: &[u8]) -> Tags {
    let read =
        |at: usize| frame.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let mut tags = Vec::new();
    let mut at = ethernet::ETHER_TYPE;
    while tags.len() < 2
        && let Some(ether_type) = read(at).filter(|ether_type| ethernet::is_tag(*ether_type))
        && let Some(control) = read(at + 2)
    {
        tags.push((ether_type, control & ethernet::VLAN_ID_MASK));
        at += ethernet::TAG_LEN;
    }
    tags
}
