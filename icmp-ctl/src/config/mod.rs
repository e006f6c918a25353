//! The configuration as users write it.

pub mod file;
pub mod units;
