//! A frame in a few words, for lists of who sent and what.

use std::fmt;
use std::net::IpAddr;

use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket};
use icmp_common::types::Family;

/// Who sends an IP packet, to whom, and which ICMP message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Type and code.
    pub(super) icmp: Option<(Family, u8, u8)>,
}

impl Packet {
    /// `None` where it is no IP packet.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let (source, destination, payload): (IpAddr, IpAddr, _) = match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload())
            }
            LaxNetSlice::Ipv6(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload())
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let family = match payload.ip_number {
            IpNumber::ICMP => Some(Family::V4),
            IpNumber::IPV6_ICMP => Some(Family::V6),
            _ => None,
        };
        // Not etherparse's idea of the message, which is none where its length is unusual for its type.
        let icmp = match (family, payload.payload) {
            (Some(family), [icmp_type, code, ..]) if !payload.fragmented => Some((family, *icmp_type, *code)),
            _ => None,
        };
        Some(Self { source, destination, icmp })
    }

    pub(super) fn is_echo_request(&self) -> bool {
        matches!(self.icmp, Some((Family::V4, 8, _) | (Family::V6, 128, _)))
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.source, self.destination)?;
        match self.icmp {
            Some((family, icmp_type, code)) => write!(f, ", {} type {icmp_type}/{code}", family.name()),
            None => Ok(()),
        }
    }
}
