//! Replies, read and verified by etherparse, which shares no code with the packet path.
//!
//! Owns what a reply has to have in common with its request, and what not.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use icmp_common::abi::Settings;

/// An echo message, in a frame.
#[derive(Debug)]
struct Read<'a> {
    /// Destination, source.
    macs: [[u8; 6]; 2],
    /// Destination, source.
    addresses: [IpAddr; 2],
    hop_limit: u8,
    is_reply: bool,
    /// What has to come back as it was.
    carried: Carried<'a>,
    /// Identification and DF of IPv4.
    identity: (u16, bool),
    header_verifies: bool,
    message_verifies: bool,
}

#[derive(Debug, PartialEq)]
struct Carried<'a> {
    /// From behind the MAC addresses to the IP header, and behind the IP packet.
    around: [&'a [u8]; 2],
    ip_length: usize,
    /// TOS or traffic class.
    class: u8,
    id: u16,
    seq: u16,
    data: &'a [u8],
}

/// All objections to a frame as the reply to another one.
pub(crate) fn objections(request: &[u8], reply: &[u8], settings: &Settings) -> Vec<String> {
    let (request, reply) = match (read(request), read(reply)) {
        (Ok(request), Ok(reply)) => (request, reply),
        (request, reply) => return vec![format!("read as {request:?} and {reply:?}")],
    };
    let mut objections = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            objections.push(format!("{what}: {request:?} got {reply:?}"));
        }
    };
    let crossed = |pair: [[u8; 6]; 2]| [pair[1], pair[0]];
    demand(reply.is_reply && !request.is_reply, "no reply to a request");
    demand(reply.macs == crossed(request.macs), "MAC addresses");
    demand(reply.addresses == [request.addresses[1], request.addresses[0]], "IP addresses");
    demand(reply.carried == request.carried, "something is not carried back");
    // Where both were 0, DF is set (RFC 6864 section 4).
    let identity = if request.identity == (0, false) { (0, true) } else { request.identity };
    demand(reply.identity == identity, "identification and DF");
    let hop_limit = if reply.addresses[0].is_ipv4() { settings.ttl } else { settings.hop_limit };
    demand(u32::from(reply.hop_limit) == hop_limit, "TTL or hop limit");
    demand(reply.header_verifies, "IP header checksum");
    demand(reply.message_verifies == request.message_verifies, "ICMP checksum");
    objections
}

fn read(frame: &[u8]) -> Result<Read<'_>, String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return Err("no Ethernet".to_owned()) };
    let start = 14 + 4 * packet.vlan_ids().len();
    let (addresses, class, hop_limit, ip_length, identity, header_verifies) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            if !header.options().is_empty() || header.is_fragmenting_payload() {
                return Err("options, or a fragment".to_owned());
            }
            (
                [IpAddr::from(header.destination_addr()), header.source_addr().into()],
                header.dcp().value() << 2 | header.ecn().value(),
                header.ttl(),
                usize::from(header.total_len()),
                (header.identification(), header.dont_fragment()),
                is_same_sum(header.header_checksum(), header.to_header().calc_header_checksum()),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (
                [IpAddr::from(header.destination_addr()), header.source_addr().into()],
                header.traffic_class(),
                header.hop_limit(),
                40 + usize::from(header.payload_length()),
                (0, true),
                true,
            )
        }
        other => return Err(format!("no IP: {other:?}")),
    };
    let (is_reply, echo, data, message_verifies) = match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => {
            let kind = icmp.icmp_type();
            let (is_reply, echo) = match &kind {
                Icmpv4Type::EchoRequest(echo) => (false, *echo),
                Icmpv4Type::EchoReply(echo) => (true, *echo),
                other => return Err(format!("no echo: {other:?}")),
            };
            let verifies = is_same_sum(icmp.checksum(), kind.calc_checksum(icmp.payload()));
            (is_reply, echo, icmp.payload(), verifies)
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let kind = icmp.icmp_type();
            let (is_reply, echo) = match &kind {
                Icmpv6Type::EchoRequest(echo) => (false, *echo),
                Icmpv6Type::EchoReply(echo) => (true, *echo),
                other => return Err(format!("no echo: {other:?}")),
            };
            let [IpAddr::V6(to), IpAddr::V6(from)] = addresses else {
                return Err("ICMPv6 over IPv4".to_owned());
            };
            let sum = kind.calc_checksum(from.octets(), to.octets(), icmp.payload());
            let sum = sum.map_err(|error| error.to_string())?;
            (is_reply, echo, icmp.payload(), is_same_sum(icmp.checksum(), sum))
        }
        other => return Err(format!("no ICMP: {other:?}")),
    };
    Ok(Read {
        macs: [link.destination(), link.source()],
        addresses,
        hop_limit,
        is_reply,
        carried: Carried {
            around: [&frame[12..start], &frame[start + ip_length..]],
            ip_length,
            class,
            id: echo.id,
            seq: echo.seq,
            data,
        },
        identity,
        header_verifies,
        message_verifies,
    })
}

/// True for the two forms of zero, too: which of them verifies depends on the data, and icmp-tests' own sum knows it.
fn is_same_sum(a: u16, b: u16) -> bool {
    a % 0xffff == b % 0xffff
}
