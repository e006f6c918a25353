//! A whole policy as the program reads it.
//!
//! Owns which parts are put in force together, and the slot of each rule's counter. `policy` owns their meaning.

use anyhow::Result;
use icmp_common::abi::Settings;
use icmp_common::abi::{
    CODE_BLOCKS, GATES, Gate, LENGTHS, MAX_RULES, NAME_LEN, PREFIX_VALUES, PrefixKind, ROUTERS, RULE_SLOTS,
    Rule, Rules, TYPE_ENTRIES, TypeRules, VLANS,
};
use ipnet::IpNet;

use crate::instance::prefixes::{Buckets, NOTHING, Prefix, gate_value};

/// Addresses that are answered although the host does not own them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The prefix.
    pub net: IpNet,
    /// Its check; `None` where it is answered always.
    pub gate: Option<Gate>,
}

/// A whole policy as the program reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Limits, responder, types and checks. Which buffer the rules are in is filled in when they are written.
    pub settings: Settings,
    /// The rules.
    pub rules: Box<Rules>,
    /// Prefixes of rules and VIPs, in no order.
    pub prefixes: Vec<Prefix>,
    /// The same as the program finds them.
    pub buckets: Buckets,
}

impl Compiled {
    /// A policy of these parts, its prefixes laid out.
    ///
    /// # Errors
    /// As [`Buckets::fill`].
    pub fn new(settings: Settings, mut rules: Box<Rules>, prefixes: Vec<Prefix>) -> Result<Self> {
        let buckets = Buckets::fill(&mut rules, &prefixes)?;
        Ok(Self { settings, rules, prefixes, buckets })
    }

    /// The VIPs, by their prefixes.
    pub fn vips(&self) -> Vec<Vip> {
        let prefixes = self.prefixes.iter().filter(|prefix| prefix.kind == PrefixKind::Vip);
        let gate =
            |value| (0..GATES).find(|gate| gate_value(*gate) == value).map(|gate| self.rules.gates[gate]);
        let mut vips: Vec<_> =
            prefixes.map(|prefix| Vip { net: prefix.net, gate: gate(prefix.value) }).collect();
        vips.sort_by_key(|vip| vip.net);
        vips
    }

    /// The prefixes of VIPs that have a check.
    pub fn gated(&self) -> Vec<IpNet> {
        self.vips().iter().filter(|vip| vip.gate.is_some()).map(|vip| vip.net).collect()
    }
}

/// No rules, and nothing else either.
pub fn no_rules() -> Box<Rules> {
    Box::new(Rules {
        conditions: 0,
        count: 0,
        audited: 0,
        any_source: 0,
        any_destination: 0,
        types: [TypeRules::default(); TYPE_ENTRIES],
        codes: [[0; 256]; CODE_BLOCKS],
        hop_limits: [0; 256],
        lengths: [0; LENGTHS],
        vlans: [0; VLANS],
        rules: [Rule::default(); MAX_RULES],
        names: [[0; NAME_LEN]; MAX_RULES],
        routers: [[0; 2]; ROUTERS],
        search: NOTHING,
        prefix_values: [0; PREFIX_VALUES],
        gates: [Gate::NONE; GATES],
    })
}

/// Gives each rule its place among rule counters and buckets: that of the rule of its name in one of the old policies, the first of which comes
/// first, or one that nothing has that is kept. Returns the places that are new, whose rule counters and buckets have to be cleared.
pub fn assign_slots<'a>(new: &mut Rules, old: impl IntoIterator<Item = &'a Rules>) -> Vec<u32> {
    let mut old = old.into_iter();
    let slots = |rules: &Rules| -> Vec<_> {
        (0..rules.count as usize).map(|i| (rules.names[i], rules.rules[i].slot)).collect()
    };
    // The first may come back, with all of its counters; of the others only what goes on is kept.
    let mut known = old.next().map(slots).unwrap_or_default();
    for (name, slot) in old.flat_map(slots) {
        let goes_on = new.names[..new.count as usize].contains(&name);
        if goes_on && known.iter().all(|(other, taken)| *other != name && *taken != slot) {
            known.push((name, slot));
        }
    }
    // Twice as many slots as rules: those of the policy that may come back and as many more.
    let mut free = (0..RULE_SLOTS as u32).filter(|slot| known.iter().all(|(_, taken)| taken != slot));
    let mut fresh = Vec::new();
    for i in 0..new.count as usize {
        new.rules[i].slot = match known.iter().find(|(name, _)| *name == new.names[i]) {
            Some((_, slot)) => *slot,
            None => {
                let slot = free.next().unwrap_or_default();
                fresh.push(slot);
                slot
            }
        };
    }
    fresh
}

/// A name as it is in the map.
pub fn name_text(name: &[u8; NAME_LEN]) -> String {
    String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: impl IntoIterator<Item = String>) -> Box<Rules> {
        let mut rules = no_rules();
        for name in names {
            rules.names[rules.count as usize][..name.len()].copy_from_slice(name.as_bytes());
            rules.count += 1;
        }
        rules
    }

    #[test]
    fn a_rule_keeps_its_slot_when_others_come_and_go() {
        let names = |names: &[&str]| named(names.iter().map(|name| (*name).to_owned()));
        let mut old = names(&["a", "b", "c"]);
        assert_eq!(assign_slots(&mut old, []), [0, 1, 2]);
        let mut new = names(&["x", "c", "y", "a"]);
        assert_eq!(assign_slots(&mut new, [&*old]), [3, 4], "b's slot is still in use");
        let slots: Vec<_> = new.rules[..4].iter().map(|rule| rule.slot).collect();
        assert_eq!(slots, [3, 2, 4, 0]);
    }

    #[test]
    fn a_rule_of_a_replaced_policy_keeps_its_slot_and_takes_none_of_the_policy_that_may_come_back() {
        let names = |names: &[&str]| named(names.iter().map(|name| (*name).to_owned()));
        let (mut confirmed, mut pending) = (names(&["a", "b"]), names(&["c", "d"]));
        assign_slots(&mut confirmed, []);
        assert_eq!(assign_slots(&mut pending, [&*confirmed]), [2, 3]);
        let mut next = names(&["e", "d", "a"]);
        assert_eq!(
            assign_slots(&mut next, [&*confirmed, &*pending]),
            [2],
            "c is gone, and e takes its place"
        );
        let slots: Vec<_> = next.rules[..3].iter().map(|rule| rule.slot).collect();
        assert_eq!(slots, [2, 3, 0]);
    }

    #[test]
    fn a_full_policy_can_be_replaced_by_another_full_one() {
        let names = |prefix: &str| named((0..MAX_RULES).map(|i| format!("{prefix}{i}")));
        let (mut old, mut new) = (names("old"), names("new"));
        assign_slots(&mut old, []);
        let fresh = assign_slots(&mut new, [&*old]);
        assert_eq!(fresh.len(), MAX_RULES);
        assert!(fresh.iter().all(|slot| old.rules.iter().all(|rule| rule.slot != *slot)));
    }
}
