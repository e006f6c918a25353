//! Leases of VIPs with a check, which the program reads.
//!
//! Owns reading and writing `GATES`. A check is part of the policy (`compiled.rs`); `serve` runs it.

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData, MapError};
use icmp_common::abi::{GATE_UNTIL, GATES, Gate, GateState, Rules, SWITCH_AWAITS};

use crate::instance::directory::{directory, is_root_there, lock};
use crate::kernel::bpf;
use crate::kernel::pod::Pod;

/// The map, both buffers. Whoever writes it has the lock of the instance.
pub struct Gates(Array<MapData, [Pod<GateState>; 2 * GATES]>);

impl TryFrom<Map> for Gates {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        Array::try_from(map).map(Self)
    }
}

impl Gates {
    fn states(&self) -> Result<[Pod<GateState>; 2 * GATES]> {
        self.0.get(&0, 0).context("reading which VIPs are healthy")
    }

    fn write(&mut self, states: [Pod<GateState>; 2 * GATES]) -> Result<()> {
        self.0.set(0, states, 0).context("writing which VIPs are healthy")
    }

    /// The tick until which a gate is healthy; 0 where nobody has said that it is.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn lease(&self, gate: &Gate) -> Result<u64> {
        Ok(lease(&self.states()?, gate.id()))
    }

    /// The words of a buffer, in the order of its gates.
    pub(super) fn words(&self, buffer: u32) -> Result<[u64; GATES]> {
        let states = self.states()?;
        Ok(std::array::from_fn(|gate| states[(buffer & 1) as usize * GATES + gate].0.word))
    }

    /// Writes the words of the first buffer, in maps that nobody else has.
    pub(super) fn set_words(&mut self, words: &[u64; GATES]) -> Result<()> {
        let mut states = [Pod(GateState::default()); 2 * GATES];
        states.iter_mut().zip(words).for_each(|(state, word)| state.0.word = *word);
        self.write(states)
    }

    /// Writes the gates of a buffer that is not active. Those that either buffer has already keep their lease.
    pub(super) fn fill(&mut self, buffer: u32, rules: &Rules) -> Result<()> {
        let mut states = self.states()?;
        let before = states;
        let of_buffer = states.iter_mut().skip((buffer & 1) as usize * GATES);
        for (state, gate) in of_buffer.zip(&rules.gates) {
            *state = Pod(gate.state(lease(&before, gate.id())));
        }
        self.write(states)
    }

    /// Says until which tick gates are healthy, wherever they are: what may come back is as healthy as what is in force. Takes them by
    /// [`Gate::id`].
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn renew(&mut self, leases: &[(u64, u64)]) -> Result<()> {
        let mut states = self.states()?;
        for Pod(state) in states.iter_mut().filter(|state| state.0 != GateState::default()) {
            if let Some((_, until)) = leases.iter().find(|(id, _)| *id == state.id) {
                state.word = state.word & !GATE_UNTIL | until & GATE_UNTIL;
            }
        }
        self.write(states)
    }
}

fn lease(states: &[Pod<GateState>], id: u64) -> u64 {
    let of_gate = states.iter().filter(|state| state.0.id == id);
    of_gate.map(|state| state.0.word & GATE_UNTIL).max().unwrap_or(0)
}

/// What tells whether other gates may be in force than before, read from two maps; `None` where there are none, or nothing is loaded.
/// While a confirmation is awaited it is another one each time: the program goes back by itself.
///
/// # Errors
/// The maps cannot be read.
pub fn glance(before: Option<&Glance>) -> Result<Option<Glance>> {
    let directory = directory()?;
    if !is_root_there()? || !directory.join("GATES").exists() {
        return Ok(None);
    }
    let words = |map: &str| -> Result<Vec<u64>> {
        let value = bpf::read_value(&directory.join(map))?;
        Ok(value.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect())
    };
    // Of each state the second word.
    let ids: Vec<_> = words("GATES")?.into_iter().skip(1).step_by(2).collect();
    if ids.iter().all(|id| *id == 0) {
        return Ok(None);
    }
    let switch = words("SWITCH")?.first().copied().unwrap_or_default();
    let looks =
        if switch & u64::from(SWITCH_AWAITS) == 0 { 0 } else { before.map_or(0, |before| before.looks + 1) };
    Ok(Some(Glance { switch, ids, looks }))
}

/// See [`glance`].
#[derive(Debug, PartialEq, Eq)]
pub struct Glance {
    switch: u64,
    ids: Vec<u64>,
    looks: u64,
}

/// Says until which tick gates of this network namespace are healthy, as [`Gates::renew`] does, under the lock of the instance.
///
/// # Errors
/// The lock cannot be had, or the map cannot be read or written.
pub fn renew(leases: &[(u64, u64)]) -> Result<()> {
    let directory = directory()?;
    let pin = directory.join("GATES");
    if !is_root_there()? || !pin.exists() {
        return Ok(());
    }
    let _lock = lock(&directory)?;
    // Detached meanwhile.
    if !pin.exists() {
        return Ok(());
    }
    let map = MapData::from_pin(&pin).with_context(|| format!("opening the map {}", pin.display()))?;
    Gates::try_from(Map::Array(map))?.renew(leases)
}
