//! Headers to facts, or to the reason why there are none.
//!
//! Owns every check of the link layer's and IP's headers, up to lengths and the IPv4 checksum. It asks no table. Whether a packet is
//! the usual one (no options, no fragment, lengths in order, checksum intact) is told at once by few operations. Where the ICMP message of
//! another is, [`unusual`] finds apart: such a packet goes the same way as every other but is never answered. What the kernel ignores has
//! no message, but a reason. Tests below hold both against the rules.

use crate::checksum::Sum;
use crate::frame::{Frame, field};
use crate::outcome::{Step, end};
use crate::path::apart::{About, Apart, MAX_START, MAX_TAGS, TAGS, UNUSUAL};
use crate::path::reply;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::types::{Family, IPV4_ROW, IPV6_ROW, NO_IP_ROW};
use crate::wire::ipv6::Halves;
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

use crate::abi::Scope;

/// What the link layer says of a frame.
pub(crate) struct Link {
    /// Where the IP header starts.
    pub(crate) l3: usize,
    /// VLAN as [`Scope`] counts it; 0 is untagged or priority-tagged.
    pub(crate) vlan: u32,
    pub(crate) ether_type: u16,
    /// [`Unusual::USUAL`], or the reason why nothing in this frame is answered.
    pub(crate) unusual: Unusual,
}

/// Reads the EtherType, through all tags.
#[inline(always)]
pub(crate) fn link<F: Apart, T: Tables>(frame: &mut F, tables: &T) -> Step<Link> {
    let Some(header) = frame.window::<{ ethernet::LEN }>(0) else { return end(Reason::Truncated, NO_IP_ROW) };
    let ether_type = u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header));
    if !ethernet::is_tag(ether_type) {
        return Ok(Link { l3: ethernet::LEN, vlan: 0, ether_type, unusual: Unusual::USUAL });
    }
    let Some(tag) = frame.window::<{ ethernet::TAG_LEN }>(ethernet::LEN) else {
        return end(Reason::Truncated, NO_IP_ROW);
    };
    let (id, inner_type) = id_and_type(tag);
    if !ethernet::is_tag(inner_type) {
        let l3 = ethernet::LEN + ethernet::TAG_LEN;
        return Ok(Link {
            l3,
            vlan: single(ether_type, id),
            ether_type: inner_type,
            unusual: Unusual::USUAL,
        });
    }
    let tags = frame.apart::<TAGS, T>(tables, About::NOTHING, [0; 2]);
    if tags == CUT_TAGS {
        return end(Reason::Truncated, NO_IP_ROW);
    }
    Ok(Link {
        l3: ethernet::LEN + (tags as usize >> 40 & MAX_TAGS) * ethernet::TAG_LEN,
        vlan: (tags >> 16) as u32 & NO_VLAN,
        ether_type: tags as u16,
        unusual: if tags >> 48 == 0 { Unusual::USUAL } else { Unusual::of(Reason::UnknownVlan) },
    })
}

/// VLAN identifier of a tag, and the EtherType behind it.
#[inline(always)]
fn id_and_type(tag: &[u8; ethernet::TAG_LEN]) -> (u32, u16) {
    let control = u16::from_be_bytes(field::<0, 2, _>(tag));
    ((control & ethernet::VLAN_ID_MASK) as u32, u16::from_be_bytes(field::<2, 2, _>(tag)))
}

/// The VLAN of a frame with one tag, of which VLAN 0 is none.
#[inline(always)]
fn single(ether_type: u16, id: u32) -> u32 {
    let service = if ether_type == ethernet::SERVICE_TAG { Scope::SERVICE_ONLY << 12 } else { 0 };
    if id == 0 { 0 } else { id | service }
}

/// A VLAN that is never in the table: its inner identifier, which is reserved, marks a single service tag, and the outer one is reserved too.
const NO_VLAN: u32 = 0xff_ffff;

/// In the place of what [`tags`] returns: the frame ends within its tags.
const CUT_TAGS: u64 = u64::MAX;

