//! Threads, for blocking calls. If no more threads can be started, that is an error here; the event loop and the standard library panic.

use std::thread::Builder;

use anyhow::{Context as _, Result};
use nix::libc;
use tokio::sync::oneshot;

use crate::failure::has_errno;

const STARTING: &str =
    "starting a thread, of which `ulimit -u` and the `TasksMax=` of a unit limit how many there may be";

/// Starts one, which nobody waits for.
///
/// # Errors
/// There may be no more.
pub fn start(run: impl FnOnce() + Send + 'static) -> Result<()> {
    Builder::new().spawn(run).map(drop).context(STARTING)
}

/// Runs something on a thread of its own, which goes on where nobody waits for it any more.
///
/// # Errors
/// There may be no more threads; or it panicked.
pub async fn on_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    start(move || _ = done.send(run()))?;
    result.await.context("the thread panicked")
}

/// Whether it failed because there may be no more threads.
pub fn are_too_many(error: &anyhow::Error) -> bool {
    has_errno(error, &[libc::EAGAIN])
}
