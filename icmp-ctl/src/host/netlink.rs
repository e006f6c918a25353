//! Interfaces and addresses, read over rtnetlink.
//!
//! Owns reading links, addresses and groups of the caller's network namespace. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BondMode, BondPortState, BridgePortState, InfoBond, InfoBondPort, InfoBridge,
    InfoBridgePort, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoKind, InfoMacVlan, InfoMacVtap,
    InfoPortData, InfoVlan, InfoVrf, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
    MacVlanFlags, MacVlanMode, Prop, VlanProtocol, XdpAttached,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};

use crate::host::bridge_vlans::{self, VlanRange};
use crate::host::groups::{self, Group};
use crate::host::left_out::{addresses, left_out, links_of, one_link};
use crate::host::local_routes;
use crate::host::routing_rules::RoutingRules;
use crate::kernel::netlink::{namespaces, own_number};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Whether its name is no UTF-8. It is escaped then, and nothing that is asked for by name can be had.
    pub named_otherwise: bool,
    /// Further names it may be called by.
    pub alternative_names: Vec<String>,
    /// MAC address, where it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u32,
    /// That of IPv6, which routers may have said to be less (RFC 4861 section 4.6.4); 0 where it takes no part in IPv6.
    pub mtu6: u32,
    /// Whether it is up, as the administrator wants it.
    pub up: bool,
    /// Whether it asks nobody for MAC addresses (`arp off`), so that the kernel sends all to its own; a VRF sends nothing itself.
    pub without_arp: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Whether the kernel takes in no IPv6 on it: `disable_ipv6` is on, or its MTU is below 1280 (`ipv6_rcv` in net/ipv6/ip6_input.c).
    pub without_ipv6: bool,
    /// The XDP program on it.
    pub xdp: Option<Xdp>,
    /// All XDP programs on it, by their kernel ids: one for each mode.
    pub programs: Vec<u32>,
    /// What makes it a VLAN device.
    pub vlan: Option<Vlan>,
    /// What kind of virtual device it is.
    pub kind: Option<InfoKind>,
    /// Index of the interface below, in this namespace.
    pub lower: Option<u32>,
    /// Where the interface below is in another namespace: this one's number for that namespace, and the index there.
    pub lower_elsewhere: Option<(i32, u32)>,
    /// Index of the bridge, bond or other device that it is a port of.
    pub controller: Option<u32>,
    /// Whether it is a port whose frames a bond or a bridge takes in: of a bond not one that stands by, of a bridge one that forwards.
    pub active: bool,
    /// Whether it is a port of a bridge that takes in what known senders send alone (802.1X).
    pub locked: bool,
    /// Whether it is a bond that has groups taken in at its active port alone (modes active-backup, balance-tlb and balance-alb).
    pub uses_one_port: bool,
    /// Whether it is a bridge that tells VLANs apart.
    pub vlan_filtering: bool,
    /// Whether it is a bridge whose VLANs have service tags (802.1ad).
    pub service_vlans: bool,
    /// Whether it is a macvlan or macvtap that takes frames for the interface below itself: all (mode passthru), or those of some sources (mode
    /// source with the flag `nodst`).
    pub takes_below: bool,
    /// Whether it is a tunnel that is told with each packet where to send it (`external`). One that came in and is sent back by XDP has with it where it
    /// came from, and the tunnel drops it (`vxlan_xmit` in drivers/net/vxlan/vxlan_core.c).
    pub external: bool,
    /// The routing table of a VRF.
    pub table: Option<u32>,
}

impl Link {
    /// Whether it is called so.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }

    /// Whether it has this XDP program, in whatever mode.
    pub fn runs(&self, program_id: u32) -> bool {
        self.programs.contains(&program_id)
    }
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Kernel id of the program.
    pub program_id: u32,
    /// `native`, `generic`, `offload`, or `multiple`.
    pub mode: &'static str,
}

