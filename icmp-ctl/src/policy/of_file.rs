//! A configuration compiled for this host: with what it leaves to the kernel's own settings.

use anyhow::Result;

use crate::config::file::Config;
use crate::host::conflicts;
use crate::host::defaults::HostDefaults;
use crate::host::netlink::Network;
use crate::instance::compiled::Compiled;
use crate::instance::pins::Pins;
use crate::kernel::clock::Tick;
use crate::policy::compile::compile_policy;
use crate::policy::limits::cpus;

/// What it leaves to the host is that of the interface.
///
/// # Errors
/// A value that cannot be.
pub fn compiled(config: &Config, interface: Option<&String>) -> Result<Compiled> {
    let mut policy = compile_policy(config, Tick::of_this_kernel()?, HostDefaults::read(interface), cpus()?)?;
    if config.responder.respect_sysctl {
        conflicts::respect(&mut policy.settings);
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
