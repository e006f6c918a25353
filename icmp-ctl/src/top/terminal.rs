//! The terminal of the live view.
//!
//! Owns taking it over and giving it back as it was, also after a panic or a signal, when to draw, and that the live view ends without a
//! terminal.

use std::io::stdin;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal::size;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::top::model::{Model, Wish};
use crate::top::reader::{Read, Reader};
use crate::top::screen::draw;

/// How long a signal, or what was read, may go unnoticed: a terminal's input is waited for in between.
const NOTICE: Duration = Duration::from_millis(100);

/// Cells of the largest screen that is drawn: 2,000 columns and rows.
const MOST_CELLS: u32 = 4_000_000;

/// What is told of a terminal whose other end is gone.
const GONE: PollFlags = PollFlags::POLLHUP.union(PollFlags::POLLERR);

/// Shows a model until somebody leaves. `read` is asked for what was seen, once in each interval, on a thread of its own, which may still wait when this
/// returns.
///
/// # Errors
/// The terminal cannot be used.
pub fn show(mut model: Model, colour: bool, read: impl FnMut() -> Read + Send + 'static) -> Result<()> {
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ends)).context("watching for signals")?;
    }
    check_size()?;
    // From here on a panic gives the terminal back before it says anything.
    let mut terminal = ratatui::try_init().context("taking over the terminal")?;
    let shown = (|| -> Result<()> {
        let reader = Reader::start(model.interval, read)?;
        let mut before = Instant::now();
        while !ends.load(Ordering::Relaxed) {
            model.pass(std::mem::replace(&mut before, Instant::now()).elapsed());
            while let Some(read) = reader.next()? {
                model.take(read);
            }
            check_size()?;
            terminal.draw(|frame| draw(frame, &model, colour)).context("drawing")?;
            if press(&mut model)? == Wish::Leave {
                break;
            }
        }
        Ok(())
    })();
    if told(PollTimeout::ZERO)?.intersects(GONE) {
        // There is nothing to give back, and to say that it cannot be would be a panic, since nobody hears it.
        std::mem::forget(terminal);
        return Ok(());
    }
    ratatui::try_restore().context("giving the terminal back")?;
    shown
}

/// A terminal's size is what whoever has opened it says. The screen is kept cell by cell, and of the largest there would be no memory for it.
fn check_size() -> Result<()> {
    let (columns, rows) = size().context("asking for the size of the terminal")?;
    ensure!(
        u32::from(columns) * u32::from(rows) <= MOST_CELLS,
        "the terminal says that it has {columns} columns and {rows} rows, for which the screen would take too much memory; `stty columns 80 rows 24` \
         says how large it is"
    );
    Ok(())
}

/// Waits for keys, no longer than there is nothing else to look at, and does what they ask for. A terminal whose other end is gone, like that of a
/// connection that has broken, is left: to crossterm (0.29) it would be one that can be read for ever and has nothing, and it would go round for ever.
fn press(model: &mut Model) -> Result<Wish> {
    let wait = PollTimeout::try_from(model.interval.min(NOTICE)).context("waiting for a key")?;
    let told = told(wait)?;
    if told.intersects(GONE) {
        return Ok(Wish::Leave);
    }
    if !told.contains(PollFlags::POLLIN) {
        return Ok(Wish::Stay);
    }
    while event::poll(Duration::ZERO).context("waiting for a key")? {
        match event::read().context("reading a key")? {
            Event::Key(key) if key.kind == KeyEventKind::Press && model.press(key) == Wish::Leave => {
                return Ok(Wish::Leave);
            }
            _ => {}
        }
    }
    Ok(Wish::Stay)
}

/// What there is to know of the terminal's input, once there is something or the wait is over.
fn told(wait: PollTimeout) -> Result<PollFlags> {
    let input = stdin();
    let mut terminal = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    match poll(&mut terminal, wait) {
        // A signal: whoever watches for it looks.
        Err(Errno::EINTR) => return Ok(PollFlags::empty()),
        polled => polled.context("waiting for a key")?,
    };
    Ok(terminal[0].revents().unwrap_or(PollFlags::empty()))
}
