//! Headers to facts, or to the reason why there are none.
//!
//! Owns every check of the link layer's and IP's headers, up to lengths and the IPv4 checksum. It asks no table. Whether a packet is
//! the usual one (no options, no fragment, lengths in order, checksum intact) is told at once by few operations; what is unusual about
//! one that is not, [`unusual`] says apart, and tests below hold both against the rules.

use crate::checksum::Sum;
use crate::frame::{Frame, field};
use crate::outcome::{Step, end};
use crate::path::apart::{About, Apart, UNUSUAL};
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
}

/// Reads the EtherType, through up to two tags.
#[inline(always)]
pub(crate) fn link<F: Frame>(frame: &mut F) -> Step<Link> {
    let Some(header) = frame.window::<{ ethernet::LEN }>(0) else { return end(Reason::Truncated, NO_IP_ROW) };
    let ether_type = u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header));
    if ether_type != ethernet::CUSTOMER_TAG && ether_type != ethernet::SERVICE_TAG {
        return Ok(Link { l3: ethernet::LEN, vlan: 0, ether_type });
    }
    // one or two tags are understood; behind a third one there is no IP for us.
    let (outer, inner_type) = tag(frame, ethernet::LEN)?;
    if inner_type != ethernet::CUSTOMER_TAG && inner_type != ethernet::SERVICE_TAG {
        let single = if ether_type == ethernet::SERVICE_TAG { Scope::SERVICE_ONLY << 12 } else { 0 };
        let vlan = if outer == 0 { 0 } else { outer | single };
        return Ok(Link { l3: ethernet::LEN + ethernet::TAG_LEN, vlan, ether_type: inner_type });
    }
    let (inner, last_type) = tag(frame, ethernet::LEN + ethernet::TAG_LEN)?;
    // A priority tag around or inside another is nothing anybody configures, and the reserved identifier is no VLAN's but marks a
    // single service tag: 0xffffff is never in the table.
    let vlan = if outer == 0 || inner == 0 || inner == Scope::SERVICE_ONLY {
        0xff_ffff
    } else {
        outer | inner << 12
    };
    Ok(Link { l3: ethernet::LEN + 2 * ethernet::TAG_LEN, vlan, ether_type: last_type })
}

/// VLAN identifier and EtherType of the tag at `offset`.
#[inline(always)]
fn tag<F: Frame>(frame: &mut F, offset: usize) -> Step<(u32, u16)> {
    let Some(tag) = frame.window::<{ ethernet::TAG_LEN }>(offset) else {
        return end(Reason::Truncated, NO_IP_ROW);
    };
    let control = u16::from_be_bytes(field::<0, 2, _>(tag));
    Ok(((control & ethernet::VLAN_ID_MASK) as u32, u16::from_be_bytes(field::<2, 2, _>(tag))))
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

/// Ends what is not ICMP.
#[inline(always)]
pub(crate) fn protocol<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    family: Family,
) -> Step<()> {
    let is_icmp = match family {
        Family::V4 => frame.window::<{ ipv4::WITH_ICMP }>(link.l3).map(|h| h[ipv4::PROTOCOL] == ipv4::ICMP),
        Family::V6 => {
            frame.window::<{ ipv6::WITH_ICMP }>(link.l3).map(|h| h[ipv6::NEXT_HEADER] == ipv6::ICMPV6)
        }
    };
    match is_icmp {
        Some(true) => Ok(()),
        // Most traffic ends here.
        Some(false) if matches!(family, Family::V4) => end(Reason::NotIcmp, IPV4_ROW),
        _ => end_unusual(frame, tables, About::new(family, link.l3, link.vlan)),
    }
}

#[inline(always)]
fn end_unusual<F: Apart, T: Tables, R>(frame: &mut F, tables: &T, about: About) -> Step<R> {
    let number = frame.apart::<UNUSUAL, T>(tables, about, [0; 2]);
    end(Reason::from_number(number as u8), row(about.family()))
}

