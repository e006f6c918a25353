//! Owns frames as the tests build and read them: layers, echo messages, and checksums summed from nothing.
//!
//! The plainest form of everything, to compare the datapath with: one loop that adds sixteen bits at a time, no
//! incremental update, no shared constant (RFC 1071, RFC 792, RFC 4443 section 2.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netns::{HOST_MAC, PEER_MAC};

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// For local experiments (IEEE 802); nothing but these tests speaks it.
pub const ETHERTYPE_EXPERIMENT: u16 = 0x88b5;

/// A VLAN tag as it is in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN identifier.
    pub tci: u16,
}

/// A frame taken apart as far as the EtherType behind its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers<'a> {
    /// Destination MAC address.
    pub destination: &'a [u8],
    /// Source MAC address.
    pub source: &'a [u8],
    /// Tags, outermost first.
    pub tags: Vec<Tag>,
    /// What the payload is.
    pub ethertype: u16,
    /// All behind the EtherType, padding included.
    pub payload: &'a [u8],
}

impl<'a> Layers<'a> {
    /// None if the frame ends before an EtherType that is no tag's.
    #[must_use]
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let (destination, rest) = frame.split_at_checked(6)?;
        let (source, mut rest) = rest.split_at_checked(6)?;
        let mut tags = Vec::new();
        loop {
            let (ethertype, behind) = rest.split_at_checked(2)?;
            let ethertype = be16(ethertype, 0);
            if !matches!(ethertype, 0x8100 | 0x88a8) {
                return Some(Self { destination, source, tags, ethertype, payload: behind });
            }
            let (tci, behind) = behind.split_at_checked(2)?;
            tags.push(Tag { tpid: ethertype, tci: be16(tci, 0) });
            rest = behind;
        }
    }
}

/// The ones' complement sum of sixteen-bit words; an odd byte at the end counts as the high half of a word. It is
/// 0xffff over anything that contains its own right checksum.
#[must_use]
pub fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// The checksum that belongs into a field that was zero when `bytes` were summed.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !ones_sum(bytes)
}

/// [`ones_sum`] of an IPv6 packet's ICMPv6 message and pseudo-header; the packet is cut to its length.
#[must_use]
pub fn icmpv6_sum(packet: &[u8]) -> u16 {
    let message = &packet[40..];
    let length = u32::try_from(message.len()).expect("a packet");
    let mut all = packet[8..40].to_vec();
    all.extend(length.to_be_bytes());
    all.extend([0, 0, 0, 58]);
    all.extend(message);
    ones_sum(&all)
}

/// Sixteen bits in network order.
#[must_use]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// An echo request to be built; what is not set is what ping from the peer to the host would send.
#[derive(Clone, Debug)]
pub struct Echo {
    /// Destination MAC address.
    pub to_mac: [u8; 6],
    /// Source MAC address.
    pub from_mac: [u8; 6],
    /// Tags, outermost first.
    pub tags: Vec<Tag>,
    /// Source and destination, of one family.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// TOS, or traffic class.
    pub tos: u8,
    /// TTL, or hop limit.
    pub ttl: u8,
    /// Identification (IPv4), or flow label.
    pub id: u32,
    /// Flags and fragment offset (IPv4).
    pub fragment: u16,
    /// Options (IPv4), padded to words by the builder.
    pub options: Vec<u8>,
    /// Extension headers (IPv6): kind, and the bytes behind the next-header byte.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// ICMP type; None is an echo request of the family.
    pub kind: Option<u8>,
    /// ICMP code.
    pub code: u8,
    /// Identifier and sequence number, or whatever the second word of the message is.
    pub second_word: u32,
    /// Everything behind the second word.
    pub data: Vec<u8>,
}

