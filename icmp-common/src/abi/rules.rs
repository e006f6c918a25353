//! A compiled policy: rules as tables of bits, and what they counted.

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
    /// Its place among the rule counters and buckets, for as long as a rule of this name exists.
    pub slot: u32,
}

/// A compiled policy: one of two buffers of `RULES`. Layout: see the size in `abi.rs`.
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
    /// How the prefixes of the buffer are searched, those of VIPs too.
    pub search: Search,
    /// What is found: the rules that have a prefix among their sources or destinations, 1 for a VIP, or 2 and the number of its gate. The
    /// first is 0, and then come those of the gates in their order.
    pub prefix_values: [u64; PREFIX_VALUES],
    /// VIPs with a check; those that there are come first.
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

/// How often a rule decided. Layout: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCounter {
    /// Messages it decided; for a check, messages that failed it.
    pub hits: u64,
    /// Those of them that were over its own limit.
    pub limited: u64,
    /// Messages it would have decided, were it not audited.
    pub would_hit: u64,
    /// Those of them that would have been over its own limit.
    pub would_limit: u64,
}
