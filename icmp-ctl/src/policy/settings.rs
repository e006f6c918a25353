//! From a configuration to what the program reads: ticks, buckets, masks, flags.
//!
//! Owns the translation and the limits of what can be expressed, in both directions: what is in force is shown from the maps,
//! not from a file.

use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use icmp_common::abi::{
    Level, Mask, SETTINGS_ECHO, SETTINGS_OBSERVE, SETTINGS_PRESENT, SETTINGS_RULES, SETTINGS_VERIFY_FULL,
    SETTINGS_VIPS, Settings,
};
use icmp_common::checks::{Check, Mode, mode_shift};
use icmp_common::limiter::{Limit, UNITS_PER_TICK};
use icmp_common::policy::{
    Action, BUDGETS, Budget, Preset, TYPE_ENTRIES, TypeEntry, preset_types, type_index,
};
use icmp_common::prefixes::PrefixKind;
use icmp_common::rules::{NAME_LEN, ROUTERS};
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::config::file::{self as config, Config, Invalid, Verify, Words};
use crate::config::units::Rate;
use crate::policy::guards;
use crate::policy::rules::{self, ANY_HOP_LIMIT, ANY_LENGTH, Compiled, MAX_LENGTH, Prefix, Rule};
use crate::policy::types::TypeName;

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

    /// Log2 of the ticks in an epoch: the power of two next to four seconds.
    fn epoch_shift(self) -> u32 {
        (self.per_second * 4.0).log2().round() as u32
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
/// Units of time a bucket may hold: a year at HZ = 1000 and less than half of what a cell can count.
const MAX_CAPACITY: f64 = 365.0 * 86_400.0 * 1000.0 * UNITS_PER_TICK as f64;

/// The share of the reply budget kept for familiar sources while it is exhausted: one in this many.
const FAMILIAR_SHARE: f64 = 8.0;

/// The share of a burst that a flow pays for in advance: one in this many (`icmp_common::limiter::Rows::is_calm` relies on it).
const BURST_SHARE: u64 = 64;
/// Requests paid for at once, beyond which more would save nothing.
const MAX_LEASE: u64 = 1024;
/// Below which it saves nothing.
const MIN_LEASE: u64 = 4;

/// The host's own defaults for what an answer carries.
#[derive(Clone, Copy, Debug)]
pub struct HostDefaults {
    /// `net.ipv4.ip_default_ttl`
    pub ttl: u8,
    /// `net.ipv6.conf.IFACE.hop_limit`
    pub hop_limit: u8,
}

impl HostDefaults {
    /// What the kernel uses on an interface, or 64 where a family is not there.
    pub fn read(interface: Option<&String>) -> Self {
        let sysctl = |path: &str| {
            let value = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
            (value > 0).then_some(value)
        };
        Self {
            ttl: sysctl("/proc/sys/net/ipv4/ip_default_ttl").unwrap_or(64),
            hop_limit: interface
                .and_then(|name| sysctl(&format!("/proc/sys/net/ipv6/conf/{name}/hop_limit")))
                .unwrap_or(64),
        }
    }
}

/// Translates a configuration.
///
/// # Errors
/// A value that cannot be expressed, with the nearest one that can.
pub fn compile(config: &Config, tick: Tick, host: HostDefaults, cpus: u32) -> Result<Settings> {
    let limits = &config.limits;
    let (source, prefix) = (limits.source(), limits.prefix());
    let responder = &config.responder;
    let preset = config.policy.preset.map_or(Preset::Host, |preset| preset.0);
    let mut flags = SETTINGS_PRESENT;
    for (on, flag) in [
        (responder.echo, SETTINGS_ECHO),
        (responder.verify == Verify::Full, SETTINGS_VERIFY_FULL),
        (!responder.vips.is_empty(), SETTINGS_VIPS),
        (!config.policy.rule.is_empty(), SETTINGS_RULES),
        (preset == Preset::Observe, SETTINGS_OBSERVE),
    ] {
        flags |= if on { flag } else { 0 };
    }
    let mut settings = Settings {
        flags,
        ttl: answer_ttl("ttl", responder.ttl, host.ttl)?,
        hop_limit: answer_ttl("hop-limit", responder.hop_limit, host.hop_limit)?,
        epoch_shift: tick.epoch_shift(),
        source: level(tick, "per-source", source)?,
        prefix: level(tick, "per-prefix", prefix)?,
        budgets: [Limit::UNLIMITED; BUDGETS],
        batches: [1; BUDGETS],
        types: types(preset, &config.policy)?,
        rules: 0,
        checks: checks(&config.policy.checks)?,
        preset: preset as u32,
        lease: 0,
    };
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::Familiar) {
        let (rate, burst) = limits.budget(*budget);
        set_budget(&mut settings, tick, cpus, *budget, rate, burst)
            .map_err(invalid(&["limits", budget.name()]))?;
    }
    settings.lease = lease(&settings);
    Ok(settings)
}