impl Echo {
    /// A request from the peer to the host.
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, data: Vec<u8>) -> Self {
        assert_eq!(from.is_ipv4(), to.is_ipv4(), "one family");
        Self {
            to_mac: HOST_MAC,
            from_mac: PEER_MAC,
            tags: Vec::new(),
            from,
            to,
            tos: 0,
            ttl: 64,
            id: 0x1234,
            fragment: 0x4000,
            options: Vec::new(),
            extensions: Vec::new(),
            kind: None,
            code: 0,
            second_word: 0xf00d_0001,
            data,
        }
    }

    /// The frame, every length and checksum right.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.to_mac, self.from_mac].concat();
        for tag in &self.tags {
            frame.extend(tag.tpid.to_be_bytes());
            frame.extend(tag.tci.to_be_bytes());
        }
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend(ETHERTYPE_IPV4.to_be_bytes());
                frame.extend(self.ipv4(from, to));
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend(ETHERTYPE_IPV6.to_be_bytes());
                frame.extend(self.ipv6(from, to));
            }
            _ => unreachable!("the constructor takes one family"),
        }
        frame
    }

    fn message(&self, request: u8) -> Vec<u8> {
        let mut message = vec![self.kind.unwrap_or(request), self.code, 0, 0];
        message.extend(self.second_word.to_be_bytes());
        message.extend(&self.data);
        message
    }

    fn ipv4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let mut message = self.message(8);
        let sum = checksum(&message);
        put16(&mut message, 2, sum);
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header = 20 + options.len();
        let mut packet = vec![0; 20];
        packet[0] = 0x40 | u8::try_from(header / 4).expect("at most fifteen words");
        packet[1] = self.tos;
        put16(&mut packet, 2, length16(header + message.len()));
        put16(&mut packet, 4, u16::try_from(self.id & 0xffff).expect("masked"));
        put16(&mut packet, 6, self.fragment);
        packet[8] = self.ttl;
        packet[9] = 1;
        packet[12..16].copy_from_slice(&from.octets());
        packet[16..20].copy_from_slice(&to.octets());
        packet.extend(options);
        let sum = checksum(&packet);
        put16(&mut packet, 10, sum);
        packet.extend(message);
        packet
    }

    fn ipv6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let mut message = self.message(128);
        let mut bare = vec![0; 40];
        bare[8..24].copy_from_slice(&from.octets());
        bare[24..40].copy_from_slice(&to.octets());
        bare.extend(&message);
        put16(&mut message, 2, !icmpv6_sum(&bare));

        let mut packet = bare[..40].to_vec();
        let word = 6 << 28 | u32::from(self.tos) << 20 | self.id & 0xf_ffff;
        packet[..4].copy_from_slice(&word.to_be_bytes());
        packet[7] = self.ttl;
        // Each header names the kind of the next one.
        let mut next = 6;
        for (kind, content) in &self.extensions {
            packet[next] = *kind;
            next = packet.len();
            packet.push(0);
            packet.extend(content);
        }
        packet[next] = 58;
        let payload = packet.len() - 40 + message.len();
        put16(&mut packet, 4, length16(payload));
        packet.extend(message);
        packet
    }
}

/// Every objection to `frame` as something a responder may send: an echo reply without options, whose lengths fit and
/// whose checksums verify.
#[must_use]
pub fn objections_to_reply(frame: &[u8]) -> Vec<String> {
    let Some(layers) = Layers::of(frame) else { return vec!["no EtherType".into()] };
    let ip = layers.payload;
    let mut bad = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            bad.push(what.to_owned());
        }
    };
    match layers.ethertype {
        ETHERTYPE_IPV4 if ip.len() >= 28 => {
            let length = usize::from(be16(ip, 2));
            demand(ip[0] == 0x45, "not a bare IPv4 header");
            demand(ip[9] == 1, "not ICMP");
            demand(be16(ip, 6) & 0xbfff == 0, "a fragment, or the reserved bit");
            demand(ip[20] == 0 && ip[21] == 0, "not an echo reply");
            demand(ones_sum(&ip[..20]) == 0xffff, "the header checksum does not verify");
            match ip.get(20..length) {
                Some(message) if message.len() >= 8 => {
                    demand(ones_sum(message) == 0xffff, "the ICMP checksum does not verify");
                }
                _ => demand(false, "the length does not fit"),
            }
        }
        ETHERTYPE_IPV6 if ip.len() >= 48 => {
            let length = 40 + usize::from(be16(ip, 4));
            demand(ip[0] >> 4 == 6, "not IPv6");
            demand(ip[6] == 58, "not ICMPv6");
            demand(ip[40] == 129 && ip[41] == 0, "not an echo reply");
            match ip.get(..length) {
                Some(packet) if length >= 48 => {
                    demand(icmpv6_sum(packet) == 0xffff, "the ICMPv6 checksum does not verify");
                }
                _ => demand(false, "the length does not fit"),
            }
        }
        other => demand(false, &format!("EtherType {other:#06x} in {} bytes", frame.len())),
    }
    bad
}

