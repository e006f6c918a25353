//! The manual page of the configuration, from the keys that are read.
//!
//! Owns how a key is shown. The schema of `config` has names, defaults and purposes.

use anyhow::Result;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::Value;

use super::keys::{default_of, is_section, kind, text};
use super::{Page, title};
use crate::config::file::DEFAULT_PATH;
use crate::config::schema::schema;

const NAME: &str = "icmp-ctl.toml";
const SECTION: &str = "5";

const DESCRIPTION: &str = "TOML. Every key is optional, except those that are marked as needed. An unknown key is an error with its line.";

pub(super) fn page() -> Result<Page> {
    let mut roff = Roff::new();
    title(&mut roff, NAME, SECTION);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{NAME} - configuration of icmp-ctl"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(DEFAULT_PATH)]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(DESCRIPTION)]);
    table(&mut roff, "", &schema()?);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("icmp-ctl"), roman("(8), "), bold("icmp-ctl-apply"), roman("(8)")]);
    let mut page = Vec::new();
    roff.to_writer(&mut page)?;
    Ok((format!("{NAME}.{SECTION}"), page))
}

/// The keys of a table, then the tables in it.
fn table(roff: &mut Roff, path: &str, table: &Value) {
    let keys = table["properties"].as_object().into_iter().flatten();
    let (tables, keys): (Vec<_>, Vec<_>) =
        keys.partition(|(_, key)| is_section(key) || is_section(&key["items"]));
    for (name, key) in keys {
        roff.control("TP", []);
        let default = default_of(key).map(|default| format!(" = {default}"));
        roff.text([bold(name), roman(default.unwrap_or_default())]);
        let needed =
            table["required"].as_array().is_some_and(|needed| needed.contains(&name.as_str().into()));
        let needed = if needed { " It is needed." } else { "" };
        roff.text([roman(format!("{}{needed} Takes {}.", text(key), kind(key)))]);
    }
    for (name, key) in tables {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let (heading, key_or_item) = match &key["items"] {
            Value::Null => (format!("[{path}]"), key),
            item => (format!("[[{path}]]"), item),
        };
        roff.control("SH", [heading.as_str()]);
        roff.text([roman(text(key))]);
        self::table(roff, &path, key_or_item);
    }
}
