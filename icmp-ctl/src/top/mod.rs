//! The live view: a screen that is drawn again every second.
//!
//! Owns its state ([`model`]), its look ([`screen`]), its terminal ([`terminal`]), and that reading delays nothing. `observe` owns what is
//! read.

pub mod model;
#[cfg(test)]
mod picture;
mod reader;
#[cfg(test)]
mod scenes;
pub mod screen;
pub mod terminal;
