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

/// Echo request (section 4.1).
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply (section 4.2).
pub const ECHO_REPLY: u8 = 129;
