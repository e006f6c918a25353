//! Values of the kernel's own answers, for keys that the configuration does not set.

use anyhow::Result;

use crate::host::netlink::links_once;
use crate::host::patterns::meant;

/// The host's own defaults for what an answer carries.
#[derive(Clone, Copy, Debug)]
pub struct HostDefaults {
    /// `net.ipv4.ip_default_ttl`
    pub ttl: u8,
    /// `net.ipv6.conf.IFACE.hop_limit`
    pub hop_limit: u8,
}

impl HostDefaults {
    /// What the kernel uses on an interface (of those that a pattern means, the first), or 64 where a family is not there.
    ///
    /// # Errors
    /// The interfaces cannot be read.
    pub fn read(interface: Option<&String>) -> Result<Self> {
        let sysctl = |path: &str| {
            let value = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
            (value > 0).then_some(value)
        };
        let links = interface.map(|_| links_once()).transpose()?.unwrap_or_default();
        Ok(Self {
            ttl: sysctl("/proc/sys/net/ipv4/ip_default_ttl").unwrap_or(64),
            hop_limit: interface
                // The kernel has no such file for an alternative name.
                .and_then(|name| meant(&links, name).first().map(|link| link.name.clone()))
                .and_then(|name| sysctl(&format!("/proc/sys/net/ipv6/conf/{name}/hop_limit")))
                .unwrap_or(64),
        })
    }
}
