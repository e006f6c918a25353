//! The configuration as users write it: TOML, every key optional, an unknown key an error with its line.
//!
//! Owns the file's shape, its defaults and the checks that need nothing but the file. `policy` compiles it for the program.

use icmp_common::types::Action;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use icmp_common::path::checks::{Check, Mode};
use icmp_common::policy::Preset;
use icmp_common::types::Family;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::events::Events;
use crate::config::interface;
use crate::config::limits::Limits;
use crate::config::peers::Peers;
use crate::config::plain::plain;
use crate::config::prefix::Prefix;
use crate::config::service::{Listen, Serve};
use crate::config::source::{Invalid, Source};
use crate::config::tables::{table, tables};
use crate::config::units::Rate;
use crate::config::vip::Vip;
use crate::config::words::{Named, OneOrMany, Word};
use crate::kernel::files::{is_standard_stream, is_there_for_others, read_again, read_once, to_the_end};

/// Where the configuration lies when `-f` does not say otherwise; it need not exist.
pub const DEFAULT_PATH: &str = "/etc/icmp-ctl/config.toml";

/// What is before the path of a list of prefixes.
pub const LIST: &str = "file:";

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Interfaces that `serve` attaches to.
    #[serde(deserialize_with = "interface::names")]
    pub interfaces: Vec<String>,
    /// Which requests the program answers, and how.
    #[serde(deserialize_with = "table")]
    pub responder: Responder,
    /// Rates and bursts, each with a default of its own, and the memory of the limiter. Rates are written like 100/s, 6000/min, 5k/s or 1.5Mpps;
    /// 0 admits nothing, and unlimited everything.
    #[serde(deserialize_with = "table")]
    pub limits: Limits,
    /// Actions for messages.
    #[serde(deserialize_with = "table")]
    pub policy: Policy,
    /// Which peers are tracked, and names for some of them.
    #[serde(deserialize_with = "table")]
    pub peers: Peers,
    /// The metrics endpoint of `serve`.
    #[serde(deserialize_with = "table")]
    pub metrics: Metrics,
    /// The daemon.
    #[serde(deserialize_with = "table")]
    pub serve: Serve,
    /// Receivers of events, besides the log of `serve`.
    #[serde(deserialize_with = "table")]
    pub events: Events,
    /// Where it was read, for errors that are found later.
    #[serde(skip)]
    source: Source,
}

/// A configuration for later.
pub struct Kept(Source);

impl Kept {
    /// The configuration.
    ///
    /// # Errors
    /// None, unless it could not be read in the first place.
    pub fn parse(&self) -> Result<Config> {
        Config::parse(&self.0.text, &self.0.name)
    }
}

/// `[responder]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Responder {
    /// Whether echo requests are answered; if not, they are passed to the kernel within the limits.
    pub echo: bool,
    /// Prefixes that are answered although the host does not own them.
    pub vips: Vec<Prefix>,
    /// Prefixes that are answered while a check reports their service as healthy.
    #[serde(deserialize_with = "tables", skip_serializing_if = "Vec::is_empty")]
    pub vip: Vec<Vip>,
    /// Whether a VIP prefix may be shorter than /8 or, of IPv6, /32.
    pub wide_vips: bool,
    /// How much is verified before an answer.
    pub verify: Word<Verify>,
    /// TTL of IPv4 answers; the host's `ip_default_ttl` if it is not given.
    // Never zero: RFC 1122 section 3.2.1.7.
    pub ttl: Option<NonZeroU8>,
    /// Hop limit of IPv6 answers; the host's `hop_limit` if it is not given.
    pub hop_limit: Option<NonZeroU8>,
    /// Whether an address of the host is answered on its interface only, or on every interface.
    pub own: Word<Own>,
    /// Whether echo requests are passed to the kernel if its switches make it ignore them.
    pub respect_sysctl: bool,
}

/// `[policy]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// The table of all types to start from.
    pub preset: Option<Word<Preset>>,
    /// Types of ICMP with another action than in the preset.
    pub ipv4: BTreeMap<String, Word<Action>>,
    /// Types of ICMPv6 with another action than in the preset.
    pub ipv6: BTreeMap<String, Word<Action>>,
    /// Actions for messages that fail a check.
    #[serde(deserialize_with = "table")]
    pub checks: Checks,
    /// Guards that may be broken, by name.
    pub allow_break: Vec<String>,
    /// Rules; the first that matches decides.
    #[serde(deserialize_with = "tables")]
    pub rule: Vec<Rule>,
}

