//! Options of the verbs that show what is loaded.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::cli::values::from_1;
use crate::config::span::Span;

/// `status`, `doctor`
#[derive(Clone, Debug, Args)]
pub struct Interfaces {
    /// Only these interfaces
    #[arg(value_name = "IFACE", value_parser = NonEmptyStringValueParser::new())]
    pub interfaces: Vec<String>,
}

/// `show`
#[derive(Clone, Debug, Subcommand)]
pub enum Show {
    /// Action for each type, and why
    Policy(ShowPolicy),
    /// Addresses the program answers for
    Addresses,
    /// Frames and bytes by reason
    Counters(ShowCounters),
    /// Rates and bursts in force
    Limits,
    /// Every value that differs from its default, as a configuration for `apply`
    Config,
    /// All counters, as Prometheus reads them
    Metrics {
        /// Write them to DIR/icmp-ctl.prom instead, for node_exporter
        #[arg(long, value_name = "DIR")]
        textfile: Option<PathBuf>,
    },
    /// Sources that send most echo requests, and those that are limited most
    Sources {
        /// Number of sources in each list
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = from_1::<usize>)]
        top: usize,
    },
}

/// `show policy`
#[derive(Clone, Debug, Args)]
pub struct ShowPolicy {
    /// One type only, by name or number, like echo-request, 8 or 3/4
    #[arg(value_name = "TYPE")]
    pub icmp_type: Option<String>,
    /// Only types of ICMP
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only types of ICMPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// `show counters`
#[derive(Clone, Debug, Args)]
pub struct ShowCounters {
    /// Only these interfaces
    #[arg(value_name = "IFACE", value_parser = NonEmptyStringValueParser::new())]
    pub interfaces: Vec<String>,
    /// Show rates over this time, like 1s, instead of counters
    #[arg(long, value_name = "TIME")]
    pub rate: Option<Span>,
    /// Print a line of rates every second, or every `--rate`
    #[arg(short, long)]
    pub watch: bool,
}

impl ShowCounters {
    /// Whether rates are shown, not counters.
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
    /// Only these peers, by address, by prefix, or by name in `[[peers.named]]`
    #[arg(value_name = "PEER")]
    pub who: Vec<String>,
    /// Number of peers, those with most loss first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = from_1::<usize>)]
    pub top: usize,
}
