//! Measures normal traffic: how many messages of each kind in a second, and how many of them limits would have stopped.
//!
//! Owns the percentiles and the headroom. The packet path decides the kind of a message, under a configuration without limits.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use anyhow::Result;
use icmp_common::abi::{Limit, TYPE_ENTRIES, TypeEntry, type_index};
use icmp_common::reason::Reason;
use icmp_common::types::Budget;
use ipnet::IpNet;

use crate::capture::packet::Packet;
use crate::capture::read::Capture;
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

    /// The rate a second and the burst that leave it alone second by second, and headroom; `None` where there was nothing.
    pub fn limit(&self) -> Option<(u64, u64)> {
        (self.most() > 0).then(|| {
            let rate = round_up(HEADROOM * self.usual()).max(LEAST);
            (rate, round_up(HEADROOM * self.most()).max(rate))
        })
    }
}

/// To two digits.
fn round_up(number: u64) -> u64 {
    let unit = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    number.div_ceil(unit) * unit
}

/// What has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Echo requests of one source.
    Source,
    /// Echo requests of one prefix.
    Prefix,
    /// All that is charged to a budget; of the replies', all echo requests.
    Budget(u8),
}

impl Kind {
    /// All echo requests.
    pub const REPLIES: Self = Self::Budget(Budget::Replies as u8);
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
    budgets: Counted<u8>,
    by_budget: BTreeMap<u8, Seconds>,
}

impl Survey {
    /// Gets ready to measure the frames of a host, under a policy that limits nothing.
    pub fn new(own: Own, tick: Tick, mut unlimited: Compiled) -> Self {
        // What is charged to it is told by being over it.
        unlimited.settings.budgets[Budget::Unverified as usize] = Limit::NOTHING;
        let (v4, v6) = prefix_lengths(&unlimited.settings.prefix);
        let measured = Measured {
            path: Path::new(own.tables(&unlimited, LoadOptions::DEFAULT_LINES).0),
            types: unlimited.settings.types,
            prefixes: (v4 as u8, v6 as u8),
            second: 0,
            sources: Counted::new(),
            nets: Counted::new(),
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

    /// How much there is of a kind.
    pub fn seconds(&self, kind: Kind) -> Seconds {
        match kind {
            Kind::Source => self.measured.sources.seconds.clone(),
            Kind::Prefix => self.measured.nets.seconds.clone(),
            Kind::Budget(budget) => self.measured.by_budget.get(&budget).cloned().unwrap_or_default(),
        }
    }

    /// How many packets of a capture would have been limited under a policy, by what limits them. What of it can be read is asked about.
    pub fn limited_under(
        &mut self,
        capture: &mut Capture,
        tick: Tick,
        policy: &Compiled,
        lines: u32,
    ) -> BTreeMap<Kind, u64> {
        let own = &self.frames.own;
        let mut path = Path::new(own.tables(policy, lines).0);
        let mut limited = BTreeMap::new();
        let measured = &mut self.measured;
        let note = |received: &Received<'_>| {
            let kind = match path.run(received) {
                Reason::LimitedSource => Some(Kind::Source),
                Reason::LimitedPrefix => Some(Kind::Prefix),
                Reason::LimitedTotal => Some(Kind::REPLIES),
                Reason::LimitedBudget => measured.budget(received).map(|(budget, _)| Kind::Budget(budget)),
                _ => None,
            };
            if let Some(kind) = kind {
                *limited.entry(kind).or_default() += 1;
            }
            Ok(())
        };
        // What is wrong with the file has been said by the measuring.
        drop(Frames::new(own.clone(), tick).each(capture, note, |_, _| ()));
        limited
    }
}

impl Measured {
    fn note(&mut self, received: &Received<'_>) {
        if received.second() != self.second {
            self.close();
            self.second = received.second();
        }
        let Some((budget, packet)) = self.budget(received) else { return };
        self.budgets.count(budget);
        if budget == Budget::Replies as u8 {
            self.sources.count(packet.source);
            self.nets.count(prefix_of(packet.source, self.prefixes));
        }
    }

    /// To which budget a packet is charged, if it is to one.
    fn budget<'f>(&mut self, received: &Received<'f>) -> Option<(u8, Packet<'f>)> {
        let reason = self.path.run(received);
        let packet = Packet::read(received.frame)?;
        let budget = match reason {
            Reason::LimitedBudget => Budget::Unverified as u8,
            Reason::WithinLimit => {
                let (family, icmp_type, code) = packet.icmp?;
                self.types[type_index(family, icmp_type)].decision(code).budget
            }
            // What the limits of echo requests are asked about.
            Reason::Answered | Reason::BadIcmpChecksum | Reason::EchoCode | Reason::GroupEcho
                if packet.is_echo_request() =>
            {
                Budget::Replies as u8
            }
            _ => return None,
        };
        Some((budget, packet))
    }

    fn close(&mut self) {
        self.sources.close();
        self.nets.close();
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
        assert_eq!(seconds.limit(), Some((220, 11_000)));
        assert_eq!(Seconds::default().limit(), None);
        let mut few = Seconds::default();
        few.add(1);
        assert_eq!(few.limit(), Some((20, 20)));
    }
}
