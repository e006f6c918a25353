//! IPv6, RFC 8200 section 3.

use core::mem::offset_of;
use network_types::ip::{IpProto, Ipv6Hdr};

use crate::wire::icmpv6;

/// Bytes of the fixed header.
pub const LEN: usize = Ipv6Hdr::LEN;
/// Bytes of the fixed header and an ICMPv6 header: the window everything about a request is read from.
pub const WITH_ICMP: usize = LEN + icmpv6::LEN;

/// Version in the high four bits, traffic class in the next eight, flow label in the low twenty; 4 bytes.
pub const VERSION_CLASS_LABEL: usize = 0;
/// Payload length, 2 bytes.
pub const PAYLOAD_LEN: usize = offset_of!(Ipv6Hdr, payload_len);
/// Next header, one byte, directly before the hop limit.
pub const NEXT_HEADER: usize = offset_of!(Ipv6Hdr, next_hdr);
/// Hop limit, one byte.
pub const HOP_LIMIT: usize = offset_of!(Ipv6Hdr, hop_limit);
/// Source address, 16 bytes.
pub const SOURCE: usize = offset_of!(Ipv6Hdr, src_addr);
/// Destination address, 16 bytes.
pub const DESTINATION: usize = offset_of!(Ipv6Hdr, dst_addr);

/// Version 6 in the high four bits of the first byte.
pub const VERSION_6: u32 = 6;
/// Next header of ICMPv6 (RFC 4443 section 2.1).
pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
/// Next headers that RFC 8200 section 4, RFC 4302, RFC 6275, RFC 7401 and RFC 5533 name extension headers, ESP left out
/// because nothing behind it can be read.
pub const EXTENSION_HEADERS: [u8; 8] = [
    IpProto::HopOpt as u8,
    IpProto::Ipv6Route as u8,
    IpProto::Ipv6Frag as u8,
    IpProto::Ah as u8,
    IpProto::Ipv6Opts as u8,
    IpProto::MobilityHeader as u8,
    IpProto::Hip as u8,
    IpProto::Shim6 as u8,
];

/// True for one of [`EXTENSION_HEADERS`].
#[inline(always)]
pub fn is_extension(next_header: u8) -> bool {
    let mut found = false;
    for extension in EXTENSION_HEADERS {
        found |= next_header == extension;
    }
    found
}

/// Hop-by-hop options, which have to come first (RFC 8200 section 4.3).
pub const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
/// Fragment (RFC 8200 section 4.5): eight bytes, the offset in the third and fourth.
pub const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
/// The offset in a fragment header: zero in the first fragment, and where there is no other.
pub const OFFSET_MASK: u16 = 0xfff8;
/// In its fourth byte: other fragments follow.
pub const MORE_FRAGMENTS: u8 = 1;
/// Bytes of the shortest extension header, and what the length of all but the fragment header counts, itself left out.
pub const UNIT: usize = 8;
/// How many extension headers fit a packet of 1500 bytes before an ICMPv6 header.
pub const MAX_CHAIN: usize = 8;

/// True for an extension header behind which the kernel goes on whatever is loaded: hop-by-hop, routing, fragment, destination options. Behind
/// AH it does so for a packet that is authentic, and the others end a packet.
#[inline(always)]
pub fn is_walked(next_header: u8) -> bool {
    const WALKED: u64 =
        1 << HOP_BY_HOP | 1 << IpProto::Ipv6Route as u8 | 1 << FRAGMENT | 1 << IpProto::Ipv6Opts as u8;
    next_header < 64 && WALKED >> next_header & 1 != 0
}

/// An address as two big-endian halves.
pub type Halves = (u64, u64);

/// An address as it is in a header.
#[inline(always)]
pub fn halves(bytes: [u8; 16]) -> Halves {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

/// Link-local unicast, fe80::/10 (RFC 4291 section 2.5.6).
#[inline(always)]
pub fn is_link_local(high: u64) -> bool {
    high >> 54 == 0xfe80 >> 6
}

/// A solicited-node group, ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
#[inline(always)]
pub fn is_solicited_node((high, low): Halves) -> bool {
    high == 0xff02 << 48 && low >> 24 == 0x01ff
}

/// Multicast, ff00::/8 (RFC 4291 section 2.7).
#[inline(always)]
pub fn is_multicast(high: u64) -> bool {
    high >> 56 == 0xff
}

/// Sources that can have no answer: multicast, and everything in ::/64 with a zero start: unspecified, loopback, mapped and
/// compatible IPv4 addresses (RFC 4291 sections 2.5.2, 2.5.3, 2.5.5, 2.7; RFC 4942 section 2.2).
#[inline(always)]
pub fn is_martian_source(high: u64) -> bool {
    is_multicast(high) || high == 0
}

/// Sources whose packets the kernel drops whatever is in them: multicast, loopback (`ip6_rcv_core` in Linux's
/// net/ipv6/ip6_input.c, which takes IPv4-mapped ones).
#[inline(always)]
pub fn is_ignored_source((high, low): Halves) -> bool {
    is_multicast(high) || high == 0 && low == 1
}
