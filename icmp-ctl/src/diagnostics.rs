//! Standard error: what is said beside the data.
//!
//! Owns its form, text or with `-j` one JSON object a line, and that it never stops what it is about: a line that cannot be written is
//! lost, and nothing else.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};

static JSON: AtomicBool = AtomicBool::new(false);

/// Has everything be said as JSON from now on, or as text.
pub fn configure(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Says something worth knowing.
pub fn note(text: &str) {
    say(text, json!({ "schema": 1, "note": text }));
}

/// Says something that is probably not what was meant.
pub fn warn(text: &str) {
    say(&format!("WARNING: {text}"), json!({ "schema": 1, "warning": text }));
}

/// Says why the command has failed.
pub fn error(text: &str, exit_code: u8) {
    say(text, json!({ "schema": 1, "error": text, "exit_code": exit_code }));
}

/// Does something, and says on a terminal what it is if it takes longer than a second.
pub fn say_if_it_takes_long<T>(text: &str, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    std::thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
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

fn say(text: &str, json: Value) {
    let line = if JSON.load(Ordering::Relaxed) { format!("{json}\n") } else { format!("icmp-ctl: {text}\n") };
    // There is nowhere left to say that this has failed.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
