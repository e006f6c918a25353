//! Rules: as they are meant, and as the program reads them.
//!
//! Owns the translation in both directions: what is shown, changed and compared is taken back out of the maps, which are the only
//! truth about what is in force. The compiled form and its matching are icmp-common's, the file's shape is `config.rs`'s.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use anyhow::{Result, bail};
use icmp_common::abi::Settings;
use icmp_common::limiter::Limit;
use icmp_common::policy::{Action, TYPE_ENTRIES, type_index};
use icmp_common::prefixes::{PREFIX_VALUES, PrefixKind};
use icmp_common::rules::{
    self, CODE_BLOCKS, LENGTHS, MAX_RULES, NAME_LEN, ROUTERS, RULE_SLOTS, RULES_FROM4, RULES_FROM6,
    RULES_HOP_LIMIT, RULES_LENGTH, RULES_TO4, RULES_TO6, RULES_VLAN, Rules, TypeRules, VLANS,
};
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::instance::prefixes::{Buckets, NOTHING};
use crate::policy::settings::Tick;
use crate::policy::types::{TypeName, type_text};

/// A whole policy as the program reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Limits, responder, types and checks. Which bank the rules are in is filled in when they are written.
    pub settings: Settings,
    /// The rules.
    pub rules: Box<Rules>,
    /// Prefixes of rules and VIPs, in no order.
    pub prefixes: Vec<Prefix>,
    /// The same as the program finds them.
    pub buckets: Buckets,
}

/// A prefix in the prefix maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// What it is for.
    pub kind: PrefixKind,
    /// The prefix.
    pub net: IpNet,
    /// The rules, one bit each; 1 for a VIP.
    pub value: u64,
}

/// A rule as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Families it is about.
    pub families: Vec<Family>,
    /// Sources; empty is any.
    pub from: Vec<IpNet>,
    /// Destinations; empty is any.
    pub to: Vec<IpNet>,
    /// Types; empty is any.
    pub types: Vec<TypeName>,
    /// VLAN identifiers, 0 for untagged; empty is any.
    pub vlans: Vec<u16>,
    /// Bytes of the ICMP message.
    pub length: RangeInclusive<u16>,
    /// TTL or hop limit.
    pub hop_limit: RangeInclusive<u8>,
    /// What it does.
    pub action: Action,
    /// Its own limit.
    pub limit: Limit,
    /// It only counts what it would do.
    pub audit: bool,
}

/// Lengths as a rule has them where it does not say.
pub const ANY_LENGTH: RangeInclusive<u16> = 0..=u16::MAX;
/// The longest length that a rule can tell from a longer one.
pub const MAX_LENGTH: u16 = LENGTHS as u16 - 2;
/// Hop limits as a rule has them where it does not say.
pub const ANY_HOP_LIMIT: RangeInclusive<u8> = 0..=u8::MAX;

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
        rules: [rules::Rule::default(); MAX_RULES],
        names: [[0; NAME_LEN]; MAX_RULES],
        routers: [[0; 2]; ROUTERS],
        search: NOTHING,
        prefix_values: [0; PREFIX_VALUES],
    })
}

