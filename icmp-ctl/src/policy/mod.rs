//! From a configuration to what the program reads, and back to text.

pub mod guards;
pub mod rules;
pub mod settings;
pub mod types;
