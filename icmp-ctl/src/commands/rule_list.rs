//! `rule list`: the rules in their order, with what they have decided.

use anyhow::Result;
use serde_json::json;

use crate::instance::pins::Instance;
use crate::kernel::clock::Tick;

pub(super) fn list(instance: &Instance, json: bool) -> Result<()> {
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
