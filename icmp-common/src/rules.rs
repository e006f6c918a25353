//! Match rules, evaluated before the type table.
//!
//! Owns the compiled form of up to 64 ordered rules and how a message is matched against all of them at once. icmp-ctl compiles rules; the
//! packet path owns what an action means. Each rule is a bit, the first one bit 0. Every condition is a table that gives the rules that allow a
//! value, so a message costs one lookup for each kind of condition in use, however many rules there are: the lookups are intersected, and the
//! lowest bit that is left is the rule (docs/policy.md).

use crate::abi::{
    CODE_BLOCKS, LENGTHS, MAX_RULES, PREFIX_VALUES, PrefixKind, RULES_FROM4, RULES_FROM6, RULES_HOP_LIMIT,
    RULES_LENGTH, RULES_TO4, RULES_TO6, RULES_VLAN, Rule, Rules, VLANS, type_index,
};
use crate::path::apart::{About, Apart, LONGEST};
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::ipv6::Halves;

/// What rules can ask about a message. An IPv4 address is the first half.
pub struct Facts {
    /// ICMP or ICMPv6.
    pub family: Family,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// TTL or hop limit as received.
    pub hop_limit: u8,
    /// Identifier of the outer VLAN tag, 0 where there is none.
    pub vlan: u32,
    /// Bytes of the ICMP message in this packet.
    pub len: usize,
    /// Sender.
    pub source: (u64, u64),
    /// Whom it is addressed to.
    pub destination: (u64, u64),
}

/// The rules that match a message, one bit each.
#[inline(always)]
pub(crate) fn matching<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    rules: &Rules,
    about: About,
    facts: &Facts,
) -> u64 {
    let Some(by_type) = rules.types.get(type_index(facts.family, facts.icmp_type)) else { return 0 };
    let mut matching = by_type.rules;
    if by_type.block != 0 {
        let block = rules.codes.get(by_type.block.wrapping_sub(1) as usize & (CODE_BLOCKS - 1));
        matching = block.map_or(0, |codes| codes[facts.code as usize]);
    }
    if rules.conditions & RULES_HOP_LIMIT != 0 {
        matching &= rules.hop_limits[facts.hop_limit as usize];
    }
    if rules.conditions & RULES_LENGTH != 0 {
        let len = if about.len() < LENGTHS { about.len() } else { LENGTHS - 1 };
        matching &= rules.lengths.get(len & (LENGTHS - 1)).map_or(0, |rules| *rules);
    }
    if rules.conditions & RULES_VLAN != 0 {
        matching &= rules.vlans.get(facts.vlan as usize & (VLANS - 1)).map_or(0, |rules| *rules);
    }
    if matching == 0 {
        return 0;
    }
    let (from, to) = match facts.family {
        Family::V4 => (RULES_FROM4, RULES_TO4),
        Family::V6 => (RULES_FROM6, RULES_TO6),
    };
    let mut by_source = rules.any_source;
    if rules.conditions & from != 0 {
        by_source |= listed(frame, tables, rules, about, PrefixKind::From, facts.source);
    }
    let mut by_destination = rules.any_destination;
    if rules.conditions & to != 0 {
        by_destination |= listed(frame, tables, rules, about, PrefixKind::To, facts.destination);
    }
    matching & by_source & by_destination
}

/// The rules that have an address in one of their prefixes of a kind.
#[inline(always)]
fn listed<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    rules: &Rules,
    about: About,
    kind: PrefixKind,
    address: Halves,
) -> u64 {
    let index = frame.apart::<LONGEST, T>(tables, about.with_kind(kind as u8), [address.0, address.1]);
    rules.prefix_values[index as usize & (PREFIX_VALUES - 1)]
}

/// The first of some rules; `None` where there are none.
#[inline(always)]
pub fn first(rules: &Rules, matching: u64) -> Option<&Rule> {
    if matching == 0 {
        return None;
    }
    // The compiler knows that this is below 64 and drops the mask; the verifier does not know and needs it.
    let position = core::hint::black_box(matching.trailing_zeros());
    rules.rules.get(position as usize & (MAX_RULES - 1))
}
