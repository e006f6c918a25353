//! For development: the program's message about each frame, on stderr.
//!
//! Owns reading the ring buffer of a program that was built with the feature `trace`. icmp-ebpf's `lib.rs` owns the messages.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::diagnostics::note;
use crate::instance::pins::View;
use crate::instance::program::Entry;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        note(&format!("trace: {}", record.args()));
    }

    fn flush(&self) {}
}

/// Prints until the buffer cannot be read any more.
///
/// # Errors
/// Nothing is loaded, or its program has no logging in it.
pub(crate) fn print() -> Result<()> {
    let instance = View::find()?.context("nothing is loaded that could be traced")?;
    // Both entry points write to the same buffer.
    let pin = instance.program_pin(Entry::Xdp);
    let program = ProgramInfo::from_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
    let mut logger = EbpfLogger::init_from_id_with_logger(program.id(), Stderr)
        .context("the loaded program has no logging in it: `icmp-ctl detach --all`, then this again")?;
    loop {
        let mut wanted = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::NONE).context("waiting for the program's log")?;
        logger.flush();
    }
}
