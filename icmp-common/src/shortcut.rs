//! The short way: what nearly every frame is, a request about which nothing is unusual, or no ICMP at all, told in one go.
//!
//! Owns no decision: whatever it says the long way in `pipeline.rs` would say too, only later, and tests hold it to that. Where anything
//! is unusual (a tag, an option, a rule that does not just answer, a setting that awaits confirmation, an interface that is not where it
//! is looked for first) it says nothing and has changed nothing. It exists because an untagged frame has everything at a fixed place,
//! and a program that knows that needs a third of the instructions (docs/performance.md).

use crate::abi::{
    ADDRESS_BUCKETS, AddressKind, INTERFACE_ENTRIES, INTERFACE_STRIPS_TAGS, Interface, Leases, SETTINGS_ECHO,
    SETTINGS_OBSERVE, SETTINGS_PRESENT, SETTINGS_RULES, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_SETTINGS,
    Scope, Settings,
};
use crate::checksum::Sum;
use crate::echo::{self, Echo};
use crate::flows::{self, Advance, Decided, L3, L4_V4, L4_V6, NO_RULE, Sight, V4_LEN, V6_LEN};
use crate::frame::{Frame, field};
use crate::outcome::Outcome;
use crate::policy::{Action, type_index};
use crate::reason::{Reason, Verdict};
use crate::rules::{self, Facts};
use crate::tables::{self, Tables, kind_bits};
use crate::types::{Family, IPV4_ROW, IPV6_ROW, echo_row};
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Handles and counts a frame that came in on `ifindex`; `None` where it has to go the long way.
///
/// Each family has a copy of everything behind it: brought together, none of it could be constant.
#[inline(always)]
pub(crate) fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Option<Outcome> {
    let header = frame.window::<V4_LEN>(0)?;
    const IPV4: u16 = ethernet::IPV4.to_be();
    const IPV6: u16 = ethernet::IPV6.to_be();
    match u16::from_ne_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header)) {
        IPV4 if header[L3 + ipv4::PROTOCOL] != ipv4::ICMP => not_icmp(frame, tables, ifindex, IPV4_ROW),
        IPV4 => {
            let ticks = tables.ticks();
            let mut leases = tables.leases()?;
            let switch = tables.switch()?;
            let sight = Sight::v4(ticks, switch, ifindex, header);
            if let Some(outcome) = flows::go_v4(frame, tables, &mut leases, &sight) {
                return Some(outcome);
            }
            frame.renew();
            let len = frame.linear_len();
            let interface = attached(tables, ifindex)?;
            let header = frame.window::<V4_LEN>(0)?;
            let request = request_v4(header, len, tables, interface, switch)?;
            let decided = limit(tables, &mut leases, &sight, interface, &request);
            if decided.is_kept {
                flows::keep_v4(header, &mut leases, &sight, &decided);
            }
            Some(finish(frame, tables, &mut leases, &request, &decided))
        }
        IPV6 => {
            let header = frame.window::<V6_LEN>(0)?;
            match header[L3 + ipv6::NEXT_HEADER] {
                ipv6::ICMPV6 => {
                    let ticks = tables.ticks();
                    let mut leases = tables.leases()?;
                    let switch = tables.switch()?;
                    let sight = Sight::v6(ticks, switch, ifindex, header);
                    if let Some(outcome) = flows::go_v6(frame, tables, &mut leases, &sight) {
                        return Some(outcome);
                    }
                    frame.renew();
                    let len = frame.linear_len();
                    let interface = attached(tables, ifindex)?;
                    let header = frame.window::<V6_LEN>(0)?;
                    let request = request_v6(header, len, tables, interface, switch)?;
                    let decided = limit(tables, &mut leases, &sight, interface, &request);
                    if decided.is_kept {
                        flows::keep_v6(header, &mut leases, &sight, &decided);
                    }
                    Some(finish(frame, tables, &mut leases, &request, &decided))
                }
                next_header if ipv6::is_extension(next_header) => None,
                _ => not_icmp(frame, tables, ifindex, IPV6_ROW),
            }
        }
        _ => None,
    }
}

/// The interface's entry, where it is looked for first.
#[inline(always)]
fn attached<T: Tables>(tables: &T, ifindex: u32) -> Option<&Interface> {
    tables.interface_entry(ifindex & (INTERFACE_ENTRIES - 1)).filter(|interface| interface.ifindex == ifindex)
}

#[inline(always)]
fn not_icmp<F: Frame, T: Tables>(frame: &F, tables: &T, ifindex: u32, row: u8) -> Option<Outcome> {
    let slot = attached(tables, ifindex)?.slot;
    Some(counted(frame, tables, slot, Outcome { reason: Reason::NotIcmp, row }))
}

