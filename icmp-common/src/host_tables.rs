//! The packet path on the host: [`Tables`] in ordinary memory.
//!
//! Owns a stand-in for the maps and the clock, so that the same packet path runs without a kernel. It takes layouts as they lie in the maps;
//! icmp-ctl makes them. The differential test compares kernel and host.

use std::boxed::Box;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::ops::DerefMut;
use std::sync::Arc;
use std::vec::Vec;

use crate::abi::{
    AddressBucket4, AddressBucket6, Capture, CaptureCpu, Counter, Cpu, GATES, HEAVY_HITTERS, HeavyHitter,
    INTERFACE_ENTRIES, Interface, LINE_WORDS, Line, OwnFirst, PEER_BUCKETS, Peers, PrefixBucket4,
    PrefixBucket6, RULE_COUNTERS, RuleCounter, Rules, Settings, TAPS, Tap,
};
use crate::budget;
use crate::frame::SliceFrame;
use crate::known_sources::LAST_SERVED_ENTRIES;
use crate::limiter::{PairIndex, SECRETS, Shared, SharedWords, Table};
use crate::path::apart::Apart;
use crate::reason::Reason;
use crate::tables::{Tables, interface_position};

/// What the tables begin with, laid out as in the maps: one buffer of each.
pub struct Layouts {
    /// The buffer of `SETTINGS`.
    pub settings: Settings,
    /// The buffer of `RULES`, each rule with its slot.
    pub rules: Box<Rules>,
    /// What the rules' search uses of `PREFIXES4`.
    pub prefixes4: Vec<PrefixBucket4>,
    /// The same of `PREFIXES6`.
    pub prefixes6: Vec<PrefixBucket6>,
    /// The buffer of `ADDRESSES4`; a power of two of entries.
    pub addresses4: Vec<AddressBucket4>,
    /// The buffer of `ADDRESSES6`: as many entries.
    pub addresses6: Vec<AddressBucket6>,
    /// The buffer of `OWN_FIRST`.
    pub own_first: Vec<OwnFirst>,
    /// Lines of `SOURCES`; a power of two.
    pub lines: u32,
    /// The secret of the limiter's hash.
    pub secret: [u64; SECRETS],
}

/// What is remembered of earlier frames, laid out as in the maps; with nothing of it, every bucket is full and nobody is known. Copies share the
/// lines, which may be hundreds of megabytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `BUDGETS`.
    pub budgets: Vec<u64>,
    /// `SOURCES`.
    pub sources: Arc<[Line]>,
    /// `PREFIXES`.
    pub prefixes: Arc<[Line]>,
    /// `REPUTATIONS`.
    pub reputations: Arc<[Line]>,
    /// `LAST_SERVED`.
    pub last_served: Vec<u64>,
    /// `PATH_MTU`.
    pub path_mtu: u64,
    /// What `CPU` has for the CPU.
    pub cpu: Cpu,
}

/// Maps and clock of one CPU, in host memory.
pub struct HostTables {
    layouts: Layouts,
    interfaces: [Interface; INTERFACE_ENTRIES as usize],
    rule_counters: RefCell<Vec<RuleCounter>>,
    budgets: [Cell<u64>; budget::BUCKETS as usize],
    sources: Lines,
    prefixes: Lines,
    reputations: Lines,
    last_served: Vec<Cell<u64>>,
    cpu: RefCell<Cpu>,
    heavy_hitters: RefCell<Vec<HeavyHitter>>,
    path_mtu: Cell<u64>,
    peers: Vec<(Cell<u64>, RefCell<Peers>)>,
    ticks: Cell<u64>,
    monotonic_ns: Cell<u64>,
    switch: Cell<u32>,
    gates: [Cell<u64>; GATES],
    counters: RefCell<BTreeMap<(u32, u8, u8), Counter>>,
    captures: [Capture; TAPS as usize],
    capture_cpus: [RefCell<CaptureCpu>; TAPS as usize],
    capture_buckets: [Cell<u64>; TAPS as usize],
}

/// The lines of a table.
type Lines = Vec<[Cell<u64>; LINE_WORDS]>;

