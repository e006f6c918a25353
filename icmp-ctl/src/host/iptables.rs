//! The rules of iptables-legacy, from `iptables-legacy-save` and `ip6tables-legacy-save` (iptables-save(8)).
//!
//! Owns the meaning of each option for a packet of a ping. An unknown option may match. iptables-nft's rules are nftables'.

use std::collections::HashMap;

use icmp_common::types::Family;

use crate::host::firewall::{Chain, Match, Packet, Rule, Verdict, refuses};

/// The chains that a packet may meet.
pub(super) fn chains(saved: &str, packet: Packet) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut places = HashMap::new();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            places.insert(format!("{table} {name}"), chains.len());
            chains.push(Chain {
                name: format!("{table} {name}"),
                title: format!("chain {name} of iptables-legacy's table {table}"),
                // A chain of the user's has no policy.
                hooked: policy != "-" && packet.meets(&name.to_lowercase(), table == "nat"),
                some_devices: false,
                drops: policy == "DROP",
                rules: Vec::new(),
            });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (name, rest) = rule.split_once(' ').unwrap_or((rule, ""));
            if let Some(place) = places.get(&format!("{table} {name}")) {
                chains[*place]
                    .rules
                    .push(Rule { text: line.to_owned(), outcomes: outcomes(table, rest, packet) });
            }
        }
    }
    chains
}

fn outcomes(table: &str, rule: &str, packet: Packet) -> Vec<(Match, Verdict)> {
    let mut how = Match::Always;
    let mut verdict = None;
    let mut negated = false;
    let mut words = rule.split_whitespace();
    while let Some(option) = words.next() {
        let next = words.clone().next().unwrap_or_default();
        let condition = match option {
            "!" => {
                negated = true;
                continue;
            }
            "-j" => {
                verdict = Some(match next {
                    "ACCEPT" => Verdict::Accept,
                    "RETURN" => Verdict::Return,
                    target if refuses(target) => Verdict::Refuse,
                    // A chain, or a target that lets the packet go on, such as LOG.
                    other => Verdict::Jump(format!("{table} {other}")),
                });
                break;
            }
            "-g" => {
                verdict = Some(Verdict::Goto(format!("{table} {next}")));
                break;
            }
            "-p" => protocol(next, packet),
            "-i" | "-o" if next == "lo" => Match::Never,
            "--icmp-type" | "--icmpv6-type" => icmp_type(next, packet),
            "--state" | "--ctstate" => {
                let states = packet.tracked_as();
                let wanted = next.to_lowercase();
                Match::of(
                    states.iter().filter(|state| wanted.split(',').any(|one| one == **state)).count(),
                    states.len(),
                )
            }
            // What a module asks are its options.
            "-m" => continue,
            "--comment" => {
                // Quoted where it is more than one word.
                if next.starts_with('"') && !next[1..].ends_with('"') {
                    let _rest = words.find(|word| word.ends_with('"'));
                }
                continue;
            }
            option if option.starts_with('-') => Match::Maybe,
            _value => continue,
        };
        how = how.min(if negated { condition.negated() } else { condition });
        negated = false;
    }
    verdict.map(|verdict| (how, verdict)).into_iter().collect()
}

fn protocol(name: &str, packet: Packet) -> Match {
    match (name, packet.family) {
        ("all" | "0", _) | ("icmp" | "1", Family::V4) | ("icmpv6" | "ipv6-icmp" | "58", Family::V6) => {
            Match::Always
        }
        _ => Match::Never,
    }
}

/// By name or number, with the code where it has one.
fn icmp_type(wanted: &str, packet: Packet) -> Match {
    let (number, name) = packet.icmp_type();
    let wanted = wanted.strip_suffix(&format!("/{}", packet.code)).unwrap_or(wanted);
    if wanted == "any" || wanted == name || wanted == number.to_string() {
        Match::Always
    } else {
        Match::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::firewall::{Direction, refusals};

    #[test]
    fn a_rule_that_may_refuse_a_ping_is_found_by_what_it_means() {
        let request = Packet { family: Family::V4, direction: Direction::Request, code: 0 };
        let refused = |rule: &str| {
            let saved = format!(
                "*filter\n:INPUT ACCEPT [0:0]\n:own - [0:0]\n-A own -j DROP\n-A INPUT {rule}\nCOMMIT\n"
            );
            !refusals(&chains(&saved, request)).is_empty()
        };
        for rule in [
            "-j DROP",
            "-s 10.9.0.0/24 -j DROP",
            "-p icmp -m icmp --icmp-type 8 -j REJECT --reject-with icmp-port-unreachable",
            "-p icmp -m icmp --icmp-type 8/0 -m limit --limit 5/sec -j DROP",
            "-i eth0 -j DROP",
            "! -p tcp -j DROP",
            "-p icmp -j own",
            "-m conntrack --ctstate NEW -j DROP",
            "-m comment --comment \"not -j ACCEPT\" -j DROP",
            "-d 192.0.2.0/24 -j NETMAP --to 198.51.100.0/24",
        ] {
            assert!(refused(rule), "{rule}");
        }
        for rule in [
            "-p tcp -m tcp --dport 22 -j DROP",
            "-p icmp -m icmp --icmp-type 5 -j DROP",
            "-m conntrack --ctstate INVALID -j DROP",
            "-i lo -j DROP",
            "-p icmp -j LOG",
            "-j TTL --ttl-set 64",
            "-j MARK --set-xmark 0x1/0xffffffff",
            "-p icmp -j ACCEPT",
            "! -p icmp -j DROP",
        ] {
            assert!(!refused(rule), "{rule}");
        }
        let saved = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n";
        assert_eq!(refusals(&chains(saved, request)).len(), 1, "the policy");
    }
}
