//! A packet filter: where an echo request, or the reply that the kernel would send, may be refused.
//!
//! Owns the walk through chains. `nftables.rs` and `iptables.rs` read them.

use std::collections::HashMap;

use icmp_common::types::Family;

/// One of the two packets of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// ICMP or ICMPv6.
    pub(super) family: Family,
    /// The request that comes in, or the reply that goes out.
    pub(super) direction: Direction,
    /// Of the request, which the kernel's reply has too (`icmp_echo` in net/ipv4/icmp.c, `icmpv6_echo_reply` in net/ipv6/icmp.c).
    pub(super) code: u8,
}

/// Which way a packet of a ping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// An echo request to an own address, from anywhere.
    Request,
    /// The reply to it.
    Reply,
}

impl Packet {
    /// All that may meet a packet filter on a ping's way, with the usual code.
    pub(super) const ALL: [Self; 4] = [
        Self { family: Family::V4, direction: Direction::Request, code: 0 },
        Self { family: Family::V6, direction: Direction::Request, code: 0 },
        Self { family: Family::V4, direction: Direction::Reply, code: 0 },
        Self { family: Family::V6, direction: Direction::Reply, code: 0 },
    ];

    /// ICMP type, as a number and as nftables calls it.
    pub(super) const fn icmp_type(self) -> (u64, &'static str) {
        match (self.direction, self.family) {
            (Direction::Request, Family::V4) => (8, "echo-request"),
            (Direction::Request, Family::V6) => (128, "echo-request"),
            (Direction::Reply, Family::V4) => (0, "echo-reply"),
            (Direction::Reply, Family::V6) => (129, "echo-reply"),
        }
    }

    /// ICMP code, as a number and, of those that have one, as nftables calls it.
    pub(super) const fn icmp_code(self) -> (u64, &'static str) {
        let name = match (self.family, self.code) {
            (Family::V4, 0) => "net-unreachable",
            (Family::V4, 1) => "host-unreachable",
            (Family::V4, 2) => "prot-unreachable",
            (Family::V4, 3) => "port-unreachable",
            (Family::V4, 4) => "frag-needed",
            (Family::V4, 9) => "net-prohibited",
            (Family::V4, 10) => "host-prohibited",
            (Family::V4, 13) => "admin-prohibited",
            (Family::V6, 0) => "no-route",
            (Family::V6, 1) => "admin-prohibited",
            (Family::V6, 3) => "addr-unreachable",
            (Family::V6, 4) => "port-unreachable",
            (Family::V6, 5) => "policy-fail",
            (Family::V6, 6) => "reject-route",
            _ => "",
        };
        (self.code as u64, name)
    }

    /// What connection tracking may call it. A request begins what it calls a connection or belongs to one, a reply belongs to one.
    pub(super) const fn tracked_as(self) -> &'static [&'static str] {
        match self.direction {
            Direction::Request => &["new", "established", "untracked"],
            Direction::Reply => &["established"],
        }
    }

    /// Whether chains at this hook see it. Of what connection tracking calls a connection, address translation asks about the first packet alone.
    pub(super) fn meets(self, hook: &str, is_nat: bool) -> bool {
        let hooks: &[_] = match self.direction {
            Direction::Request => &["ingress", "prerouting", "input"],
            Direction::Reply => &["output", "postrouting", "egress"],
        };
        hooks.contains(&hook) && !(is_nat && self.direction == Direction::Reply)
    }
}

/// How sure it is that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// It does not.
    Never,
    /// It depends on what is not known here, for example on the sender.
    Maybe,
    /// It does.
    Always,
}

impl Match {
    /// Of something that holds for some of the cases there are.
    pub(super) const fn of(matching: usize, cases: usize) -> Self {
        match matching {
            0 => Self::Never,
            _ if matching == cases => Self::Always,
            _ => Self::Maybe,
        }
    }

