//! Counters and heavy hitters, read from an instance's maps.

use std::collections::BTreeMap;
use std::sync::Once;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, MapData, PerCpuValues};
use icmp_common::abi::{
    Counter, Cpu, HEAVY_HITTERS, HeavyHitter, Line, RULE_COUNTERS, RuleCounter, SLOTS, counter_index,
};
use icmp_common::budget::BUCKETS;
use icmp_common::reason::REASONS;
use icmp_common::types::COUNTER_ROWS;

use crate::diagnostics::warn;
use crate::failure::sentence;
use crate::instance::compiled::name_text;
use crate::instance::maps::InstanceMaps;
use crate::kernel::bpf::{read_batch, read_batch_per_cpu};
use crate::kernel::clock::{Tick, ticks};
use crate::kernel::pod::Pod;

/// Lines of a table that stand for all. What is found of their 8,192 buckets is within two percentage points of the whole.
const SAMPLED_LINES: u32 = 1024;

impl InstanceMaps {
    /// What each rule in force is called, and how often it decided; cheaper than [`Self::policy`], which reads all prefixes.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn named_rule_counters(&self) -> Result<Vec<(String, RuleCounter)>> {
        let rule_counters = self.rule_counters()?;
        let slots = self.rule_slots()?.into_iter();
        Ok(slots.map(|(name, slot)| (name, rule_counters[slot as usize])).collect())
    }

    /// What each rule in force is called, and the slot that stands for it in the maps.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn rule_slots(&self) -> Result<Vec<(String, u32)>> {
        let Some(settings) = self.settings()? else { return Ok(Vec::new()) };
        let rules = self.rules(settings.rules)?;
        let named = rules.names.iter().zip(&rules.rules).take(rules.count as usize);
        Ok(named.map(|(name, rule)| (name_text(name), rule.slot)).collect())
    }

    pub(super) fn clear_counter(&mut self, index: u32) -> Result<()> {
        let cpus =
            aya::util::nr_cpus().map_err(|(path, error)| anyhow!("counting the CPUs in {path}: {error}"))?;
        let zeroes = PerCpuValues::try_from(vec![Pod(RuleCounter::default()); cpus])
            .context("a value for each CPU")?;
        self.rule_counters.set(index, zeroes, 0).context("clearing the counter of a new rule")
    }

    /// The rule counters of rules' slots and of checks, over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counters(&self) -> Result<Vec<RuleCounter>> {
        let counters = read_batch_per_cpu(&self.rule_counters, 0, RULE_COUNTERS)
            .context("reading the counters of rules")?;
        let sum = |cpus: &[Pod<RuleCounter>]| {
            cpus.iter().fold(RuleCounter::default(), |sum, cpu| RuleCounter {
                hits: sum.hits + cpu.0.hits,
                limited: sum.limited + cpu.0.limited,
                would_hit: sum.would_hit + cpu.0.would_hit,
                would_limit: sum.would_limit + cpu.0.would_limit,
            })
        };
        Ok(counters.elements().map(sum).collect())
    }

    /// The buckets of budgets and, behind them, of rules (`icmp_common::budget`).
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn limit_buckets(&self) -> Result<Vec<u64>> {
        read_batch(&self.budgets, 0, BUCKETS).context("reading the budgets")
    }

    /// Some of the buckets that sources are limited by, and of those of prefixes. A hash chooses among all, so that these are like the rest.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn some_buckets(&self) -> Result<[Vec<u64>; 2]> {
        let some = |table: &Array<MapData, Pod<Line>>| -> Result<Vec<u64>> {
            let lines = read_batch(table, 0, SAMPLED_LINES.min(table.len()))
                .context("reading the limiter's buckets")?;
            Ok(lines.iter().flat_map(|line| line.0.words).collect())
        };
        Ok([some(&self.sources)?, some(&self.prefixes)?])
    }

    /// Bytes of the limiter's tables.
    pub fn limiter_bytes(&self) -> u64 {
        // Prefixes and known sources have half as many lines each.
        2 * u64::from(self.sources.len()) * size_of::<Line>() as u64
    }

    /// As [`Self::under_pressure`], or `None` where that cannot be known: it is one figure of many, and is left out then, which is said
    /// once.
    pub fn pressure(&self) -> Option<bool> {
        static SAID: Once = Once::new();
        let pressure = self.under_pressure();
        if let Err(error) = &pressure {
            SAID.call_once(|| {
                warn(&format!("whether the reply budget is exhausted is left out: {}", sentence(error)));
            });
        }
        pressure.ok()
    }

    /// True where a CPU has found the replies' budget exhausted within the last second.
    ///
    /// # Errors
    /// The map or the clock cannot be read.
    fn under_pressure(&self) -> Result<bool> {
        let latest = self.cpus()?.iter().map(|cpu| cpu.exhausted.at).max().unwrap_or(0);
        // Most hosts never were under pressure; they need no clock.
        Ok(latest != 0 && (ticks()?.saturating_sub(latest) as f64) < Tick::of_this_kernel()?.per_second)
    }

    /// What belongs to each CPU.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn cpus(&self) -> Result<Vec<Cpu>> {
        Ok(self.cpus.get(&0, 0).context("reading the CPUs' own state")?.iter().map(|cpu| cpu.0).collect())
    }

    /// The entries of all CPUs that have a source, each with its index and CPU.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn heavy_hitters(&self) -> Result<Vec<(u32, usize, HeavyHitter)>> {
        let elements =
            read_batch_per_cpu(&self.heavy_hitters, 0, HEAVY_HITTERS).context("reading the heavy hitters")?;
        let entries = (0..).zip(elements.elements()).flat_map(|(index, element)| {
            element.iter().enumerate().map(move |(cpu, entry)| (index, cpu, entry.0))
        });
        Ok(entries.filter(|(.., heavy_hitter)| heavy_hitter.source.ip_version != 0).collect())
    }

    /// What was counted in one slot, by row and reason, over all CPUs; counters that are zero are left out.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters_of(&self, slot: u32) -> Result<BTreeMap<(u8, u8), Counter>> {
        let elements =
            read_batch_per_cpu(&self.counters, counter_index(slot, 0, 0), (COUNTER_ROWS * REASONS) as u32)
                .context("reading the counters")?;
        let places =
            (0..COUNTER_ROWS).flat_map(|row| (0..REASONS).map(move |reason| (row as u8, reason as u8)));
        let sums =
            elements.elements().map(|cpus| cpus.iter().fold(Counter::default(), |sum, cpu| sum.plus(cpu.0)));
        Ok(places.zip(sums).filter(|(_, counter)| counter.packets != 0).collect())
    }

    /// Sets the counters of a slot to zero, for the interface that gets it next.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn clear_counters(&mut self, slot: u32) -> Result<()> {
        let cpus = self.cpus()?.len();
        for ((row, reason), _) in self.counters_of(slot)? {
            let index = counter_index(slot, u32::from(row), u32::from(reason));
            let zeroes = PerCpuValues::try_from(vec![Pod(Counter::default()); cpus])
                .context("a value for each CPU")?;
            self.counters.set(index, zeroes, 0).context("clearing the counters")?;
        }
        Ok(())
    }

    /// What was counted in all slots, by slot, row and reason.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<(u32, u8, u8), Counter>> {
        let mut counters = BTreeMap::new();
        for slot in 0..SLOTS {
            counters.extend(
                self.counters_of(slot)?.into_iter().map(|((row, reason), c)| ((slot, row, reason), c)),
            );
        }
        Ok(counters)
    }
}
