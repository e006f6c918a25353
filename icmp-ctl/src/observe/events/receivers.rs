//! Receivers of events besides the journal: a command, and a webhook.
//!
//! Owns that each gets one event after the other, again after a failure, and that a slow receiver delays nothing else: events wait in a queue
//! with a limit; those that do not fit are counted, and reported as lost. The receivers may change at any time; waiting events go to those that
//! are configured then.

use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::events::{Events, Webhook};
use crate::diagnostics::{note_about, warn_about};
use crate::failure::sentence;
use crate::kernel::command;
use crate::kernel::http;
use crate::kernel::threads::on_thread;
use crate::observe::events::{Event, Lost, What};

/// Events that wait at most, for each receiver.
const QUEUE: usize = 256;
/// How long a receiver may take for one.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long is waited before each trial.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

/// One who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Webhook(Webhook),
    Command(Vec<String>),
}

/// Who is told by a configuration, of one kind.
type Kind = fn(&Events) -> Option<Told>;
const KINDS: [Kind; 2] =
    [|config| config.webhook.clone().map(Told::Webhook), |config| config.command.clone().map(Told::Command)];

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(webhook) => write!(f, "posting events to {webhook}"),
            Self::Command(command) => write!(f, "running {} for events", command.join(" ")),
        }
    }
}

impl Told {
    async fn tell(self, json: String) -> Result<(), String> {
        match self {
            Self::Webhook(webhook) => post(webhook, json).await,
            Self::Command(command) => run(command, json).await,
        }
    }
}

/// All receivers.
pub struct Receivers {
    config: watch::Receiver<Events>,
    queues: Vec<Queue>,
}

/// What waits for a receiver.
struct Queue {
    kind: Kind,
    sender: Sender<Event>,
    /// Events for which there was no room since one was told as lost.
    missed: u64,
}

impl Receivers {
    /// Those of a configuration as it is then, who are told by the event loop from now on.
    pub fn start(config: watch::Receiver<Events>) -> Self {
        let queue = |kind| {
            let (sender, events) = channel(QUEUE);
            tokio::spawn(keep(events, config.clone(), kind));
            Queue { kind, sender, missed: 0 }
        };
        let queues = KINDS.into_iter().map(queue).collect();
        Self { config, queues }
    }

    /// Tells all of them of an event, without waiting for any.
    pub fn tell(&mut self, event: &Event) {
        let config = self.config.borrow();
        let is_told = |queue: &&mut Queue| (queue.kind)(&config).is_some();
        self.queues.iter_mut().filter(is_told).for_each(|queue| queue.put(event));
    }
}

impl Queue {
    fn put(&mut self, event: &Event) {
        if self.missed > 0 {
            let lost = Event::now(What::Lost(Lost { frames: 0, events: self.missed }));
            if self.sender.try_send(lost).is_err() {
                self.missed += 1;
                return;
            }
            self.missed = 0;
        }
        self.missed += u64::from(self.sender.try_send(event.clone()).is_err());
    }
}

async fn keep(mut events: Receiver<Event>, config: watch::Receiver<Events>, kind: Kind) {
    let mut failing = None;
    while let Some(event) = events.recv().await {
        let Some((who, told)) = try_to(&config, kind, &event.json().to_string()).await else { continue };
        let is_failing = failing.as_ref() == Some(&who);
        match &told {
            Err(why) if !is_failing => {
                let text =
                    format!("{who}: {why}; given up for {} after {} trials", event.what.name(), PAUSES.len());
                warn_about("failure", None, &text);
            }
            Ok(()) if is_failing => note_about("recovery", None, &format!("{who} works again")),
            _ => {}
        }
        failing = told.is_err().then_some(who);
    }
}

/// Who was told last, and how that went; `None` where nobody is to be told any more.
async fn try_to(
    config: &watch::Receiver<Events>,
    kind: Kind,
    json: &str,
) -> Option<(Told, Result<(), String>)> {
    let mut last = None;
    for pause in PAUSES {
        sleep(pause).await;
        let who = kind(&config.borrow())?;
        let told = match timeout(DEADLINE, who.clone().tell(json.to_owned())).await {
            Ok(told) => told,
            Err(_) => Err(format!("it took longer than {} s", DEADLINE.as_secs())),
        };
        let is_told = told.is_ok();
        last = Some((who, told));
        if is_told {
            break;
        }
    }
    last
}

async fn post(webhook: Webhook, json: String) -> Result<(), String> {
    http::ask(webhook.address, &webhook.host, &webhook.path, Some(json)).await
}

async fn run(command: Vec<String>, json: String) -> Result<(), String> {
    let ran = on_thread(move || {
        let Some((program, words)) = command.split_first() else { return Ok(None) };
        let words: Vec<_> = words.iter().map(String::as_str).chain([json.as_str()]).collect();
        // A little less than it is waited for, so that it is killed and not left behind.
        command::run(program, &words, DEADLINE - Duration::from_millis(500))
    });
    match ran.await {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err("there is no such program".to_owned()),
        Ok(Err(why)) => Err(why),
        Err(error) => Err(sentence(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_does_not_take_in_time_is_counted_and_told_as_lost() {
        let (sender, mut events) = channel(2);
        let mut queue = Queue { kind: KINDS[0], sender, missed: 0 };
        let event = Event::now(What::PressureStarted);
        for _ in 0..5 {
            queue.put(&event);
        }
        assert_eq!(queue.missed, 3);
        let mut take = || events.try_recv().map(|event| event.what).ok();
        assert_eq!(
            (take(), take(), take()),
            (Some(What::PressureStarted), Some(What::PressureStarted), None)
        );
        queue.put(&event);
        assert_eq!(
            (take(), take()),
            (Some(What::Lost(Lost { frames: 0, events: 3 })), Some(What::PressureStarted))
        );
        assert_eq!(queue.missed, 0);
    }
}
