//! What the kernel would have refused: the host's own switches and packet filters, which a frame answered here never meets.
//!
//! Owns reading them, the warnings, and following the switches where the configuration says so. They are those of the network
//! namespace that the command runs in, at the time it runs.

use std::process::Command;

use icmp_common::abi::Settings;
use icmp_common::policy::{Action, type_index};
use icmp_common::types::Family;

/// Switches with which the kernel ignores echo requests to its own addresses; those for groups need none, as groups are always the
/// kernel's.
const SWITCHES: [(Family, u8, &str); 2] =
    [(Family::V4, 8, "net.ipv4.icmp_echo_ignore_all"), (Family::V6, 128, "net.ipv6.icmp.echo_ignore_all")];

fn is_on(switch: &str) -> bool {
    let path = format!("/proc/sys/{}", switch.replace('.', "/"));
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

/// Leaves to the kernel what its switches make it ignore.
pub fn respect(settings: &mut Settings) {
    for (family, icmp_type, switch) in SWITCHES {
        let decision = &mut settings.types[type_index(family, icmp_type)].main;
        if is_on(switch) && decision.action == Action::Answer as u8 {
            decision.action = Action::Pass as u8;
        }
    }
}

/// What the kernel would have refused and the program will answer.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let answered = |family, icmp_type| {
        settings.types[type_index(family, icmp_type)].main.action == Action::Answer as u8
            && settings.flags & icmp_common::abi::SETTINGS_ECHO != 0
    };
    for (family, icmp_type, switch) in SWITCHES {
        if answered(family, icmp_type) && is_on(switch) {
            warnings.push(format!(
                "{switch} is on: the kernel would ignore echo requests of {} that the program will answer; `respect-sysctl = true` in \
                 [responder] follows it",
                family.name()
            ));
        }
    }
    if SWITCHES.iter().any(|(family, icmp_type, _)| answered(*family, *icmp_type)) {
        warnings.extend(filter_rules().into_iter().map(|rule| {
            format!(
                "a packet filter has the rule `{rule}`, which frames answered by the program never reach; a [[policy.rule]] can say \
                 the same"
            )
        }));
    }
    warnings
}

/// Rules of nftables that refuse or limit echo requests; none where it is not installed.
fn filter_rules() -> Vec<String> {
    let listed = Command::new("nft").args(["list", "ruleset"]).output();
    let Ok(listed) = listed else { return Vec::new() };
    String::from_utf8_lossy(&listed.stdout).lines().filter_map(refusing_rule).collect()
}

/// A line of nft's list, if it is a rule that keeps echo requests from the kernel.
fn refusing_rule(line: &str) -> Option<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let about = words.iter().any(|word| ["icmp", "icmpv6", "ipv6-icmp"].contains(word));
    let other_type =
        words.windows(2).any(|pair| pair[0] == "type" && pair[1] != "echo-request" && pair[1] != "{");
    let refuses = words.iter().any(|word| ["drop", "reject", "limit"].contains(word));
    (about && refuses && !other_type && words.first() != Some(&"type")).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::refusing_rule;

    #[test]
    fn rules_that_refuse_echo_requests_are_told_from_others() {
        for rule in [
            "\t\ticmp type echo-request drop",
            "meta l4proto icmp counter packets 0 bytes 0 drop",
            "icmpv6 type echo-request limit rate 5/second accept",
            "ip protocol icmp icmp type { echo-request, timestamp-request } reject",
        ] {
            assert!(refusing_rule(rule).is_some(), "{rule}");
        }
        for rule in [
            "icmp type echo-request accept",
            "tcp dport 22 drop",
            "icmp type redirect drop",
            "type filter hook input priority 0; policy drop;",
        ] {
            assert_eq!(refusing_rule(rule), None, "{rule}");
        }
    }
}
