//! The frames of a capture as the program would have received them, each with its time.
//!
//! Owns the clock, which is the capture's and never goes back, and which frames the program would not have seen.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use anyhow::Result;
use icmp_common::frame::SliceFrame;
use icmp_common::host_tables::HostTables;
use icmp_common::path::process;
use icmp_common::reason::Reason;

use crate::capture::ethernet::{Kind, frame};
use crate::capture::read::{Capture, Record};
use crate::kernel::clock::Tick;
use crate::replay::own::Own;

pub(super) const NS: u64 = 1_000_000_000;
/// The tick of the first frame: so far from 0 that every untouched bucket is full.
const START: u64 = 1 << 32;
/// What is longer between two frames counts as this: a clock that was set by decades would come round to where buckets seem to be empty.
const LONGEST_GAP: u64 = 366 * 86_400 * NS;

/// What came in, and what did not.
pub struct Frames {
    /// The host.
    pub own: Own,
    began: Option<u64>,
    now: u64,
    /// The same with no gap longer than [`LONGEST_GAP`].
    clock: u64,
    ticks: Ticks,
    room: Vec<u8>,
    /// Frames that the program would have seen.
    pub seen: u64,
    /// Frames that the host sent itself, which the program would not have seen.
    pub sent: u64,
    /// Records that are no frames of a link type that is read.
    pub unknown: u64,
    /// Their link types.
    pub unknown_links: BTreeSet<i32>,
    /// Frames of which the capture has only the beginning.
    pub cut: u64,
    /// Frames of which the capture does not say when they were there.
    pub untimed: u64,
}

/// A frame that came in.
pub(super) struct Received<'a> {
    pub(super) record: &'a Record<'a>,
    pub(super) frame: &'a [u8],
    /// Nanoseconds since the capture began.
    pub(super) time: u64,
    /// Nanoseconds since 1970, as the capture has them.
    pub(super) since_1970: u64,
    pub(super) ticks: u64,
    /// The interface on which it did.
    ifindex: u32,
}

impl Received<'_> {
    /// Whole seconds since the capture began.
    pub(super) fn second(&self) -> u64 {
        self.time / NS
    }
}

impl Frames {
    /// Those that a host gets, whose clock ticks so.
    pub(super) fn new(own: Own, tick: Tick) -> Self {
        let ticks = Ticks::new(tick);
        Self {
            own,
            began: None,
            now: 0,
            clock: 0,
            ticks,
            room: Vec::new(),
            seen: 0,
            sent: 0,
            unknown: 0,
            unknown_links: BTreeSet::new(),
            cut: 0,
            untimed: 0,
        }
    }

    /// Shows each frame that comes in to `visit`.
    ///
    /// # Errors
    /// As [`Capture::each`].
    pub(super) fn each(
        &mut self,
        capture: &mut Capture,
        mut visit: impl FnMut(&Received<'_>) -> Result<()>,
        progress: impl FnMut(u64, u64),
    ) -> Result<()> {
        let visit = |record: &Record<'_>| {
            match frame(record, &mut self.room) {
                (Kind::Unknown, _) => {
                    self.unknown += 1;
                    self.unknown_links.insert(record.link_type);
                }
                (Kind::Sent, _) => self.sent += 1,
                (Kind::Frame, frame) if self.own.sent(record, frame) => self.sent += 1,
                (Kind::Frame, frame) => {
                    self.seen += 1;
                    self.cut += u64::from(record.length > record.bytes.len());
                    self.untimed += u64::from(record.time.is_none());
                    self.began = self.began.or(record.time);
                    let began = self.began.unwrap_or_default();
                    let now = record.time.map_or(self.now, |time| self.now.max(time.saturating_sub(began)));
                    self.clock += (now - self.now).min(LONGEST_GAP);
                    self.now = now;
                    let ticks = START + self.ticks.at(self.clock);
                    let ifindex = self.own.ifindex(record);
                    let since_1970 = record.time.unwrap_or(began + self.now);
                    visit(&Received { record, frame, time: self.now, since_1970, ticks, ifindex })?;
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        capture.each(visit, progress)
    }

    /// That no record is a frame that is read, although there are some.
    pub fn none_is_read(&self) -> Option<String> {
        let none = self.unknown > 0 && self.seen == 0 && self.sent == 0;
        none.then(|| format!("none of the {} records of the capture can be read", self.unknown))
    }

    /// Nanoseconds since 1970 of the first frame that has a time, and from it to the last.
    pub fn time(&self) -> (u64, u64) {
        (self.began.unwrap_or_default(), self.now)
    }
}

/// Ticks of a clock that never goes back: a division for each of them, and not for each frame.
struct Ticks {
    length: u64,
    ticks: u64,
    next: u64,
}

impl Ticks {
    fn new(tick: Tick) -> Self {
        let length = (NS as f64 / tick.per_second).round() as u64;
        Self { length, ticks: 0, next: length }
    }

    /// How many have ended by a time in nanoseconds.
    fn at(&mut self, now: u64) -> u64 {
        if now >= self.next {
            self.ticks = now / self.length;
            self.next = (self.ticks + 1).saturating_mul(self.length);
        }
        self.ticks
    }
}

/// The packet path under one policy.
pub(super) struct Path {
    pub(super) tables: HostTables,
    /// The frame as the path has left it.
    pub(super) frame: Vec<u8>,
}

impl Path {
    pub(super) fn new(tables: HostTables) -> Self {
        Self { tables, frame: Vec::new() }
    }

    pub(super) fn run(&mut self, received: &Received<'_>) -> Reason {
        self.frame.clear();
        self.frame.extend_from_slice(received.frame);
        self.tables.set_ticks(received.ticks);
        process(&mut SliceFrame::new(&mut self.frame), &self.tables, received.ifindex).reason
    }

    /// Frames and bytes by reason.
    pub(super) fn totals(&self) -> Vec<(u64, u64)> {
        let mut totals = vec![(0, 0); Reason::ALL.len()];
        for ((_, _, reason), counter) in self.tables.counters() {
            let (packets, bytes) = &mut totals[usize::from(reason)];
            *packets += counter.packets;
            *bytes += counter.bytes;
        }
        totals
    }
}
