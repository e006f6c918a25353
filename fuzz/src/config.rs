//! Target `config`: any text as a configuration, compiled and read back.
//!
//! Owns the properties: no text makes the controller panic, and a policy in force is shown as it was made: rules that are read back compile to
//! the same, and so does the rest, written as a configuration again.

use icmp_common::abi::{Limit, PREFIX_VALUES, Rules, TYPE_ENTRIES};
use icmp_common::types::{Action, Budget};
use std::fmt::{Display, Write as _};

use icmp_common::path::checks::{Check, Mode, mode_shift};
use icmp_common::types::Family;
use icmp_ctl::config::units::Rate;
use icmp_ctl::config::words::Named as _;
use icmp_ctl::instance::compiled::{Compiled, no_rules};
use icmp_ctl::instance::prefixes::Prefix;
use icmp_ctl::policy::difference::Difference;
use icmp_ctl::policy::gates::{check_text, unhealthy};
use icmp_ctl::policy::guards;
use icmp_ctl::policy::layout::{assemble, compile};
use icmp_ctl::policy::limits::{LimitName, prefix_lengths};
use icmp_ctl::policy::rows::{CONFIGURED, preset_of, rows};
use icmp_ctl::policy::rules::Rule;
use icmp_tests::host::policy_at;

use crate::knobs::TICK;

/// Runs an input.
///
/// # Panics
/// Something does not hold; the message has the input.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // A list in a file: it would be read, whatever it is.
    if text.contains("file:") {
        return;
    }
    let Ok(policy) = policy_at(text, TICK) else { return };
    let rules = policy.rules();
    // Refused or not, it ends.
    let _refused = guards::check(&policy.settings, &rules, TICK, &[]);

    assert_eq!(
        sorted(&policy.buckets.prefixes(&policy.rules)),
        sorted(&policy.prefixes),
        "prefixes of {text}"
    );
    let again = with_rules(&policy, &rules).unwrap_or_else(|e| panic!("rules read back: {e:#}\nof {text}"));
    same(&policy, &again, text);

    let written = write(&policy);
    let read = policy_at(&written, TICK).unwrap_or_else(|e| panic!("{e}\nin {written}\nof {text}"));
    let read = with_rules(&read, &rules).unwrap_or_else(|e| panic!("{e:#}\nin {written}\nof {text}"));
    same(&policy, &read, text);
    let mut difference = Difference::default();
    difference.add(Some(&policy), &read, TICK);
    assert!(difference.removed.is_empty() && difference.added.is_empty(), "{difference:?} of {text}");
}

/// The same policy with these rules, laid out anew.
fn with_rules(policy: &Compiled, rules: &[Rule]) -> Result<Compiled, impl Display> {
    compile(rules)
        .and_then(|rules| assemble(policy.settings, rules, policy.rules.routers, &policy.vips(), TICK, 1))
}

/// Panics if two policies do not do the same.
fn same(one: &Compiled, other: &Compiled, text: &str) {
    assert_eq!(one.rules(), other.rules(), "of {text}");
    assert_eq!(sorted(&one.prefixes), sorted(&other.prefixes), "of {text}");
    for index in 0..TYPE_ENTRIES {
        let of =
            |rules: &Rules| -> Vec<u64> { (0..=u8::MAX).map(|code| of_type(rules, index, code)).collect() };
        let plain = |rules: &Rules| (rules.types[index].block == 0).then_some(rules.types[index].rules);
        if plain(&one.rules) != plain(&other.rules) || plain(&one.rules).is_none() {
            assert_eq!(of(&one.rules), of(&other.rules), "type {index} of {text}");
        }
    }
    let [one, other] = [one, other].map(comparable);
    assert_eq!(one.settings, other.settings, "of {text}");
    assert!(one.rules == other.rules, "compiled rules of {text}");
}

/// The rules that allow a type with a code.
fn of_type(rules: &Rules, index: usize, code: u8) -> u64 {
    let entry = &rules.types[index];
    match entry.block {
        0 => entry.rules,
        block => rules.codes[block as usize - 1][usize::from(code)],
    }
}

