//! Options of the verbs that change what is attached or in force.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand};
use icmp_common::types::{Action, Family};

use crate::cli::values::{ConfirmTimeout, limit_names, whole};
use crate::config::units::Rate;
use crate::config::words::Word;
use crate::instance::attach::AttachMode;
use crate::policy::limits::LimitName;
use crate::policy::saved::{Save, Words};

/// `attach`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("targets").required(true).multiple(true).args(["interfaces", "config"]))]
pub struct Attach {
    /// Interfaces to attach to, by name or by a pattern like 'eth*' [default: the `interfaces` of -f CONFIG]
    #[arg(value_name = "IFACE", value_parser = NonEmptyStringValueParser::new())]
    pub interfaces: Vec<String>,
    /// Mode of attachment; auto tries native, and warns if it got generic
    #[arg(long, value_enum, default_value_t = AttachMode::Auto)]
    pub mode: AttachMode,
    /// Go in front of the XDP program that an interface has, which then gets the frames that are passed
    #[arg(long)]
    pub chain: bool,
    /// Configuration [default: /etc/icmp-ctl/config.toml if it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// Have the driver leave VLAN tags in the frame, so that the program can see them
    #[arg(long)]
    pub disable_rx_vlan_offload: bool,
    /// Let the policy break this guard: pmtud, errors, neighbour-discovery, multicast-listener
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Accept that this rule's lists have become empty, so that it matches nothing
    #[arg(long, value_name = "RULE")]
    pub allow_empty: Vec<String>,
}

/// `detach`
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Detach {
    /// Interfaces to detach from
    #[arg(value_name = "IFACE", value_parser = NonEmptyStringValueParser::new())]
    pub interfaces: Vec<String>,
    /// Every interface of this network namespace
    #[arg(long)]
    pub all: bool,
}

/// `apply`
#[derive(Debug, Args)]
pub struct Apply {
    /// Configuration; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub config: PathBuf,
    /// Only validate, and print the difference from the policy in force
    #[arg(long, conflicts_with = "save")]
    pub check: bool,
    /// Return to the previous policy after this time unless `icmp-ctl confirm` is run, even if this shell ends
    #[arg(long, value_name = "TIME", conflicts_with_all = ["check", "save"])]
    pub confirm: Option<ConfirmTimeout>,
    /// Let the policy break this guard: pmtud, errors, neighbour-discovery, multicast-listener
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Accept that this rule's lists have become empty, so that it matches nothing
    #[arg(long, value_name = "RULE")]
    pub allow_empty: Vec<String>,
    /// Whether it is saved
    #[command(flatten)]
    pub save: SaveTo,
}

/// Whether a change is saved, and where.
#[derive(Clone, Debug, Args)]
pub struct SaveTo {
    /// Also write the policy in force to the file that it is loaded from again, or to this one
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    save: Option<Option<PathBuf>>,
}

impl SaveTo {
    /// The file to save to; the text that was just read or typed has the spelling.
    pub fn wanted<'a>(&'a self, like: Words<'a>) -> Option<Save<'a>> {
        self.save.as_ref().map(|file| Save { file: file.as_deref(), like })
    }
}

/// `rule`
#[derive(Debug, Subcommand)]
pub enum Rule {
    /// List the rules in order, with their counters
    List,
    /// Add a rule after the others, or before one of them
    Add(Box<RuleAdd>),
    /// Remove a rule; the others keep their counters
    Del(RuleNamed),
    /// Put an audit rule in force
    Promote(RuleNamed),
}

/// `rule add`
#[derive(Debug, Args)]
pub struct RuleAdd {
    /// Name of the rule
    pub name: String,
    /// Only messages of this family: ipv4 or ipv6
    #[arg(long)]
    pub family: Option<Word<Family>>,
    /// Sources: prefixes, or file:PATH with one a line
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub from: Vec<String>,
    /// Destinations: prefixes, or file:PATH with one a line
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Types, by name or number, with /CODE for one code
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Identifiers of the outer VLAN tag, 0 for untagged
    #[arg(long, value_delimiter = ',')]
    pub vlan: Vec<String>,
    /// Bytes of the ICMP message: 64, 64-128 or 1000-
    #[arg(long)]
    pub length: Option<String>,
    /// TTL or hop limit: 255, 1-10 or 200-
    #[arg(long)]
    pub hop_limit: Option<String>,
    /// Action: answer, pass, limit or drop
    #[arg(long)]
    pub action: Word<Action>,
    /// The rule's own limit
    #[arg(long, value_name = "RATE")]
    pub limit: Option<Rate>,
    /// Packets that are admitted at once [default: as many as in a second]
    #[arg(long, value_parser = whole::<u64>)]
    pub burst: Option<u64>,
    /// Only count what the rule would do
    #[arg(long)]
    pub audit: bool,
    /// The rule that the new one goes before
    #[arg(long, value_name = "RULE")]
    pub before: Option<String>,
    /// Let the policy break this guard
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Whether it is saved
    #[command(flatten)]
    pub save: SaveTo,
}

/// `rule del`, `rule promote`
#[derive(Debug, Args)]
pub struct RuleNamed {
    /// Name of the rule
    #[arg(value_name = "RULE")]
    pub name: String,
    /// Let the policy break this guard
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Whether it is saved
    #[command(flatten)]
    pub save: SaveTo,
}

/// `limit`
#[derive(Debug, Subcommand)]
pub enum LimitVerb {
    /// Change one limit at once; no source gets a fresh burst
    Set(LimitSet),
    /// Show rates and bursts in force
    Show,
}

/// `limit set`
#[derive(Debug, Args)]
pub struct LimitSet {
    /// Name of the limit in `[limits]`
    #[arg(value_name = "LIMIT", value_parser = limit_names())]
    pub limit: LimitName,
    /// Like 100/s, 6000/min, 5k/s, 1.5Mpps; 0 admits nothing, unlimited everything
    pub rate: Rate,
    /// Packets that are admitted at once [default: the present burst, or as many as in two seconds if there is none]
    #[arg(long, value_name = "PACKETS", value_parser = whole::<u64>)]
    pub burst: Option<u64>,
    /// Let the limit break this guard: pmtud, errors, neighbour-discovery, multicast-listener
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Whether it is saved
    #[command(flatten)]
    pub save: SaveTo,
}
