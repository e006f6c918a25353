//! Normal traffic, measured: how much of each kind there is in a second, and which limits would have left it alone.
//!
//! Owns the percentiles and the headroom. What is of which kind the packet path says, under a configuration that limits nothing.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use anyhow::Result;
use icmp_common::abi::{TYPE_ENTRIES, TypeEntry, type_index};
use icmp_common::reason::Reason;
use icmp_common::types::Budget;
use ipnet::IpNet;

use crate::capture::packet::Packet;
use crate::capture::read::Capture;
use crate::config::units::Rate;
use crate::instance::compiled::Compiled;
use crate::instance::program::LoadOptions;
use crate::kernel::clock::Tick;
use crate::policy::limits::{prefix_lengths, prefix_of};
use crate::replay::frames::{Frames, Path, Received};
use crate::replay::own::Own;

/// A limit is so many times what there was.
pub const HEADROOM: u64 = 2;
/// Of the seconds in which somebody sends, so many parts of a thousand have no more than the rate is made from.
pub const PER_MILLE: u64 = 999;
/// The lowest rate and burst of a limit: what a person does at a keyboard (`ping -i 0.2`, `mtr`) is to fit.
const LEAST: u64 = 20;
/// Sources or prefixes that are told apart in one second; others are not measured.
const MOST: usize = 1 << 16;

/// How much there is in a second in which there is any.
#[derive(Clone, Debug, Default)]
pub struct Seconds {
    /// How many seconds have so much; there are far fewer amounts than seconds.
    by_amount: BTreeMap<u64, u64>,
}

impl Seconds {
    fn add(&mut self, amount: u64) {
        *self.by_amount.entry(amount).or_default() += 1;
    }

    /// How much the busiest second has.
    pub fn most(&self) -> u64 {
        self.by_amount.last_key_value().map_or(0, |(amount, _)| *amount)
    }

    /// How much at most all but one in a thousand have.
    pub fn usual(&self) -> u64 {
        let all: u64 = self.by_amount.values().sum();
        let mut left = (all * PER_MILLE).div_ceil(1000);
        let mut amounts = self.by_amount.iter();
        amounts
            .find(|(_, seconds)| {
                left = left.saturating_sub(**seconds);
                left == 0
            })
            .map_or(0, |(amount, _)| *amount)
    }

    /// The rate and burst that leave all of it alone, and headroom; `None` where there was nothing.
    pub fn limit(&self) -> Option<(Rate, u64)> {
        (self.most() > 0).then(|| {
            let rate = round_up(HEADROOM * self.usual()).max(LEAST);
            (Rate::PerSecond(rate as f64), round_up(HEADROOM * self.most()).max(rate))
        })
    }
}

/// To two digits.
fn round_up(number: u64) -> u64 {
    let unit = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    number.div_ceil(unit) * unit
}

/// Amounts by key in the second that is being counted, and of all that are over.
struct Counted<K> {
    current: HashMap<K, u64>,
    seconds: Seconds,
}

impl<K: Eq + Hash> Counted<K> {
    fn new() -> Self {
        Self { current: HashMap::new(), seconds: Seconds::default() }
    }

    fn count(&mut self, key: K) {
        if self.current.len() < MOST || self.current.contains_key(&key) {
            *self.current.entry(key).or_default() += 1;
        }
    }

    fn close(&mut self) {
        for (_, amount) in self.current.drain() {
            self.seconds.add(amount);
        }
    }
}

/// What was measured.
pub struct Survey {
    /// What came in.
    pub frames: Frames,
    measured: Measured,
}

struct Measured {
    path: Path,
    types: [TypeEntry; TYPE_ENTRIES],
    prefixes: (u8, u8),
    second: u64,
    sources: Counted<IpAddr>,
    nets: Counted<IpNet>,
    replies: Counted<()>,
    budgets: Counted<u8>,
    by_budget: BTreeMap<u8, Seconds>,
}

impl Survey {
    /// Gets ready to measure the frames of a host, under a policy that limits nothing.
    pub fn new(own: Own, tick: Tick, unlimited: &Compiled) -> Self {
        let (v4, v6) = prefix_lengths(&unlimited.settings.prefix);
        let measured = Measured {
            path: Path::new(own.tables(unlimited, LoadOptions::DEFAULT_LINES).0),
            types: unlimited.settings.types,
            prefixes: (v4 as u8, v6 as u8),
            second: 0,
            sources: Counted::new(),
            nets: Counted::new(),
            replies: Counted::new(),
            budgets: Counted::new(),
            by_budget: BTreeMap::new(),
        };
        Self { frames: Frames::new(own, tick), measured }
    }

    /// Measures a capture to its end.
    ///
    /// # Errors
    /// As [`Capture::each`].
    pub fn run(&mut self, capture: &mut Capture, progress: impl FnMut(u64, u64)) -> Result<()> {
        let measured = &mut self.measured;
        let note = |received: &Received<'_>| {
            measured.note(received);
            Ok(())
        };
        let read = self.frames.each(capture, note, progress);
        measured.close();
        read
    }

    /// Echo requests of one source.
    pub fn sources(&self) -> &Seconds {
        &self.measured.sources.seconds
    }

    /// Echo requests of one prefix.
    pub fn prefixes(&self) -> &Seconds {
        &self.measured.nets.seconds
    }

    /// All echo requests.
    pub fn replies(&self) -> &Seconds {
        &self.measured.replies.seconds
    }

    /// All messages of a budget.
    pub fn budget(&self, budget: Budget) -> Seconds {
        self.measured.by_budget.get(&(budget as u8)).cloned().unwrap_or_default()
    }
}

impl Measured {
    fn note(&mut self, received: &Received<'_>) {
        if received.second() != self.second {
            self.close();
            self.second = received.second();
        }
        let reason = self.path.run(received);
        let Some(packet) = Packet::read(received.frame) else { return };
        match reason {
            Reason::WithinLimit => {
                if let Some((family, icmp_type, code)) = packet.icmp {
                    self.budgets.count(self.types[type_index(family, icmp_type)].decision(code).budget);
                }
            }
            // What the limits of echo requests are asked about.
            Reason::Answered | Reason::BadIcmpChecksum | Reason::EchoCode | Reason::GroupEcho
                if packet.is_echo_request() =>
            {
                self.sources.count(packet.source);
                self.nets.count(prefix_of(packet.source, self.prefixes));
                self.replies.count(());
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        self.sources.close();
        self.nets.close();
        self.replies.close();
        for (budget, amount) in self.budgets.current.drain() {
            self.by_budget.entry(budget).or_default().add(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_made_from_all_but_one_second_in_a_thousand_and_a_burst_from_the_busiest() {
        let mut seconds = Seconds::default();
        (0..1998).for_each(|_| seconds.add(110));
        seconds.add(900);
        seconds.add(5_001);
        assert_eq!((seconds.usual(), seconds.most()), (110, 5_001));
        assert_eq!(seconds.limit(), Some((Rate::PerSecond(220.0), 11_000)));
        assert_eq!(Seconds::default().limit(), None);
        let mut few = Seconds::default();
        few.add(1);
        assert_eq!(few.limit(), Some((Rate::PerSecond(20.0), 20)));
    }
}
