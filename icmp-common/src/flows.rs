//! Flows: what a CPU has just made of a request, kept for the rest of the tick, for the next ones like it.
//!
//! Owns the table of flows, what "like it" means, and how a request is dealt with by what its flow says. It owns no decision: an entry is
//! made when a request has gone the short way, from what was decided there, and says the same of a request that differs in
//! nothing a decision looks at. What may differ is looked at here, as it is there: identification, checksums, and data.
//!
//! An entry holds for one tick, one interface and one switch of the controller's, so nothing that changes is overlooked. Within a tick
//! no bucket fills, so who was refused stays refused; who is answered has paid in advance, by [`crate::echo::limit`]. What was not used
//! is returned if the flow goes on in the next tick, and else lost. That is why an entry is made at the second of two like requests,
//! and pays for few at first.

use crate::abi::{ADDRESS_HASH, ANSWERED_SLOTS, Leases, SETTINGS_VERIFY_FULL, SWITCH_SETTINGS, Settings};
use crate::checksum::{Sum, change, echo_reply_v4, echo_reply_v6, updated, verifies};
use crate::echo;
use crate::frame::{Frame, field, set_field, swap_fields};
use crate::outcome::Outcome;
use crate::policy::Budget;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::talkers::{self, FLOW_SAMPLES, SAMPLE};
use crate::types::{ECHO_ROW_V4, ECHO_ROW_V6, Family, echo_row};
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Log2 of [`FLOWS`].
const FLOW_BITS: u32 = 7;
/// Entries, per CPU.
pub const FLOWS: usize = 1 << FLOW_BITS;
/// Requests that are paid for in advance at first; then twice as many as the last time, up to `Settings::lease`.
const FIRST_LEASE: u32 = 4;

/// Where the headers of an untagged frame start.
pub(crate) const L3: usize = ethernet::LEN;
pub(crate) const L4_V4: usize = L3 + ipv4::LEN;
pub(crate) const L4_V6: usize = L3 + ipv6::LEN;
/// Bytes of all headers of a request.
pub(crate) const V4_LEN: usize = L3 + ipv4::WITH_ICMP;
pub(crate) const V6_LEN: usize = L3 + ipv6::WITH_ICMP;

/// Words of a request that a flow is told by.
const WORDS: usize = 7;

/// What became of requests that are alike: an entry of `Leases::flows`. Layout: 128 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// What such requests have in common: bytes of theirs, as `words_v4` and `words_v6` take them.
    pub request: [u64; WORDS],
    /// The first 16 bytes of the answer.
    pub reply: [u64; 2],
    /// The interface they came in on.
    pub ifindex: u32,
    /// Its slot in the counter map.
    pub slot: u32,
    /// Bytes their frames have at least.
    pub end: u32,
    /// The [`Reason`] they end in, as a number, with [`TALLIES`] and [`VERIFIES`].
    pub ends: u32,
    /// Requests left that are paid for.
    pub tokens: u32,
    /// How many were paid for at once.
    pub granted: u32,
    /// What each draws from the total: 1, or 0 where that is unlimited.
    pub draws: u32,
    /// Slot of the rule that decided; [`NO_RULE`] where none did.
    pub rule: u32,
    /// TTL or hop limit of the answer.
    pub hop_limit: u16,
    /// Which of `tokens` are sampled: those that have its lowest bits.
    pub phase: u16,
    /// IPv4: sum over the header, but for identification and checksum. IPv6: over the pseudo-header.
    pub sum: u16,
    /// IPv4: what a new TTL adds to the complement of the header's checksum.
    pub update: u16,
    /// Zero; an entry is two cache lines.
    pub reserved: [u64; 2],
}

/// Whose an entry is, apart from it, so that a request without a flow finds that in a few cache lines. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// Of the requests that the entry is about: their addresses, hashed, with tick and switch.
    pub id: u64,
    /// Of the last request that it is not about, which takes the entry over if it comes again.
    pub candidate: u64,
}

/// In [`Flow::ends`]: the ICMP checksum is verified.
pub const VERIFIES: u32 = 1 << 8;
/// In [`Flow::ends`]: a rule has decided, and counts.
pub const TALLIES: u32 = 1 << 9;
/// In [`Flow::ends`]: without DF, which an answer to an identification of 0 gets. Such a one does not go by its flow.
pub const LACKS_DF: u32 = 1 << 10;
/// In [`Flow::ends`], alone: what needs no further look.
const ANSWERED: u32 = Reason::Answered as u32;
/// The rest of [`Flow::ends`].
const REASON: u32 = 0xff;
const LIMITED_SOURCE: u32 = Reason::LimitedSource as u32;
const LIMITED_PREFIX: u32 = Reason::LimitedPrefix as u32;
/// In the place of a slot.
pub const NO_RULE: u32 = u32::MAX;

