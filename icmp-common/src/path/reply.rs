//! The reply to a request: whether the request's checksum permits one, and how the request becomes the reply.
//!
//! Owns the sum over a message and every write to a frame. It does not decide whether a reply is sent: the steps before have.

use crate::abi::{SETTINGS_VERIFY_FULL, Settings};
use crate::checksum::{Sum, echo_reply_v4, echo_reply_v6, update_u16, update_u32};
use crate::frame::{Frame, field, set_field, swap_fields};
use crate::path::Ingress;
use crate::path::apart::{About, Apart, MAX_START, SUM};
use crate::path::link::Link;
use crate::path::parse::Headers;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

// --------------------------------------------------------------------------------------------------------------- verify

/// why the checksum of a request forbids an answer.
#[inline(always)]
pub(crate) fn unverified<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    ingress: &Ingress<'_>,
    link: &Link,
    headers: &Headers,
    family: Family,
) -> Option<Reason> {
    if ingress.settings.flags & SETTINGS_VERIFY_FULL == 0 {
        return None;
    }
    let sum = if headers.icmp_len <= SHORT {
        short(frame, link.l3 + header_len(family), headers.icmp_len)
    } else {
        let about = ingress.about(link, headers, family);
        apart(frame, tables, about, link.l3 + header_len(family), headers.icmp_len)
    };
    match sum.zip(pseudo_header(frame, link.l3, headers.icmp_len, family)) {
        None => Some(Reason::MultiBuffer),
        Some((sum, pseudo)) if !sum.plus(pseudo).verifies() => Some(Reason::BadIcmpChecksum),
        Some(_) => None,
    }
}

/// True where the checksum of the message at `start` is right, or the message is too long to be summed here.
#[inline(always)]
pub(crate) fn message_verifies<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    start: usize,
) -> bool {
    let pseudo = pseudo_header(frame, about.l3(), about.len(), about.family());
    let sum = apart(frame, tables, about, start, about.len()).zip(pseudo);
    sum.is_none_or(|(sum, pseudo)| sum.plus(pseudo).verifies())
}

/// Bytes between the start of a usual packet and its message.
#[inline(always)]
pub(crate) const fn header_len(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    }
}

/// Sum over what a checksum covers beside the message: nothing in IPv4; in IPv6 the pseudo-header (RFC 8200 section 8.1), both addresses,
/// the length and the next header, the latter two in 32-bit words.
#[inline(always)]
fn pseudo_header<F: Frame>(frame: &mut F, l3: usize, len: usize, family: Family) -> Option<Sum> {
    if matches!(family, Family::V4) {
        return Some(Sum::ZERO);
    }
    let header = frame.window::<{ ipv6::WITH_ICMP }>(l3)?;
    let addresses = Sum::ZERO.add_words::<{ ipv6::SOURCE }, 32, _>(header);
    Some(addresses.add_u32((len as u32).to_be()).add_u32((ipv6::ICMPV6 as u32).to_be()))
}

/// Messages up to this length are summed where they are met.
const SHORT: usize = 127;
/// Bytes summed at a stretch.
const CHUNK: usize = 64;
/// Stretches that one buffer can have: a page of 4 KiB is the usual size, what is longer goes to the kernel.
const MAX_CHUNKS: usize = 4096 / CHUNK;
/// In the place of a sum: the message is longer than that.
const TOO_LONG: u64 = u64::MAX;

/// Sum over the `len` bytes at `start`; `None` where they are too long to be summed here.
#[inline(always)]
pub(crate) fn apart<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    start: usize,
    len: usize,
) -> Option<Sum> {
    let sum = frame.apart::<SUM, T>(tables, about, [start as u64, len as u64]);
    (sum != TOO_LONG).then(|| Sum::ZERO.add_u16(sum as u16))
}

/// Sum over the `len` bytes at `start`, a message mostly, R-24, R-30 and R-69, folded; or [`TOO_LONG`].
///
/// All lengths were proved before; the windows prove them again for the verifier.
#[inline(always)]
pub(crate) fn sum<F: Frame>(frame: &mut F, start: usize, len: usize) -> u64 {
    chunks(frame, start & MAX_START, len).map_or(TOO_LONG, |sum| sum.fold() as u64)
}

/// Where a message's last eight bytes can start at most, as a mask.
const MAX_LAST: usize = 2 * MAX_CHUNKS * CHUNK - 1;