impl HostTables {
    /// Tables with these contents, no interface, nothing counted and full buckets.
    pub fn new(layouts: Layouts) -> Self {
        Self {
            rule_counters: RefCell::new(vec![RuleCounter::default(); RULE_COUNTERS as usize]),
            interfaces: [Interface::default(); INTERFACE_ENTRIES as usize],
            budgets: [const { Cell::new(0) }; budget::BUCKETS as usize],
            sources: vec![Default::default(); layouts.lines as usize],
            prefixes: vec![Default::default(); layouts.lines as usize / 2],
            reputations: vec![Default::default(); layouts.lines as usize / 2],
            last_served: vec![Cell::new(0); LAST_SERVED_ENTRIES as usize],
            cpu: RefCell::default(),
            layouts,
            heavy_hitters: RefCell::new(vec![HeavyHitter::default(); HEAVY_HITTERS as usize]),
            path_mtu: Cell::new(0),
            peers: vec![(Cell::new(0), RefCell::new(Peers::NONE)); PEER_BUCKETS as usize],
            ticks: Cell::new(1 << 32),
            monotonic_ns: Cell::new(0),
            switch: Cell::new(0),
            gates: [const { Cell::new(0) }; GATES],
            counters: RefCell::default(),
            captures: Default::default(),
            capture_cpus: Default::default(),
            capture_buckets: Default::default(),
        }
    }

    /// Enters an interface where the packet path looks for it.
    ///
    /// # Panics
    /// All of its places are taken.
    pub fn add_interface(&mut self, interface: Interface) {
        let position =
            interface_position(&self.interfaces, interface.ifindex).expect("a free place for the interface");
        self.interfaces[position as usize] = interface;
    }

    /// Remembers what somebody else does.
    pub fn remember(&mut self, memory: &Memory) {
        let words = |cells: &[Cell<u64>], words: &[u64]| {
            cells.iter().zip(words).for_each(|(cell, word)| cell.set(*word));
        };
        words(&self.budgets, &memory.budgets);
        words(&self.last_served, &memory.last_served);
        for (ours, theirs) in [
            (&self.sources, &*memory.sources),
            (&self.prefixes, &*memory.prefixes),
            (&self.reputations, &*memory.reputations),
        ] {
            ours.iter().zip(theirs).for_each(|(cells, line)| words(cells, &line.words));
        }
        self.path_mtu.set(memory.path_mtu);
        self.cpu = RefCell::new(memory.cpu);
    }

    /// Sets the clock.
    pub fn set_ticks(&self, ticks: u64) {
        self.ticks.set(ticks);
    }

    /// Sets CLOCK_MONOTONIC.
    pub fn set_monotonic_ns(&self, now: u64) {
        self.monotonic_ns.set(now);
    }

    /// What there is of peers, and the versions of buckets.
    pub fn peers(&self) -> impl Iterator<Item = (u64, Peers)> {
        self.peers.iter().map(|(version, peers)| (version.get(), *peers.borrow()))
    }

    /// Sets what the controller changes the switch to (`abi::SWITCH_*`); there is one buffer of each kind.
    pub fn set_switch(&self, switch: u32) {
        self.switch.set(switch);
    }

    /// Sets the word of a gate.
    ///
    /// # Panics
    /// There is no gate of this number.
    pub fn set_gate(&self, gate: usize, word: u64) {
        self.gates[gate].set(word);
    }

    /// The rule counters of rules' slots and of checks.
    pub fn rule_counters(&self) -> Vec<RuleCounter> {
        self.rule_counters.borrow().clone()
    }

    /// Sets what is captured. Nobody keeps it: what is left of it is what is counted.
    pub fn set_capture(&mut self, tap: Tap, capture: Capture) {
        self.captures[tap as usize] = capture;
    }

    /// What was counted of frames that were to be captured.
    pub fn captured(&self, tap: Tap) -> CaptureCpu {
        *self.capture_cpus[tap as usize].borrow()
    }

    /// What was counted, by slot, row and reason.
    pub fn counters(&self) -> BTreeMap<(u32, u8, u8), Counter> {
        self.counters.borrow().clone()
    }
}

/// On the host a step that runs apart is a call like any other.
impl Apart for SliceFrame<'_> {}

/// A word that nobody shares.
struct HostWord<'a>(&'a Cell<u64>);

impl SharedWords for HostTables {
    fn bucket(&self, index: u32) -> Option<impl Shared> {
        self.budgets.get(index as usize).map(HostWord)
    }

    fn pair(&self, table: Table, place: PairIndex) -> Option<[impl Shared; 2]> {
        let lines = match table {
            Table::Sources => &self.sources,
            Table::Prefixes => &self.prefixes,
            Table::Reputations => &self.reputations,
        };
        let line = lines.get(place.line as usize)?;
        Some([HostWord(line.get(place.words[0])?), HostWord(line.get(place.words[1])?)])
    }

