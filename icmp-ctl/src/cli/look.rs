//! What is typed to look at what is loaded.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::values::from_1;
use crate::config::span::Span;

/// `status`, `doctor`
#[derive(Clone, Debug, Args)]
pub struct Interfaces {
    /// Only these interfaces
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
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
    /// All that differs from what is shipped, as the configuration that `apply` takes
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
