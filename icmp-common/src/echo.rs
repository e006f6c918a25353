//! An echo request that is to be answered: within which limits, and how.
//!
//! Owns the order of the limits and the writing of the reply, for the short way and for the long one. That it may be answered at all
//! was found out before: nothing is left to be checked but what costs most.

use crate::abi::{Leases, Mask, SETTINGS_OBSERVE, SETTINGS_VERIFY_FULL, Settings};
use crate::budget::{Draw, budget_cell, draw, give_back};
use crate::checksum::{Sum, echo_reply_v4, echo_reply_v6, update_u16, update_u32};
use crate::familiar::{self, Word};
use crate::flows::Advance;
use crate::frame::{Frame, field, set_field, swap_fields};
use crate::limiter::{self, Admission, Rows, Shared};
use crate::outcome::{Outcome, Step, end};
use crate::policy::Budget;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::talkers::{self, Source, TALKER_BITS, WINDOW_SHIFT};
use crate::types::Family;
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// An echo request.
pub(crate) struct Echo {
    /// Where its IP header starts.
    pub(crate) l3: usize,
    pub(crate) icmp_len: usize,
    pub(crate) family: Family,
    pub(crate) source: ipv6::Halves,
    /// Row it is counted in.
    pub(crate) row: u8,
}

// ---------------------------------------------------------------------------------------------------------------- limit

/// An echo request's source as the limiter sees it.
struct Sender {
    source: Source,
    hashes: (u64, u64),
}

impl Sender {
    /// The source as one level sees it.
    #[inline(always)]
    fn at_level<T: Tables>(tables: &T, mask: &Mask, family: Family, (high, low): ipv6::Halves) -> Self {
        let source = match family {
            Family::V4 => Source { high: high & mask.v4 as u64, low: 0, ip_version: 4, reserved: 0 },
            Family::V6 => {
                Source { high: high & mask.v6_high, low: low & mask.v6_low, ip_version: 6, reserved: 0 }
            }
        };
        let hashes = limiter::hash(&tables.secret(), source.high, source.low);
        Self { source, hashes }
    }

    /// Its places in the two rows of a level.
    #[inline(always)]
    fn places(&self, shift: u32) -> (u32, u32) {
        ((self.hashes.0 >> (shift & 63)) as u32, (self.hashes.1 >> (shift & 63)) as u32)
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        Word::tag(self.hashes.1)
    }

    /// Its place in `FAMILIAR`.
    #[inline(always)]
    fn familiar(&self) -> u32 {
        (self.hashes.1 >> (64 - familiar::PLACE_BITS)) as u32
    }

    #[inline(always)]
    fn talker(&self) -> u32 {
        (self.hashes.0 >> (64 - TALKER_BITS)) as u32
    }
}

/// True if one of the words says that the source with this tag is familiar.
#[inline(always)]
fn is_familiar<S: Shared>([one, other]: &[S; 2], tag: u32, epoch: u32) -> bool {
    Word(one.load()).is_familiar(tag, epoch) || Word(other.load()).is_familiar(tag, epoch)
}

/// Notes that the source was served; mostly its word is there and says so already.
#[inline(always)]
fn remember<T: Tables, S: Shared>(tables: &T, [first, second]: &[S; 2], sender: &Sender, epoch: u32) {
    let tag = sender.tag();
    let one = Word(first.load());
    if one.is_current(tag, epoch) {
        return;
    }
    let other = Word(second.load());
    if one.is_of(tag) || other.is_of(tag) {
        let (word, shared) = if one.is_of(tag) { (one, first) } else { (other, second) };
        let new = word.served(epoch);
        if new == word {
            return;
        }
        shared.store(new.0);
        if new.has_streak()
            && let Some(entry) = tables.familiar(sender.familiar())
        {
            entry.store(epoch as u64);
        }
    } else if let Some(new) = one.taken_over(tag, epoch) {
        first.store(new.0);
    } else if let Some(new) = other.taken_over(tag, epoch) {
        second.store(new.0);
    }
}

/// The epoch of [`crate::familiar`] that a tick is in.
#[inline(always)]
const fn epoch(settings: &Settings, ticks: u64) -> u32 {
    (ticks >> (settings.epoch_shift & 63)) as u32
}

/// Notes a sampled request that is dealt with by its flow.
#[inline(always)]
pub(crate) fn note_sampled<T: Tables>(
    tables: &T,
    settings: &Settings,
    ticks: u64,
    family: Family,
    source: ipv6::Halves,
    samples: u32,
    is_limited: bool,
) {
    let sender = Sender::at_level(tables, &settings.source.mask, family, source);
    if let Some(mut talker) = tables.talker(sender.talker()) {
        talker.note(&sender.source, epoch(settings, ticks) >> WINDOW_SHIFT, samples);
        if is_limited {
            talker.note_limited(&sender.source);
        }
    }
}

