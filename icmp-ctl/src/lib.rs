//! Loads, configures and observes the XDP ICMP responder.
//!
//! A library, so that the CLI, the tests and the benches load, fill and read the program in the same way.

// Standard output and standard error are written in `output.rs` and `diagnostics.rs` only, where it is said what becomes of a failed write.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod capture;
pub mod cli;
pub mod commands;
pub mod config;
pub mod diagnostics;
pub mod doctor;
pub mod explain;
pub mod failure;
pub mod finding;
pub mod follow;
pub mod health;
pub mod host;
pub mod instance;
pub mod kernel;
pub mod observe;
pub mod output;
pub mod policy;
pub mod replay;
pub mod service_manager;
pub mod top;