/// A VLAN device: its identifier, its tag, and the interface below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Index of the interface below.
    pub parent: u32,
    /// VLAN identifier.
    pub id: u16,
    /// True for 802.1ad.
    pub service: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// The other end's on a point-to-point link, whose prefix it is then.
    pub peer: Option<IpAddr>,
    /// Length of its prefix.
    pub prefix_len: u8,
    /// Its broadcast address, where one is set.
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it is valid everywhere, and not on its link or in this host alone (its scope, ip-address(8)).
    pub global: bool,
}

/// An address that may not be used (RFC 4862 section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Index of the interface.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Another host on the link has it; otherwise that is being found out.
    pub duplicate: bool,
}

/// Links and addresses at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses that may be used, those of local routes among them: tentative and duplicate ones are left out.
    pub addresses: Vec<Address>,
    /// Addresses that may not be used: tentative and duplicate ones.
    pub unusable: Vec<Unusable>,
    /// Addresses, each with its interface's index, that the kernel does not take packets in for, because somebody has deleted their local routes.
    /// Of interfaces that are down this is not said.
    pub without_route: BTreeSet<(u32, IpAddr)>,
    /// Addresses, each with its interface's index, of which another route of the local table may decide that the kernel does not take packets in for them.
    pub disputed: BTreeSet<(u32, IpAddr)>,
    /// Prefixes, longer than one address, that the kernel takes in as a whole because of a local route.
    pub local_prefixes: Vec<IpNet>,
    /// Rules of routing.
    pub routing_rules: RoutingRules,
    /// All groups.
    pub groups: Vec<Group>,
    /// Unicast MAC addresses that interfaces take in beside their own, each with the interface's index: those of devices above them, and
    /// a macvlan device is there also where it was moved to another namespace.
    pub taken_in: Vec<(u32, [u8; 6])>,
    /// Devices of other namespaces that are above interfaces here, as far as they can be seen.
    pub above_elsewhere: Vec<Link>,
    /// The VLANs of bridges that filter them and of their ports, by the index of the interface.
    pub bridge_vlans: BTreeMap<u32, Vec<VlanRange>>,
    /// How often interfaces, by their index, take in the group of all hosts: once for themselves and once for each device above that is up.
    pub all_hosts: BTreeMap<u32, usize>,
}

impl Network {
    /// Reads them.
    ///
    /// # Errors
    /// rtnetlink cannot be reached or refuses.
    pub async fn read() -> Result<Self> {
        ask(Self::ask).await
    }

    async fn ask(handle: rtnetlink::Handle) -> Result<Self> {
        let links = links(&handle).await?;
        let addresses = addresses()?;
        let neighbours = handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
        let neighbours = neighbours
            .try_collect::<Vec<_>>()
            .await
            .context("reading which MAC addresses interfaces take in")?;
        let taken_in: Vec<_> = neighbours.iter().filter_map(taken_in).collect();
        let all_hosts = groups::all_hosts_taken_in();
        let above_elsewhere = above_elsewhere(&links, &taken_in, &all_hosts);
        let filters_vlans = links.iter().any(|link| link.vlan_filtering);
        let bridge_vlans = if filters_vlans { bridge_vlans::read()? } else { BTreeMap::new() };
        let (usable, unusable): (Vec<_>, Vec<_>) =
            addresses.iter().partition(|message| address(message).is_some());
        let mut addresses: Vec<_> = usable.into_iter().filter_map(address).collect();
        let unusable: Vec<_> = unusable.into_iter().filter_map(self::unusable).collect();
        let known: BTreeSet<_> = addresses.iter().map(|one| one.address).collect();
        let is_known =
            |address: &IpAddr| known.contains(address) || unusable.iter().any(|one| one.address == *address);
        let vrfs: Vec<_> = links.iter().filter_map(|link| Some((link.index, link.table?))).collect();
        let is_in =
            |ifindex, vrf| links.iter().any(|link| link.index == ifindex && link.controller == Some(vrf));
        let of_routes = local_routes::read(&vrfs, is_in, is_known)?;
        let of_interfaces = addresses.iter().map(|one| (one.ifindex, one.address));
        let without_route = of_routes.missing(of_interfaces, &domains(&links));
        addresses.extend(of_routes.addresses.iter().map(|&(ifindex, address)| Address {
            ifindex,
            address,
            peer: None,
            prefix_len: IpNet::from(address).prefix_len(),
            broadcast: None,
            global: true,
        }));
        let disputed =
            of_routes.disputed(addresses.iter().map(|one| (one.ifindex, one.address)), &domains(&links));
        let mut groups = groups::read();
        groups.extend(of_routes.groups.into_iter().map(|(ifindex, address)| Group { ifindex, address }));
        Ok(Self {
            links,
            addresses,
            unusable,
            without_route,
            disputed,
            local_prefixes: of_routes.prefixes,
            routing_rules: RoutingRules::read()?,
            groups,
            taken_in,
            above_elsewhere,
            bridge_vlans,
            all_hosts,
        })
    }