/// The tags of a frame, through as many as the kernel takes for none: the EtherType behind them in bits 0 to 15, the VLAN in 16 to 39, how
/// many they are in 40 to 47, and in 48 whether any is of VLAN 0; or [`CUT_TAGS`]. Behind the last one that is looked at there is no IP
/// for us, nor behind a third one with a VLAN.
#[inline(always)]
pub(crate) fn tags<F: Frame>(frame: &mut F) -> u64 {
    let (mut tags, mut ether_type) = (0, ethernet::CUSTOMER_TAG);
    // Of those that are not of VLAN 0 the identifier, and in bit 12 whether it is a service tag; 16 bits each, the last one lowest.
    let mut vlans = 0;
    // Opaque, or the compiler writes the loop out.
    let mut left = F::opaque(MAX_TAGS);
    while left != 0 {
        left -= 1;
        let at = ethernet::ETHER_TYPE + tags * ethernet::TAG_LEN;
        let Some(tag) = frame.window::<{ 2 + ethernet::TAG_LEN }>(at) else { return CUT_TAGS };
        // Bit 3 tells the two kinds of tags from each other. Opaque, and not OR below: what the verifier knows of a number that differs with
        // the way here, it follows by itself.
        let service = F::opaque(tag[1] as usize) as u64 >> 3 & 1;
        ether_type = u16::from_be_bytes(field::<0, 2, _>(tag));
        if !ethernet::is_tag(ether_type) {
            break;
        }
        tags += 1;
        let id = (u16::from_be_bytes(field::<2, 2, _>(tag)) & ethernet::VLAN_ID_MASK) as u64;
        if id != 0 {
            vlans = F::opaque((vlans as usize) << 16) as u64 ^ service << 12 ^ id;
        }
    }
    let [inner, outer] = [vlans as u32 & 0xffff, (vlans >> 16) as u32 & 0xffff];
    let id = |vlan| vlan & ethernet::VLAN_ID_MASK as u32;
    let vlan = if outer == 0 {
        single(if inner == id(inner) { ethernet::CUSTOMER_TAG } else { ethernet::SERVICE_TAG }, id(inner))
    } else if id(inner) == Scope::SERVICE_ONLY {
        NO_VLAN
    } else {
        id(outer) | id(inner) << 12
    };
    if vlans >> 32 != 0 {
        ether_type = ethernet::CUSTOMER_TAG;
    }
    let any_zero = tags > (inner != 0) as usize + (outer != 0) as usize;
    (any_zero as u64) << 48 | (tags as u64) << 40 | (vlan as u64) << 16 | ether_type as u64
}

/// Whom a frame is for on the link.
#[inline(always)]
pub(crate) fn destination_mac<F: Frame>(frame: &mut F) -> Option<u64> {
    let header = frame.window::<{ ethernet::LEN }>(0)?;
    Some(ethernet::first_six(field::<{ ethernet::DESTINATION }, 8, _>(header)))
}

/// Who has sent a frame on the link.
#[inline(always)]
pub(crate) fn source_mac<F: Frame>(frame: &mut F) -> Option<u64> {
    let header = frame.window::<{ ethernet::LEN }>(0)?;
    Some(ethernet::address(field::<{ ethernet::SOURCE }, 6, _>(header)))
}

/// Counter row of packets of a family without a readable ICMP type.
#[inline(always)]
pub(crate) const fn row(family: Family) -> u8 {
    match family {
        Family::V4 => IPV4_ROW,
        Family::V6 => IPV6_ROW,
    }
}

/// Why a packet is never answered, and where its ICMP message is: zero for the usual one. Bits 0 to 7 a [`Reason`], 8 to 15 the ICMP type,
/// 16 to 31 the length of the message, 32 to 43 where it starts or zero for behind the IP header, and the bits below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusual(pub(crate) u64);

/// There is a message; otherwise the reason is that there is none.
const FOUND: u64 = 1 << 44;
/// It is a fragment of one.
const FRAGMENT: u64 = 1 << 45;
/// There may be one, which can't be read: it counts as of type 0, which IPv6 reserves.
const UNREADABLE: u64 = 1 << 46;

impl Unusual {
    /// A packet as most are, which may be answered.
    pub(crate) const USUAL: Self = Self(0);

    /// For a reason, and otherwise as most are.
    #[inline(always)]
    const fn of(reason: Reason) -> Self {
        Self(reason as u64)
    }

    /// A message of `len` bytes at `start`, the type of which is not known yet.
    #[inline(always)]
    const fn message(reason: Reason, start: usize, len: usize, is_fragment: bool) -> Self {
        let fragment = if is_fragment { FRAGMENT } else { 0 };
        let unreadable = if start > MAX_START { UNREADABLE } else { 0 };
        let (start, len) = ((start & MAX_START) as u64, len as u64 & 0xffff);
        Self(FOUND | reason as u64 | len << 16 | start << 32 | fragment | unreadable)
    }

    /// Why it is never answered.
    #[inline(always)]
    pub(crate) fn reason(self) -> Option<Reason> {
        if self.0 == 0 { None } else { Some(Reason::from_number(self.0 as u8)) }
    }

    /// True where [`unusual`] has found the message.
    #[inline(always)]
    const fn is_found(self) -> bool {
        self.0 & FOUND != 0
    }

    /// True for a fragment, the first one or all there is, so that the message may go on in others.
    #[inline(always)]
    pub(crate) const fn is_fragment(self) -> bool {
        self.0 & FRAGMENT != 0
    }

    /// True where nobody knows what the message is.
    #[inline(always)]
    pub(crate) const fn is_unreadable(self) -> bool {
        self.0 & UNREADABLE != 0
    }