const _: () = assert!(size_of::<Flow>() == 128 && size_of::<Mark>() == 16);

/// A request as the table of flows sees it.
pub(crate) struct Sight {
    place: usize,
    id: u64,
    ifindex: u32,
    switch: u32,
    ticks: u64,
}

impl Sight {
    /// `mixed` are the addresses, or most of them.
    #[inline(always)]
    fn new(ticks: u64, switch: u32, ifindex: u32, mixed: u64) -> Self {
        // No secret: who aims at another's entry makes that one's requests go the way they would go without flows.
        let hash = mixed.wrapping_mul(ADDRESS_HASH);
        Self {
            place: (hash >> (64 - FLOW_BITS)) as usize,
            id: hash ^ (ticks << 8 | switch as u64),
            ifindex,
            switch,
            ticks,
        }
    }

    /// An IPv4 request.
    #[inline(always)]
    pub(crate) fn v4(ticks: u64, switch: u32, ifindex: u32, header: &[u8; V4_LEN]) -> Self {
        Self::new(ticks, switch, ifindex, eight::<{ L3 + ipv4::SOURCE }, _>(header))
    }

    /// An IPv6 request.
    #[inline(always)]
    pub(crate) fn v6(ticks: u64, switch: u32, ifindex: u32, header: &[u8; V6_LEN]) -> Self {
        let mixed = eight::<{ L3 + ipv6::SOURCE }, _>(header)
            ^ eight::<{ L3 + ipv6::SOURCE + 8 }, _>(header).rotate_left(32)
            ^ eight::<{ L3 + ipv6::DESTINATION + 8 }, _>(header);
        Self::new(ticks, switch, ifindex, mixed)
    }

    /// Notes the request, and what is to be paid with it.
    #[inline(always)]
    pub(crate) fn note(&self, leases: &mut Leases, family: Family, source: ipv6::Halves) -> Advance {
        let (mark, flow) = (&mut leases.marks[self.place], &leases.flows[self.place]);
        if mark.id == self.id {
            // What is left is not paid for again: only the total was missing.
            let wanted = if flow.tokens == 0 { (flow.granted * 2).max(FIRST_LEASE) } else { 0 };
            return Advance { wanted, returned: 0 };
        }
        if mark.candidate == self.id {
            let last_tick = self.id ^ (self.ticks ^ self.ticks.wrapping_sub(1)) << 8;
            return if mark.id == last_tick && flow.source(family) == source {
                Advance { wanted: flow.granted.max(FIRST_LEASE), returned: flow.tokens }
            } else {
                Advance { wanted: FIRST_LEASE, returned: 0 }
            };
        }
        mark.candidate = self.id;
        Advance::NOTHING
    }
}

/// What a request is to pay for beside itself.
#[derive(Clone, Copy)]
pub(crate) struct Advance {
    /// Requests like it; 0 where it is the first of its kind in this tick.
    pub(crate) wanted: u32,
    /// Requests that were paid for in the last tick and did not come.
    pub(crate) returned: u32,
}

impl Advance {
    pub(crate) const NOTHING: Self = Self { wanted: 0, returned: 0 };
}

/// The eight bytes at the constant `AT`, in the machine's order.
#[inline(always)]
fn eight<const AT: usize, const W: usize>(header: &[u8; W]) -> u64 {
    u64::from_ne_bytes(field::<AT, 8, W>(header))
}

/// All of a request's headers that a decision looks at: not identification and checksums.
#[inline(always)]
fn words_v4(header: &[u8; V4_LEN]) -> [u64; 5] {
    // Bytes 16 to 23: total length, identification, fragment, TTL and protocol.
    const MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let type_and_code = u16::from_ne_bytes(field::<L4_V4, 2, _>(header));
    [
        eight::<0, _>(header),
        eight::<8, _>(header),
        eight::<16, _>(header) & MASK,
        eight::<{ L3 + ipv4::SOURCE }, _>(header),
        type_and_code as u64,
    ]
}