/// Requests that a flow pays for in advance at most: a small part of what may come at once, so that what is lost at the end of a tick
/// does not matter, and none where it would.
fn lease(settings: &Settings) -> u32 {
    let [source, prefix] = [&settings.source, &settings.prefix].map(|level| {
        level.limit.capacity.checked_div(level.limit.interval).map_or(MAX_LEASE, |burst| burst / BURST_SHARE)
    });
    let lease = source.min(prefix).min(MAX_LEASE);
    if lease < MIN_LEASE { 0 } else { lease as u32 }
}

fn level(tick: Tick, key: &str, level: config::ResolvedLevel) -> Result<Level> {
    let at = ["limits", key];
    let what = at.join(".");
    Ok(Level {
        limit: tick.limit(&what, level.rate, level.burst).map_err(invalid(&at))?,
        mask: mask(&what, level.ipv4_prefix, level.ipv6_prefix).map_err(invalid(&at))?,
    })
}

/// Turns an error into one that says where in the file its cause is.
fn invalid<E: Into<anyhow::Error>>(path: &[&str]) -> impl FnOnce(E) -> anyhow::Error {
    let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
    move |error| anyhow::Error::new(Invalid::new(path, error.into().to_string()))
}

/// As [`invalid`], for an error that is made here.
fn refuse<T>(path: &[&str], message: String) -> Result<T> {
    Err(invalid(path)(anyhow::Error::msg(message)))
}

/// The table of all types: the preset's, but for what the configuration says of single ones.
fn types(preset: Preset, policy: &config::Policy) -> Result<[TypeEntry; TYPE_ENTRIES]> {
    let mut types = preset_types(preset);
    for (family, key, actions) in [(Family::V4, "ipv4", &policy.ipv4), (Family::V6, "ipv6", &policy.ipv6)] {
        for (text, action) in actions {
            let at = ["policy", key, text];
            let names = TypeName::all(text, &[family]).map_err(anyhow::Error::msg).map_err(invalid(&at))?;
            for TypeName { first, last, code, .. } in names {
                for icmp_type in first..=last {
                    let entry = &mut types[type_index(family, icmp_type)];
                    set_action(entry, family, icmp_type, code, action.0).map_err(invalid(&at))?;
                }
            }
        }
    }
    Ok(types)
}

fn set_action(
    entry: &mut TypeEntry,
    family: Family,
    icmp_type: u8,
    code: Option<u8>,
    action: Action,
) -> Result<()> {
    let echo = if family == Family::V4 { 8 } else { 128 };
    if action == Action::Answer && icmp_type != echo {
        bail!("only echo-request can be answered; write pass, limit or drop");
    }
    let decision = match code {
        None => &mut entry.main,
        Some(code) if entry.has_other != 0 && entry.other_code == code => &mut entry.other,
        Some(code) => bail!(
            "code {code} has no row of its own in the type table; a [[policy.rule]] with type = \"{icmp_type}/{code}\" and \
             family = {:?} can tell codes apart",
            family.name()
        ),
    };
    if action == Action::Limit && decision.action == Action::Drop as u8 {
        // What is dropped by default has no budget; that of queries is for what the kernel answers, or ignores.
        decision.budget = Budget::Queries as u8;
    }
    decision.action = action as u8;
    Ok(())
}

