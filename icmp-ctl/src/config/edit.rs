//! Edits the text of a configuration.
//!
//! Owns what stays: every key whose value does not change is left as it was written, with its comments, and the order stays. `on_disk.rs` owns
//! the file.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use toml_edit::{
    Array, ArrayOfTables, Decor, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value,
};

use crate::config::file::Config;
use crate::config::prefix::Prefix;

/// A byte order mark, which editors of Windows write, beside lines that end with CR and LF.
const MARK: &str = "\u{feff}";

/// A text that says something else now.
#[derive(Debug)]
pub struct Edited {
    /// All of it.
    pub text: String,
    /// The keys that were changed, like `limits.replies.rate`.
    pub changed: Vec<String>,
}

/// Makes a text that says `old` one that says `new`.
///
/// # Errors
/// It is no TOML, or a configuration cannot be written as TOML.
pub fn edit(text: &str, old: &Config, new: &Config) -> Result<Edited> {
    let (mark, lines) = text.strip_prefix(MARK).map_or(("", text), |lines| (MARK, lines));
    if !lines.contains("\r\n") || lines.replace("\r\n", "").contains('\n') {
        let edited = edit_lines(lines, old, new)?;
        return Ok(Edited { text: format!("{mark}{}", edited.text), ..edited });
    }
    let edited = edit_lines(&lines.replace("\r\n", "\n"), old, new)?;
    Ok(Edited { text: format!("{mark}{}", edited.text.replace('\n', "\r\n")), ..edited })
}

fn edit_lines(text: &str, old: &Config, new: &Config) -> Result<Edited> {
    let mut document: DocumentMut = text.parse().context("reading the configuration's text")?;
    // The comments of a text that has no key are no key's: they stay where they are, and what is new comes after them.
    let comments = if document.is_empty() { text } else { "" };
    if document.is_empty() {
        document.set_trailing("");
    }
    let (old, new) = (tables(old)?, tables(new)?);
    let mut changed = Vec::new();
    edit_table(document.as_item_mut(), &old, &new, "", &mut changed);
    let gap = if comments.is_empty() || document.is_empty() { "" } else { "\n" };
    Ok(Edited { text: format!("{comments}{gap}{document}"), changed })
}

/// What a configuration says, all of it.
fn tables(config: &Config) -> Result<InlineTable> {
    let document = toml_edit::ser::to_document(config).context("writing the configuration as TOML")?;
    Ok(document.into_table().into_inline_table())
}

fn edit_table(item: &mut Item, old: &InlineTable, new: &InlineTable, path: &str, changed: &mut Vec<String>) {
    let inline = item.is_inline_table();
    let before_end = item.as_inline_table().and_then(|table| suffix(table.iter().last()?.1));
    let Some(table) = item.as_table_like_mut() else { return };
    for (key, _) in old.iter().filter(|(key, _)| !new.contains_key(key)) {
        if table.remove(key).is_some() {
            changed.push(below(path, key));
        }
    }
    let nothing = InlineTable::new();
    for (key, value) in new {
        let before = old.get(key);
        if before.is_some_and(|before| same(before, value)) {
            continue;
        }
        let path = below(path, key);
        match value {
            Value::InlineTable(new) => {
                let old = before.and_then(Value::as_inline_table).unwrap_or(&nothing);
                edit_table(child(table, key, inline || path.starts_with(LEAVES)), old, new, &path, changed);
            }
            Value::Array(new) if let Some(list) = LISTS.iter().find(|list| list.path == path) => {
                let old = before.and_then(Value::as_array);
                list.edit(table, key, inline, &list.named(old), new, changed);
            }
            _ => {
                changed.push(path);
                set(table, key, value);
            }
        }
    }
    if let (Some(table), Some(before_end)) = (item.as_inline_table_mut(), before_end) {
        // Room before the brace stays there, whichever key is the last now.
        let last = table.len().saturating_sub(1);
        for (i, (_, value)) in table.iter_mut().enumerate() {
            let room = if i == last { &before_end } else { "" };
            if suffix(value).is_none_or(|suffix| suffix.trim().is_empty()) {
                value.decor_mut().set_suffix(room);
            }
        }
    }
}

fn suffix(value: &Value) -> Option<String> {
    value.decor().suffix().and_then(RawString::as_str).map(str::to_owned)
}

/// A list of tables.
struct List {
    path: &'static str,
    /// The key that tells its tables apart.
    name: &'static str,
    /// What that key says, however it is written.
    means: fn(&str) -> String,
}

/// All there are.
const LISTS: [List; 3] = [
    List { path: "policy.rule", name: "name", means: str::to_owned },
    List { path: "peers.named", name: "name", means: str::to_owned },
    List { path: "responder.vip", name: "prefix", means: prefix },
];

fn prefix(text: &str) -> String {
    text.parse::<Prefix>().map_or_else(|_| text.to_owned(), |prefix| prefix.0.to_string())
}

/// Tables that are written in a line below this key.
const LEAVES: &str = "limits.";

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Both are as they were made, not as somebody has written them.
fn same(one: &Value, other: &Value) -> bool {
    one.to_string().trim() == other.to_string().trim()
}

/// The table of this key, which is made if it is not there.
fn child<'a>(table: &'a mut dyn TableLike, key: &str, inline: bool) -> &'a mut Item {
    if !table.get(key).is_some_and(Item::is_table_like) {
        let mut made = Table::new();
        // Its header is left out where it has nothing but tables of its own.
        made.set_implicit(true);
        table.insert(key, if inline { Item::Value(InlineTable::new().into()) } else { Item::Table(made) });
    }
    table.entry(key).or_insert(Item::None)
}

