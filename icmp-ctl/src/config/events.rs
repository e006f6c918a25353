//! `[events]`: receivers of events besides the journal.

use std::fmt;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::vip::{Check, Kind};

/// Receivers of events, besides the log of `serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Events {
    /// The program that is run for each event, and its arguments; the event is added as the last one.
    #[serde(deserialize_with = "command")]
    pub command: Option<Vec<String>>,
    /// Address to which each event is posted.
    pub webhook: Option<Webhook>,
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    if words.first().is_none_or(String::is_empty) {
        return Err(de::Error::custom(
            "a command that names no program; write it like [\"/usr/local/bin/notify\"]",
        ));
    }
    Ok(Some(words))
}

/// A page that takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    text: String,
    /// Where it is.
    pub address: SocketAddr,
    /// What the header `Host` says.
    pub host: String,
    /// The path, with its query.
    pub path: String,
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Webhook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // What can be asked over HTTP is the same wherever it is written.
        match text.parse::<Check>().map(|check| check.kind) {
            Ok(Kind::Http { address, host, path }) => Ok(Self { text, address, host, path }),
            Err(why) if text.starts_with("http://") => Err(de::Error::custom(why)),
            _ if text.starts_with("https://") => Err(de::Error::custom(format!(
                "{text:?}: events are posted over HTTP without TLS; have a proxy on this host bring them there, and write its address like \
                 \"http://127.0.0.1:8080/events\""
            ))),
            _ => Err(de::Error::custom(format!(
                "{text:?} is no page that events are posted to; write it like \"http://127.0.0.1:8080/events\""
            ))),
        }
    }
}

impl Serialize for Webhook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::file::Config;

    #[test]
    fn events_are_posted_to_an_address_over_http_and_to_nothing_else() {
        let events =
            |text: &str| Config::parse(&format!("[events]\n{text}\n"), "c.toml").map(|config| config.events);
        let webhook = events("webhook = \"http://[::1]:8080/a?b\"").expect("a page").webhook.expect("one");
        assert_eq!((webhook.address.port(), &*webhook.host, &*webhook.path), (8080, "[::1]:8080", "/a?b"));
        for (text, why) in [
            ("webhook = \"https://127.0.0.1/\"", "without TLS"),
            ("webhook = \"file:/tmp\"", "write it like"),
            ("webhook = \"http://example.org/\"", "names are not looked up"),
            ("command = []", "names no program"),
            ("command = \"notify\"", "expected a list"),
        ] {
            let error = events(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
