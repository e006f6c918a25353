//! A capture through a policy, and limits for a capture: the packet path on the host, over recorded frames, in the capture's own time.
//!
//! Reads files only: nothing is loaded, and of this host only the kernel's defaults are used.

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
