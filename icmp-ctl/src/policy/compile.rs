//! From a configuration to what the program reads: masks, flags, and the table of all types.
//!
//! Owns the translation of everything except limits (`limits.rs`) and rules (`resolve.rs`, `layout.rs`).

use std::collections::HashMap;
use std::num::NonZeroU8;

use anyhow::{Result, anyhow};
use icmp_common::abi::{
    BUDGETS, GATES, Level, Limit, PEER_PREFIXES, PeerPrefix, ROUTERS, SETTINGS_ECHO, SETTINGS_OBSERVE,
    SETTINGS_OWN_HOST, SETTINGS_PRESENT, SETTINGS_VERIFY_FULL, Settings, TYPE_ENTRIES, TypeEntry, type_index,
};
use icmp_common::path::checks::{Check, Mode, mode_shift};
use icmp_common::policy::{Preset, preset_types};
use icmp_common::types::Family;
use icmp_common::types::{Action, Budget};
use ipnet::IpNet;

use crate::config::file::{self as config, Config, Own, Verify};
use crate::config::limits::ResolvedLevel;
use crate::config::source::{Invalid, invalid, invalid_key, refuse, refuse_keys};
use crate::host::defaults::HostDefaults;
use crate::instance::compiled::{Compiled, Vip};
use crate::kernel::clock::Tick;
use crate::policy::limits::{LimitName, mask};
use crate::policy::resolve::resolve_rules;
use crate::policy::types::TypeName;
use crate::policy::{gates, guards, layout, peers};

/// Translates everything but rules; what follows from the rest is left open.
fn settings(config: &Config, tick: Tick, host: HostDefaults) -> Result<Settings> {
    let limits = &config.limits;
    let (source, prefix) = (limits.source(), limits.prefix());
    let responder = &config.responder;
    let preset = config.policy.preset.map_or(Preset::Host, |preset| preset.0);
    let mut flags = SETTINGS_PRESENT;
    for (on, flag) in [
        (responder.echo, SETTINGS_ECHO),
        (responder.verify.0 == Verify::Full, SETTINGS_VERIFY_FULL),
        (preset == Preset::Observe, SETTINGS_OBSERVE),
        (responder.own.0 == Own::Host, SETTINGS_OWN_HOST),
    ] {
        flags |= if on { flag } else { 0 };
    }
    let mut settings = Settings {
        flags,
        ttl: responder.ttl.map_or(host.ttl, NonZeroU8::get).into(),
        hop_limit: responder.hop_limit.map_or(host.hop_limit, NonZeroU8::get).into(),
        epoch_shift: 0,
        source: level(tick, "per-source", source)?,
        prefix: level(tick, "per-prefix", prefix)?,
        budgets: [Limit::UNLIMITED; BUDGETS],
        batches: [1; BUDGETS],
        types: types(preset, &config.policy)?,
        rules: 0,
        checks: checks(&config.policy.checks)?,
        preset: preset as u32,
        peers: 0,
        peer_prefixes: 0,
        tracked: [PeerPrefix::default(); PEER_PREFIXES],
        reserved: 0,
    };
    peers::set(&mut settings, &config.peers)?;
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::KnownSources) {
        let (rate, burst) = limits.budget(*budget);
        LimitName::Budget(*budget)
            .set(&mut settings, tick, rate, burst)
            .map_err(invalid(&["limits", budget.name()]))?;
    }
    Ok(settings)
}

fn level(tick: Tick, key: &str, level: ResolvedLevel) -> Result<Level> {
    let at = ["limits", key];
    let what = at.join(".");
    Ok(Level {
        limit: tick.limit(&what, level.rate, level.burst).map_err(invalid(&at))?,
        mask: mask(&what, level.ipv4_prefix, level.ipv6_prefix).map_err(invalid(&at))?,
    })
}

