//! What has to hold for any input, one function for each target, which panics where it does not.
//!
//! Owns the targets [`process`], [`config`] and [`capture`], the seeds they begin with and the inputs that once broke something. The fuzzer
//! (`cargo xtask fuzz`) and the tests call the same functions. What may be answered at all is icmp-tests' oracle's.

pub mod capture;
pub mod config;
mod knobs;
pub mod mutate;
pub mod process;
mod reply;
pub mod seeds;
