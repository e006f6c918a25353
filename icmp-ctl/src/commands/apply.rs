//! `apply` and `confirm`: a whole policy from a file, validated first and put in force at one instant.
//!
//! Owns the order of the steps, which `attach` and `rule` share: translate, guard, compare, switch.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use icmp_common::abi::{SETTINGS_ECHO, SETTINGS_VERIFY_FULL};
use icmp_common::checks::{Check, Mode, mode_shift};
use icmp_common::policy::Budget;
use serde_json::json;

use crate::cli::Apply;
use crate::config::file::Config;
use crate::host::conflicts;
use crate::instance::pins::Instance;
use crate::policy::guards;
use crate::policy::rules::{Compiled, Rule};
use crate::policy::settings::{HostDefaults, Tick, compile_policy};
use crate::policy::types::{CONFIGURED, preset_of, rows};

/// A policy that may be put in force, and what there is to say about it.
pub(super) struct Checked {
    pub(super) policy: Compiled,
    pub(super) warnings: Vec<String>,
}

/// Translates a configuration and holds it against the guards; needs no privilege and touches nothing. What the configuration leaves to
/// the host is that of the interface.
pub(super) fn check(config: &Config, allow_break: &[String], interface: Option<&String>) -> Result<Checked> {
    let tick = Tick::of_this_kernel()?;
    let mut policy = compile_policy(config, tick, HostDefaults::read(interface), super::limit::cpus()?)?;
    if config.responder.respect_sysctl {
        conflicts::respect(&mut policy.settings);
    }
    let allowed = [allow_break, &config.policy.allow_break].concat();
    let rules = policy.rules();
    guards::check(&policy, &rules, tick, &allowed)?;
    let mut warnings = conflicts(&rules);
    warnings.extend(conflicts::warnings(&policy.settings));
    Ok(Checked { policy, warnings })
}

/// Rules that can never decide, because one before them always does; and pairs that disagree about some messages, where neither is the
/// exception to the other.
fn conflicts(rules: &[Rule]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut deciding: Vec<&Rule> = Vec::new();
    for rule in rules {
        if let Some(before) = deciding.iter().find(|before| before.covers(rule)) {
            warnings.push(format!(
                "rule {:?} never decides anything: {:?} before it matches all that it matches",
                rule.name, before.name
            ));
            continue;
        }
        if rule.audit {
            continue;
        }
        for before in &deciding {
            let disagree = (before.action, before.limit) != (rule.action, rule.limit);
            if disagree && before.overlaps(rule) && !rule.covers(before) {
                warnings.push(format!(
                    "rules {:?} and {:?} overlap: what both match is decided by {:?}, the first",
                    before.name, rule.name, before.name
                ));
            }
        }
        deciding.push(rule);
    }
    warnings
}

pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("icmp-ctl: WARNING: {warning}");
    }
}

pub(super) fn run(args: &Apply, config: &Config, checked: &mut Checked, json: bool) -> Result<()> {
    warn(&checked.warnings);
    let instance = if args.check { Instance::find()? } else { Some(Instance::open()?) };
    let Some(mut instance) = instance else {
        eprintln!(
            "icmp-ctl: the configuration is valid; nothing is loaded here that it could be compared with"
        );
        return Ok(());
    };
    if config.responder.hop_limit.is_none() && config.interfaces.is_empty() {
        // The file does not say whose hop limit is meant: that of what is attached.
        let attached = instance.links()?.first().map(|pin| pin.ifindex);
        let network = super::network()?;
        let link = network.links.iter().find(|link| Some(link.index) == attached);
        checked.policy.settings.hop_limit =
            u32::from(HostDefaults::read(link.map(|link| &link.name)).hop_limit);
    }
    let tick = Tick::of_this_kernel()?;
    let before = instance.maps.policy()?.map(|policy| describe(&policy, tick)).unwrap_or_default();
    let after = describe(&checked.policy, tick);
    let removed: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let added: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    if !args.check {
        instance.maps.switch_policy(&checked.policy, args.confirm.map(|within| within.0))?;
    }
    if json {
        println!(
            "{}",
            json!({ "schema": 1, "applied": !args.check, "removed": removed, "added": added, "warnings": checked.warnings,
                    "confirm_within_seconds": args.confirm.map(|within| within.0.as_secs_f64()) })
        );
        return Ok(());
    }
    for line in removed {
        println!("- {line}");
    }
    for line in added {
        println!("+ {line}");
    }
    if let Some(within) = args.confirm {
        eprintln!(
            "icmp-ctl: in force; in {} s the policy before it comes back by itself, unless `icmp-ctl confirm` keeps this one",
            within.0.as_secs_f64()
        );
    }
    Ok(())
}

