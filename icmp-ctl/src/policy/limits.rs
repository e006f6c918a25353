//! Limits: from rate and burst to what the program counts by, and back.
//!
//! Owns which limits can be expressed, the share of the replies for known sources, and the token batch of a CPU. `icmp_common::limiter` is the
//! packet path's side.

use icmp_common::types::Budget;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Result, bail};
use icmp_common::abi::{Level, Limit, Mask, Settings};
use icmp_common::limiter::UNITS_PER_TICK;
use ipnet::IpNet;

use crate::config::units::{ENOUGH_DIGITS, Rate};
use crate::kernel::clock::Tick;

impl Tick {
    /// Translates a rate and a burst; `what` is what errors call them.
    ///
    /// # Errors
    /// A rate above one packet per unit of time, a burst smaller than what one tick brings, or one beyond what a bucket can hold;
    /// each with the nearest value that works.
    pub fn limit(self, what: &str, rate: Rate, burst: u64) -> Result<Limit> {
        let Rate::PerSecond(rate) = rate else { return Ok(Limit::UNLIMITED) };
        if rate == 0.0 {
            return Ok(Limit::NOTHING);
        }
        let units_per_second = self.per_second * UNITS_PER_TICK as f64;
        let most = (units_per_second / MIN_INTERVAL).floor();
        if rate > most {
            bail!(
                "{what}: a rate of {} is too high; the highest is {}",
                Rate::PerSecond(rate),
                Rate::PerSecond(most)
            );
        }
        let least = units_per_second / MAX_CAPACITY;
        if rate < least {
            bail!("{what}: a rate of {} is too low; write 0 to admit nothing", Rate::PerSecond(rate));
        }
        let tick_worth = (rate / self.per_second).ceil().max(1.0) as u64;
        if burst < tick_worth {
            bail!(
                "{what}: a burst of {burst} is less than what one clock tick of {:.0} ms brings at {}; the smallest is {tick_worth}",
                1e3 / self.per_second,
                Rate::PerSecond(rate)
            );
        }
        let interval = self.interval(rate);
        let largest = (MAX_CAPACITY / interval).floor();
        if burst as f64 > largest {
            bail!(
                "{what}: a burst of {burst} takes longer than seven weeks to refill at {}; the largest is {largest}",
                Rate::PerSecond(rate)
            );
        }
        Ok(Limit { interval: interval as u64, capacity: interval as u64 * burst })
    }

    /// Rate and burst of a limit that is in force.
    pub fn rate_and_burst(self, limit: &Limit) -> (Rate, u64) {
        if limit.is_unlimited() {
            return (Rate::Unlimited, 0);
        }
        let burst = limit.capacity / limit.interval;
        if burst == 0 {
            return (Rate::PerSecond(0.0), 0);
        }
        let rate = self.per_second * UNITS_PER_TICK as f64 / limit.interval as f64;
        // Many rates round to one interval; the one with the fewest digits is what somebody has written.
        let spans: &[f64] = if rate >= 1.0 { &[1.0, 60.0] } else { &[3600.0] };
        let shortest = spans.iter().filter_map(|span| {
            (0..17).find_map(|digits| {
                let number: f64 = format!("{:.digits$e}", rate * span).parse().ok()?;
                let short = number / span;
                (self.interval(short) == limit.interval as f64).then_some((digits, short))
            })
        });
        let shortest = shortest.min_by_key(|(digits, _)| *digits > ENOUGH_DIGITS);
        (Rate::PerSecond(shortest.map_or(rate, |(_, short)| short)), burst)
    }

    /// Units of time one packet costs at this many packets a second.
    fn interval(self, rate: f64) -> f64 {
        (self.per_second * UNITS_PER_TICK as f64 / rate).round()
    }

    /// Log2 of the ticks in an epoch: the power of two next to four seconds.
    fn epoch_shift(self) -> u32 {
        (self.per_second * 4.0).log2().round() as u32
    }

    /// What of the limit of all replies is kept for known sources.
    fn known_share(self, replies: &Limit) -> Limit {
        if replies.is_unlimited() || replies.capacity < replies.interval {
            return *replies;
        }
        let interval = replies.interval * KNOWN_SHARE;
        // A second's worth: monitors like to ping all at once. It is owed, so the total holds all the same.
        let burst = (self.per_second * UNITS_PER_TICK as f64 / interval as f64).ceil().max(1.0) as u64;
        Limit { interval, capacity: interval * burst }
    }

