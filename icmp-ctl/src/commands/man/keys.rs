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
    if types.contains("array") {
        let item = kind(&key["items"]);
        return if types.contains("string") {
            format!("{item}, or a list of these")
        } else {
            format!("a list of {item}")
        };
    }
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
    match &key["additionalProperties"] {
        values @ Value::Object(_) => format!("a table of types with {}", kind(values)),
        _ => words.join(" or "),
    }
}
