//! What a policy would have done to a capture, and which limits would have left it alone: the packet path on the host, over recorded frames, in the capture's own time.
//!
//! Reads files only: nothing is loaded, and nothing of this host counts but what a configuration leaves to it.

pub mod differences;
pub mod files;
pub mod frames;
pub mod own;
pub mod plot;
pub mod run;
pub mod suggestion;
pub mod survey;
pub mod timeline;
pub mod top;
