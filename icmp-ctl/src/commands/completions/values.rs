//! The candidates for a value on a command line.
//!
//! Owns the table of candidates, by the name of the value in the help. clap completes values of which it knows all, and files.

use std::collections::BTreeSet;

use clap::{Arg, ValueHint};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::{Action, Family, ROWS};

use crate::config::words::Named;
use crate::host::netlink::links_once;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::requirements::{Purpose, prepare};
use crate::policy::guards;

/// What finds the names that a value may have.
type Names = fn() -> Vec<String>;

/// The argument, with what completes its value.
pub(super) fn completed(arg: Arg) -> Arg {
    match value_name(&arg) {
        "DIR" => arg.value_hint(ValueHint::DirPath),
        name => match names(name) {
            Some(names) => arg.add(ArgValueCandidates::new(move || {
                names().into_iter().map(CompletionCandidate::new).collect()
            })),
            None => arg,
        },
    }
}

/// What the help calls the value of an argument.
pub(super) fn value_name(arg: &Arg) -> &str {
    arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

/// The names that a value may have.
pub(super) fn names(value: &str) -> Option<Names> {
    Some(match value {
        "ACTION" => words::<Action>,
        "FAMILY" => words::<Family>,
        "GUARD" => || guards::names().map(str::to_owned).collect(),
        "IFACE" => interfaces,
        "REASON" => words::<Reason>,
        "RULE" => rules,
        "TYPE" => types,
        "VERDICT" => words::<Verdict>,
        _ => return None,
    })
}

fn words<T: Named>() -> Vec<String> {
    T::ALL.iter().map(|word| word.name().to_owned()).collect()
}

/// Types of either family; some names are of both.
fn types() -> Vec<String> {
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Interfaces of this network namespace, without those that are never attached: they have no Ethernet address.
fn interfaces() -> Vec<String> {
    let Ok(links) = links_once() else { return Vec::new() };
    let attachable = links.into_iter().filter(|link| !link.loopback && link.mac.is_some());
    let names: BTreeSet<_> = attachable.map(|link| link.name).collect();
    names.into_iter().collect()
}

/// Rules that are in force, for whom may read the maps.
fn rules() -> Vec<String> {
    let policy = prepare(Purpose::Use).and_then(|()| View::open()?.read(InstanceMaps::policy));
    let rules = policy.ok().flatten().map(|policy| policy.rules()).unwrap_or_default();
    rules.into_iter().map(|rule| rule.name).collect()
}
