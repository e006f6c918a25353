//! What users type: verbs, options, and their help.
//!
//! Owns the shape of the command line only; what a verb does is in `commands`.

mod confirm_timeout;

use icmp_common::abi::CAPTURED_BYTES;
use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::Action;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::cli::confirm_timeout::ConfirmTimeout;
use crate::config::span::Span;
use crate::config::suggestions;
use crate::config::units::Rate;
use crate::config::words::Word;
use crate::failure::{Exit, Failure};
use crate::instance::attach::AttachMode;
use crate::policy::limits::LimitName;
use crate::policy::saved::{Save, Words};

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// A verb.
    Run(Box<Cli>),
    /// This text: the help, or the version.
    Text(String),
}

/// Reads a command line; the first argument is the program.
///
/// # Errors
/// It cannot be understood ([`Exit::Usage`]).
pub fn parse(arguments: &[OsString]) -> anyhow::Result<Asked> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(Asked::Run(Box::new(cli))),
        Err(error) if error.use_stderr() => {
            let text = keep_helpful(error).render().to_string();
            Err(Failure::error(Exit::Usage, text.trim_start_matches("error: ").trim_end()))
        }
        Err(text) => Ok(Asked::Text(text.render().to_string())),
    }
}

/// Leaves of clap's suggestions those that help. It takes `monitor` for `confirm`, and an option that there is not for a value.
fn keep_helpful(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        let takes_interfaces = |usage: &ContextValue| usage.to_string().contains("IFACE");
        let is_interface = matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(option)) if option == "-i" || option == "--interface");
        let _value = error.remove(ContextKind::Suggested);
        if is_interface && error.get(ContextKind::Usage).is_some_and(takes_interfaces) {
            let tip = "interfaces are named without an option, where the usage has IFACE";
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
    }
    for (typed, suggested) in [
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ] {
        let Some(ContextValue::String(typed)) = error.get(typed).cloned() else { continue };
        let similar = |names: &[String]| -> Vec<String> {
            suggestions::similar(&typed, names.iter().map(String::as_str))
                .into_iter()
                .map(str::to_owned)
                .collect()
        };
        let left = match error.remove(suggested) {
            Some(ContextValue::Strings(names)) => similar(&names),
            Some(ContextValue::String(name)) => similar(&[name]),
            _ => continue,
        };
        if !left.is_empty() {
            error.insert(suggested, ContextValue::Strings(left));
        }
    }
    error
}

/// The names of limits, for the help and for suggestions.
fn limit_names() -> impl TypedValueParser<Value = LimitName> {
    PossibleValuesParser::new(LimitName::settable().map(LimitName::name)).try_map(|name| name.parse())
}

/// A whole number that is typed, of a type without a sign.
fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let most = u64::MAX >> (u64::BITS as usize - 8 * size_of::<T>());
    text.parse().map_err(|_| format!("{text:?} is no whole number from 0 to {most}"))
}

/// One that counts something of which none is nothing.
fn from_1<T: FromStr + PartialEq + Default>(text: &str) -> Result<T, String> {
    let number = whole(text)?;
    if number == T::default() { Err("it is 1 or more".to_owned()) } else { Ok(number) }
}

/// An address.
fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address: write it like 192.0.2.1 or 2001:db8::1"))
}

/// Whether an option is there, on a command line that may make no sense otherwise.
pub fn has_option(arguments: &[OsString], short: &str, long: &str) -> bool {
    let options = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    options.filter_map(|argument| argument.to_str()).any(|argument| argument == short || argument == long)
}

