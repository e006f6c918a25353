//! From a rule as it is written to its meaning: names and lists are read, and defaults are filled in.
//!
//! Owns the checks of one rule, in a file as on a command line, and the lists of prefixes beside it.

use icmp_common::abi::{Limit, NAME_LEN};
use icmp_common::types::Action;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::config::file::{self as config, Config};
use crate::config::prefix::Prefix;
use crate::config::source::{invalid, refuse};
use crate::config::units::Rate;
use crate::config::words::{OneOrMany, Word};
use crate::kernel::clock::Tick;
use crate::kernel::files::read_again;
use crate::policy::rules::{ANY_HOP_LIMIT, ANY_LENGTH, MAX_LENGTH, Rule};
use crate::policy::types::TypeName;

/// The rules of a configuration, in their order.
///
/// # Errors
/// As [`resolve_rule`]; and two rules of one name.
pub fn resolve_rules(config: &Config, tick: Tick) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for (i, rule) in config.policy.rule.iter().enumerate() {
        let i = i.to_string();
        let at = ["policy", "rule", &i];
        let resolved = resolve_rule(rule, &at, config.folder(), tick)?;
        if rules.iter().any(|other| other.name == resolved.name) {
            let at = [&at[..], &["name"]].concat();
            return refuse(&at, format!("there is a rule {:?} already; counters go by name", resolved.name));
        }
        rules.push(resolved);
    }
    Ok(rules)
}

/// A rule with everything that it leaves open filled in; `at` is where it is in the file, `folder` where its lists are.
///
/// # Errors
/// An [`Invalid`] value, or a list that cannot be read.
pub fn resolve_rule(rule: &config::Rule, at: &[&str], folder: &Path, tick: Tick) -> Result<Rule> {
    let key = |key| [at, &[key]].concat();
    let name = &rule.name;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_LEN || !name.bytes().all(is_plain) {
        return refuse(
            &key("name"),
            format!(
                "{name:?} is no name for a rule: 1 to {NAME_LEN} letters, digits, hyphens, underscores and dots"
            ),
        );
    }
    for (what, words) in [
        ("type", &rule.types),
        ("vlan", &rule.vlan),
        ("length", &rule.length),
        ("hop-limit", &rule.hop_limit),
    ] {
        if words.as_ref().is_some_and(|words| words.0.is_empty()) {
            return refuse(
                &key(what),
                format!("an empty list `{what}` would match nothing; leave the key out to match all"),
            );
        }
    }
    let read = |words: &Option<OneOrMany>, at: &[&str]| {
        words.as_ref().map(|words| nets(words, at, folder)).transpose()
    };
    let (from, to) = (read(&rule.from, &key("from"))?, read(&rule.to, &key("to"))?);
    let mut families = vec![Family::V4, Family::V6];
    for nets in [&from, &to].into_iter().flatten().filter(|nets| !nets.is_empty()) {
        families.retain(|family| nets.iter().any(|net| net.addr().is_ipv4() == (*family == Family::V4)));
    }
    if let Some(Word(family)) = rule.family {
        families.retain(|one| *one == family);
    }
    if families.is_empty() {
        return refuse(
            at,
            format!(
                "rule {name:?} can match nothing: its family, sources and destinations have none in common"
            ),
        );
    }
    let action = rule.action.0;
    let types = rule_types(rule, &families, at)?;
    if !types.is_empty() {
        families.retain(|family| types.iter().any(|name| name.family == *family));
    }
    let limit = match (rule.limit, action) {
        (None, Action::Limit) => {
            return refuse(at, format!("rule {name:?} limits and does not say to what: limit = \"100/s\""));
        }
        (Some(_), Action::Pass | Action::Drop) => {
            return refuse(
                &key("limit"),
                format!("a rule with a limit has action = \"limit\" or \"answer\", not {:?}", action.name()),
            );
        }
        (None, _) if rule.burst.is_some() => {
            return refuse(&key("burst"), "a burst needs a limit beside it: limit = \"100/s\"".to_owned());
        }
        (None, _) => Limit::UNLIMITED,
        (Some(Rate::Unlimited), _) => Limit::EXEMPT,
        (Some(rate), _) => {
            let a_second = if let Rate::PerSecond(rate) = rate { rate.ceil().max(1.0) as u64 } else { 1 };
            tick.limit(&format!("rule {name:?}"), rate, rule.burst.unwrap_or(a_second))
                .map_err(invalid(&key("limit")))?
        }
    };
    let mut vlans = Vec::new();
    for (i, text) in rule.vlan.iter().flat_map(|words| &words.0).enumerate() {
        match text.parse() {
            Ok(vlan @ 0..4095) => vlans.push(vlan),
            _ => {
                return refuse(
                    &[&key("vlan")[..], &[&i.to_string()]].concat(),
                    format!("{text:?} is no VLAN identifier: 1 to 4094, or 0 for untagged"),
                );
            }
        }
    }
    vlans.sort_unstable();
    vlans.dedup();
    let length = range(&rule.length, ANY_LENGTH).map_err(|why| anyhow::Error::msg(format!("length: {why}")));
    let length = length.map_err(invalid(&key("length")))?;
    let open = *length.end() == u16::MAX;
    if *length.start() > MAX_LENGTH || !open && *length.end() > MAX_LENGTH {
        return refuse(
            &key("length"),
            format!(
                "lengths are compared up to {MAX_LENGTH}; a longer message spans buffers, and is passed to the kernel"
            ),
        );
    }
    let hop_limit =
        range(&rule.hop_limit, ANY_HOP_LIMIT).map_err(|why| anyhow::Error::msg(format!("hop-limit: {why}")));
    let hop_limit = hop_limit.map_err(invalid(&key("hop-limit")))?;
    Ok(Rule {
        name: name.clone(),
        families,
        from,
        to,
        types,
        vlans,
        length,
        hop_limit,
        action,
        limit,
        audit: rule.audit,
    })
}

