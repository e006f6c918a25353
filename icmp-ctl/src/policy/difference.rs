//! What can differ between two policies, as lines of text.

use icmp_common::abi::{SETTINGS_ECHO, SETTINGS_VERIFY_FULL};
use icmp_common::path::checks::{Check, Mode, mode_shift};
use icmp_common::policy::Budget;

use crate::instance::compiled::Compiled;
use crate::kernel::clock::Tick;
use crate::policy::rows::{CONFIGURED, preset_of, rows};

/// Everything that can differ between two policies, a line each.
pub fn describe(policy: &Compiled, tick: Tick) -> Vec<String> {
    let settings = &policy.settings;
    let mut lines = vec![
        format!("responder.echo = {}", settings.flags & SETTINGS_ECHO != 0),
        format!(
            "responder.verify = {}",
            if settings.flags & SETTINGS_VERIFY_FULL != 0 { "full" } else { "header" }
        ),
        format!("responder.ttl = {}", settings.ttl),
        format!("responder.hop-limit = {}", settings.hop_limit),
    ];
    lines.extend(policy.vips().iter().map(|vip| format!("responder.vips: {vip}")));
    for (name, level) in [("per-source", &settings.source), ("per-prefix", &settings.prefix)] {
        let (rate, burst) = tick.rate_and_burst(&level.limit);
        let v6 = level.mask.v6_high.count_ones() + level.mask.v6_low.count_ones();
        lines.push(format!("limits.{name} = {rate} burst {burst} /{} and /{v6}", level.mask.v4.count_ones()));
    }
    // The reserve for familiar sources follows from the replies.
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::Familiar) {
        let (rate, burst) = tick.rate_and_burst(&settings.budgets[*budget as usize]);
        lines.push(format!("limits.{} = {rate} burst {burst}", budget.name()));
    }
    lines.push(format!("policy.preset = {}", preset_of(settings).name()));
    for row in rows(settings).iter().filter(|row| row.clause == CONFIGURED) {
        lines.push(format!("policy.{}.{} = {}", row.row.family.name(), row.name, row.action.name()));
    }
    for check in Check::ALL {
        let mode = settings.checks >> mode_shift(*check) & 3;
        let mode = Mode::ALL.get(mode as usize).map_or("?", |mode| mode.name());
        lines.push(format!("policy.checks.{} = {mode}", check.name()));
    }
    for [high, low] in policy.rules.routers.iter().filter(|router| **router != [0, 0]) {
        let address = std::net::Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low));
        lines.push(format!("policy.checks.routers: {address}"));
    }
    let rules = policy.rules();
    if !rules.is_empty() {
        let order: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        lines.push(format!("policy.rule order: {}", order.join(", ")));
    }
    for rule in &rules {
        lines.push(format!("policy.rule {}", rule.text(tick)));
        // Of many prefixes the text has the number only.
        for (what, nets) in [("from", &rule.from), ("to", &rule.to)] {
            lines.extend(nets.iter().map(|net| format!("policy.rule {} {what} {net}", rule.name)));
        }
    }
    lines
}