/// an echo request over a limit is dropped, or the limit would be void. Ends it unless total, source and prefix all admit.
///
/// Source and prefix pay in advance if both have half of their bursts left; the result is for how many requests.
#[inline(always)]
pub(crate) fn limit<T: Tables>(
    tables: &T,
    leases: &mut Leases,
    settings: &Settings,
    echo: &Echo,
    advance: Advance,
) -> Step<u32> {
    let ticks = tables.ticks();
    let epoch = epoch(settings, ticks);
    let sender = Sender::at_level(tables, &settings.source.mask, echo.family, echo.source);
    if talkers::sample(&mut leases.sampler)
        && let Some(mut talker) = tables.talker(sender.talker())
    {
        talker.note(&sender.source, epoch >> WINDOW_SHIFT, 1);
    }
    let reason = match admit(tables, leases, settings, ticks, &sender, echo, advance) {
        Ok(granted) => return Ok(granted),
        Err(reason) => reason,
    };
    if talkers::is_sampled(leases.sampler)
        && let Some(mut talker) = tables.talker(sender.talker())
    {
        talker.note_limited(&sender.source);
    }
    end(reason, echo.row)
}

/// Admits an echo request, and those that it may pay for; or why it is not to be answered.
///
/// The total comes first: it is the cheapest to ask, and in a flood little else has to be.
#[inline(always)]
fn admit<T: Tables>(
    tables: &T,
    leases: &mut Leases,
    settings: &Settings,
    ticks: u64,
    sender: &Sender,
    echo: &Echo,
    advance: Advance,
) -> Result<u32, Reason> {
    let now = ticks << limiter::TICK_SHIFT;
    let epoch = epoch(settings, ticks);
    let shift = tables.cell_shift();
    let places = sender.places(shift);
    let mut budget = Budget::Replies;
    match draw(tables, leases, settings, Budget::Replies as usize) {
        Draw::Taken => {}
        // What cannot be limited is not answered.
        Draw::Fault => return Err(Reason::Unconfigured),
        Draw::Exhausted => {
            leases.exhausted_at = ticks;
            leases.exhausted_in = epoch as u64;
            let familiar = tables
                .familiar(sender.familiar())
                .is_some_and(|entry| familiar::may_hold(entry.load(), epoch))
                && tables
                    .cluster(places.0)
                    .is_some_and(|cluster| is_familiar(&cluster.familiar, sender.tag(), epoch));
            if !familiar {
                return Err(Reason::LimitedTotal);
            }
            match draw(tables, leases, settings, Budget::Familiar as usize) {
                Draw::Taken => budget = Budget::Familiar,
                Draw::Exhausted | Draw::Fault => return Err(Reason::LimitedTotal),
            }
        }
    }
    let prefix = Sender::at_level(tables, &settings.prefix.mask, echo.family, echo.source).places(shift);
    // A place that cannot be read is a fault of ours, which never drops a packet and is bounded by the total budget.
    let (Some(first), Some(second), Some(third), Some(fourth)) = (
        tables.cluster(places.0),
        tables.cluster(places.1),
        tables.cluster(prefix.0),
        tables.cluster(prefix.1),
    ) else {
        return Ok(0);
    };
    let source = Rows::read(first.source, second.source_second);
    let prefix = Rows::read(third.prefix, fourth.prefix_second);
    let (granted, returned) = if advance.wanted != 0
        && matches!(budget, Budget::Replies)
        && source.is_calm(&settings.source.limit, now)
        && prefix.is_calm(&settings.prefix.limit, now)
    {
        (advance.wanted, advance.returned as u64)
    } else {
        (0, 0)
    };
    let packets = granted as u64 + 1;
    let Admission::Admitted { calm } = source.charge(&settings.source.limit, packets, returned, now) else {
        give_back(leases, settings, budget as usize);
        return Err(Reason::LimitedSource);
    };
    if prefix.charge(&settings.prefix.limit, packets, returned, now) == Admission::Refused {
        give_back(leases, settings, budget as usize);
        return Err(Reason::LimitedPrefix);
    }
    // While the total is exhausted nobody becomes familiar, who is stays so.
    let from_reserve = matches!(budget, Budget::Familiar);
    if calm && (from_reserve || leases.exhausted_in != epoch as u64) {
        remember(tables, &first.familiar, sender, epoch);
    }
    if from_reserve && let Some(total) = settings.budgets.get(Budget::Replies as usize) {
        // What the reserve gives, everybody else gets less of: the total is never exceeded.
        limiter::owe(tables, budget_cell(Budget::Replies as usize), total, now);
    }
    Ok(granted)
}

