//! What a policy would have done to a capture: the packet path on the host, over recorded frames, in the capture's own time.
//!
//! Reads files only: nothing is loaded, and nothing of this host counts but what a configuration leaves to it.

pub mod differences;
pub mod own;
mod packet;
pub mod run;
pub mod timeline;
pub mod top;
