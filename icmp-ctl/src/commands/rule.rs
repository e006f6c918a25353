//! `rule`: one rule at a time, each change applied as atomically as `apply`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::rule_list::list;
use crate::cli::change::{Rule, RuleAdd, RuleNamed};
use crate::config::file as config;
use crate::config::words::OneOrMany;
use crate::diagnostics::warn;
use crate::failure::sentence;
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::resolve::resolve_rule;
use crate::policy::saved::Words;
use crate::policy::transaction::{Transaction, change};

pub(super) fn run(what: &Rule) -> Result<Output> {
    let changed = match what {
        Rule::List => {
            let (json, lines) = list()?;
            return Ok(Output::shown(json, lines));
        }
        Rule::Add(args) => add(args),
        Rule::Del(RuleNamed { name, allow_break, save }) => {
            change(allow_break, save.wanted(Words::OfFile), |draft| {
                let rules = &mut draft.rules;
                let position = position(rules, name)?;
                rules.remove(position);
                Ok(())
            })
        }
        Rule::Promote(RuleNamed { name, allow_break, save }) => {
            change(allow_break, save.wanted(Words::OfFile), |draft| {
                let rules = &mut draft.rules;
                let position = position(rules, name)?;
                if !rules[position].audit {
                    bail!("rule {name:?} is no audit rule: it is in force already");
                }
                rules[position].audit = false;
                Ok(())
            })
        }
    };
    let _transaction = changed?;
    // It is done, whether it can be looked at or not.
    let (json, _) = list().unwrap_or_else(|error| {
        warn(&format!("the rules cannot be listed: {}", sentence(&error)));
        Default::default()
    });
    Ok(Output::done(json, Vec::new()))
}

fn position(rules: &[crate::policy::rules::Rule], name: &str) -> Result<usize> {
    rules.iter().position(|rule| rule.name == name).with_context(|| {
        let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let there = if names.is_empty() { "no rules at all".to_owned() } else { names.join(", ") };
        format!("no rule is called {name:?}; there are {there}")
    })
}

fn add(args: &RuleAdd) -> Result<Transaction> {
    let list = |words: &Vec<String>| (!words.is_empty()).then(|| OneOrMany(words.clone()));
    let one = |word: &Option<String>| word.clone().map(|word| OneOrMany(vec![word]));
    let rule = config::Rule {
        name: args.name.clone(),
        family: args.family,
        from: list(&args.from),
        to: list(&args.to),
        types: list(&args.types),
        vlan: list(&args.vlan),
        length: one(&args.length),
        hop_limit: one(&args.hop_limit),
        action: args.action,
        limit: args.limit,
        burst: args.burst,
        audit: args.audit,
    };
    let save = args.save.wanted(Words::OfRule(&rule));
    let resolved = resolve_rule(&rule, &[], Path::new(""), Tick::of_this_kernel()?)?;
    change(&args.allow_break, save, |draft| {
        let rules = &mut draft.rules;
        if rules.iter().any(|other| other.name == resolved.name) {
            bail!(
                "there is a rule {:?} already; `icmp-ctl rule del {}` removes it",
                resolved.name,
                resolved.name
            );
        }
        let position = args.before.as_ref().map_or(Ok(rules.len()), |name| position(rules, name))?;
        rules.insert(position, resolved.clone());
        Ok(())
    })
}
