//! `detach`: takes the program off interfaces, and removes it with the last one.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::cli::Detach;
use crate::host::netlink::Network;
use crate::instance::addresses::refresh;
use crate::instance::pins::Instance;
use crate::output::Output;

pub(super) fn run(args: &Detach) -> Result<Output> {
    let mut instance = Instance::open()?;
    let network = Network::read_once()?;
    let pins = instance.links()?;
    let name_of =
        |ifindex| network.links.iter().find(|link| link.index == ifindex).map(|link| link.name.clone());
    let mut chosen = Vec::new();
    if args.all {
        chosen.extend(pins.iter().map(|pin| (pin.ifindex, name_of(pin.ifindex).unwrap_or_default())));
    }
    for name in &args.interfaces {
        let pin = pins.iter().find(|pin| name_of(pin.ifindex).as_ref() == Some(name));
        let pin = pin.with_context(|| {
            format!("{name}: nothing of ours is attached; `icmp-ctl status` lists what is")
        })?;
        let pin = (pin.ifindex, name.clone());
        if !chosen.contains(&pin) {
            chosen.push(pin);
        }
    }
    for (ifindex, _) in &chosen {
        instance.detach(*ifindex)?;
    }
    if chosen.len() == pins.len() {
        instance.remove()?;
    } else {
        refresh(&mut instance, &network)?;
    }
    Ok(Output::done(
        json!({ "schema": 1, "detached": chosen.iter().map(|(_, name)| name).collect::<Vec<_>>() }),
        chosen.iter().map(|(_, name)| format!("{name}: detached")).collect(),
    ))
}
