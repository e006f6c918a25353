//! Properties that hold for any input, one function for each target, which panics if one does not.
//!
//! Owns the targets [`process`], [`config`] and [`capture`], their seeds, and the inputs that once broke something. The fuzzer (`cargo xtask
//! fuzz`) and the tests call the same functions. icmp-tests' oracle owns which frames may be answered.

pub mod capture;
pub mod config;
mod knobs;
pub mod mutate;
pub mod process;
mod reply;
pub mod seeds;
