//! ICMPv6, RFC 4443.

use core::mem::offset_of;
use network_types::icmp::Icmpv6Hdr;

/// Bytes of the header that every message has.
pub const LEN: usize = Icmpv6Hdr::LEN;

/// Type, one byte.
pub const TYPE: usize = offset_of!(Icmpv6Hdr, type_);
/// Code, one byte.
pub const CODE: usize = offset_of!(Icmpv6Hdr, code);
/// Checksum over the pseudo-header and the message, 2 bytes.
pub const CHECKSUM: usize = offset_of!(Icmpv6Hdr, check);

/// Identifier of an echo message, 2 bytes.
pub const IDENTIFIER: usize = offset_of!(Icmpv6Hdr, data);
/// Sequence number of an echo message, 2 bytes.
pub const SEQUENCE: usize = IDENTIFIER + 2;

/// Echo request (section 4.1).
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply (section 4.2).
pub const ECHO_REPLY: u8 = 129;
/// Packet too big (section 3.2).
pub const PACKET_TOO_BIG: u8 = 2;
/// The next hop's MTU in that message, 4 bytes.
pub const MTU: usize = 4;
/// Router solicitation (RFC 4861 section 4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement (RFC 4861 section 4.2).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation (RFC 4861 section 4.3).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861 section 4.4).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861 section 4.5).
pub const REDIRECT: u8 = 137;
/// The solicited flag in the fifth byte of a neighbour advertisement.
pub const SOLICITED: u8 = 0x40;
/// The option with the sender's link-layer address (RFC 4861 section 4.6.1).
pub const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

/// The errors of RFC 4443, which quote the packet they are about.
#[inline(always)]
pub fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 1..=4)
}

/// The messages of RFC 4861.
#[inline(always)]
pub fn is_neighbour_discovery(icmp_type: u8) -> bool {
    matches!(icmp_type, ROUTER_SOLICITATION..=REDIRECT)
}
