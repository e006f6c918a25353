//! `top`: the live view.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::span::Span;
use crate::failure::sentence;
use crate::observe::rates::Reading;
use crate::observe::readers::Source;
use crate::output::Output;
use crate::top::model::{Budget, Interface, Model, Seen};
use crate::top::terminal;

pub(super) fn run(interval: Span, json: bool, source: Source) -> Result<Output> {
    if json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("`top` is for a terminal; `icmp-ctl show counters -w` writes lines, with `-j` as JSON");
    }
    // Where there is nothing to be shown, it is said in the usual way.
    let mut before = source.reading()?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut model = Model::new(interval.0);
    let mut look = move || seen(source, &mut before).map_err(|error| sentence(&error));
    model.take(look());
    terminal::show(model, colour, look)?;
    Ok(Output::nothing())
}

/// What came since the reading before, which the new one takes the place of.
fn seen(source: Source, before: &mut Reading) -> Result<Seen> {
    let look = source.look()?;
    let mode = |name: &str| look.modes.get(name).cloned().unwrap_or_else(|| "none".to_owned());
    let (span, counted) = look.reading.since(before);
    let interfaces =
        counted.into_iter().map(|(name, rows)| Interface { name: name.to_owned(), mode: mode(name), rows });
    let seen = Seen {
        span: span.max(Duration::from_millis(1)),
        interfaces: interfaces.collect(),
        budgets: look.budgets.into_iter().map(|(name, left)| Budget { name, left }).collect(),
        sources: Some(look.sources),
        under_pressure: look.under_pressure,
        pending: look.pending,
    };
    *before = look.reading;
    Ok(seen)
}
