//! The ICMP packet path: everything about it that can be thought without a kernel.
//!
//! Owns frames, wire formats, checksums, parsing, policy, the limiter's arithmetic, verdicts, the pipeline and the map
//! ABI. It does not own a clock, a map or a socket: those reach it through [`frame::Frame`] and [`tables::Tables`], so
//! that the same code runs in the kernel behind the verifier, and in host tests.
//!
//! Code here obeys the verifier (docs/verifier.md): windows instead of slices, constant indices, everything in the
//! packet path inlined, nothing that can panic.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "host")]
#[macro_use]
extern crate std;

pub mod abi;
pub mod budget;
pub mod checksum;
pub mod frame;
pub mod heavy_hitters;
#[cfg(feature = "host")]
pub mod host_tables;
pub mod known_sources;
pub mod limiter;
pub mod outcome;
pub mod path;
pub mod peers;
pub mod policy;
pub mod prefixes;
pub mod reason;
pub mod rules;
pub mod tables;
pub mod types;
pub mod wire;