#[inline(always)]
fn chunks<F: Frame>(frame: &mut F, start: usize, len: usize) -> Option<Sum> {
    if len > MAX_CHUNKS * CHUNK {
        return None;
    }
    let mut sum = Sum::ZERO;
    let mut at = 0;
    for _ in 0..MAX_CHUNKS {
        if at + CHUNK > len {
            break;
        }
        sum = sum.add_words::<0, CHUNK, CHUNK>(frame.window::<CHUNK>(start + at)?);
        at += CHUNK;
    }
    let summed = len & MAX_LAST & !(CHUNK - 1);
    Some(sum.plus(short(frame, start + summed, len & (CHUNK - 1))?))
}

/// Sum over `len` bytes at `start`, [`SHORT`] at most, by the bits of the length: no piece twice. Before `start` there are at least eight bytes.
#[inline(always)]
fn short<F: Frame>(frame: &mut F, start: usize, len: usize) -> Option<Sum> {
    let mut sum = Sum::ZERO;
    if len & 64 != 0 {
        sum = sum.add_words::<0, 64, 64>(frame.window::<64>(start)?);
    }
    if len & 32 != 0 {
        sum = sum.add_words::<0, 32, 32>(frame.window::<32>(start + (len & 64))?);
    }
    if len & 16 != 0 {
        sum = sum.add_words::<0, 16, 16>(frame.window::<16>(start + (len & 96))?);
    }
    if len & 8 != 0 {
        sum = sum.add_words::<0, 8, 8>(frame.window::<8>(start + (len & 112))?);
    }
    let rest = len & 7;
    if rest != 0 {
        // The last eight bytes, without those that have been summed or are before the start; behind an odd length it is as if a zero byte
        // followed.
        let at = F::opaque(start + (len & SHORT) - 8) & MAX_LAST;
        let last = u64::from_le_bytes(*frame.window::<8>(at)?) >> (64 - 8 * rest);
        sum = sum.add_u64(u64::from_ne_bytes(last.to_le_bytes()));
    }
    Some(sum)
}

// ---------------------------------------------------------------------------------------------------------------- write

/// Turns a request into its answer, R-26; `None` where it is not there any more, which cannot be.
#[inline(always)]
pub(crate) fn write<F: Frame>(frame: &mut F, settings: &Settings, l3: usize, family: Family) -> Option<()> {
    match family {
        Family::V4 => write_v4(frame.window(l3)?, settings),
        Family::V6 => write_v6(frame.window(l3)?, settings),
    }
    // back to the host the frame came from.
    swap_fields::<{ ethernet::DESTINATION }, { ethernet::SOURCE }, 6, _>(
        frame.window::<{ ethernet::LEN }>(0)?,
    );
    Some(())
}

#[inline(always)]
fn write_v4(header: &mut [u8; ipv4::WITH_ICMP], settings: &Settings) {
    // TTL, protocol and checksum, in one word.
    let [ttl, protocol, sum @ ..] = field::<{ ipv4::TTL }, 4, _>(header);
    // the TTL is ours, never the request's.
    let new_ttl = settings.ttl as u8;
    let (old_word, new_word) = (u16::from_ne_bytes([ttl, protocol]), u16::from_ne_bytes([new_ttl, protocol]));
    let mut checksum = update_u16(u16::from_ne_bytes(sum), old_word, new_word);
    // identification and DF come back as they came, but an identification of 0 only with DF.
    if field::<{ ipv4::IDENTIFICATION }, 4, _>(header) == [0; 4] {
        let with_df = [0, 0, (ipv4::DONT_FRAGMENT >> 8) as u8, 0];
        checksum = update_u32(checksum, 0, u32::from_ne_bytes(with_df));
        set_field::<{ ipv4::IDENTIFICATION }, 4, _>(header, with_df);
    }
    let [high, low] = checksum.to_ne_bytes();
    set_field::<{ ipv4::TTL }, 4, _>(header, [new_ttl, protocol, high, low]);
    // swapping the addresses leaves both sums alone.
    swap_fields::<{ ipv4::SOURCE }, { ipv4::DESTINATION }, 4, _>(header);
    // Type, code and checksum, in one word; the code is 0.
    let request = u16::from_ne_bytes(field::<{ ipv4::LEN + icmpv4::CHECKSUM }, 2, _>(header));
    let [high, low] = echo_reply_v4(request).to_ne_bytes();
    set_field::<{ ipv4::LEN + icmpv4::TYPE }, 4, _>(header, [icmpv4::ECHO_REPLY, 0, high, low]);
}

