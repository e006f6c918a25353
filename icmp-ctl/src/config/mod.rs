//! The configuration as users write it.

pub mod edit;
pub mod events;
pub mod file;
mod interface;
pub mod limits;
pub mod on_disk;
pub mod peers;
mod plain;
pub mod prefix;
pub mod schema;
pub mod service;
pub mod source;
pub mod span;
pub mod suggestions;
mod tables;
pub mod units;
pub mod vip;
pub mod words;