/// The table of all types: the preset's, but for what the configuration says of single ones.
pub(super) fn types(preset: Preset, policy: &config::Policy) -> Result<[TypeEntry; TYPE_ENTRIES]> {
    let mut types = preset_types(preset);
    let mut named = HashMap::new();
    for (family, key, actions) in [(Family::V4, "ipv4", &policy.ipv4), (Family::V6, "ipv6", &policy.ipv6)] {
        for (text, action) in actions {
            let at = ["policy", key, text];
            let names =
                TypeName::all(text, &[family]).map_err(anyhow::Error::msg).map_err(invalid_key(&at))?;
            for TypeName { first, last, code, .. } in names {
                for icmp_type in first..=last {
                    let index = type_index(family, icmp_type);
                    if let Some(other) = named.insert((index, code), text) {
                        let of = TypeName { family, first: icmp_type, last: icmp_type, code };
                        return refuse_keys(
                            &at,
                            &["policy", key, other],
                            format!(
                                "{other:?} and {text:?} both name the type {of} of {key}; leave one of them out"
                            ),
                        );
                    }
                    let entry = &mut types[index];
                    set_action(entry, family, icmp_type, code, action.0, &at)?;
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
    at: &[&str],
) -> Result<()> {
    let echo = if family == Family::V4 { 8 } else { 128 };
    if action == Action::Answer && icmp_type != echo {
        return refuse(at, "only echo-request can be answered; write pass, limit or drop".to_owned());
    }
    let decision = match code {
        None => &mut entry.main,
        Some(code) if entry.has_other != 0 && entry.other_code == code => &mut entry.other,
        Some(code) => {
            return Err(invalid_key(at)(anyhow!(
                "code {code} has no row of its own in the type table; a [[policy.rule]] with type = \"{icmp_type}/{code}\" and \
                 family = {:?} can tell codes apart",
                family.name()
            )));
        }
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
/// A value that cannot be expressed, with the nearest one that can and the place in the file.
pub fn compile_policy(config: &Config, tick: Tick, host: HostDefaults, cpus: u32) -> Result<Compiled> {
    let compiled = settings(config, tick, host).and_then(|settings| {
        for (i, name) in config.policy.allow_break.iter().enumerate() {
            let at = ["policy", "allow-break", &i.to_string()];
            guards::known(name).map_err(anyhow::Error::msg).map_err(invalid(&at))?;
        }
        let rules = resolve_rules(config, tick)?;
        let compiled = layout::compile(&rules).map_err(invalid(&["policy", "rule", "0"]))?;
        let mut routers = [[0; 2]; ROUTERS];
        for (slot, router) in routers.iter_mut().zip(&config.policy.checks.routers) {
            let bits = router.to_bits();
            *slot = [(bits >> 64) as u64, bits as u64];
        }
        let vips = vips(&config.responder)?;
        let first_beyond = GATES.to_string();
        let at: &[&str] = if config.responder.vip.len() > GATES {
            &["responder", "vip", &first_beyond]
        } else {
            &["policy"]
        };
        layout::assemble(settings, compiled, routers, &vips, tick, cpus).map_err(invalid(at))
    });
    compiled.map_err(|error| match error.downcast::<Invalid>() {
        Ok(invalid) => config.explain(&invalid),
        Err(error) => error,
    })
}

/// Prefixes whose addresses the program never answers for (`is_martian_source` in icmp-common's `wire`), and what they are.
const NEVER_ANSWERED: [(&str, &str); 5] = [
    ("0.0.0.0/8", "addresses that stand for this host or network"),
    ("127.0.0.0/8", "loopback addresses"),
    ("224.0.0.0/3", "multicast and reserved addresses"),
    ("::/64", "the loopback address, the unspecified one, and IPv4 addresses written as IPv6 ones"),
    ("ff00::/8", "multicast addresses"),
];

/// Why no address of a prefix is ever answered.
fn never_answered(net: IpNet) -> Option<String> {
    let holds = |block: &&(&str, &str)| block.0.parse::<IpNet>().is_ok_and(|block| block.contains(&net));
    let (block, what) = NEVER_ANSWERED.iter().find(holds)?;
    Some(format!("{net} can never be answered: {block} has only {what}"))
}

/// The VIPs, none of which is wide by accident or can never be one, in the order of their prefixes.
fn vips(responder: &config::Responder) -> Result<Vec<Vip>> {
    for (prefix, [table, list, number]) in responder.prefixes() {
        if let Some(why) = never_answered(prefix.0) {
            return refuse(&[&table, &list, &number, "prefix"], why);
        }
        if prefix.is_very_wide() && !responder.wide_vips {
            return refuse(
                &[&table, &list, &number, "prefix"],
                format!(
                    "{} is very wide: pings to all of it would be answered; `wide-vips = true` in [responder] says that this is meant",
                    prefix.0
                ),
            );
        }
    }
    let mut vips: Vec<_> = responder.vips.iter().map(|vip| Vip { net: vip.0, gate: None }).collect();
    for (i, vip) in responder.vip.iter().enumerate() {
        let net = vip.prefix.0;
        let gate = Some(gates::gate(vip, i)?);
        if vips.iter().any(|other| other.net == net) {
            return refuse(
                &["responder", "vip", &i.to_string(), "prefix"],
                format!(
                    "{net} is in `vips`, which are answered always, or has a check already; leave out one"
                ),
            );
        }
        vips.push(Vip { net, gate });
    }
    vips.sort_by_key(|vip| vip.net);
    vips.dedup();
    Ok(vips)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use icmp_common::wire::{ipv4, ipv6};

    #[test]
    fn what_the_packet_path_answers_for_nobody_cannot_be_a_vip_and_all_else_can() {
        for first in 0..=u8::MAX {
            let v4 = Ipv4Addr::new(first, 1, 2, 3);
            let refused = never_answered(IpAddr::from(v4).into()).is_some();
            assert_eq!(refused, ipv4::is_martian_source(v4.to_bits()), "{v4}");
            let v6 = Ipv6Addr::from_bits(u128::from(first) << 120 | 1);
            let refused = never_answered(IpAddr::from(v6).into()).is_some();
            assert_eq!(refused, ipv6::is_martian_source((v6.to_bits() >> 64) as u64), "{v6}");
        }
        // Some of these is answered for.
        for wide in ["0.0.0.0/0", "192.0.0.0/2", "::/0", "::/63", "fe00::/7"] {
            assert_eq!(never_answered(wide.parse().expect("a prefix")), None);
        }
    }
}
