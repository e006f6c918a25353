//! `limit`: the limits in force, and changing one of them.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use icmp_common::abi::{Level, Settings};
use icmp_common::limiter::Limit;
use icmp_common::policy::Budget;
use serde_json::{Map, Value, json};

use crate::cli::LimitSet;
use crate::config::units::Rate;
use crate::instance::pins::Instance;
use crate::policy::settings::{Tick, set_budget};

/// What can be limited, by the name it has in `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Echo requests of one source.
    Source,
    /// Echo requests of one network.
    Prefix,
    /// Everything that is charged to a budget.
    Budget(Budget),
}

impl Limited {
    /// All that can be set; what familiar sources have is a share of the replies.
    pub fn settable() -> impl Iterator<Item = Self> {
        let budgets = Budget::ALL.iter().filter(|budget| **budget != Budget::Familiar);
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

    const fn of(self, settings: &Settings) -> Limit {
        match self {
            Self::Source => settings.source.limit,
            Self::Prefix => settings.prefix.limit,
            Self::Budget(budget) => settings.budgets[budget as usize],
        }
    }
}

impl FromStr for Limited {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::settable().find(|limited| limited.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::settable().map(Self::name).collect();
            format!("there is no limit {text:?}; there are: {}", names.join(", "))
        })
    }
}

pub(super) fn set(args: &LimitSet, json: bool) -> Result<()> {
    let mut instance = Instance::open()?;
    let tick = Tick::of_this_kernel()?;
    let mut settings = in_force(&instance)?;
    let (_, burst_now) = tick.rate_and_burst(&args.limit.of(&settings));
    let burst = args.burst.unwrap_or_else(|| match args.rate {
        // Where there was no burst to keep: two seconds' worth, as the defaults have.
        Rate::PerSecond(rate) if burst_now == 0 => (rate * 2.0).ceil() as u64,
        _ => burst_now,
    });
    match args.limit {
        Limited::Source => settings.source.limit = tick.limit(args.limit.name(), args.rate, burst)?,
        Limited::Prefix => settings.prefix.limit = tick.limit(args.limit.name(), args.rate, burst)?,
        Limited::Budget(budget) => set_budget(&mut settings, tick, cpus()?, budget, args.rate, burst)?,
    }
    instance.maps.switch_settings(&settings)?;
    print(&settings, tick, json);
    Ok(())
}

pub(super) fn show(json: bool) -> Result<()> {
    let instance = Instance::open()?;
    print(&in_force(&instance)?, Tick::of_this_kernel()?, json);
    Ok(())
}

fn in_force(instance: &Instance) -> Result<Settings> {
    instance.maps.settings()?.context("the program has no settings; `icmp-ctl attach IFACE` gives it some")
}

pub(super) fn cpus() -> Result<u32> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| anyhow::anyhow!("counting the CPUs in {path}: {error}"))?;
    Ok(cpus as u32)
}

fn print(settings: &Settings, tick: Tick, json: bool) {
    let rows: Vec<_> = Limited::settable()
        .map(|limited| {
            let (rate, burst) = tick.rate_and_burst(&limited.of(settings));
            let level = match limited {
                Limited::Source => Some(&settings.source),
                Limited::Prefix => Some(&settings.prefix),
                Limited::Budget(_) => None,
            };
            (limited.name(), rate, burst, level.map(prefixes))
        })
        .collect();
    if json {
        let limits: Map<String, Value> = rows
            .iter()
            .map(|(name, rate, burst, prefixes)| {
                let per_second = match rate {
                    Rate::Unlimited => Value::Null,
                    Rate::PerSecond(rate) => json!(rate),
                };
                let mut value = json!({ "rate": rate.to_string(), "per_second": per_second, "burst": burst });
                if let Some((v4, v6)) = prefixes {
                    value["ipv4_prefix"] = json!(v4);
                    value["ipv6_prefix"] = json!(v6);
                }
                ((*name).to_owned(), value)
            })
            .collect();
        println!("{}", json!({ "schema": 1, "limits": limits }));
        return;
    }
    println!("{:<20} {:>12} {:>10}  FOR EACH", "LIMIT", "RATE", "BURST");
    for (name, rate, burst, prefixes) in rows {
        let (rate, burst) = (rate.to_string(), if burst == 0 { "-".to_owned() } else { burst.to_string() });
        let each = prefixes.map_or_else(|| "host".to_owned(), |(v4, v6)| format!("IPv4 /{v4}, IPv6 /{v6}"));
        println!("{name:<20} {rate:>12} {burst:>10}  {each}");
    }
}

/// Prefix lengths of a level.
fn prefixes(level: &Level) -> (u32, u32) {
    (level.mask.v4.leading_ones(), level.mask.v6_high.leading_ones() + level.mask.v6_low.leading_ones())
}
