//! `limit`: the limits in force, and changing one of them.

use anyhow::{Context as _, Result};
use icmp_common::abi::Settings;
use serde_json::{Map, Value, json};

use super::table::{Column::Left, Column::Right, table};
use crate::cli::change::LimitSet;
use crate::config::units::Rate;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::limits::{LimitName, prefix_lengths};
use crate::policy::saved::Words;
use crate::policy::transaction::change;

pub(super) fn set(args: &LimitSet) -> Result<Output> {
    let tick = Tick::of_this_kernel()?;
    let transaction = change(&args.allow_break, args.save.wanted(Words::OfFile), |draft| {
        let (_, burst_now) = tick.rate_and_burst(&args.limit.of(&draft.settings));
        let burst = args.burst.unwrap_or_else(|| match args.rate {
            // Where there was no burst to keep: two seconds' worth, as the defaults have.
            Rate::PerSecond(rate) if burst_now == 0 => (rate * 2.0).ceil() as u64,
            _ => burst_now,
        });
        args.limit.set(&mut draft.settings, tick, args.rate, burst)
    })?;
    let (json, lines) = listed(transaction.settings(), tick);
    Ok(Output::done(json, lines))
}

pub(super) fn show() -> Result<Output> {
    let settings = View::open()?.read(InstanceMaps::settings)?;
    let settings = settings.context("the program has no settings; `icmp-ctl attach IFACE` gives it some")?;
    let (json, lines) = listed(&settings, Tick::of_this_kernel()?);
    Ok(Output::shown(json, lines))
}

fn listed(settings: &Settings, tick: Tick) -> (Value, Vec<String>) {
    let rows: Vec<_> = LimitName::settable()
        .map(|limited| {
            let (rate, burst) = tick.rate_and_burst(&limited.of(settings));
            let level = match limited {
                LimitName::Source => Some(&settings.source),
                LimitName::Prefix => Some(&settings.prefix),
                LimitName::Budget(_) => None,
            };
            (limited.name(), rate, burst, level.map(prefix_lengths))
        })
        .collect();
    let json: Map<String, Value> = rows
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
    let rows = rows.into_iter().map(|(name, rate, burst, prefixes)| {
        let burst = if burst == 0 { "-".to_owned() } else { burst.to_string() };
        let each = prefixes.map_or_else(|| "host".to_owned(), |(v4, v6)| format!("IPv4 /{v4}, IPv6 /{v6}"));
        [name.to_owned(), rate.to_string(), burst, each]
    });
    let columns = [Left("LIMIT"), Right("RATE"), Right("BURST"), Left("FOR EACH")];
    let lines = table(columns, rows.collect());
    (json!({ "schema": 1, "limits": json }), lines)
}