/// `[policy.checks]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Checks {
    /// Errors about packets that this host cannot have sent.
    pub quote: Option<Word<Mode>>,
    /// Path MTUs smaller than any link's.
    pub path_mtu: Option<Word<Mode>>,
    /// Neighbour discovery that is malformed, or from beyond the link.
    pub neighbour_discovery: Option<Word<Mode>>,
    /// Router advertisements from none of `routers`.
    pub router_guard: Option<Word<Mode>>,
    /// Link-local addresses of the routers.
    pub routers: Vec<std::net::Ipv6Addr>,
}

impl Checks {
    /// What is done with a message that fails a check. Where nothing is said, it is counted, because the kernel judges it too; but what
    /// discards neighbour discovery from afar is there before it can cost the host anything.
    pub fn mode(&self, check: Check) -> Mode {
        let (configured, default) = match check {
            Check::Quote => (self.quote, Mode::Count),
            Check::PathMtu => (self.path_mtu, Mode::Count),
            Check::NeighbourDiscovery => (self.neighbour_discovery, Mode::Drop),
            Check::RouterGuard => (self.router_guard, Mode::Off),
        };
        configured.map_or(default, |word| word.0)
    }

    /// What is written about a check.
    pub const fn mode_mut(&mut self, check: Check) -> &mut Option<Word<Mode>> {
        match check {
            Check::Quote => &mut self.quote,
            Check::PathMtu => &mut self.path_mtu,
            Check::NeighbourDiscovery => &mut self.neighbour_discovery,
            Check::RouterGuard => &mut self.router_guard,
        }
    }
}

/// A rule: what it matches, and what is done with that.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Name of the rule, which keeps its counters as long as a rule has that name.
    pub name: String,
    /// Family of the messages; both if it is not given and no other key implies one.
    #[serde(default)]
    pub family: Option<Word<Family>>,
    /// Prefixes of the source, or `file:` and a path; an empty list matches nothing.
    #[serde(default)]
    pub from: Option<OneOrMany>,
    /// Prefixes of the destination, likewise.
    #[serde(default)]
    pub to: Option<OneOrMany>,
    /// Types, by name or number, with `/code` for one code.
    #[serde(default, rename = "type")]
    pub types: Option<OneOrMany>,
    /// Identifiers of the outer VLAN tag; 0 is untagged.
    #[serde(default)]
    pub vlan: Option<OneOrMany>,
    /// Bytes of the ICMP message: `64`, `64-128` or `1000-`.
    #[serde(default)]
    pub length: Option<OneOrMany>,
    /// TTL or hop limit: `255`, `1-10` or `200-`.
    #[serde(default)]
    pub hop_limit: Option<OneOrMany>,
    /// The action.
    pub action: Word<Action>,
    /// The rule's own limit, instead of all others.
    #[serde(default)]
    pub limit: Option<Rate>,
    /// Packets that are admitted at once; as many as in a second if it is not given.
    #[serde(default)]
    pub burst: Option<u64>,
    /// Whether the rule only counts what it would do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
}

/// On which interfaces an address of the host is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// On the one that has it; on all where loopback has it.
    Interface,
    /// On all.
    Host,
}

impl Named for Own {
    const KIND: &'static str = "place for own addresses";
    const ALL: &'static [Self] = &[Self::Interface, Self::Host];

    fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Host => "host",
        }
    }
}

/// How much is verified before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Both checksums.
    Full,
    /// The IP header's only; the sender's ICMP checksum is carried through.
    Header,
}

impl Named for Verify {
    const KIND: &'static str = "extent of verification";
    const ALL: &'static [Self] = &[Self::Full, Self::Header];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Header => "header",
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// Address and port of the endpoint, or a socket like unix:/run/icmp-ctl/NAME.
    pub listen: Listen,
}

impl Default for Responder {
    fn default() -> Self {
        Self {
            echo: true,
            vips: Vec::new(),
            vip: Vec::new(),
            wide_vips: false,
            verify: Word(Verify::Full),
            ttl: None,
            hop_limit: None,
            own: Word(Own::Interface),
            respect_sysctl: false,
        }
    }
}

impl Responder {
    /// All prefixes that are answered although the host does not own them, each with where it is in the file.
    pub fn prefixes(&self) -> impl Iterator<Item = (Prefix, [String; 3])> {
        let at = |list: &str, i: usize| ["responder".to_owned(), list.to_owned(), i.to_string()];
        let always = self.vips.iter().enumerate().map(move |(i, prefix)| (*prefix, at("vips", i)));
        always.chain(self.vip.iter().enumerate().map(move |(i, vip)| (vip.prefix, at("vip", i))))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Listen::Tcp(([127, 0, 0, 1], 9816).into()) }
    }
}

