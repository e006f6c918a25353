//! `rule`: one rule at a time, each change applied as atomically as `apply`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::apply::change_rules;
use crate::cli::{Rule, RuleAdd};
use crate::config::file::{self as config, Words};
use crate::instance::pins::Instance;
use crate::policy::settings::{Tick, resolve_rule};

pub(super) fn run(what: &Rule, json: bool) -> Result<()> {
    let mut instance = Instance::open()?;
    match what {
        Rule::List => return list(&instance, json),
        Rule::Add(args) => add(&mut instance, args)?,
        Rule::Del { name, allow_break } => change_rules(&mut instance, allow_break, |rules| {
            let position = position(rules, name)?;
            rules.remove(position);
            Ok(())
        })?,
        Rule::Promote { name, allow_break } => change_rules(&mut instance, allow_break, |rules| {
            let position = position(rules, name)?;
            if !rules[position].audit {
                bail!("rule {name:?} is no audit rule: it is in force already");
            }
            rules[position].audit = false;
            Ok(())
        })?,
    }
    if json {
        list(&instance, json)?;
    }
    Ok(())
}

fn position(rules: &[crate::policy::rules::Rule], name: &str) -> Result<usize> {
    rules.iter().position(|rule| rule.name == name).with_context(|| {
        let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let there = if names.is_empty() { "no rules at all".to_owned() } else { names.join(", ") };
        format!("no rule is called {name:?}; there are {there}")
    })
}

fn add(instance: &mut Instance, args: &RuleAdd) -> Result<()> {
    let rule = config::Rule {
        name: args.name.clone(),
        family: args.family,
        from: Words(args.from.clone()),
        to: Words(args.to.clone()),
        types: Words(args.types.clone()),
        vlan: Words(args.vlan.clone()),
        length: Words(args.length.iter().cloned().collect()),
        hop_limit: Words(args.hop_limit.iter().cloned().collect()),
        action: args.action,
        limit: args.limit,
        burst: args.burst,
        audit: args.audit,
    };
    let rule = resolve_rule(&rule, &[], Path::new(""), Tick::of_this_kernel()?)?;
    change_rules(instance, &args.allow_break, |rules| {
        if rules.iter().any(|other| other.name == rule.name) {
            bail!("there is a rule {:?} already; `icmp-ctl rule del {}` removes it", rule.name, rule.name);
        }
        let position = args.before.as_ref().map_or(Ok(rules.len()), |name| position(rules, name))?;
        rules.insert(position, rule);
        Ok(())
    })
}

fn list(instance: &Instance, json: bool) -> Result<()> {
    let Some(policy) = instance.maps.policy()? else { return Ok(()) };
    let tallies = instance.maps.tallies()?;
    let tick = Tick::of_this_kernel()?;
    let rules = policy.rules();
    let tally = |i: usize| tallies[policy.rules.rules[i].slot as usize];
    if json {
        let rules: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(i, rule)| {
                let tally = tally(i);
                let (rate, burst) = tick.rate_and_burst(&rule.limit);
                let limited = !rule.limit.is_unlimited();
                json!({
                    "name": rule.name, "audit": rule.audit, "action": rule.action.name(),
                    "families": rule.families.iter().map(|family| family.name()).collect::<Vec<_>>(),
                    "from": rule.from, "to": rule.to,
                    "types": rule.types.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "vlans": rule.vlans,
                    "length": [rule.length.start(), rule.length.end()],
                    "hop_limit": [rule.hop_limit.start(), rule.hop_limit.end()],
                    "limit": limited.then(|| rate.to_string()), "burst": limited.then_some(burst),
                    "hits": tally.hits, "limited": tally.limited,
                    "would_hit": tally.would_hit, "would_limit": tally.would_limit,
                })
            })
            .collect();
        println!("{}", json!({ "schema": 1, "rules": rules }));
        return Ok(());
    }
    println!("{:>12} {:>12} {:>12} {:>12}  RULE", "HITS", "LIMITED", "WOULD HIT", "WOULD LIMIT");
    for (i, rule) in rules.iter().enumerate() {
        let tally = tally(i);
        println!(
            "{:>12} {:>12} {:>12} {:>12}  {}",
            tally.hits,
            tally.limited,
            tally.would_hit,
            tally.would_limit,
            rule.text(tick)
        );
    }
    Ok(())
}