/// Limits a request, and as many like it as its flow has a use for.
#[inline(always)]
fn limit<'t, T: Tables>(
    tables: &T,
    leases: &mut Leases,
    sight: &Sight,
    interface: &Interface,
    request: &Request<'t>,
) -> Decided<'t> {
    let Request { settings, rule, echo } = request;
    let Advance { wanted, returned } = sight.note(leases, echo.family, echo.source);
    let advance = Advance { wanted: if wanted < settings.lease { wanted } else { settings.lease }, returned };
    let (reason, granted) = match echo::limit(tables, leases, settings, echo, advance) {
        Ok(granted) => (Reason::Answered, granted),
        Err(outcome) => (outcome.reason, 0),
    };
    let is_kept = wanted != 0 && (granted != 0 || matches!(reason.verdict(), Verdict::Limit));
    Decided { settings, slot: interface.slot, rule: *rule, reason, granted, is_kept }
}

#[inline(always)]
fn finish<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    request: &Request<'_>,
    decided: &Decided<'_>,
) -> Outcome {
    let Request { settings, echo, .. } = request;
    if decided.reason as u8 != Reason::Answered as u8 {
        return counted(frame, tables, decided.slot, Outcome { reason: decided.reason, row: echo.row });
    }
    match echo::respond(frame, tables, leases, settings, echo) {
        Ok(outcome) => counted(frame, tables, decided.slot, outcome),
        Err(outcome) => counted(frame, tables, decided.slot, outcome),
    }
}

/// Counts a frame. Called for each end apart, so that what is known of it is part of the counter's place.
#[inline(always)]
fn counted<F: Frame, T: Tables>(frame: &F, tables: &T, slot: u32, outcome: Outcome) -> Outcome {
    tables.count(slot, outcome.row, outcome.reason, frame.total_len() as u64);
    outcome
}

/// A request that is to be answered, if it is within its limits.
struct Request<'t> {
    settings: &'t Settings,
    /// Slot of the rule that has decided so, or [`NO_RULE`].
    rule: u32,
    echo: Echo,
}

#[inline(always)]
fn request_v4<'t, T: Tables>(
    header: &[u8; V4_LEN],
    len: usize,
    tables: &'t T,
    interface: &Interface,
    switch: u32,
) -> Option<Request<'t>> {
    // In words, and without a branch for each: version and length, fragment, type and code.
    let version = word::<{ L3 + ipv4::VERSION_IHL }, _>(header);
    let fragment = word::<{ L3 + ipv4::IDENTIFICATION }, _>(header);
    let ttl = word::<{ L3 + ipv4::TTL }, _>(header);
    let source = word::<{ L3 + ipv4::SOURCE }, _>(header);
    let destination = word::<{ L3 + ipv4::DESTINATION }, _>(header);
    let unusual = (version ^ u32::from_ne_bytes([ipv4::VERSION_4_IHL_5, 0, 0, 0]))
        & u32::from_ne_bytes([0xff, 0, 0, 0])
        | fragment & u32::from_ne_bytes([0, 0, !(ipv4::DONT_FRAGMENT >> 8) as u8, 0xff])
        | (word::<L4_V4, _>(header) ^ u32::from_ne_bytes([icmpv4::ECHO_REQUEST, 0, 0, 0]))
            & u32::from_ne_bytes([0xff, 0xff, 0, 0]);
    let sum = Sum::ZERO.add_u32(version).add_u32(fragment).add_u32(ttl).add_u32(source).add_u32(destination);
    let total_len = u16::from_be_bytes(field::<{ L3 + ipv4::TOTAL_LEN }, 2, _>(header)) as usize;
    if unusual != 0 || total_len < ipv4::WITH_ICMP || L3 + total_len > len || !sum.verifies() {
        return None;
    }
    let (source, destination) = (u32::from_be(source), u32::from_be(destination));
    if ipv4::is_martian_source(source) {
        return None;
    }
    let (settings, addresses) = usual(tables, interface, header, switch)?;
    let scope = Scope::new(interface.slot, 0);
    if tables::kind4(tables, addresses, destination, scope)? != kind_bits(AddressKind::Own)
        || tables::kind4(tables, addresses, source, scope)? != 0
    {
        return None;
    }
    let facts = Facts {
        family: Family::V4,
        icmp_type: icmpv4::ECHO_REQUEST,
        code: 0,
        hop_limit: header[L3 + ipv4::TTL],
        vlan: 0,
        len: total_len - ipv4::LEN,
        source: (source as u64, 0),
        destination: (destination as u64, 0),
    };
    request(tables, settings, &facts)
}

