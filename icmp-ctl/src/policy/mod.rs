//! From a configuration to what the program reads, and back to text.

pub mod compile;
pub mod contradictions;
pub mod decompile;
pub mod difference;
pub mod gates;
pub mod guards;
pub mod layout;
pub mod limits;
pub mod of_file;
pub mod peers;
pub mod resolve;
pub mod rows;
pub mod rules;
pub mod saved;
pub mod show;
pub mod start;
pub mod transaction;
pub mod types;