/// Answers pings inside the network driver, and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "icmp-ctl", version = crate::instance::program::BUILD, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Say more: the clauses behind a policy, the verifier's log
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Load the program, attach it to interfaces, pin it, and return
    Attach(Attach),
    /// Take the program off interfaces; the last one removes it
    Detach(Detach),
    /// Put the program of this icmp-ctl in the place of the one that is loaded; limits, counters, rules and policy stay
    Upgrade {
        /// Only say what would be done
        #[arg(long)]
        check: bool,
    },
    /// Put a whole configuration in force at one instant
    Apply(Apply),
    /// Keep what `apply --confirm` put in force
    Confirm(SaveTo),
    /// Take back what `apply --confirm` put in force, before its time is over
    Rollback,
    /// Show what is attached where, and how it is
    Status(Interfaces),
    /// Say what would stop the program here or slow it, each with what helps; exit code 1 if something is broken
    Doctor(Interfaces),
    /// Show what is in force
    #[command(subcommand)]
    Show(Show),
    /// Watch what happens, on a screen of its own
    Top(Top),
    /// Tell of events as they happen: floods, pressure, changes of policy, interfaces, addresses and VIPs
    Monitor,
    /// Show who pings this host, and the loss, duplication, reordering and jitter of their path to here
    Peers(Peers),
    /// Show and change the rules one at a time
    #[command(subcommand)]
    Rule(Rule),
    /// Show or change limits
    #[command(subcommand)]
    Limit(LimitVerb),
    /// Say what becomes of one packet here and why, stage by stage; nothing is counted or charged for it
    Explain(Explain),
    /// Capture frames with what the program has decided about each, also those it answers and drops
    Capture(Capture),
    /// Say what a configuration would have done to a capture; needs no privilege, and loads nothing
    Replay(Replay),
    /// Suggest limits that would not have hurt the normal traffic of a capture, as a configuration
    Suggest(Suggest),
    /// Follow addresses and serve Prometheus metrics; the program goes on without it
    Serve(Serve),
    /// Print the script by which a shell completes these command lines
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages of these verbs and of the configuration to a folder
    Man {
        /// The folder, which is made where there is none
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Shells that command lines can be completed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// As /usr/share/bash-completion/completions/icmp-ctl
    Bash,
    /// As _icmp-ctl in a folder of fpath
    Zsh,
    /// As icmp-ctl.fish in a folder of fish's completions
    Fish,
}

/// `attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// Interfaces to attach to, by name or by a pattern like 'eth*' [default: the `interfaces` of -f CONFIG]
    #[arg(required_unless_present = "config", value_name = "IFACE")]
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

/// `detach`
#[derive(Debug, Args)]
pub struct Detach {
    /// Interfaces to detach from
    #[arg(required_unless_present = "all", value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Every interface of this network namespace
    #[arg(long, conflicts_with = "interfaces")]
    pub all: bool,
}

/// `show`
#[derive(Clone, Debug, Subcommand)]
pub enum Show {
    /// What is done with each type, and why
    Policy(ShowPolicy),
    /// Addresses the program answers for
    Addresses,
    /// Frames and bytes by reason
    Counters(ShowCounters),
    /// Rates and bursts in force
    Limits,
    /// All of it, as the configuration that `apply` takes
    Config,
    /// All counters, as Prometheus reads them
    Metrics {
        /// Write them to DIR/icmp-ctl.prom instead, for node_exporter
        #[arg(long, value_name = "DIR")]
        textfile: Option<PathBuf>,
    },
    /// Sources that send most echo requests, and those that are limited most
    Sources {
        /// How many of each
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = from_1::<usize>)]
        top: usize,
    },
}

/// `status`, `doctor`
#[derive(Clone, Debug, Args)]
pub struct Interfaces {
    /// Only these interfaces
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
}

/// `show counters`
#[derive(Clone, Debug, Args)]
pub struct ShowCounters {
    /// Only these interfaces
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Show rates over so long, like 1s, instead of all that was counted
    #[arg(long, value_name = "TIME")]
    pub rate: Option<Span>,
    /// Go on with a line of rates for each second, or each `--rate`
    #[arg(short, long)]
    pub watch: bool,
}

impl ShowCounters {
    /// Whether it is about what comes in a span of time.
    pub fn is_of_a_time(&self) -> bool {
        self.watch || self.rate.is_some()
    }
}

/// `top`
#[derive(Debug, Args)]
pub struct Top {
    /// Time between two readings
    #[arg(short = 'd', long = "interval", value_name = "TIME", default_value = "1s")]
    pub interval: Span,
}