/// Without what may differ: in which order prefixes lie, whether a type has its rules by code, the share of the replies that follows from
/// how they round, and the budgets of what is not limited.
fn comparable(policy: &Compiled) -> Compiled {
    let mut policy = policy.clone();
    policy.rules.search = no_rules().search;
    policy.rules.prefix_values = [0; PREFIX_VALUES];
    policy.rules.types = no_rules().types;
    policy.rules.codes = no_rules().codes;
    policy.settings.budgets[Budget::KnownSources as usize] = Limit::UNLIMITED;
    policy.settings.batches[Budget::KnownSources as usize] = 1;
    for entry in &mut policy.settings.types {
        for decision in [&mut entry.main, &mut entry.other] {
            if decision.action == Action::Drop as u8 || decision.action == Action::Pass as u8 {
                decision.budget = 0;
            }
        }
    }
    policy
}

fn sorted(prefixes: &[Prefix]) -> Vec<Prefix> {
    let mut prefixes = prefixes.to_vec();
    prefixes.sort_by_key(|prefix| (prefix.kind as u8, prefix.net));
    prefixes
}

/// All but the rules as a configuration, from what is in force.
fn write(policy: &Compiled) -> String {
    let settings = &policy.settings;
    let is_set = |flag| settings.flags & flag != 0;
    let vips = policy.vips();
    let always = vips.iter().filter(|vip| vip.gate.is_none());
    let always: Vec<_> = always.map(|vip| format!("{:?}", vip.net.to_string())).collect();
    let mut text = format!(
        "[responder]\necho = {}\nverify = {:?}\nttl = {}\nhop-limit = {}\nwide-vips = true\nvips = [{}]\n[limits]\n",
        is_set(icmp_common::abi::SETTINGS_ECHO),
        if is_set(icmp_common::abi::SETTINGS_VERIFY_FULL) { "full" } else { "header" },
        settings.ttl,
        settings.hop_limit,
        always.join(", "),
    );
    let mut line = |what: std::fmt::Arguments<'_>| {
        let _infallible = writeln!(text, "{what}");
    };
    for name in LimitName::settable() {
        let (rate, burst) = TICK.rate_and_burst(&name.of(settings));
        let rate = match rate {
            Rate::PerSecond(0.0) => "0".to_owned(),
            Rate::PerSecond(rate) => format!("{rate}/s"),
            Rate::Unlimited => "unlimited".to_owned(),
        };
        let level = match name {
            LimitName::Source => Some(&settings.source),
            LimitName::Prefix => Some(&settings.prefix),
            LimitName::Budget(_) => None,
        };
        let prefixes = level
            .map(prefix_lengths)
            .map_or_else(String::new, |(v4, v6)| format!(", ipv4-prefix = {v4}, ipv6-prefix = {v6}"));
        line(format_args!("{} = {{ rate = {rate:?}, burst = {burst}{prefixes} }}", name.name()));
    }
    line(format_args!("[policy]\npreset = {:?}", preset_of(settings).name()));
    for family in [Family::V4, Family::V6] {
        line(format_args!("[policy.{}]", family.name()));
        for row in rows(settings).iter().filter(|row| row.row.family == family && row.clause == CONFIGURED) {
            line(format_args!("{:?} = {:?}", row.name.to_string(), row.action.name()));
        }
    }
    line(format_args!("[policy.checks]"));
    for check in Check::ALL {
        let mode = Mode::ALL[(settings.checks >> mode_shift(*check) & 3) as usize];
        line(format_args!("{} = {:?}", check.name(), mode.name()));
    }
    let routers = policy.rules.routers.iter().filter(|router| **router != [0, 0]);
    let routers: Vec<_> = routers
        .map(|[high, low]| {
            format!("\"{}\"", std::net::Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low)))
        })
        .collect();
    line(format_args!("routers = [{}]", routers.join(", ")));
    for (net, gate) in vips.iter().filter_map(|vip| Some((vip.net, vip.gate?))) {
        line(format_args!("[[responder.vip]]\nprefix = \"{net}\"\ncheck = {:?}", check_text(&gate)));
        line(format_args!("interval = \"{}ms\"\ntimeout = \"{}ms\"", gate.interval, gate.timeout));
        line(format_args!(
            "rise = {}\nfall = {}\nunhealthy = {:?}",
            gate.rise,
            gate.fall,
            unhealthy(&gate).name()
        ));
    }
    text
}
