//! How a frame ended.
//!
//! Owns the reason and the row that every frame ends in, and the form in which the steps of the packet path return an end.

use crate::reason::{Reason, Verdict};

/// How a frame ended: why, and in which row of the type table it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// Row of the counter map.
    pub row: u8,
}

impl Outcome {
    /// What becomes of the frame.
    #[inline(always)]
    pub const fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }
}

/// A step's result: go on, or the frame's end.
pub(crate) type Step<T> = Result<T, Outcome>;

/// Ends a frame.
#[inline(always)]
pub(crate) const fn end<T>(reason: Reason, row: u8) -> Step<T> {
    Err(Outcome { reason, row })
}
