//! The host that a capture was made on, as far as it matters for whom it answers: its addresses, its MAC address and its VLANs.
//!
//! Owns what is guessed of it from the beginning of the capture. What an address counts for is `host/addresses.rs`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use icmp_common::abi::{ADDRESS_BUCKETS, Interface};
use icmp_common::host_tables::HostTables;
use icmp_common::wire::ethernet;
use ipnet::IpNet;

use crate::capture::ethernet::{Kind, OWN_MAC, frame, has_own_mac};
use crate::capture::packet::Packet;
use crate::capture::read::Capture;
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
/// The interface of the replay, and its slot.
pub(super) const IFINDEX: u32 = 1;
/// See [`IFINDEX`].
pub(super) const SLOT: u32 = 1;

/// Tags from the outer one on: the EtherType and the VLAN of each.
type Tags = Vec<(u16, u16)>;

/// The host of a capture.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<IpNet>,
    /// Nobody has said them.
    pub guessed: bool,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The beginning of the capture shows frames for it.
    pub seen: bool,
    /// The VLANs that it is on.
    vlans: BTreeSet<Tags>,
}

/// What the beginning of a capture shows of one MAC address.
#[derive(Default)]
struct Seen {
    frames: u64,
    addresses: BTreeMap<IpAddr, u64>,
    vlans: BTreeSet<Tags>,
}

/// What the beginning of a capture shows of all of them.
struct FirstLook<'a> {
    said: &'a [IpNet],
    by_mac: BTreeMap<[u8; 6], Seen>,
}

impl FirstLook<'_> {
    fn note(&mut self, frame: &[u8], has_own_mac: bool) {
        if let Some(mac) = frame.first_chunk::<6>().filter(|mac| mac[0] & 1 == 0)
            && let Some(packet) = Packet::read(frame)
            && is_telling(&packet, self.said)
        {
            let known = self.by_mac.len() < MOST || self.by_mac.contains_key(mac);
            if known && (has_own_mac || *mac == OWN_MAC) {
                self.by_mac.entry(*mac).or_default().note(&packet, tags(frame));
            }
        }
    }

    fn own(self) -> Own {
        let most = self.by_mac.into_iter().max_by_key(|(_, seen)| seen.frames);
        let (mac, seen) = most.unwrap_or((OWN_MAC, Seen::default()));
        let guessed = self.said.is_empty();
        let addresses =
            if guessed { seen.addresses.into_keys().map(IpNet::from).collect() } else { self.said.to_vec() };
        Own { addresses, guessed, mac, seen: seen.frames > 0, vlans: seen.vlans }
    }
}

impl Own {
    /// Guesses from the beginning of a capture what is not said: the host has the MAC address that most echo requests go to (of those to
    /// `said`, where addresses are said), the addresses that they are for, and the VLANs that they are in.
    ///
    /// # Errors
    /// The capture cannot be opened. Where it is damaged is left to whoever reads it whole.
    pub fn look(path: &Path, said: &[IpNet]) -> Result<Self> {
        let mut first_look = FirstLook { said, by_mac: BTreeMap::new() };
        let mut room = Vec::new();
        let mut capture = Capture::open(path)?;
        let looked = capture.each(
            |record| {
                if let (Kind::Frame, frame) = frame(record, &mut room) {
                    first_look.note(frame, has_own_mac(record.link_type));
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
        Self { addresses: said.to_vec(), guessed: false, mac: mac.unwrap_or(OWN_MAC), seen: true, vlans }
    }

    /// The MAC address as it is written.
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Whether the host has this address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
    }

    /// The tables of this host with a policy in force, and the addresses for which there was no room.
    pub(super) fn tables(&self, policy: &Compiled, lines: u32) -> (HostTables, usize) {
        let (addresses, left_out, interface) = self.ingress(&policy.gated());
        let mut tables = host_tables(policy, &addresses, &LoadOptions::reproducible(lines));
        tables.add_interface(interface);
        (tables, left_out)
    }

    /// Its address table with these prefixes of VIPs that have a check, how many addresses found no room in it, and its interface.
    pub fn ingress(&self, gated: &[IpNet]) -> (AddressTable, usize, Interface) {
        let network = self.network();
        let link = &network.links[0];
        let own = own_addresses(&network, &[(SLOT, link)], gated);
        let (table, left_out) = AddressTable::build(&own, ADDRESS_BUCKETS);
        let mac = ethernet::address(self.mac);
        (table, left_out.len(), Interface { ifindex: IFINDEX, slot: SLOT, mac, flags: 0, reserved: 0 })
    }

    /// The host as the kernel would describe it: one interface, a device above it for each VLAN, and all addresses on each of them.
    fn network(&self) -> Network {
        let link = |index: u32, vlan: Option<Vlan>| Link {
            index,
            name: format!("capture{index}"),
            mac: Some(self.mac),
            up: true,
            vlan,
            lower: vlan.map(|vlan| vlan.parent),
            ..Link::default()
        };
        let mut network = Network { links: vec![link(IFINDEX, None)], ..Network::default() };
        let mut devices: BTreeMap<&[(u16, u16)], u32> = BTreeMap::from([(&[][..], IFINDEX)]);
        for tags in &self.vlans {
            for depth in 1..=tags.len() {
                let (tag, id) = tags[depth - 1];
                let parent = devices[&tags[..depth - 1]];
                let index = IFINDEX + devices.len() as u32;
                let service = tag == ethernet::SERVICE_TAG;
                if devices.contains_key(&tags[..depth]) {
                    continue;
                }
                devices.insert(&tags[..depth], index);
                network.links.push(link(index, Some(Vlan { parent, id, service })));
            }
        }
        for ifindex in devices.into_values() {
            for own in &self.addresses {
                let (address, prefix_len) = (own.addr(), own.prefix_len());
                network.addresses.push(Address {
                    ifindex,
                    address,
                    prefix_len,
                    broadcast: None,
                    global: true,
                });
                network.groups.extend(groups(address).into_iter().map(|address| Group { ifindex, address }));
            }
        }
        network
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
        if self.addresses.len() < MOST || self.addresses.contains_key(&packet.destination) {
            *self.addresses.entry(packet.destination).or_default() += 1;
        }
        if is_vlan(&tags) && self.vlans.len() < MOST {
            self.vlans.insert(tags);
        }
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