    /// The opposite condition.
    pub(super) const fn negated(self) -> Self {
        match self {
            Self::Never => Self::Always,
            Self::Maybe => Self::Maybe,
            Self::Always => Self::Never,
        }
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The rest of the base chain is not asked.
    Accept,
    /// The ping ends, or goes elsewhere.
    Refuse,
    /// Another chain is asked, then the next rule.
    Jump(String),
    /// Another chain is asked instead of the rest of this one.
    Goto(String),
    /// The chain that jumped here goes on.
    Return,
}

/// Whether a target of iptables has pings end, or go elsewhere, or their replies come from elsewhere.
pub(super) fn refuses(target: &str) -> bool {
    ["DROP", "REJECT", "DNAT", "NETMAP", "DNPT", "SNPT", "NFQUEUE", "QUEUE", "TARPIT"].contains(&target)
}

/// A rule, as one packet meets it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// As a user would write it.
    pub(super) text: String,
    /// What may become of the packet, and how sure that is.
    pub(super) outcomes: Vec<(Match, Verdict)>,
}

/// A chain, as one packet meets it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Unique among the chains it is walked with, as verdicts name it.
    pub(super) name: String,
    /// As messages call it.
    pub(super) title: String,
    /// The packet meets it by itself, not only from other chains.
    pub(super) hooked: bool,
    /// Only what comes in on certain devices, or goes out there, meets it.
    pub(super) some_devices: bool,
    /// What nothing in it has decided is dropped.
    pub(super) drops: bool,
    /// In their order.
    pub(super) rules: Vec<Rule>,
}

/// Where the packet is refused, or may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    /// The rule or the policy, as a user would write it.
    pub(super) text: String,
    /// Every such packet comes there, and none gets past it.
    pub(super) certain: bool,
}

/// Where the packet may be refused.
pub(super) fn refusals(chains: &[Chain]) -> Vec<Refusal> {
    let mut walk = Walk {
        chains: chains.iter().map(|chain| (chain.name.as_str(), chain)).collect(),
        returns: HashMap::new(),
        certain: true,
        found: Vec::new(),
    };
    for chain in chains.iter().filter(|chain| chain.hooked) {
        // What an earlier chain may have refused does not come here, but is refused all the same.
        walk.certain = !chain.some_devices;
        if walk.may_end(chain) && chain.drops {
            walk.refused(format!("policy drop of {}, where no rule accepts all of them", chain.title));
        }
    }
    walk.found
}

/// A walk through chains, each of which is walked once, however many rules jump to it.
struct Walk<'a> {
    chains: HashMap<&'a str, &'a Chain>,
    /// Of chains that were walked, whether the packet may come to their end. One that is being walked may, so that a jump back to it ends.
    returns: HashMap<&'a str, bool>,
    /// Every packet comes to where the walk is now.
    certain: bool,
    found: Vec<Refusal>,
}

impl<'a> Walk<'a> {
    /// True where the packet may come to the end of the chain.
    fn may_end(&mut self, chain: &'a Chain) -> bool {
        if let Some(returns) = self.returns.get(chain.name.as_str()) {
            return *returns;
        }
        self.returns.insert(&chain.name, true);
        let returns = self.walk(chain);
        self.returns.insert(&chain.name, returns);
        returns
    }

    fn refused(&mut self, text: String) {
        self.found.push(Refusal { text, certain: self.certain });
    }

