//! `[peers]`: which peers are tracked, and names for some of them.
//!
//! Owns the keys and the size of the table. `observe/peers.rs` owns what is shown of a peer.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use icmp_common::abi::PEER_BUCKETS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::prefix::Prefix;
use crate::config::tables::tables;

/// Who is tracked: nobody where it is not said.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Peers {
    /// Number of peers that are tracked, or prefixes of their addresses; none if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// Peers with a name of their own in metrics.
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<NamedPeer>,
}

impl Peers {
    /// Peers that there is room for where only prefixes say who is tracked.
    pub const USUAL: u32 = 10_000;
    /// As many as can be asked for: 64 MiB.
    pub const MAX: u32 = 1 << 18;

    /// How many are tracked at most; 0 is nobody.
    pub fn most(&self) -> u32 {
        match &self.track {
            None => 0,
            Some(Track::Most(most)) => *most,
            Some(Track::From(prefixes)) if prefixes.is_empty() => 0,
            Some(Track::From(_)) => Self::USUAL,
        }
    }

    /// Buckets of a table for so many peers.
    pub fn buckets(most: u32) -> u32 {
        // Twice as many places as peers, four in each.
        (most / 2).next_power_of_two().max(PEER_BUCKETS)
    }
}

/// Who is tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Track {
    /// Whoever pings, so many at most; 0 is nobody.
    Most(u32),
    /// Sources in these prefixes.
    From(Vec<Prefix>),
}

impl JsonSchema for Track {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "peers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let prefix = generator.subschema_for::<Prefix>();
        json_schema!({ "type": ["integer", "array"], "minimum": 0, "maximum": Peers::MAX, "items": prefix })
    }
}

impl<'de> Deserialize<'de> for Track {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Track;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of peers like 10000, or a list of prefixes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Track, E> {
                let most = u32::try_from(number).ok().filter(|most| *most <= Peers::MAX);
                most.map(Track::Most).ok_or_else(|| {
                    E::custom(format!(
                        "{number} peers cannot be tracked: from 0, which is none, to {}",
                        Peers::MAX
                    ))
                })
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Track, A::Error> {
                let mut prefixes = Vec::new();
                while let Some(prefix) = items.next_element()? {
                    prefixes.push(prefix);
                }
                Ok(Track::From(prefixes))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Track {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Most(most) => serializer.serialize_u32(*most),
            Self::From(prefixes) => serializer.collect_seq(prefixes),
        }
    }
}

/// A peer with a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NamedPeer {
    /// Name of the peer in metrics and in `peers`.
    pub name: String,
    /// Source address of the peer's requests.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(track: Option<Track>) -> u32 {
        Peers::buckets(Peers { track, named: Vec::new() }.most())
    }

    #[test]
    fn a_table_has_twice_as_many_places_as_peers_and_never_fewer_than_without_any() {
        assert_eq!(buckets(None), PEER_BUCKETS);
        assert_eq!(buckets(Some(Track::Most(1))), PEER_BUCKETS);
        assert_eq!(buckets(Some(Track::Most(10_000))), 8192);
        assert_eq!(buckets(Some(Track::From(Vec::new()))), PEER_BUCKETS);
        assert_eq!(buckets(Some(Track::From(vec!["::/0".parse().expect("a prefix")]))), 8192);
        assert_eq!(buckets(Some(Track::Most(Peers::MAX))), 1 << 17);
    }
}
