//! Guards: messages that no policy takes from a host by accident.
//!
//! Owns which messages a host needs, the clause for each, and the smallest limit of each. A policy that would drop or starve them is refused
//! unless the guard's name is given.

use icmp_common::abi::Settings;
use icmp_common::abi::{Limit, type_index};
use icmp_common::policy::Preset;
use icmp_common::types::Family;
use icmp_common::types::{Action, Budget};

use crate::config::units::Rate;
use crate::failure::{Exit, Failure};
use crate::kernel::clock::Tick;
use crate::policy::rows::preset_of;
use crate::policy::rules::Rule;
use crate::policy::types::TypeName;

/// Messages that a host needs.
struct Guard {
    /// The name that overrides it.
    name: &'static str,
    /// What breaks without them.
    breaks: &'static str,
    clause: &'static str,
    budget: Budget,
    /// First and last type, and the one code where it is about one only.
    types: &'static [(Family, u8, u8, Option<u8>)],
}

/// Less than this many a second starve the host.
const LEAST: f64 = 10.0;

const GUARDS: &[Guard] = &[
    Guard {
        name: "pmtud",
        breaks: "path MTU discovery, so that large packets vanish",
        clause: "RFC 1191 section 3, RFC 8201 section 4, RFC 4890 section 4.4.1",
        budget: Budget::PathMtu,
        types: &[(Family::V4, 3, 3, Some(4)), (Family::V6, 2, 2, None)],
    },
    Guard {
        name: "errors",
        breaks: "error reporting to the transport layer, so that connections hang instead of failing",
        clause: "RFC 1122 section 3.2.2, RFC 4890 section 4.4.1",
        budget: Budget::Errors,
        types: &[
            (Family::V4, 3, 3, None),
            (Family::V4, 11, 12, None),
            (Family::V6, 1, 1, None),
            (Family::V6, 3, 4, None),
        ],
    },
    Guard {
        name: "neighbour-discovery",
        breaks: "neighbour discovery, so that the host is cut off from IPv6",
        clause: "RFC 4861, RFC 4890 section 4.4.1",
        budget: Budget::NeighbourDiscovery,
        types: &[(Family::V6, 133, 136, None)],
    },
    Guard {
        name: "multicast-listener",
        breaks: "multicast listener discovery, so that switches stop delivering groups, neighbour discovery's among them",
        clause: "RFC 3810, RFC 4890 section 4.4.1",
        budget: Budget::MulticastListener,
        types: &[(Family::V6, 130, 132, None), (Family::V6, 143, 143, None)],
    },
];

/// Refuses an unknown guard name.
///
/// # Errors
/// That, with the names there are.
pub fn known(name: &str) -> Result<(), String> {
    if names().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<_> = names().collect();
    Err(format!("{name:?} is no guard that could be overridden; there are {}", names.join(", ")))
}

/// The names of all guards.
pub fn names() -> impl Iterator<Item = &'static str> {
    GUARDS.iter().map(|guard| guard.name)
}

/// Refuses settings and rules that break a guard that is not in `allowed`.
///
/// # Errors
/// [`Exit::Guarded`], with what breaks, the clause, and the name that overrides it; a name in `allowed` that is none.
pub fn check(settings: &Settings, rules: &[Rule], tick: Tick, allowed: &[String]) -> anyhow::Result<()> {
    for name in allowed {
        known(name).map_err(anyhow::Error::msg)?;
    }
    match broken(settings, rules, tick).find(|(name, _)| allowed.iter().all(|allowed| allowed != name)) {
        Some((_, why)) => Err(Failure::error(Exit::Guarded, why)),
        None => Ok(()),
    }
}

/// The guards that settings and rules break: their names, and what to say about it.
pub fn broken(
    settings: &Settings,
    rules: &[Rule],
    tick: Tick,
) -> impl Iterator<Item = (&'static str, String)> {
    // What is only observed or audited takes nothing from anybody.
    let observed = preset_of(settings) == Preset::Observe;
    GUARDS.iter().filter(move |_| !observed).filter_map(move |guard| {
        let what = broken_by(guard, settings, rules, tick)?;
        let Guard { name, breaks, clause, .. } = guard;
        Some((
            *name,
            format!("{what}: that breaks {breaks} ({clause}); `--allow-break {name}` does it all the same"),
        ))
    })
}

/// Refuses that a list becomes empty that was not, unless its rule is in `allowed`: whoever writes lists may have failed to.
///
/// # Errors
/// [`Exit::Guarded`], with the rule and what to do.
pub fn check_lists(before: &[Rule], after: &[Rule], allowed: &[String]) -> anyhow::Result<()> {
    for rule in after.iter().filter(|rule| !allowed.contains(&rule.name)) {
        let Some(old) = before.iter().find(|old| old.name == rule.name) else { continue };
        let key = rule.empty_lists().find(|key| old.empty_lists().all(|old| old != *key));
        let had = |key: &str| if key == "from" { &old.from } else { &old.to };
        if let Some(key) = key.filter(|key| had(key).is_some()) {
            return Err(Failure::error(
                Exit::Guarded,
                format!(
                    "rule {:?}: its list `{key}` was not empty and now is, so that it would match nothing; see to the list, or \
                     `--allow-empty {}` does it all the same",
                    rule.name, rule.name
                ),
            ));
        }
    }
    Ok(())
}

/// What breaks a guard, if anything does.
fn broken_by(guard: &Guard, settings: &Settings, rules: &[Rule], tick: Tick) -> Option<String> {
    for (family, first, last, code) in guard.types {
        for icmp_type in *first..=*last {
            let name = TypeName { family: *family, first: icmp_type, last: icmp_type, code: *code };
            // Any code that has no row of its own stands for the others.
            let decision = settings.types[type_index(*family, icmp_type)].decision(code.unwrap_or(0));
            if decision.action == Action::Drop as u8 {
                return Some(format!("the policy drops {} of {}", name, family.name()));
            }
            if let Some(rule) = rules.iter().find(|rule| takes(rule, &name, tick)) {
                let does = if rule.action == Action::Drop { "drops" } else { "starves" };
                return Some(format!(
                    "rule {:?} {does} {name} of {}; a rule that is about other types names them: type = [\"echo-request\"]",
                    rule.name,
                    family.name()
                ));
            }
        }
    }
    let limit = &settings.budgets[guard.budget as usize];
    is_too_little(limit, tick).then(|| {
        let (rate, _) = tick.rate_and_burst(limit);
        let least = Rate::PerSecond(LEAST);
        format!("the limit {} of {rate} is less than {least}", guard.budget.name())
    })
}

/// True where a rule drops messages of this name, or leaves too few.
fn takes(rule: &Rule, name: &TypeName, tick: Tick) -> bool {
    let about = |of: &TypeName| {
        of.family == name.family
            && (of.first..=of.last).contains(&name.first)
            && (of.code.is_none() || name.code.is_none() || of.code == name.code)
    };
    let matches =
        rule.families.contains(&name.family) && (rule.types.is_empty() || rule.types.iter().any(about));
    let takes = rule.action == Action::Drop || is_too_little(&rule.limit, tick);
    !rule.audit && matches && takes
}

fn is_too_little(limit: &Limit, tick: Tick) -> bool {
    matches!(tick.rate_and_burst(limit).0, Rate::PerSecond(rate) if rate < LEAST)
}