/// All of a request's headers up to the ICMP checksum.
#[inline(always)]
fn words_v6(header: &[u8; V6_LEN]) -> [u64; WORDS] {
    const { assert!(WORDS * 8 == L4_V6 + icmpv6::CHECKSUM) };
    [
        eight::<0, _>(header),
        eight::<8, _>(header),
        eight::<16, _>(header),
        eight::<24, _>(header),
        eight::<32, _>(header),
        eight::<40, _>(header),
        eight::<48, _>(header),
    ]
}

// ------------------------------------------------------------------------------------------------------------- by a flow

/// Deals with an IPv4 request by its flow; `None` where it has none, or has to pay anew.
#[inline(always)]
pub(crate) fn go_v4<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    sight: &Sight,
) -> Option<Outcome> {
    let len = frame.linear_len();
    let header = frame.window::<V4_LEN>(0)?;
    let flow = &leases.flows[sight.place];
    if leases.marks[sight.place].id != sight.id || !flow.is_of(sight, &words_v4(header), len) {
        return None;
    }
    let identification = u16::from_ne_bytes(field::<{ L3 + ipv4::IDENTIFICATION }, 2, _>(header));
    let stored = u16::from_ne_bytes(field::<{ L3 + ipv4::CHECKSUM }, 2, _>(header));
    if !verifies([flow.sum, identification, stored]) {
        return None;
    }
    let ends = flow.ends;
    if ends != ANSWERED && ends != ANSWERED | VERIFIES {
        if ends & LACKS_DF != 0 && identification == 0 {
            return None;
        }
        if ends & REASON != ANSWERED {
            return Some(refuse(frame, tables, leases, sight, Family::V4));
        }
    }
    pay(tables, leases, sight, Family::V4)?;
    if ends != ANSWERED {
        leases.flows[sight.place].tally(tables, ends);
        if ends & VERIFIES != 0 {
            let len = leases.flows[sight.place].end as usize - L4_V4;
            let sum = echo::sum_message(frame, tables, leases, L4_V4, len);
            if let Some(reason) = echo::unverified(sum) {
                return Some(leases.flows[sight.place].counted(frame, tables, reason, ECHO_ROW_V4));
            }
        }
    }
    let flow = &leases.flows[sight.place];
    let header = frame.window::<V4_LEN>(0)?;
    set_field::<0, 8, _>(header, flow.reply[0].to_ne_bytes());
    set_field::<8, 8, _>(header, flow.reply[1].to_ne_bytes());
    header[L3 + ipv4::TTL] = flow.hop_limit as u8;
    set_field::<{ L3 + ipv4::CHECKSUM }, 2, _>(header, updated(stored, flow.update).to_ne_bytes());
    swap_fields::<{ L3 + ipv4::SOURCE }, { L3 + ipv4::DESTINATION }, 4, _>(header);
    let request = u16::from_ne_bytes(field::<{ L4_V4 + icmpv4::CHECKSUM }, 2, _>(header));
    set_field::<{ L4_V4 + icmpv4::CHECKSUM }, 2, _>(header, echo_reply_v4(request).to_ne_bytes());
    header[L4_V4 + icmpv4::TYPE] = icmpv4::ECHO_REPLY;
    Some(answered(frame, leases, sight, Family::V4))
}

/// As [`go_v4`], IPv6.
#[inline(always)]
pub(crate) fn go_v6<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    sight: &Sight,
) -> Option<Outcome> {
    let len = frame.linear_len();
    let header = frame.window::<V6_LEN>(0)?;
    let flow = &leases.flows[sight.place];
    if leases.marks[sight.place].id != sight.id || !flow.is_of(sight, &words_v6(header), len) {
        return None;
    }
    let ends = flow.ends;
    if ends != ANSWERED && ends != ANSWERED | VERIFIES && ends & REASON != ANSWERED {
        return Some(refuse(frame, tables, leases, sight, Family::V6));
    }
    pay(tables, leases, sight, Family::V6)?;
    if ends != ANSWERED {
        leases.flows[sight.place].tally(tables, ends);
        if ends & VERIFIES != 0 {
            let Flow { end, sum: pseudo, .. } = leases.flows[sight.place];
            let sum = echo::sum_message(frame, tables, leases, L4_V6, end as usize - L4_V6);
            if let Some(reason) = echo::unverified(sum.map(|sum| sum.add_u16(pseudo))) {
                return Some(leases.flows[sight.place].counted(frame, tables, reason, ECHO_ROW_V6));
            }
        }
    }
    let flow = &leases.flows[sight.place];
    let header = frame.window::<V6_LEN>(0)?;
    set_field::<0, 8, _>(header, flow.reply[0].to_ne_bytes());
    set_field::<8, 8, _>(header, flow.reply[1].to_ne_bytes());
    set_field::<16, 2, _>(header, [0, 0]);
    header[L3 + ipv6::HOP_LIMIT] = flow.hop_limit as u8;
    swap_fields::<{ L3 + ipv6::SOURCE }, { L3 + ipv6::DESTINATION }, 16, _>(header);
    let request = u16::from_ne_bytes(field::<{ L4_V6 + icmpv6::CHECKSUM }, 2, _>(header));
    set_field::<{ L4_V6 + icmpv6::CHECKSUM }, 2, _>(header, echo_reply_v6(request).to_ne_bytes());
    header[L4_V6 + icmpv6::TYPE] = icmpv6::ECHO_REPLY;
    Some(answered(frame, leases, sight, Family::V6))
}

