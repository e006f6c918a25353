//! The replay itself: each frame of a capture through the packet path, under one policy or two.
//!
//! Owns the clock, which is the capture's and never goes back, which frames the program would not have seen, and what is noted of the
//! others. Memory does not grow with the capture.

use std::net::IpAddr;
use std::ops::ControlFlow;

use anyhow::Result;
use icmp_common::frame::SliceFrame;
use icmp_common::host_tables::HostTables;
use icmp_common::path::process;
use icmp_common::reason::{Reason, Verdict};
use icmp_common::wire::ethernet;
use ipnet::IpNet;

use crate::capture::ethernet::{Kind, has_own_mac, write};
use crate::capture::read::{Capture, Record};
use crate::capture::write::Writer;
use crate::instance::compiled::Compiled;
use crate::kernel::clock::Tick;
use crate::policy::limits::prefix_lengths;
use crate::replay::differences::Differences;
use crate::replay::own::{IFINDEX, Own};
use crate::replay::packet::Packet;
use crate::replay::timeline::{Peak, Timeline};
use crate::replay::top::Top;

const NS: u64 = 1_000_000_000;
/// The tick of the first frame: so far from 0 that every untouched bucket is full.
const START: u64 = 1 << 32;

/// A policy, and the memory of its limiter.
pub struct Side<'a> {
    /// What is in force.
    pub policy: &'a Compiled,
    /// Lines of the limiter ([`crate::instance::program::LoadOptions::lines`]).
    pub lines: u32,
}

/// What became of a capture.
pub struct Replay {
    own: Own,
    tick_ns: u64,
    prefixes: (u8, u8),
    first: Tables,
    second: Option<(Tables, Differences)>,
    answers: Option<Writer>,
    /// Nanoseconds since 1970 of the first frame.
    began: Option<u64>,
    now: u64,
    frame: Vec<u8>,
    second_of_replies: u64,
    current: Top<IpNet>,
    /// Frames that the program would have seen.
    pub seen: u64,
    /// Frames that the host sent itself, which the program would not have seen.
    pub sent: u64,
    /// Records that are no frames of a link type that is read.
    pub unknown: u64,
    /// Frames of which the capture has only the beginning.
    pub cut: u64,
    /// Verdicts over time.
    pub timeline: Timeline,
    /// Who would have been limited.
    pub limited: Top<IpAddr>,
    /// Replies by prefix in the second with most of them.
    pub replies: Top<IpNet>,
    /// Which second that was.
    pub busiest: Peak,
    /// Own addresses for which there was no room.
    pub left_out: usize,
}

/// The packet path under one policy.
struct Tables {
    tables: HostTables,
    frame: Vec<u8>,
}

impl Tables {
    fn run(&mut self, frame: &[u8], ticks: u64) -> Reason {
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        self.tables.set_ticks(ticks);
        process(&mut SliceFrame::new(&mut self.frame), &self.tables, IFINDEX).reason
    }

    fn totals(&self) -> Vec<(u64, u64)> {
        let mut totals = vec![(0, 0); Reason::ALL.len()];
        for ((_, _, reason), counter) in self.tables.counters() {
            let (packets, bytes) = &mut totals[usize::from(reason)];
            *packets += counter.packets;
            *bytes += counter.bytes;
        }
        totals
    }
}

impl Replay {
    /// Gets ready for the frames of a host under one policy, and under a second one; answers of the first are written where somebody wants
    /// them.
    pub fn new(
        own: Own,
        tick: Tick,
        first: &Side<'_>,
        second: Option<&Side<'_>>,
        answers: Option<Writer>,
    ) -> Self {
        let tables = |side: &Side<'_>| own.tables(side.policy, side.lines);
        let (tables_of_first, left_out) = tables(first);
        let (v4, v6) = prefix_lengths(&first.policy.settings.prefix);
        Self {
            tick_ns: (NS as f64 / tick.per_second).round() as u64,
            prefixes: (v4 as u8, v6 as u8),
            first: Tables { tables: tables_of_first, frame: Vec::new() },
            second: second
                .map(|side| (Tables { tables: tables(side).0, frame: Vec::new() }, Differences::default())),
            answers,
            began: None,
            now: 0,
            frame: Vec::new(),
            second_of_replies: 0,
            current: Top::default(),
            seen: 0,
            sent: 0,
            unknown: 0,
            cut: 0,
            timeline: Timeline::default(),
            limited: Top::default(),
            replies: Top::default(),
            busiest: Peak::default(),
            left_out,
            own,
        }
    }

