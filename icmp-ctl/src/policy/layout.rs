//! Rules as the program reads them, and back. The maps are the only truth about what is in force, so rules are shown, changed and compared from
//! there.
//!
//! Owns the translation in both directions. icmp-common owns the layout and its matching.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use icmp_common::abi::{
    CODE_BLOCKS, GATES, LENGTHS, MAX_RULES, PrefixKind, ROUTERS, RULES_FROM4, RULES_FROM6, RULES_HOP_LIMIT,
    RULES_LENGTH, RULES_TO4, RULES_TO6, RULES_VLAN, Rules, SETTINGS_RULES, SETTINGS_VIPS, Settings, VLANS,
    type_index,
};
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::instance::compiled::{Compiled, Vip, name_text, no_rules};
use crate::instance::prefixes::{ALWAYS, Prefix, gate_value};
use crate::kernel::clock::Tick;
use crate::policy::limits::derive;
use crate::policy::rules::{ANY_HOP_LIMIT, ANY_LENGTH, Rule};
use crate::policy::types::{TypeName, action_of, type_text};

/// Translates rules and their prefixes. Slots are given by [`crate::instance::compiled::assign_slots`] when they are written.
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
        if rule.from.is_none() {
            compiled.any_source |= bit;
        }
        if rule.to.is_none() {
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
        compiled.rules[i] = icmp_common::abi::Rule { limit: rule.limit, action: rule.action as u32, slot: 0 };
        compiled.names[i][..rule.name.len()].copy_from_slice(rule.name.as_bytes());
        add_condition(&mut compiled, rule);
    }
    add_types(&mut compiled, rules)?;
    let mut prefixes = Vec::new();
    for (kind, of) in [
        (PrefixKind::From, (|rule| &rule.from) as fn(&Rule) -> &Option<Vec<IpNet>>),
        (PrefixKind::To, |rule| &rule.to),
    ] {
        let mut own: BTreeMap<IpNet, u64> = BTreeMap::new();
        for (i, rule) in rules.iter().enumerate() {
            for net in of(rule).iter().flatten() {
                *own.entry(net.trunc()).or_default() |= 1 << i;
            }
        }
        prefixes.extend(with_ancestors(&own).map(|(net, _, value)| Prefix { kind, net, value }));
    }
    Ok((compiled, prefixes))
}

