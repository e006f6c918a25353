//! Makes a configuration from the policy in force.
//!
//! Owns the way back from what the program reads to what users write. The program keeps no spelling: values of another configuration keep their
//! spelling as long as they mean what is in force, and so do keys that the program does not know, such as the address of the metrics.
//! `config/edit.rs` owns how a configuration becomes text.

use std::num::NonZeroU8;
use std::ops::RangeInclusive;

use icmp_common::abi::{Level, Limit, SETTINGS_ECHO, SETTINGS_OWN_HOST, SETTINGS_VERIFY_FULL, Settings};
use icmp_common::path::checks::{Check, Mode, mode_shift};
use icmp_common::policy::Preset;
use icmp_common::types::{Budget, Family, ROWS};

use crate::config::file::{self as config, Config, Own, Verify};
use crate::config::limits as written;
use crate::config::prefix::Prefix;
use crate::config::units::Rate;
use crate::config::words::{OneOrMany, Word};
use crate::host::conflicts;
use crate::host::defaults::HostDefaults;
use crate::instance::compiled::Compiled;
use crate::kernel::clock::Tick;
use crate::policy::compile::types;
use crate::policy::gates;
use crate::policy::guards;
use crate::policy::layout::compile;
use crate::policy::limits::{LimitName, mask, prefix_lengths};
use crate::policy::peers;
use crate::policy::resolve::resolve_rule;
use crate::policy::rows::{CONFIGURED, preset_of, rows};
use crate::policy::rules::{ANY_HOP_LIMIT, ANY_LENGTH, Rule};
use crate::policy::show::range_text;
use crate::policy::types::{OTHER_NAMES, TypeName};

/// The configuration that puts a policy in force, in the words of `like` as far as those mean it; `host` is what is left to the host.
pub fn configuration(policy: &Compiled, like: &Config, host: HostDefaults, tick: Tick) -> Config {
    let settings = &policy.settings;
    let rules = policy.rules();
    let mut config = like.clone();
    set_responder(&mut config.responder, policy, host);
    set_limits(&mut config.limits, settings, tick);
    set_types(&mut config, settings);
    set_checks(&mut config.policy.checks, policy);
    if !peers::says(&config.peers, settings) {
        config.peers.track = peers::written(settings);
    }
    let broken = guards::broken(settings, &rules, tick).map(|(name, _)| name.to_owned());
    for name in broken.collect::<Vec<_>>() {
        if !config.policy.allow_break.contains(&name) {
            config.policy.allow_break.push(name);
        }
    }
    config.policy.rule = rules.iter().map(|rule| rule_like(rule, like, tick)).collect();
    config
}

fn set_responder(responder: &mut config::Responder, policy: &Compiled, host: HostDefaults) {
    let settings = &policy.settings;
    responder.echo = settings.flags & SETTINGS_ECHO != 0;
    responder.verify =
        Word(if settings.flags & SETTINGS_VERIFY_FULL != 0 { Verify::Full } else { Verify::Header });
    responder.own = Word(if settings.flags & SETTINGS_OWN_HOST != 0 { Own::Host } else { Own::Interface });
    let mut said: Vec<_> = responder.vips.iter().map(|vip| vip.0).collect();
    said.sort();
    said.dedup();
    let all = policy.vips();
    let vips: Vec<_> = all.iter().filter(|vip| vip.gate.is_none()).map(|vip| vip.net).collect();
    responder.vip = gates::written(&all, &responder.vip);
    if said != vips {
        responder.vips = vips.into_iter().map(Prefix).collect();
    }
    let is_wide = responder.prefixes().any(|(prefix, _)| prefix.is_very_wide());
    responder.wide_vips |= is_wide;
    for (said, in_force, host) in [
        (&mut responder.ttl, settings.ttl, host.ttl),
        (&mut responder.hop_limit, settings.hop_limit, host.hop_limit),
    ] {
        if u32::from(said.map_or(host, NonZeroU8::get)) != in_force {
            *said = NonZeroU8::new(in_force as u8).filter(|said| said.get() != host);
        }
    }
}

