//! Ethernet II and the VLAN tags of IEEE 802.1Q and 802.1ad.

use core::mem::offset_of;
use network_types::eth::EthHdr;
use network_types::vlan::VlanHdr;

/// Bytes of an untagged header.
pub const LEN: usize = EthHdr::LEN;
/// Bytes of one tag: the control information and the EtherType behind it.
pub const TAG_LEN: usize = VlanHdr::LEN;

/// Destination address, 6 bytes.
pub const DESTINATION: usize = offset_of!(EthHdr, dst_addr);
/// Source address, 6 bytes.
pub const SOURCE: usize = offset_of!(EthHdr, src_addr);
/// EtherType, 2 bytes.
pub const ETHER_TYPE: usize = offset_of!(EthHdr, ether_type);

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// IPv6 (RFC 2464 section 3).
pub const IPV6: u16 = 0x86dd;
/// Customer tag, IEEE 802.1Q.
pub const CUSTOMER_TAG: u16 = 0x8100;
/// Service tag, IEEE 802.1ad.
pub const SERVICE_TAG: u16 = 0x88a8;

/// True for the EtherType of a tag.
#[inline(always)]
pub fn is_tag(ether_type: u16) -> bool {
    ether_type == CUSTOMER_TAG || ether_type == SERVICE_TAG
}

/// The VLAN identifier in a tag's control information; the other four bits are priority and drop eligibility.
pub const VLAN_ID_MASK: u16 = 0x0fff;

/// An address as a number: its six bytes in memory, then two zeroes.
#[inline(always)]
pub fn address([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// The bit that marks a group (multicast or broadcast) address, in such a number.
pub const GROUP_BIT: u64 = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]);

/// The address in the first six of eight bytes: one load instead of two.
#[inline(always)]
pub fn first_six(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes) & u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0])
}
