//! Rules that probably do not mean what they say, for warnings.

use crate::policy::rules::Rule;

/// Rules that match nothing, or can never decide, because one before them always does; and pairs that disagree about some messages, where
/// neither is the exception to the other. Of these only what concerns a rule that is `touched`.
pub fn warnings(rules: &[Rule], touched: impl Fn(&Rule) -> bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut deciding: Vec<&Rule> = Vec::new();
    for rule in rules {
        let mut empty = rule.empty_lists().peekable();
        if empty.peek().is_some() {
            warnings.extend(empty.filter(|_| touched(rule)).map(|key| {
                format!("rule {:?} matches nothing: its list `{key}` is empty; without `{key}` it would match all", rule.name)
            }));
            continue;
        }
        if let Some(why) = rule.never_matches() {
            if touched(rule) {
                warnings.push(format!("rule {:?} matches nothing: {why}", rule.name));
            }
            continue;
        }
        if let Some(before) = deciding.iter().find(|before| before.covers(rule)) {
            if touched(before) || touched(rule) {
                warnings.push(format!(
                    "rule {:?} never decides anything: {:?} before it matches all that it matches",
                    rule.name, before.name
                ));
            }
            continue;
        }
        if rule.audit {
            continue;
        }
        for before in &deciding {
            let disagree = (before.action, before.limit) != (rule.action, rule.limit);
            if disagree && (touched(before) || touched(rule)) && before.overlaps(rule) && !rule.covers(before)
            {
                warnings.push(format!(
                    "rules {:?} and {:?} overlap: what both match is decided by {:?}, the first",
                    before.name, rule.name, before.name
                ));
            }
        }
        deciding.push(rule);
    }
    warnings
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::policy::rules::tests::{net, rule};
    use icmp_common::types::Action;

    #[test]
    fn a_change_warns_about_what_it_touches_only() {
        let from = Rule { from: Some(vec![net("10.0.0.0/8")]), ..rule("from") };
        let to = Rule { to: Some(vec![net("192.0.2.1/32")]), action: Action::Pass, ..rule("to") };
        let rules = [from, to, Rule { vlans: vec![7], action: Action::Pass, ..rule("other") }];
        let about = |name: &str| warnings(&rules, |rule| rule.name == name);
        assert_eq!(about("none"), [""; 0]);
        assert_eq!(about("to").len(), 1, "{:?}", about("to"));
        assert_eq!(warnings(&rules, |_| true).len(), 2, "{:?}", warnings(&rules, |_| true));
    }

    #[test]
    fn a_rule_with_an_empty_list_is_warned_about_by_its_key() {
        let nobody = Rule { to: Some(Vec::new()), ..rule("nobody") };
        let all = warnings(&[rule("all"), nobody], |_| true);
        assert!(all.len() == 1 && all[0].contains("\"nobody\"") && all[0].contains("`to`"), "{all:?}");
    }
}
