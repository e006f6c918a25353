//! Captures: files of recorded frames, read as a stream and written.
//!
//! Knows nothing of policies and of this host.

mod compression;
pub mod ethernet;
pub mod packet;
pub mod read;
pub mod write;
mod zstd;
