//! The packet path on the host, with a record of its lookups and charges.
//!
//! Owns the record. Tables and frame are passed through unchanged; the path is icmp-common's, and does not know of the record.

use std::cell::RefCell;
use std::ops::DerefMut;

use icmp_common::abi::{
    AddressBucket4, AddressBucket6, Capture, CaptureCpu, Cpu, HeavyHitter, Interface, OwnFirst, Peers,
    PrefixBucket4, PrefixBucket6, RuleCounter, Rules, Settings, Tap,
};
use icmp_common::frame::Frame;
use icmp_common::host_tables::HostTables;
use icmp_common::limiter::{PairIndex, Shared, SharedWords, Table};
use icmp_common::outcome::Outcome;
use icmp_common::path;
use icmp_common::path::apart::{About, Apart, run};
use icmp_common::reason::Reason;
use icmp_common::tables::Tables;

/// Something the path has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It has begun a step apart (`icmp_common::path::apart`).
    Begun(u32),
    /// The step has said this.
    Ended(u32, u64),
    /// It has compared the destination with the first address of the interface.
    OwnFirst,
    /// It has looked at the lease of a VIP with a check: the gate's word.
    Gate(u64),
    /// It has looked at the bucket of a budget or a rule: its number, its word before and after.
    Bucket(u32, [u64; 2]),
    /// It has looked at the two words of a sender in a table: both before, and both after.
    Pair(Table, [[u64; 2]; 2]),
}

/// What was noted, in order.
type Notes = RefCell<Vec<Note>>;

/// What became of a frame.
pub(super) struct Run {
    /// How it ended.
    pub(super) outcome: Outcome,
    /// The frame as the path has left it.
    pub(super) frame: Vec<u8>,
    /// What the path has done on its way.
    pub(super) notes: Vec<Note>,
    /// The tables as the path has left them.
    pub(super) tables: HostTables,
}

/// A frame's way that came in on `ifindex`, and of which the first buffer holds `linear` bytes at most.
pub(super) fn watch(tables: HostTables, frame: &[u8], linear: usize, ifindex: u32) -> Run {
    let notes = Notes::default();
    let mut frame = frame.to_vec();
    let outcome = {
        let mut frame = WatchedFrame { bytes: &mut frame, linear, notes: &notes };
        path::process(&mut frame, &Watched { tables: &tables, notes: &notes }, ifindex)
    };
    Run { outcome, frame, notes: notes.into_inner(), tables }
}

struct WatchedFrame<'a> {
    bytes: &'a mut [u8],
    linear: usize,
    notes: &'a Notes,
}

impl Frame for WatchedFrame<'_> {
    fn linear_len(&self) -> usize {
        self.bytes.len().min(self.linear)
    }

    fn total_len(&self) -> usize {
        self.bytes.len()
    }

    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let linear = self.linear_len();
        self.bytes.get_mut(..linear)?.get_mut(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

impl Apart for WatchedFrame<'_> {
    fn apart<const STEP: u32, T: Tables>(&mut self, tables: &T, about: About, more: [u64; 2]) -> u64 {
        self.notes.borrow_mut().push(Note::Begun(STEP));
        let said = run::<STEP, Self, T>(self, tables, about, more);
        self.notes.borrow_mut().push(Note::Ended(STEP, said));
        said
    }
}

struct Watched<'a> {
    tables: &'a HostTables,
    notes: &'a Notes,
}

impl Watched<'_> {
    /// Notes something; where the note is.
    fn note(&self, note: Note) -> usize {
        let mut notes = self.notes.borrow_mut();
        notes.push(note);
        notes.len() - 1
    }
}

/// A word whose note says what becomes of it.
struct WatchedWord<'a, S> {
    word: S,
    notes: &'a Notes,
    note: usize,
    /// Which of the two words of the note.
    which: usize,
}

impl<S: Shared> WatchedWord<'_, S> {
    fn is_now(&self, value: u64) {
        match self.notes.borrow_mut().get_mut(self.note) {
            Some(Note::Bucket(_, [_, after])) => *after = value,
            Some(Note::Pair(_, [_, after])) => after[self.which] = value,
            _ => {}
        }
    }
}

