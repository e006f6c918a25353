//! What users type: verbs, options, and their help.
//!
//! Owns the shape of the command line only; what a verb does is in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::limit::Limited;
use crate::units::Rate;

/// Answers pings inside the network driver, and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "icmp-ctl", version = crate::program::BUILD, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(short, long, global = true)]
    pub json: bool,
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
    /// Show what is attached where, and how it is
    Status,
    /// Show what is in force
    #[command(subcommand)]
    Show(Show),
    /// Show or change limits
    #[command(subcommand)]
    Limit(LimitVerb),
    /// Follow addresses and serve Prometheus metrics; the program goes on without it
    Serve(Serve),
}

/// `attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// Interfaces to attach to
    #[arg(required = true, value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// How to attach; auto tries native and says loudly when it got generic
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// Configuration [default: /etc/icmp-ctl/config.toml where it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// Have the driver leave VLAN tags in the frame, so that the program can see them
    #[arg(long)]
    pub disable_rx_vlan_offload: bool,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Native, or generic where the driver cannot
    Auto,
    /// In the driver
    Native,
    /// In the kernel's generic code, slower, with any driver
    Generic,
    /// In the network card
    Offload,
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
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Show {
    /// Addresses the program answers for
    Addresses,
    /// Frames and bytes by reason
    Counters,
    /// Rates and bursts in force
    Limits,
    /// Sources that send most echo requests, and those that are limited most
    Sources {
        /// How many of each
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        top: usize,
    },
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
    #[arg(value_name = "LIMIT")]
    pub limit: Limited,
    /// Like 100/s, 6000/min, 5k/s, 1.5Mpps; 0 admits nothing, unlimited everything
    pub rate: Rate,
    /// What may come at once [default: as it is, or two seconds' worth where there is none]
    #[arg(long, value_name = "PACKETS")]
    pub burst: Option<u64>,
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration [default: /etc/icmp-ctl/config.toml where it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
}
