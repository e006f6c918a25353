//! The short way: what nearly every frame is, a request about which nothing is unusual, or no ICMP at all, told in one go.
//!
//! Owns no decision: whatever it says the long way in `pipeline.rs` would say too, only later, and tests hold it to that. Where anything
//! is unusual (a tag, an option, a rule that does not just answer, a setting that awaits confirmation, an interface that is not where it
//! is looked for first) it says nothing and has changed nothing. It exists because an untagged frame has everything at a fixed place,
//! and a program that knows that needs a third of the instructions (docs/performance.md).

use crate::abi::{
    ADDRESS_BUCKETS, AddressKind, INTERFACE_ENTRIES, INTERFACE_STRIPS_TAGS, Interface, SETTINGS_ECHO,
    SETTINGS_OBSERVE, SETTINGS_PRESENT, SETTINGS_RULES, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_SETTINGS,
    Scope, Settings,
};
use crate::checksum::Sum;
use crate::echo::{self, Echo};
use crate::frame::{Frame, field};
use crate::outcome::Outcome;
use crate::policy::{Action, type_index};
use crate::reason::Reason;
use crate::rules::{self, Facts};
use crate::tables::{self, Tables, kind_bits};
use crate::types::{FIRST_TYPE_ROW, Family, IPV4_ROW, IPV6_ROW, row_indices};
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Where the headers of an untagged frame start.
const L3: usize = ethernet::LEN;
const L4_V4: usize = L3 + ipv4::LEN;
const L4_V6: usize = L3 + ipv6::LEN;
/// Bytes of all headers of a request.
const V4_LEN: usize = L3 + ipv4::WITH_ICMP;
const V6_LEN: usize = L3 + ipv6::WITH_ICMP;

/// Handles and counts a frame that came in on `ifindex`; `None` where it has to go the long way.
///
/// Each family has a copy of everything behind it: brought together, none of it could be constant.
#[inline(always)]
pub(crate) fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Option<Outcome> {
    let interface = tables.interface_entry(ifindex & (INTERFACE_ENTRIES - 1))?;
    if interface.ifindex != ifindex {
        return None;
    }
    let len = frame.linear_len();
    let header = frame.window::<V4_LEN>(0)?;
    match u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header)) {
        ethernet::IPV4 if header[L3 + ipv4::PROTOCOL] != ipv4::ICMP => {
            Some(counted(frame, tables, interface, Outcome { reason: Reason::NotIcmp, row: IPV4_ROW }))
        }
        ethernet::IPV4 => {
            let (settings, echo) = request_v4(header, len, tables, interface)?;
            Some(answer(frame, tables, interface, settings, &echo))
        }
        ethernet::IPV6 => {
            let header = frame.window::<V6_LEN>(0)?;
            match header[L3 + ipv6::NEXT_HEADER] {
                ipv6::ICMPV6 => {
                    let (settings, echo) = request_v6(header, len, tables, interface)?;
                    Some(answer(frame, tables, interface, settings, &echo))
                }
                next_header if ipv6::is_extension(next_header) => None,
                _ => Some(counted(
                    frame,
                    tables,
                    interface,
                    Outcome { reason: Reason::NotIcmp, row: IPV6_ROW },
                )),
            }
        }
        _ => None,
    }
}

#[inline(always)]
fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    interface: &Interface,
    settings: &Settings,
    echo: &Echo,
) -> Outcome {
    match echo::answer(frame, tables, settings, echo) {
        Ok(outcome) => counted(frame, tables, interface, outcome),
        Err(outcome) => counted(frame, tables, interface, outcome),
    }
}

/// Counts a frame. Called for each end apart, so that what is known of it is part of the counter's place.
#[inline(always)]
fn counted<F: Frame, T: Tables>(frame: &F, tables: &T, interface: &Interface, outcome: Outcome) -> Outcome {
    tables.count(interface.slot, outcome.row, outcome.reason, frame.total_len() as u64);
    outcome
}

#[inline(always)]
fn request_v4<'t, T: Tables>(
    header: &[u8; V4_LEN],
    len: usize,
    tables: &'t T,
    interface: &Interface,
) -> Option<(&'t Settings, Echo)> {
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
    let (settings, addresses) = usual(tables, interface, header)?;
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
) -> Option<(&'t Settings, Echo)> {
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
    let (settings, addresses) = usual(tables, interface, header)?;
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
    let switch = tables.switch()?;
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
fn request<'t, T: Tables>(
    tables: &'t T,
    settings: &'t Settings,
    facts: &Facts,
) -> Option<(&'t Settings, Echo)> {
    let row = match facts.family {
        Family::V4 => const { echo_row(Family::V4, icmpv4::ECHO_REQUEST) },
        Family::V6 => const { echo_row(Family::V6, icmpv6::ECHO_REQUEST) },
    };
    if settings.types[type_index(facts.family, facts.icmp_type)].main.action != Action::Answer as u8 {
        return None;
    }
    if settings.flags & SETTINGS_RULES != 0 {
        obey(tables, settings.rules, facts)?;
    }
    Some((settings, Echo { l3: L3, icmp_len: facts.len, family: facts.family, source: facts.source, row }))
}

/// Counts the rule that decides, if there is one and it does what happens anyway. The last step that may say nothing.
#[inline(always)]
fn obey<T: Tables>(tables: &T, bank: u32, facts: &Facts) -> Option<()> {
    let rules = tables.rules(bank)?;
    let matching = rules::matching(tables, rules, bank, facts);
    if matching == 0 {
        return Some(());
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
    Some(())
}

/// The counter row of echo requests, none of whose codes has a row of its own.
const fn echo_row(family: Family, icmp_type: u8) -> u8 {
    let (row, other) = row_indices(family, icmp_type);
    assert!(other.is_none());
    FIRST_TYPE_ROW + row as u8
}

/// The four bytes at the constant `AT`, in the machine's order.
#[inline(always)]
fn word<const AT: usize, const W: usize>(header: &[u8; W]) -> u32 {
    u32::from_ne_bytes(field::<AT, 4, W>(header))
}