impl Config {
    /// Reads a configuration from its text; `name` is what errors call it.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a value that does not fit its key: with line and column and the line itself.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let source = Source { name: name.to_owned(), text: text.to_owned() };
        if let Some((place, why)) = source.no_value() {
            return Err(source.point(Some(place), why));
        }
        let config: Self =
            toml::from_str(text).map_err(|error| source.point(error.span(), &plain(error.message())))?;
        Ok(Self { source, ..config })
    }

    /// An error that says where in the file it is, as those of [`Self::parse`] do.
    pub fn explain(&self, error: &Invalid) -> anyhow::Error {
        self.source.explain(error)
    }

    /// The same as its text, as it was read: a list of 50,000 prefixes takes a tenth of the memory in that, and in one piece.
    pub fn keep(&self) -> Kept {
        Kept(self.source.clone())
    }

    /// What was read.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// Where it was read.
    pub fn origin(&self) -> &str {
        if self.source.name.is_empty() { "the defaults" } else { &self.source.name }
    }

    /// The file it was read from, if it was one, and one that others can read, too.
    pub fn file(&self) -> Option<&Path> {
        let is_there = |path: &&Path| !is_standard_stream(path) && is_there_for_others(path);
        Some(Path::new(&self.source.name)).filter(is_there)
    }

    /// The folder of the file, against which it names others.
    pub fn folder(&self) -> &Path {
        Path::new(&self.source.name).parent().unwrap_or_else(|| Path::new(""))
    }

    /// The lists of prefixes that it names.
    pub fn lists(&self) -> impl Iterator<Item = PathBuf> {
        let words = self.policy.rule.iter().flat_map(|rule| [&rule.from, &rule.to]).flatten();
        words.flat_map(|words| &words.0).filter_map(|word| Some(self.folder().join(word.strip_prefix(LIST)?)))
    }

    /// The same, wherever it is read: with the whole path of each list that it names.
    ///
    /// # Errors
    /// The current folder, in which the lists of standard input are, cannot be had.
    pub fn with_whole_paths(self) -> Result<Self> {
        let folder = self.folder().to_owned();
        self.with_whole_paths_in(&folder)
    }

    /// As [`Self::with_whole_paths`], where lists are in a folder of their own.
    ///
    /// # Errors
    /// The current folder cannot be had.
    pub fn with_whole_paths_in(mut self, folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder.join(".")).context(
            "the current folder is gone, in which lists of prefixes are looked for; change to another folder",
        )?;
        let lists = self.policy.rule.iter_mut().flat_map(|rule| [&mut rule.from, &mut rule.to]);
        for word in lists.flatten().flat_map(|words| &mut words.0) {
            if let Some(path) = word.strip_prefix(LIST) {
                *word = format!("{LIST}{}", folder.join(path).display());
            }
        }
        Ok(self)
    }

    /// Reads the file that `-f` names (`-` is standard input), or the default one, or the defaults where that does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is no configuration.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            return match read_once(Path::new(DEFAULT_PATH)) {
                Ok(text) => Self::parse(&text, DEFAULT_PATH),
                Err(error) if error.downcast_ref().is_some_and(is_absent) => Ok(Self::default()),
                Err(error) => Err(error).with_context(|| format!("reading the configuration {DEFAULT_PATH}")),
            };
        };
        let name = path.display().to_string();
        let text = if is_standard_stream(path) {
            to_the_end(io::stdin()).context("reading the configuration from standard input")?
        } else {
            read_once(path).with_context(|| format!("reading the configuration {name}"))?
        };
        Self::parse(&text, &name)
    }

    /// Reads what [`Self::load`] has read, as it is now. Nothing stands for a file that is gone.
    ///
    /// # Errors
    /// It cannot be read again, or is no configuration.
    pub fn load_again(path: Option<&Path>) -> Result<Self> {
        let text = Self::text_again(path)?;
        Self::parse(&text, &path.unwrap_or(Path::new(DEFAULT_PATH)).display().to_string())
    }

    /// The text that [`Self::load_again`] takes.
    ///
    /// # Errors
    /// It cannot be read again.
    pub fn text_again(path: Option<&Path>) -> Result<String> {
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        // It was read to its end, and what would be read now is an empty configuration.
        ensure!(
            !is_standard_stream(path),
            "it came from standard input; `icmp-ctl apply -f FILE` changes it"
        );
        read_again(path).with_context(|| format!("reading the configuration {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        let config = Config::parse("", "x").expect("an empty file is fine");
        assert!(config.responder.echo);
        assert_eq!(config.responder.verify.0, Verify::Full);
        assert_eq!(config.limits.source().burst, 2_000);
    }

    #[test]
    fn a_configuration_without_an_end_is_refused() {
        let error = Config::load(Some(Path::new("/dev/zero"))).expect_err("it has none");
        assert!(
            format!("{error:#}").contains("reading the configuration /dev/zero: it is longer"),
            "{error:#}"
        );
    }

    #[test]
    fn nothing_stands_for_a_configuration_that_is_gone_or_cannot_be_read_again() {
        let gone = Path::new("/nonexistent/icmp-ctl.toml");
        let default = (!Path::new(DEFAULT_PATH).exists()).then_some(None);
        for path in [Some(gone), Some(Path::new("-"))].into_iter().chain(default) {
            let _refused = Config::load_again(path).expect_err("there is nothing to read");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error =
            Config::parse("[responder]\necho = true\nverfiy = \"full\"\n", "c.toml").expect_err("misspelt");
        let text = error.to_string();
        assert!(text.contains("c.toml") && text.contains("line 3") && text.contains("verfiy"), "{text}");
    }

    #[test]
    fn a_word_is_given_as_text_and_as_nothing_that_stands_for_it() {
        for (key, word) in [
            ("responder.own", "host"),
            ("responder.verify", "full"),
            ("policy.preset", "host"),
            ("policy.ipv4.echo-request", "drop"),
            ("policy.checks.quote", "drop"),
            ("serve.on-stop", "keep"),
        ] {
            let parse = |value: &str| Config::parse(&format!("{key} = {value}\n"), "c.toml");
            let _taken = parse(&format!("{word:?}")).expect("a word of this key");
            for value in [
                format!("{{ {word} = {{}} }}"),
                format!("{{ {word} = [] }}"),
                format!("[{word:?}]"),
                "[]".into(),
                "0".into(),
            ] {
                let error = parse(&value).expect_err("no word").to_string();
                assert!(error.contains("expected text in quotes, not"), "{key} = {value}: {error}");
            }
        }
    }

    #[test]
    fn a_list_is_no_table_and_no_date_is_a_value() {
        for key in ["responder", "limits", "limits.replies", "limits.per-source", "policy", "policy.ipv6"]
            .into_iter()
            .chain(["policy.checks", "peers", "metrics", "serve", "events"])
        {
            for value in ["[]", "[\"1/s\", 5, 32]", "[\"drop\"]"] {
                let error = Config::parse(&format!("{key} = {value}\n"), "c.toml").expect_err("no table");
                assert!(error.to_string().contains("expected a table"), "{key} = {value}: {error}");
                assert!(error.to_string().ends_with(", not a list"), "{key} = {value}: {error}");
            }
        }
        let error = Config::parse("policy.rule = [[\"x\"]]\n", "c.toml").expect_err("no table").to_string();
        assert!(error.ends_with("expected a table, not a list"), "{error}");
        for value in ["1979-05-27", "[{ x = 07:32:00 }]"] {
            let error = Config::parse(&format!("limits.replies = {value}\n"), "c.toml").expect_err("a date");
            assert!(error.to_string().ends_with("a date or time is no value of any key"), "{value}: {error}");
        }
    }

    #[test]
    fn no_value_of_a_wrong_kind_is_answered_with_a_word_of_rust() {
        let keys = [
            "interfaces",
            "responder",
            "responder.echo",
            "responder.vips",
            "responder.vip",
            "responder.verify",
            "responder.own",
            "responder.ttl",
            "responder.hop-limit",
            "limits",
            "limits.memory",
            "limits.per-source",
            "limits.per-source.rate",
            "limits.per-source.burst",
            "limits.per-source.ipv4-prefix",
            "limits.errors",
            "limits.errors.burst",
            "policy",
            "policy.preset",
            "policy.ipv4",
            "policy.ipv4.echo-request",
            "policy.checks",
            "policy.checks.quote",
            "policy.checks.routers",
            "policy.allow-break",
            "policy.rule",
            "peers",
            "peers.track",
            "peers.named",
            "metrics",
            "metrics.listen",
            "serve",
            "serve.on-stop",
            "events",
            "events.command",
            "events.webhook",
        ];
        let values = ["1", "300", "-1", "1.5", "true", "\"x\"", "[[1]]", "[true]", "{ x = 1 }", "1979-05-27"];
        let of_rust = [
            "struct",
            "enum",
            "u8",
            "u16",
            "u64",
            "i64",
            "f64",
            "usize",
            "sequence",
            "map",
            "field",
            "variant",
            "boolean",
            "invalid type",
            "invalid value",
            "floating point",
            "socket address syntax",
            "tuple",
        ];
        let mut refused = 0;
        for key in keys {
            for value in values {
                let Err(error) = Config::parse(&format!("{key} = {value}\n"), "c.toml") else { continue };
                refused += 1;
                let text = error.to_string();
                let said = text.lines().last().unwrap_or_default();
                let word = of_rust.iter().find(|word| said.contains(**word));
                assert_eq!(word, None, "{key} = {value}: {text}");
                assert!(text.contains("line 1") && text.contains('^'), "{text}");
            }
        }
        assert!(refused > 200, "{refused}");
    }
}