    /// As [`Self::read`], for who has no event loop.
    ///
    /// # Errors
    /// Likewise.
    pub fn read_once() -> Result<Self> {
        event_loop()?.block_on(Self::read())
    }

    /// An interface by one of its names.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.is_called(name))
    }
}

/// The number of the caller's network namespace, which another one has once this one is gone.
///
/// # Errors
/// The kernel does not tell.
pub fn namespace_number() -> Result<u64> {
    const PATH: &str = "/proc/thread-self/ns/net";
    let namespace = std::fs::metadata(PATH).with_context(|| {
        format!("{PATH}, which tells the network namespace, cannot be looked up; where /proc is not mounted, `mount -t proc proc /proc` helps")
    });
    Ok(namespace?.ino())
}

/// The interfaces alone, for who has no event loop.
///
/// # Errors
/// As [`Network::read`].
pub fn links_once() -> Result<Vec<Link>> {
    event_loop()?.block_on(ask(async |handle| links(&handle).await))
}

/// Asks the kernel over a connection of its own. What the library makes of one that has failed is an answer that ends too early, or says
/// nothing: that there are no interfaces any more is not to be believed then.
///
/// # Errors
/// rtnetlink cannot be reached or refuses, or has failed meanwhile.
pub(crate) async fn ask<T>(work: impl AsyncFnOnce(rtnetlink::Handle) -> Result<T>) -> Result<T> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening an rtnetlink socket")?;
    let connection = tokio::spawn(connection);
    // It ends by itself once nobody can ask any more, and before only where it has failed.
    let keep = handle.clone();
    let answer = work(handle).await;
    let failed = connection.is_finished();
    drop(keep);
    connection.abort();
    ensure!(!failed, "the rtnetlink socket failed while the kernel was asked; try again");
    answer
}

async fn links(handle: &rtnetlink::Handle) -> Result<Vec<Link>> {
    let messages =
        handle.link().get().execute().try_collect::<Vec<_>>().await.context("reading the interfaces")?;
    let mut links: Vec<_> = messages.iter().map(link).collect();
    let known: Vec<_> = links.iter().map(|link| link.index).collect();
    let others = left_out(&known)?.into_iter();
    links.extend(others.map(|one| Link { named_otherwise: !one.has_text_name, ..link(&one.message) }));
    Ok(links)
}

/// The interfaces that are up, each with the VRF that it is or is in.
fn domains(links: &[Link]) -> BTreeMap<u32, Option<u32>> {
    let vrfs: BTreeSet<_> = links.iter().filter(|link| link.table.is_some()).map(|vrf| vrf.index).collect();
    let domain = |link: &Link| {
        [Some(link.index), link.controller].into_iter().flatten().find(|one| vrfs.contains(one))
    };
    links.iter().filter(|link| link.up).map(|link| (link.index, domain(link))).collect()
}

