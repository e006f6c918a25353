//! A frame in a few words, for lists of senders and types.

use std::fmt;
use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, Ipv6ExtensionsSlice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket};
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
        Self::of(&LaxSlicedPacket::from_ethernet(frame).ok()?)
    }

    /// `None` where it is another protocol's, which what is behind a MACsec header is as well.
    pub fn of(frame: &LaxSlicedPacket<'a>) -> Option<Self> {
        let has_macsec = frame.link_exts.iter().any(|header| matches!(header, LaxLinkExtSlice::Macsec(_)));
        // etherparse goes by the version in the IP header, whatever the frame says that it has.
        let kind = frame.ether_payload().filter(|_| !has_macsec)?.ether_type;
        let (source, destination, hop_limit, payload, offset): (IpAddr, IpAddr, _, _, _) =
            match frame.net.as_ref()? {
                LaxNetSlice::Ipv4(ip) if kind == EtherType::IPV4 => {
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
                LaxNetSlice::Ipv6(ip) if kind == EtherType::IPV6 => {
                    let header = ip.header();
                    let (source, destination) =
                        (header.source_addr().into(), header.destination_addr().into());
                    (source, destination, header.hop_limit(), ip.payload(), fragment_offset(ip.extensions()))
                }
                _ => return None,
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

/// Where what a packet of IPv6 has behind its headers begins in the whole, in bytes. etherparse's own walk through them panics where one is cut off.
fn fragment_offset(headers: &Ipv6ExtensionsSlice<'_>) -> u16 {
    let (mut next, mut left) = (headers.first_header(), headers.slice());
    while let (Some(kind), [after, length, ..]) = (next, left) {
        let length = match kind {
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let word = left.get(2..4).and_then(|word| word.first_chunk());
                return word.map_or(0, |word| u16::from_be_bytes(*word) & !7);
            }
            // In words of four bytes, without the first two (RFC 4302, section 2.2).
            IpNumber::AUTHENTICATION_HEADER => 4 * (usize::from(*length) + 2),
            // In words of eight bytes, without the first one (RFC 8200, section 4).
            _ => 8 * (usize::from(*length) + 1),
        };
        (next, left) = (Some(IpNumber(*after)), left.get(length..).unwrap_or_default());
    }
    0
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of IPv6 from its next header on, behind 40 bytes of header.
    fn frame(next: u8, behind: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, behind.len() as u8, next, 64]);
        frame.extend([[0x20; 16], [0x21; 16]].concat());
        frame.extend(behind);
        frame
    }

    #[test]
    fn a_packet_is_of_the_version_that_the_frame_says() {
        let mut frame = frame(58, &[128, 0, 0, 0, 0, 1, 0, 1]);
        assert!(Packet::read(&frame).is_some());
        frame[13] = 0;
        frame[12] = 8;
        assert_eq!(Packet::read(&frame), None);
    }

    #[test]
    fn the_first_fragment_has_the_message_and_no_cut_off_header_is_walked_over() {
        let message = [128, 0, 0, 0, 0, 1, 0, 1];
        let options = [44, 0, 1, 4, 0, 0, 0, 0];
        let of = |word: [u8; 2]| [&options[..], &[58, 0, word[0], word[1], 0, 0, 0, 7], &message].concat();
        for (word, offset, icmp) in
            [([0, 1], 0, Some((Family::V6, 128, 0))), ([0, 9], 8, None), ([0xff, 0xf8], 0xfff8, None)]
        {
            let frame = frame(60, &of(word));
            let packet = Packet::read(&frame).expect("a packet");
            assert_eq!((packet.fragment, packet.icmp), (Some(offset), icmp));
        }
        let whole = frame(60, &of([0, 1]));
        for kind in 0..=u8::MAX {
            for end in 54..=whole.len() {
                let mut cut = whole[..end].to_vec();
                if let Some(next) = cut.get_mut(54) {
                    *next = kind;
                }
                let _packet = Packet::read(&cut);
                cut[20] = kind;
                let _packet = Packet::read(&cut);
            }
        }
    }
}
