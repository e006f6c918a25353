//! The keys of the configuration as a JSON Schema, for editors and for the manual.
//!
//! Owns the description of values that are text in the file, and that each key has its default. The keys and their purposes are derived where
//! they are declared.

use std::borrow::Cow;

use anyhow::{Context as _, Result};
use icmp_common::path::checks::Check;
use icmp_common::policy::Preset;
use icmp_common::types::Budget;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::config::events::Webhook;
use crate::config::file::Config;
use crate::config::limits::{Bucket, Level, Memory, ResolvedLevel};
use crate::config::prefix::Prefix;
use crate::config::service::Listen;
use crate::config::span::Span;
use crate::config::units::Rate;
use crate::config::vip;
use crate::config::words::{Named, OneOrMany, Word};

/// The schema of the whole file. Tables are written out in place, and where a key has a default, it is there.
///
/// # Errors
/// A default has no form in JSON.
pub fn schema() -> Result<Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    let defaults = serde_json::to_value(defaults()).context("the defaults as JSON")?;
    set_defaults(&mut schema, &defaults);
    Ok(schema)
}

/// What is in force where nothing is configured, as far as it is not the host that says it.
fn defaults() -> Config {
    let mut config = Config::default();
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::KnownSources) {
        let (rate, burst) = config.limits.budget(*budget);
        *config.limits.bucket_mut(*budget) = Bucket { rate: Some(rate), burst: Some(burst) };
    }
    config.limits.per_source = level(config.limits.source());
    config.limits.per_prefix = level(config.limits.prefix());
    config.policy.preset = Some(Word(Preset::Host));
    for check in Check::ALL {
        let mode = config.policy.checks.mode(*check);
        *config.policy.checks.mode_mut(*check) = Some(Word(mode));
    }
    config.serve.on_stop = Some(Word(config.serve.on_stop()));
    config
}

fn level(level: ResolvedLevel) -> Level {
    Level {
        rate: Some(level.rate),
        burst: Some(level.burst),
        ipv4_prefix: Some(level.ipv4_prefix),
        ipv6_prefix: Some(level.ipv6_prefix),
    }
}

/// Sets the default of each key that has one, and takes it from those that have none.
fn set_defaults(table: &mut Value, defaults: &Value) {
    for (name, key) in table.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let default = &defaults[name];
        set_defaults(key, default);
        if let Some(item) = key.get_mut("items") {
            set_defaults(item, &Value::Null);
        }
        let Some(key) = key.as_object_mut() else { continue };
        key.remove("default");
        if !default.is_null() && !key.contains_key("properties") {
            key.insert("default".to_owned(), default.clone());
        }
    }
}

impl<T: Named> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::KIND.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = T::ALL.iter().map(|one| one.name()).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = ["string", "integer"];
        json_schema!({ "type": ["string", "integer", "array"], "items": { "type": word } })
    }
}

/// What is text of its own form in the file: what it is called, and one that may stand there.
macro_rules! text {
    ($($type:ty: $name:literal, $example:literal;)+) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "examples": [$example] })
            }
        })+
    };
}

text! {
    Rate: "rate", "1k/s";
    Span: "time", "250ms";
    Prefix: "prefix", "192.0.2.0/24";
    Memory: "memory", "1MiB";
    Listen: "place to listen at", "127.0.0.1:9816";
    vip::Check: "check", "tcp:127.0.0.1:443";
    Webhook: "page", "http://127.0.0.1:8080/events";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults of the keys that the page shows, of a table and those in it.
    fn compare(written: &toml::Table, schema: &Value, path: &str, seen: &mut usize) {
        for (name, written) in written {
            let key = &schema["properties"][name];
            assert!(key.is_object(), "docs/cli.md has {path}{name}, which is no key");
            match written {
                toml::Value::Table(table) => compare(table, key, &format!("{path}{name}."), seen),
                written => {
                    let written = serde_json::to_value(written).expect("a value of TOML");
                    assert_eq!(key["default"], written, "{path}{name}");
                    *seen += 1;
                }
            }
        }
    }

    #[test]
    fn the_defaults_in_the_documentation_are_those_of_the_schema() {
        let page = include_str!("../../../docs/cli.md");
        let (_, section) = page.split_once("## Configuration").expect("a section about the configuration");
        let text =
            section.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).expect("the keys");
        let mut seen = 0;
        compare(&text.parse().expect("TOML"), &schema().expect("a schema"), "", &mut seen);
        assert!(seen > 30, "{seen} defaults");
    }

    #[test]
    fn each_key_says_what_it_is_for_and_none_has_no_value_as_its_default() {
        fn look(table: &Value, path: &str) -> usize {
            let keys = table["properties"].as_object().into_iter().flatten();
            keys.map(|(name, key)| {
                let path = format!("{path}{name}.");
                assert!(key["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
                assert!(!key.get("default").is_some_and(Value::is_null), "{path}");
                1 + look(key, &path) + look(&key["items"], &path)
            })
            .sum()
        }
        assert!(look(&schema().expect("a schema"), "") > 60);
    }
}