/// An IP packet that holds an ICMP message, every length proved. An IPv4 address is the first half.
pub(crate) struct Headers {
    pub(crate) source: Halves,
    pub(crate) destination: Halves,
    pub(crate) icmp_len: usize,
    pub(crate) hop_limit: u8,
    pub(crate) icmp_type: u8,
    pub(crate) code: u8,
}

impl Headers {
    /// Length of the packet, and of its answer.
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
        Family::V4 => frame.window::<{ ipv4::WITH_ICMP }>(link.l3).and_then(|h| v4(h, link.l3, available)),
        Family::V6 => frame.window::<{ ipv6::WITH_ICMP }>(link.l3).and_then(|h| v6(h, link.l3, available)),
    };
    match usual {
        Some(headers) => Ok(headers),
        None => end_unusual(frame, tables, About::new(family, link.l3, link.vlan)),
    }
}

/// The headers of a packet that had them before.
#[inline(always)]
pub(crate) fn headers_again<F: Frame>(frame: &mut F, about: About) -> Option<Headers> {
    match about.family() {
        Family::V4 => {
            let header = frame.window::<{ ipv4::WITH_ICMP }>(about.l3())?;
            Some(facts_v4(header, about.len()))
        }
        Family::V6 => {
            let header = frame.window::<{ ipv6::WITH_ICMP }>(about.l3())?;
            Some(facts_v6(header, about.len()))
        }
    }
}

/// What may differ in the first word of an IPv4 header: everything but version and header length.
const VERSION: u32 = u32::from_ne_bytes([0xff, 0, 0, 0]);
/// What has to be zero in the second word: more fragments, the offset, the reserved bit.
const FRAGMENT: u32 = u32::from_ne_bytes([0, 0, !(ipv4::DONT_FRAGMENT >> 8) as u8, 0xff]);

/// The headers of a usual IPv4 packet.
#[inline(always)]
fn v4(header: &[u8; ipv4::WITH_ICMP], l3: usize, available: usize) -> Option<Headers> {
    let version = word::<{ ipv4::VERSION_IHL }, _>(header);
    let fragment = word::<{ ipv4::IDENTIFICATION }, _>(header);
    let ttl = word::<{ ipv4::TTL }, _>(header);
    let source = word::<{ ipv4::SOURCE }, _>(header);
    let destination = word::<{ ipv4::DESTINATION }, _>(header);
    let total_len = u16::from_be_bytes(field::<{ ipv4::TOTAL_LEN }, 2, _>(header)) as usize;
    let differences =
        (version ^ u32::from_ne_bytes([ipv4::VERSION_4_IHL_5, 0, 0, 0])) & VERSION | fragment & FRAGMENT;
    let sum = Sum::ZERO.add_u32(version).add_u32(fragment).add_u32(ttl).add_u32(source).add_u32(destination);
    if differences != 0 || total_len < ipv4::WITH_ICMP || l3 + total_len > available || !sum.verifies() {
        return None;
    }
    Some(facts_v4(header, total_len - ipv4::LEN))
}

#[inline(always)]
fn facts_v4(header: &[u8; ipv4::WITH_ICMP], icmp_len: usize) -> Headers {
    Headers {
        source: (u32::from_be_bytes(field::<{ ipv4::SOURCE }, 4, _>(header)) as u64, 0),
        destination: (u32::from_be_bytes(field::<{ ipv4::DESTINATION }, 4, _>(header)) as u64, 0),
        icmp_len,
        hop_limit: header[ipv4::TTL],
        icmp_type: header[ipv4::LEN + icmpv4::TYPE],
        code: header[ipv4::LEN + icmpv4::CODE],
    }
}

/// The four bytes at the constant `AT`, in the machine's order.
#[inline(always)]
fn word<const AT: usize, const W: usize>(header: &[u8; W]) -> u32 {
    u32::from_ne_bytes(field::<AT, 4, W>(header))
}

