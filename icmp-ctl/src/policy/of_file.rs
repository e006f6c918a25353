//! A configuration compiled for this host, with the values that it leaves to the kernel's settings; and the messages about one that is only
//! checked.

use anyhow::Result;

use crate::config::file::Config;
use crate::diagnostics::warn;
use crate::failure::sentence;
use crate::host::conflicts;
use crate::host::defaults::HostDefaults;
use crate::host::netlink::Network;
use crate::instance::compiled::Compiled;
use crate::instance::pins::Pins;
use crate::kernel::clock::Tick;
use crate::policy::compile::compile_policy;
use crate::policy::limits::cpus;
use crate::policy::{contradictions, guards};

/// What it leaves to the host is that of the interface.
///
/// # Errors
/// A value that cannot be, or the links cannot be read.
pub fn compiled(config: &Config, interface: Option<&String>) -> Result<Compiled> {
    let mut policy =
        compile_policy(config, Tick::of_this_kernel()?, HostDefaults::read(interface)?, cpus()?)?;
    if config.responder.respect_sysctl {
        conflicts::respect(&mut policy.settings);
    }
    Ok(policy)
}

/// As [`compiled`], for who only looks at what it would do: what `apply` refuses is said, and so are rules that are probably not meant.
///
/// # Errors
/// A value that cannot be, or the links cannot be read.
pub fn compiled_to_look_at(config: &Config, interface: Option<&String>) -> Result<Compiled> {
    let policy = compiled(config, interface)?;
    let rules = policy.rules();
    let tick = Tick::of_this_kernel()?;
    if let Err(refused) = guards::check(&policy.settings, &rules, tick, &config.policy.allow_break) {
        warn(&format!("{}: `icmp-ctl apply` refuses it: {}", config.origin(), sentence(&refused)));
    }
    for warning in contradictions::warnings(&rules, |_| true) {
        warn(&warning);
    }
    Ok(policy)
}

/// What it leaves to the host is that of the first interface it names, or of the first that is attached.
///
/// # Errors
/// A value that cannot be, or the links cannot be read.
pub fn compiled_for(config: &Config, pins: &Pins) -> Result<Compiled> {
    let first = match config.interfaces.first() {
        Some(name) => Some(name.clone()),
        None => first_attached(pins)?,
    };
    compiled(config, first.as_ref())
}

/// The interface whose hop limit is meant where nothing names one.
///
/// # Errors
/// The links cannot be read.
pub fn first_attached(pins: &Pins) -> Result<Option<String>> {
    let attached = pins.links()?.first().map(|pin| pin.ifindex);
    let network = Network::read_once()?;
    Ok(network.links.into_iter().find(|link| Some(link.index) == attached).map(|link| link.name))
}
