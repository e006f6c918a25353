//! VIPs that are answered while a check says that their service lives.

/// Gates of a policy: VIP prefixes with a check. Index `n` of the policy's prefix values is gate `n - 1`.
pub const GATES: usize = 32;

/// What a gate is: an entry of [`crate::abi::Rules::gates`], which the controller alone reads. Layout: 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gate {
    /// What is checked, as text; zero behind its end.
    pub check: [u8; GATE_CHECK_LEN],
    /// Milliseconds between two checks.
    pub interval: u32,
    /// Milliseconds that one may take.
    pub timeout: u32,
    /// How many one after the other have to succeed until it counts as healthy.
    pub rise: u32,
    /// How many one after the other have to fail until it counts as unhealthy.
    pub fall: u32,
    /// What is done with echo requests while it is unhealthy: [`UNHEALTHY_PASS`] or [`UNHEALTHY_DROP`]; 0 where there is no gate.
    pub unhealthy: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// Bytes of the text of a check.
pub const GATE_CHECK_LEN: usize = 224;

/// Echo requests to it go to the kernel's stack.
pub const UNHEALTHY_PASS: u32 = 1;
/// Echo requests to it are dropped.
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

    /// Its state with a lease until a tick; with one until 0 it is unhealthy.
    pub fn state(&self, until: u64) -> GateState {
        let bits = match self.unhealthy {
            0 => return GateState::default(),
            UNHEALTHY_DROP => GATE_CHECKED | GATE_DROPS,
            _ => GATE_CHECKED,
        };
        GateState { word: bits | until & GATE_UNTIL, id: self.id() }
    }

    /// What tells it from others: those that are alike in all fields are checked together (FNV-1a, 64 bits).
    pub fn id(&self) -> u64 {
        let numbers =
            [self.interval, self.timeout, self.rise, self.fall, self.unhealthy].map(u32::to_ne_bytes);
        let bytes = self.check.iter().chain(numbers.as_flattened());
        bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }
}

/// Whether a gate is healthy: an entry of `GATES`. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GateState {
    /// `GATE_*` bits, and the lease.
    pub word: u64,
    /// [`Gate::id`] of the gate that it is about.
    pub id: u64,
}

/// In the word of a [`GateState`]: there is a gate. Without it a VIP is answered always.
pub const GATE_CHECKED: u64 = 1 << 62;
/// In the word of a [`GateState`]: what comes while it is unhealthy is dropped.
pub const GATE_DROPS: u64 = 1 << 63;
/// In the word of a [`GateState`]: the tick until which it is healthy, its lease. That tick is no part of it.
pub const GATE_UNTIL: u64 = GATE_CHECKED - 1;

/// Position in `GATES` of the gate that an index of prefix values is, by the buffer of rules that has it; `None` where none can be.
#[inline(always)]
pub const fn gate_position(buffer: u32, index: u32) -> Option<u32> {
    let gate = index.wrapping_sub(1);
    if gate < GATES as u32 { Some((buffer & 1) * GATES as u32 + gate) } else { None }
}
