//! The replay: each frame of a capture through the packet path, under one policy or two.
//!
//! Owns what is recorded of the results. Memory does not grow with the capture.

use std::net::IpAddr;

use anyhow::Result;
use icmp_common::reason::{Reason, Verdict};
use ipnet::IpNet;

use crate::capture::packet::{Packet, source};
use crate::capture::read::Capture;
use crate::capture::write::{Frame, Writer};
use crate::instance::compiled::Compiled;
use crate::kernel::clock::Tick;
use crate::policy::limits::{prefix_lengths, prefix_of};
use crate::replay::differences::Differences;
use crate::replay::frames::{Frames, Path, Received};
use crate::replay::own::Own;
use crate::replay::timeline::{Peak, Timeline};
use crate::replay::top::Top;

/// A policy, and the memory of its limiter.
pub struct Side<'a> {
    /// What is in force.
    pub policy: &'a Compiled,
    /// Lines of the limiter ([`crate::instance::program::LoadOptions::lines`]).
    pub lines: u32,
}

/// What became of a capture.
pub struct Replay {
    /// What came in.
    pub frames: Frames,
    noted: Noted,
}

/// What is noted of the frames that came in.
struct Noted {
    prefixes: (u8, u8),
    first: Path,
    second: Option<(Path, Differences)>,
    answers: Option<Writer>,
    /// Why there are no more answers.
    unwritten: Option<anyhow::Error>,
    timeline: Timeline,
    limited: Top<IpAddr>,
    second_of_replies: u64,
    current: Top<IpNet>,
    busiest: Peak,
    replies: Top<IpNet>,
}

impl Replay {
    /// Gets ready for the frames of a host under one policy, and under a second one; answers of the first are written where somebody wants
    /// them. Returned with it: own addresses for which there was no room.
    pub fn new(
        own: Own,
        tick: Tick,
        first: &Side<'_>,
        second: Option<&Side<'_>>,
        answers: Option<Writer>,
    ) -> (Self, usize) {
        let tables = |side: &Side<'_>| own.tables(side.policy, side.lines);
        let (tables_of_first, left_out) = tables(first);
        let (v4, v6) = prefix_lengths(&first.policy.settings.prefix);
        let noted = Noted {
            prefixes: (v4 as u8, v6 as u8),
            first: Path::new(tables_of_first),
            second: second.map(|side| (Path::new(tables(side).0), Differences::default())),
            answers,
            unwritten: None,
            timeline: Timeline::default(),
            limited: Top::default(),
            second_of_replies: 0,
            current: Top::default(),
            busiest: Peak::default(),
            replies: Top::default(),
        };
        (Self { frames: Frames::new(own, tick), noted }, left_out)
    }

    /// Replays a capture to its end.
    ///
    /// # Errors
    /// As [`Capture::each`], whose records until then are replayed.
    pub fn run(&mut self, capture: &mut Capture, progress: impl FnMut(u64, u64)) -> Result<()> {
        let noted = &mut self.noted;
        let note = |received: &Received<'_>| {
            noted.note(received);
            Ok(())
        };
        let read = self.frames.each(capture, note, progress);
        noted.timeline.close();
        noted.close_second();
        read
    }

    /// Writes what is left of the answers.
    ///
    /// # Errors
    /// An answer could not be written. All frames have been replayed for that.
    pub fn close_answers(&mut self) -> Result<()> {
        if let Some(error) = self.noted.unwritten.take() {
            return Err(error);
        }
        self.noted.answers.take().map_or(Ok(()), |mut answers| answers.flush())
    }

    /// Frames and bytes by reason.
    pub fn totals(&self) -> Vec<(u64, u64)> {
        self.noted.first.totals()
    }

    /// Verdicts over time.
    pub fn timeline(&self) -> &Timeline {
        &self.noted.timeline
    }

    /// Who would have been limited.
    pub fn limited(&self) -> &Top<IpAddr> {
        &self.noted.limited
    }

    /// Replies by prefix in the second with most of them, and which that was.
    pub fn replies(&self) -> (&Top<IpNet>, Peak) {
        (&self.noted.replies, self.noted.busiest)
    }

    /// As [`Self::totals`] under the second policy, and what it would have done otherwise.
    pub fn against(&self) -> Option<(Vec<(u64, u64)>, &Differences)> {
        self.noted.second.as_ref().map(|(path, differences)| (path.totals(), differences))
    }
}

impl Noted {
    fn note(&mut self, received: &Received<'_>) {
        let reason = self.first.run(received);
        self.timeline.count(received.second(), reason.verdict());
        if received.second() != self.second_of_replies {
            self.close_second();
            self.second_of_replies = received.second();
        }
        let is_limited = reason.verdict() == Verdict::Limit || reason == Reason::WouldLimit;
        let is_answered = matches!(reason, Reason::Answered | Reason::WouldAnswer);
        if (is_limited || is_answered)
            && let Some(source) = source(received.frame)
        {
            if is_limited {
                self.limited.count(source);
            } else {
                self.current.count(prefix_of(source, self.prefixes));
            }
        }
        if reason == Reason::Answered
            && let Some(answers) = &mut self.answers
        {
            let bytes = &self.first.frame;
            let (time, len) = (received.since_1970, bytes.len() as u32);
            if let Err(error) = answers.add(&Frame { interface: 0, time, len, bytes, decided: None }) {
                (self.answers, self.unwritten) = (None, Some(error));
            }
        }
        if let Some((path, differences)) = &mut self.second {
            differences.note([reason, path.run(received)], || {
                let packet = Packet::read(received.frame);
                let packet = packet.map_or_else(|| "no IP".to_owned(), |packet| packet.to_string());
                (received.record.number, received.time, packet)
            });
        }
    }

    fn close_second(&mut self) {
        if self.current.total > self.busiest.frames {
            self.busiest = Peak { frames: self.current.total, second: self.second_of_replies };
            self.replies = std::mem::take(&mut self.current);
        }
        self.current.clear();
    }
}
