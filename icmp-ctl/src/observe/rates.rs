//! What happens in a span of time: the counters of two moments, and figures that are read at a glance.
//!
//! Owns the difference, and how a rate is written. When counters are read is decided by whoever shows them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use icmp_common::reason::{Reason, Verdict};

use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::View;

/// What was counted up to a moment, by the names of interfaces.
#[derive(Debug)]
pub struct Reading {
    at: Instant,
    interfaces: BTreeMap<String, Totals>,
}

/// Packets by verdict, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets, in the order of [`VERDICTS`].
    pub packets: [u64; VERDICTS.len()],
    /// Bytes of all of them, from the Ethernet header on.
    pub bytes: u64,
}

/// The verdicts in the order they are shown in.
pub const VERDICTS: [Verdict; 4] = [Verdict::Answer, Verdict::Pass, Verdict::Drop, Verdict::Limit];

impl Totals {
    /// Packets of all verdicts.
    pub fn received(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// What has come since; the counters of an interface that was attached anew have begun at zero again.
    fn since(&self, before: &Self) -> Self {
        if self.received() < before.received() {
            return *self;
        }
        Self {
            packets: std::array::from_fn(|i| self.packets[i].saturating_sub(before.packets[i])),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

impl Reading {
    /// Reads the counters.
    ///
    /// # Errors
    /// Nothing is loaded, or its maps cannot be read.
    pub fn now() -> Result<Self> {
        let instance = View::open()?;
        let slots = slots(&instance, &Network::read_once()?)?;
        let at = Instant::now();
        let interfaces = slots.into_iter().map(|(slot, name)| {
            let mut totals = Totals::default();
            for ((_, reason), counter) in instance.maps.counters_of(slot)? {
                let verdict = Reason::ALL[usize::from(reason)].verdict();
                for (_, packets) in VERDICTS.iter().zip(&mut totals.packets).filter(|(of, _)| **of == verdict)
                {
                    *packets += counter.packets;
                }
                totals.bytes += counter.bytes;
            }
            Ok((name, totals))
        });
        Ok(Self { at, interfaces: interfaces.collect::<Result<_>>()? })
    }

    /// What has come since another reading, by interface, and in which time.
    pub fn since(&self, before: &Self) -> (Duration, Vec<(&str, Totals)>) {
        let none = Totals::default();
        let counted = self.interfaces.iter().map(|(name, totals)| {
            (name.as_str(), totals.since(before.interfaces.get(name).unwrap_or(&none)))
        });
        (self.at.duration_since(before.at), counted.collect())
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let totals = |answered: u64| Totals { packets: [answered, 0, 0, 0], bytes: 100 * answered };
        assert_eq!(totals(30).since(&totals(10)), totals(20));
        assert_eq!(totals(3).since(&totals(10)), totals(3));
    }
}
