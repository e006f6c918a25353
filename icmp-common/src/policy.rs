//! The action for each ICMP type: actions, budgets, and the table that the packet path reads.
//!
//! Owns the meaning of an action and the compiled table of all 512 types. It does not own the defaults (`types.rs`), the limiter's arithmetic
//! (`limiter.rs`), or how a reply is built (`path/reply.rs`).

use crate::abi::{BUDGETS, Decision, TYPE_ENTRIES, TypeEntry};
use crate::types::{Action, Budget, FIRST_TYPE_ROW, Family, ROWS, row_indices};
const _: () = assert!(Budget::ALL.len() <= BUDGETS);

/// What a preset does with a row of the type table, as the packet path reads it.
const fn decision(preset: Preset, index: usize) -> Decision {
    let PresetRow { action, budget, .. } = preset.row(index);
    Decision { action: action as u8, budget: budget as u8, row: FIRST_TYPE_ROW + index as u8 }
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

/// The table of a preset.
pub const fn preset_types(preset: Preset) -> [TypeEntry; TYPE_ENTRIES] {
    let empty = Decision { action: 0, budget: 0, row: 0 };
    let mut table = [TypeEntry { main: empty, other: empty, other_code: 0, has_other: 0 }; TYPE_ENTRIES];
    let mut i = 0;
    while i < TYPE_ENTRIES {
        let family = if i < 256 { Family::V4 } else { Family::V6 };
        let (covers, refines) = row_indices(family, i as u8);
        table[i].main = decision(preset, covers);
        if let Some(row) = refines
            && let Some(code) = ROWS[row].code
        {
            table[i].other = decision(preset, row);
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
    use crate::abi::type_index;

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
