//! The configuration as users write it: TOML, every key optional, an unknown key an error with its line.
//!
//! Owns the file's shape, its defaults and the checks that need nothing but the file. Turning it into what the program reads is
//! `settings.rs`'s.

use std::path::Path;

use anyhow::{Context as _, Result};
use icmp_common::policy::Budget;
use ipnet::IpNet;
use serde::Deserialize;

use crate::units::Rate;

/// Where the configuration lies when `-f` does not say otherwise; it need not exist.
pub const DEFAULT_PATH: &str = "/etc/icmp-ctl/config.toml";

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What `serve` attaches to.
    pub interfaces: Vec<String>,
    /// `[responder]`
    pub responder: Responder,
    /// `[limits]`
    pub limits: Limits,
    /// `[metrics]`
    pub metrics: Metrics,
}

/// Whom the program answers, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Responder {
    /// Whether echo requests are answered at all; if not, the kernel does it, within the limits.
    pub echo: bool,
    /// Prefixes that are answered although the host does not own them.
    pub vips: Vec<IpNet>,
    /// How much is verified before an answer.
    pub verify: Verify,
    /// TTL of IPv4 answers; the host's `ip_default_ttl` where it is not given.
    pub ttl: Option<u8>,
    /// Hop limit of IPv6 answers; the host's `hop_limit` where it is not given.
    pub hop_limit: Option<u8>,
}

/// How much is verified before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Both checksums.
    Full,
    /// The IP header's only; the sender's ICMP checksum is carried through.
    Header,
}

/// Rates and bursts; what is not given has the default of [`Limits::budget`], [`Limits::source`] or [`Limits::prefix`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory of the limiter's cells, like `4MiB`; fixed when the program is loaded.
    pub memory: Memory,
    /// Echo requests of one source.
    pub per_source: Level,
    /// Echo requests of one network.
    pub per_prefix: Level,
    /// All replies of the host.
    pub replies: Bucket,
    /// Errors about the host's own packets.
    pub errors: Bucket,
    /// Fragmentation needed and packet too big.
    pub path_mtu: Bucket,
    /// Neighbour discovery.
    pub neighbour_discovery: Bucket,
    /// Multicast listener and multicast router discovery.
    pub multicast_listener: Bucket,
    /// Replies to the host's own queries, and queries the kernel answers.
    pub queries: Bucket,
    /// Redirects.
    pub redirects: Bucket,
}

/// A rate and a burst.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bucket {
    /// Average.
    pub rate: Option<Rate>,
    /// What may come at once.
    pub burst: Option<u64>,
}

/// A rate and a burst for each address prefix.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
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
    /// Rate and burst of a budget; the reserve for familiar sources is made from the replies' by `settings.rs`.
    pub fn budget(&self, budget: Budget) -> (Rate, u64) {
        let (bucket, rate, burst) = match budget {
            Budget::Replies | Budget::Familiar => (self.replies, 1e6, 100_000),
            Budget::Errors => (self.errors, 1e3, 2_000),
            Budget::PathMtu => (self.path_mtu, 1e5, 100_000),
            Budget::NeighbourDiscovery => (self.neighbour_discovery, 1e4, 10_000),
            Budget::MulticastListener => (self.multicast_listener, 1e4, 10_000),
            Budget::Queries => (self.queries, 1e4, 10_000),
            Budget::Redirects => (self.redirects, 10.0, 20),
        };
        (bucket.rate.unwrap_or(Rate::PerSecond(rate)), bucket.burst.unwrap_or(burst))
    }

    /// The per-source level.
    pub fn source(&self) -> ResolvedLevel {
        self.per_source.resolve(ResolvedLevel {
            rate: Rate::PerSecond(1e2),
            burst: 200,
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        })
    }

    /// The per-prefix level.
    pub fn prefix(&self) -> ResolvedLevel {
        self.per_prefix.resolve(ResolvedLevel {
            rate: Rate::PerSecond(5e3),
            burst: 10_000,
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

/// Bytes, written like `4MiB` or `512KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub u64);

/// The metrics endpoint of `serve`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// Where it listens.
    pub listen: std::net::SocketAddr,
}

impl Default for Responder {
    fn default() -> Self {
        Self { echo: true, vips: Vec::new(), verify: Verify::Full, ttl: None, hop_limit: None }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(2 << 20)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: std::net::SocketAddr::from(([127, 0, 0, 1], 9816)) }
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let bytes = units.iter().find_map(|(suffix, unit): &(&str, u64)| {
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

impl Memory {
    /// Below this, sources share cells all the time.
    const MIN: u64 = 128 << 10;
    /// Above this, an array map's index arithmetic and everybody's patience end.
    const MAX: u64 = 1 << 30;

    /// Cells in each of the limiter's rows: the largest power of two that fits.
    pub fn cells_per_row(self) -> u32 {
        let cells = self.0 / u64::from(icmp_common::pipeline::ROWS) / 8;
        1 << cells.ilog2()
    }
}

impl Config {
    /// Reads a configuration from its text; `name` is what errors call it.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a value that does not fit its key: with line and column and the line itself.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| anyhow::anyhow!("{name}: {}", error.to_string().trim_end()))
    }

    /// Reads the file that `-f` names (`-` is standard input), or the default one, or the defaults where that does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is no configuration.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return match std::fs::read_to_string(DEFAULT_PATH) {
                Ok(text) => Self::parse(&text, DEFAULT_PATH),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
                Err(error) => Err(error).with_context(|| format!("reading the configuration {DEFAULT_PATH}")),
            };
        };
        let name = path.display().to_string();
        let text = if name == "-" {
            std::io::read_to_string(std::io::stdin())
                .context("reading the configuration from standard input")?
        } else {
            std::fs::read_to_string(path).with_context(|| format!("reading the configuration {name}"))?
        };
        Self::parse(&text, &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        let config = Config::parse("", "x").expect("an empty file is fine");
        assert!(config.responder.echo);
        assert_eq!(config.responder.verify, Verify::Full);
        assert_eq!(config.limits.source().burst, 200);
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error =
            Config::parse("[responder]\necho = true\nverfiy = \"full\"\n", "c.toml").expect_err("misspelt");
        let text = error.to_string();
        assert!(text.contains("c.toml") && text.contains("line 3") && text.contains("verfiy"), "{text}");
    }

    #[test]
    fn a_size_is_rounded_down_to_what_rows_can_have() {
        assert_eq!(Memory(2 << 20).cells_per_row(), 1 << 15);
        assert_eq!(Memory(3 << 20).cells_per_row(), 1 << 16);
    }
}
