//! What is done with each ICMP type: actions, budgets, and the table the packet path reads.
//!
//! Owns the meaning of an action and the compiled table of all 512 types. It does not own the defaults (`types.rs`), the
//! limiter's arithmetic (`limiter.rs`), or how a reply is built (`pipeline.rs`): policy is not mechanism.

use crate::types::{FIRST_TYPE_ROW, Family, ROWS, row_indices};

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// Handed to the kernel.
    Pass,
    /// Answered where every check holds, otherwise handed to the kernel; only echo requests can be.
    Answer,
    /// Handed to the kernel within the budget of its kind, discarded beyond it.
    Limit,
    /// Discarded.
    Drop,
}

impl Action {
    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Answer => "answer",
            Self::Limit => "limit",
            Self::Drop => "drop",
        }
    }
}

/// Whose budget a message is charged to. Kinds do not share one, so that a flood of one kind cannot cost the host another
/// (rule R-47 in docs/packet-path.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Budget {
    /// Echo requests: the total of replies sent.
    Replies,
    /// Replies kept back for familiar sources; part of `Replies`, never on top of it.
    Familiar,
    /// Errors about the host's own packets.
    Errors,
    /// Fragmentation needed and packet too big.
    PathMtu,
    /// Neighbour discovery.
    NeighbourDiscovery,
    /// Multicast listener and multicast router discovery.
    MulticastListener,
    /// Replies to the host's own queries, and queries the kernel answers.
    Queries,
    /// Redirects.
    Redirects,
    /// Messages that fail a check which only counts them: they spend nothing that others need.
    Unverified,
}

impl Budget {
    /// All budgets in the order of their discriminants.
    pub const ALL: &[Self] = &[
        Self::Replies,
        Self::Familiar,
        Self::Errors,
        Self::PathMtu,
        Self::NeighbourDiscovery,
        Self::MulticastListener,
        Self::Queries,
        Self::Redirects,
        Self::Unverified,
    ];

    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replies => "replies",
            Self::Familiar => "familiar",
            Self::Errors => "errors",
            Self::PathMtu => "path-mtu",
            Self::NeighbourDiscovery => "neighbour-discovery",
            Self::MulticastListener => "multicast-listener",
            Self::Queries => "queries",
            Self::Redirects => "redirects",
            Self::Unverified => "unverified",
        }
    }
}

/// Places for budgets; a power of two, so that an index from a table can be masked.
pub const BUDGETS: usize = 16;
const _: () = assert!(Budget::ALL.len() <= BUDGETS);

/// What the packet path does with one type: the decision for most codes, and for the one code that has a row of its own.
///
/// Layout: 8 bytes, no padding. Fields are numbers because the value comes out of a map; an unknown action passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TypeEntry {
    /// Decision for every code but `other_code`.
    pub main: Decision,
    /// Decision for `other_code`.
    pub other: Decision,
    /// The code that `other` is about.
    pub other_code: u8,
    /// 1 where `other` applies at all.
    pub has_other: u8,
}

/// One decision of a [`TypeEntry`]. Layout: 3 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// An [`Action`] as a number.
    pub action: u8,
    /// A [`Budget`] as a number.
    pub budget: u8,
    /// Row of the counter map the message is counted in.
    pub row: u8,
}

impl Decision {
    const fn from_row(preset: Preset, index: usize) -> Self {
        let PresetRow { action, budget, .. } = preset.row(index);
        Self { action: action as u8, budget: budget as u8, row: FIRST_TYPE_ROW + index as u8 }
    }
}

/// A named table of all types, chosen by the configuration (docs/policy.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Preset {
    /// A host: RFC 1122, 4443, 4890, 6633, 6918.
    Host,
    /// A router, as far as it is addressed itself: RFC 1812, RFC 4861 section 6.2.
    Router,
    /// A host that says no more than it must.
    Strict,
    /// Decides nothing, and counts what `host` would do.
    Observe,
}