    #[inline(always)]
    const fn icmp_type(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    const fn len(self) -> usize {
        (self.0 >> 16) as usize & 0xffff
    }

    /// Where the message starts.
    #[inline(always)]
    pub(crate) const fn start(self, about: About) -> usize {
        let start = (self.0 >> 32) as usize & MAX_START;
        if start == 0 { about.l3() + reply::header_len(about.family()) } else { start }
    }
}

/// Ends what is not ICMP, and not IPv6 with headers behind which it may be.
#[inline(always)]
pub(crate) fn protocol<F: Frame>(frame: &mut F, link: &Link, family: Family) -> Step<()> {
    let may_be_icmp = match family {
        Family::V4 => {
            frame.window::<{ ipv4::WITH_ICMP }>(link.l3).is_none_or(|h| h[ipv4::PROTOCOL] == ipv4::ICMP)
        }
        Family::V6 => frame
            .window::<{ ipv6::WITH_ICMP }>(link.l3)
            .is_none_or(|h| h[ipv6::NEXT_HEADER] == ipv6::ICMPV6 || ipv6::is_extension(h[ipv6::NEXT_HEADER])),
    };
    // Most traffic ends here.
    if may_be_icmp { Ok(()) } else { end(Reason::NotIcmp, row(family)) }
}

/// Where the message of a packet is that is not the usual one.
#[inline(always)]
fn found<F: Apart, T: Tables>(frame: &mut F, tables: &T, link: &Link, family: Family) -> Step<Unusual> {
    let about = About::new(family, link.l3, link.vlan);
    let unusual = Unusual(frame.apart::<UNUSUAL, T>(tables, about, [0; 2]));
    if unusual.is_found() { Ok(unusual) } else { end(Reason::from_number(unusual.0 as u8), row(family)) }
}

/// What an IP header says. An IPv4 address is the first half.
pub(crate) struct Ip {
    pub(crate) source: Halves,
    pub(crate) destination: Halves,
    pub(crate) hop_limit: u8,
}

/// An IP packet that holds an ICMP message, every length proved.
pub(crate) struct Headers {
    pub(crate) ip: Ip,
    pub(crate) icmp_len: usize,
    pub(crate) icmp_type: u8,
    pub(crate) code: u8,
    pub(crate) unusual: Unusual,
}

impl Headers {
    /// Length of the usual packet, and of its answer.
    #[inline(always)]
    pub(crate) const fn ip_len(&self, family: Family) -> usize {
        self.icmp_len + reply::header_len(family)
    }
}

/// The headers of a packet of ICMP, or why it has none.
#[inline(always)]
pub(crate) fn headers<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    family: Family,
) -> Step<Headers> {
    let available = frame.linear_len();
    let usual = match family {
        Family::V4 => frame.window::<{ ipv4::WITH_ICMP }>(link.l3).and_then(|h| {
            let icmp_len = v4(h, link.l3, available)?;
            let [icmp_type, code] = field::<{ ipv4::LEN + icmpv4::TYPE }, 2, _>(h);
            Some(Headers { ip: ip_v4(h), icmp_len, icmp_type, code, unusual: link.unusual })
        }),
        Family::V6 => frame.window::<{ ipv6::WITH_ICMP }>(link.l3).and_then(|h| {
            let icmp_len = v6(h, link.l3, available)?;
            let [icmp_type, code] = field::<{ ipv6::LEN + icmpv6::TYPE }, 2, _>(h);
            Some(Headers { ip: ip_v6(h), icmp_len, icmp_type, code, unusual: link.unusual })
        }),
    };
    if let Some(headers) = usual {
        return Ok(headers);
    }
    let unusual = found(frame, tables, link, family)?;
    let ip = match family {
        Family::V4 => frame.window::<{ ipv4::WITH_ICMP }>(link.l3).map(ip_v4),
        Family::V6 => frame.window::<{ ipv6::WITH_ICMP }>(link.l3).map(ip_v6),
    };
    let Some(ip) = ip else { return end(Reason::Truncated, row(family)) };
    // What is not answered needs no code.
    Ok(Headers { ip, icmp_len: unusual.len(), icmp_type: unusual.icmp_type(), code: 0, unusual })
}

/// What the IP header says of a packet that had its headers before.
#[inline(always)]
pub(crate) fn ip_again<F: Frame>(frame: &mut F, about: About) -> Option<Ip> {
    match about.family() {
        Family::V4 => frame.window::<{ ipv4::WITH_ICMP }>(about.l3()).map(ip_v4),
        Family::V6 => frame.window::<{ ipv6::WITH_ICMP }>(about.l3()).map(ip_v6),
    }
}

