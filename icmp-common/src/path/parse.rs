//! Headers to facts, or to the reason why there are none.
//!
//! Owns every check of IP's headers, up to lengths and the IPv4 checksum. It searches no table. Whether a packet is the usual one (no options,
//! no fragment, lengths in order, checksum intact) takes few operations. It does not own the search for the message in other packets
//! ([`unusual`]); tests below compare both with the rules.
//!
//! [`unusual`]: crate::path::unusual

use crate::checksum::Sum;
use crate::frame::{Frame, field};
use crate::outcome::{Step, end};
use crate::path::apart::{About, Apart, UNUSUAL};
use crate::path::link::Link;
use crate::path::reply;
use crate::path::unusual::Unusual;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::types::{Family, IPV4_ROW, IPV6_ROW};
use crate::wire::ipv6::Halves;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// Counter row of packets of a family without a readable ICMP type.
#[inline(always)]
pub(crate) const fn row(family: Family) -> u8 {
    match family {
        Family::V4 => IPV4_ROW,
        Family::V6 => IPV6_ROW,
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
    match Unusual::from_word(frame.apart::<UNUSUAL, T>(tables, about, [0; 2])) {
        Ok(unusual) => Ok(unusual),
        Err(reason) => end(reason, row(family)),
    }
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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::checksum::tests::rfc1071;
    use crate::frame::SliceFrame;
    use crate::path::testing::{Cut, L3, UNASKED, message};
    use crate::path::unusual::unusual;

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

    /// What [`unusual`] says of a packet.
    fn apart(frame: &mut impl Apart, family: Family) -> Result<Unusual, Reason> {
        Unusual::from_word(UNASKED.with(|tables| unusual(frame, tables, &About::new(family, L3, 0))))
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
