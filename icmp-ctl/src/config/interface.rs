//! Names of interfaces in the configuration.
//!
//! Owns which names no interface can have. `host/patterns.rs` owns which interfaces a name stands for.

use serde::{Deserialize, Deserializer};

/// Bytes of an alternative name at most, which is longer than a name (`ALTIFNAMSIZ` without its zero byte, include/uapi/linux/if.h,
/// Linux 5.5).
const LONGEST: usize = 127;

/// A name or a pattern that some interface can have or fit.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;

    /// As `ip` has it for names and alternative names.
    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST || text.contains(|c: char| c == '/' || c.is_whitespace()) {
            return Err(format!(
                "{text:?} is no name that an interface can have: they are of 1 to {LONGEST} bytes, without spaces and slashes"
            ));
        }
        Ok(Self(text))
    }
}

/// Reads a list of them.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Name>::deserialize(deserializer)?.into_iter().map(|Name(name)| name).collect())
}
