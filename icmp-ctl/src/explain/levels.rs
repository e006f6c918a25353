//! The limits that a frame was charged to, with their levels before and after.
//!
//! Owns which limit a bucket belongs to. `watched.rs` owns the record of the buckets.

use std::net::IpAddr;

use icmp_common::abi::{BUDGETS, Batches, Limit, RULE_SLOTS, Settings};
use icmp_common::budget::{budget_bucket, generation, rule_bucket};
use icmp_common::host_tables::Memory;
use icmp_common::limiter::{self, Table};
use icmp_common::path::SENDER_SHARE;
use icmp_common::path::apart::BUDGET;
use icmp_common::tables::Tables as _;
use icmp_common::types::Budget;
use serde_json::{Value, json};

use crate::explain::watched::{Note, Run};
use crate::kernel::clock::Tick;
use crate::observe::levels::packets_left;
use crate::policy::limits::{prefix_lengths, prefix_of};
use crate::policy::rules::Rule;

/// A limit that a frame was held against.
pub(super) struct Level {
    /// The limit's name, as in `[limits]`; a rule's is that of the rule.
    name: &'static str,
    /// Who shares it, where not all do.
    of: Option<String>,
    limit: Limit,
    /// When it was, or will have been, empty.
    words: [u64; 2],
    /// Packets of a budget that the CPU has taken and not used.
    taken: Option<[u32; 2]>,
}

/// What is charged where.
pub(super) struct Charging<'a> {
    pub(super) settings: &'a Settings,
    /// The rules with their slots.
    pub(super) rules: &'a [(u32, Rule)],
    pub(super) source: Option<IpAddr>,
    pub(super) memory: &'a Memory,
    pub(super) now: u64,
    pub(super) run: &'a Run,
}

impl Charging<'_> {
    /// In the order in which they were looked at.
    pub(super) fn levels(&self) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::new();
        let mut depth = 0_u32;
        for note in &self.run.notes {
            match *note {
                Note::Begun(BUDGET) => depth += 1,
                Note::Ended(BUDGET, _) => depth -= 1,
                Note::Bucket(index, words) => levels.extend(self.bucket(index, words)),
                Note::Pair(table, pairs) => levels.extend(self.pair(table, pairs, depth > 0)),
                _ => {}
            }
        }
        for budget in Budget::ALL {
            let taken = self.taken(*budget);
            match levels.iter_mut().find(|level| level.of.is_none() && level.name == budget.name()) {
                Some(level) => level.taken = Some(taken),
                None if taken[0] != taken[1] => {
                    let bucket = self.memory.budgets[budget_bucket(*budget as usize) as usize];
                    levels.push(Level { taken: Some(taken), ..self.budget(*budget, [bucket; 2]) });
                }
                None => {}
            }
        }
        // One bucket may be looked at twice: its first level is that before, its last one that after.
        let mut merged: Vec<Level> = Vec::new();
        for level in levels {
            match merged.iter_mut().find(|other| (other.name, &other.of) == (level.name, &level.of)) {
                Some(other) => other.words[1] = level.words[1],
                None => merged.push(level),
            }
        }
        merged
    }

    fn budget(&self, budget: Budget, words: [u64; 2]) -> Level {
        let limit = self.settings.budgets[budget as usize & (BUDGETS - 1)];
        Level { name: budget.name(), of: None, limit, words, taken: None }
    }

    fn bucket(&self, index: u32, words: [u64; 2]) -> Option<Level> {
        let budget = Budget::ALL.iter().find(|budget| budget_bucket(**budget as usize) == index);
        if let Some(budget) = budget {
            return Some(self.budget(*budget, words));
        }
        let slot = (0..RULE_SLOTS as u32).find(|slot| rule_bucket(*slot) == index)?;
        let (_, rule) = self.rules.iter().find(|(of, _)| *of == slot)?;
        Some(Level { name: "rule", of: Some(rule.name.clone()), limit: rule.limit, words, taken: None })
    }

    fn pair(&self, table: Table, [before, after]: [[u64; 2]; 2], is_of_budget: bool) -> Option<Level> {
        // The one that has been empty for longer counts.
        let fuller = |[a, b]: [u64; 2]| if (b.wrapping_sub(a) as i64) < 0 { b } else { a };
        let words = [fuller(before), fuller(after)];
        let of = |level| Some(prefix_of(self.source?, lengths(level)).to_string());
        let (name, of, limit) = match table {
            Table::Sources if is_of_budget => {
                let Limit { interval, capacity } = self.settings.budgets[Budget::NeighbourDiscovery as usize];
                let share = Limit { interval: interval.wrapping_mul(SENDER_SHARE), capacity };
                (Budget::NeighbourDiscovery.name(), Some("its sender".to_owned()), share)
            }
            Table::Sources => ("per-source", of(&self.settings.source), self.settings.source.limit),
            Table::Prefixes => ("per-prefix", of(&self.settings.prefix), self.settings.prefix.limit),
            Table::Reputations => return None,
        };
        Some(Level { name, of, limit, words, taken: None })
    }

    fn taken(&self, budget: Budget) -> [u32; 2] {
        if self.settings.budgets[budget as usize & (BUDGETS - 1)].is_unlimited() {
            // What it counts down then is to the next sample.
            return [0; 2];
        }
        let now = generation(0, self.now);
        let of = |batches: &Batches| {
            let until_stop = if budget == Budget::Replies { batches.until_stop } else { 0 };
            let tokens = batches.tokens[budget as usize & (BUDGETS - 1)] + until_stop;
            // Those of another time have lapsed.
            if batches.generation == now { tokens } else { 0 }
        };
        let after = self.run.tables.cpu().map_or(0, |cpu| of(&cpu.batches));
        [of(&self.memory.cpu.batches), after]
    }
}

fn lengths(level: &icmp_common::abi::Level) -> (u8, u8) {
    let (v4, v6) = prefix_lengths(level);
    (v4 as u8, v6 as u8)
}

impl Level {
    fn left(&self, now: u64) -> [Option<u64>; 2] {
        self.words.map(|word| packets_left(word, &self.limit, limiter::now(now)))
    }

    pub(super) fn text(&self, tick: Tick, now: u64) -> String {
        let mut text = self.name.to_owned();
        if let Some(of) = &self.of {
            text.push_str(&format!(" of {of}"));
        }
        let (rate, burst) = tick.rate_and_burst(&self.limit);
        match self.left(now) {
            [Some(before), Some(after)] => {
                text.push_str(&format!(": {before} of {burst} were left, then {after}; {rate}"));
            }
            _ => text.push_str(": unlimited"),
        }
        if let Some([before, after]) = self.taken.filter(|taken| *taken != [0, 0]) {
            text.push_str(&format!("; this CPU had {before} of them in hand, then {after}"));
        }
        text
    }

    pub(super) fn json(&self, tick: Tick, now: u64) -> Value {
        let (rate, burst) = tick.rate_and_burst(&self.limit);
        let [before, after] = self.left(now);
        json!({
            "limit": self.name, "of": self.of, "rate": rate.to_string(), "burst": (burst != 0).then_some(burst),
            "before": before, "after": after,
            "cpu_before": self.taken.map(|taken| taken[0]), "cpu_after": self.taken.map(|taken| taken[1]),
        })
    }
}
