//! `[limits]`: rates and bursts, and the memory of the limiter.
//!
//! Owns their defaults.

use icmp_common::abi::Line;
use icmp_common::types::Budget;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::tables::limit;
use crate::config::units::Rate;

/// Rates and bursts; what is not given has the default of [`Limits::budget`], [`Limits::source`] or [`Limits::prefix`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory of the limiter's buckets, like `4MiB`; fixed when the program is loaded.
    pub memory: Memory,
    /// Echo requests of one source.
    #[serde(deserialize_with = "limit")]
    pub per_source: Level,
    /// Echo requests of one network.
    #[serde(deserialize_with = "limit")]
    pub per_prefix: Level,
    /// All replies of the host.
    #[serde(deserialize_with = "limit")]
    pub replies: Bucket,
    /// Errors about the host's own packets.
    #[serde(deserialize_with = "limit")]
    pub errors: Bucket,
    /// Fragmentation needed and packet too big.
    #[serde(deserialize_with = "limit")]
    pub path_mtu: Bucket,
    /// Neighbour discovery.
    #[serde(deserialize_with = "limit")]
    pub neighbour_discovery: Bucket,
    /// Multicast listener and multicast router discovery.
    #[serde(deserialize_with = "limit")]
    pub multicast_listener: Bucket,
    /// Replies to the host's own queries, and queries the kernel answers.
    #[serde(deserialize_with = "limit")]
    pub queries: Bucket,
    /// Redirects.
    #[serde(deserialize_with = "limit")]
    pub redirects: Bucket,
    /// Messages that fail a check that is only counted.
    #[serde(deserialize_with = "limit")]
    pub unverified: Bucket,
}

/// A rate and a burst.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bucket {
    /// Average.
    pub rate: Option<Rate>,
    /// What may come at once.
    pub burst: Option<u64>,
}

/// A rate and a burst for each address prefix.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Level {
    /// Average.
    pub rate: Option<Rate>,
    /// What may come at once.
    pub burst: Option<u64>,
    /// Leading bits of an IPv4 address that share a bucket.
    pub ipv4_prefix: Option<u8>,
    /// Leading bits of an IPv6 address that share a bucket.
    pub ipv6_prefix: Option<u8>,
}

/// A level with nothing left open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResolvedLevel {
    /// Average.
    pub rate: Rate,
    /// What may come at once.
    pub burst: u64,
    /// Leading bits of an IPv4 address that share a bucket.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that share a bucket.
    pub ipv6_prefix: u8,
}

impl Limits {
    /// What is written of a budget; known sources have their share of the replies.
    pub const fn bucket_mut(&mut self, budget: Budget) -> &mut Bucket {
        match budget {
            Budget::Replies | Budget::KnownSources => &mut self.replies,
            Budget::Errors => &mut self.errors,
            Budget::PathMtu => &mut self.path_mtu,
            Budget::NeighbourDiscovery => &mut self.neighbour_discovery,
            Budget::MulticastListener => &mut self.multicast_listener,
            Budget::Queries => &mut self.queries,
            Budget::Redirects => &mut self.redirects,
            Budget::Unverified => &mut self.unverified,
        }
    }

    /// Rate and burst of a budget; the reserve for known sources is made from the replies' by `policy/limits.rs`.
    pub fn budget(&self, budget: Budget) -> (Rate, u64) {
        let (bucket, rate, burst) = match budget {
            Budget::Replies | Budget::KnownSources => (self.replies, 1e6, 100_000),
            Budget::Errors => (self.errors, 1e3, 2_000),
            Budget::PathMtu => (self.path_mtu, 1e5, 100_000),
            Budget::NeighbourDiscovery => (self.neighbour_discovery, 1e4, 10_000),
            Budget::MulticastListener => (self.multicast_listener, 1e4, 10_000),
            Budget::Queries => (self.queries, 1e4, 10_000),
            Budget::Redirects => (self.redirects, 10.0, 20),
            Budget::Unverified => (self.unverified, 1e2, 200),
        };
        (bucket.rate.unwrap_or(Rate::PerSecond(rate)), bucket.burst.unwrap_or(burst))
    }

    /// The per-source level.
    pub fn source(&self) -> ResolvedLevel {
        self.per_source.resolve(ResolvedLevel {
            rate: Rate::PerSecond(1e3),
            burst: 2_000,
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        })
    }

    /// The per-prefix level.
    pub fn prefix(&self) -> ResolvedLevel {
        self.per_prefix.resolve(ResolvedLevel {
            rate: Rate::PerSecond(2e4),
            burst: 40_000,
            ipv4_prefix: 24,
            ipv6_prefix: 48,
        })
    }
}

impl Level {
    fn resolve(self, default: ResolvedLevel) -> ResolvedLevel {
        ResolvedLevel {
            rate: self.rate.unwrap_or(default.rate),
            burst: self.burst.unwrap_or(default.burst),
            ipv4_prefix: self.ipv4_prefix.unwrap_or(default.ipv4_prefix),
            ipv6_prefix: self.ipv6_prefix.unwrap_or(default.ipv6_prefix),
        }
    }
}

/// Units of memory and their bytes, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Bytes, written like `4MiB` or `512KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub u64);

impl Default for Memory {
    fn default() -> Self {
        Self(1 << 20)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = UNITS.iter().find_map(|(suffix, unit)| {
            text.strip_suffix(suffix)?.trim_end().parse::<u64>().ok()?.checked_mul(*unit)
        });
        match bytes {
            Some(bytes) if (Self::MIN..=Self::MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom(format!(
                "{text:?} is no size for the limiter: write it like 512KiB or 4MiB, from 128KiB to 1GiB"
            ))),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (unit, bytes) =
            UNITS.iter().find(|(_, bytes)| self.0.is_multiple_of(*bytes)).unwrap_or(&UNITS[UNITS.len() - 1]);
        serializer.collect_str(&format_args!("{}{unit}", self.0 / bytes))
    }
}

impl Memory {
    /// Below this, sources share buckets all the time.
    const MIN: u64 = 128 << 10;
    /// Above this, an array map's index arithmetic and everybody's patience end.
    const MAX: u64 = 1 << 30;

    /// Bytes that the limiter takes of it.
    pub fn bytes_used(self) -> u64 {
        2 * u64::from(self.lines()) * size_of::<Line>() as u64
    }

    /// Lines of the limiter's table of sources: the largest power of two that fits.
    pub fn lines(self) -> u32 {
        // Half as many lines of prefixes and of known sources belong to them.
        let lines = self.0 / (2 * size_of::<Line>() as u64);
        1 << lines.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_down_to_a_power_of_two_of_lines() {
        assert_eq!(Memory(1 << 20).lines(), 1 << 13);
        assert_eq!(Memory(3 << 20).lines(), 1 << 14);
    }
}
