//! Rules: what the operator says of messages from, to or like something, ahead of the type table.
//!
//! Owns the compiled form of up to 64 ordered rules and how a message is matched against all of them at once; compiling is icmp-ctl's,
//! what a rule's action means is the pipeline's. Each rule is a bit, the first one bit 0. Every condition is a table that gives the
//! rules that allow a value, so a message costs one lookup for each kind of condition in use, however many rules there are: the
//! lookups are intersected, and the lowest bit that is left is the rule (docs/policy.md).

use crate::limiter::Limit;
use crate::path::apart::{About, Apart, LONGEST};
use crate::policy::{TYPE_ENTRIES, type_index};
use crate::prefixes::{PREFIX_VALUES, PrefixKind, Search};
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::ipv6::Halves;

/// Rules of a policy: one bit of a word each.
pub const MAX_RULES: usize = 64;
/// Places for rules' tallies and cells. Twice as many as rules, so that a new rule never takes a place that the policy it replaces
/// still uses. A power of two.
pub const RULE_SLOTS: usize = 2 * MAX_RULES;
/// Types that can have rules for single codes, over both families. A power of two.
pub const CODE_BLOCKS: usize = 16;
/// ICMP message lengths that are told apart: what is longer never reaches the policy in one buffer, or counts as the last.
pub const LENGTHS: usize = 4096;
/// VLAN identifiers of the outer tag; 0 is untagged.
pub const VLANS: usize = 4096;
/// Bytes of a rule's name, zero behind its end.
pub const NAME_LEN: usize = 32;
/// Routers that may be named for the router advertisement guard.
pub const ROUTERS: usize = 8;

/// The rules that allow a type. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TypeRules {
    /// With any code, where `block` is 0.
    pub rules: u64,
    /// Otherwise which of [`Rules::codes`] has the rules, counted from 1.
    pub block: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a rule does. Layout: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// The rule's own limit; an interval of 0 is none.
    pub limit: Limit,
    /// A [`crate::policy::Action`] as a number.
    pub action: u32,
    /// Its place among the tallies and cells, for as long as a rule of this name exists.
    pub slot: u32,
}

/// A compiled policy: one of two banks of `RULES`. Layout: see the size in `abi.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rules {
    /// `RULES_*` flags: which tables have to be asked.
    pub conditions: u32,
    /// How many rules there are.
    pub count: u32,
    /// Rules that count only what they would do.
    pub audited: u64,
    /// Rules that allow any source.
    pub any_source: u64,
    /// Rules that allow any destination.
    pub any_destination: u64,
    /// By family and type.
    pub types: [TypeRules; TYPE_ENTRIES],
    /// By code, for types with rules for single codes.
    pub codes: [[u64; 256]; CODE_BLOCKS],
    /// By TTL or hop limit.
    pub hop_limits: [u64; 256],
    /// By length of the ICMP message.
    pub lengths: [u64; LENGTHS],
    /// By VLAN.
    pub vlans: [u64; VLANS],
    /// What they do.
    pub rules: [Rule; MAX_RULES],
    /// What they are called.
    pub names: [[u8; NAME_LEN]; MAX_RULES],
    /// Sources that router advertisements may have, as big-endian halves; unused ones are zero.
    pub routers: [[u64; 2]; ROUTERS],
    /// How the prefixes of the bank are searched, those of VIPs too.
    pub search: Search,
    /// What is found: the rules that have a prefix among their sources or destinations, 1 for a VIP. The first is 0.
    pub prefix_values: [u64; PREFIX_VALUES],
}

/// There are IPv4 source prefixes.
pub const RULES_FROM4: u32 = 1;
/// There are IPv6 source prefixes.
pub const RULES_FROM6: u32 = 2;
/// There are IPv4 destination prefixes.
pub const RULES_TO4: u32 = 4;
/// There are IPv6 destination prefixes.
pub const RULES_TO6: u32 = 8;
/// There are conditions on the TTL or hop limit.
pub const RULES_HOP_LIMIT: u32 = 16;
/// There are conditions on the length.
pub const RULES_LENGTH: u32 = 32;
/// There are conditions on the VLAN.
pub const RULES_VLAN: u32 = 64;

/// How often a rule decided. Layout: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tally {
    /// Messages it decided; for a check, messages that failed it.
    pub hits: u64,
    /// Those of them that were over its own limit.
    pub limited: u64,
    /// Messages it would have decided, were it not audited.
    pub would_hit: u64,
    /// Those of them that would have been over its own limit.
    pub would_limit: u64,
}

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
    /// Bytes of the ICMP message.
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
        let len = if facts.len < LENGTHS { facts.len } else { LENGTHS - 1 };
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
