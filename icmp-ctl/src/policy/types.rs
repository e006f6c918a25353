//! Types and actions by name.
//!
//! Owns the way people write types (`echo-request`, `8`, `3/4`). icmp-common's table owns the names.

use std::fmt;

use icmp_common::types::{Action, Family, ROWS, rows_of};

use crate::config::suggestions::did_you_mean;

/// One type, several in a row, or one code of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// ICMP or ICMPv6.
    pub family: Family,
    /// First type.
    pub first: u8,
    /// Last type.
    pub last: u8,
    /// The one code, if it is not about all.
    pub code: Option<u8>,
}

impl TypeName {
    /// Everything that is called `text` in the families given: a name of the type table or one that other tools have, a
    /// number, or either with a code behind a slash or a colon.
    ///
    /// # Errors
    /// Nothing is called so, with what comes near.
    pub fn all(text: &str, families: &[Family]) -> Result<Vec<Self>, String> {
        let text = &text.replace(':', "/");
        let (name, code) = match text.rsplit_once('/') {
            Some((name, code)) if !ROWS.iter().any(|row| row.name == text) => {
                let number = code.parse().map_err(|_| {
                    format!("{text:?}: what follows the type is a code, a number from 0 to 255, not {code:?}")
                })?;
                (name, Some(number))
            }
            _ => (text.as_str(), None),
        };
        if let Ok(number) = name.parse() {
            return Ok(families
                .iter()
                .map(|family| Self { family: *family, first: number, last: number, code })
                .collect());
        }
        if let Some((Ok(first), Ok(last))) =
            name.split_once('-').map(|(first, last)| (first.parse(), last.parse()))
            && first <= last
        {
            return Ok(families.iter().map(|family| Self { family: *family, first, last, code }).collect());
        }
        let found: Vec<_> = families.iter().flat_map(|family| Self::named(name, *family, code)).collect();
        if found.is_empty() { Err(unknown(text, name, families)) } else { Ok(found) }
    }

    /// What a name means in one family: first as nftables has it, then as others do.
    fn named(name: &str, family: Family, code: Option<u8>) -> Option<Self> {
        let row = ROWS.iter().find(|row| row.name == name && row.family == family);
        if let Some(row) = row {
            return Some(Self { family, first: row.first, last: row.last, code: code.or(row.code) });
        }
        let other = OTHER_NAMES.iter().find(|(other, of, ..)| *other == name && *of == family);
        other.map(|(_, _, first, own)| Self { family, first: *first, last: *first, code: code.or(*own) })
    }

    /// As a number, for people who know them by heart.
    pub fn number(&self) -> String {
        let Self { first, last, code, .. } = self;
        match code {
            Some(code) => format!("{first}/{code}"),
            None if first == last => first.to_string(),
            None => format!("{first}-{last}"),
        }
    }

    /// True where it is written as a number, which means another type in the other family.
    pub fn is_number(text: &str) -> bool {
        text.starts_with(|first: char| first.is_ascii_digit())
    }

    /// True where a message is of this type.
    pub fn contains(&self, family: Family, icmp_type: u8, code: u8) -> bool {
        self.contains_type(family, icmp_type) && self.code.is_none_or(|own| own == code)
    }

    /// True where a message of this type is one with some code at least.
    pub fn contains_type(&self, family: Family, icmp_type: u8) -> bool {
        self.family == family && (self.first..=self.last).contains(&icmp_type)
    }

    /// True where every message of the other is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        self.family == other.family
            && self.first <= other.first
            && self.last >= other.last
            && (self.code.is_none() || self.code == other.code)
    }

    /// True where some message is one of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family
            && self.first <= other.last
            && self.last >= other.first
            && (self.code.is_none() || other.code.is_none() || self.code == other.code)
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            f.write_str(&type_text(self.family, self.first, self.code))
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A type as it is printed: its name where it has one, the number where it shares a row with others.
pub fn type_text(family: Family, icmp_type: u8, code: Option<u8>) -> String {
    let (row, refined) = rows_of(family, icmp_type);
    if let Some(refined) = refined.filter(|refined| refined.code == code) {
        return refined.name.to_owned();
    }
    let name = if row.first == row.last { row.name.to_owned() } else { icmp_type.to_string() };
    code.map_or(name.clone(), |code| format!("{name}/{code}"))
}

