//! Delivered events: the events that `serve` has seen, and a monitor's source of events.
//!
//! Owns the last events, which `serve` keeps for monitors, and the thread that watches.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::diagnostics::{note_about, say_event, warn_about};
use crate::failure::sentence;
use crate::kernel::threads::start;
use crate::observe::events::receivers::Receivers;
use crate::observe::events::watch::{LOOK, Watch};
use crate::observe::events::{Event, Lost, What};
use crate::observe::readers::{Question, Source, ask};

/// Events that `serve` keeps.
const KEPT: usize = 1024;
/// When `serve` looks again if it could not.
const RETRY: Duration = Duration::from_secs(1);

/// What `serve` has seen last.
struct Kept {
    /// Number of the last one.
    last: u64,
    events: VecDeque<Event>,
    /// Why it sees nothing, where that is so.
    failure: Option<String>,
}

static KEPT_LAST: Mutex<Kept> = Mutex::new(Kept { last: 0, events: VecDeque::new(), failure: None });

/// Events behind one that has a number.
#[derive(Debug, Deserialize, Serialize)]
pub struct Behind {
    last: u64,
    events: Vec<Event>,
    /// How many there were that are not kept any more.
    missed: u64,
}

impl Kept {
    fn add(&mut self, event: Event) {
        self.last += 1;
        self.events.push_back(event);
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
    }

    /// Those behind number `after`; without one, those to come.
    fn behind(&self, after: Option<u64>) -> Behind {
        let wanted = self.last.saturating_sub(after.unwrap_or(self.last));
        let there = self.events.len().min(wanted as usize);
        Behind {
            last: self.last,
            events: self.events.iter().skip(self.events.len() - there).cloned().collect(),
            missed: wanted - there as u64,
        }
    }
}

/// What `serve` answers who asks for events.
///
/// # Errors
/// It sees none.
pub fn behind(after: Option<u64>) -> Result<Behind> {
    let kept = KEPT_LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &kept.failure {
        Some(why) => bail!("`serve` tells of no events: {why}"),
        None => Ok(kept.behind(after)),
    }
}

/// A thread that watches, and what it has seen.
pub struct Watching {
    /// What the first look has told.
    first: Option<Result<Vec<Event>>>,
    looks: mpsc::Receiver<Result<Vec<Event>>>,
}

impl Watching {
    /// Watches from now on; the first look is over when this returns, so that what is done then is told.
    ///
    /// # Errors
    /// There may be no more threads.
    pub async fn begin() -> Result<Self> {
        let (seen, mut looks) = mpsc::channel(1);
        start(move || {
            let mut watch = Watch::default();
            loop {
                let looked = watch.look();
                let pause = if looked.is_ok() { LOOK } else { RETRY };
                if seen.blocking_send(looked).is_err() {
                    return;
                }
                std::thread::sleep(pause);
            }
        })?;
        Ok(Self { first: looks.recv().await, looks })
    }

    async fn next(&mut self) -> Result<Result<Vec<Event>>> {
        let looked = match self.first.take() {
            Some(first) => Some(first),
            None => self.looks.recv().await,
        };
        looked.context("watching for events has come to an end, which is a fault of icmp-ctl")
    }
}

/// Tells the journal and the receivers for ever, and keeps what was told for who asks.
///
/// # Errors
/// The thread that watches has ended.
pub async fn keep(mut watching: Watching, mut receivers: Receivers) -> Result<Infallible> {
    let mut failure: Option<String> = None;
    loop {
        let (events, now) = match watching.next().await? {
            Ok(events) => (events, None),
            Err(error) => (Vec::new(), Some(sentence(&error))),
        };
        match &now {
            Some(why) if failure.is_none() => {
                warn_about("failure", None, &format!("telling of events: {why}; tried again until it works"));
            }
            None if failure.is_some() => note_about("recovery", None, "events are told again"),
            _ => {}
        }
        failure.clone_from(&now);
        for event in &events {
            say_event(&event.what.text(), &event.json());
            receivers.tell(event);
        }
        let mut kept = KEPT_LAST.lock().unwrap_or_else(PoisonError::into_inner);
        kept.failure = now;
        events.into_iter().for_each(|event| kept.add(event));
    }
}

/// From where a monitor has events.
pub enum From {
    /// It watches itself.
    Here(Box<Watch>),
    /// `serve` watches, and was asked for all up to this one.
    Serve(u64),
}

impl From {
    /// Begins; what has happened by then.
    ///
    /// # Errors
    /// Another process watches that cannot be asked, or what is watched cannot be read.
    pub fn begin(source: Source) -> Result<(Self, Vec<Event>)> {
        let asked =
            || ask::<Behind>(&Question::Events(None)).map(|behind| (Self::Serve(behind.last), Vec::new()));
        if source == Source::Serve {
            return asked();
        }
        let mut watch = Watch::default();
        match watch.look() {
            Ok(events) => Ok((Self::Here(Box::new(watch)), events)),
            // It is `serve` that watches, where that can be asked.
            Err(error) => asked().or(Err(error)),
        }
    }

    /// What has happened since.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn more(&mut self) -> Result<Vec<Event>> {
        match self {
            Self::Here(watch) => watch.look(),
            Self::Serve(last) => {
                let behind: Behind = ask(&Question::Events(Some(*last)))?;
                *last = behind.last;
                let lost = (behind.missed > 0)
                    .then(|| Event::now(What::Lost(Lost { frames: 0, events: behind.missed })));
                Ok(lost.into_iter().chain(behind.events).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_gets_what_came_since_and_is_told_what_is_not_kept() {
        let mut kept = Kept { last: 0, events: VecDeque::new(), failure: None };
        let counts = |kept: &Kept, after| {
            let behind = kept.behind(after);
            (behind.last, behind.events.len(), behind.missed)
        };
        assert_eq!(counts(&kept, None), (0, 0, 0));
        for _ in 0..3 {
            kept.add(Event::now(What::PressureStarted));
        }
        assert_eq!((counts(&kept, None), counts(&kept, Some(1))), ((3, 0, 0), (3, 2, 0)));
        for _ in 0..KEPT {
            kept.add(Event::now(What::PressureEnded));
        }
        assert_eq!(counts(&kept, Some(1)), (KEPT as u64 + 3, KEPT, 2));
        assert_eq!(counts(&kept, Some(u64::MAX)), (KEPT as u64 + 3, 0, 0), "of another serve");
    }
}