fn checks(checks: &config::Checks) -> Result<u32> {
    let at = ["policy", "checks"];
    let guard = checks.mode(Check::RouterGuard);
    if guard == Mode::Drop && checks.routers.is_empty() {
        return refuse(
            &[&at[..], &["router-guard"]].concat(),
            "with no routers named, all router advertisements would be dropped; name their link-local addresses: routers = [\"fe80::1\"]"
                .to_owned(),
        );
    }
    if checks.routers.len() > ROUTERS {
        return refuse(
            &[&at[..], &["routers"]].concat(),
            format!("{} routers are named, and there is room for {ROUTERS}", checks.routers.len()),
        );
    }
    for (i, router) in checks.routers.iter().enumerate() {
        if !router.is_unicast_link_local() {
            return refuse(
                &[&at[..], &["routers", &i.to_string()]].concat(),
                format!(
                    "{router} is no link-local address, and router advertisements come from one (RFC 4861 section 6.1.2)"
                ),
            );
        }
    }
    Ok(Check::ALL.iter().fold(0, |modes, check| modes | (checks.mode(*check) as u32) << mode_shift(*check)))
}

/// Translates a whole configuration: settings, rules and prefixes.
///
/// # Errors
/// As [`compile`], with the place in the file.
pub fn compile_policy(config: &Config, tick: Tick, host: HostDefaults, cpus: u32) -> Result<Compiled> {
    let compiled = compile(config, tick, host, cpus).and_then(|settings| {
        for (i, name) in config.policy.allow_break.iter().enumerate() {
            let at = ["policy", "allow-break", &i.to_string()];
            guards::known(name).map_err(anyhow::Error::msg).map_err(invalid(&at))?;
        }
        let rules = resolve_rules(config, tick)?;
        let (mut compiled, mut prefixes) =
            rules::compile(&rules).map_err(invalid(&["policy", "rule", "0"]))?;
        for (slot, router) in compiled.routers.iter_mut().zip(&config.policy.checks.routers) {
            let bits = router.to_bits();
            *slot = [(bits >> 64) as u64, bits as u64];
        }
        let mut vips: Vec<IpNet> = config.responder.vips.iter().map(IpNet::trunc).collect();
        vips.sort();
        vips.dedup();
        prefixes.extend(vips.into_iter().map(|net| Prefix { kind: PrefixKind::Vip, net, value: 1 }));
        Compiled::new(settings, compiled, prefixes).map_err(invalid(&["policy"]))
    });
    compiled.map_err(|error| match error.downcast::<Invalid>() {
        Ok(invalid) => config.explain(&invalid),
        Err(error) => error,
    })
}

fn resolve_rules(config: &Config, tick: Tick) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for (i, rule) in config.policy.rule.iter().enumerate() {
        let i = i.to_string();
        let at = ["policy", "rule", &i];
        let resolved = resolve_rule(rule, &at, config.folder(), tick)?;
        if rules.iter().any(|other| other.name == resolved.name) {
            let at = [&at[..], &["name"]].concat();
            return refuse(&at, format!("there is a rule {:?} already; counters go by name", resolved.name));
        }
        rules.push(resolved);
    }
    Ok(rules)
}