fn set_limits(limits: &mut written::Limits, settings: &Settings, tick: Tick) {
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::KnownSources) {
        let (rate, burst) = limits.budget(*budget);
        let in_force = LimitName::Budget(*budget).of(settings);
        if !says(tick, rate, burst, in_force) {
            let bucket = limits.bucket_mut(*budget);
            (bucket.rate, bucket.burst) = rate_and_burst(tick, in_force, burst, bucket.burst);
        }
    }
    let (source, prefix) = (limits.source(), limits.prefix());
    for (level, said, in_force) in [
        (&mut limits.per_source, source, &settings.source),
        (&mut limits.per_prefix, prefix, &settings.prefix),
    ] {
        set_level(level, said, in_force, tick);
    }
}

fn set_level(level: &mut written::Level, said: written::ResolvedLevel, in_force: &Level, tick: Tick) {
    if !says(tick, said.rate, said.burst, in_force.limit) {
        (level.rate, level.burst) = rate_and_burst(tick, in_force.limit, said.burst, level.burst);
    }
    if !mask("", said.ipv4_prefix, said.ipv6_prefix).is_ok_and(|mask| mask == in_force.mask) {
        let (v4, v6) = prefix_lengths(in_force);
        (level.ipv4_prefix, level.ipv6_prefix) = (Some(v4 as u8), Some(v6 as u8));
    }
}

fn says(tick: Tick, rate: Rate, burst: u64, in_force: Limit) -> bool {
    tick.limit("", rate, burst).is_ok_and(|limit| limit == in_force)
}

/// As they are written: the burst as it is `written` where that means it, or where there is none.
fn rate_and_burst(tick: Tick, limit: Limit, means: u64, written: Option<u64>) -> (Option<Rate>, Option<u64>) {
    let (rate, burst) = tick.rate_and_burst(&limit);
    (Some(rate), if burst == 0 || burst == means { written } else { Some(burst) })
}

/// The table of all types, and what is said about the host's switches that change it.
fn set_types(config: &mut Config, settings: &Settings) {
    let preset = preset_of(settings);
    let said = config.policy.preset.map_or(Preset::Host, |preset| preset.0);
    let means = types(said, &config.policy).ok().map(|types| {
        let mut settings = Settings { types, ..*settings };
        if config.responder.respect_sysctl {
            conflicts::respect(&mut settings);
        }
        settings.types
    });
    if said == preset && means == Some(settings.types) {
        return;
    }
    config.responder.respect_sysctl = false;
    let policy = &mut config.policy;
    policy.preset = Some(Word(preset));
    (policy.ipv4, policy.ipv6) = Default::default();
    for row in rows(settings).iter().filter(|row| row.clause == CONFIGURED) {
        let of_family = if row.row.family == Family::V4 { &mut policy.ipv4 } else { &mut policy.ipv6 };
        of_family.insert(row.name.to_string(), Word(row.action));
    }
}

fn set_checks(checks: &mut config::Checks, policy: &Compiled) {
    for check in Check::ALL {
        let mode = policy.settings.checks >> mode_shift(*check) & 3;
        let Some(mode) = Mode::ALL.get(mode as usize) else { continue };
        if checks.mode(*check) != *mode {
            *checks.mode_mut(*check) = Some(Word(*mode));
        }
    }
    let routers = policy.rules.routers.iter().filter(|router| **router != [0, 0]);
    checks.routers = routers
        .map(|[high, low]| std::net::Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low)))
        .collect();
}

/// A rule in the words of the one of its name as far as those mean it, and for the rest in words of its own.
fn rule_like(rule: &Rule, like: &Config, tick: Tick) -> config::Rule {
    let resolve = |said: &config::Rule| resolve_rule(said, &[], like.folder(), tick).ok();
    // As the program has them: types may be said in several ways.
    let same = |one: &Rule, other: &Rule| match [one, other].map(|rule| compile(std::slice::from_ref(rule))) {
        [Ok(one), Ok(other)] => one == other,
        _ => false,
    };
    let own = written_rule(rule, tick);
    let of_no_family = config::Rule { family: None, ..own.clone() };
    let own = if resolve(&of_no_family).is_some_and(|meant| same(&meant, rule)) { of_no_family } else { own };
    let said = like.policy.rule.iter().find(|said| said.name == rule.name);
    let Some((said, meant)) = said.and_then(|said| Some((said, resolve(said)?))) else { return own };
    let mut mixed = config::Rule { action: own.action, audit: own.audit, ..said.clone() };
    if meant.from != rule.from {
        mixed.from.clone_from(&own.from);
    }
    if meant.to != rule.to {
        mixed.to.clone_from(&own.to);
    }
    if meant.vlans != rule.vlans {
        mixed.vlan.clone_from(&own.vlan);
    }
    if meant.length != rule.length {
        mixed.length.clone_from(&own.length);
    }
    if meant.hop_limit != rule.hop_limit {
        mixed.hop_limit.clone_from(&own.hop_limit);
    }
    if meant.limit != rule.limit {
        (mixed.limit, mixed.burst) = (own.limit, own.burst);
    }
    if !resolve(&mixed).is_some_and(|meant| same(&meant, rule)) {
        (mixed.family, mixed.types) = (own.family, own.types.clone());
    }
    if resolve(&mixed).is_some_and(|meant| same(&meant, rule)) { mixed } else { own }
}

