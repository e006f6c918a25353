//! Diagnostics: messages beside the data, on standard error or in the journal.
//!
//! Owns their form and destination, and that they have no error numbers of the kernel. They are events of `tracing`; in text and with `-j` they
//! are lines on standard error, and if that is the journal, they are entries with fields. A message that cannot be written is lost, and does
//! not stop the work.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::stat::fstat;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// What marks our own events: libraries may have theirs.
const TARGET: &str = "icmp_ctl";

/// Has everything be said as JSON from now on, or as text, or in the journal where standard error leads there and nobody wants JSON.
pub fn configure(json: bool) {
    let journal = if json { None } else { journal() };
    let lines = journal.is_none().then_some(Lines { json });
    let ours = filter_fn(|metadata| metadata.target() == TARGET);
    // Configured twice, it stays as it is.
    let _ = tracing_subscriber::registry().with(ours).with(journal).with(lines).try_init();
}

/// The journal, where standard error is a stream of it (systemd.exec(5), `JOURNAL_STREAM`).
fn journal() -> Option<tracing_journald::Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = fstat(io::stderr()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    let journal = tracing_journald::layer().ok()?;
    Some(journal.with_syslog_identifier("icmp-ctl".to_owned()).with_field_prefix(None))
}

/// Says something worth knowing.
pub fn note(text: &str) {
    tracing::info!(target: TARGET, "{}", without_numbers(text));
}

/// Says something worth knowing about an event, and about which interface that is, for who searches a log.
pub fn note_about(what: &str, interface: Option<&str>, text: &str) {
    tracing::info!(target: TARGET, what, interface, "{}", without_numbers(text));
}

/// How a VIP with a check is from now on.
pub struct Health<'a> {
    /// Its prefix, or several.
    pub vips: &'a str,
    /// What is checked.
    pub check: &'a str,
    /// `healthy` or `unhealthy`.
    pub state: &'a str,
    /// All of it as a sentence.
    pub text: &'a str,
}

/// Says how a VIP with a check is from now on.
pub fn say_health(health: &Health<'_>) {
    let Health { vips, check, state, text } = *health;
    tracing::info!(target: TARGET, what = "health", vips, check, state, "{}", without_numbers(text));
}

/// Says an event, of which this is all, as JSON; what the journal can be searched for are its fields.
pub fn say_event(text: &str, event: &Value) {
    let word = |field: &str| event[field].as_str();
    let number = |field: &str| event[field].as_u64();
    tracing::info!(
        target: TARGET,
        what = "event",
        event = word("event"),
        interface = word("interface"),
        family = word("family"),
        "type" = word("type"),
        source = word("source"),
        reason = word("reason"),
        packets_per_second = number("packets_per_second"),
        packets = number("packets"),
        user = word("user"),
        command = word("command"),
        vip = word("vip"),
        check = word("check"),
        "{text}"
    );
}

/// Says something that is probably not what was meant.
pub fn warn(text: &str) {
    tracing::warn!(target: TARGET, "{}", without_numbers(text));
}

/// Says something that is probably not what was meant, and about what it is, as [`note_about`] does.
pub fn warn_about(what: &str, interface: Option<&str>, text: &str) {
    tracing::warn!(target: TARGET, what, interface, "{}", without_numbers(text));
}

/// Says why the command has failed.
pub fn error(text: &str, exit_code: u8) {
    tracing::error!(target: TARGET, exit_code, "{text}");
}

/// So many of something, one or several.
pub fn count(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// Without the `(os error N)` that the standard library appends to the kernel's words.
pub fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    plain
}

/// A text whose control characters, which a terminal would obey, are escaped; but for these.
pub fn visible(text: &str, but: &[char]) -> String {
    let is_obeyed = |letter: &char| letter.is_control() && !but.contains(letter);
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        if is_obeyed(&letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
        shown
    })
}

/// A name in a command line that is told to be typed: one word for a shell, and nothing that it would obey. Names of interfaces may have anything in
/// them but blanks and slashes.
pub fn shell_word(name: &str) -> Cow<'_, str> {
    if name.chars().all(|letter| letter.is_alphanumeric() || "._-:@%+=,".contains(letter)) {
        name.into()
    } else {
        format!("'{}'", name.replace('\'', r"'\''")).into()
    }
}

/// Control characters that lay out a text of several lines.
pub const LAYOUT: &[char] = &['\n', '\t'];

/// Does something, and says on a terminal what it is if it takes longer than a second.
pub fn say_if_it_takes_long<T>(text: &str, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    std::thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        // Where there may be no more threads, it is not said.
        let _ = Builder::new().spawn_scoped(scope, move || {
            // Ends at once when the other half goes away.
            if waiting.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                note(&format!("{text} …"));
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// A bar on a terminal for work on a file of so many bytes: how far it is, how fast, and how long it still takes.
pub fn progress(bytes: u64) -> ProgressBar {
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(bytes);
    let style = "{bar:30} {percent} % of {total_bytes}, {bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(style).map_or(bar.clone(), |style| bar.with_style(style))
}

/// A count on a terminal of what has no known end.
pub fn counter(of: &'static str) -> ProgressBar {
    // Hidden where standard error is no terminal.
    let counter = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{elapsed}, {pos} {msg}");
    style.map_or(counter.clone(), |style| counter.with_style(style)).with_message(of)
}

/// Writes each event as a line to standard error.
struct Lines {
    json: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // There is nowhere left to say that this has failed.
        let _ = io::stderr().lock().write_all(line(event, self.json).as_bytes());
    }
}

/// An event as a line, with its end.
fn line(event: &Event<'_>, json: bool) -> String {
    let mut said = Said::default();
    event.record(&mut said);
    let (key, prefix) = match *event.metadata().level() {
        Level::ERROR => ("error", ""),
        Level::WARN => ("warning", "WARNING: "),
        _ => ("note", ""),
    };
    if !json {
        return format!("icmp-ctl: {prefix}{}\n", visible(&said.message, LAYOUT));
    }
    let mut object = Map::from_iter([("schema".to_owned(), json!(1)), (key.to_owned(), json!(said.message))]);
    object.extend(said.fields);
    format!("{}\n", Value::Object(object))
}

/// What an event has to say.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}
