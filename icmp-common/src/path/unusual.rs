//! The position of the ICMP message in an unusual packet, or the reason why it has none.
//!
//! Owns the word with the result ([`Unusual`]) and the search: through IPv4 options and extension headers, in first fragments and beyond the
//! first buffer. Such a packet goes through the same steps as every other but is never answered. It does not own which packets are unusual
//! (`parse.rs`).

use crate::frame::{Frame, field};
use crate::path::apart::{About, Apart, MAX_START};
use crate::path::reply;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

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
/// It goes on in other fragments.
const GOES_ON: u64 = 1 << 47;

impl Unusual {
    /// A packet as most are, which may be answered.
    pub(crate) const USUAL: Self = Self(0);

    /// For a reason, and otherwise as most are.
    #[inline(always)]
    pub(crate) const fn of(reason: Reason) -> Self {
        Self(reason as u64)
    }

    /// A message of `len` bytes at `start`, the type of which is not known yet; `fragment` has the bits about one, or is zero.
    #[inline(always)]
    const fn message(reason: Reason, start: usize, len: usize, fragment: u64) -> Self {
        let unreadable = if start > MAX_START { UNREADABLE } else { 0 };
        let (start, len) = ((start & MAX_START) as u64, len as u64 & 0xffff);
        Self(FOUND | reason as u64 | len << 16 | start << 32 | fragment | unreadable)
    }

    /// Why it is never answered.
    #[inline(always)]
    pub(crate) fn reason(self) -> Option<Reason> {
        if self.0 == 0 { None } else { Some(Reason::from_number(self.0 as u8)) }
    }

    /// What [`unusual`] has said: that there is a message, or why there is none.
    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Result<Self, Reason> {
        if word & FOUND != 0 { Ok(Self(word)) } else { Err(Reason::from_number(word as u8)) }
    }

    /// True for a fragment, the first one or all there is, so that the message may go on in others.
    #[inline(always)]
    pub(crate) const fn is_fragment(self) -> bool {
        self.0 & FRAGMENT != 0
    }

    /// True where other fragments have the rest of the message: how long it is nobody knows, but longer than this.
    #[inline(always)]
    pub(crate) const fn goes_on(self) -> bool {
        self.0 & GOES_ON != 0
    }

    /// True where nobody knows what the message is.
    #[inline(always)]
    pub(crate) const fn is_unreadable(self) -> bool {
        self.0 & UNREADABLE != 0
    }