/// What may differ in the first word of an IPv4 header: everything but version and header length.
const VERSION: u32 = u32::from_ne_bytes([0xff, 0, 0, 0]);
/// What has to be zero in the second word: more fragments, the offset, the reserved bit.
const FRAGMENTS: u32 = u32::from_ne_bytes([0, 0, !(ipv4::DONT_FRAGMENT >> 8) as u8, 0xff]);

/// The length of the ICMP message in a usual IPv4 packet.
#[inline(always)]
fn v4(header: &[u8; ipv4::WITH_ICMP], l3: usize, available: usize) -> Option<usize> {
    let version = word::<{ ipv4::VERSION_IHL }, _>(header);
    let fragment = word::<{ ipv4::IDENTIFICATION }, _>(header);
    let ttl = word::<{ ipv4::TTL }, _>(header);
    let source = word::<{ ipv4::SOURCE }, _>(header);
    let destination = word::<{ ipv4::DESTINATION }, _>(header);
    let total_len = u16::from_be_bytes(field::<{ ipv4::TOTAL_LEN }, 2, _>(header)) as usize;
    let differences =
        (version ^ u32::from_ne_bytes([ipv4::VERSION_4_IHL_5, 0, 0, 0])) & VERSION | fragment & FRAGMENTS;
    let sum = Sum::ZERO.add_u32(version).add_u32(fragment).add_u32(ttl).add_u32(source).add_u32(destination);
    if differences != 0 || total_len < ipv4::WITH_ICMP || l3 + total_len > available || !sum.verifies() {
        return None;
    }
    Some(total_len - ipv4::LEN)
}

#[inline(always)]
fn ip_v4(header: &mut [u8; ipv4::WITH_ICMP]) -> Ip {
    Ip {
        source: (u32::from_be_bytes(field::<{ ipv4::SOURCE }, 4, _>(header)) as u64, 0),
        destination: (u32::from_be_bytes(field::<{ ipv4::DESTINATION }, 4, _>(header)) as u64, 0),
        hop_limit: header[ipv4::TTL],
    }
}

/// The four bytes at the constant `AT`, in the machine's order.
#[inline(always)]
fn word<const AT: usize, const W: usize>(header: &[u8; W]) -> u32 {
    u32::from_ne_bytes(field::<AT, 4, W>(header))
}

/// The length of the ICMPv6 message in a usual IPv6 packet.
#[inline(always)]
fn v6(header: &[u8; ipv6::WITH_ICMP], l3: usize, available: usize) -> Option<usize> {
    let payload_len = u16::from_be_bytes(field::<{ ipv6::PAYLOAD_LEN }, 2, _>(header)) as usize;
    let version = header[ipv6::VERSION_CLASS_LABEL] >> 4;
    if header[ipv6::NEXT_HEADER] != ipv6::ICMPV6
        || version != ipv6::VERSION_6 as u8
        || payload_len < icmpv6::LEN
        || l3 + ipv6::LEN + payload_len > available
    {
        return None;
    }
    Some(payload_len)
}

#[inline(always)]
fn ip_v6(header: &mut [u8; ipv6::WITH_ICMP]) -> Ip {
    Ip {
        source: ipv6::halves(field::<{ ipv6::SOURCE }, 16, _>(header)),
        destination: ipv6::halves(field::<{ ipv6::DESTINATION }, 16, _>(header)),
        hop_limit: header[ipv6::HOP_LIMIT],
    }
}

// -------------------------------------------------------------------------------------------------------------- unusual

/// Where the message of a packet is that is not the usual one ([`Unusual`]), or the reason why it has none, as a number.
#[inline(always)]
pub(crate) fn unusual<F: Apart, T: Tables>(frame: &mut F, tables: &T, about: &About) -> u64 {
    let found = match about.family() {
        Family::V4 => unusual_v4(frame, tables, *about),
        Family::V6 => unusual_v6(frame, *about),
    };
    let unusual = match found {
        Ok(unusual) => unusual,
        Err(reason) => return reason as u64,
    };
    match frame.window::<{ icmpv6::LEN }>(unusual.start(*about)) {
        Some([icmp_type, ..]) if !unusual.is_unreadable() => unusual.0 | (*icmp_type as u64) << 8,
        _ => unusual.0 | UNREADABLE,
    }
}

/// Why a frame has no header.
#[inline(always)]
fn short<F: Frame>(frame: &F) -> Reason {
    if frame.total_len() > frame.linear_len() { Reason::MultiBuffer } else { Reason::Truncated }
}

