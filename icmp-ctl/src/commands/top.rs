//! `top`: the live view.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::config::span::Span;
use crate::failure::sentence;
use crate::host::netlink::Network;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::clock::{Tick, ticks};
use crate::observe::levels::levels;
use crate::observe::rates::Reading;
use crate::observe::sources::sources;
use crate::output::Output;
use crate::policy::limits::LimitName;
use crate::top::model::{Budget, Interface, Model, Seen};
use crate::top::terminal;

pub(super) fn run(interval: Span, json: bool) -> Result<Output> {
    if json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("`top` is for a terminal; `icmp-ctl show counters -w` writes lines, with `-j` as JSON");
    }
    // Where there is nothing to be shown, it is said in the usual way.
    let network = Network::read_once()?;
    let mut before = Reading::of(&View::open()?, &network)?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut model = Model::new(interval.0);
    model.take(seen(&mut before).map_err(|error| sentence(&error)));
    terminal::show(model, colour, || seen(&mut before).map_err(|error| sentence(&error)))?;
    Ok(Output::nothing())
}

/// What came since the reading before, which the new one takes the place of.
fn seen(before: &mut Reading) -> Result<Seen> {
    let instance = View::open()?;
    let network = Network::read_once()?;
    let settings = instance.read(InstanceMaps::settings)?.context("the program has no settings")?;
    let tick = Tick::of_this_kernel()?;
    let heavy_hitters = instance.maps.heavy_hitters()?;
    let reading = Reading::of(&instance, &network)?;
    let now = ticks()?;
    let mode = |name: &str| {
        let link = network.links.iter().find(|link| link.name == name);
        link.and_then(|link| link.xdp).map_or("none", |xdp| xdp.mode)
    };
    let (span, counted) = reading.since(before);
    let interfaces =
        counted.into_iter().map(|(name, rows)| Interface { name: name.to_owned(), mode: mode(name), rows });
    let budget = |(name, left): (LimitName, _)| Budget { name: name.name(), left };
    let seen = Seen {
        span: span.max(Duration::from_millis(1)),
        interfaces: interfaces.collect(),
        budgets: levels(&instance.maps, &settings, now)?.into_iter().map(budget).collect(),
        sources: Some(sources(&heavy_hitters, &settings, tick, now)),
        under_pressure: instance.maps.pressure(),
        pending: instance.maps.pending()?,
    };
    *before = reading;
    Ok(seen)
}
