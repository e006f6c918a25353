//! A frame in a few words, for lists of who sent and what.

use std::fmt;
use std::net::IpAddr;

use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket};
use icmp_common::types::Family;
use icmp_common::wire::{ethernet, ipv4, ipv6};

/// Who sends an IP packet, to whom, and which ICMP message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Type and code; of a fragment, where it is the first one.
    pub icmp: Option<(Family, u8, u8)>,
    /// The ICMP message, where it is one; as much of it as is there.
    pub message: &'a [u8],
    /// Of a fragment, where in its packet what it has begins, in bytes.
    pub fragment: Option<u16>,
}

impl<'a> Packet<'a> {
    /// `None` where it is no IP packet.
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
        Self::of(packet.net.as_ref()?)
    }

    /// `None` where it is another protocol's.
    pub fn of(net: &LaxNetSlice<'a>) -> Option<Self> {
        let (source, destination, hop_limit, payload, offset): (IpAddr, IpAddr, _, _, _) = match net {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let offset = header.fragments_offset().byte_offset();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    header.ttl(),
                    ip.payload(),
                    offset,
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
                let fragments = ip.extensions().clone().into_iter().filter_map(|header| match header {
                    Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment.fragment_offset().byte_offset()),
                    _ => None,
                });
                (source, destination, header.hop_limit(), ip.payload(), fragments.last().unwrap_or(0))
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let family = match payload.ip_number {
            IpNumber::ICMP => Some(Family::V4),
            IpNumber::IPV6_ICMP => Some(Family::V6),
            _ => None,
        };
        // Not etherparse's idea of the message, which is none where its length is unusual for its type.
        let (icmp, message) = match (family, payload.payload) {
            (Some(family), message @ [icmp_type, code, ..]) if offset == 0 => {
                (Some((family, *icmp_type, *code)), message)
            }
            _ => (None, &[][..]),
        };
        let fragment = payload.fragmented.then_some(offset);
        Some(Self { source, destination, hop_limit, icmp, message, fragment })
    }

    /// Whether it is an echo request.
    pub fn is_echo_request(&self) -> bool {
        matches!(self.icmp, Some((Family::V4, 8, _) | (Family::V6, 128, _)))
    }
}

/// Who sends an IP packet. The rest of it is not looked at.
pub fn source(frame: &[u8]) -> Option<IpAddr> {
    let mut at = ethernet::ETHER_TYPE;
    let mut ether_type = *frame.get(at..)?.first_chunk()?;
    while ethernet::is_tag(u16::from_be_bytes(ether_type)) {
        at += ethernet::TAG_LEN;
        ether_type = *frame.get(at..)?.first_chunk()?;
    }
    let packet = &frame[at + ether_type.len()..];
    match u16::from_be_bytes(ether_type) {
        ethernet::IPV4 => packet.get(ipv4::SOURCE..)?.first_chunk::<4>().map(|v4| (*v4).into()),
        ethernet::IPV6 => packet.get(ipv6::SOURCE..)?.first_chunk::<16>().map(|v6| (*v6).into()),
        _ => None,
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.source, self.destination)?;
        match self.icmp {
            Some((family, icmp_type, code)) => write!(f, ", {} type {icmp_type}/{code}", family.name()),
            None => Ok(()),
        }
    }
}