fn written_rule(rule: &Rule, tick: Tick) -> config::Rule {
    let nets = |nets: &Option<Vec<ipnet::IpNet>>| {
        nets.as_ref().map(|nets| OneOrMany(nets.iter().map(ToString::to_string).collect()))
    };
    let (limit, burst) = match rule.limit {
        Limit::UNLIMITED => (None, None),
        limit => rate_and_burst(tick, limit, 0, None),
    };
    let types = type_names(rule);
    let vlans: Vec<_> = rule.vlans.iter().map(ToString::to_string).collect();
    config::Rule {
        name: rule.name.clone(),
        family: if let [family] = rule.families[..] { Some(Word(family)) } else { None },
        from: nets(&rule.from),
        to: nets(&rule.to),
        types: (!types.is_empty()).then_some(OneOrMany(types)),
        vlan: (!vlans.is_empty()).then_some(OneOrMany(vlans)),
        length: range(&rule.length, &ANY_LENGTH),
        hop_limit: range(&rule.hop_limit, &ANY_HOP_LIMIT),
        action: Word(rule.action),
        limit,
        burst,
        audit: rule.audit,
    }
}

fn range<T: PartialEq + std::fmt::Display>(
    range: &RangeInclusive<T>,
    any: &RangeInclusive<T>,
) -> Option<OneOrMany> {
    (range != any).then(|| OneOrMany(vec![range_text(range.start(), range.end(), any.end())]))
}

/// Names that mean the types of a rule, and nothing else in its families. Whoever wrote the rule has found such names, so there are some; in a rule
/// of one family a number is one.
fn type_names(rule: &Rule) -> Vec<String> {
    if let [_] = rule.families[..] {
        let is_name = |text: &String, name: &TypeName| {
            TypeName::all(text, &rule.families).is_ok_and(|all| all == [*name])
        };
        let name_of = |name: &TypeName| Some(name.to_string()).filter(|text| is_name(text, name));
        return rule.types.iter().map(|name| name_of(name).unwrap_or_else(|| name.number())).collect();
    }
    let covered = |name: &TypeName, by: &[TypeName]| {
        (name.first..=name.last).all(|icmp_type| {
            let one = TypeName { first: icmp_type, last: icmp_type, ..*name };
            by.iter().any(|other| other.covers(&one))
        })
    };
    let plain = ROWS.iter().map(|row| row.name).chain(OTHER_NAMES.iter().map(|(name, ..)| *name));
    let plain: Vec<_> = plain.filter(|name| !TypeName::is_number(name)).collect();
    // Names of whole types come first, and what they mean needs no codes.
    let with_codes = plain.iter().flat_map(|name| (0..=u8::MAX).map(move |code| format!("{name}/{code}")));
    let candidates = plain.iter().map(|name| (*name).to_owned()).chain(with_codes);
    let (mut names, mut said): (Vec<String>, Vec<TypeName>) = (Vec::new(), Vec::new());
    for candidate in candidates {
        if rule.types.iter().all(|wanted| covered(wanted, &said)) {
            break;
        }
        let Ok(means) = TypeName::all(&candidate, &rule.families) else { continue };
        let adds = means.iter().any(|name| !covered(name, &said));
        if adds && means.iter().all(|name| covered(name, &rule.types)) {
            names.push(candidate);
            said.extend(means);
        }
    }
    names
}
