//! The live view: what happens now, on a screen that is drawn again every second.
//!
//! Owns what is kept for it ([`model`]), how it looks ([`screen`]), and the terminal it is on ([`terminal`]). What is read is `observe`'s.

pub mod model;
pub mod screen;
pub mod terminal;