// -------------------------------------------------------------------------------------------------------------- respond

/// Turns a request into its answer.
#[inline(always)]
pub(crate) fn respond<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    settings: &Settings,
    echo: &Echo,
) -> Step<Outcome> {
    match echo.family {
        Family::V4 => respond_v4(frame, tables, leases, settings, echo)?,
        Family::V6 => respond_v6(frame, tables, leases, settings, echo)?,
    }
    swap_macs(frame);
    Ok(Outcome { reason: Reason::Answered, row: echo.row })
}

/// The preset `observe` answers nothing: ends what has passed every check of an answer.
#[inline(always)]
fn ends_observed(settings: &Settings, row: u8) -> Step<()> {
    if settings.flags & SETTINGS_OBSERVE == 0 { Ok(()) } else { end(Reason::WouldAnswer, row) }
}

#[inline(always)]
fn respond_v4<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    settings: &Settings,
    echo: &Echo,
) -> Step<()> {
    let row = echo.row;
    if settings.flags & SETTINGS_VERIFY_FULL != 0 {
        let sum = sum_message(frame, tables, leases, echo.l3 + ipv4::LEN, echo.icmp_len);
        if let Some(reason) = unverified(sum) {
            return end(reason, row);
        }
    }
    ends_observed(settings, row)?;
    let Some(header) = frame.window::<{ ipv4::WITH_ICMP }>(echo.l3) else {
        return end(Reason::Truncated, row);
    };
    let mut checksum = u16::from_ne_bytes(field::<{ ipv4::CHECKSUM }, 2, _>(header));
    // the TTL is ours, never the request's.
    let ttl_word = field::<{ ipv4::TTL }, 2, _>(header);
    let new_ttl_word = [settings.ttl as u8, ttl_word[1]];
    checksum = update_u16(checksum, u16::from_ne_bytes(ttl_word), u16::from_ne_bytes(new_ttl_word));
    // identification and DF come back as they came, but an identification of 0 only with DF.
    let id_word = field::<{ ipv4::IDENTIFICATION }, 4, _>(header);
    if id_word == [0; 4] {
        let with_df = [0, 0, (ipv4::DONT_FRAGMENT >> 8) as u8, 0];
        checksum = update_u32(checksum, 0, u32::from_ne_bytes(with_df));
        set_field::<{ ipv4::IDENTIFICATION }, 4, _>(header, with_df);
    }
    set_field::<{ ipv4::TTL }, 2, _>(header, new_ttl_word);
    set_field::<{ ipv4::CHECKSUM }, 2, _>(header, checksum.to_ne_bytes());
    // swapping the addresses leaves both sums alone.
    swap_fields::<{ ipv4::SOURCE }, { ipv4::DESTINATION }, 4, _>(header);
    let request = u16::from_ne_bytes(field::<{ ipv4::LEN + icmpv4::CHECKSUM }, 2, _>(header));
    set_field::<{ ipv4::LEN + icmpv4::CHECKSUM }, 2, _>(header, echo_reply_v4(request).to_ne_bytes());
    header[ipv4::LEN + icmpv4::TYPE] = icmpv4::ECHO_REPLY;
    Ok(())
}

#[inline(always)]
fn respond_v6<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    settings: &Settings,
    echo: &Echo,
) -> Step<()> {
    let row = echo.row;
    if settings.flags & SETTINGS_VERIFY_FULL != 0 {
        let Some(header) = frame.window::<{ ipv6::WITH_ICMP }>(echo.l3) else {
            return end(Reason::Truncated, row);
        };
        let pseudo = pseudo_header::<{ ipv6::SOURCE }, _>(header, echo.icmp_len as u32);
        let sum = sum_message(frame, tables, leases, echo.l3 + ipv6::LEN, echo.icmp_len);
        if let Some(reason) = unverified(sum.map(|sum| sum.plus(pseudo))) {
            return end(reason, row);
        }
    }
    ends_observed(settings, row)?;
    let Some(header) = frame.window::<{ ipv6::WITH_ICMP }>(echo.l3) else {
        return end(Reason::Truncated, row);
    };
    // version and traffic class stay, the flow label becomes zero.
    let class = header[ipv6::VERSION_CLASS_LABEL + 1] & 0xf0;
    set_field::<{ ipv6::VERSION_CLASS_LABEL + 1 }, 3, _>(header, [class, 0, 0]);
    header[ipv6::HOP_LIMIT] = settings.hop_limit as u8;
    swap_fields::<{ ipv6::SOURCE }, { ipv6::DESTINATION }, 16, _>(header);
    let request = u16::from_ne_bytes(field::<{ ipv6::LEN + icmpv6::CHECKSUM }, 2, _>(header));
    set_field::<{ ipv6::LEN + icmpv6::CHECKSUM }, 2, _>(header, echo_reply_v6(request).to_ne_bytes());
    header[ipv6::LEN + icmpv6::TYPE] = icmpv6::ECHO_REPLY;
    Ok(())
}

