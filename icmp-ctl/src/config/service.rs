//! `[serve]`, and the address of `[metrics]`: the keys of the daemon.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::words::{Named, Word};
use crate::kernel::sockets::{FOLDER, is_for_readers};

/// `[serve]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Serve {
    /// Whether the program stays when `serve` is stopped, or is taken off; it stays by default.
    pub on_stop: Option<Word<OnStop>>,
}

impl Serve {
    /// What becomes of the program when `serve` is stopped.
    pub fn on_stop(&self) -> OnStop {
        self.on_stop.map_or(OnStop::Keep, |word| word.0)
    }
}

/// Where the metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At an address with a port.
    Tcp(SocketAddr),
    /// At a socket of the file system, which is written `unix:/PATH`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => {
                let path = PathBuf::from(path);
                Ok(Self::Unix(place_of_a_socket(&path).map_err(serde::de::Error::custom).map(|()| path)?))
            }
            _ => text.parse().map(Self::Tcp).map_err(|_| {
                serde::de::Error::custom(
                    "expected an address with a port, like \"127.0.0.1:9816\" or \"[::1]:9816\", or \"unix:/run/icmp-ctl/NAME\"",
                )
            }),
        }
    }
}

/// Refuses a path where `serve` makes no socket for metrics.
fn place_of_a_socket(path: &Path) -> Result<(), String> {
    if path.parent() != Some(Path::new(FOLDER)) {
        return Err(format!(
            "sockets are in {FOLDER}, which is `serve`'s own, and {} is not: write it like \"unix:{FOLDER}/metrics\"",
            path.display()
        ));
    }
    if is_for_readers(path) {
        return Err(format!(
            "{} is where `serve` answers members of the group who look without root (it is called after a network namespace); take another name \
             for the metrics, like \"unix:{FOLDER}/metrics\"",
            path.display()
        ));
    }
    Ok(())
}

impl Serialize for Listen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What becomes of the program when `serve` is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It goes on.
    Keep,
    /// It is taken off all interfaces of the namespace.
    Detach,
}

impl Named for OnStop {
    const KIND: &'static str = "way to stop";
    const ALL: &'static [Self] = &[Self::Keep, Self::Detach];

    fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Detach => "detach",
        }
    }
}