#[inline(always)]
fn unusual_v4<F: Apart, T: Tables>(frame: &mut F, tables: &T, about: About) -> Result<Unusual, Reason> {
    let l3 = about.l3();
    let Some(header) = frame.window::<{ ipv4::WITH_ICMP }>(l3) else { return Err(short(frame)) };
    // version 4, and five words at least.
    let version_ihl = header[ipv4::VERSION_IHL];
    let header_len = (version_ihl & !ipv4::VERSION_MASK) as usize * 4;
    if version_ihl & ipv4::VERSION_MASK != ipv4::VERSION_4_IHL_5 & ipv4::VERSION_MASK
        || header_len < ipv4::LEN
    {
        return Err(Reason::BadIpHeader);
    }
    // without the first fragment, which has the ICMP header, the kernel acts on no other one.
    let fragment = u16::from_be_bytes(field::<{ ipv4::FRAGMENT }, 2, _>(header));
    if fragment & ipv4::OFFSET_MASK != 0 {
        return Err(Reason::Fragment);
    }
    // the IP length counts, what the frame has beyond it is padding.
    let total_len = u16::from_be_bytes(field::<{ ipv4::TOTAL_LEN }, 2, _>(header)) as usize;
    if total_len < header_len + icmpv4::LEN || l3 + total_len > frame.total_len() {
        return Err(Reason::BadLength);
    }
    //= https://www.rfc-editor.org/rfc/rfc1122#section-3.2.1.2
    //# A host MUST verify the IP header checksum on every received
    //# datagram and silently discard every datagram that has a bad
    //# checksum.
    if reply::apart(frame, tables, about, l3, header_len).is_none_or(|sum| !sum.verifies()) {
        return Err(Reason::BadIpChecksum);
    }
    let is_fragment = fragment & ipv4::FRAGMENT_MASK != 0;
    let reason = if header_len > ipv4::LEN {
        Reason::IpOptions
    } else if fragment & ipv4::RESERVED_FLAG != 0 {
        Reason::ReservedFlag
    } else if is_fragment {
        Reason::Fragment
    } else {
        Reason::MultiBuffer
    };
    Ok(Unusual::message(reason, l3 + header_len, total_len - header_len, is_fragment))
}

