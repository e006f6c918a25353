//! `capture`: frames as the program has left them, each with its decision, as pcapng.

mod decided;
mod file;
mod filter;

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use file::File;
use icmp_common::abi::Tap;
use serde_json::json;

use crate::cli::packets::Capture as Args;
use crate::diagnostics::{count, counter, note};
use crate::host::netlink::Network;
use crate::instance::capture::Capturing;
use crate::instance::pins::{View, nothing_loaded};
use crate::kernel::files::is_standard_stream;
use crate::output::{Output, set_by_signals};

pub(super) fn run(args: &Args) -> Result<Output> {
    let wanted = View::look(|instance| filter::of(args, instance))?.ok_or_else(nothing_loaded)?;
    // Before the file, which another capture may be writing to.
    let mut capturing = Capturing::begin(Tap::Capture, wanted)?;
    let mut file = File::create(&args.write, args.snapshot_length)?;
    // Until then a signal ends this process at once: opening a FIFO waits for its reader.
    let ends = set_by_signals()?;
    let mut ended = file.begin(&capturing, &Network::read_once()?);
    note("capturing; Ctrl-C ends it");
    let begun = Instant::now();
    let progress = counter("frames");
    while ended.is_ok()
        && !ends.load(Ordering::Relaxed)
        && args.count.is_none_or(|count| file.written() < count)
        && args.time.is_none_or(|time| begun.elapsed() < time.0)
    {
        ended = capturing
            .wait(|pins| filter::of(args, pins), file.full())
            .and_then(|()| file.take(&mut capturing, args.count.unwrap_or(u64::MAX)));
        progress.set_position(file.written());
    }
    progress.finish_and_clear();
    let (counted, paused) = (capturing.counted()?, capturing.paused());
    drop(capturing);
    let mut text = format!(
        "{} captured; {} asked for, {} over the rate, {} without room",
        count(file.written(), "frame", "frames"),
        counted.asked,
        counted.over_limit,
        counted.lost
    );
    if !paused.is_zero() {
        text = format!(
            "{text}; for {:.1} s nothing was, because this process did not run",
            paused.as_secs_f64()
        );
    }
    match ended {
        // Who has seen enough has closed the pipe.
        Err(error) if is_closed_pipe(&error) => {}
        ended => ended.inspect_err(|_| note(&text))?,
    }
    if is_standard_stream(&args.write) {
        return Ok(Output::nothing().noting(vec![text]));
    }
    let json = json!({
        "schema": 1,
        "captured": file.written(),
        "asked": counted.asked,
        "over_rate": counted.over_limit,
        "lost": counted.lost,
        "paused_seconds": paused.as_secs_f64(),
    });
    Ok(Output::done(json, vec![text]))
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
