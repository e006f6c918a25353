//! The service manager, systemd or a compatible one, and the messages of `serve` to it (sd_notify(3)).
//!
//! Owns the words of that protocol, and that `serve` does not wait for a manager that does not read. Without a manager nothing is sent.

use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::{NotifyState, watchdog_enabled};

use crate::diagnostics::warn;

/// Within which time [`alive`] has to be said again; `None` where nobody waits for it.
pub fn watchdog() -> Option<Duration> {
    watchdog_enabled()
}

/// `serve` does its work: at the end of its start, and of a reload. Whether that is told; what has found no room has to be told again.
pub fn ready() -> bool {
    match tell(&[NotifyState::Ready]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
        Err(error) => {
            warn(&format!(
                "telling the service manager that `serve` is ready: {error}; it will wait in vain"
            ));
        }
        Ok(()) => {}
    }
    true
}

/// A configuration is read again, until [`ready`] is said.
pub fn reloading() {
    // What cannot be told is no reason to stop: the manager decides what it makes of the silence. So with all below.
    let _ = NotifyState::monotonic_usec_now().and_then(|now| tell(&[NotifyState::Reloading, now]));
}

/// The work goes on, and this is how.
pub fn alive(status: &str) {
    // A line feed ends a word of the protocol.
    let status = status.replace('\n', " ");
    let _ = tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
}

/// `serve` ends, because it was asked to.
pub fn stopping() {
    let _ = tell(&[NotifyState::Stopping]);
}

/// Sends this as one message, if there is room for it now.
fn tell(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}