/// the kernel acts on ICMPv6 behind extension headers as well.
#[inline(always)]
fn unusual_v6<F: Apart>(frame: &mut F, about: About) -> Result<Unusual, Reason> {
    let l3 = about.l3();
    let Some(header) = frame.window::<{ ipv6::WITH_ICMP }>(l3) else { return Err(short(frame)) };
    let mut next_header = header[ipv6::NEXT_HEADER];
    let reason = if next_header == ipv6::ICMPV6 { Reason::MultiBuffer } else { Reason::ExtensionHeader };
    if header[ipv6::VERSION_CLASS_LABEL] >> 4 != ipv6::VERSION_6 as u8 {
        return Err(Reason::BadIpHeader);
    }
    let payload_len = u16::from_be_bytes(field::<{ ipv6::PAYLOAD_LEN }, 2, _>(header)) as usize;
    let total = frame.total_len();
    let mut at = l3 + ipv6::LEN;
    // Before a hop-by-hop header the kernel takes a length of zero for all that there is (`ip6_rcv_core` in net/ipv6/ip6_input.c).
    let end = if payload_len == 0 && next_header == ipv6::HOP_BY_HOP { total } else { at + payload_len };
    if end > total {
        return Err(Reason::BadLength);
    }
    let mut is_fragment = false;
    // Opaque, or the compiler writes the loop out.
    let mut left = F::opaque(ipv6::MAX_CHAIN);
    while left != 0 && ipv6::is_walked(next_header) && at <= MAX_START {
        left -= 1;
        // The verifier forgets how far it can be, which is another number on each way here.
        at = at & MAX_START ^ F::opaque(0);
        let Some(&mut [next, units, high, low, ..]) = frame.window::<{ ipv6::UNIT }>(at) else { break };
        at += if next_header == ipv6::FRAGMENT {
            // Without the first fragment the kernel acts on no other one.
            if u16::from_be_bytes([high, low]) & ipv6::OFFSET_MASK != 0 {
                return Err(reason);
            }
            is_fragment = true;
            ipv6::UNIT
        } else {
            (units as usize + 1) * ipv6::UNIT
        };
        next_header = next;
    }
    let is_walked = ipv6::is_walked(next_header);
    if next_header != ipv6::ICMPV6 && !is_walked {
        // Nothing behind it is ICMPv6 that the kernel acts on.
        return Err(reason);
    }
    // every message has eight bytes.
    if at + icmpv6::LEN > end {
        return Err(if matches!(reason, Reason::MultiBuffer) { Reason::BadLength } else { reason });
    }
    // What is beyond where the chain was left is not looked at.
    let start = if is_walked { MAX_START + 1 } else { at };
    Ok(Unusual::message(reason, start, end - at, is_fragment))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::checksum::tests::rfc1071;
    use crate::frame::SliceFrame;
    use crate::host_tables::HostTables;
    use crate::path::testing::{message, rules, settings, tables};
    use crate::policy::Preset;

    const L3: usize = ethernet::LEN;

    /// A frame whose first buffer has `linear` bytes of it.
    struct Cut<'a> {
        first: SliceFrame<'a>,
        total: usize,
    }

    impl Apart for Cut<'_> {}

    impl Frame for Cut<'_> {
        fn linear_len(&self) -> usize {
            self.first.linear_len()
        }

        fn total_len(&self) -> usize {
            self.total
        }

        fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
            self.first.window(offset)
        }
    }

    /// What the rules say of a packet with ICMP as its protocol, one after the other and byte by byte: that it is usual, or why it is never
    /// answered and the length of its message, or why it has none.
    fn by_the_rules(family: Family, frame: &[u8], linear: usize) -> Result<Option<(Reason, usize)>, Reason> {
        let byte = |at: usize| frame[L3 + at];
        let word = |at: usize| u16::from_be_bytes([byte(at), byte(at + 1)]);
        let (len, header) = match family {
            Family::V4 => {
                let header = usize::from(byte(0) & 15) * 4;
                if byte(0) >> 4 != 4 || header < 20 {
                    return Err(Reason::BadIpHeader);
                }
                if word(6) & 0x1fff != 0 {
                    return Err(Reason::Fragment);
                }
                (usize::from(word(2)), header)
            }
            Family::V6 => {
                if byte(0) >> 4 != 6 {
                    return Err(Reason::BadIpHeader);
                }
                (40 + usize::from(word(4)), 40)
            }
        };
        if len < header + 8 || L3 + len > frame.len() {
            return Err(Reason::BadLength);
        }
        let is_cut = L3 + len > linear;
        if family == Family::V4 {
            if rfc1071(&frame[L3..L3 + header]) != 0 {
                return Err(Reason::BadIpChecksum);
            }
            let reasons = [
                (header > 20, Reason::IpOptions),
                (word(6) & 0x8000 != 0, Reason::ReservedFlag),
                (word(6) & 0x2000 != 0, Reason::Fragment),
            ];
            if let Some((_, reason)) = reasons.iter().find(|(holds, _)| *holds) {
                return Ok(Some((*reason, len - header)));
            }
        }
        Ok(is_cut.then_some((Reason::MultiBuffer, len - header)))
    }

    std::thread_local! {
        /// Which nothing here asks; making one takes long.
        static TABLES: HostTables = tables(settings(Preset::Host), rules());
    }

    /// What [`super::unusual`] says of a packet.
    fn apart<F: Apart>(frame: &mut F, family: Family) -> Result<Unusual, Reason> {
        let number = TABLES.with(|tables| unusual(frame, tables, &About::new(family, L3, 0)));
        if Unusual(number).is_found() { Ok(Unusual(number)) } else { Err(Reason::from_number(number as u8)) }
    }

    /// Holds what the few operations say of a packet, and what is said apart of one that they turn down, against the rules.
    fn agree(family: Family, frame: &[u8], linear: usize) {
        let rules = by_the_rules(family, frame, linear);
        let mut first = frame[..linear].to_vec();
        let mut cut = Cut { first: SliceFrame::new(&mut first), total: frame.len() };
        let usual = match family {
            Family::V4 => v4(cut.window(L3).expect("a header"), L3, linear),
            Family::V6 => v6(cut.window(L3).expect("a header"), L3, linear),
        };
        assert_eq!(usual.is_some(), rules == Ok(None), "{linear} of {frame:02x?}");
        if usual.is_some() {
            return;
        }
        let found = apart(&mut cut, family);
        let said = found.map(|found| Some((found.reason().expect("one"), found.len())));
        assert_eq!(said, rules, "{linear} of {frame:02x?}");
        if let Ok(found) = found {
            let start = found.start(About::new(family, L3, 0));
            assert_eq!(Some(&found.icmp_type()), frame.get(start), "{frame:02x?}");
        }
    }

    /// A packet with some of its header changed; `mends` sets an IPv4 checksum right behind that.
    fn changed(family: Family, changes: &[(usize, &[u8])], mends: bool) -> Vec<u8> {
        let mut frame = message(family, 0xc633_6405, 8, 0, 64);
        for (at, bytes) in changes {
            frame[L3 + at..L3 + at + bytes.len()].copy_from_slice(bytes);
        }
        if mends && family == Family::V4 {
            frame[L3 + 10..L3 + 12].fill(0);
            let sum = rfc1071(&frame[L3..L3 + 20]);
            frame[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }

    #[test]
    fn every_first_byte_is_the_usual_one_or_has_its_reason() {
        for byte in 0..=u8::MAX {
            for family in [Family::V4, Family::V6] {
                let frame = changed(family, &[(0, &[byte])], true);
                agree(family, &frame, frame.len());
            }
        }
    }

    #[test]
    fn every_fragment_field_is_a_usual_one_or_has_its_reason() {
        for fragment in 0..=u16::MAX {
            let frame = changed(Family::V4, &[(6, &fragment.to_be_bytes())], true);
            agree(Family::V4, &frame, frame.len());
        }
    }

    #[test]
    fn every_length_is_one_that_the_first_buffer_has_or_has_its_reason() {
        for len in 0..=u16::MAX {
            for (family, at) in [(Family::V4, 2), (Family::V6, 4)] {
                let frame = changed(family, &[(at, &len.to_be_bytes())], true);
                agree(family, &frame, frame.len());
                agree(family, &frame, frame.len() - 10);
            }
        }
    }

    #[test]
    fn of_all_ipv4_checksums_those_are_usual_that_verify() {
        let header = changed(Family::V4, &[(4, &[0, 0])], true);
        // Under the second identification the checksum is zero, and so is its negative.
        for id in [0, u16::from_be_bytes([header[L3 + 10], header[L3 + 11]])] {
            let mut usual = 0;
            for sum in 0..=u16::MAX {
                let frame = changed(Family::V4, &[(4, &id.to_be_bytes()), (10, &sum.to_be_bytes())], false);
                agree(Family::V4, &frame, frame.len());
                usual += u32::from(by_the_rules(Family::V4, &frame, frame.len()) == Ok(None));
            }
            assert_eq!(usual, if id == 0 { 1 } else { 2 });
        }
    }

    #[test]
    fn a_protocol_other_than_icmp_is_named_and_so_is_a_header_behind_which_there_is_none() {
        for protocol in 0..=u8::MAX {
            for (family, at, icmp) in [(Family::V4, 9, 1), (Family::V6, 6, 58)] {
                let mut frame = changed(family, &[(at, &[protocol])], true);
                // Not a header that can be walked, as it ends in itself.
                frame[L3 + 40] = protocol;
                // RFC 8200, 4302, 6275, 7401, 5533.
                let extends = family == Family::V6 && [0, 43, 44, 51, 60, 135, 139, 140].contains(&protocol);
                let link = Link { l3: L3, vlan: 0, ether_type: 0, unusual: Unusual::USUAL };
                let ended = super::protocol(&mut SliceFrame::new(&mut frame), &link, family);
                assert_eq!(ended.is_ok(), protocol == icmp || extends, "{family:?} {protocol}");
                if [51, 135, 139, 140].contains(&protocol) && family == Family::V6 {
                    let found = apart(&mut SliceFrame::new(&mut frame), family);
                    assert_eq!(found, Err(Reason::ExtensionHeader), "{protocol}");
                }
            }
        }
    }

    /// An ICMPv6 message of type 128 behind extension headers, each given by its kind and the bytes behind the first.
    fn chained(headers: &[(u8, &[u8])], message_len: usize) -> Vec<u8> {
        let mut frame = message(Family::V6, 0xc633_6405, 128, 0, message_len);
        let icmp = frame.split_off(L3 + 40);
        let mut next = L3 + 6;
        for (kind, content) in headers {
            frame[next] = *kind;
            next = frame.len();
            frame.push(58);
            frame.extend(*content);
        }
        let len = (frame.len() - L3 - 40 + message_len) as u16;
        frame[L3 + 4..L3 + 6].copy_from_slice(&len.to_be_bytes());
        frame.extend(icmp);
        frame
    }

    #[test]
    fn icmpv6_behind_extension_headers_is_found_where_the_kernel_finds_it() {
        let (short, long): (&[u8], &[u8]) = (&[0, 1, 4, 0, 0, 0, 0], &[1; 15]);
        let (first, later): (&[u8], &[u8]) = (&[0, 0, 1, 0, 0, 0, 9], &[0, 0, 9, 0, 0, 0, 9]);
        let (routing, atomic): (&[u8], &[u8]) = (&[0, 2, 0, 0, 0, 0, 0], &[7, 0, 0, 0, 0, 0, 9]);
        let (found, none) = (Ok((Reason::ExtensionHeader, false)), Err(Reason::ExtensionHeader));
        let fragment = Ok((Reason::ExtensionHeader, true));
        for (headers, expected) in [
            (&[(0, short)][..], found),
            (&[(60, long)], found),
            (&[(43, routing)], found),
            (&[(0, short), (60, long), (43, routing), (60, short)], found),
            (&[(44, first)], fragment),
            (&[(44, atomic)], fragment),
            (&[(0, long), (44, first), (60, short)], fragment),
            (&[(44, later)], none),
            (&[(0, short), (44, later)], none),
            (&[(51, short)], none),
            (&[(0, short), (51, short)], none),
            (&[(60, short); 8], found),
        ] {
            let mut frame = chained(headers, 16);
            let said = apart(&mut SliceFrame::new(&mut frame), Family::V6);
            let start = frame.len() - 4 - 16;
            let facts = said.map(|found| (found.reason().expect("one"), found.is_fragment()));
            assert_eq!(facts, expected, "{headers:?}");
            if let Ok(found) = said {
                let about = About::new(Family::V6, L3, 0);
                assert_eq!(
                    (found.start(about), found.icmp_type(), found.len()),
                    (start, 128, 16),
                    "{headers:?}"
                );
                assert!(!found.is_unreadable(), "{headers:?}");
            }
        }
    }

    #[test]
    fn a_chain_longer_than_is_walked_or_beyond_the_first_buffer_has_a_message_that_cannot_be_read() {
        let mut frame = chained(&[(60, &[0, 1, 4, 0, 0, 0, 0][..]); 9], 16);
        let found = apart(&mut SliceFrame::new(&mut frame), Family::V6).expect("a message");
        assert!(found.is_unreadable() && found.icmp_type() == 0);
        let frame = chained(&[(60, &[1; 15][..]); 2], 16);
        for linear in L3 + 48..frame.len() {
            let mut first = frame[..linear].to_vec();
            let cut = &mut Cut { first: SliceFrame::new(&mut first), total: frame.len() };
            let found = apart(cut, Family::V6).expect("a message");
            assert_eq!(
                found.is_unreadable(),
                linear < L3 + 40 + 32 + 8,
                "{linear} bytes in the first buffer"
            );
        }
    }

    #[test]
    fn a_length_of_zero_before_a_hop_by_hop_header_means_all_that_there_is() {
        for (kind, expected) in [(0, Ok(20)), (60, Err(Reason::ExtensionHeader))] {
            let mut frame = chained(&[(kind, &[0, 1, 4, 0, 0, 0, 0])], 16);
            frame[L3 + 4..L3 + 6].fill(0);
            // The four bytes behind the message count.
            let found = apart(&mut SliceFrame::new(&mut frame), Family::V6);
            assert_eq!(found.map(Unusual::len), expected);
        }
    }

    /// What [`link`] says of a frame with these tags: where the IP header starts, the VLAN, and whether anything may be answered.
    fn tagged(tags: &[(u16, u16)]) -> Option<(usize, u32, bool)> {
        let mut frame = message(Family::V4, 0xc633_6405, 8, 0, 16);
        let bytes = tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        frame.splice(12..12, bytes);
        let link = TABLES.with(|tables| link(&mut SliceFrame::new(&mut frame), tables)).ok()?;
        (link.ether_type == ethernet::IPV4).then_some((link.l3, link.vlan, link.unusual == Unusual::USUAL))
    }

    #[test]
    fn tags_of_vlan_0_count_for_none_and_beside_others_nothing_is_answered() {
        const C: u16 = 0x8100;
        const S: u16 = 0x88a8;
        for (tags, vlan, is_usual) in [
            (&[][..], 0, true),
            (&[(C, 0xe000)], 0, true),
            (&[(C, 7)], 7, true),
            (&[(S, 7)], 0xfff_007, true),
            (&[(C, 7), (C, 9)], 0x009_007, true),
            (&[(S, 7), (C, 9)], 0x009_007, true),
            (&[(S, 7), (C, 0xfff)], 0xff_ffff, true),
            (&[(C, 0), (C, 0)], 0, false),
            (&[(C, 0), (C, 7)], 7, false),
            (&[(C, 0), (S, 7)], 0xfff_007, false),
            (&[(S, 7), (C, 0)], 0xfff_007, false),
            (&[(C, 7), (C, 0), (C, 9)], 0x009_007, false),
            (&[(C, 0), (S, 7), (C, 0), (C, 9), (C, 0)], 0x009_007, false),
            (&[(C, 0); 62], 0, false),
        ] {
            let l3 = L3 + 4 * tags.len();
            assert_eq!(tagged(tags), Some((l3, vlan, is_usual)), "{tags:x?}");
        }
        assert_eq!(tagged(&[(C, 1), (C, 2), (C, 3)]), None, "three VLANs");
        assert_eq!(tagged(&[(C, 1), (C, 0), (C, 2), (C, 0), (C, 3), (C, 4)]), None, "four VLANs");
        assert_eq!(tagged(&[(C, 0); 64]), None, "more tags than are looked at");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn headers_with_anything_in_them_are_usual_or_have_their_reason(
            is_v4: bool,
            mends: bool,
            bytes in prop::collection::vec((0_usize..20, any::<u8>()), 0..4),
            cut in 0_usize..60,
        ) {
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            // Not the protocol, which is asked about before.
            let others = bytes.iter().filter(|(at, _)| *at != if is_v4 { 9 } else { 6 });
            let changes: Vec<_> = others.map(|(at, byte)| (*at, core::slice::from_ref(byte))).collect();
            let frame = changed(family, &changes, mends);
            agree(family, &frame, frame.len() - cut);
        }
    }
}