impl Flow {
    #[inline(always)]
    const fn is_of<const N: usize>(&self, sight: &Sight, words: &[u64; N], len: usize) -> bool {
        let mut differences = (self.ifindex ^ sight.ifindex) as u64;
        let mut i = 0;
        while i < N {
            differences |= self.request[i] ^ words[i];
            i += 1;
        }
        differences == 0 && len >= self.end as usize
    }
}

/// Takes what an answer has to have; `None` where it has to be paid for anew.
#[inline(always)]
fn pay<T: Tables>(tables: &T, leases: &mut Leases, sight: &Sight, family: Family) -> Option<()> {
    let Leases { tokens: [total, ..], flows, .. } = leases;
    let flow = &mut flows[sight.place];
    if flow.tokens == 0 || *total < flow.draws {
        return None;
    }
    flow.tokens -= 1;
    *total -= flow.draws;
    if (flow.tokens ^ flow.phase as u32) & (SAMPLE * FLOW_SAMPLES - 1) == 0 {
        flow.note(tables, sight, family, FLOW_SAMPLES, false);
    }
    Some(())
}

/// Counts an answer.
#[inline(always)]
fn answered<F: Frame>(frame: &F, leases: &mut Leases, sight: &Sight, family: Family) -> Outcome {
    let slot = leases.flows[sight.place].slot as usize % ANSWERED_SLOTS;
    leases.answered[slot][family as usize].count(frame.total_len() as u64);
    Outcome { reason: Reason::Answered, row: echo_row(family) }
}

/// Ends a request that is over a limit, as the last one like it was.
#[inline(always)]
fn refuse<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    leases: &mut Leases,
    sight: &Sight,
    family: Family,
) -> Outcome {
    let flow = &leases.flows[sight.place];
    flow.tally(tables, flow.ends);
    if talkers::sample(&mut leases.sampler) {
        flow.note(tables, sight, family, 1, true);
    }
    let reason = match flow.ends & REASON {
        LIMITED_SOURCE => Reason::LimitedSource,
        LIMITED_PREFIX => Reason::LimitedPrefix,
        _ => Reason::LimitedTotal,
    };
    flow.counted(frame, tables, reason, echo_row(family))
}

impl Flow {
    /// The source of the requests.
    #[inline(always)]
    fn source(&self, family: Family) -> ipv6::Halves {
        let [_, _, b, c, d, ..] = self.request.map(u64::to_ne_bytes);
        match family {
            Family::V4 => (u32::from_be_bytes([c[0], c[1], c[2], c[3]]) as u64, 0),
            // Bytes 22 to 37.
            Family::V6 => ipv6::halves([
                b[6], b[7], c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], d[0], d[1], d[2], d[3], d[4],
                d[5],
            ]),
        }
    }

    /// Notes a request that is sampled.
    #[inline(always)]
    fn note<T: Tables>(&self, tables: &T, sight: &Sight, family: Family, samples: u32, is_limited: bool) {
        if let Some(settings) = tables.settings(sight.switch & SWITCH_SETTINGS) {
            let source = self.source(family);
            echo::note_sampled(tables, settings, sight.ticks, family, source, samples, is_limited);
        }
    }

    #[inline(always)]
    fn tally<T: Tables>(&self, tables: &T, ends: u32) {
        if ends & TALLIES != 0
            && let Some(mut tally) = tables.tally(self.rule)
        {
            tally.hits = tally.hits.wrapping_add(1);
        }
    }

    #[inline(always)]
    fn counted<F: Frame, T: Tables>(&self, frame: &F, tables: &T, reason: Reason, row: u8) -> Outcome {
        tables.count(self.slot, row, reason, frame.total_len() as u64);
        Outcome { reason, row }
    }
}

