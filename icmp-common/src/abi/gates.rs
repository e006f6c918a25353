//! Gates: VIPs that are answered only while a check reports that their service is healthy.

/// Gates of a policy. Index n of the policy's prefix values is gate n - 1.
pub const GATES: usize = 32;

/// A VIP prefix with a check: an entry of `gates` in [`crate::abi::Rules`], which only the controller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gate {
    /// The check, as text; zero behind its end.
    pub check: [u8; GATE_CHECK_LEN],
    /// Milliseconds between two checks.
    pub interval: u32,
    /// Milliseconds until a check has failed.
    pub timeout: u32,
    /// Successful checks in a row until the VIP counts as healthy.
    pub rise: u32,
    /// Failed checks in a row until the VIP counts as unhealthy.
    pub fall: u32,
    /// Action for echo requests while the VIP is unhealthy: [`UNHEALTHY_PASS`] or [`UNHEALTHY_DROP`]; 0 in a free entry.
    pub unhealthy: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// Bytes of the text of a check.
pub const GATE_CHECK_LEN: usize = 224;

/// Echo requests to an unhealthy VIP are passed to the kernel.
pub const UNHEALTHY_PASS: u32 = 1;
/// Echo requests to an unhealthy VIP are dropped.
pub const UNHEALTHY_DROP: u32 = 2;

impl Gate {
    /// No gate.
    pub const NONE: Self = Self {
        check: [0; GATE_CHECK_LEN],
        interval: 0,
        timeout: 0,
        rise: 0,
        fall: 0,
        unhealthy: 0,
        reserved: [0; 3],
    };

    /// Its state with a lease until a tick; with a lease until 0 it is unhealthy.
    pub fn state(&self, until: u64) -> GateState {
        let bits = match self.unhealthy {
            0 => return GateState::default(),
            UNHEALTHY_DROP => GATE_CHECKED | GATE_DROPS,
            _ => GATE_CHECKED,
        };
        GateState { word: bits | until & GATE_UNTIL, id: self.id() }
    }

    /// A hash of all fields (FNV-1a, 64 bits): gates that are alike in all fields are checked together.
    pub fn id(&self) -> u64 {
        let numbers =
            [self.interval, self.timeout, self.rise, self.fall, self.unhealthy].map(u32::to_ne_bytes);
        let bytes = self.check.iter().chain(numbers.as_flattened());
        bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }
}

/// Whether a gate is healthy: an entry of `GATES`, at 32 × the buffer of the rules + the gate. The controller writes all of them at once; each
/// word is aligned, so the program reads it whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GateState {
    /// `GATE_*` bits, and the lease; 0 gates nothing.
    pub word: u64,
    /// Hash of the gate's fields (FNV-1a, 64 bits): gates that are alike have the same, and one lease.
    pub id: u64,
}

/// In the word of a [`GateState`]: there is a gate.
pub const GATE_CHECKED: u64 = 1 << 62;
/// In the word of a [`GateState`]: echo requests are dropped while the VIP is unhealthy.
pub const GATE_DROPS: u64 = 1 << 63;
/// In the word of a [`GateState`]: the tick at which the lease ends; before it the VIP is healthy.
pub const GATE_UNTIL: u64 = GATE_CHECKED - 1;

/// Position in `GATES` of the gate that an index of prefix values is, by the buffer of rules that has it; `None` where none can be.
#[inline(always)]
pub const fn gate_position(buffer: u32, index: u32) -> Option<u32> {
    let gate = index.wrapping_sub(1);
    if gate < GATES as u32 { Some((buffer & 1) * GATES as u32 + gate) } else { None }
}
