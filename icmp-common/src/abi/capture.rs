//! What is captured, and what of a frame that is.

use crate::abi::settings::Limit;

/// For whom frames are captured, each by one process at a time: the entry of `TAP_CPU` and `TAP_BUCKETS` that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// `icmp-ctl capture`: told in `CAPTURE`, written to `CAPTURED`.
    Capture,
    /// Who tells of events: told in `EVENTS`, written to `EVENT_FRAMES`.
    Events,
}

/// How many there are.
pub const TAPS: u32 = 2;

/// Which frames are captured: the value of `CAPTURE` and of `EVENTS`. Where it is zero, none is. Layout: 56 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Capture {
    /// Those that end in one of these reasons, a bit each by its number.
    pub reasons: u64,
    /// Until then, in nanoseconds of CLOCK_MONOTONIC; who captures puts it off, so that nothing is left behind by one that was killed.
    pub until: u64,
    /// How many at most, over all CPUs.
    pub limit: Limit,
    /// One in so many of each CPU; 0 is as 1.
    pub every: u32,
    /// Only what the rule in this slot has decided; [`NO_RULE`] for all.
    pub rule: u32,
    /// Bytes of a frame at most; no more than [`CAPTURED_BYTES`].
    pub snap_len: u32,
    /// Only frames of interfaces in these slots, a bit each.
    pub slots: u32,
    /// Number of the capture, not zero: what each CPU has counted for another one is not of this.
    pub number: u64,
}

/// No rule's slot.
pub const NO_RULE: u32 = u32::MAX;

/// What a CPU knows of a capture: an entry of `TAP_CPU` (per CPU), by [`Tap`]. Layout: 48 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CaptureCpu {
    /// [`Capture::number`] of the capture that the rest is of.
    pub number: u64,
    /// Frames that were asked for, before one in so many was taken.
    pub asked: u64,
    /// Those that were over [`Capture::limit`].
    pub over_limit: u64,
    /// Those for which there was no room.
    pub lost: u64,
    /// Frames until the next one that is taken.
    pub left: u32,
    /// Slot of the rule that has decided about the frame, or [`NO_RULE`]; for the reasons that a rule can lead to. Of [`Tap::Capture`] alone.
    pub rule: u32,
    /// Zero.
    pub reserved: u64,
}

/// Bytes of a frame that a record has room for.
pub const CAPTURED_BYTES: usize = 2016;
/// Bytes of the ring buffer `CAPTURED`: room for 509 records.
pub const CAPTURED_RING: usize = 1 << 20;
/// Bytes of the ring buffer `EVENT_FRAMES`: room for 255 records.
pub const EVENT_RING: usize = 1 << 19;

/// A captured frame: a record of `CAPTURED` and of `EVENT_FRAMES`. Layout: 2048 bytes, the frame from byte 32 on.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Captured {
    /// Everything but the frame.
    pub about: CapturedAbout,
    /// The frame as the program has left it: one that is answered is its answer.
    pub frame: [u8; CAPTURED_BYTES],
}

/// What is said of a captured frame. Layout: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CapturedAbout {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// Index of the interface it came in on.
    pub ifindex: u32,
    /// Bytes it has.
    pub len: u32,
    /// Bytes of them that are in the record.
    pub captured: u32,
    /// Slot of the rule that has decided, or [`NO_RULE`].
    pub rule: u32,
    /// Number of the [`crate::reason::Reason`].
    pub reason: u32,
    /// Row of the type table.
    pub row: u32,
}