/// Looked for where an interface takes in a MAC address that no device here has, or all hosts more often than it would for devices here: of many
/// namespaces each has to be asked. What cannot be seen is left out.
fn above_elsewhere(
    links: &[Link],
    taken_in: &[(u32, [u8; 6])],
    all_hosts: &BTreeMap<u32, usize>,
) -> Vec<Link> {
    let has_foreign_mac = taken_in.iter().any(|(_, mac)| links.iter().all(|link| link.mac != Some(*mac)));
    let has_more = links.iter().any(|link| {
        let is_beside = |other: &&Link| {
            other.controller == Some(link.index)
                || other.lower == Some(link.index) && other.kind != Some(InfoKind::Veth)
        };
        let below = link.lower.filter(|_| link.kind != Some(InfoKind::Veth)).or(link.controller);
        let here = 1 + usize::from(below.is_some()) + links.iter().filter(is_beside).count();
        all_hosts.get(&link.index).is_some_and(|times| *times > here)
    });
    if !has_foreign_mac && !has_more {
        return Vec::new();
    }
    let of = |namespace: &i32| links_of(*namespace).unwrap_or_default();
    let all: Vec<_> = namespaces().unwrap_or_default().iter().flat_map(of).collect();
    let own = own_number().ok().flatten();
    let here = |above: Link| {
        let (namespace, below) = above.lower_elsewhere?;
        Some(Link { lower: Some(below), ..above }).filter(|_| Some(namespace) == own)
    };
    all.iter().map(link).filter_map(here).collect()
}

/// The other end of a veth, wherever it is; `None` where it cannot be seen from here.
///
/// # Errors
/// There are none.
pub fn peer_once(network: &Network, link: &Link) -> Result<Option<Link>> {
    if let Some(index) = link.lower {
        return Ok(network.links.iter().find(|other| other.index == index).cloned());
    }
    let Some((namespace, index)) = link.lower_elsewhere else { return Ok(None) };
    // Whoever may not look there is refused.
    Ok(one_link(index, Some(namespace)).ok().flatten().as_ref().map(self::link))
}

/// An event loop of one thread.
///
/// # Errors
/// The kernel lacks what it is made of.
pub fn event_loop() -> Result<tokio::runtime::Runtime> {
    const STARTING: &str = "starting the event loop";
    // The library panics where it cannot open what it hears of signals by, beside what it waits with: five files, which are tried here first.
    let room: Result<Vec<_>, _> = (0..3).map(|_| UnixStream::pair()).collect();
    drop(room.context(STARTING)?);
    tokio::runtime::Builder::new_current_thread().enable_all().build().context(STARTING)
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    let mut elsewhere = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::PropList(names) => {
                let name =
                    |name: &Prop| if let Prop::AltIfName(name) = name { Some(name.clone()) } else { None };
                link.alternative_names = names.iter().filter_map(name).collect();
            }
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Link(index) => link.lower = Some(*index),
            LinkAttribute::AfSpecUnspec(families) => {
                link.without_ipv6 = !families.iter().any(takes_ipv6);
                link.mtu6 = families.iter().find_map(mtu_of_ipv6).unwrap_or_default();
            }
            LinkAttribute::LinkNetNsId(id) => elsewhere = Some(*id),
            LinkAttribute::Xdp(attributes) => {
                link.xdp = xdp(attributes);
                link.programs = programs(attributes);
            }
            LinkAttribute::LinkInfo(infos) => {
                link.vlan = infos.iter().find_map(vlan);
                link.kind = infos
                    .iter()
                    .find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind.clone()) } else { None });
                link.active = infos.iter().any(is_active);
                link.locked = infos.iter().any(is_locked);
                link.uses_one_port = infos.iter().any(uses_one_port);
                let is_of_bridge = |wanted| infos.iter().any(|info| is_of_bridge(info, wanted));
                link.vlan_filtering = is_of_bridge(&InfoBridge::VlanFiltering(true));
                link.service_vlans = is_of_bridge(&InfoBridge::VlanProtocol(VlanProtocol::Ieee8021Ad));
                link.takes_below = infos.iter().any(takes_below);
                link.external = infos.iter().any(is_external);
                link.table = infos.iter().find_map(table);
            }
            _ => {}
        }
    }
    link.without_arp = message.header.flags.contains(LinkFlags::Noarp) && link.kind != Some(InfoKind::Vrf);
    // The index of an interface of another namespace means another one here.
    link.lower_elsewhere = elsewhere.zip(link.lower);
    link.lower = link.lower.filter(|_| elsewhere.is_none());
    link.vlan = link.vlan.zip(link.lower).map(|(vlan, parent)| Vlan { parent, ..vlan });
    link
}