/// The headers of a usual IPv6 packet.
#[inline(always)]
fn v6(header: &[u8; ipv6::WITH_ICMP], l3: usize, available: usize) -> Option<Headers> {
    let payload_len = u16::from_be_bytes(field::<{ ipv6::PAYLOAD_LEN }, 2, _>(header)) as usize;
    let version = header[ipv6::VERSION_CLASS_LABEL] >> 4;
    if version != ipv6::VERSION_6 as u8
        || payload_len < icmpv6::LEN
        || l3 + ipv6::LEN + payload_len > available
    {
        return None;
    }
    Some(facts_v6(header, payload_len))
}

#[inline(always)]
fn facts_v6(header: &[u8; ipv6::WITH_ICMP], icmp_len: usize) -> Headers {
    Headers {
        source: ipv6::halves(field::<{ ipv6::SOURCE }, 16, _>(header)),
        destination: ipv6::halves(field::<{ ipv6::DESTINATION }, 16, _>(header)),
        icmp_len,
        hop_limit: header[ipv6::HOP_LIMIT],
        icmp_type: header[ipv6::LEN + icmpv6::TYPE],
        code: header[ipv6::LEN + icmpv6::CODE],
    }
}

/// Why a packet has no [`Headers`].
#[inline(always)]
pub(crate) fn unusual<F: Frame>(frame: &mut F, about: &About) -> Reason {
    let (available, total, l3) = (frame.linear_len(), frame.total_len(), about.l3());
    let lens = Lens { available, total, l3 };
    let short = if total > available { Reason::MultiBuffer } else { Reason::Truncated };
    match about.family() {
        Family::V4 => frame.window::<{ ipv4::WITH_ICMP }>(l3).map_or(short, |h| unusual_v4(h, &lens)),
        Family::V6 => frame.window::<{ ipv6::WITH_ICMP }>(l3).map_or(short, |h| unusual_v6(h, &lens)),
    }
}

/// How long a frame is, and where its IP header starts.
struct Lens {
    /// Bytes in the first buffer.
    available: usize,
    /// Bytes in all buffers.
    total: usize,
    l3: usize,
}

impl Lens {
    /// Why a packet of `len` bytes is not whole in the first buffer; `None` where it is.
    #[inline(always)]
    const fn beyond(&self, len: usize) -> Option<Reason> {
        let end = self.l3 + len;
        if end <= self.available {
            None
        } else if end <= self.total {
            Some(Reason::MultiBuffer)
        } else {
            Some(Reason::BadLength)
        }
    }
}

#[inline(always)]
fn unusual_v4(header: &[u8; ipv4::WITH_ICMP], lens: &Lens) -> Reason {
    if header[ipv4::PROTOCOL] != ipv4::ICMP {
        return Reason::NotIcmp;
    }
    // version 4 and exactly five words.
    let version_ihl = header[ipv4::VERSION_IHL];
    if version_ihl != ipv4::VERSION_4_IHL_5 {
        let options = version_ihl & ipv4::VERSION_MASK == ipv4::VERSION_4_IHL_5 & ipv4::VERSION_MASK
            && version_ihl > ipv4::VERSION_4_IHL_5;
        return if options { Reason::IpOptions } else { Reason::BadIpHeader };
    }
    // no fragment, not even the first; the reserved bit clear.
    let fragment = u16::from_be_bytes(field::<{ ipv4::FRAGMENT }, 2, _>(header));
    if fragment & ipv4::RESERVED_FLAG != 0 {
        return Reason::ReservedFlag;
    }
    if fragment & ipv4::FRAGMENT_MASK != 0 {
        return Reason::Fragment;
    }
    // the IP length counts, what the frame has beyond it is padding.
    let total_len = u16::from_be_bytes(field::<{ ipv4::TOTAL_LEN }, 2, _>(header)) as usize;
    if total_len < ipv4::WITH_ICMP {
        return Reason::BadLength;
    }
    if let Some(reason) = lens.beyond(total_len) {
        return reason;
    }
    //= https://www.rfc-editor.org/rfc/rfc1122#section-3.2.1.2
    //# A host MUST verify the IP header checksum on every received
    //# datagram and silently discard every datagram that has a bad
    //# checksum.
    Reason::BadIpChecksum
}

