//! One frame, explained: through the program in the kernel and through the same code on the host, stage by stage.
//!
//! Nothing of a running instance is changed: both run on a copy of the maps that decide. A stage is made from the lookups and charges of the
//! packet path, which are recorded; nothing is decided here.

mod decode;
mod explanation;
pub mod frame;
mod hex;
mod levels;
mod stages;
pub mod subject;
mod watched;
