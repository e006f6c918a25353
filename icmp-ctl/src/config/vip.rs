//! `[[responder.vip]]`: a VIP prefix that is answered while a check reports its service as healthy.
//!
//! Owns its keys, their defaults, and the grammar of a check. `health/probe.rs` runs the checks.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use icmp_common::abi::GATE_CHECK_LEN;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::prefix::Prefix;
use crate::config::span::Span;
use crate::config::words::{Named, Word};

/// A VIP with a check.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Vip {
    /// The prefix, whose addresses have one check.
    pub prefix: Prefix,
    /// The check.
    pub check: Check,
    /// Time between two checks; a second if it is not given.
    #[serde(default)]
    pub interval: Option<Span>,
    /// Time after which a check has failed; a second if it is not given.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// Successful checks in a row until the VIP is healthy; 2 if it is not given.
    #[serde(default)]
    pub rise: Option<u32>,
    /// Failed checks in a row until the VIP is unhealthy; 3 if it is not given.
    #[serde(default)]
    pub fall: Option<u32>,
    /// Action for echo requests while the VIP is unhealthy; they are passed if it is not given.
    #[serde(default)]
    pub unhealthy: Option<Word<Unhealthy>>,
}

impl Vip {
    /// Time between two checks, and time that one may take, where nothing is said.
    pub const SECOND: Duration = Duration::from_secs(1);
    /// Successes and failures that count, where nothing is said.
    pub const COUNTS: (u32, u32) = (2, 3);
}

/// What is done with echo requests to a VIP that is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    /// They go to the kernel's stack.
    Pass,
    /// They are dropped.
    Drop,
}

impl Named for Unhealthy {
    const KIND: &'static str = "way to treat what is unhealthy";
    const ALL: &'static [Self] = &[Self::Pass, Self::Drop];

    fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// The check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// As it was written.
    text: String,
    /// What that means.
    pub kind: Kind,
}

/// The kinds of checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file is there.
    File(PathBuf),
    /// A TCP connection is accepted.
    Tcp(SocketAddr),
    /// `GET` of a path is answered by a status of 200 to 299.
    Http {
        /// Where.
        address: SocketAddr,
        /// What the header `Host` says.
        host: String,
        /// The path, with its query.
        path: String,
    },
    /// The unit is active.
    Systemd(String),
}

const GRAMMAR: &str = "write it like \"file:/run/healthy\", \"tcp:127.0.0.1:443\", \"http://127.0.0.1/healthz\" or \"systemd:nginx.service\"";

impl Check {
    /// The port that it connects to.
    pub const fn port(&self) -> Option<u16> {
        match &self.kind {
            Kind::Tcp(address) | Kind::Http { address, .. } => Some(address.port()),
            Kind::File(_) | Kind::Systemd(_) => None,
        }
    }

    /// Whether it cannot be given up before it has ended by itself.
    pub const fn blocks(&self) -> bool {
        matches!(self.kind, Kind::File(_) | Kind::Systemd(_))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > GATE_CHECK_LEN {
            return Err(format!(
                "a check of {} bytes is too long; there is room for {GATE_CHECK_LEN}",
                text.len()
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("{text:?} has a control character in it; {GRAMMAR}"));
        }
        Ok(Self { kind: kind(text)?, text: text.to_owned() })
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    let address = |text: &str, default: &str| {
        let whole = format!("{text}{default}");
        match whole.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(address),
            _ => Err(format!(
                "{text:?} is no address with a port that can be connected to, like 127.0.0.1:80 or [::1]:80; names are not looked up"
            )),
        }
    };
    if let Some(path) = text.strip_prefix("file:") {
        if !path.starts_with('/') {
            return Err(format!("{path:?} is no whole path; write it like file:/run/healthy"));
        }
        return Ok(Kind::File(path.into()));
    }
    if let Some(to) = text.strip_prefix("tcp:") {
        return address(to, "").map(Kind::Tcp);
    }
    if let Some(rest) = text.strip_prefix("http://") {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.contains([' ', '#']) || !path.is_ascii() {
            return Err(format!("{path:?} cannot be asked for over HTTP"));
        }
        let has_port = host.parse::<SocketAddr>().is_ok();
        let path = if path.is_empty() { "/" } else { path };
        return Ok(Kind::Http {
            address: address(host, if has_port { "" } else { ":80" })?,
            host: host.to_owned(),
            path: path.to_owned(),
        });
    }
    if let Some(unit) = text.strip_prefix("systemd:") {
        if unit.is_empty() || unit.starts_with('-') || unit.contains([' ', '/', '*', '?', '[']) {
            return Err(format!("{unit:?} is no name of a unit; write it like systemd:nginx.service"));
        }
        return Ok(Kind::Systemd(unit.to_owned()));
    }
    let tls = if text.starts_with("https://") { ", and pages are asked for without TLS" } else { "" };
    Err(format!("{text:?} is no check{tls}; {GRAMMAR}"))
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<Kind, String> {
        text.parse::<Check>().map(|check| check.kind)
    }

    #[test]
    fn a_check_is_a_file_a_port_a_page_or_a_unit() {
        let to = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(kind("file:/run/healthy"), Ok(Kind::File("/run/healthy".into())));
        assert_eq!(kind("tcp:[::1]:443"), Ok(Kind::Tcp(to("[::1]:443"))));
        assert_eq!(kind("systemd:a@b.service"), Ok(Kind::Systemd("a@b.service".to_owned())));
        for (text, address, host, path) in [
            ("http://127.0.0.1/healthz?x=1", "127.0.0.1:80", "127.0.0.1", "/healthz?x=1"),
            ("http://[::1]:8080", "[::1]:8080", "[::1]:8080", "/"),
            ("http://[::1]/", "[::1]:80", "[::1]", "/"),
        ] {
            let (address, host, path) = (to(address), host.to_owned(), path.to_owned());
            assert_eq!(kind(text), Ok(Kind::Http { address, host, path }), "{text}");
        }
    }

    #[test]
    fn what_is_no_check_is_refused_with_one_that_is() {
        for (text, why) in [
            ("", "write it like"),
            ("https://127.0.0.1/", "without TLS"),
            ("file:healthy", "file:/run/healthy"),
            ("tcp:localhost:443", "names are not looked up"),
            ("tcp:127.0.0.1", "with a port"),
            ("tcp:127.0.0.1:0", "with a port"),
            ("http://example.org/", "names are not looked up"),
            ("http://127.0.0.1/a b", "over HTTP"),
            ("systemd:", "name of a unit"),
            ("systemd:--all", "name of a unit"),
            ("file:/a\nb", "control character"),
        ] {
            let error = kind(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!(kind(&format!("file:/{}", "x".repeat(GATE_CHECK_LEN))).is_err(), "too long");
    }
}
