//! ICMPv4, RFC 792.

use core::mem::offset_of;
use network_types::icmp::Icmpv4Hdr;

/// Bytes of the header that every message has.
pub const LEN: usize = Icmpv4Hdr::LEN;

/// Type, one byte.
pub const TYPE: usize = offset_of!(Icmpv4Hdr, type_);
/// Code, one byte.
pub const CODE: usize = offset_of!(Icmpv4Hdr, code);
/// Checksum over the message, 2 bytes.
pub const CHECKSUM: usize = offset_of!(Icmpv4Hdr, check);

/// Identifier of an echo message, 2 bytes.
pub const IDENTIFIER: usize = offset_of!(Icmpv4Hdr, data);
/// Sequence number of an echo message, 2 bytes.
pub const SEQUENCE: usize = IDENTIFIER + 2;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Echo request, which the RFC calls Echo.
pub const ECHO_REQUEST: u8 = 8;
/// Destination unreachable, whose code 4 carries an MTU (RFC 1191 section 4).
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Code of type 3: fragmentation needed and DF set.
pub const FRAGMENTATION_NEEDED: u8 = 4;

/// Messages that quote the packet they are about: destination unreachable, source quench, redirect, time exceeded, parameter problem.
#[inline(always)]
pub fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, DESTINATION_UNREACHABLE | 4 | 5 | 11 | 12)
}