#[inline(always)]
fn write_v6(header: &mut [u8; ipv6::WITH_ICMP], settings: &Settings) {
    // version and traffic class stay, the flow label becomes zero.
    let class = header[ipv6::VERSION_CLASS_LABEL + 1] & 0xf0;
    set_field::<{ ipv6::VERSION_CLASS_LABEL + 1 }, 3, _>(header, [class, 0, 0]);
    header[ipv6::HOP_LIMIT] = settings.hop_limit as u8;
    swap_fields::<{ ipv6::SOURCE }, { ipv6::DESTINATION }, 16, _>(header);
    let request = u16::from_ne_bytes(field::<{ ipv6::LEN + icmpv6::CHECKSUM }, 2, _>(header));
    set_field::<{ ipv6::LEN + icmpv6::CHECKSUM }, 2, _>(header, echo_reply_v6(request).to_ne_bytes());
    header[ipv6::LEN + icmpv6::TYPE] = icmpv6::ECHO_REPLY;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::tests::rfc1071;
    use crate::frame::SliceFrame;
    use crate::path::testing::{self, message, send};
    use crate::policy::Preset;

    /// Where messages start: behind Ethernet, up to two tags, and either IP header.
    const STARTS: [usize; 4] = [34, 42, 54, 62];

    /// The sum as a checksum, in network order.
    fn checksum(sum: Sum) -> u16 {
        !u16::from_be(sum.fold())
    }

    #[test]
    fn a_message_of_every_length_sums_as_in_the_plain_loop_of_rfc_1071() {
        let mut bytes: [u8; 5000] = core::array::from_fn(|i| ((i * i) >> 3) as u8 ^ (i * 37 + 11) as u8);
        for start in STARTS {
            for len in (8..=520).chain(MAX_CHUNKS * CHUNK - 70..=MAX_CHUNKS * CHUNK) {
                let expected = rfc1071(&bytes[start..start + len]);
                let frame = &mut SliceFrame::new(&mut bytes);
                let summed = chunks(frame, start, len).expect("in the frame");
                assert_eq!(checksum(summed), expected, "{len} bytes at {start}, apart");
                if len <= SHORT {
                    let summed = short(frame, start, len).expect("in the frame");
                    assert_eq!(checksum(summed), expected, "{len} bytes at {start}");
                }
            }
            let frame = &mut SliceFrame::new(&mut bytes);
            assert_eq!(sum(frame, start, MAX_CHUNKS * CHUNK + 1), TOO_LONG);
        }
    }

    #[test]
    fn a_request_of_every_length_is_answered_and_with_one_bit_wrong_is_not() {
        let tables = testing::tables(testing::settings(Preset::Host), testing::rules());
        for (family, request, start) in [(Family::V4, 8, 34), (Family::V6, 128, 54)] {
            for len in 8..=200 {
                let whole = message(family, 0xc633_6405, request, 0, len);
                let mut reply = whole.clone();
                assert_eq!(send(&tables, &mut reply), Reason::Answered, "{family:?} {len}");
                if family == Family::V4 {
                    assert_eq!(rfc1071(&reply[start..start + len]), 0, "{len}: {reply:02x?}");
                    assert_eq!(rfc1071(&reply[14..34]), 0, "{len}: {reply:02x?}");
                }
                for at in [4, len / 2, len - 1].map(|at| at.max(4)) {
                    let mut wrong = whole.clone();
                    wrong[start + at] ^= 1 << (len % 8);
                    let sent = wrong.clone();
                    assert_eq!(
                        send(&tables, &mut wrong),
                        Reason::BadIcmpChecksum,
                        "{family:?} {len}, byte {at}"
                    );
                    assert_eq!(wrong, sent, "a request that is not answered is unchanged");
                }
                let mut padded = whole.clone();
                if let Some(last) = padded.last_mut() {
                    *last ^= 0xff;
                }
                assert_eq!(
                    send(&tables, &mut padded),
                    Reason::Answered,
                    "what follows a message is not of it"
                );
            }
        }
    }
}
