//! Rules: a compiled policy as tables of bits, and the counters of its rules.

use crate::abi::gates::{GATES, Gate};
use crate::abi::prefixes::{PREFIX_VALUES, Search};
use crate::abi::settings::{Limit, TYPE_ENTRIES};

/// Checks that have a rule counter, too ([`crate::path::checks::Check`]).
pub const CHECKS: usize = 4;
/// Entries of `RULE_COUNTERS`: the slots of rules, then the checks.
pub const RULE_COUNTERS: u32 = (RULE_SLOTS + CHECKS) as u32;

/// Rules of a policy: one bit of a word each.
pub const MAX_RULES: usize = 64;
/// Places for rules' rule counters and buckets. Twice as many as rules, so that a new rule never takes a place that the policy it replaces
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

/// The rules that allow a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TypeRules {
    /// The rules that allow the type with any code, if `block` is 0.
    pub rules: u64,
    /// Otherwise the block of `codes` with the rules, counted from 1.
    pub block: u32,
    /// Zero.
    pub reserved: u32,
}

/// Limit and action of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// The rule's own limit; with an interval of 0 it has none.
    pub limit: Limit,
    /// A [`crate::policy::Action`] as a number.
    pub action: u32,
    /// Slot of the rule's counter and bucket, which it keeps as long as a rule of this name exists.
    pub slot: u32,
}

/// A compiled policy: one of two buffers of `RULES`. In each table, bit n of a word is set if rule n allows the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rules {
    /// `RULES_*` flags: the tables that have conditions.
    pub conditions: u32,
    /// How many rules there are.
    pub count: u32,
    /// Rules in audit, which only count what they would do.
    pub audited: u64,
    /// Rules that allow any source.
    pub any_source: u64,
    /// Rules that allow any destination.
    pub any_destination: u64,
    /// Rules by family and type.
    pub types: [TypeRules; TYPE_ENTRIES],
    /// Rules by code, for types with rules for single codes.
    pub codes: [[u64; 256]; CODE_BLOCKS],
    /// Rules by TTL or hop limit.
    pub hop_limits: [u64; 256],
    /// Rules by length of the ICMP message.
    pub lengths: [u64; LENGTHS],
    /// Rules by VLAN.
    pub vlans: [u64; VLANS],
    /// Limit and action of each rule.
    pub rules: [Rule; MAX_RULES],
    /// Names of the rules, zero behind the end.
    pub names: [[u8; NAME_LEN]; MAX_RULES],
    /// Routers that the router advertisement guard accepts, as big-endian halves; unused entries are zero.
    pub routers: [[u64; 2]; ROUTERS],
    /// How the prefixes of the buffer are searched, those of VIPs among them.
    pub search: Search,
    /// Values of the prefixes, by [`PrefixKind`](crate::abi::PrefixKind). A value covers those of wider prefixes of its kind. Value 0 is 0, then
    /// come those of the gates in their order.
    pub prefix_values: [u64; PREFIX_VALUES],
    /// VIPs with a check; free entries come last.
    pub gates: [Gate; GATES],
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

/// How often a rule or check decided: an entry of `RULE_COUNTERS` (per CPU). The slots of rules come first, then the checks: quote, path MTU,
/// neighbour discovery, router guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCounter {
    /// Messages that the rule decided; for a check, messages that failed it.
    pub hits: u64,
    /// Messages of these that were over the rule's own limit.
    pub limited: u64,
    /// Messages that the rule would have decided if it were not in audit.
    pub would_hit: u64,
    /// Messages of these that would have been over the rule's own limit.
    pub would_limit: u64,
}