#[inline(always)]
fn unusual_v6(header: &[u8; ipv6::WITH_ICMP], lens: &Lens) -> Reason {
    // answered only where ICMPv6 follows directly.
    let next_header = header[ipv6::NEXT_HEADER];
    if next_header != ipv6::ICMPV6 {
        return if ipv6::is_extension(next_header) { Reason::ExtensionHeader } else { Reason::NotIcmp };
    }
    if header[ipv6::VERSION_CLASS_LABEL] >> 4 != ipv6::VERSION_6 as u8 {
        return Reason::BadIpHeader;
    }
    // a payload length of zero is shorter than the eight bytes every message has.
    let payload_len = u16::from_be_bytes(field::<{ ipv6::PAYLOAD_LEN }, 2, _>(header)) as usize;
    if payload_len < icmpv6::LEN {
        return Reason::BadLength;
    }
    lens.beyond(ipv6::LEN + payload_len).unwrap_or(Reason::BadLength)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::checksum::tests::rfc1071;
    use crate::frame::SliceFrame;
    use crate::path::testing::message;

    const L3: usize = ethernet::LEN;

    /// A frame whose first buffer has `linear` bytes of it.
    struct Cut<'a> {
        first: SliceFrame<'a>,
        total: usize,
    }

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

    /// What the rules say of a packet with ICMP as its protocol, one after the other and byte by byte.
    fn by_the_rules(family: Family, frame: &[u8], linear: usize) -> Result<(), Reason> {
        let byte = |at: usize| frame[L3 + at];
        let word = |at: usize| u16::from_be_bytes([byte(at), byte(at + 1)]);
        let len = match family {
            Family::V4 => {
                match (byte(0) >> 4, byte(0) & 15) {
                    (4, 5) => {}
                    (4, 6..) => return Err(Reason::IpOptions),
                    _ => return Err(Reason::BadIpHeader),
                }
                if word(6) & 0x8000 != 0 {
                    return Err(Reason::ReservedFlag);
                }
                if word(6) & 0x3fff != 0 {
                    return Err(Reason::Fragment);
                }
                if word(2) < 28 {
                    return Err(Reason::BadLength);
                }
                word(2) as usize
            }
            Family::V6 => {
                if byte(0) >> 4 != 6 {
                    return Err(Reason::BadIpHeader);
                }
                if word(4) < 8 {
                    return Err(Reason::BadLength);
                }
                40 + word(4) as usize
            }
        };
        if L3 + len > frame.len() {
            return Err(Reason::BadLength);
        }
        if L3 + len > linear {
            return Err(Reason::MultiBuffer);
        }
        if family == Family::V4 && rfc1071(&frame[L3..L3 + 20]) != 0 {
            return Err(Reason::BadIpChecksum);
        }
        Ok(())
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
        let about = About::new(family, L3, 0);
        let Some(headers) = usual else {
            assert_eq!(Err(unusual(&mut cut, &about)), rules, "{linear} of {frame:02x?}");
            return;
        };
        assert_eq!(rules, Ok(()), "{linear} of {frame:02x?}");
        let again = headers_again(&mut cut, about.with_len(headers.icmp_len));
        assert_eq!(again.map(|again| again.source), Some(headers.source));
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
                usual += u32::from(by_the_rules(Family::V4, &frame, frame.len()).is_ok());
            }
            assert_eq!(usual, if id == 0 { 1 } else { 2 });
        }
    }

    #[test]
    fn a_protocol_other_than_icmp_is_named_and_so_is_a_header_behind_which_it_may_be() {
        for protocol in 0..=u8::MAX {
            for (family, at, icmp) in [(Family::V4, 9, 1), (Family::V6, 6, 58)] {
                let mut frame = changed(family, &[(at, &[protocol])], true);
                let reason = unusual(&mut SliceFrame::new(&mut frame), &About::new(family, L3, 0));
                // RFC 8200, 4302, 6275, 7401, 5533.
                let extends = family == Family::V6 && [0, 43, 44, 51, 60, 135, 139, 140].contains(&protocol);
                if protocol != icmp {
                    assert_eq!(reason, if extends { Reason::ExtensionHeader } else { Reason::NotIcmp });
                }
            }
        }
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
