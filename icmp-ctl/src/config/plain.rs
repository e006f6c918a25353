//! The parser's messages in the words of the configuration.
//!
//! Owns the translation of serde's messages, which name types and fields of this program.

use crate::config::suggestions::did_you_mean;

/// The message without words that only programmers of Rust know.
pub(super) fn plain(message: &str) -> String {
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, wanted)) = wrong.and_then(|wrong| wrong.split_once(", expected ")) {
        return format!("expected {}, not {}", expected(wanted), unexpected(found));
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match (&quoted[..], message) {
        ([key, known @ ..], _) if message.starts_with("unknown field ") => {
            format!(
                "no key is called {key:?} here; there are {}{}",
                known.join(", "),
                did_you_mean(key, known.iter().copied())
            )
        }
        ([key], _) if message.starts_with("missing field ") => format!("the key {key:?} is missing"),
        (_, "invalid IP address syntax") => {
            "this is no IP address; they look like 192.0.2.1 or 2001:db8::1".to_owned()
        }
        (_, "invalid IPv6 address syntax") => "this is no IPv6 address; they look like fe80::1".to_owned(),
        _ => message.to_owned(),
    }
}

/// What a key takes.
fn expected(wanted: &str) -> &str {
    match wanted {
        "u8" => "a whole number from 0 to 255",
        "a nonzero u8" => "a whole number from 1 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        wanted => wanted,
    }
}

/// What it was given.
fn unexpected(found: &str) -> String {
    // Of a number that is too large a type is named behind it.
    let found = found.split_once("` as ").map_or(found, |(found, _)| found);
    let value = |kind| found.strip_prefix(kind).map(|value: &str| value.trim_matches('`').to_owned());
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        _ => value("integer ")
            .or_else(|| value("floating point "))
            .or_else(|| value("boolean "))
            .or_else(|| value("string "))
            .unwrap_or_else(|| found.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_the_parser_says_is_said_without_the_types_of_this_program() {
        for (message, said) in [
            ("invalid type: integer `1`, expected a string", "expected text in quotes, not 1"),
            ("invalid value: integer `300`, expected u8", "expected a whole number from 0 to 255, not 300"),
            (
                "invalid type: integer `99999999999999999999` as i128, expected u64",
                "expected a whole number, not 99999999999999999999",
            ),
            ("invalid type: map, expected a sequence", "expected a list in brackets, not a table"),
            (
                "unknown field `verfiy`, expected one of `echo`, `verify`",
                "no key is called \"verfiy\" here; there are echo, verify; did you mean verify?",
            ),
            (
                "unknown field `x`, expected one of `echo`, `verify`",
                "no key is called \"x\" here; there are echo, verify",
            ),
            ("missing field `action`", "the key \"action\" is missing"),
            ("unclosed table, expected `]`", "unclosed table, expected `]`"),
        ] {
            assert_eq!(plain(message), said);
        }
    }
}