/// Sum over the pseudo-header of an IPv6 packet (RFC 8200 section 8.1): both addresses, of which the first is at `SOURCE`, the length and
/// the next header, each in a 32-bit word.
#[inline(always)]
pub(crate) fn pseudo_header<const SOURCE: usize, const W: usize>(header: &[u8; W], len: u32) -> Sum {
    Sum::ZERO.add_words::<SOURCE, 32, W>(header).add_u32(len.to_be()).add_u32((ipv6::ICMPV6 as u32).to_be())
}

/// back to the host the frame came from. The window was there when the frame was parsed and is there still.
#[inline(always)]
fn swap_macs<F: Frame>(frame: &mut F) {
    if let Some(header) = frame.window::<{ ethernet::LEN }>(0) {
        swap_fields::<{ ethernet::DESTINATION }, { ethernet::SOURCE }, 6, _>(header);
    }
}

/// Why a request with this sum over its message is not answered.
#[inline(always)]
pub(crate) fn unverified(sum: Option<Sum>) -> Option<Reason> {
    match sum {
        None => Some(Reason::MultiBuffer),
        Some(sum) if !sum.verifies() => Some(Reason::BadIcmpChecksum),
        Some(_) => None,
    }
}

/// Bytes summed at a stretch.
const CHUNK: usize = 64;
/// Stretches that one buffer can have: a page of 4 KiB is the usual size, what is longer goes to the kernel.
const MAX_CHUNKS: usize = 4096 / CHUNK;
/// Where a message can start at most, as a mask: behind two tags and an IPv6 header.
pub(crate) const MAX_START: usize = 127;
const _: () = assert!(ethernet::LEN + 2 * ethernet::TAG_LEN + ipv6::LEN <= MAX_START);
const _: () = assert!((MAX_CHUNKS * CHUNK).is_power_of_two());
/// Where a message's last eight bytes can start at most, as a mask.
const MAX_LAST: usize = 2 * MAX_CHUNKS * CHUNK - 1;

/// Sum over the ICMP message of `len` bytes at `start`, R-24, R-30 and R-69; `None` where it is too long to be summed here.
///
/// All lengths were proved before; the windows prove them again for the verifier, which follows every path on its own. Before and
/// behind the chunks the paths are brought together by values of which it knows nothing, or it would follow the chunks once for
/// each way a frame can get here, and the tail once for each number of chunks.
#[inline(always)]
pub(crate) fn sum_message<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    start: usize,
    len: usize,
) -> Option<Sum> {
    if len > MAX_CHUNKS * CHUNK {
        return None;
    }
    let mut sum = Sum::ZERO;
    let mut at = start;
    let mut left = len;
    if len >= CHUNK {
        let place = tables.opaque(leases, start << 16 | len);
        let start = place >> 16 & MAX_START;
        at = start;
        left = place & 0xffff;
        for _ in 0..MAX_CHUNKS {
            if left < CHUNK {
                break;
            }
            sum = sum.add_words::<0, CHUNK, CHUNK>(frame.window::<CHUNK>(at)?);
            at += CHUNK;
            left -= CHUNK;
        }
        if left >= CHUNK {
            return None;
        }
        let len = tables.opaque(leases, len);
        at = start + (len & ((MAX_CHUNKS * CHUNK - 1) & !(CHUNK - 1)));
        left = len & (CHUNK - 1);
    }
    // What is left, by the bits of its length: no piece twice.
    if left & 32 != 0 {
        sum = sum.add_words::<0, 32, 32>(frame.window::<32>(at)?);
        at += 32;
    }
    if left & 16 != 0 {
        sum = sum.add_words::<0, 16, 16>(frame.window::<16>(at)?);
        at += 16;
    }
    if left & 8 != 0 {
        sum = sum.add_words::<0, 8, 8>(frame.window::<8>(at)?);
        at += 8;
    }
    let rest = left & 7;
    if rest != 0 {
        // The last eight bytes of the message, which has at least as many, without those that have been summed; behind an odd length
        // it is as if a zero byte followed.
        let at = tables.opaque(leases, at + rest - 8) & MAX_LAST;
        let last = u64::from_le_bytes(*frame.window::<8>(at)?) >> (64 - 8 * rest);
        sum = sum.add_u64(u64::from_ne_bytes(last.to_le_bytes()));
    }
    Some(sum)
}