/// Sets sixteen bits in network order.
pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("a packet has at most 65535 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    #[test]
    fn the_sum_is_that_of_the_rfcs_example() {
        // RFC 1071 section 3.
        assert_eq!(ones_sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(ones_sum(&[0xff, 0xff, 0x01]), 0x0100);
        assert_eq!(ones_sum(&[]), 0);
    }

    #[test]
    fn a_built_request_is_the_one_of_the_vectors() {
        for (id, from, to) in [
            ("v4-echo-len-0002", "192.0.2.1", "192.0.2.2"),
            ("v6-echo-len-0002", "2001:db8::1", "2001:db8::2"),
        ] {
            let want = vectors::all().into_iter().find(|v| v.id == id).expect("a vector").frame;
            let message = want.len() - 10;
            let mut echo =
                Echo::new(from.parse().expect("one"), to.parse().expect("one"), want[message + 8..].to_vec());
            echo.second_word = u32::from_be_bytes(want[message + 4..message + 8].try_into().expect("four"));
            if id.starts_with("v6") {
                echo.id = u32::from_be_bytes(want[14..18].try_into().expect("four")) & 0xf_ffff;
            }
            assert_eq!(vectors::to_hex(&echo.frame()), vectors::to_hex(&want), "{id}");
        }
    }

    #[test]
    fn every_expected_reply_is_one_a_responder_may_send_and_no_request_is() {
        for v in vectors::all() {
            let Some(reply) = &v.reply else { continue };
            if !v.vary.contains(&vectors::Vary::IcmpCode) {
                assert_eq!(objections_to_reply(reply), Vec::<String>::new(), "{}", v.id);
            }
            assert_ne!(objections_to_reply(&v.frame), Vec::<String>::new(), "{}", v.id);
        }
    }

    #[test]
    fn a_reply_with_a_flipped_bit_is_found() {
        let vectors = vectors::all();
        for id in ["v4-echo-len-0001", "v6-echo-len-0002"] {
            let reply = vectors.iter().find(|v| v.id == id).and_then(|v| v.reply.clone()).expect("an answer");
            for at in 38..reply.len() {
                let mut reply = reply.clone();
                reply[at] ^= 0x10;
                assert_ne!(objections_to_reply(&reply), Vec::<String>::new(), "{id} byte {at}");
            }
        }
    }

    #[test]
    fn layers_stop_at_the_end_of_the_frame() {
        let frame = [&[0; 12][..], &[0x81, 0, 0, 5, 0x88, 0xa8, 0, 6, 8, 0, 9]].concat();
        let layers = Layers::of(&frame).expect("whole");
        assert_eq!(layers.tags, [Tag { tpid: 0x8100, tci: 5 }, Tag { tpid: 0x88a8, tci: 6 }]);
        assert_eq!((layers.ethertype, layers.payload), (0x0800, &[9][..]));
        for length in 0..frame.len() - 1 {
            assert_eq!(Layers::of(&frame[..length]), None);
        }
    }
}