    /// Packets a CPU takes from a budget at once: a quarter of what a tick brings, shared among the CPUs, and few enough that
    /// what lies unused does not matter.
    fn batch(self, limit: &Limit, cpus: u32) -> u32 {
        if limit.is_unlimited() {
            return 1;
        }
        let per_tick = UNITS_PER_TICK as f64 / limit.interval as f64;
        (per_tick / 4.0 / f64::from(cpus)).floor().clamp(1.0, MAX_BATCH) as u32
    }
}

/// Packets a CPU takes from a budget at once, beyond which more would save nothing.
const MAX_BATCH: f64 = 256.0;
/// Units of time a packet costs at the highest rate: enough of them that rounding to whole units stays below 1 %.
const MIN_INTERVAL: f64 = 50.0;
/// Units of time a bucket may hold: seven weeks at HZ = 1000. One that nobody has touched is as if it had been empty at tick 0, and has to be full
/// from the first tick on, which is five minutes before 2^32 (`INITIAL_JIFFIES` in include/linux/jiffies.h).
const MAX_CAPACITY: f64 = 49.0 * 86_400.0 * 1000.0 * UNITS_PER_TICK as f64;

/// The share of the reply budget kept for known sources while it is exhausted: one in this many.
const KNOWN_SHARE: u64 = 8;

/// Fills in all that follows from the limits: what a CPU takes of each budget at once, what known sources have of the replies, and how
/// long an epoch is. Whoever makes settings calls this last, and nothing else computes these values.
pub(super) fn derive(settings: &mut Settings, tick: Tick, cpus: u32) {
    settings.budgets[Budget::KnownSources as usize] =
        tick.known_share(&settings.budgets[Budget::Replies as usize]);
    for (batch, limit) in settings.batches.iter_mut().zip(&settings.budgets) {
        *batch = tick.batch(limit, cpus);
    }
    settings.epoch_shift = tick.epoch_shift();
}

/// What can be limited, by the name it has in `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// Echo requests of one source.
    Source,
    /// Echo requests of one network.
    Prefix,
    /// Everything that is charged to a budget.
    Budget(Budget),
}

impl LimitName {
    /// All that can be set; what known sources have is a share of the replies.
    pub fn settable() -> impl Iterator<Item = Self> {
        let budgets = Budget::ALL.iter().filter(|budget| **budget != Budget::KnownSources);
        [Self::Source, Self::Prefix].into_iter().chain(budgets.copied().map(Self::Budget))
    }

    /// The name in `[limits]`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "per-source",
            Self::Prefix => "per-prefix",
            Self::Budget(budget) => budget.name(),
        }
    }

    /// Puts a rate and a burst in its place.
    ///
    /// # Errors
    /// As [`Tick::limit`]; the settings are as they were.
    pub fn set(self, settings: &mut Settings, tick: Tick, rate: Rate, burst: u64) -> Result<()> {
        let limit = tick.limit(&format!("limits.{}", self.name()), rate, burst)?;
        match self {
            Self::Source => settings.source.limit = limit,
            Self::Prefix => settings.prefix.limit = limit,
            Self::Budget(budget) => settings.budgets[budget as usize] = limit,
        }
        Ok(())
    }

    /// As it is in some settings.
    pub const fn of(self, settings: &Settings) -> Limit {
        match self {
            Self::Source => settings.source.limit,
            Self::Prefix => settings.prefix.limit,
            Self::Budget(budget) => settings.budgets[budget as usize],
        }
    }
}

impl FromStr for LimitName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::settable().find(|limited| limited.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::settable().map(Self::name).collect();
            format!("there is no limit {text:?}; there are: {}", names.join(", "))
        })
    }
}

/// A limit as it is told. One that admits all or nothing has no burst.
pub(super) fn limit_text(limit: &Limit, tick: Tick) -> String {
    let (rate, burst) = tick.rate_and_burst(limit);
    if burst == 0 { rate.to_string() } else { format!("{rate} burst {burst}") }
}

/// What is limited for echo requests, in a line.
pub fn summary(settings: &Settings, tick: Tick) -> String {
    let [source, prefix, replies] =
        [LimitName::Source, LimitName::Prefix, LimitName::Budget(Budget::Replies)]
            .map(|limit| limit_text(&limit.of(settings), tick));
    format!("echo requests of one source {source}, of one network {prefix}, of all {replies}")
}

