//! Types and actions by name.
//!
//! Owns the way people write types (`echo-request`, `8`, `3/4`). The names are icmp-common's table.

use std::fmt;

use icmp_common::policy::Action;
use icmp_common::types::{Family, ROWS, rows_of};

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
    /// Everything that is called `text` in the families given: a name of the type table, a number, or either with a code behind a slash.
    ///
    /// # Errors
    /// Nothing is called so, with what comes near.
    pub fn all(text: &str, families: &[Family]) -> Result<Vec<Self>, String> {
        let (name, code) = match text.rsplit_once('/') {
            Some((name, code)) if !ROWS.iter().any(|row| row.name == text) => {
                let number = code.parse().map_err(|_| {
                    format!(
                        "{text:?}: what is behind the slash is a code, a number from 0 to 255, not {code:?}"
                    )
                })?;
                (name, Some(number))
            }
            _ => (text, None),
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
        let found: Vec<_> = ROWS
            .iter()
            .filter(|row| row.name == name && families.contains(&row.family))
            .map(|row| Self { family: row.family, first: row.first, last: row.last, code: code.or(row.code) })
            .collect();
        if found.is_empty() { Err(unknown(text, name, families)) } else { Ok(found) }
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
    let mut near: Vec<_> = ROWS
        .iter()
        .filter(|row| row.code.is_none() && !TypeName::is_number(row.name))
        .map(|row| (distance(name, row.name), row))
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    if let Some((0, row)) = near.first() {
        let other = families.first().map_or("", |family| family.name());
        return format!("{text:?} is a type of {}, and this is about {other}", row.family.name());
    }
    let mut names: Vec<_> = near.iter().map(|(_, row)| row.name).collect();
    names.dedup();
    format!(
        "{text:?} is no ICMP type; did you mean {}? `icmp-ctl show policy` lists all, and a number from 0 to 255 works too",
        names[..3].join(", ")
    )
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

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
    fn a_name_that_no_type_has_is_refused_with_those_that_come_near() {
        let error = TypeName::all("echo-reqest", &BOTH).expect_err("misspelt");
        assert!(error.contains("did you mean echo-request"), "{error}");
        let error = TypeName::all("3/x", &BOTH).expect_err("no code");
        assert!(error.contains("behind the slash"), "{error}");
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
