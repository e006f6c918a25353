//! Which buffers are in force.

/// What entry [`SWITCH_BITS`] of `SWITCH` says: which buffer of `SETTINGS` (bit 0) and of the address tables (bit 1) is in force, and in
/// bits 3 to 7 how often it has changed, which token batches go by. All of it is one byte, so no reader can see a mix.
pub const SWITCH_SETTINGS: u32 = 1;
/// See [`SWITCH_SETTINGS`].
pub const SWITCH_ADDRESSES: u32 = 2;
/// The settings await confirmation: from the instant in entry [`SWITCH_ROLLBACK_AT`] on, the other buffer is in force. The program looks
/// at the clock, so this needs no process that lives until then.
pub const SWITCH_AWAITS: u32 = 4;

/// One change, where they are counted; what exceeds the byte is cut off.
pub const SWITCH_CHANGE: u32 = 8;

/// Entry of `SWITCH` with the bits.
pub const SWITCH_BITS: u32 = 0;
/// Entry of `SWITCH` with nanoseconds of CLOCK_MONOTONIC; written only while [`SWITCH_AWAITS`] is off.
pub const SWITCH_ROLLBACK_AT: u32 = 1;
