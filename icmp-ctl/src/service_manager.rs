//! The service manager, systemd or what speaks like it: what it is told of `serve` (sd_notify(3)).
//!
//! Owns the words of that protocol. Without such a manager they go nowhere.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

use crate::diagnostics::warn;

/// Within which time [`alive`] has to be said again; `None` where nobody waits for it.
pub fn watchdog() -> Option<Duration> {
    watchdog_enabled()
}

/// `serve` does its work: at the end of its start, and of a reload.
pub fn ready() {
    if let Err(error) = notify(&[NotifyState::Ready]) {
        warn(&format!("telling the service manager that `serve` is ready: {error}; it will wait in vain"));
    }
}

/// A configuration is read again, until [`ready`] is said.
pub fn reloading() {
    // What cannot be told is no reason to stop: the manager decides what it makes of the silence. So with all below.
    let _ = NotifyState::monotonic_usec_now().and_then(|now| notify(&[NotifyState::Reloading, now]));
}

/// The work goes on, and this is how.
pub fn alive(status: &str) {
    // A line feed ends a word of the protocol.
    let status = status.replace('\n', " ");
    let _ = notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
}

/// `serve` ends, because it was asked to.
pub fn stopping() {
    let _ = notify(&[NotifyState::Stopping]);
}