/// What a preset does with a row of the type table.
#[derive(Clone, Copy, Debug)]
pub struct PresetRow {
    /// Whose row it is.
    pub preset: Preset,
    /// Position in [`ROWS`].
    pub row: usize,
    /// What is done.
    pub action: Action,
    /// Whose budget a limited message is charged to.
    pub budget: Budget,
    /// The clause behind it.
    pub clause: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/presets.rs"));

impl Preset {
    /// All presets in the order of their discriminants.
    pub const ALL: &[Self] = &[Self::Host, Self::Router, Self::Strict, Self::Observe];

    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Router => "router",
            Self::Strict => "strict",
            Self::Observe => "observe",
        }
    }

    /// What it does with a row of the type table: its own row, or that of `host`.
    pub const fn row(self, index: usize) -> PresetRow {
        let mut i = 0;
        while i < PRESET_ROWS.len() {
            if PRESET_ROWS[i].preset as u8 == self as u8 && PRESET_ROWS[i].row == index {
                return PRESET_ROWS[i];
            }
            i += 1;
        }
        let row = &ROWS[index];
        PresetRow { preset: self, row: index, action: row.action, budget: row.budget, clause: row.clause }
    }
}

impl TypeEntry {
    /// The decision for a code.
    #[inline(always)]
    pub fn decision(&self, code: u8) -> Decision {
        if self.has_other != 0 && self.other_code == code { self.other } else { self.main }
    }
}

/// Entries of a table: 256 types of ICMPv4, then 256 of ICMPv6.
pub const TYPE_ENTRIES: usize = 512;

/// Position of a type in a table.
#[inline(always)]
pub const fn type_index(family: Family, icmp_type: u8) -> usize {
    (family as usize) << 8 | icmp_type as usize
}

/// The table of a preset.
pub const fn preset_types(preset: Preset) -> [TypeEntry; TYPE_ENTRIES] {
    let empty = Decision { action: 0, budget: 0, row: 0 };
    let mut table = [TypeEntry { main: empty, other: empty, other_code: 0, has_other: 0 }; TYPE_ENTRIES];
    let mut i = 0;
    while i < TYPE_ENTRIES {
        let family = if i < 256 { Family::V4 } else { Family::V6 };
        let (covers, refines) = row_indices(family, i as u8);
        table[i].main = Decision::from_row(preset, covers);
        if let Some(row) = refines
            && let Some(code) = ROWS[row].code
        {
            table[i].other = Decision::from_row(preset, row);
            table[i].other_code = code;
            table[i].has_other = 1;
        }
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(family: Family, icmp_type: u8, code: u8) -> (u8, u8) {
        let decision = preset_types(Preset::Host)[type_index(family, icmp_type)].decision(code);
        (decision.action, decision.budget)
    }

    #[test]
    fn echo_requests_are_answered_and_nothing_else_is() {
        for family in [Family::V4, Family::V6] {
            let echo = if family == Family::V4 { 8 } else { 128 };
            for icmp_type in 0..=u8::MAX {
                let answers = decide(family, icmp_type, 0).0 == Action::Answer as u8;
                assert_eq!(answers, icmp_type == echo, "{family:?} {icmp_type}");
            }
        }
    }

    #[test]
    fn no_preset_changes_what_another_needs_and_each_row_once() {
        for (i, a) in PRESET_ROWS.iter().enumerate() {
            assert!(!PRESET_ROWS[i + 1..].iter().any(|b| (a.preset, a.row) == (b.preset, b.row)), "{a:?}");
            assert_eq!(ROWS[a.row].code, None, "{a:?}");
        }
    }

    #[test]
    fn strict_only_ever_adds_drops() {
        for (strict, host) in preset_types(Preset::Strict).iter().zip(preset_types(Preset::Host)) {
            assert!(strict.main == host.main || strict.main.action == Action::Drop as u8);
            assert_eq!(strict.other, host.other);
        }
    }

    #[test]
    fn only_code_4_of_destination_unreachable_is_a_path_mtu_message() {
        for code in 0..=u8::MAX {
            let budget = if code == 4 { Budget::PathMtu } else { Budget::Errors };
            assert_eq!(decide(Family::V4, 3, code), (Action::Limit as u8, budget as u8), "code {code}");
        }
    }
}
