//! Rates: the difference of the counters of two moments, and figures that are read at a glance.
//!
//! Owns the difference, and how a rate is written. The caller decides when counters are read.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use icmp_common::reason::{Reason, Verdict};
use nix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::View;

/// What was counted up to a moment, by the names of interfaces.
#[derive(Debug, Deserialize, Serialize)]
pub struct Reading {
    /// By CLOCK_MONOTONIC of who has read it.
    at: Duration,
    interfaces: BTreeMap<String, Rows>,
}

/// Totals by the row of the type table that frames are counted in (`icmp_common::types::row_labels`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rows(pub BTreeMap<u8, Totals>);

/// Packets by verdict, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Totals {
    /// Packets, in the order of [`Verdict::ALL`].
    pub packets: [u64; Verdict::ALL.len()],
    /// Bytes of all of them, from the Ethernet header on.
    pub bytes: u64,
}

impl Totals {
    /// Packets of all verdicts.
    pub fn received(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        for (packets, more) in self.packets.iter_mut().zip(others.packets) {
            *packets += more;
        }
        self.bytes += others.bytes;
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            packets: std::array::from_fn(|i| self.packets[i].saturating_sub(before.packets[i])),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

impl Rows {
    /// All rows together.
    pub fn total(&self) -> Totals {
        let mut total = Totals::default();
        self.0.values().for_each(|totals| total.add(totals));
        total
    }

    /// What has come since; the counters of an interface that was attached anew have begun at zero again.
    fn since(&self, before: &Self) -> Self {
        if self.total().received() < before.total().received() {
            return self.clone();
        }
        let none = Totals::default();
        Self(self.0.iter().map(|(row, now)| (*row, now.since(before.0.get(row).unwrap_or(&none)))).collect())
    }
}

impl Reading {
    /// Reads the counters.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn of(instance: &View, network: &Network) -> Result<Self> {
        let slots = slots(instance, network)?;
        let at = ClockId::CLOCK_MONOTONIC.now()?.into();
        let interfaces = slots.into_iter().map(|(slot, name)| {
            let mut rows = Rows::default();
            for ((row, reason), counter) in instance.maps.counters_of(slot)? {
                let totals = rows.0.entry(row).or_default();
                let verdict = Reason::ALL[usize::from(reason)].verdict();
                for (_, packets) in
                    Verdict::ALL.iter().zip(&mut totals.packets).filter(|(of, _)| **of == verdict)
                {
                    *packets += counter.packets;
                }
                totals.bytes += counter.bytes;
            }
            Ok((name, rows))
        });
        Ok(Self { at, interfaces: interfaces.collect::<Result<_>>()? })
    }

    /// What has come since another reading, by interface, and in which time.
    pub fn since(&self, before: &Self) -> (Duration, Vec<(&str, Rows)>) {
        let none = Rows::default();
        let counted = self
            .interfaces
            .iter()
            .map(|(name, rows)| (name.as_str(), rows.since(before.interfaces.get(name).unwrap_or(&none))));
        (self.at.saturating_sub(before.at), counted.collect())
    }
}

/// A figure in three digits: `0`, `7.25`, `999`, `12.3k`, `1.20M`.
pub fn three_digits(figure: f64) -> String {
    // What rounds to 1,000 is written in the next unit.
    let (figure, unit) = [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")]
        .into_iter()
        .map(|(scale, unit)| (figure / scale, unit))
        .find(|(scaled, unit)| *scaled < 999.5 || *unit == "G")
        .unwrap_or((figure, ""));
    let decimals = match figure {
        _ if figure == figure.trunc() && unit.is_empty() => 0,
        _ if figure < 9.995 => 2,
        _ if figure < 99.95 => 1,
        _ => 0,
    };
    format!("{figure:.decimals$}{unit}")
}

/// A span of nanoseconds, with the unit in which it has few digits.
pub fn span(nanoseconds: u64) -> String {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3600e9)];
    let span = nanoseconds as f64;
    let (unit, length) = UNITS.into_iter().rev().find(|(_, length)| span >= *length).unwrap_or(UNITS[0]);
    format!("{}{unit}", three_digits(span / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_unit_in_which_it_has_few_digits() {
        for (nanoseconds, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (52_100, "52.1us"),
            (1_234_567, "1.23ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1.50min"),
            (86_400_000_000_000, "24h"),
        ] {
            assert_eq!(span(nanoseconds), text);
        }
    }

    #[test]
    fn a_figure_has_three_digits_and_a_unit() {
        for (figure, text) in [
            (0.0, "0"),
            (7.25, "7.25"),
            (12.34, "12.3"),
            (999.0, "999"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (1_204_000.0, "1.20M"),
            (2.5e12, "2500G"),
        ] {
            assert_eq!(three_digits(figure), text);
        }
    }

    #[test]
    fn an_interface_that_was_attached_anew_has_what_was_counted_since() {
        let rows = |answered: u64| {
            Rows(BTreeMap::from([(7, Totals { packets: [answered, 0, 0, 0], bytes: 100 * answered })]))
        };
        assert_eq!(rows(30).since(&rows(10)), rows(20));
        assert_eq!(rows(3).since(&rows(10)), rows(3));
    }
}
