//! From a configuration to what the program reads: ticks, buckets, masks, flags.
//!
//! Owns the translation and the limits of what can be expressed, in both directions: what is in force is shown from the maps,
//! not from a file.

use anyhow::{Context as _, Result, bail};
use icmp_common::abi::{
    Level, Mask, SETTINGS_ECHO, SETTINGS_PRESENT, SETTINGS_VERIFY_FULL, SETTINGS_VIPS, Settings,
};
use icmp_common::limiter::{Limit, UNITS_PER_TICK};
use icmp_common::policy::{BUDGETS, Budget, Preset, preset_types};

use crate::config::{Config, Verify};
use crate::units::Rate;

/// The tick the program's clock counts.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Ticks a second: the kernel's HZ.
    pub per_second: f64,
}

impl Tick {
    /// Asks the kernel: the resolution of its coarse clocks is one tick.
    ///
    /// # Errors
    /// The clock cannot be asked, or says nonsense.
    pub fn of_this_kernel() -> Result<Self> {
        let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
            .context("asking the kernel for the length of its clock tick")?;
        let seconds = resolution.tv_sec() as f64 + resolution.tv_nsec() as f64 / 1e9;
        if !(0.0005..=0.05).contains(&seconds) {
            bail!("the kernel says its clock tick is {seconds} s long, expected 1 to 10 ms");
        }
        Ok(Self { per_second: 1.0 / seconds })
    }

    /// Translates a rate and a burst; `what` is what errors call them.
    ///
    /// # Errors
    /// A rate above one packet per unit of time, a burst smaller than what one tick brings, or one beyond what a cell can hold;
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
                "{what}: a burst of {burst} takes longer than a year to refill at {}; the largest is {largest}",
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
        let span = if rate >= 1.0 { 1.0 } else { 3600.0 };
        let shortest = (0..17)
            .filter_map(|digits| format!("{:.digits$e}", rate * span).parse::<f64>().ok())
            .map(|number| number / span)
            .find(|short| self.interval(*short) == limit.interval as f64);
        (Rate::PerSecond(shortest.unwrap_or(rate)), burst)
    }

    /// Units of time one packet costs at this many packets a second.
    fn interval(self, rate: f64) -> f64 {
        (self.per_second * UNITS_PER_TICK as f64 / rate).round()
    }

    /// Packets a CPU takes from a budget at once: a quarter of what a tick brings, shared among the CPUs, and few enough that
    /// what lies unused does not matter.
    fn batch(self, limit: &Limit, cpus: u32) -> u32 {
        if limit.is_unlimited() {
            return 1;
        }
        let per_tick = UNITS_PER_TICK as f64 / limit.interval as f64;
        (per_tick / 4.0 / f64::from(cpus)).floor().clamp(1.0, 64.0) as u32
    }
}

/// Units of time a packet costs at the highest rate: enough of them that rounding to whole units stays below 1 %.
const MIN_INTERVAL: f64 = 50.0;
/// Units of time a bucket may hold: a year at HZ = 1000 and less than half of what a cell can count.
const MAX_CAPACITY: f64 = 365.0 * 86_400.0 * 1000.0 * UNITS_PER_TICK as f64;

/// The share of the reply budget kept for familiar sources while it is exhausted: one in this many.
const FAMILIAR_SHARE: f64 = 8.0;

/// The host's own defaults for what an answer carries.
#[derive(Clone, Copy, Debug)]
pub struct HostDefaults {
    /// `net.ipv4.ip_default_ttl`
    pub ttl: u8,
    /// `net.ipv6.conf.default.hop_limit`
    pub hop_limit: u8,
}

impl HostDefaults {
    /// What the kernel uses, or 64 where a family is not there.
    pub fn read() -> Self {
        let sysctl = |path: &str| {
            let value = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
            (value > 0).then_some(value)
        };
        Self {
            ttl: sysctl("/proc/sys/net/ipv4/ip_default_ttl").unwrap_or(64),
            hop_limit: sysctl("/proc/sys/net/ipv6/conf/default/hop_limit").unwrap_or(64),
        }
    }
}

/// Translates a configuration.
///
/// # Errors
/// A value that cannot be expressed, with the nearest one that can.
pub fn compile(config: &Config, tick: Tick, host: HostDefaults, cpus: u32) -> Result<Settings> {
    let limits = &config.limits;
    let mut budgets = [Limit::UNLIMITED; BUDGETS];
    let mut batches = [1; BUDGETS];
    for budget in Budget::ALL {
        let (mut rate, mut burst) = limits.budget(*budget);
        if let (Budget::Familiar, Rate::PerSecond(replies)) = (budget, rate) {
            let share = replies / FAMILIAR_SHARE;
            rate = Rate::PerSecond(share);
            burst = (burst / FAMILIAR_SHARE as u64).max((share / tick.per_second).ceil() as u64).max(1);
        }
        let limit = tick.limit(&format!("limits.{}", budget.name()), rate, burst)?;
        budgets[*budget as usize] = limit;
        batches[*budget as usize] = tick.batch(&limit, cpus);
    }
    let (source, prefix) = (limits.source(), limits.prefix());
    let responder = &config.responder;
    let mut flags = SETTINGS_PRESENT;
    for (on, flag) in [
        (responder.echo, SETTINGS_ECHO),
        (responder.verify == Verify::Full, SETTINGS_VERIFY_FULL),
        (!responder.vips.is_empty(), SETTINGS_VIPS),
    ] {
        flags |= if on { flag } else { 0 };
    }
    Ok(Settings {
        flags,
        ttl: answer_ttl("responder.ttl", responder.ttl, host.ttl)?,
        hop_limit: answer_ttl("responder.hop-limit", responder.hop_limit, host.hop_limit)?,
        reserved: 0,
        source: Level {
            limit: tick.limit("limits.per-source", source.rate, source.burst)?,
            mask: mask("limits.per-source", source.ipv4_prefix, source.ipv6_prefix)?,
        },
        prefix: Level {
            limit: tick.limit("limits.per-prefix", prefix.rate, prefix.burst)?,
            mask: mask("limits.per-prefix", prefix.ipv4_prefix, prefix.ipv6_prefix)?,
        },
        budgets,
        batches,
        types: preset_types(Preset::Host),
    })
}

/// RFC 1122 section 3.2.1.7: it must not be sent with zero.
fn answer_ttl(what: &str, configured: Option<u8>, host: u8) -> Result<u32> {
    match configured {
        Some(0) => bail!("{what}: 0 would not leave the host; the smallest is 1"),
        Some(ttl) => Ok(u32::from(ttl)),
        None => Ok(u32::from(host)),
    }
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