/// Translates rules and their prefixes. Slots are given by [`assign_slots`] when they are written.
///
/// # Errors
/// There are more rules, or types with rules for single codes, than the program has room for.
pub fn compile(rules: &[Rule]) -> Result<(Box<Rules>, Vec<Prefix>)> {
    if rules.len() > MAX_RULES {
        bail!(
            "there are {} rules, and room for {MAX_RULES}; rules that do the same can share one",
            rules.len()
        );
    }
    let mut compiled = no_rules();
    compiled.count = rules.len() as u32;
    for (i, rule) in rules.iter().enumerate() {
        let bit = 1 << i;
        if rule.audit {
            compiled.audited |= bit;
        }
        if rule.from.is_empty() {
            compiled.any_source |= bit;
        }
        if rule.to.is_empty() {
            compiled.any_destination |= bit;
        }
        for (value, rules) in compiled.hop_limits.iter_mut().enumerate() {
            *rules |= if rule.hop_limit.contains(&(value as u8)) { bit } else { 0 };
        }
        for (value, rules) in compiled.lengths.iter_mut().enumerate() {
            // The last place stands for every longer message too.
            let value = if value == LENGTHS - 1 { u16::MAX } else { value as u16 };
            *rules |= if rule.length.contains(&value) { bit } else { 0 };
        }
        for (value, rules) in compiled.vlans.iter_mut().enumerate() {
            *rules |= if rule.vlans.is_empty() || rule.vlans.contains(&(value as u16)) { bit } else { 0 };
        }
        compiled.rules[i] = rules::Rule { limit: rule.limit, action: rule.action as u32, slot: 0 };
        compiled.names[i][..rule.name.len()].copy_from_slice(rule.name.as_bytes());
        add_condition(&mut compiled, rule);
    }
    add_types(&mut compiled, rules)?;
    let mut prefixes = Vec::new();
    for (kind, of) in [
        (PrefixKind::From, (|rule| &rule.from) as fn(&Rule) -> &Vec<IpNet>),
        (PrefixKind::To, |rule| &rule.to),
    ] {
        let mut own: BTreeMap<IpNet, u64> = BTreeMap::new();
        for (i, rule) in rules.iter().enumerate() {
            for net in of(rule) {
                *own.entry(net.trunc()).or_default() |= 1 << i;
            }
        }
        prefixes.extend(with_ancestors(&own).map(|(net, _, value)| Prefix { kind, net, value }));
    }
    Ok((compiled, prefixes))
}

fn add_condition(compiled: &mut Rules, rule: &Rule) {
    for (nets, v4, v6) in [(&rule.from, RULES_FROM4, RULES_FROM6), (&rule.to, RULES_TO4, RULES_TO6)] {
        for net in nets {
            compiled.conditions |= if net.addr().is_ipv4() { v4 } else { v6 };
        }
    }
    for (asked, flag) in [
        (rule.hop_limit != ANY_HOP_LIMIT, RULES_HOP_LIMIT),
        (rule.length != ANY_LENGTH, RULES_LENGTH),
        (!rule.vlans.is_empty(), RULES_VLAN),
    ] {
        compiled.conditions |= if asked { flag } else { 0 };
    }
}

fn add_types(compiled: &mut Rules, rules: &[Rule]) -> Result<()> {
    let mut blocks = 0;
    for family in [Family::V4, Family::V6] {
        for icmp_type in 0..=u8::MAX {
            let of_family = || rules.iter().enumerate().filter(|(_, rule)| rule.families.contains(&family));
            let mut with_any_code = 0;
            let mut with_codes = false;
            for (i, rule) in of_family() {
                let mut named =
                    rule.types.iter().filter(|name| name.contains_type(family, icmp_type)).peekable();
                if rule.types.is_empty() || named.peek().is_some_and(|name| name.code.is_none()) {
                    with_any_code |= 1 << i;
                }
                with_codes |= named.any(|name| name.code.is_some());
            }
            let entry = &mut compiled.types[type_index(family, icmp_type)];
            if !with_codes {
                entry.rules = with_any_code;
                continue;
            }
            let mut by_code = [0_u64; 256];
            for (i, rule) in of_family() {
                for (code, rules) in by_code.iter_mut().enumerate() {
                    let named = |name: &TypeName| name.contains(family, icmp_type, code as u8);
                    *rules |= if rule.types.is_empty() || rule.types.iter().any(named) { 1 << i } else { 0 };
                }
            }
            if blocks == CODE_BLOCKS {
                bail!(
                    "more than {CODE_BLOCKS} types have rules for single codes, {} the last of them; name some of the types without \
                     a code",
                    type_text(family, icmp_type, None)
                );
            }
            compiled.codes[blocks] = by_code;
            blocks += 1;
            entry.block = blocks as u32;
        }
    }
    Ok(())
}

/// Each prefix with the rules that name it and those that name one around it; the third is their union.
fn with_ancestors(own: &BTreeMap<IpNet, u64>) -> impl Iterator<Item = (IpNet, u64, u64)> {
    // A prefix is ordered before all that it contains.
    let mut around: Vec<(IpNet, u64)> = Vec::new();
    own.iter().map(move |(net, rules)| {
        while around.last().is_some_and(|(outer, _)| !outer.contains(net)) {
            around.pop();
        }
        let inherited = around.last().map_or(0, |(_, rules)| *rules);
        around.push((*net, rules | inherited));
        (*net, *rules, rules | inherited)
    })
}