    #[inline(always)]
    pub(crate) const fn icmp_type(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    pub(crate) const fn len(self) -> usize {
        (self.0 >> 16) as usize & 0xffff
    }

    /// Where the message starts.
    #[inline(always)]
    pub(crate) const fn start(self, about: About) -> usize {
        let start = (self.0 >> 32) as usize & MAX_START;
        if start == 0 { about.l3() + reply::header_len(about.family()) } else { start }
    }
}

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
    let fragment = if is_fragment { FRAGMENT | GOES_ON } else { 0 };
    Ok(Unusual::message(reason, l3 + header_len, total_len - header_len, fragment))
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
    let mut fragment = 0;
    // Opaque, or the compiler writes the loop out.
    let mut left = F::opaque(ipv6::MAX_CHAIN);
    while left != 0 && ipv6::is_walked(next_header) && at <= MAX_START {
        left -= 1;
        // The verifier forgets how far it can be, which is another number on each way here. Opaque once more, so that the mask comes last:
        // Linux 6.1 knows nothing of an XOR of numbers that differ.
        at = F::opaque(at ^ F::opaque(0)) & MAX_START;
        let Some(&mut [next, units, high, low, ..]) = frame.window::<{ ipv6::UNIT }>(at) else { break };
        at += if next_header == ipv6::FRAGMENT {
            // Without the first fragment the kernel acts on no other one.
            if u16::from_be_bytes([high, low]) & ipv6::OFFSET_MASK != 0 {
                return Err(reason);
            }
            fragment |= FRAGMENT | if low & ipv6::MORE_FRAGMENTS != 0 { GOES_ON } else { 0 };
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
    // The kernel puts a packet together of which the first fragment ends within the chain (`ipv6frag_thdr_truncated` in net/ipv6/reassembly.c), so
    // the message may be in another one. One that ends within the message it discards.
    let is_elsewhere = is_walked && fragment & GOES_ON != 0;
    // every message has eight bytes.
    if at + icmpv6::LEN > end && !is_elsewhere {
        return Err(if matches!(reason, Reason::MultiBuffer) { Reason::BadLength } else { reason });
    }
    // What is beyond where the chain was left is not looked at.
    let start = if is_walked { MAX_START + 1 } else { at };
    Ok(Unusual::message(reason, start, end.saturating_sub(at), fragment))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::frame::SliceFrame;
    use crate::path::testing::{Cut, L3, UNASKED, message};

    /// What [`unusual`] says of a packet.
    fn search(frame: &mut impl Apart) -> Result<Unusual, Reason> {
        Unusual::from_word(UNASKED.with(|tables| unusual(frame, tables, &About::new(Family::V6, L3, 0))))
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
        let (found, none) = (Ok((Reason::ExtensionHeader, false, false)), Err(Reason::ExtensionHeader));
        let one_of_several = Ok((Reason::ExtensionHeader, true, true));
        let alone = Ok((Reason::ExtensionHeader, true, false));
        for (headers, expected) in [
            (&[(0, short)][..], found),
            (&[(60, long)], found),
            (&[(43, routing)], found),
            (&[(0, short), (60, long), (43, routing), (60, short)], found),
            (&[(44, first)], one_of_several),
            (&[(44, atomic)], alone),
            (&[(0, long), (44, first), (60, short)], one_of_several),
            (&[(44, later)], none),
            (&[(0, short), (44, later)], none),
            (&[(51, short)], none),
            (&[(0, short), (51, short)], none),
            (&[(60, short); 8], found),
        ] {
            let mut frame = chained(headers, 16);
            let said = search(&mut SliceFrame::new(&mut frame));
            let start = frame.len() - 4 - 16;
            let facts =
                said.map(|found| (found.reason().expect("one"), found.is_fragment(), found.goes_on()));
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
        let found = search(&mut SliceFrame::new(&mut frame)).expect("a message");
        assert!(found.is_unreadable() && found.icmp_type() == 0);
        let frame = chained(&[(60, &[1; 15][..]); 2], 16);
        for linear in L3 + 48..frame.len() {
            let mut first = frame[..linear].to_vec();
            let cut = &mut Cut { first: SliceFrame::new(&mut first), total: frame.len() };
            let found = search(cut).expect("a message");
            assert_eq!(
                found.is_unreadable(),
                linear < L3 + 40 + 32 + 8,
                "{linear} bytes in the first buffer"
            );
        }
    }

    #[test]
    fn a_first_fragment_that_ends_within_the_chain_has_a_message_that_cannot_be_read() {
        let (first, last): (&[u8], &[u8]) = (&[0, 0, 1, 0, 0, 0, 9], &[0, 0, 0, 0, 0, 0, 9]);
        let (short, long): (&[u8], &[u8]) = (&[0, 1, 4, 0, 0, 0, 0], &[9, 1, 4, 0, 0, 0, 0]);
        let unreadable = Ok((true, true, true));
        for (headers, next, expected) in [
            (&[(44, first), (60, short)][..], 60, unreadable),
            (&[(44, first)], 60, unreadable),
            (&[(44, first), (60, long)], 60, unreadable),
            (&[(44, first), (60, short), (43, short)], 44, unreadable),
            (&[(0, short), (44, first), (60, short)], 60, unreadable),
            // The kernel discards these, or finds no ICMPv6 in them.
            (&[(44, first), (60, short)], 58, Err(Reason::ExtensionHeader)),
            (&[(44, first), (60, long)], 58, Err(Reason::ExtensionHeader)),
            (&[(44, first), (60, short)], 59, Err(Reason::ExtensionHeader)),
            (&[(44, last), (60, short)], 60, Err(Reason::ExtensionHeader)),
            (&[(60, short)], 60, Err(Reason::ExtensionHeader)),
        ] {
            let mut frame = chained(headers, 16);
            frame.truncate(frame.len() - 4 - 16);
            let (next_header, len) = (frame.len() - 8, (frame.len() - L3 - 40) as u16);
            frame[next_header] = next;
            frame[L3 + 4..L3 + 6].copy_from_slice(&len.to_be_bytes());
            let said = search(&mut SliceFrame::new(&mut frame));
            let facts = said.map(|found| (found.is_unreadable(), found.is_fragment(), found.goes_on()));
            assert_eq!(facts, expected, "{headers:?} and {next}");
        }
    }

    #[test]
    fn a_length_of_zero_before_a_hop_by_hop_header_means_all_that_there_is() {
        for (kind, expected) in [(0, Ok(20)), (60, Err(Reason::ExtensionHeader))] {
            let mut frame = chained(&[(kind, &[0, 1, 4, 0, 0, 0, 0])], 16);
            frame[L3 + 4..L3 + 6].fill(0);
            // The four bytes behind the message count.
            let found = search(&mut SliceFrame::new(&mut frame));
            assert_eq!(found.map(Unusual::len), expected);
        }
    }
}