fn rule_types(rule: &config::Rule, families: &[Family], at: &[&str]) -> Result<Vec<TypeName>> {
    let echo_request = ["echo-request".to_owned()];
    let answers = rule.action.0 == Action::Answer;
    // Only echo requests can be answered, so a rule that answers need not say so.
    let texts = match &rule.types {
        Some(words) => &words.0[..],
        None if answers => &echo_request,
        None => &[],
    };
    let mut types = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let i = i.to_string();
        let at = [at, &["type", &i]].concat();
        let names = TypeName::all(text, families).map_err(anyhow::Error::msg).map_err(invalid(&at))?;
        if TypeName::is_number(text) && families.len() > 1 {
            return refuse(
                &at,
                format!("{text:?} is another type in each family; say which: family = \"ipv4\" or \"ipv6\""),
            );
        }
        let echo = |name: &TypeName| {
            (name.first, name.last) == if name.family == Family::V4 { (8, 8) } else { (128, 128) }
        };
        if answers && !names.iter().all(echo) {
            return refuse(
                &at,
                format!("only echo-request can be answered, not {text:?}; write pass, limit or drop"),
            );
        }
        types.extend(names);
    }
    types.sort_by_key(|name| (name.family, name.first, name.code));
    types.dedup();
    // A code of a type that is named without one adds nothing, and would take one of the few places for codes.
    let whole: Vec<TypeName> = types.iter().filter(|name| name.code.is_none()).copied().collect();
    types.retain(|name| {
        name.code.is_none() || whole.iter().all(|other| !other.contains_type(name.family, name.first))
    });
    Ok(types)
}

/// Prefixes, and those in the files named among them; sorted, each once.
fn nets(words: &OneOrMany, at: &[&str], folder: &Path) -> Result<Vec<IpNet>> {
    let mut nets = Vec::new();
    for (i, text) in words.0.iter().enumerate() {
        let i = i.to_string();
        let at = [at, &[&i]].concat();
        match text.strip_prefix(config::LIST) {
            None => nets.push(text.parse::<Prefix>().map_err(anyhow::Error::msg).map_err(invalid(&at))?.0),
            Some(path) => nets.extend(nets_of_file(&folder.join(path)).map_err(invalid(&at))?),
        }
    }
    nets.sort_unstable();
    nets.dedup();
    // One that lies in another adds nothing.
    let mut widest: Vec<IpNet> = Vec::with_capacity(nets.len());
    for net in nets {
        if !widest.last().is_some_and(|last| last.contains(&net)) {
            widest.push(net);
        }
    }
    Ok(widest)
}

/// One prefix a line; what follows a # or ; is a comment.
fn nets_of_file(path: &Path) -> Result<Vec<IpNet>> {
    let name = path.display();
    let text = read_again(path).map_err(|error| anyhow::anyhow!("reading {name}: {error}"))?;
    let mut nets = Vec::new();
    // Editors of Windows write a byte order mark.
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if !line.is_empty() {
            nets.push(line.parse::<Prefix>().map_err(|why| anyhow::anyhow!("{name}:{}: {why}", i + 1))?.0);
        }
    }
    Ok(nets)
}

/// A number, or a range of numbers that may be open at its end.
fn range<T: FromStr + Copy + PartialOrd + std::fmt::Display>(
    words: &Option<OneOrMany>,
    any: RangeInclusive<T>,
) -> Result<RangeInclusive<T>, String> {
    let Some(OneOrMany(words)) = words else { return Ok(any) };
    let [text] = &words[..] else { return Err("one number or range, not a list".to_owned()) };
    let bad = || {
        format!(
            "{text:?} is no range of numbers from {} to {}: write it like 64, 64-128 or 64-",
            any.start(),
            any.end()
        )
    };
    let number = |text: &str| text.trim().parse().map_err(|_| bad());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // Not open at its start: -5 would rather be a number that there is none of.
    let (first, last) = (number(first)?, if last.is_empty() { *any.end() } else { number(last)? });
    if first > last {
        return Err(format!("{text:?} is empty: {first} is more than {last}"));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_type_that_is_named_without_one_takes_no_place_for_codes() {
        let text = "[[policy.rule]]\nname = \"r\"\nfamily = \"ipv4\"\ntype = [\"8/9\", \"8\", \"3/1\"]\naction = \"drop\"\n";
        let config = Config::parse(text, "x").expect("a configuration");
        let rules = resolve_rules(&config, Tick { per_second: 250.0 }).expect("a rule");
        let types: Vec<_> = rules[0].types.iter().map(|name| (name.first, name.code)).collect();
        assert_eq!(types, [(3, Some(1)), (8, None)]);
    }

    #[test]
    fn a_list_may_have_a_byte_order_mark_and_comments_behind_a_hash_or_a_semicolon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        let text =
            "\u{feff}192.0.2.1\r\n; as DROP lists have it\n203.0.113.0/24 ; SBL1\n2001:db8::/32 # both\n";
        std::fs::write(&path, text).expect("a temporary file");
        let nets = nets_of_file(&path);
        let nets: Vec<_> = nets.expect("a list").iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["192.0.2.1/32", "203.0.113.0/24", "2001:db8::/32"]);
    }
}
