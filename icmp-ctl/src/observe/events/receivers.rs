//! Who is told of events beside the journal: a command, and a page.
//!
//! Owns that they are told one event after the other, again where that fails, and that whoever does not take them holds up nobody: events wait in a
//! queue with an end, and what finds no place in it is counted, and told as lost.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{Receiver, Sender, channel};
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

/// All receivers.
pub struct Receivers(Vec<Queue>);

/// What waits for a receiver.
struct Queue {
    sender: Sender<Event>,
    /// Events for which there was no room since one was told as lost.
    missed: u64,
}

impl Receivers {
    /// Those of a configuration, who are told by the event loop from now on.
    pub fn start(config: &Events) -> Self {
        let mut queues = Vec::new();
        let mut start = |tell: Tell, called: String| {
            let (sender, events) = channel(QUEUE);
            tokio::spawn(keep(events, tell, called));
            queues.push(Queue { sender, missed: 0 });
        };
        if let Some(webhook) = config.webhook.clone() {
            let called = format!("posting events to {webhook}");
            start(Box::new(move |json| Box::pin(post(webhook.clone(), json))), called);
        }
        if let Some(command) = config.command.clone() {
            let called = format!("running {} for events", command.join(" "));
            start(Box::new(move |json| Box::pin(run(command.clone(), json))), called);
        }
        Self(queues)
    }

    /// Tells all of them of an event, without waiting for any.
    pub fn tell(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|queue| queue.put(event));
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

/// Tells a receiver of an event once.
type Tell = Box<dyn Fn(String) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

async fn keep(mut events: Receiver<Event>, tell: Tell, called: String) {
    let mut is_failing = false;
    while let Some(event) = events.recv().await {
        let told = try_to(&tell, &event.json().to_string()).await;
        match &told {
            Err(why) if !is_failing => {
                let text = format!(
                    "{called}: {why}; given up for {} after {} trials",
                    event.what.name(),
                    PAUSES.len()
                );
                warn_about("failure", None, &text);
            }
            Ok(()) if is_failing => note_about("recovery", None, &format!("{called} works again")),
            _ => {}
        }
        is_failing = told.is_err();
    }
}

async fn try_to(tell: &Tell, json: &str) -> Result<(), String> {
    let mut told = Ok(());
    for pause in PAUSES {
        sleep(pause).await;
        told = match timeout(DEADLINE, tell(json.to_owned())).await {
            Ok(told) => told,
            Err(_) => Err(format!("it took longer than {} s", DEADLINE.as_secs())),
        };
        if told.is_ok() {
            break;
        }
    }
    told
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
        let mut queue = Queue { sender, missed: 0 };
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
