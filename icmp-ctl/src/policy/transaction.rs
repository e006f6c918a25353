//! Every change of what is in force: translate, guard, compare, switch.

use anyhow::{Context as _, Result};

use crate::config::file::Config;
use crate::diagnostics::warn;
use crate::host::conflicts;
use crate::host::defaults::HostDefaults;
use crate::host::netlink::Network;
use crate::instance::attach::{AttachMode, Attached, attach, find, refuse_others};
use crate::instance::compiled::Compiled;
use crate::instance::pins::Instance;
use crate::instance::program::LoadOptions;
use crate::kernel::clock::Tick;
use crate::kernel::ethtool;
use crate::policy::compile::compile_policy;
use crate::policy::guards;
use crate::policy::limits::cpus;
use crate::policy::rules::Rule;

/// A policy that may be put in force, and what there is to say about it.
pub struct Checked {
    /// The policy.
    pub policy: Compiled,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

/// Translates a configuration and holds it against the guards; needs no privilege and touches nothing. What the configuration leaves to
/// the host is that of the interface.
pub fn check(config: &Config, allow_break: &[String], interface: Option<&String>) -> Result<Checked> {
    let tick = Tick::of_this_kernel()?;
    let mut policy = compile_policy(config, tick, HostDefaults::read(interface), cpus()?)?;
    if config.responder.respect_sysctl {
        conflicts::respect(&mut policy.settings);
    }
    let allowed = [allow_break, &config.policy.allow_break].concat();
    let rules = policy.rules();
    guards::check(&policy, &rules, tick, &allowed)?;
    let mut warnings = contradictions(&rules);
    warnings.extend(conflicts::warnings(&policy.settings));
    Ok(Checked { policy, warnings })
}

/// Rules that can never decide, because one before them always does; and pairs that disagree about some messages, where neither is the
/// exception to the other.
fn contradictions(rules: &[Rule]) -> Vec<String> {
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

/// Says what there is to say about a policy.
pub fn warn_all(warnings: &[String]) {
    for warning in warnings {
        warn(warning);
    }
}

/// Puts changed rules in the place of those in force, as `apply` would.
pub fn change_rules(
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
    warn_all(&contradictions(&rules));
    instance.maps.switch_policy(&policy.with_rules(&rules)?, None)
}

/// Attaches to every interface named, or to none: what this call attached is taken off again when one is refused.
pub fn attach_all(
    names: &[String],
    mode: AttachMode,
    keep_tags: bool,
    reconfigure: bool,
    config: &Config,
    checked: &Checked,
) -> Result<Vec<Attached>> {
    let network = Network::read_once()?;
    let links = names.iter().map(|name| find(&network, name)).collect::<Result<Vec<_>>>()?;
    for link in &links {
        refuse_others(link)?;
    }
    let (mut instance, fresh) = Instance::open_or_load(&LoadOptions::new(config.limits.memory.lines())?)?;
    let before = if fresh { None } else { instance.maps.policy()? };
    if fresh || reconfigure {
        warn_all(&checked.warnings);
    }
    let mut done: Vec<Attached> = Vec::new();
    let mut unstripped: Vec<&str> = Vec::new();
    let result = configure(&mut instance, fresh || reconfigure, &checked.policy).and_then(|()| {
        for link in &links {
            if keep_tags && ethtool::strips_vlan_tags(&link.name) {
                ethtool::strip_vlan_tags(&link.name, false)
                    .with_context(|| format!("{}: switching rx-vlan-offload off", link.name))?;
                unstripped.push(&link.name);
            }
            done.push(attach(&mut instance, &network, link, mode)?);
        }
        Ok(())
    });
    if let Err(error) = result {
        for name in unstripped {
            ethtool::strip_vlan_tags(name, true)?;
        }
        if let Some(before) = &before {
            configure(&mut instance, reconfigure, before)?;
        }
        for attached in done.iter().filter(|attached| !attached.already) {
            if let Some(link) = network.link(&attached.name) {
                instance.detach(link.index)?;
            }
        }
        if fresh {
            instance.remove()?;
        }
        return Err(error);
    }
    Ok(done)
}

fn configure(instance: &mut Instance, wanted: bool, policy: &Compiled) -> Result<()> {
    if wanted { instance.maps.switch_policy(policy, None) } else { Ok(()) }
}
