//! Options of the verbs about packets: `explain`, `capture`, `replay`, `suggest`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use icmp_common::abi::CAPTURED_BYTES;
use icmp_common::reason::{Reason, Verdict};
use ipnet::IpNet;

use crate::cli::values::{above_0, address, captured_bytes, from_1, own_address, vlan, whole};
use crate::config::span::Span;
use crate::config::units::Rate;
use crate::config::words::Word;

/// Options that give a packet with all its fields.
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
    /// ICMP type of the packet, by name or number, with /CODE for a code
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
    /// A capture with the packet, as for `replay`; - is standard input
    #[arg(long, value_name = "CAPTURE")]
    pub pcap: Option<PathBuf>,
    /// Number of the packet in the capture, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_1::<u64>, requires = "pcap")]
    pub packet: u64,
    /// Interface that the packet comes in on [default: the attached one, or the first one of -f CONFIG]
    #[arg(short, long, value_name = "IFACE", value_parser = NonEmptyStringValueParser::new())]
    pub interface: Option<String>,
    /// Explain with this configuration instead of the one in force, with full buckets; - is standard input
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// Own addresses, instead of this host's; needs no privilege, and runs no program in the kernel
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = own_address, requires = "config",
          conflicts_with = "interface")]
    pub own: Vec<IpNet>,
}

/// `capture`
#[derive(Debug, Args)]
pub struct Capture {
    /// Only frames that came in on these interfaces
    #[arg(value_name = "IFACE", value_parser = NonEmptyStringValueParser::new())]
    pub interfaces: Vec<String>,
    /// Write to this file, as pcapng; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    /// Frames that end in one of these reasons, by the names in `show counters` [default: all of ICMP messages]
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',')]
    pub reasons: Vec<Word<Reason>>,
    /// Frames with one of these verdicts: answer, pass, drop or limit
    #[arg(long = "verdict", value_name = "VERDICT", value_delimiter = ',')]
    pub verdicts: Vec<Word<Verdict>>,
    /// Only frames that this rule has decided
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// One frame in so many of these
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_1::<u32>)]
    pub every: u32,
    /// At most so many frames a second
    #[arg(long, value_name = "RATE", default_value = "1k/s", value_parser = above_0)]
    pub rate: Rate,
    /// At most so many bytes of a frame
    #[arg(short, long, value_name = "BYTES", default_value_t = CAPTURED_BYTES as u32, value_parser = captured_bytes)]
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
    /// A second configuration; the differences are printed
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
    /// The capture, as for `replay`: of normal traffic, a day of it or more
    #[arg(value_name = "CAPTURE")]
    pub file: PathBuf,
    /// The host's own addresses, as for `replay` [default: guessed from the capture]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = own_address)]
    pub own: Vec<IpNet>,
}
