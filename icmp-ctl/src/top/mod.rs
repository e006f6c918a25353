//! The live view: what happens now, on a screen that is drawn again every second.
//!
//! Owns what is kept for it ([`model`]), how it looks ([`screen`]), the terminal it is on ([`terminal`]), and that reading holds up nobody. What is read
//! is `observe`'s.

pub mod model;
#[cfg(test)]
mod picture;
mod reader;
#[cfg(test)]
mod scenes;
pub mod screen;
pub mod terminal;
