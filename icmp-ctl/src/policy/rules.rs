//! A rule's meaning, and how two rules relate.

use icmp_common::abi::{LENGTHS, Limit};
use icmp_common::types::Action;
use std::ops::RangeInclusive;

use icmp_common::types::Family;
use icmp_common::wire::icmpv4;
use ipnet::IpNet;

use crate::policy::types::TypeName;

/// A rule as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Families it is about.
    pub families: Vec<Family>,
    /// Sources, sorted and none within another; `None` is any, and an empty list is none.
    pub from: Option<Vec<IpNet>>,
    /// Destinations, likewise.
    pub to: Option<Vec<IpNet>>,
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
/// Sources whose packets are passed before rules are asked (`is_ignored_source` in icmp-common's `wire`).
const IGNORED_SOURCES: [&str; 4] = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "::1/128"];
/// Hop limits as a rule has them where it does not say.
pub const ANY_HOP_LIMIT: RangeInclusive<u8> = 0..=u8::MAX;

impl Rule {
    /// True where every message that `other` matches is matched by this rule too.
    pub fn covers(&self, other: &Self) -> bool {
        let nets = |ours: &Option<Vec<IpNet>>, theirs: &Option<Vec<IpNet>>| match (ours, theirs) {
            (None, _) => true,
            (_, None) => false,
            (Some(ours), Some(theirs)) => theirs.iter().all(|net| is_within(net, ours)),
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
            && nets(&self.from, &other.from)
            && nets(&self.to, &other.to)
    }

    /// True where some message is matched by both rules.
    pub fn overlaps(&self, other: &Self) -> bool {
        let nets = |ours: &Option<Vec<IpNet>>, theirs: &Option<Vec<IpNet>>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                ours.iter().any(|net| is_within(net, theirs)) || theirs.iter().any(|net| is_within(net, ours))
            }
            _ => true,
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
            && nets(&self.from, &other.from)
            && nets(&self.to, &other.to)
    }

    /// Why no message can be one that it matches, though none of its lists is empty.
    pub fn never_matches(&self) -> Option<String> {
        let last = *self.length.end();
        if usize::from(last) < icmpv4::LEN {
            return Some(format!(
                "its `length` ends at {last}, and a message of ICMP has at least {} bytes",
                icmpv4::LEN
            ));
        }
        let ignored = |net: &IpNet| {
            IGNORED_SOURCES.iter().any(|all| all.parse::<IpNet>().is_ok_and(|all| all.contains(net)))
        };
        let from = self.from.as_ref().filter(|from| from.iter().all(ignored))?;
        Some(format!(
            "its list `from` has only {}, and what is from there the kernel ignores, and no rule is asked",
            from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ))
    }

    /// The lists it has that are empty, by their keys; with one of them it matches nothing.
    pub fn empty_lists(&self) -> impl Iterator<Item = &'static str> {
        let lists = [("from", &self.from), ("to", &self.to)];
        lists.into_iter().filter(|(_, nets)| nets.as_ref().is_some_and(Vec::is_empty)).map(|(key, _)| key)
    }
}

/// True where a prefix lies in one of a list, which is sorted and has none within another.
fn is_within(net: &IpNet, list: &[IpNet]) -> bool {
    // A prefix is ordered before all that it contains, and what comes between would be in it too.
    let behind = list.partition_point(|other| other <= net);
    behind.checked_sub(1).and_then(|last| list.get(last)).is_some_and(|last| last.contains(net))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn rule(name: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            families: vec![Family::V4, Family::V6],
            from: None,
            to: None,
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
        let wide = Rule { from: Some(vec![net("10.0.0.0/8")]), ..rule("wide") };
        let narrow = Rule { from: Some(vec![net("10.1.0.0/16")]), vlans: vec![7], ..rule("narrow") };
        assert!(wide.covers(&narrow) && rule("any").covers(&wide));
        assert!(!narrow.covers(&wide) && !wide.covers(&rule("any")));
    }

    #[test]
    fn a_rule_with_an_empty_list_meets_no_other() {
        let nobody = Rule { from: Some(Vec::new()), ..rule("nobody") };
        let some = Rule { from: Some(vec![net("10.0.0.0/8")]), ..rule("some") };
        assert!(!nobody.overlaps(&some) && !nobody.covers(&some));
        assert_eq!(nobody.empty_lists().collect::<Vec<_>>(), ["from"]);
        assert_eq!(some.empty_lists().next(), None);
    }

    #[test]
    fn rules_are_compared_however_long_their_lists_are() {
        // Every pair of these would be 10,000,000,000 comparisons.
        let list = |len: u8, bits: u32| -> Option<Vec<IpNet>> {
            let address = |i: u32| std::net::Ipv4Addr::from(i << 8 | bits);
            Some((0..100_000).map(|i| net(&format!("{}/{len}", address(i)))).collect())
        };
        let wide = Rule { from: list(24, 0), ..rule("wide") };
        let narrow = Rule { from: list(32, 1), ..rule("narrow") };
        let beside = Rule { from: list(32, 2), ..rule("beside") };
        assert!(wide.covers(&narrow) && !narrow.covers(&wide));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide) && !narrow.overlaps(&beside));
    }

    #[test]
    fn rules_overlap_where_a_message_can_match_both() {
        let from = Rule { from: Some(vec![net("10.0.0.0/8")]), ..rule("from") };
        let to = Rule { to: Some(vec![net("192.0.2.1/32")]), ..rule("to") };
        assert!(from.overlaps(&to) && to.overlaps(&from) && !from.covers(&to) && !to.covers(&from));
        let inside = Rule { from: Some(vec![net("10.1.0.0/16")]), ..rule("inside") };
        let beside = Rule { from: Some(vec![net("11.0.0.0/8")]), ..rule("beside") };
        assert!(inside.overlaps(&from) && from.overlaps(&inside) && !beside.overlaps(&from));
        let vlan = |id| Rule { vlans: vec![id], ..rule("vlan") };
        assert!(vlan(7).overlaps(&from) && vlan(7).overlaps(&vlan(7)) && !vlan(7).overlaps(&vlan(8)));
        let short = Rule { length: 0..=64, ..rule("short") };
        let long = Rule { length: 65..=4095, ..rule("long") };
        assert!(short.overlaps(&from) && !short.overlaps(&long));
    }
}