    fn walk(&mut self, chain: &'a Chain) -> bool {
        for rule in &chain.rules {
            for (how, verdict) in &rule.outcomes {
                // Only some come to what is behind a rule that matches some, and to the chain that it jumps to.
                self.certain &= *how != Match::Maybe;
                let goes_on = match verdict {
                    _ if *how == Match::Never => continue,
                    Verdict::Accept => false,
                    Verdict::Refuse => {
                        self.refused(format!("`{}` in {}", rule.text, chain.title));
                        false
                    }
                    Verdict::Return => {
                        if *how == Match::Always {
                            return true;
                        }
                        continue;
                    }
                    Verdict::Jump(name) | Verdict::Goto(name) => {
                        let target = self.chains.get(name.as_str()).copied();
                        let returns = target.is_none_or(|target| self.may_end(target));
                        if *how == Match::Always && matches!(verdict, Verdict::Goto(_)) {
                            return returns;
                        }
                        returns
                    }
                };
                if *how == Match::Always && !goes_on {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, hooked: bool, drops: bool, outcomes: &[(Match, Verdict)]) -> Chain {
        let rules = outcomes
            .iter()
            .map(|outcome| Rule { text: format!("{outcome:?}"), outcomes: vec![outcome.clone()] });
        let (name, title, some_devices) = (name.to_owned(), format!("chain {name}"), false);
        Chain { name, title, hooked, some_devices, drops, rules: rules.collect() }
    }

    #[test]
    fn what_a_chain_of_some_devices_refuses_is_not_certain() {
        for some_devices in [false, true] {
            let chain = Chain { some_devices, ..chain("c", true, true, &[]) };
            let certain: Vec<_> = refusals(&[chain]).iter().map(|refusal| refusal.certain).collect();
            assert_eq!(certain, [!some_devices]);
        }
    }

    #[test]
    fn what_may_be_refused_is_found_and_what_was_accepted_before_is_not() {
        use Match::{Always, Maybe, Never};
        use Verdict::{Accept, Goto, Jump, Refuse, Return};
        let other = || Jump("other".to_owned());
        for (rules, in_other, refused) in [
            (vec![], vec![], 1),
            (vec![(Always, Accept)], vec![], 0),
            (vec![(Maybe, Accept)], vec![], 1),
            (vec![(Always, Accept), (Always, Refuse)], vec![], 0),
            (vec![(Never, Refuse), (Always, Accept)], vec![], 0),
            (vec![(Maybe, Refuse), (Always, Accept)], vec![], 1),
            (vec![(Always, other()), (Always, Accept)], vec![(Always, Refuse)], 1),
            (vec![(Always, other())], vec![(Always, Accept)], 0),
            (vec![(Maybe, other()), (Always, Accept)], vec![(Always, Return), (Always, Refuse)], 0),
            (vec![(Always, Goto("other".to_owned())), (Always, Accept)], vec![(Maybe, Accept)], 1),
            (vec![(Always, other()), (Always, Accept)], vec![(Always, other())], 0),
        ] {
            let chains = [
                chain("base", true, true, &rules),
                chain("other", false, false, &in_other),
                chain("unhooked", false, true, &[(Always, Refuse)]),
            ];
            assert_eq!(refusals(&chains).len(), refused, "{rules:?} {in_other:?}");
        }
    }

    #[test]
    fn a_refusal_is_certain_where_every_packet_comes_to_it() {
        use Match::{Always, Maybe, Never};
        use Verdict::{Accept, Jump, Refuse};
        let other = || Jump("other".to_owned());
        for (rules, in_other, expected) in [
            (vec![(Always, Refuse)], vec![], vec![true]),
            (vec![(Never, Accept), (Always, Refuse)], vec![], vec![true]),
            (vec![(Maybe, Refuse), (Always, Accept)], vec![], vec![false]),
            (vec![(Maybe, Accept), (Always, Refuse)], vec![], vec![false]),
            (vec![(Always, other())], vec![(Always, Refuse)], vec![true]),
            (vec![(Maybe, other()), (Always, Accept)], vec![(Always, Refuse)], vec![false]),
            (vec![], vec![], vec![true]),
            (vec![(Maybe, Accept)], vec![], vec![false]),
        ] {
            let chains = [chain("base", true, true, &rules), chain("other", false, false, &in_other)];
            let certain: Vec<_> = refusals(&chains).iter().map(|refusal| refusal.certain).collect();
            assert_eq!(certain, expected, "{rules:?} {in_other:?}");
        }
    }

    #[test]
    fn a_chain_is_walked_once_however_many_rules_jump_to_it() {
        use Match::Maybe;
        const DEPTH: usize = 16;
        // Ten jumps from each chain to the next one: 10^16 ways to the last rule.
        let jumps = |to: usize| vec![(Maybe, Verdict::Jump(to.to_string())); 10];
        let mut chains: Vec<_> =
            (0..DEPTH).map(|i| chain(&i.to_string(), i == 0, false, &jumps(i + 1))).collect();
        chains.push(chain(&DEPTH.to_string(), false, false, &[(Maybe, Verdict::Refuse)]));
        assert_eq!(refusals(&chains).len(), 1);
    }
}
