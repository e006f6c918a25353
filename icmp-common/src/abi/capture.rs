//! Captures: which frames are copied, and the record of a copied frame.

use crate::abi::settings::Limit;

/// The two receivers of captured frames, each one process at a time; the index in `TAP_CPU` and `TAP_BUCKETS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// `icmp-ctl capture`: set up in `CAPTURE`, written to `CAPTURED`.
    Capture,
    /// `icmp-ctl monitor`, or `serve`: set up in `EVENTS`, written to `EVENT_FRAMES`.
    Events,
}

/// How many receivers there are.
pub const TAPS: u32 = 2;

/// Which frames are captured: the value of `CAPTURE` and of `EVENTS`. If it is zero, none are, which costs a frame one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Capture {
    /// Frames that end in one of these reasons, a bit each by its number.
    pub reasons: u64,
    /// End of the capture, in nanoseconds of CLOCK_MONOTONIC. The receiver moves it ahead twice a second, by three seconds, so that the capture of
    /// a killed process ends.
    pub until: u64,
    /// Rate and burst of captured frames, over all CPUs.
    pub limit: Limit,
    /// One frame in so many is captured, counted on each CPU; 0 is as 1.
    pub every: u32,
    /// Slot of the rule that has to have decided; [`NO_RULE`] for all frames.
    pub rule: u32,
    /// Captured bytes of a frame; at most [`CAPTURED_BYTES`].
    pub snap_len: u32,
    /// Frames of interfaces in these slots, a bit each.
    pub slots: u32,
    /// Number of the capture, not zero, the process in its upper half. A CPU that meets another number counts anew.
    pub number: u64,
}

/// Instead of a slot: no rule.
pub const NO_RULE: u32 = u32::MAX;

/// Counters of a capture on one CPU: an entry of `TAP_CPU` (per CPU), by [`Tap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CaptureCpu {
    /// [`Capture::number`] of the capture that the other fields belong to.
    pub number: u64,
    /// Frames that fit, before one in so many was taken.
    pub asked: u64,
    /// Frames that were over [`Capture::limit`].
    pub over_limit: u64,
    /// Frames for which the ring buffer had no room.
    pub lost: u64,
    /// Frames until the next one that is taken.
    pub left: u32,
    /// Slot of the rule that has decided about the current frame, or [`NO_RULE`]; written only while frames are captured, for the reasons that a
    /// rule can lead to. Of [`Tap::Capture`] alone.
    pub rule: u32,
    /// Zero.
    pub reserved: u64,
}

/// Bytes of a frame that fit in a record.
pub const CAPTURED_BYTES: usize = 2016;
/// Bytes of the ring buffer `CAPTURED`: room for 509 records.
pub const CAPTURED_RING: usize = 1 << 20;
/// Bytes of the ring buffer `EVENT_FRAMES`: room for 255 records.
pub const EVENT_RING: usize = 1 << 19;

/// A captured frame: a record of `CAPTURED` and of `EVENT_FRAMES`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Captured {
    /// What is known of the frame.
    pub about: CapturedAbout,
    /// The frame as the program has left it; of an answered frame, the answer.
    pub frame: [u8; CAPTURED_BYTES],
}

/// What is known of a captured frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CapturedAbout {
    /// Time, in nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// Index of the interface it came in on.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// Bytes of the frame that are in the record.
    pub captured: u32,
    /// Slot of the rule that has decided about the frame, or [`NO_RULE`].
    pub rule: u32,
    /// Number of the [`crate::reason::Reason`].
    pub reason: u32,
    /// Row of the type table.
    pub row: u32,
}