/// An entry of an interface's own list of addresses (`NTF_SELF`), if it is one host's.
fn taken_in(message: &NeighbourMessage) -> Option<(u32, [u8; 6])> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
        _ => None,
    })?;
    let is_own = message.header.flags.contains(NeighbourFlags::Own);
    (is_own && mac[0] & 1 == 0).then_some((message.header.ifindex, mac))
}

fn xdp(attributes: &[LinkXdp]) -> Option<Xdp> {
    let program_id =
        attributes.iter().find_map(|a| if let LinkXdp::ProgId(id) = a { Some(*id) } else { None })?;
    let mode = attributes.iter().find_map(|a| match a {
        LinkXdp::Attached(XdpAttached::Driver) => Some("native"),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("generic"),
        LinkXdp::Attached(XdpAttached::Hardware) => Some("offload"),
        LinkXdp::Attached(_) => Some("multiple"),
        _ => None,
    })?;
    Some(Xdp { program_id, mode })
}

fn programs(attributes: &[LinkXdp]) -> Vec<u32> {
    let id = |attribute: &LinkXdp| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            Some(*id)
        }
        _ => None,
    };
    attributes.iter().filter_map(id).collect()
}

fn vlan(info: &LinkInfo) -> Option<Vlan> {
    let LinkInfo::Data(InfoData::Vlan(attributes)) = info else { return None };
    let mut vlan = Vlan { parent: 0, id: 0, service: false };
    for attribute in attributes {
        match attribute {
            InfoVlan::Id(id) => vlan.id = *id,
            InfoVlan::Protocol(protocol) => vlan.service = *protocol == VlanProtocol::Ieee8021Ad,
            _ => {}
        }
    }
    Some(vlan)
}

fn takes_ipv6(family: &AfSpecUnspec) -> bool {
    let is_off =
        |of: &AfSpecInet6| matches!(of, AfSpecInet6::DevConf(switches) if switches.disable_ipv6 != 0);
    matches!(family, AfSpecUnspec::Inet6(all) if !all.iter().any(is_off))
}

fn mtu_of_ipv6(family: &AfSpecUnspec) -> Option<u32> {
    let AfSpecUnspec::Inet6(all) = family else { return None };
    all.iter().find_map(|of| if let AfSpecInet6::DevConf(of) = of { of.mtu6.try_into().ok() } else { None })
}

fn is_active(info: &LinkInfo) -> bool {
    match info {
        LinkInfo::PortData(InfoPortData::BondPort(attributes)) => {
            attributes.contains(&InfoBondPort::BondPortState(BondPortState::Active))
        }
        LinkInfo::PortData(InfoPortData::BridgePort(attributes)) => {
            attributes.contains(&InfoBridgePort::State(BridgePortState::Forwarding))
        }
        _ => false,
    }
}

fn is_locked(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(attributes)) = info else { return false };
    attributes.contains(&InfoBridgePort::Locked(true))
}

/// As `bond_uses_primary` in include/net/bonding.h.
fn uses_one_port(info: &LinkInfo) -> bool {
    let LinkInfo::Data(InfoData::Bond(attributes)) = info else { return false };
    let modes = [BondMode::ActiveBackup, BondMode::BalanceTlb, BondMode::BalanceAlb];
    modes.into_iter().any(|mode| attributes.contains(&InfoBond::Mode(mode)))
}

fn is_of_bridge(info: &LinkInfo, wanted: &InfoBridge) -> bool {
    let LinkInfo::Data(InfoData::Bridge(attributes)) = info else { return false };
    attributes.contains(wanted)
}

fn table(info: &LinkInfo) -> Option<u32> {
    let LinkInfo::Data(InfoData::Vrf(attributes)) = info else { return None };
    attributes.iter().find_map(|one| if let InfoVrf::TableId(table) = one { Some(*table) } else { None })
}