// --------------------------------------------------------------------------------------------------------------- to a flow

/// What was decided of a request.
pub(crate) struct Decided<'t> {
    pub(crate) settings: &'t Settings,
    /// The interface's slot in the counter map.
    pub(crate) slot: u32,
    pub(crate) rule: u32,
    /// [`Reason::Answered`], or over which limit it is.
    pub(crate) reason: Reason,
    /// Requests that were paid for beyond this one.
    pub(crate) granted: u32,
    /// The next ones like it go by what became of it.
    pub(crate) is_kept: bool,
}

/// Makes a flow of an IPv4 request that has not been answered yet.
#[inline(always)]
pub(crate) fn keep_v4(header: &[u8; V4_LEN], leases: &mut Leases, sight: &Sight, decided: &Decided<'_>) {
    let old = field::<{ L3 + ipv4::TTL }, 2, _>(header);
    let new = [decided.settings.ttl as u8, old[1]];
    leases.marks[sight.place].id = sight.id;
    let phase = talkers::phase(leases.sampler);
    let flow = &mut leases.flows[sight.place];
    flow.keep(sight, decided, words_v4(header), phase);
    if field::<{ L3 + ipv4::FRAGMENT }, 2, _>(header) == [0, 0] {
        flow.ends |= LACKS_DF;
    }
    flow.end = L3 as u32 + u16::from_be_bytes(field::<{ L3 + ipv4::TOTAL_LEN }, 2, _>(header)) as u32;
    flow.reply = reply(field::<0, 16, _>(header));
    flow.hop_limit = decided.settings.ttl as u16;
    flow.sum = Sum::ZERO
        .add_words::<L3, { ipv4::LEN }, _>(header)
        .add_u16(!u16::from_ne_bytes(field::<{ L3 + ipv4::IDENTIFICATION }, 2, _>(header)))
        .add_u16(!u16::from_ne_bytes(field::<{ L3 + ipv4::CHECKSUM }, 2, _>(header)))
        .fold();
    flow.update = change(u16::from_ne_bytes(old), u16::from_ne_bytes(new));
}

/// As [`keep_v4`], IPv6.
#[inline(always)]
pub(crate) fn keep_v6(header: &[u8; V6_LEN], leases: &mut Leases, sight: &Sight, decided: &Decided<'_>) {
    let payload_len = u16::from_be_bytes(field::<{ L3 + ipv6::PAYLOAD_LEN }, 2, _>(header)) as u32;
    leases.marks[sight.place].id = sight.id;
    let phase = talkers::phase(leases.sampler);
    let flow = &mut leases.flows[sight.place];
    flow.keep(sight, decided, words_v6(header), phase);
    flow.end = (L3 + ipv6::LEN) as u32 + payload_len;
    flow.reply = reply(field::<0, 16, _>(header));
    flow.reply[1] &= u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]);
    flow.hop_limit = decided.settings.hop_limit as u16;
    flow.sum = echo::pseudo_header::<{ L3 + ipv6::SOURCE }, _>(header, payload_len).fold();
}

impl Flow {
    #[inline(always)]
    fn keep<const N: usize>(&mut self, sight: &Sight, decided: &Decided<'_>, words: [u64; N], phase: u16) {
        let settings = decided.settings;
        let mut i = 0;
        while i < N {
            self.request[i] = words[i];
            i += 1;
        }
        self.ifindex = sight.ifindex;
        self.slot = decided.slot;
        self.ends = decided.reason as u32
            | if settings.flags & SETTINGS_VERIFY_FULL != 0 { VERIFIES } else { 0 }
            | if decided.rule == NO_RULE { 0 } else { TALLIES };
        self.tokens = decided.granted;
        self.granted = decided.granted;
        self.draws = !settings.budgets[Budget::Replies as usize].is_unlimited() as u32;
        self.rule = decided.rule;
        self.phase = phase;
    }
}

/// The first 16 bytes of a frame, with its MAC addresses exchanged.
#[inline(always)]
const fn reply(b: [u8; 16]) -> [u64; 2] {
    [
        u64::from_ne_bytes([b[6], b[7], b[8], b[9], b[10], b[11], b[0], b[1]]),
        u64::from_ne_bytes([b[2], b[3], b[4], b[5], b[12], b[13], b[14], b[15]]),
    ]
}
