//! A key of the configuration in words, from its JSON Schema.

use serde_json::Value;

/// Whether a key is a table with a heading of its own. One that limits is written in one line.
pub(super) fn is_section(key: &Value) -> bool {
    key["properties"].is_object() && key["properties"]["rate"].is_null()
}

/// What a key is for.
pub(super) fn text(key: &Value) -> &str {
    key["description"].as_str().unwrap_or_default()
}

/// The default, as it would be written.
pub(super) fn default_of(key: &Value) -> Option<String> {
    let Some(keys) = key["properties"].as_object() else { return key.get("default").map(Value::to_string) };
    let set = keys.iter().filter_map(|(name, key)| Some(format!("{name} = {}", default_of(key)?)));
    Some(format!("{{ {} }}", set.collect::<Vec<_>>().join(", ")))
}

/// What may stand behind a key.
pub(super) fn kind(key: &Value) -> String {
    let list = |values: &Value, between: &str| {
        let values = values.as_array().into_iter().flatten().filter(|value| !value.is_null());
        values.map(Value::to_string).collect::<Vec<_>>().join(between)
    };
    if let Some(keys) = key["properties"].as_object() {
        let keys: Vec<_> = keys.iter().map(|(name, key)| format!("{name} ({})", kind(key))).collect();
        return format!("a table of {}", keys.join(", "));
    }
    if key["enum"].is_array() {
        return list(&key["enum"], " or ");
    }
    if key["examples"].is_array() {
        return format!("text like {}", list(&key["examples"], " or "));
    }
    let types = list(&key["type"], " ");
    let types = if types.is_empty() { key["type"].to_string() } else { types };
    let words: Vec<_> = [
        ("boolean", "true or false"),
        ("string", "text"),
        ("integer", "a whole number"),
        ("object", "a table"),
    ]
    .iter()
    .filter(|(name, _)| types.contains(name))
    .map(|(_, word)| *word)
    .collect();
    let words = words.join(" or ");
    if types.contains("array") {
        return match kind(&key["items"]) {
            item if words.is_empty() => format!("a list of {item}"),
            item if item == words => format!("{item}, or a list of these"),
            item => format!("{words}, or a list of {item}"),
        };
    }
    match &key["additionalProperties"] {
        values @ Value::Object(_) => format!("a table of types with {}", kind(values)),
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::schema;

    #[test]
    fn a_key_that_takes_a_number_or_a_list_says_both() {
        let schema = schema().expect("a schema");
        for (table, key, takes) in [
            ("peers", "track", "a whole number, or a list of text like \"192.0.2.0/24\""),
            ("responder", "vips", "a list of text like \"192.0.2.0/24\""),
            ("events", "command", "a list of text"),
        ] {
            assert_eq!(kind(&schema["properties"][table]["properties"][key]), takes, "{key}");
        }
        let rule = &schema["properties"]["policy"]["properties"]["rule"]["items"]["properties"];
        assert_eq!(kind(&rule["from"]), "text or a whole number, or a list of these");
    }
}