fn takes_below(info: &LinkInfo) -> bool {
    match info {
        LinkInfo::Data(InfoData::MacVlan(attributes)) => {
            let has_no_destination = |one: &InfoMacVlan| matches!(one, InfoMacVlan::Flags(flags) if flags.contains(MacVlanFlags::NoDst));
            attributes.contains(&InfoMacVlan::Mode(MacVlanMode::Passthrough))
                || attributes.contains(&InfoMacVlan::Mode(MacVlanMode::Source))
                    && attributes.iter().any(has_no_destination)
        }
        LinkInfo::Data(InfoData::MacVtap(attributes)) => {
            let has_no_destination = |one: &InfoMacVtap| matches!(one, InfoMacVtap::Flags(flags) if flags.contains(MacVlanFlags::NoDst));
            attributes.contains(&InfoMacVtap::Mode(MacVlanMode::Passthrough))
                || attributes.contains(&InfoMacVtap::Mode(MacVlanMode::Source))
                    && attributes.iter().any(has_no_destination)
        }
        _ => false,
    }
}

fn is_external(info: &LinkInfo) -> bool {
    match info {
        LinkInfo::Data(InfoData::Vxlan(attributes)) => attributes.contains(&InfoVxlan::CollectMetadata(true)),
        LinkInfo::Data(InfoData::Geneve(attributes)) => attributes.contains(&InfoGeneve::CollectMetadata),
        LinkInfo::Data(InfoData::GreTap(attributes) | InfoData::ErSpan(attributes)) => {
            attributes.contains(&InfoGre::CollectMetadata)
        }
        LinkInfo::Data(InfoData::GreTap6(attributes) | InfoData::Ip6ErSpan(attributes)) => {
            attributes.contains(&InfoGre6::CollectMetadata)
        }
        _ => false,
    }
}

fn address(message: &AddressMessage) -> Option<Address> {
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut local, mut peer, mut broadcast) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Broadcast(address) => broadcast = Some(*address),
            _ => {}
        }
    }
    // An optimistic address may be used before its uniqueness is known (RFC 4429), a tentative one may not (RFC 4862 section 5.4).
    let optimistic = flags.contains(AddressFlags::Optimistic);
    if flags.bits() & u32::from(unusable.bits()) != 0 && !optimistic {
        return None;
    }
    // On a point-to-point link the attribute "address" is the other end's (rtnetlink(7)).
    let address = local.or(peer)?;
    Some(Address {
        ifindex: message.header.index,
        address,
        peer,
        prefix_len: message.header.prefix_len,
        broadcast,
        global: message.header.scope == AddressScope::Universe,
    })
}

/// What [`address`] leaves out.
fn unusable(message: &AddressMessage) -> Option<Unusable> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })?;
    let duplicate = message.header.flags.contains(AddressHeaderFlags::Dadfailed);
    Some(Unusable { ifindex: message.header.index, address, duplicate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_device_on_an_interface_of_another_namespace_belongs_to_none_here() {
        let mut message = LinkMessage::default();
        let vlan = LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(100)]));
        message.attributes = vec![LinkAttribute::Link(2), LinkAttribute::LinkInfo(vec![vlan])];
        assert_eq!(link(&message).vlan, Some(Vlan { parent: 2, id: 100, service: false }));
        message.attributes.push(LinkAttribute::LinkNetNsId(0));
        assert_eq!(link(&message).vlan, None);
    }

    #[test]
    fn an_interface_is_of_the_vrf_that_it_is_or_is_in_and_a_port_of_anything_else_is_not() {
        let link = |index, controller| Link { index, controller, up: true, ..Link::default() };
        let vrf = Link { table: Some(10), ..link(9, None) };
        let links = [link(1, None), link(3, Some(9)), link(4, Some(8)), link(8, None), vrf];
        let down = Link { up: false, ..link(2, Some(9)) };
        let expected = [(1, None), (3, Some(9)), (4, None), (8, None), (9, Some(9))];
        assert_eq!(domains(&[&links[..], &[down]].concat()), expected.into());
    }
}