#[inline(always)]
fn request_v6<'t, T: Tables>(
    header: &[u8; V6_LEN],
    len: usize,
    tables: &'t T,
    interface: &Interface,
    switch: u32,
) -> Option<Request<'t>> {
    let unusual = (word::<L3, _>(header) ^ u32::from_ne_bytes([(ipv6::VERSION_6 << 4) as u8, 0, 0, 0]))
        & u32::from_ne_bytes([0xf0, 0, 0, 0])
        | (word::<L4_V6, _>(header) ^ u32::from_ne_bytes([icmpv6::ECHO_REQUEST, 0, 0, 0]))
            & u32::from_ne_bytes([0xff, 0xff, 0, 0]);
    let payload_len = u16::from_be_bytes(field::<{ L3 + ipv6::PAYLOAD_LEN }, 2, _>(header)) as usize;
    if unusual != 0 || payload_len < icmpv6::LEN || L3 + ipv6::LEN + payload_len > len {
        return None;
    }
    let source = ipv6::halves(field::<{ L3 + ipv6::SOURCE }, 16, _>(header));
    let destination = ipv6::halves(field::<{ L3 + ipv6::DESTINATION }, 16, _>(header));
    if ipv6::is_martian_source(source.0) || ipv6::is_multicast(destination.0) {
        return None;
    }
    let (settings, addresses) = usual(tables, interface, header, switch)?;
    let scope = Scope::new(interface.slot, 0);
    if tables::kind6(tables, addresses, destination.0, destination.1, scope)? != kind_bits(AddressKind::Own)
        || tables::kind6(tables, addresses, source.0, source.1, scope)? != 0
    {
        return None;
    }
    let facts = Facts {
        family: Family::V6,
        icmp_type: icmpv6::ECHO_REQUEST,
        code: 0,
        hop_limit: header[L3 + ipv6::HOP_LIMIT],
        vlan: 0,
        len: payload_len,
        source,
        destination,
    };
    request(tables, settings, &facts)
}

/// Settings and address bank, where they and the link layer are as they mostly are.
#[inline(always)]
fn usual<'t, T: Tables, const W: usize>(
    tables: &'t T,
    interface: &Interface,
    header: &[u8; W],
    switch: u32,
) -> Option<(&'t Settings, u32)> {
    let destination = ethernet::address(field::<{ ethernet::DESTINATION }, 6, _>(header));
    let source = ethernet::address(field::<{ ethernet::SOURCE }, 6, _>(header));
    if destination != interface.mac
        || source == interface.mac
        || source == 0
        || source & ethernet::GROUP_BIT != 0
        || interface.flags & INTERFACE_STRIPS_TAGS != 0
    {
        return None;
    }
    if switch & SWITCH_AWAITS != 0 {
        return None;
    }
    let settings = tables.settings(switch & SWITCH_SETTINGS)?;
    const FLAGS: u32 = SETTINGS_PRESENT | SETTINGS_ECHO | SETTINGS_OBSERVE;
    if settings.flags & FLAGS != SETTINGS_PRESENT | SETTINGS_ECHO {
        return None;
    }
    Some((settings, if switch & SWITCH_ADDRESSES == 0 { 0 } else { ADDRESS_BUCKETS }))
}

/// The request, if the type table has it answered, and so do the rules.
#[inline(always)]
fn request<'t, T: Tables>(tables: &'t T, settings: &'t Settings, facts: &Facts) -> Option<Request<'t>> {
    if settings.types[type_index(facts.family, facts.icmp_type)].main.action != Action::Answer as u8 {
        return None;
    }
    let rule =
        if settings.flags & SETTINGS_RULES != 0 { obey(tables, settings.rules, facts)? } else { NO_RULE };
    let echo = Echo {
        l3: L3,
        icmp_len: facts.len,
        family: facts.family,
        source: facts.source,
        row: echo_row(facts.family),
    };
    Some(Request { settings, rule, echo })
}

/// Counts the rule that decides, if there is one and it does what happens anyway, and returns its slot. The last step that may say
/// nothing.
#[inline(always)]
fn obey<T: Tables>(tables: &T, bank: u32, facts: &Facts) -> Option<u32> {
    let rules = tables.rules(bank)?;
    let matching = rules::matching(tables, rules, bank, facts);
    if matching == 0 {
        return Some(NO_RULE);
    }
    if matching & rules.audited != 0 {
        return None;
    }
    let rule = rules::first(rules, matching)?;
    if rule.action != Action::Answer as u32 || !rule.limit.is_unlimited() {
        return None;
    }
    let mut tally = tables.tally(rule.slot)?;
    tally.hits = tally.hits.wrapping_add(1);
    Some(rule.slot)
}

/// The four bytes at the constant `AT`, in the machine's order.
#[inline(always)]
fn word<const AT: usize, const W: usize>(header: &[u8; W]) -> u32 {
    u32::from_ne_bytes(field::<AT, 4, W>(header))
}
