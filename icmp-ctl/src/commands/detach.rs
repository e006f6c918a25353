//! `detach`: takes the program off interfaces, and removes it with the last one.

use anyhow::Result;
use serde_json::json;

use crate::cli::change::Detach;
use crate::diagnostics::warn;
use crate::failure::sentence;
use crate::host::netlink::{Link, Network};
use crate::host::patterns::is_pattern;
use crate::instance::addresses::{clear_up, forget_addresses};
use crate::instance::links::{LinkPin, fitting, nothing_attached};
use crate::instance::pins::{Instance, View, nothing_loaded};
use crate::output::Output;

pub(super) fn run(args: &Detach) -> Result<Output> {
    let network = Network::read_once()?;
    // Opening the instance to change it takes off what was moved away or is gone, so what there was is looked at before.
    let pins = View::look(|view| view.links())?.unwrap_or_default();
    let moved_here = |link: &&Link| matches!(Instance::of_elsewhere(link), Ok(Some(_)));
    let (mut own, mut others): (Vec<&LinkPin>, Vec<&Link>) = (Vec::new(), Vec::new());
    if args.all {
        own.extend(&pins);
        others.extend(network.links.iter().filter(|link| !link.programs.is_empty()).filter(moved_here));
    }
    for name in &args.interfaces {
        if is_pattern(name) {
            own.extend(fitting(&pins, &network.links, name)?);
            continue;
        }
        let link = network.link(name);
        let pin = pins.iter().find(|pin| match link {
            Some(link) => pin.is_of(link) || pin.was_on(link),
            None => pin.name == *name,
        });
        match (pin, link.filter(moved_here)) {
            (Some(pin), _) => own.push(pin),
            (None, Some(link)) => others.push(link),
            (None, None) if pins.is_empty() => return clear_up().and(Err(nothing_loaded())),
            (None, None) => return clear_up().and(Err(nothing_attached(name))),
        }
    }
    own.sort_by_key(|pin| pin.ifindex);
    own.dedup_by_key(|pin| pin.ifindex);
    if own.is_empty() && others.is_empty() {
        return clear_up().and(Err(nothing_loaded()));
    }
    let mut detached = Vec::new();
    if let Err(error) = take_off(&own, &others, &mut detached) {
        return Err(match detached.as_slice() {
            [] => error,
            some => error.context(format!("{} detached, and nothing else", some.join(", "))),
        });
    }
    let lines = detached.iter().map(|name| format!("{name}: detached")).collect();
    Ok(Output::done(json!({ "schema": 1, "detached": detached }), lines))
}

/// Takes the program off each interface, whatever becomes of others; `detached` names those that it is off.
fn take_off(own: &[&LinkPin], others: &[&Link], detached: &mut Vec<String>) -> Result<()> {
    for link in others {
        if let Some((mut instance, ifindex)) = Instance::of_elsewhere(link)? {
            instance.detach(ifindex)?;
            remove_if_unused(instance);
        }
        detached.push(link.name.clone());
    }
    let Some(mut instance) = Instance::find()?.filter(|_| !own.is_empty()) else {
        detached.extend(own.iter().map(|pin| pin.name.clone()));
        return Ok(());
    };
    let (pending, links) = (instance.maps.pending()?.is_some(), instance.links()?);
    // One that is refused is no reason to leave the others attached; the first error is the one to tell.
    let off = own.iter().map(|pin| {
        let on_it = links.iter().find(|link| link.ifindex == pin.ifindex);
        on_it.map_or(Ok(()), |on| instance.detach(on.ifindex)).map(|()| detached.push(pin.name.clone()))
    });
    let off: Vec<_> = off.collect();
    match remove_if_unused(instance) {
        Some(mut instance) => forget_addresses(&mut instance),
        None if pending => warn(
            "the policy in force awaited confirmation: it and the one that would have come back are gone with the program. The next \
             `attach` starts from its `-f FILE`, or /etc/icmp-ctl/config.toml where it exists, or the defaults",
        ),
        None => {}
    }
    off.into_iter().collect()
}

/// Removes what no interface has any more. What is off is off, whether that can be cleared away now or not.
fn remove_if_unused(instance: Instance) -> Option<Instance> {
    instance.remove_if_unused().unwrap_or_else(|error| {
        warn(&format!("{}; the next command that changes something does it", sentence(&error)));
        None
    })
}
