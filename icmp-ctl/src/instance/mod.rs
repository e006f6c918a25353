//! One loaded program: its maps, its pins, its links.

pub mod datapath;
pub mod maps;
pub mod pins;
pub mod prefixes;
pub mod program;
