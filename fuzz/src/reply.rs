//! Replies, read and verified by etherparse and by icmp-tests, neither of which shares code with the packet path.
//!
//! Owns which fields a reply has in common with its request, and which not.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use icmp_common::abi::Settings;
use icmp_tests::packet;

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
    /// Identification and DF of IPv4, or flow label of IPv6.
    identity: (u32, bool),
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
    // What etherparse does not look at: the reserved flag, and which form of zero a checksum has.
    let mut objections = packet::objections_to_reply(reply);
    let (request, reply) = match (read(request), read(reply)) {
        (Ok(request), Ok(reply)) => (request, reply),
        (request, reply) => return vec![format!("read as {request:?} and {reply:?}")],
    };
    if !request.message_verifies {
        objections.retain(|objection| !objection.contains("the ICMP"));
    }
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
    let is_ipv4 = reply.addresses[0].is_ipv4();
    // where both were 0, DF is set; a flow label is not returned.
    let is_given_up = request.identity == (0, false) || !is_ipv4;
    let identity = if is_given_up { (0, true) } else { request.identity };
    demand(reply.identity == identity, "identification and DF, or flow label");
    let hop_limit = if is_ipv4 { settings.ttl } else { settings.hop_limit };
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
                (header.identification().into(), header.dont_fragment()),
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
                (header.flow_label().value(), true),
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

/// True for the two forms of zero, too: which of them verifies depends on the data.
fn is_same_sum(a: u16, b: u16) -> bool {
    a % 0xffff == b % 0xffff
}

#[cfg(test)]
mod tests {
    use icmp_tests::host::policy_of;
    use icmp_tests::vectors;

    use super::*;

    #[test]
    fn a_right_reply_has_no_objections_and_one_with_a_flipped_bit_has() {
        let settings = policy_of("").settings;
        for id in ["v4-echo-len-0001", "v4-echo-len-0064", "v6-echo-len-0002"] {
            let vector = vectors::all().into_iter().find(|v| v.id == id).expect("a vector");
            let reply = vector.reply.expect("an answer");
            assert_eq!(objections(&vector.frame, &reply, &settings), Vec::<String>::new(), "{id}");
            for bit in 0..8 * reply.len() {
                let mut wrong = reply.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(
                    objections(&vector.frame, &wrong, &settings),
                    Vec::<String>::new(),
                    "{id} bit {bit}"
                );
            }
        }
    }
}