    fn last_served(&self, place: u32) -> Option<impl Shared> {
        self.last_served.get(place as usize).map(HostWord)
    }
}

impl Shared for HostWord<'_> {
    fn load(&self) -> u64 {
        self.0.get()
    }

    fn swap(&self, old: u64, new: u64) -> bool {
        let swapped = self.0.get() == old;
        if swapped {
            self.0.set(new);
        }
        swapped
    }

    fn store(&self, value: u64) {
        self.0.set(value);
    }
}

impl Tables for HostTables {
    fn switch(&self) -> Option<u32> {
        Some(self.switch.get())
    }

    fn settings(&self, buffer: u32) -> Option<&Settings> {
        (buffer == 0).then_some(&self.layouts.settings)
    }

    fn interface_entry(&self, index: u32) -> Option<&Interface> {
        self.interfaces.get(index as usize)
    }

    fn own_first(&self, _buffer: u32, slot: u32) -> Option<&OwnFirst> {
        self.layouts.own_first.get(slot as usize)
    }

    fn addresses4(&self, index: u32) -> Option<&AddressBucket4> {
        let buckets = &self.layouts.addresses4;
        buckets.get(index as usize % buckets.len())
    }

    fn addresses6(&self, index: u32) -> Option<&AddressBucket6> {
        let buckets = &self.layouts.addresses6;
        buckets.get(index as usize % buckets.len())
    }

    fn address_shift(&self) -> u32 {
        64 - self.layouts.addresses4.len().ilog2()
    }

    fn rules(&self, buffer: u32) -> Option<&Rules> {
        (buffer == 0).then_some(&self.layouts.rules)
    }

    fn prefixes4(&self, index: u32) -> Option<&PrefixBucket4> {
        self.layouts.prefixes4.get(index as usize)
    }

    fn prefixes6(&self, index: u32) -> Option<&PrefixBucket6> {
        self.layouts.prefixes6.get(index as usize)
    }

    fn gate(&self, position: u32) -> Option<u64> {
        self.gates.get(position as usize).map(Cell::get)
    }

    fn rule_counter(&self, index: u32) -> Option<impl DerefMut<Target = RuleCounter>> {
        RefMut::filter_map(self.rule_counters.borrow_mut(), |rule_counters| {
            rule_counters.get_mut(index as usize)
        })
        .ok()
    }

    fn rollback_at(&self) -> Option<u64> {
        None
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.get()
    }

    fn cpu(&self) -> Option<impl DerefMut<Target = Cpu>> {
        Some(self.cpu.borrow_mut())
    }

    fn heavy_hitter(&self, index: u32) -> Option<impl DerefMut<Target = HeavyHitter>> {
        RefMut::filter_map(self.heavy_hitters.borrow_mut(), |heavy_hitters| {
            heavy_hitters.get_mut(index as usize)
        })
        .ok()
    }

    fn source_shift(&self) -> u32 {
        64 - self.sources.len().ilog2()
    }

    fn secret(&self, index: usize) -> u64 {
        self.layouts.secret[index]
    }

    fn path_mtu(&self) -> Option<impl Shared> {
        Some(HostWord(&self.path_mtu))
    }

    fn ticks(&self) -> u64 {
        self.ticks.get()
    }

    fn captured_reasons(&self, tap: Tap) -> u64 {
        self.captures[tap as usize].reasons
    }

    fn capture(&self, tap: Tap) -> Option<&Capture> {
        Some(&self.captures[tap as usize])
    }

    fn capture_cpu(&self, tap: Tap) -> Option<impl DerefMut<Target = CaptureCpu>> {
        Some(self.capture_cpus[tap as usize].borrow_mut())
    }

    fn capture_bucket(&self, tap: Tap) -> Option<impl Shared> {
        Some(HostWord(&self.capture_buckets[tap as usize]))
    }

    fn peer_shift(&self) -> u32 {
        64 - PEER_BUCKETS.ilog2()
    }

    fn peer_bucket(&self, index: u32) -> Option<(impl Shared, impl DerefMut<Target = Peers>)> {
        let (version, peers) = self.peers.get(index as usize)?;
        Some((HostWord(version), peers.borrow_mut()))
    }

    fn count(&self, slot: u32, row: u8, reason: Reason, bytes: u64) {
        let mut counters = self.counters.borrow_mut();
        counters.entry((slot, row, reason as u8)).or_default().count(bytes);
    }
}