/// A rule with everything that it leaves open filled in; `at` is where it is in the file, `folder` where its lists are.
///
/// # Errors
/// An [`Invalid`] value, or a list that cannot be read.
pub fn resolve_rule(rule: &config::Rule, at: &[&str], folder: &Path, tick: Tick) -> Result<Rule> {
    let key = |key| [at, &[key]].concat();
    let name = &rule.name;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_LEN || !name.bytes().all(is_plain) {
        return refuse(
            &key("name"),
            format!(
                "{name:?} is no name for a rule: 1 to {NAME_LEN} letters, digits, hyphens, underscores and dots"
            ),
        );
    }
    let from = nets(&rule.from, &key("from"), folder)?;
    let to = nets(&rule.to, &key("to"), folder)?;
    let mut families = vec![Family::V4, Family::V6];
    for nets in [&from, &to].into_iter().filter(|nets| !nets.is_empty()) {
        families.retain(|family| nets.iter().any(|net| net.addr().is_ipv4() == (*family == Family::V4)));
    }
    if let Some(config::Word(family)) = rule.family {
        families.retain(|one| *one == family);
    }
    if families.is_empty() {
        return refuse(
            at,
            format!(
                "rule {name:?} can match nothing: its family, sources and destinations have none in common"
            ),
        );
    }
    let action = rule.action.0;
    let types = rule_types(rule, &families, at)?;
    if !types.is_empty() {
        families.retain(|family| types.iter().any(|name| name.family == *family));
    }
    let limit = match (rule.limit, action) {
        (None, Action::Limit) => {
            return refuse(at, format!("rule {name:?} limits and does not say to what: limit = \"100/s\""));
        }
        (Some(_), Action::Pass | Action::Drop) => {
            return refuse(
                &key("limit"),
                format!(
                    "what is to be limited has action = \"limit\" or \"answer\", not {:?}",
                    action.name()
                ),
            );
        }
        (None, _) if rule.burst.is_some() => {
            return refuse(&key("burst"), "a burst needs a limit beside it: limit = \"100/s\"".to_owned());
        }
        (None, _) => Limit::UNLIMITED,
        (Some(rate), _) => {
            let a_second = if let Rate::PerSecond(rate) = rate { rate.ceil().max(1.0) as u64 } else { 1 };
            tick.limit(&format!("rule {name:?}"), rate, rule.burst.unwrap_or(a_second))
                .map_err(invalid(&key("limit")))?
        }
    };
    let mut vlans = Vec::new();
    for (i, text) in rule.vlan.0.iter().enumerate() {
        match text.parse() {
            Ok(vlan @ 0..4095) => vlans.push(vlan),
            _ => {
                return refuse(
                    &[&key("vlan")[..], &[&i.to_string()]].concat(),
                    format!("{text:?} is no VLAN identifier: 1 to 4094, or 0 for untagged"),
                );
            }
        }
    }
    vlans.sort_unstable();
    vlans.dedup();
    let length = range(&rule.length, ANY_LENGTH).map_err(|why| anyhow::Error::msg(format!("length: {why}")));
    let length = length.map_err(invalid(&key("length")))?;
    let open = *length.end() == u16::MAX;
    if *length.start() > MAX_LENGTH || !open && *length.end() > MAX_LENGTH {
        return refuse(
            &key("length"),
            format!(
                "lengths are told apart up to {MAX_LENGTH}; what is longer spans buffers and is the kernel's"
            ),
        );
    }
    let hop_limit =
        range(&rule.hop_limit, ANY_HOP_LIMIT).map_err(|why| anyhow::Error::msg(format!("hop-limit: {why}")));
    let hop_limit = hop_limit.map_err(invalid(&key("hop-limit")))?;
    Ok(Rule {
        name: name.clone(),
        families,
        from,
        to,
        types,
        vlans,
        length,
        hop_limit,
        action,
        limit,
        audit: rule.audit,
    })
}

fn rule_types(rule: &config::Rule, families: &[Family], at: &[&str]) -> Result<Vec<TypeName>> {
    let echo_request = ["echo-request".to_owned()];
    let answers = rule.action.0 == Action::Answer;
    // Only echo requests can be answered, so a rule that answers need not say so.
    let texts = if answers && rule.types.0.is_empty() { &echo_request[..] } else { &rule.types.0[..] };
    let mut types = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let i = i.to_string();
        let at = [at, &["type", &i]].concat();
        if TypeName::is_number(text) && families.len() > 1 {
            return refuse(
                &at,
                format!("{text:?} is another type in each family; say which: family = \"ipv4\" or \"ipv6\""),
            );
        }
        let names = TypeName::all(text, families).map_err(anyhow::Error::msg).map_err(invalid(&at))?;
        let echo = |name: &TypeName| {
            (name.first, name.last) == if name.family == Family::V4 { (8, 8) } else { (128, 128) }
        };
        if answers && !names.iter().all(echo) {
            return refuse(
                &at,
                format!("only echo-request can be answered, not {text:?}; write pass, limit or drop"),
            );
        }
        types.extend(names);
    }
    types.sort_by_key(|name| (name.family, name.first, name.code));
    types.dedup();
    Ok(types)
}

