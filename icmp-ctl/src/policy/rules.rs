//! A rule as it is meant, and how two of them stand to each other.

use std::ops::RangeInclusive;

use icmp_common::limiter::Limit;
use icmp_common::policy::Action;
use icmp_common::rules::LENGTHS;
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::policy::types::TypeName;

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

impl Rule {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn rule(name: &str) -> Rule {
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

    pub(crate) fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
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