pub(super) fn confirm(json: bool) -> Result<()> {
    let mut instance = Instance::open()?;
    if !instance.maps.confirm()? {
        bail!(
            "nothing awaits confirmation: it was confirmed, or not confirmed in time and rolled back; `icmp-ctl show policy` tells what \
             is in force"
        );
    }
    if json {
        println!("{}", json!({ "schema": 1, "confirmed": true }));
    } else {
        println!("confirmed");
    }
    Ok(())
}

/// Everything that can differ between two policies, a line each.
fn describe(policy: &Compiled, tick: Tick) -> Vec<String> {
    let settings = &policy.settings;
    let mut lines = vec![
        format!("responder.echo = {}", settings.flags & SETTINGS_ECHO != 0),
        format!(
            "responder.verify = {}",
            if settings.flags & SETTINGS_VERIFY_FULL != 0 { "full" } else { "header" }
        ),
        format!("responder.ttl = {}", settings.ttl),
        format!("responder.hop-limit = {}", settings.hop_limit),
    ];
    lines.extend(policy.vips().iter().map(|vip| format!("responder.vips: {vip}")));
    for (name, level) in [("per-source", &settings.source), ("per-prefix", &settings.prefix)] {
        let (rate, burst) = tick.rate_and_burst(&level.limit);
        let v6 = level.mask.v6_high.count_ones() + level.mask.v6_low.count_ones();
        lines.push(format!("limits.{name} = {rate} burst {burst} /{} and /{v6}", level.mask.v4.count_ones()));
    }
    // The reserve for familiar sources follows from the replies.
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::Familiar) {
        let (rate, burst) = tick.rate_and_burst(&settings.budgets[*budget as usize]);
        lines.push(format!("limits.{} = {rate} burst {burst}", budget.name()));
    }
    lines.push(format!("policy.preset = {}", preset_of(settings).name()));
    for row in rows(settings).iter().filter(|row| row.clause == CONFIGURED) {
        lines.push(format!("policy.{}.{} = {}", row.row.family.name(), row.name, row.action.name()));
    }
    for check in Check::ALL {
        let mode = settings.checks >> mode_shift(*check) & 3;
        let mode = Mode::ALL.get(mode as usize).map_or("?", |mode| mode.name());
        lines.push(format!("policy.checks.{} = {mode}", check.name()));
    }
    for [high, low] in policy.rules.routers.iter().filter(|router| **router != [0, 0]) {
        let address = std::net::Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low));
        lines.push(format!("policy.checks.routers: {address}"));
    }
    let rules = policy.rules();
    if !rules.is_empty() {
        let order: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        lines.push(format!("policy.rule order: {}", order.join(", ")));
    }
    for rule in &rules {
        lines.push(format!("policy.rule {}", rule.text(tick)));
        // Of many prefixes the text has the number only.
        for (what, nets) in [("from", &rule.from), ("to", &rule.to)] {
            lines.extend(nets.iter().map(|net| format!("policy.rule {} {what} {net}", rule.name)));
        }
    }
    lines
}

/// How long to wait for a confirmation, as it is typed: `60s`, `5min`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within(pub Duration);

impl std::str::FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let seconds = units.iter().find_map(|(suffix, unit)| {
            Some(text.strip_suffix(suffix)?.trim_end().parse::<f64>().ok()? * unit)
        });
        seconds
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|within| *within <= Self::LONGEST)
            .map(Self)
            .ok_or_else(|| {
                format!("{text:?} is no time to wait: write it like 60s, 5min or 250ms, up to 24h")
            })
    }
}

impl Within {
    const LONGEST: Duration = Duration::from_secs(86_400);
}

/// Puts changed rules in the place of those in force, as `apply` would.
pub(super) fn change_rules(
    instance: &mut Instance,
    allow_break: &[String],
    change: impl FnOnce(&mut Vec<Rule>) -> Result<()>,
) -> Result<()> {
    let policy = instance
        .maps
        .policy()?
        .context("no policy is in force; `icmp-ctl apply -f FILE` puts one in force")?;
    let mut rules = policy.rules();
    change(&mut rules)?;
    guards::check(&policy, &rules, Tick::of_this_kernel()?, allow_break)?;
    warn(&conflicts(&rules));
    instance.maps.switch_policy(&policy.with_rules(&rules)?, None)
}
