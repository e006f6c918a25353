//! The action in force for each type: the rows of `show policy`.
//!
//! Owns which types are shown together, and the clause of each. The packet path owns the meaning of an action.

use icmp_common::abi::{BUDGETS, Decision, RuleCounter, Settings, type_index};
use icmp_common::path::checks::{Check, Mode, check_counter, mode_shift};
use icmp_common::policy::Preset;
use icmp_common::types::{Action, Budget, FIRST_TYPE_ROW, Family, ROWS, TypeRow, rows_of};

use crate::policy::types::{TypeName, action_of};

/// What is in force for a type, for types that are treated alike, or for one code.
#[derive(Clone, Copy, Debug)]
pub struct PolicyRow {
    /// Which.
    pub name: TypeName,
    /// The row of the type table it belongs to, whose counters it has.
    pub row: &'static TypeRow,
    /// What is done.
    pub action: Action,
    /// Whose budget a limited message is charged to.
    pub budget: Budget,
    /// The clause behind it, or that the configuration says so.
    pub clause: &'static str,
}

/// The clause of what differs from the preset.
pub const CONFIGURED: &str = "the configuration";

impl PolicyRow {
    /// True where it is about what is called so.
    pub fn concerns(&self, name: &TypeName) -> bool {
        self.name.family == name.family
            && self.name.first <= name.last
            && self.name.last >= name.first
            && (self.name.code.is_none() || self.name.code == name.code)
    }

    /// The budget that a message is charged to, where it is charged to one.
    pub fn charged_to(&self) -> Option<&'static str> {
        matches!(self.action, Action::Limit | Action::Answer).then(|| self.budget.name())
    }

    /// Position of its counters.
    pub fn counter_row(&self) -> u8 {
        let position = ROWS.iter().position(|row| (row.family, row.name) == (self.row.family, self.row.name));
        FIRST_TYPE_ROW + position.unwrap_or_default() as u8
    }
}

/// The preset that settings were made from.
pub fn preset_of(settings: &Settings) -> Preset {
    Preset::ALL.get(settings.preset as usize).copied().unwrap_or(Preset::Host)
}

/// All rows in force, in the order of families and types; neighbours of one row that are treated alike are together.
pub fn rows(settings: &Settings) -> Vec<PolicyRow> {
    let preset = preset_of(settings);
    let mut rows: Vec<PolicyRow> = Vec::new();
    for family in [Family::V4, Family::V6] {
        for icmp_type in 0..=u8::MAX {
            let entry = &settings.types[type_index(family, icmp_type)];
            let main = row(preset, family, icmp_type, None, entry.main);
            match rows.last_mut() {
                Some(last)
                    if last.name.code.is_none()
                        && last.row.family == family
                        && last.row.first == main.row.first
                        && (last.action, last.budget, last.clause)
                            == (main.action, main.budget, main.clause) =>
                {
                    last.name.last = icmp_type;
                }
                _ => rows.push(main),
            }
            if entry.has_other != 0 {
                rows.push(row(preset, family, icmp_type, Some(entry.other_code), entry.other));
            }
        }
    }
    rows
}

fn row(preset: Preset, family: Family, icmp_type: u8, code: Option<u8>, decision: Decision) -> PolicyRow {
    let index = usize::from(decision.row.saturating_sub(FIRST_TYPE_ROW)).min(ROWS.len() - 1);
    let by_preset = preset.row(index);
    let action = action_of(u32::from(decision.action));
    let budget = Budget::ALL[usize::from(decision.budget) & (BUDGETS - 1)];
    let (covers, refines) = rows_of(family, icmp_type);
    PolicyRow {
        name: TypeName { family, first: icmp_type, last: icmp_type, code },
        row: refines.filter(|row| row.code == code).unwrap_or(covers),
        action,
        budget,
        clause: if action == by_preset.action { by_preset.clause } else { CONFIGURED },
    }
}

/// Names of checks, what is done, and how many messages have failed them; takes the rule counters of rules and checks.
pub fn check_rows<'a>(
    settings: &Settings,
    rule_counters: &'a [RuleCounter],
) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<'a> {
    let modes = settings.checks;
    Check::ALL.iter().map(move |check| {
        let mode = modes >> mode_shift(*check) & 3;
        let mode = Mode::ALL.get(mode as usize).map_or("?", |mode| mode.name());
        (check.name(), mode, rule_counters[check_counter(*check) as usize].hits)
    })
}
