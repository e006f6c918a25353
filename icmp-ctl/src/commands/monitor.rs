//! `monitor`: events as they happen, one a line.

use std::sync::atomic::Ordering;

use anyhow::Result;

use crate::diagnostics::note;
use crate::instance::pins::View;
use crate::observe::events::told::From;
use crate::observe::events::watch::LOOK;
use crate::observe::readers::Source;
use crate::output::{Output, Reader, reader_after, set_by_signals};

pub(super) fn run(json: bool, source: Source) -> Result<Output> {
    let ends = set_by_signals()?;
    let (mut from, mut events) = From::begin(source)?;
    let is_loaded = source == Source::Serve || View::find()?.is_some();
    let from_when = if is_loaded { "" } else { ", of which there are none until the program is attached" };
    note(&format!("telling of events{from_when}; Ctrl-C ends it"));
    let mut reader = Reader::There;
    while reader == Reader::There && !ends.load(Ordering::Relaxed) {
        for event in events {
            if Output::shown(event.json(), vec![event.line()]).print(json)? == Reader::Gone {
                return Ok(Output::nothing());
            }
        }
        reader = reader_after(LOOK)?;
        events = from.more()?;
    }
    Ok(Output::nothing())
}