/// Gives each rule its place among tallies and cells: that of the old rule of its name, or one that no old rule has. Returns the
/// places that are new, whose tallies and cells have to be cleared.
pub fn assign_slots(new: &mut Rules, old: Option<&Rules>) -> Vec<u32> {
    let old: Vec<_> = old
        .map(|old| (0..old.count as usize).map(|i| (old.names[i], old.rules[i].slot)).collect())
        .unwrap_or_default();
    let mut free = (0..RULE_SLOTS as u32).filter(|slot| old.iter().all(|(_, taken)| taken != slot));
    let mut fresh = Vec::new();
    for i in 0..new.count as usize {
        new.rules[i].slot = match old.iter().find(|(name, _)| *name == new.names[i]) {
            Some((_, slot)) => *slot,
            None => {
                // Twice as many slots as rules: those of the old policy and as many more.
                let slot = free.next().unwrap_or_default();
                fresh.push(slot);
                slot
            }
        };
    }
    fresh
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

    /// The VIP prefixes.
    pub fn vips(&self) -> Vec<IpNet> {
        let mut vips: Vec<_> =
            self.prefixes.iter().filter(|prefix| prefix.kind == PrefixKind::Vip).map(|vip| vip.net).collect();
        vips.sort();
        vips
    }

    /// The rules as they were meant; a prefix that lies in another one of the same rule is left out.
    pub fn rules(&self) -> Vec<Rule> {
        let from = self.nets_by_rule(PrefixKind::From);
        let to = self.nets_by_rule(PrefixKind::To);
        (0..self.rules.count as usize).map(|i| self.rule(i, &from[i], &to[i])).collect()
    }

    fn nets_by_rule(&self, kind: PrefixKind) -> Vec<Vec<IpNet>> {
        let values: BTreeMap<IpNet, u64> = self
            .prefixes
            .iter()
            .filter(|prefix| prefix.kind == kind)
            .map(|prefix| (prefix.net, prefix.value))
            .collect();
        let mut nets = vec![Vec::new(); MAX_RULES];
        let mut around: Vec<(IpNet, u64)> = Vec::new();
        for (net, value) in values {
            while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
                around.pop();
            }
            let mut own = value & !around.last().map_or(0, |(_, rules)| *rules);
            around.push((net, value));
            while own != 0 {
                nets[own.trailing_zeros() as usize].push(net);
                own &= own - 1;
            }
        }
        nets
    }

    fn rule(&self, i: usize, from: &[IpNet], to: &[IpNet]) -> Rule {
        let bit = 1_u64 << i;
        let has = |rules: &u64| rules & bit != 0;
        let span = |rules: &[u64]| {
            let first = rules.iter().position(has).unwrap_or(0);
            first..=rules.iter().rposition(has).unwrap_or(0)
        };
        let length = span(&self.rules.lengths);
        let longest = if *length.end() == LENGTHS - 1 { u16::MAX } else { *length.end() as u16 };
        let hop_limit = span(&self.rules.hop_limits);
        let vlans: Vec<u16> =
            (0..VLANS as u16).filter(|vlan| has(&self.rules.vlans[usize::from(*vlan)])).collect();
        let (families, types) = self.types_of(bit);
        let compiled = &self.rules.rules[i];
        Rule {
            name: name_text(&self.rules.names[i]),
            families,
            from: from.to_vec(),
            to: to.to_vec(),
            types,
            vlans: if vlans.len() == VLANS { Vec::new() } else { vlans },
            length: *length.start() as u16..=longest,
            hop_limit: *hop_limit.start() as u8..=*hop_limit.end() as u8,
            action: action_of(compiled.action),
            limit: compiled.limit,
            audit: self.rules.audited & bit != 0,
        }
    }

    /// Families and types of the rule with this bit; no types where it has all of its families.
    fn types_of(&self, bit: u64) -> (Vec<Family>, Vec<TypeName>) {
        let mut families = Vec::new();
        let mut types: Vec<TypeName> = Vec::new();
        let mut all = true;
        for family in [Family::V4, Family::V6] {
            let before = types.len();
            for icmp_type in 0..=u8::MAX {
                let entry = &self.rules.types[type_index(family, icmp_type)];
                let codes: Vec<u8> = match entry.block {
                    0 => Vec::new(),
                    block => {
                        let codes = &self.rules.codes[block as usize - 1];
                        (0..=u8::MAX).filter(|code| codes[usize::from(*code)] & bit != 0).collect()
                    }
                };
                if entry.block == 0 && entry.rules & bit != 0 || codes.len() == 256 {
                    match types.last_mut() {
                        Some(last)
                            if last.family == family
                                && last.code.is_none()
                                && u16::from(last.last) + 1 == u16::from(icmp_type) =>
                        {
                            last.last = icmp_type;
                        }
                        _ => types.push(TypeName { family, first: icmp_type, last: icmp_type, code: None }),
                    }
                } else {
                    types.extend(codes.into_iter().map(|code| TypeName {
                        family,
                        first: icmp_type,
                        last: icmp_type,
                        code: Some(code),
                    }));
                }
            }
            match &types[before..] {
                [] => {}
                [TypeName { first: 0, last: 255, .. }] => families.push(family),
                _ => {
                    families.push(family);
                    all = false;
                }
            }
        }
        (families, if all { Vec::new() } else { types })
    }

    /// Puts other rules in the place of these.
    ///
    /// # Errors
    /// As [`compile`] and [`Self::new`].
    pub fn with_rules(&self, rules: &[Rule]) -> Result<Self> {
        let (mut compiled, mut prefixes) = compile(rules)?;
        compiled.routers = self.rules.routers;
        prefixes.extend(self.prefixes.iter().filter(|prefix| prefix.kind == PrefixKind::Vip));
        let mut settings = self.settings;
        settings.flags &= !icmp_common::abi::SETTINGS_RULES;
        if !rules.is_empty() {
            settings.flags |= icmp_common::abi::SETTINGS_RULES;
        }
        Self::new(settings, compiled, prefixes)
    }
}

