//! The switch: which buffers are active.

/// In word [`SWITCH_BITS`] of `SWITCH`: the active buffer of `SETTINGS`. All bits of the word are in one byte, so no reader sees half a change.
pub const SWITCH_SETTINGS: u32 = 1;
/// In the same word: the active buffer of the address tables and of `OWN_FIRST`.
pub const SWITCH_ADDRESSES: u32 = 2;
/// In the same word: the settings await confirmation. From the instant in word [`SWITCH_ROLLBACK_AT`] on, the program uses the other buffer. The
/// program reads the clock, so no process has to live until then.
pub const SWITCH_AWAITS: u32 = 4;

/// In the same word, one change: bits 3 to 7 count changes, those of interfaces included. Token batches of a CPU belong to one count.
pub const SWITCH_CHANGE: u32 = 8;

/// Word of `SWITCH` with the bits.
pub const SWITCH_BITS: u32 = 0;
/// Word of `SWITCH` with nanoseconds of CLOCK_MONOTONIC; written only while [`SWITCH_AWAITS`] is off.
pub const SWITCH_ROLLBACK_AT: u32 = 1;
