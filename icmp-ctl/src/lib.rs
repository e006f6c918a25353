//! Loads, configures and observes the XDP ICMP responder.
//!
//! A library so that the CLI, the tests and the benches share one way to load, fill and read the program.

pub mod abi;
pub mod addresses;
mod bpffs;
pub mod cli;
pub mod commands;
pub mod config;
pub mod datapath;
pub mod failure;
pub mod guard;
pub mod host;
pub mod instance;
mod jiffies;
pub mod maps;
mod membarrier;
pub mod metrics;
pub mod netlink;
pub mod parity;
pub mod policy;
pub mod prefixes;
pub mod program;
pub mod rules;
pub mod settings;
mod sys;
#[cfg(feature = "trace")]
mod trace;
pub mod units;

pub use sys::end_with_closed_pipe;
