//! `rule list`: the rules in order, with their counters.

use std::collections::HashSet;

use anyhow::Result;
use icmp_common::abi::Limit;
use serde_json::{Value, json};

use super::table::{Column::Left, Column::Right, table};
use crate::instance::pins::View;
use crate::kernel::clock::Tick;

pub(super) fn list() -> Result<(Value, Vec<String>)> {
    let (policy, rule_counters) = View::open()?.read(|maps| Ok((maps.policy()?, maps.rule_counters()?)))?;
    let tick = Tick::of_this_kernel()?;
    let (mut rules, mut rows) = (Vec::new(), Vec::new());
    for (i, rule) in policy.iter().flat_map(|policy| {
        policy.rules().into_iter().enumerate().map(move |(i, rule)| (policy.rules.rules[i].slot, rule))
    }) {
        let rule_counter = rule_counters[i as usize];
        let (rate, burst) = tick.rate_and_burst(&rule.limit);
        let limit = (rule.limit != Limit::UNLIMITED).then(|| rate.to_string());
        // One name for both families is there once.
        let mut types: Vec<_> = rule.types.iter().map(ToString::to_string).collect();
        let mut known = HashSet::new();
        types.retain(|name| known.insert(name.clone()));
        rules.push(json!({
            "name": rule.name, "audit": rule.audit, "action": rule.action.name(),
            "families": rule.families.iter().map(|family| family.name()).collect::<Vec<_>>(),
            "from": rule.from, "to": rule.to,
            "types": types,
            "vlans": rule.vlans,
            "length": [rule.length.start(), rule.length.end()],
            "hop_limit": [rule.hop_limit.start(), rule.hop_limit.end()],
            "limit": limit, "burst": (burst != 0).then_some(burst),
            "hits": rule_counter.hits, "limited": rule_counter.limited,
            "would_hit": rule_counter.would_hit, "would_limit": rule_counter.would_limit,
        }));
        rows.push([
            rule_counter.hits.to_string(),
            rule_counter.limited.to_string(),
            rule_counter.would_hit.to_string(),
            rule_counter.would_limit.to_string(),
            rule.text(tick),
        ]);
    }
    let columns = [Right("HITS"), Right("LIMITED"), Right("WOULD HIT"), Right("WOULD LIMIT"), Left("RULE")];
    Ok((json!({ "schema": 1, "rules": rules }), table(columns, rows)))
}