/// Sets a value, and leaves what is written around it.
fn set(table: &mut dyn TableLike, key: &str, value: &Value) {
    let mut value = value.clone();
    match table.get_mut(key) {
        Some(Item::Value(there)) => {
            let decor = there.decor().clone();
            match (there.as_array(), value.as_array()) {
                (Some(old), Some(new)) => value = Value::Array(edited_list(old, new)),
                _ => value.decor_mut().clear(),
            }
            *value.decor_mut() = decor;
            *there = value;
        }
        _ => {
            value.decor_mut().clear();
            table.insert(key, Item::Value(value));
        }
    }
}

/// A list with what is new in it behind what stays; another one altogether where that is not the order it is to have.
fn edited_list(old: &Array, new: &Array) -> Array {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let wanted: Vec<_> = new.iter().map(text).collect();
    let mut list = old.clone();
    list.retain(|value| wanted.contains(&text(value)));
    let stays: Vec<_> = list.iter().map(text).collect();
    if !wanted.starts_with(&stays) {
        return new.clone();
    }
    let last = list.iter().last().map(|last| {
        let prefix = last.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
        // What a comment before the last one says is about that one.
        prefix.rfind('\n').map_or(prefix, |newline| &prefix[newline..]).to_owned()
    });
    for value in new.iter().skip(stays.len()) {
        match &last {
            Some(prefix) => {
                let mut value = value.clone();
                *value.decor_mut() = Decor::new(prefix, "");
                list.push_formatted(value);
            }
            None => list.push(value.clone()),
        }
    }
    list
}

impl List {
    /// Its tables by their names.
    fn named(&self, tables: Option<&Array>) -> BTreeMap<String, InlineTable> {
        let tables = tables.into_iter().flatten().filter_map(Value::as_inline_table);
        tables.map(|one| (self.name_of(one), one.clone())).collect()
    }

    fn name_of(&self, one: &dyn TableLike) -> String {
        one.get(self.name).and_then(Item::as_str).map(self.means).unwrap_or_default()
    }

    /// Each table stays as it is written while it says the same, wherever it goes.
    fn edit(
        &self,
        table: &mut dyn TableLike,
        key: &str,
        inline: bool,
        old: &BTreeMap<String, InlineTable>,
        new: &Array,
        changed: &mut Vec<String>,
    ) {
        let as_tables = match table.get(key) {
            Some(item) => item.is_array_of_tables(),
            None => !inline,
        };
        let written: Vec<Item> = match table.remove(key) {
            Some(Item::ArrayOfTables(rules)) => rules.into_iter().map(Item::Table).collect(),
            Some(Item::Value(Value::Array(rules))) => rules.into_iter().map(Item::Value).collect(),
            _ => Vec::new(),
        };
        let order: Vec<String> =
            written.iter().filter_map(Item::as_table_like).map(|one| self.name_of(one)).collect();
        let mut positions: Vec<_> =
            written.iter().filter_map(Item::as_table).filter_map(Table::position).collect();
        positions.sort_unstable();
        let mut positions = positions.into_iter();
        let mut written: BTreeMap<String, Item> = order.iter().cloned().zip(written).collect();
        let before = changed.len();
        let (mut tables, mut list) = (ArrayOfTables::new(), Array::new());
        for rule in new.iter().filter_map(Value::as_inline_table) {
            let name = self.name_of(rule);
            let path = format!("{} {name:?}", self.path);
            let item = match (written.remove(&name), old.get(&name)) {
                (Some(mut item), Some(old)) => {
                    let mut keys = Vec::new();
                    edit_table(&mut item, old, rule, &path, &mut keys);
                    changed.extend((!keys.is_empty()).then_some(path));
                    item
                }
                _ => {
                    changed.push(path);
                    Item::Value(rule.clone().into())
                }
            };
            if as_tables && let Ok(mut one) = item.clone().into_table() {
                if one.position().is_some() {
                    one.set_position(positions.next());
                } else {
                    one.iter_mut()
                        .filter_map(|(_, item)| item.as_value_mut())
                        .for_each(|value| value.decor_mut().clear());
                    one.decor_mut().set_prefix("\n");
                }
                tables.push(one);
            } else if let Ok(value) = item.into_value() {
                list.push_formatted(value);
            }
        }
        changed.extend(written.keys().map(|name| format!("{} {name:?}", self.path)));
        if changed.len() == before {
            changed.push(format!("the order of {}", self.path));
        }
        if !tables.is_empty() {
            table.insert(key, Item::ArrayOfTables(tables));
        } else if !list.is_empty() {
            table.insert(key, Item::Value(list.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_and_line_ends_stay_as_they_are() {
        let old = Config::default();
        let mut new = Config::default();
        new.responder.echo = false;
        for (text, expected) in [
            ("# one\n[responder]\necho = true # two\n", "# one\n[responder]\necho = false # two\n"),
            (
                "# one\r\n[responder]\r\necho = true # two\r\n",
                "# one\r\n[responder]\r\necho = false # two\r\n",
            ),
            ("\u{feff}[responder]\r\necho = true\r\n", "\u{feff}[responder]\r\necho = false\r\n"),
            ("\u{feff}[responder]\necho = true\n", "\u{feff}[responder]\necho = false\n"),
            ("\u{feff}# one\r\n", "\u{feff}# one\r\n\r\n[responder]\r\necho = false\r\n"),
        ] {
            assert_eq!(edit(text, &old, &new).expect("it is TOML").text, expected, "{text:?}");
            let _read = Config::parse(text, "x").expect("it is a configuration");
        }
    }
}
