//! Owns a second reading of rules: which rule decides about a message, found by asking one after the other.
//!
//! The packet path asks tables that were compiled from the rules; this asks the rules themselves, in the words of docs/policy.md. It knows
//! the message from how it was built, not from the frame.

use icmp_common::abi::type_index;
use icmp_common::types::Action;
use std::net::IpAddr;

use icmp_common::policy::{Preset, preset_types};
use icmp_common::reason::Reason;
use icmp_common::types::Family;
use icmp_ctl::policy::rules::Rule;
use ipnet::IpNet;

use crate::packet::Echo;

/// What became of a message that reaches the policy, if nothing is over a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Position of the rule that decided.
    pub decided: Option<usize>,
    /// Position of the audit rule that would have.
    pub would_decide: Option<usize>,
    /// How the frame ends.
    pub reason: Reason,
}

/// Asks the rules in their order.
#[must_use]
pub fn judge(rules: &[Rule], echo: &Echo) -> Judgement {
    let first = rules.iter().position(|rule| matches(rule, echo));
    let decided = rules.iter().position(|rule| !rule.audit && matches(rule, echo));
    let (family, kind) = kind(echo);
    let is_echo_request = kind == if family == Family::V4 { 8 } else { 128 };
    let answered = if echo.code == 0 { Reason::Answered } else { Reason::EchoCode };
    let reason = match decided.map(|i| rules[i].action) {
        Some(Action::Drop) => Reason::RuleDrop,
        Some(Action::Answer) if is_echo_request => answered,
        Some(_) => Reason::RulePass,
        None => {
            let action = preset_types(Preset::Host)[type_index(family, kind)].decision(echo.code).action;
            match action {
                a if a == Action::Drop as u8 => Reason::PolicyDrop,
                a if a == Action::Limit as u8 => Reason::WithinLimit,
                a if a == Action::Answer as u8 => answered,
                _ => Reason::PolicyPass,
            }
        }
    };
    Judgement { decided, would_decide: first.filter(|i| rules[*i].audit), reason }
}

/// True where no list is asked, or the address is in it.
fn any(nets: &Option<Vec<IpNet>>, address: &IpAddr) -> bool {
    nets.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(address)))
}

fn kind(echo: &Echo) -> (Family, u8) {
    let (family, request) = if echo.from.is_ipv4() { (Family::V4, 8) } else { (Family::V6, 128) };
    (family, echo.kind.unwrap_or(request))
}

fn matches(rule: &Rule, echo: &Echo) -> bool {
    let (family, kind) = kind(echo);
    let length = u16::try_from(8 + echo.data.len()).expect("a message");
    let vlan = echo.tags.first().map_or(0, |tag| tag.tci & 0xfff);
    rule.families.contains(&family)
        && (rule.types.is_empty() || rule.types.iter().any(|name| name.contains(family, kind, echo.code)))
        && any(&rule.from, &echo.from)
        && any(&rule.to, &echo.to)
        && (rule.vlans.is_empty() || rule.vlans.contains(&vlan))
        && rule.length.contains(&length)
        && rule.hop_limit.contains(&echo.ttl)
}