impl<S: Shared> Shared for WatchedWord<'_, S> {
    fn load(&self) -> u64 {
        self.word.load()
    }

    fn swap(&self, old: u64, new: u64) -> bool {
        let swapped = self.word.swap(old, new);
        if swapped {
            self.is_now(new);
        }
        swapped
    }

    fn store(&self, value: u64) {
        self.word.store(value);
        self.is_now(value);
    }
}

impl SharedWords for Watched<'_> {
    fn bucket(&self, index: u32) -> Option<impl Shared> {
        let word = self.tables.bucket(index)?;
        let note = self.note(Note::Bucket(index, [word.load(); 2]));
        Some(WatchedWord { word, notes: self.notes, note, which: 0 })
    }

    fn pair(&self, table: Table, place: PairIndex) -> Option<[impl Shared; 2]> {
        let [first, second] = self.tables.pair(table, place)?;
        let note = self.note(Note::Pair(table, [[first.load(), second.load()]; 2]));
        let watched = |word, which| WatchedWord { word, notes: self.notes, note, which };
        Some([watched(first, 0), watched(second, 1)])
    }

    fn last_served(&self, place: u32) -> Option<impl Shared> {
        self.tables.last_served(place)
    }
}

impl Tables for Watched<'_> {
    fn switch(&self) -> Option<u32> {
        self.tables.switch()
    }

    fn settings(&self, buffer: u32) -> Option<&Settings> {
        self.tables.settings(buffer)
    }

    fn interface_entry(&self, index: u32) -> Option<&Interface> {
        self.tables.interface_entry(index)
    }

    fn own_first(&self, buffer: u32, slot: u32) -> Option<&OwnFirst> {
        self.note(Note::OwnFirst);
        self.tables.own_first(buffer, slot)
    }

    fn addresses4(&self, index: u32) -> Option<&AddressBucket4> {
        self.tables.addresses4(index)
    }

    fn addresses6(&self, index: u32) -> Option<&AddressBucket6> {
        self.tables.addresses6(index)
    }

    fn address_shift(&self) -> u32 {
        self.tables.address_shift()
    }

    fn rules(&self, buffer: u32) -> Option<&Rules> {
        self.tables.rules(buffer)
    }

    fn prefixes4(&self, index: u32) -> Option<&PrefixBucket4> {
        self.tables.prefixes4(index)
    }

    fn prefixes6(&self, index: u32) -> Option<&PrefixBucket6> {
        self.tables.prefixes6(index)
    }

    fn gate(&self, position: u32) -> Option<u64> {
        let word = self.tables.gate(position)?;
        self.note(Note::Gate(word));
        Some(word)
    }

    fn rule_counter(&self, index: u32) -> Option<impl DerefMut<Target = RuleCounter>> {
        self.tables.rule_counter(index)
    }

    fn rollback_at(&self) -> Option<u64> {
        self.tables.rollback_at()
    }

    fn monotonic_ns(&self) -> u64 {
        self.tables.monotonic_ns()
    }

    fn cpu(&self) -> Option<impl DerefMut<Target = Cpu>> {
        self.tables.cpu()
    }

    fn heavy_hitter(&self, index: u32) -> Option<impl DerefMut<Target = HeavyHitter>> {
        self.tables.heavy_hitter(index)
    }

    fn source_shift(&self) -> u32 {
        self.tables.source_shift()
    }

    fn secret(&self, index: usize) -> u64 {
        self.tables.secret(index)
    }

    fn path_mtu(&self) -> Option<impl Shared> {
        self.tables.path_mtu()
    }

    fn ticks(&self) -> u64 {
        self.tables.ticks()
    }

    fn captured_reasons(&self, tap: Tap) -> u64 {
        self.tables.captured_reasons(tap)
    }

    fn capture(&self, tap: Tap) -> Option<&Capture> {
        self.tables.capture(tap)
    }

    fn capture_cpu(&self, tap: Tap) -> Option<impl DerefMut<Target = CaptureCpu>> {
        self.tables.capture_cpu(tap)
    }

    fn capture_bucket(&self, tap: Tap) -> Option<impl Shared> {
        self.tables.capture_bucket(tap)
    }

    fn peer_shift(&self) -> u32 {
        self.tables.peer_shift()
    }

    fn peer_bucket(&self, index: u32) -> Option<(impl Shared, impl DerefMut<Target = Peers>)> {
        self.tables.peer_bucket(index)
    }

    fn count(&self, slot: u32, row: u8, reason: Reason, bytes: u64) {
        self.tables.count(slot, row, reason, bytes);
    }
}
