//! Ctrl-C and SIGTERM, turned into a flag.
//!
//! Owns the waiting for signals and for children. A verb that is interrupted returns an error through the ordinary
//! path, so that every guard (namespaces, mounts, temporary files) is dropped on the way.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// 128 plus SIGINT's number, what a shell reports.
pub(crate) const EXIT_CODE: u8 = 130;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Set the flag from now on instead of dying. A handler, not a blocked signal: children would inherit the block, and what they
/// test is also that programs end at SIGTERM.
pub(crate) fn watch() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal_hook::flag::register(signal as i32, Arc::clone(&REQUESTED))
            .with_context(|| format!("setting a handler for {signal}"))?;
    }
    Ok(())
}

pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

pub(crate) fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Wait for a child; stop it when we are interrupted or the limit is reached. `None` is: out of time.
pub(crate) fn wait(
    child: &mut Child,
    limit: Option<Duration>,
    mut tick: impl FnMut(Duration),
) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for a child process")? {
            check()?;
            return Ok(Some(status));
        }
        if requested() {
            stop(child);
            bail!("interrupted");
        }
        if limit.is_some_and(|limit| start.elapsed() >= limit) {
            stop(child);
            return Ok(None);
        }
        tick(start.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
}

/// SIGTERM first, because cargo and apt stop their own children on it.
fn stop(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _gone_already = signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    for _ in 0..40 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _gone_already = child.kill();
    let _reaped = child.wait();
}
