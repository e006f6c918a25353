//! The ICMP packet path, without a kernel.
//!
//! Owns frames, wire formats, checksums, parsing, policy, the limiter's arithmetic, verdicts, the packet path and the map ABI. It does not own a
//! clock, a map or a socket: the packet path reaches them through [`frame::Frame`] and [`tables::Tables`], so the same code runs in the kernel
//! behind the verifier, and in host tests.
//!
//! The code keeps to what the verifier accepts (docs/verifier.md): windows instead of slices, constant indices, everything in the packet path
//! inlined, no panic.
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
