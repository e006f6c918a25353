//! The text of a configuration, for errors that point into it.
//!
//! Owns the form of such an error and finding the place; the code that finds a fault words the message.

use std::fmt;
use std::ops::Range;

use anyhow::Result;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A text and what it is called.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

impl Source {
    /// An error with its line, and the place in it underlined.
    pub(super) fn point(&self, span: Option<Range<usize>>, why: &str) -> anyhow::Error {
        let Self { name, text } = self;
        let Some(span) = span else { return anyhow::anyhow!("{name}: {why}") };
        let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        let number = self.line_number(span.start);
        let column = text[start..span.start].chars().count() + 1;
        let width = text[span.start..span.end.min(start + line.len()).max(span.start)].chars().count().max(1);
        let margin = " ".repeat(number.to_string().len());
        anyhow::anyhow!(
            "{name}: error at line {number}, column {column}\n{margin} |\n{number} | {line}\n{margin} | {}{}\n{why}",
            " ".repeat(column - 1),
            "^".repeat(width)
        )
    }

    /// Where something is in it that is no value of any key, and why: a date or time, which the parser hands on as a table with a key of its own,
    /// and the character that ends a text of the kernel's.
    pub(super) fn no_value(&self) -> Option<(Range<usize>, &'static str)> {
        fn first<'a>(
            mut values: impl Iterator<Item = &'a Spanned<DeValue<'a>>>,
        ) -> Option<(Range<usize>, &'static str)> {
            values.find_map(|value| match value.get_ref() {
                DeValue::Datetime(_) => Some((value.span(), "a date or time is no value of any key")),
                DeValue::String(text) if text.contains('\0') => Some((
                    value.span(),
                    "the character \\u0000 is in no name, no path and no word of a command",
                )),
                DeValue::Array(list) => first(list.iter()),
                DeValue::Table(table) => first(table.values()),
                _ => None,
            })
        }
        first(DeTable::parse(&self.text).ok()?.get_ref().values())
    }

    /// An error that was found later. Of two places it points at the later one, and names the line of the other.
    pub(super) fn explain(&self, error: &Invalid) -> anyhow::Error {
        let Invalid { path, other, place, message } = error;
        let here = locate(&self.text, path, *place);
        let other = other.as_ref().and_then(|other| locate(&self.text, other, *place));
        let (Some(one), Some(two)) = (&here, &other) else { return self.point(here, message) };
        let (first, last) = if one.start < two.start { (one, two) } else { (two, one) };
        let line = self.line_number(first.start);
        self.point(Some(last.clone()), &format!("{message}; the other is in line {line}"))
    }

    fn line_number(&self, position: usize) -> usize {
        self.text[..position].matches('\n').count() + 1
    }
}

/// Which half of `key = value` is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The key.
    Key,
    /// What it is set to.
    Value,
}

/// Something that is well-formed and cannot be: where it is in the file, and why.
#[derive(Debug)]
pub struct Invalid {
    path: Vec<String>,
    /// What cannot be together with it.
    other: Option<Vec<String>>,
    place: Place,
    message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Invalid {}

/// Turns an error into one that says where in the file its cause is: keys from the top, positions in lists among them.
pub(crate) fn invalid<E: Into<anyhow::Error>>(path: &[&str]) -> impl FnOnce(E) -> anyhow::Error {
    wrong(path, Place::Value)
}

/// As [`invalid`], where the last key is what cannot be.
pub(crate) fn invalid_key<E: Into<anyhow::Error>>(path: &[&str]) -> impl FnOnce(E) -> anyhow::Error {
    wrong(path, Place::Key)
}

/// As [`invalid`], for an error that is made here.
pub(crate) fn refuse<T>(path: &[&str], message: String) -> Result<T> {
    Err(invalid(path)(anyhow::Error::msg(message)))
}

/// As [`invalid_key`], for an error that is made here and is about two keys.
pub(crate) fn refuse_keys<T>(path: &[&str], other: &[&str], message: String) -> Result<T> {
    Err(anyhow::Error::new(Invalid {
        path: owned(path),
        other: Some(owned(other)),
        place: Place::Key,
        message,
    }))
}

fn wrong<E: Into<anyhow::Error>>(path: &[&str], place: Place) -> impl FnOnce(E) -> anyhow::Error {
    let path = owned(path);
    move |error| anyhow::Error::new(Invalid { path, other: None, place, message: error.into().to_string() })
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|key| (*key).to_owned()).collect()
}

/// Where in a text the value or the key at a path is; of a path that goes on beyond the text, where its last part is.
fn locate(text: &str, path: &[String], place: Place) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut at = None;
    let mut table = Some(document.get_ref());
    let mut list: Option<&DeArray<'_>> = None;
    for key in path {
        let found = match (table, list) {
            (Some(table), _) => {
                table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span(), value))
            }
            (None, Some(list)) => key
                .parse::<usize>()
                .ok()
                .and_then(|position| list.get(position))
                .map(|value| (value.span(), value)),
            (None, None) => None,
        };
        let Some((name, value)) = found else { break };
        at = Some(if place == Place::Key { name } else { value.span() });
        (table, list) = match value.get_ref() {
            DeValue::Table(table) => (Some(table), None),
            DeValue::Array(list) => (None, Some(list)),
            _ => (None, None),
        };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_found_later_points_at_its_value_or_at_its_key() {
        let text = "[[policy.rule]]\nname = \"x\"\nfrom = [\"::/0\", \"nonsense\"]\n".to_owned();
        let source = Source { name: "c.toml".to_owned(), text };
        let explained = |error: anyhow::Error| {
            source.explain(error.downcast_ref().expect("it was made with a place")).to_string()
        };
        let path = ["policy", "rule", "0", "from", "1"];
        assert_eq!(
            explained(invalid(&path)(anyhow::Error::msg("why"))),
            "c.toml: error at line 3, column 17\n  |\n3 | from = [\"::/0\", \"nonsense\"]\n  |                 ^^^^^^^^^^\nwhy"
        );
        assert_eq!(
            explained(invalid_key(&path[..4])(anyhow::Error::msg("why"))),
            "c.toml: error at line 3, column 1\n  |\n3 | from = [\"::/0\", \"nonsense\"]\n  | ^^^^\nwhy"
        );
    }
}
