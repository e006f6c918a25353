//! IPv4, RFC 791 section 3.1.

use core::mem::offset_of;
use network_types::ip::{IpProto, Ipv4Hdr};

use crate::wire::icmpv4;

/// Bytes of a header without options, the only kind the fast path answers.
pub const LEN: usize = Ipv4Hdr::LEN;
/// Bytes of a header without options and an ICMP header: the window everything about a request is read from.
pub const WITH_ICMP: usize = LEN + icmpv4::LEN;

/// Version in the high four bits, header length in 32-bit words in the low four.
pub const VERSION_IHL: usize = 0;
/// Total length, 2 bytes.
pub const TOTAL_LEN: usize = offset_of!(Ipv4Hdr, tot_len);
/// Identification, 2 bytes, directly before the flags.
pub const IDENTIFICATION: usize = offset_of!(Ipv4Hdr, id);
/// Flags in the high three bits, fragment offset in the low thirteen, 2 bytes.
pub const FRAGMENT: usize = offset_of!(Ipv4Hdr, frags);
/// Time to live, one byte, directly before the protocol.
pub const TTL: usize = offset_of!(Ipv4Hdr, ttl);
/// Protocol, one byte.
pub const PROTOCOL: usize = offset_of!(Ipv4Hdr, proto);
/// Header checksum, 2 bytes.
pub const CHECKSUM: usize = offset_of!(Ipv4Hdr, check);
/// Source address, 4 bytes.
pub const SOURCE: usize = offset_of!(Ipv4Hdr, src_addr);
/// Destination address, 4 bytes.
pub const DESTINATION: usize = offset_of!(Ipv4Hdr, dst_addr);

/// Version 4 and five header words.
pub const VERSION_4_IHL_5: u8 = 0x45;
/// Version in a version-and-length byte.
pub const VERSION_MASK: u8 = 0xf0;
/// Protocol number of ICMP (RFC 792).
pub const ICMP: u8 = IpProto::Icmp as u8;
/// The flag bit that RFC 791 reserves.
pub const RESERVED_FLAG: u16 = 0x8000;
/// Don't fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, and the fragment offset: any of these set makes a fragment.
pub const FRAGMENT_MASK: u16 = 0x3fff;
/// The fragment offset: zero in the first fragment, and where there is no other.
pub const OFFSET_MASK: u16 = 0x1fff;

/// Sources that no single host on another machine has: "this network", loopback, multicast, class E with the limited
/// broadcast address (RFC 1122 section 3.2.1.3).
#[inline(always)]
pub fn is_martian_source(address: u32) -> bool {
    let first = address >> 24;
    // From 1 to 223, in one comparison.
    first.wrapping_sub(1) >= 223 || first == 127
}

/// Sources whose packets the kernel drops whatever is in them: multicast, limited broadcast (`ip_route_input_slow` in Linux's
/// net/ipv4/route.c, which since 5.3 takes 0/8 for unicast).
#[inline(always)]
pub fn is_ignored_source(address: u32) -> bool {
    is_group(address)
}

/// Multicast or limited broadcast (RFC 1122 section 3.2.1.3). A subnet's broadcast address needs the prefix length to be
/// known as one; the address table has it.
#[inline(always)]
pub fn is_group(address: u32) -> bool {
    address >> 28 == 0xe || address == u32::MAX
}