/// What to say about a name that no type has: the most similar ones.
fn unknown(text: &str, name: &str, families: &[Family]) -> String {
    let named = || ROWS.iter().filter(|row| row.code.is_none() && !TypeName::is_number(row.name));
    if let Some(row) = named().find(|row| row.name == name) {
        let other = families.first().map_or("", |family| family.name());
        return format!("{text:?} is a type of {}, and this is about {other}", row.family.name());
    }
    format!(
        "{text:?} is no ICMP type{} `icmp-ctl show policy` lists all, and a number from 0 to 255 works too",
        match did_you_mean(name, named().map(|row| row.name)) {
            none if none.is_empty() => ";".to_owned(),
            some => some,
        }
    )
}

/// Names that iptables and firewalld have for types and codes, and nftables for codes, where a row of the table has another or none.
#[rustfmt::skip]
pub(super) const OTHER_NAMES: &[(&str, Family, u8, Option<u8>)] = &[
    ("net-unreachable", Family::V4, 3, Some(0)),
    ("network-unreachable", Family::V4, 3, Some(0)),
    ("host-unreachable", Family::V4, 3, Some(1)),
    ("prot-unreachable", Family::V4, 3, Some(2)),
    ("protocol-unreachable", Family::V4, 3, Some(2)),
    ("port-unreachable", Family::V4, 3, Some(3)),
    ("frag-needed", Family::V4, 3, Some(4)),
    ("fragmentation-needed", Family::V4, 3, Some(4)),
    ("source-route-failed", Family::V4, 3, Some(5)),
    ("network-unknown", Family::V4, 3, Some(6)),
    ("host-unknown", Family::V4, 3, Some(7)),
    ("net-prohibited", Family::V4, 3, Some(9)),
    ("network-prohibited", Family::V4, 3, Some(9)),
    ("host-prohibited", Family::V4, 3, Some(10)),
    ("tos-network-unreachable", Family::V4, 3, Some(11)),
    ("tos-host-unreachable", Family::V4, 3, Some(12)),
    ("admin-prohibited", Family::V4, 3, Some(13)),
    ("communication-prohibited", Family::V4, 3, Some(13)),
    ("host-precedence-violation", Family::V4, 3, Some(14)),
    ("precedence-cutoff", Family::V4, 3, Some(15)),
    ("network-redirect", Family::V4, 5, Some(0)),
    ("host-redirect", Family::V4, 5, Some(1)),
    ("tos-network-redirect", Family::V4, 5, Some(2)),
    ("tos-host-redirect", Family::V4, 5, Some(3)),
    ("ttl-zero-during-transit", Family::V4, 11, Some(0)),
    ("ttl-zero-during-reassembly", Family::V4, 11, Some(1)),
    ("ip-header-bad", Family::V4, 12, Some(0)),
    ("required-option-missing", Family::V4, 12, Some(1)),
    ("no-route", Family::V6, 1, Some(0)),
    ("admin-prohibited", Family::V6, 1, Some(1)),
    ("communication-prohibited", Family::V6, 1, Some(1)),
    ("beyond-scope", Family::V6, 1, Some(2)),
    ("addr-unreachable", Family::V6, 1, Some(3)),
    ("address-unreachable", Family::V6, 1, Some(3)),
    ("port-unreachable", Family::V6, 1, Some(4)),
    ("policy-fail", Family::V6, 1, Some(5)),
    ("failed-policy", Family::V6, 1, Some(5)),
    ("reject-route", Family::V6, 1, Some(6)),
    ("ttl-zero-during-transit", Family::V6, 3, Some(0)),
    ("ttl-zero-during-reassembly", Family::V6, 3, Some(1)),
    ("bad-header", Family::V6, 4, Some(0)),
    ("unknown-header-type", Family::V6, 4, Some(1)),
    ("unknown-option", Family::V6, 4, Some(2)),
    ("router-solicitation", Family::V6, 133, None),
    ("router-advertisement", Family::V6, 134, None),
    ("neighbour-solicitation", Family::V6, 135, None),
    ("neighbor-solicitation", Family::V6, 135, None),
    ("neighbour-advertisement", Family::V6, 136, None),
    ("neighbor-advertisement", Family::V6, 136, None),
    ("redirect", Family::V6, 137, None),
];

