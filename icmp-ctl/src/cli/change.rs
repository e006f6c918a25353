//! What is typed to change what is attached or in force.

use std::path::PathBuf;

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
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// How to attach; auto tries native and says loudly when it got generic
    #[arg(long, value_enum, default_value_t = AttachMode::Auto)]
    pub mode: AttachMode,
    /// Go in front of the XDP program that an interface has, and leave to it what is passed
    #[arg(long)]
    pub chain: bool,
    /// Configuration [default: /etc/icmp-ctl/config.toml where it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// Have the driver leave VLAN tags in the frame, so that the program can see them
    #[arg(long)]
    pub disable_rx_vlan_offload: bool,
    /// Let the policy break this guard: pmtud, errors, neighbour-discovery, multicast-listener
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Let this rule's lists have become empty, so that it matches nothing
    #[arg(long, value_name = "RULE")]
    pub allow_empty: Vec<String>,
}

/// `detach`
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Detach {
    /// Interfaces to detach from
    #[arg(value_name = "IFACE")]
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
    /// Only validate, and print the difference to what is in force
    #[arg(long, conflicts_with = "save")]
    pub check: bool,
    /// Go back to the policy before by itself after this time, unless `icmp-ctl confirm` is run, whatever happens to this shell
    #[arg(long, value_name = "TIME", conflicts_with_all = ["check", "save"])]
    pub confirm: Option<ConfirmTimeout>,
    /// Let the policy break this guard: pmtud, errors, neighbour-discovery, multicast-listener
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Let this rule's lists have become empty, so that it matches nothing
    #[arg(long, value_name = "RULE")]
    pub allow_empty: Vec<String>,
    /// Whether it is saved
    #[command(flatten)]
    pub save: SaveTo,
}

/// Whether a change is saved, and where.
#[derive(Clone, Debug, Args)]
pub struct SaveTo {
    /// Also write what is in force to the file it comes back from, or to this one
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    save: Option<Option<PathBuf>>,
}

impl SaveTo {
    /// As what changes what is in force takes it; what has just been read or typed has the words for it.
    pub fn wanted<'a>(&'a self, like: Words<'a>) -> Option<Save<'a>> {
        self.save.as_ref().map(|file| Save { file: file.as_deref(), like })
    }
}

/// `rule`
#[derive(Debug, Subcommand)]
pub enum Rule {
    /// List the rules in their order, with what they have decided
    List,
    /// Add a rule behind the others, or before one of them
    Add(Box<RuleAdd>),
    /// Remove a rule; the others keep their counters
    Del(RuleNamed),
    /// Make an audit rule do what it has counted so far
    Promote(RuleNamed),
}

/// `rule add`
#[derive(Debug, Args)]
pub struct RuleAdd {
    /// Its name
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
    /// What it does: answer, pass, limit or drop
    #[arg(long)]
    pub action: Word<Action>,
    /// A limit of its own
    #[arg(long, value_name = "RATE")]
    pub limit: Option<Rate>,
    /// What may come at once [default: a second's worth]
    #[arg(long, value_parser = whole::<u64>)]
    pub burst: Option<u64>,
    /// Only count what it would do
    #[arg(long)]
    pub audit: bool,
    /// The rule it is to come before
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
    /// Its name
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
    /// Change one limit at once, for all; nobody gets a fresh burst by it
    Set(LimitSet),
    /// Rates and bursts in force
    Show,
}

/// `limit set`
#[derive(Debug, Args)]
pub struct LimitSet {
    /// Which one, by its name in `[limits]`
    #[arg(value_name = "LIMIT", value_parser = limit_names())]
    pub limit: LimitName,
    /// Like 100/s, 6000/min, 5k/s, 1.5Mpps; 0 admits nothing, unlimited everything
    pub rate: Rate,
    /// What may come at once [default: as it is, or two seconds' worth where there is none]
    #[arg(long, value_name = "PACKETS", value_parser = whole::<u64>)]
    pub burst: Option<u64>,
    /// Let the limit break this guard: pmtud, errors, neighbour-discovery, multicast-listener
    #[arg(long, value_name = "GUARD")]
    pub allow_break: Vec<String>,
    /// Whether it is saved
    #[command(flatten)]
    pub save: SaveTo,
}