/// CPUs that take from the budgets.
///
/// # Errors
/// The kernel does not say how many there are.
pub fn cpus() -> Result<u32> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| anyhow::anyhow!("counting the CPUs in {path}: {error}"))?;
    Ok(cpus as u32)
}

/// Prefix lengths of a level.
pub fn prefix_lengths(level: &Level) -> (u32, u32) {
    (level.mask.v4.leading_ones(), level.mask.v6_high.leading_ones() + level.mask.v6_low.leading_ones())
}

/// The prefix of an address, by the lengths of both families.
pub fn prefix_of(address: IpAddr, (v4, v6): (u8, u8)) -> IpNet {
    let len = if address.is_ipv4() { v4 } else { v6 };
    IpNet::new(address, len).map_or_else(|_| address.into(), |net| net.trunc())
}

/// Masks of a level from its prefix lengths.
///
/// # Errors
/// A length its family does not have, with the nearest one.
pub fn mask(what: &str, ipv4_prefix: u8, ipv6_prefix: u8) -> Result<Mask> {
    if ipv4_prefix > 32 {
        bail!("{what}: an IPv4 prefix has at most 32 bits, not {ipv4_prefix}");
    }
    if ipv6_prefix > 128 {
        bail!("{what}: an IPv6 prefix has at most 128 bits, not {ipv6_prefix}");
    }
    let v4 = u32::MAX.checked_shl(32 - u32::from(ipv4_prefix)).unwrap_or(0);
    let v6 = u128::MAX.checked_shl(128 - u32::from(ipv6_prefix)).unwrap_or(0);
    Ok(Mask { v6_high: (v6 >> 64) as u64, v6_low: v6 as u64, v4, reserved: 0 })
}

#[cfg(test)]
mod tests {
    use icmp_common::limiter;

    use super::*;

    const TICK: Tick = Tick { per_second: 250.0 };

    #[test]
    fn a_limit_in_force_shows_the_rate_and_burst_it_was_made_from() {
        for (rate, burst) in
            [(100.0, 200), (5_000.0, 10_000), (1e6, 100_000), (10.0, 20), (0.5, 1), (12_345.0, 50)]
        {
            let limit = TICK.limit("x", Rate::PerSecond(rate), burst).expect("it can be expressed");
            assert_eq!(TICK.rate_and_burst(&limit), (Rate::PerSecond(rate), burst));
        }
    }

    #[test]
    fn what_cannot_be_expressed_is_refused_with_the_nearest_value_that_works() {
        let text = TICK.limit("x", Rate::PerSecond(10_000.0), 5).expect_err("a tick brings 40").to_string();
        assert!(text.contains("the smallest is 40"), "{text}");
        assert!(TICK.limit("x", Rate::PerSecond(10_000.0), 40).is_ok());
        let text = TICK.limit("x", Rate::PerSecond(1e12), 5).expect_err("beyond a unit").to_string();
        assert!(text.contains("the highest is"), "{text}");
        let text = mask("x", 33, 64).expect_err("IPv4 has 32").to_string();
        assert!(text.contains("at most 32"), "{text}");
    }

    #[test]
    fn a_bucket_is_full_from_the_first_tick_on_however_slowly_it_refills() {
        for per_second in [100.0, 250.0, 300.0, 1000.0] {
            let tick = Tick { per_second };
            let first = limiter::now((1 << 32) - 300 * per_second as u64);
            for rate in [1.0 / 3600.0, 0.1, 1.0, 1e3, 1e6] {
                let mut limits = (0..60).filter_map(|n| tick.limit("x", Rate::PerSecond(rate), 1 << n).ok());
                let largest = limits.next_back().expect("some burst can be");
                assert!(largest.capacity <= first, "{rate}/s at {per_second} ticks a second");
            }
        }
    }

    #[test]
    fn zero_admits_nothing_and_unlimited_everything() {
        assert_eq!(TICK.limit("x", Rate::PerSecond(0.0), 7).expect("zero is a limit"), Limit::NOTHING);
        assert_eq!(TICK.limit("x", Rate::Unlimited, 7).expect("unlimited is one too"), Limit::UNLIMITED);
    }

    #[test]
    fn masks_keep_the_leading_bits() {
        let mask = mask("x", 24, 48).expect("both exist");
        assert_eq!((mask.v4, mask.v6_high, mask.v6_low), (0xffff_ff00, 0xffff_ffff_ffff_0000, 0));
    }
}