fn add_condition(compiled: &mut Rules, rule: &Rule) {
    for (nets, v4, v6) in [(&rule.from, RULES_FROM4, RULES_FROM6), (&rule.to, RULES_TO4, RULES_TO6)] {
        for net in nets.iter().flatten() {
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

impl Compiled {
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
        let list = |any: u64, nets: &[IpNet]| if has(&any) { None } else { Some(nets.to_vec()) };
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
            from: list(self.rules.any_source, from),
            to: list(self.rules.any_destination, to),
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

    /// True where both mean the same, wherever their rules count.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let settings = |policy: &Self| Settings { rules: 0, ..policy.settings };
        settings(self) == settings(other)
            && self.rules.routers == other.rules.routers
            && self.vips() == other.vips()
            && self.rules() == other.rules()
    }

    /// The same with other settings and rules; routers and VIPs stay.
    ///
    /// # Errors
    /// As [`compile`] and [`assemble`].
    pub fn with(&self, settings: Settings, rules: &[Rule], tick: Tick, cpus: u32) -> Result<Self> {
        if rules == self.rules() {
            return Ok(Self { settings: completed(settings, self, tick, cpus), ..self.clone() });
        }
        assemble(settings, compile(rules)?, self.rules.routers, &self.vips(), tick, cpus)
    }
}

/// A whole policy of its parts: limits and types, rules as [`compile`] has made them, routers as big-endian halves, and VIP prefixes.
///
/// # Errors
/// There are more prefixes than the program has room for.
pub fn assemble(
    settings: Settings,
    (mut rules, mut prefixes): (Box<Rules>, Vec<Prefix>),
    routers: [[u64; 2]; ROUTERS],
    vips: &[Vip],
    tick: Tick,
    cpus: u32,
) -> Result<Compiled> {
    rules.routers = routers;
    let mut gates = rules.gates.iter_mut().enumerate();
    for Vip { net, gate } in vips {
        let value = match (gate, gate.and_then(|_| gates.next())) {
            (None, _) => ALWAYS,
            (Some(gate), Some((number, place))) => {
                *place = *gate;
                gate_value(number)
            }
            (Some(_), None) => bail!("there is room for {GATES} VIPs with a check, and there are more"),
        };
        prefixes.push(Prefix { kind: PrefixKind::Vip, net: *net, value });
    }
    let policy = Compiled::new(settings, rules, prefixes)?;
    Ok(Compiled { settings: completed(settings, &policy, tick, cpus), ..policy })
}

/// Settings with everything filled in that follows from them and from the rules and prefixes beside them.
fn completed(mut settings: Settings, beside: &Compiled, tick: Tick, cpus: u32) -> Settings {
    settings.flags &= !(SETTINGS_RULES | SETTINGS_VIPS);
    if beside.rules.count != 0 {
        settings.flags |= SETTINGS_RULES;
    }
    if beside.prefixes.iter().any(|prefix| prefix.kind == PrefixKind::Vip) {
        settings.flags |= SETTINGS_VIPS;
    }
    derive(&mut settings, tick, cpus);
    settings
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::config::file::Config;
    use crate::host::defaults::HostDefaults;
    use crate::policy::compile::compile_policy;
    use crate::policy::limits::LimitName;
    use crate::policy::rules::tests::{net, rule};
    use icmp_common::types::Action;

    #[test]
    fn what_is_compiled_is_read_back_as_it_was_meant() {
        let tick = Tick { per_second: 250.0 };
        let default = compile_policy(&Config::default(), tick, HostDefaults { ttl: 64, hop_limit: 64 }, 1)
            .expect("the defaults");
        let unreachable = TypeName { family: Family::V4, first: 3, last: 3, code: Some(1) };
        let pings = TypeName { family: Family::V4, first: 8, last: 8, code: None };
        let meant = vec![
            Rule { from: Some(vec![net("10.0.0.0/8"), net("2001:db8::/32")]), audit: true, ..rule("a") },
            Rule {
                from: Some(vec![net("10.1.0.0/16")]),
                to: Some(vec![net("192.0.2.2/32")]),
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
            Rule { from: Some(Vec::new()), ..rule("nobody") },
        ];
        assert_eq!(default.with(default.settings, &meant, tick, 1).expect("few rules").rules(), meant);
    }

    #[test]
    fn settings_changed_one_at_a_time_are_those_of_a_file_that_says_the_same() {
        let tick = Tick { per_second: 250.0 };
        let of_file = |text: &str| {
            let config = Config::parse(text, "x").expect("a configuration");
            compile_policy(&config, tick, HostDefaults { ttl: 64, hop_limit: 64 }, 3).expect("it can be")
        };
        let large = "rate = \"50M/s\", burst = 10000000";
        for name in LimitName::settable().map(LimitName::name) {
            let before = of_file(&format!("[limits]\n{name} = {{ {large} }}\n"));
            for (rate, burst) in [("100/s", 4), ("0", 0), ("unlimited", 0), ("1M/s", 100_000)] {
                let written =
                    of_file(&format!("[limits]\n{name} = {{ rate = {rate:?}, burst = {burst} }}\n"));
                let mut settings = before.settings;
                let (limit, rate) = (name.parse::<LimitName>(), rate.parse());
                limit
                    .expect("a name")
                    .set(&mut settings, tick, rate.expect("a rate"), burst)
                    .expect("it can be");
                let typed = before.with(settings, &before.rules(), tick, 3).expect("it can be");
                assert_eq!(typed, written, "{name} {burst}");
            }
        }
    }

    #[test]
    fn flags_of_rules_follow_from_the_rules() {
        let tick = Tick { per_second: 250.0 };
        let host = HostDefaults { ttl: 64, hop_limit: 64 };
        let none = compile_policy(&Config::default(), tick, host, 1).expect("the defaults");
        let some = none.with(none.settings, &[rule("x")], tick, 1).expect("one rule");
        assert_ne!(some.settings.flags & SETTINGS_RULES, 0);
        assert_eq!(some.with(some.settings, &[], tick, 1).expect("no rules"), none);
    }

    #[test]
    fn more_rules_than_fit_are_refused() {
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
}
