//! One loaded program: its maps, its pins, its links.

pub mod addresses;
pub mod attach;
mod behind;
pub mod capture;
mod chain;
pub mod changed;
pub mod compiled;
pub mod counters;
pub mod datapath;
pub mod directory;
mod dispatcher;
mod foreign;
pub mod gates;
pub mod host_tables;
pub mod links;
mod lock;
pub mod maps;
pub mod migration;
pub mod past;
pub mod peers;
pub mod pins;
mod places;
pub mod prefixes;
pub mod program;
pub mod snapshot;
mod successor;
pub mod upgrade;