/// `peers`
#[derive(Debug, Args)]
pub struct Peers {
    /// Only these, by address, by prefix, or by name in `[[peers.named]]`
    #[arg(value_name = "PEER")]
    pub who: Vec<String>,
    /// How many, those that lose most first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = from_1::<usize>)]
    pub top: usize,
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

/// `show policy`
#[derive(Clone, Debug, Args)]
pub struct ShowPolicy {
    /// One type only, by name or number, like echo-request, 8 or 3/4
    #[arg(value_name = "TYPE")]
    pub icmp_type: Option<String>,
    /// Of ICMP
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Of ICMPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// What a packet is given by that has all its fields.
const GIVEN: [&str; 2] = ["hex", "pcap"];

/// `explain`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("packet-given").required(true).args(["from", "hex", "pcap"]))]
pub struct Explain {
    /// Source of the packet
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "to")]
    pub from: Option<IpAddr>,
    /// Destination of the packet
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "from")]
    pub to: Option<IpAddr>,
    /// Its ICMP type, by name or number, with /CODE for a code
    #[arg(long = "type", value_name = "TYPE", default_value = "echo-request", requires = "from", conflicts_with_all = GIVEN)]
    pub icmp_type: String,
    /// Bytes behind the first eight of the message, as `ping -s` takes them
    #[arg(long, value_name = "BYTES", default_value_t = 56, value_parser = whole::<u16>, requires = "from",
          conflicts_with_all = GIVEN)]
    pub size: u16,
    /// VLAN of the packet; of two the outer one first
    #[arg(long, value_name = "VLAN", value_delimiter = ',', value_parser = vlan, requires = "from",
          conflicts_with_all = GIVEN)]
    pub vlan: Vec<u16>,
    /// TTL or hop limit of the packet
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = whole::<u8>, requires = "from",
          conflicts_with_all = GIVEN)]
    pub hop_limit: u8,
    /// The whole frame as hexadecimal digits, from its Ethernet header on; also as a dump with offsets, as of tcpdump -xx or xxd
    #[arg(long, value_name = "DIGITS")]
    pub hex: Option<String>,
    /// A capture that has the packet, as of `replay`; - is standard input
    #[arg(long, value_name = "CAPTURE")]
    pub pcap: Option<PathBuf>,
    /// Its number in the capture, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_1::<u64>, requires = "pcap")]
    pub packet: u64,
    /// The interface it comes in on [default: the one that is attached, or the first one of -f CONFIG]
    #[arg(short, long, value_name = "IFACE")]
    pub interface: Option<String>,
    /// A configuration that is not in force; - is standard input. Every bucket is full then
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// The host's own addresses, instead of this host's; needs no privilege, and asks no program in the kernel
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = own_address, requires = "config",
          conflicts_with = "interface")]
    pub own: Vec<IpNet>,
}

/// The identifier of a VLAN.
fn vlan(text: &str) -> Result<u16, String> {
    let id = text.parse().ok().filter(|id| *id < 4095);
    id.ok_or_else(|| format!("{text:?} is no VLAN: write a number from 0 to 4094"))
}

/// `capture`
#[derive(Debug, Args)]
pub struct Capture {
    /// Only frames that came in on these interfaces
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Write to this file, as pcapng; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    /// Frames that end in one of these reasons, by the names in `show counters` [default: all about ICMP]
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',')]
    pub reasons: Vec<Word<Reason>>,
    /// Frames with one of these verdicts: answer, pass, drop or limit
    #[arg(long = "verdict", value_name = "VERDICT", value_delimiter = ',')]
    pub verdicts: Vec<Word<Verdict>>,
    /// Only what this rule has decided
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// One of so many of these frames
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_1::<u32>)]
    pub every: u32,
    /// No more than so many frames a second
    #[arg(long, value_name = "RATE", default_value = "1k/s")]
    pub rate: Rate,
    /// Bytes of a frame
    #[arg(short, long, value_name = "BYTES", default_value_t = CAPTURED_BYTES as u32, value_parser = whole::<u32>)]
    pub snapshot_length: u32,
    /// End after so many frames
    #[arg(short, long, value_name = "N", value_parser = from_1::<u64>)]
    pub count: Option<u64>,
    /// End after this time, like 10s
    #[arg(long, value_name = "TIME")]
    pub time: Option<Span>,
}

/// `replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// The capture: pcap or pcapng, also compressed with gzip or zstd
    #[arg(value_name = "CAPTURE")]
    pub file: PathBuf,
    /// Configuration; - is standard input
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: PathBuf,
    /// A second configuration, and what it would have done otherwise
    #[arg(long, value_name = "CONFIG")]
    pub against: Option<PathBuf>,
    /// The host's own addresses, like 192.0.2.1 or 192.0.2.1/24 [default: guessed from the capture]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = own_address)]
    pub own: Vec<IpNet>,
    /// Write the answers to this file, as pcapng
    #[arg(long, value_name = "PCAPNG")]
    pub write_answers: Option<PathBuf>,
    /// Draw packets a second by verdict into this file
    #[arg(long, value_name = "SVG")]
    pub plot: Option<PathBuf>,
}

/// `suggest`
#[derive(Debug, Args)]
pub struct Suggest {
    /// The capture, as of `replay`: of normal traffic, a day of it or more
    #[arg(value_name = "CAPTURE")]
    pub file: PathBuf,
    /// The host's own addresses, as of `replay` [default: guessed from the capture]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = own_address)]
    pub own: Vec<IpNet>,
}

/// An address, with the length of its prefix or without.
fn own_address(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let own = address.or_else(|_| text.parse());
    own.map_err(|_| format!("{text:?} is no address: write it like 192.0.2.1, 192.0.2.1/24 or 2001:db8::1"))
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration [default: /etc/icmp-ctl/config.toml where it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// First put this program in the place of one that another build has loaded, as `upgrade` does
    #[arg(long)]
    pub upgrade: bool,
    /// Read the configuration again by itself when its text has changed, within ten seconds
    #[arg(long)]
    pub reload_on_change: bool,
}
