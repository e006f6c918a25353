//! `detach`: takes the program off interfaces, and removes it with the last one.

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::Detach;
use crate::diagnostics::warn;
use crate::host::netlink::{Link, Network};
use crate::instance::addresses::refresh;
use crate::instance::links::LinkPin;
use crate::instance::pins::{Instance, View, nothing_loaded};
use crate::output::Output;

pub(super) fn run(args: &Detach) -> Result<Output> {
    let network = Network::read_once()?;
    // Opening the instance to change it takes off what was moved away or is gone, so what there was is looked at before.
    let pins = View::find()?.map(|view| view.links()).transpose()?.unwrap_or_default();
    let moved_here = |link: &&Link| matches!(Instance::of_elsewhere(link), Ok(Some(_)));
    let (mut own, mut others): (Vec<&LinkPin>, Vec<&Link>) = (Vec::new(), Vec::new());
    if args.all {
        own.extend(&pins);
        others.extend(network.links.iter().filter(|link| !link.programs.is_empty()).filter(moved_here));
    }
    for name in &args.interfaces {
        let link = network.link(name);
        let pin = pins.iter().find(|pin| match link {
            Some(link) => pin.is_of(link),
            None => pin.name == *name,
        });
        match (pin, link.filter(moved_here)) {
            (Some(pin), _) => own.push(pin),
            (None, Some(link)) => others.push(link),
            (None, None) if pins.is_empty() => return Err(nothing_loaded()),
            (None, None) => {
                bail!("{name}: nothing of ours is attached; `icmp-ctl status` lists what is")
            }
        }
    }
    if own.is_empty() && others.is_empty() {
        return Err(nothing_loaded());
    }
    let mut detached: Vec<String> = Vec::new();
    for link in others {
        if let Some((mut instance, ifindex)) = Instance::of_elsewhere(link)? {
            instance.detach(ifindex)?;
            instance.remove_if_unused()?;
        }
        detached.push(link.name.clone());
    }
    if let Some(mut instance) = Instance::find()?.filter(|_| !own.is_empty()) {
        let pending = instance.maps.pending()?.is_some();
        for pin in instance.links()?.iter().filter(|pin| own.iter().any(|own| own.ifindex == pin.ifindex)) {
            instance.detach(pin.ifindex)?;
        }
        match instance.remove_if_unused()? {
            Some(mut instance) => _ = refresh(&mut instance, &network)?,
            None if pending => warn(
                "the policy in force awaited confirmation: it and the one that would have come back are gone with the program. The next \
                 `attach` starts from its `-f FILE`, or /etc/icmp-ctl/config.toml where it exists, or the defaults",
            ),
            None => {}
        }
    }
    for pin in own {
        let now = network.links.iter().find(|link| pin.is_of(link));
        let name = now.map_or(&pin.name, |link| &link.name);
        if !detached.contains(name) {
            detached.push(name.clone());
        }
    }
    let lines = detached.iter().map(|name| format!("{name}: detached")).collect();
    Ok(Output::done(json!({ "schema": 1, "detached": detached }), lines))
}
