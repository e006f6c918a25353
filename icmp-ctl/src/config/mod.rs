//! The configuration as users write it.

pub mod file;
pub mod limits;
pub mod units;
pub mod words;