/// The action that a number in a map stands for; one that nothing is written for passes, as in the program.
pub fn action_of(number: u32) -> Action {
    [Action::Answer, Action::Limit, Action::Drop]
        .into_iter()
        .find(|action| *action as u32 == number)
        .unwrap_or(Action::Pass)
}

/// A name as it is in the map.
pub fn name_text(name: &[u8; NAME_LEN]) -> String {
    String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()
}

/// Prefixes shown one by one; of more than these the number is shown.
const FEW: usize = 4;

impl Rule {
    /// What it asks of a message, as text.
    pub fn conditions(&self) -> String {
        let mut text = String::new();
        for (what, nets) in [("from", &self.from), ("to", &self.to)] {
            match nets.len() {
                0 => {}
                1..=FEW => {
                    let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
                    let _ = write!(text, "{what} {} ", nets.join(","));
                }
                many => {
                    let _ = write!(text, "{what} {many} prefixes ");
                }
            }
        }
        if let [family] = self.families[..]
            && self.types.is_empty()
        {
            let _ = write!(text, "family {} ", family.name());
        }
        if !self.types.is_empty() {
            let mut names: Vec<_> = self.types.iter().map(TypeName::to_string).collect();
            names.dedup();
            let _ = write!(text, "type {} ", names.join(","));
        }
        if !self.vlans.is_empty() {
            let vlans: Vec<_> = self.vlans.iter().map(ToString::to_string).collect();
            let _ = write!(text, "vlan {} ", vlans.join(","));
        }
        if self.length != ANY_LENGTH {
            let _ = write!(text, "length {} ", range_text(self.length.start(), self.length.end(), &u16::MAX));
        }
        if self.hop_limit != ANY_HOP_LIMIT {
            let _ = write!(
                text,
                "hop-limit {} ",
                range_text(self.hop_limit.start(), self.hop_limit.end(), &u8::MAX)
            );
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// The whole rule in a line.
    pub fn text(&self, tick: Tick) -> String {
        let mut text = format!("{}: {} -> {}", self.name, self.conditions(), self.action.name());
        if !self.limit.is_unlimited() {
            let (rate, burst) = tick.rate_and_burst(&self.limit);
            let _ = write!(text, " limit {rate} burst {burst}");
        }
        if self.audit {
            text.push_str(" (audit)");
        }
        text
    }

    /// True where every message that `other` matches is matched by this rule too.
    pub fn covers(&self, other: &Self) -> bool {
        let nets = |ours: &[IpNet], theirs: &[IpNet]| {
            ours.is_empty()
                || !theirs.is_empty() && theirs.iter().all(|net| ours.iter().any(|ours| ours.contains(net)))
        };
        let types = self.types.is_empty()
            || !other.types.is_empty()
                && other.types.iter().all(|theirs| self.types.iter().any(|ours| ours.covers(theirs)));
        let vlans = self.vlans.is_empty()
            || !other.vlans.is_empty() && other.vlans.iter().all(|vlan| self.vlans.contains(vlan));
        types
            && vlans
            && other.families.iter().all(|family| self.families.contains(family))
            && self.length.start() <= other.length.start()
            && self.length.end() >= other.length.end()
            && self.hop_limit.start() <= other.hop_limit.start()
            && self.hop_limit.end() >= other.hop_limit.end()
            && self.is_comparable(other)
            && nets(&self.from, &other.from)
            && nets(&self.to, &other.to)
    }

    /// True where some message is matched by both rules.
    pub fn overlaps(&self, other: &Self) -> bool {
        let nets = |ours: &[IpNet], theirs: &[IpNet]| {
            let meet = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
            ours.is_empty() || theirs.is_empty() || ours.iter().any(|a| theirs.iter().any(|b| meet(a, b)))
        };
        let types = self.types.is_empty()
            || other.types.is_empty()
            || self.types.iter().any(|ours| other.types.iter().any(|theirs| ours.overlaps(theirs)));
        let vlans = self.vlans.is_empty()
            || other.vlans.is_empty()
            || self.vlans.iter().any(|vlan| other.vlans.contains(vlan));
        types
            && vlans
            && self.families.iter().any(|family| other.families.contains(family))
            && self.length.start() <= other.length.end()
            && self.length.end() >= other.length.start()
            && self.hop_limit.start() <= other.hop_limit.end()
            && self.hop_limit.end() >= other.hop_limit.start()
            && self.is_comparable(other)
            && nets(&self.from, &other.from)
            && nets(&self.to, &other.to)
    }

    /// Comparing every pair of long lists would take longer than anybody waits for a warning.
    fn is_comparable(&self, other: &Self) -> bool {
        self.from.len().saturating_mul(other.from.len()) <= 1_000_000
    }
}

fn range_text<T: PartialEq + std::fmt::Display>(first: &T, last: &T, open: &T) -> String {
    if first == last {
        first.to_string()
    } else if last == open {
        format!("{first}-")
    } else {
        format!("{first}-{last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            families: vec![Family::V4, Family::V6],
            from: Vec::new(),
            to: Vec::new(),
            types: Vec::new(),
            vlans: Vec::new(),
            length: ANY_LENGTH,
            hop_limit: ANY_HOP_LIMIT,
            action: Action::Drop,
            limit: Limit::UNLIMITED,
            audit: false,
        }
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn what_is_compiled_is_read_back_as_it_was_meant() {
        let settings = crate::policy::settings::compile(
            &crate::config::file::Config::default(),
            Tick { per_second: 250.0 },
            crate::policy::settings::HostDefaults { ttl: 64, hop_limit: 64 },
            1,
        )
        .expect("the defaults");
        let unreachable = TypeName { family: Family::V4, first: 3, last: 3, code: Some(1) };
        let pings = TypeName { family: Family::V4, first: 8, last: 8, code: None };
        let meant = vec![
            Rule { from: vec![net("10.0.0.0/8"), net("2001:db8::/32")], audit: true, ..rule("a") },
            Rule {
                from: vec![net("10.1.0.0/16")],
                to: vec![net("192.0.2.2/32")],
                length: 8..=100,
                ..rule("b")
            },
            Rule {
                families: vec![Family::V4],
                types: vec![unreachable, pings],
                vlans: vec![0, 100],
                ..rule("c")
            },
            Rule { families: vec![Family::V6], hop_limit: 255..=255, action: Action::Pass, ..rule("d") },
            Rule { length: 1000..=u16::MAX, ..rule("e") },
        ];
        let (rules, prefixes) = compile(&meant).expect("few rules");
        assert_eq!(Compiled::new(settings, rules, prefixes).expect("few prefixes").rules(), meant);
    }

    #[test]
    fn a_rule_keeps_its_slot_when_others_come_and_go() {
        let names = |names: &[&str]| {
            compile(&names.iter().map(|name| rule(name)).collect::<Vec<_>>()).expect("few").0
        };
        let mut old = names(&["a", "b", "c"]);
        assert_eq!(assign_slots(&mut old, None), [0, 1, 2]);
        let mut new = names(&["x", "c", "y", "a"]);
        assert_eq!(assign_slots(&mut new, Some(&old)), [3, 4], "b's slot is still in use");
        let slots: Vec<_> = new.rules[..4].iter().map(|rule| rule.slot).collect();
        assert_eq!(slots, [3, 2, 4, 0]);
    }

    #[test]
    fn a_full_policy_can_be_replaced_by_another_full_one() {
        let names = |prefix: &str| {
            compile(&(0..MAX_RULES).map(|i| rule(&format!("{prefix}{i}"))).collect::<Vec<_>>())
                .expect("as many as fit")
                .0
        };
        let (mut old, mut new) = (names("old"), names("new"));
        assign_slots(&mut old, None);
        let fresh = assign_slots(&mut new, Some(&old));
        assert_eq!(fresh.len(), MAX_RULES);
        assert!(fresh.iter().all(|slot| old.rules.iter().all(|rule| rule.slot != *slot)));
        assert!(compile(&vec![rule("x"); MAX_RULES + 1]).is_err());
    }

    #[test]
    fn a_prefix_inherits_the_rules_of_those_around_it() {
        let own =
            [("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.2.0/24", 4), ("10.2.0.0/16", 8), ("::/0", 1)]
                .map(|(text, rules)| (net(text), rules));
        let all: Vec<_> = with_ancestors(&own.into_iter().collect()).map(|(_, _, rules)| rules).collect();
        assert_eq!(all, [1, 1 | 2, 1 | 2 | 4, 1 | 8, 1]);
    }

    #[test]
    fn a_rule_covers_what_it_is_wider_than() {
        let wide = Rule { from: vec![net("10.0.0.0/8")], ..rule("wide") };
        let narrow = Rule { from: vec![net("10.1.0.0/16")], vlans: vec![7], ..rule("narrow") };
        assert!(wide.covers(&narrow) && rule("any").covers(&wide));
        assert!(!narrow.covers(&wide) && !wide.covers(&rule("any")));
    }

    #[test]
    fn rules_overlap_where_a_message_can_match_both() {
        let from = Rule { from: vec![net("10.0.0.0/8")], ..rule("from") };
        let to = Rule { to: vec![net("192.0.2.1/32")], ..rule("to") };
        assert!(from.overlaps(&to) && to.overlaps(&from) && !from.covers(&to) && !to.covers(&from));
        let inside = Rule { from: vec![net("10.1.0.0/16")], ..rule("inside") };
        let beside = Rule { from: vec![net("11.0.0.0/8")], ..rule("beside") };
        assert!(inside.overlaps(&from) && from.overlaps(&inside) && !beside.overlaps(&from));
        let vlan = |id| Rule { vlans: vec![id], ..rule("vlan") };
        assert!(vlan(7).overlaps(&from) && vlan(7).overlaps(&vlan(7)) && !vlan(7).overlaps(&vlan(8)));
        let short = Rule { length: 0..=64, ..rule("short") };
        let long = Rule { length: 65..=4095, ..rule("long") };
        assert!(short.overlaps(&from) && !short.overlaps(&long));
    }
}
