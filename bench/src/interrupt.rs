//! Ctrl-C, turned into an error that passes every guard on its way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Sets a flag from now on instead of dying.
pub(crate) fn watch() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal_hook::flag::register(signal as i32, Arc::clone(&REQUESTED))
            .with_context(|| format!("setting a handler for {signal}"))?;
    }
    Ok(())
}

/// Fails once the flag is set. Asked before each measurement, none of which takes longer than seconds.
pub(crate) fn check() -> Result<()> {
    ensure!(!REQUESTED.load(Ordering::SeqCst), "interrupted, and cleaned up");
    Ok(())
}