/// Prefixes, and those in the files named among them; sorted, each once.
fn nets(words: &Words, at: &[&str], folder: &Path) -> Result<Vec<IpNet>> {
    let mut nets = Vec::new();
    for (i, text) in words.0.iter().enumerate() {
        let i = i.to_string();
        let at = [at, &[&i]].concat();
        match text.strip_prefix("file:") {
            None => nets.push(net(text).map_err(anyhow::Error::msg).map_err(invalid(&at))?),
            Some(path) => nets.extend(nets_of_file(&folder.join(path)).map_err(invalid(&at))?),
        }
    }
    nets.sort_unstable();
    nets.dedup();
    // One that lies in another adds nothing.
    let mut widest: Vec<IpNet> = Vec::with_capacity(nets.len());
    for net in nets {
        if !widest.last().is_some_and(|last| last.contains(&net)) {
            widest.push(net);
        }
    }
    Ok(widest)
}

/// One prefix a line; what follows a # is a comment.
fn nets_of_file(path: &Path) -> Result<Vec<IpNet>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("reading {name}: {error}"))?;
    let mut nets = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            nets.push(net(line).map_err(|why| anyhow::anyhow!("{name}:{}: {why}", i + 1))?);
        }
    }
    Ok(nets)
}

fn net(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => IpNet::from_str(text).map_err(|_| {
            format!("{text:?} is no address and no prefix: write it like 192.0.2.0/24 or 2001:db8::/32")
        })?,
    };
    if net != net.trunc() {
        return Err(format!("{text:?} has bits behind its prefix; the prefix is {}", net.trunc()));
    }
    Ok(net)
}

/// A number, or a range of numbers that may be open at one end.
fn range<T: FromStr + Copy + PartialOrd + std::fmt::Display>(
    words: &Words,
    any: RangeInclusive<T>,
) -> Result<RangeInclusive<T>, String> {
    let [text] = &words.0[..] else {
        return if words.0.is_empty() { Ok(any) } else { Err("one number or range, not a list".to_owned()) };
    };
    let bad = || {
        format!(
            "{text:?} is no range of numbers from {} to {}: write it like 64, 64-128 or 64-",
            any.start(),
            any.end()
        )
    };
    let number =
        |text: &str, open: T| if text.is_empty() { Ok(open) } else { text.trim().parse().map_err(|_| bad()) };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    if first.is_empty() && last.is_empty() {
        return Err(bad());
    }
    let (first, last) = (number(first, *any.start())?, number(last, *any.end())?);
    if first > last {
        return Err(format!("{text:?} is empty: {first} is more than {last}"));
    }
    Ok(first..=last)
}

/// Sets rate and burst of a budget; with those of the replies goes the share that is kept for familiar sources.
///
/// # Errors
/// A value that cannot be expressed, with the nearest one that can; the settings are as they were.
pub fn set_budget(
    settings: &mut Settings,
    tick: Tick,
    cpus: u32,
    budget: Budget,
    rate: Rate,
    burst: u64,
) -> Result<()> {
    let limit = tick.limit(&format!("limits.{}", budget.name()), rate, burst)?;
    if let (Budget::Replies, Rate::PerSecond(replies)) = (budget, rate) {
        let share = replies / FAMILIAR_SHARE;
        // A second's worth: monitors like to ping all at once. It is owed, so the total holds all the same.
        let burst = (share.ceil() as u64).max(1);
        set_budget(settings, tick, cpus, Budget::Familiar, Rate::PerSecond(share), burst)?;
    }
    settings.budgets[budget as usize] = limit;
    settings.batches[budget as usize] = tick.batch(&limit, cpus);
    Ok(())
}

/// RFC 1122 section 3.2.1.7: it must not be sent with zero.
fn answer_ttl(key: &str, configured: Option<u8>, host: u8) -> Result<u32> {
    match configured {
        Some(0) => refuse(
            &["responder", key],
            format!("responder.{key}: 0 would not leave the host; the smallest is 1"),
        ),
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