/// The action that a number in a map stands for; one that nothing is written for passes, as in the program.
pub fn action_of(number: u32) -> Action {
    [Action::Answer, Action::Limit, Action::Drop]
        .into_iter()
        .find(|action| *action as u32 == number)
        .unwrap_or(Action::Pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    #[test]
    fn a_type_is_found_by_name_by_number_and_with_a_code() {
        let name = |family, first, code| TypeName { family, first, last: first, code };
        assert_eq!(
            TypeName::all("echo-request", &BOTH),
            Ok(vec![name(Family::V4, 8, None), name(Family::V6, 128, None)])
        );
        assert_eq!(TypeName::all("3/4", &[Family::V4]), Ok(vec![name(Family::V4, 3, Some(4))]));
        assert_eq!(
            TypeName::all("destination-unreachable/frag-needed", &BOTH),
            Ok(vec![name(Family::V4, 3, Some(4))])
        );
        assert_eq!(TypeName::all("time-exceeded/1", &[Family::V6]), Ok(vec![name(Family::V6, 3, Some(1))]));
        let range = TypeName { family: Family::V4, first: 44, last: 252, code: None };
        assert_eq!(TypeName::all("44-252", &[Family::V4]), Ok(vec![range]));
    }

    #[test]
    fn the_names_that_other_tools_have_are_names_too() {
        let name = |family, first, code| TypeName { family, first, last: first, code };
        assert_eq!(TypeName::all("3:4", &[Family::V4]), Ok(vec![name(Family::V4, 3, Some(4))]));
        assert_eq!(
            TypeName::all("port-unreachable", &BOTH),
            Ok(vec![name(Family::V4, 3, Some(3)), name(Family::V6, 1, Some(4))])
        );
        assert_eq!(TypeName::all("frag-needed", &BOTH), Ok(vec![name(Family::V4, 3, Some(4))]));
        // One name, another type in each family.
        assert_eq!(
            TypeName::all("router-advertisement", &BOTH),
            Ok(vec![name(Family::V4, 9, None), name(Family::V6, 134, None)])
        );
        for (other, family, ..) in OTHER_NAMES {
            assert!(
                !ROWS.iter().any(|row| row.name == *other && row.family == *family),
                "{other} is in the table"
            );
        }
    }

    #[test]
    fn a_name_that_no_type_has_is_refused_with_those_that_come_near() {
        let error = TypeName::all("echo-reqest", &BOTH).expect_err("misspelt");
        assert!(error.contains("did you mean echo-request"), "{error}");
        let error = TypeName::all("3/x", &BOTH).expect_err("no code");
        assert!(error.contains("follows the type is a code"), "{error}");
        let error = TypeName::all("nd-redirect", &[Family::V4]).expect_err("of the other family");
        assert!(error.contains("is a type of ipv6"), "{error}");
        assert!(TypeName::all("256", &BOTH).is_err());
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        for family in BOTH {
            for icmp_type in 0..=u8::MAX {
                for code in [None, Some(0), Some(4)] {
                    let text = type_text(family, icmp_type, code);
                    let name = TypeName { family, first: icmp_type, last: icmp_type, code };
                    assert_eq!(TypeName::all(&text, &[family]), Ok(vec![name]), "{text}");
                }
            }
        }
    }
}
