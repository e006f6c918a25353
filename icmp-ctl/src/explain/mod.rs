//! One frame, explained: through the program in the kernel and through the same code on the host, stage by stage.
//!
//! Nothing of a running instance is changed: both run on a copy of what decides. What a stage is made from is what the packet path has
//! looked up and charged while somebody watched; nothing is decided here.

mod decode;
mod explanation;
pub mod frame;
mod hex;
mod levels;
mod stages;
pub mod subject;
mod watched;
