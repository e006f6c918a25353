//! Positions in the headers, and names for the numbers in them.
//!
//! Owns byte positions (from network-types' layouts, by `offset_of!`) and named constants, one file per protocol, in the same order in each:
//! sizes, positions, values, meaning. It reads and decides nothing. Values from the wire stay integers with named constants, because an enum
//! made from unknown bytes would be undefined behaviour.

pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