    /// Replays a capture to its end.
    ///
    /// # Errors
    /// As [`Capture::each`], whose records until then are replayed; an answer cannot be written.
    pub fn run(&mut self, capture: &mut Capture, progress: impl FnMut(u64, u64)) -> Result<()> {
        let read = capture.each(|record| self.record(record).map(ControlFlow::Continue), progress);
        self.timeline.close();
        self.close_second();
        let written = self.answers.take().map_or(Ok(()), Writer::finish);
        read.and(written)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<()> {
        match write(record, &mut self.frame) {
            Kind::Unknown => self.unknown += 1,
            Kind::Sent => self.sent += 1,
            Kind::Frame if self.is_sent(record) => self.sent += 1,
            Kind::Frame => return self.received(record),
        }
        Ok(())
    }

    /// Whether the host itself sent the frame: by its MAC address, or by its IP address where the link has none.
    fn is_sent(&self, record: &Record<'_>) -> bool {
        if has_own_mac(record.link_type) {
            return self.frame.get(ethernet::SOURCE..ethernet::ETHER_TYPE) == Some(&self.own.mac);
        }
        Packet::read(&self.frame).is_some_and(|packet| self.own.has(packet.source))
    }

    fn received(&mut self, record: &Record<'_>) -> Result<()> {
        self.seen += 1;
        self.cut += u64::from(record.length > record.bytes.len());
        let began = *self.began.get_or_insert(record.time);
        self.now = self.now.max(record.time.saturating_sub(began));
        let ticks = START + self.now / self.tick_ns;
        let second = self.now / NS;
        let reason = self.first.run(&self.frame, ticks);
        self.timeline.count(second, reason.verdict());
        if second != self.second_of_replies {
            self.close_second();
            self.second_of_replies = second;
        }
        let is_limited = reason.verdict() == Verdict::Limit || reason == Reason::WouldLimit;
        let is_answered = matches!(reason, Reason::Answered | Reason::WouldAnswer);
        if (is_limited || is_answered)
            && let Some(packet) = Packet::read(&self.frame)
        {
            if is_limited {
                self.limited.count(packet.source);
            } else {
                self.current.count(self.prefix_of(packet.source));
            }
        }
        if reason == Reason::Answered
            && let Some(answers) = &mut self.answers
        {
            answers.add(record.time, &self.first.frame)?;
        }
        if let Some((tables, differences)) = &mut self.second {
            let frame = &self.frame;
            let describe = || {
                let packet = Packet::read(frame);
                (
                    record.number,
                    self.now,
                    packet.map_or_else(|| "no IP".to_owned(), |packet| packet.to_string()),
                )
            };
            differences.note([reason, tables.run(frame, ticks)], describe);
        }
        Ok(())
    }

    fn prefix_of(&self, source: IpAddr) -> IpNet {
        let (v4, v6) = self.prefixes;
        let len = if source.is_ipv4() { v4 } else { v6 };
        IpNet::new(source, len).map_or_else(|_| source.into(), |net| net.trunc())
    }

    fn close_second(&mut self) {
        if self.current.total > self.busiest.frames {
            self.busiest = Peak { frames: self.current.total, second: self.second_of_replies };
            self.replies = std::mem::take(&mut self.current);
        }
        self.current.clear();
    }

    /// The host.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Nanoseconds since 1970 of the first frame, and from it to the last.
    pub fn time(&self) -> (u64, u64) {
        (self.began.unwrap_or_default(), self.now)
    }

    /// Frames and bytes by reason.
    pub fn totals(&self) -> Vec<(u64, u64)> {
        self.first.totals()
    }

    /// The same under the second policy, and what it would have done otherwise.
    pub fn against(&self) -> Option<(Vec<(u64, u64)>, &Differences)> {
        self.second.as_ref().map(|(tables, differences)| (tables.totals(), differences))
    }
}
