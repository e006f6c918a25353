//! Network namespaces joined by veth pairs, and icmp-ctl in them, for the demo and the picture of the dashboard.
//!
//! Owns making and removing them. They go when the guard is dropped: at the end, on an error, a panic or Ctrl-C; and
//! what a killed run left behind goes at the next one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

const PREFIX: &str = "icmp-demo-";

/// The interface's name, the same in both namespaces.
pub(crate) const INTERFACE: &str = "veth0";

/// One end of the pair.
pub(crate) struct Namespace {
    name: String,
}

/// `host` has the first address of each network, `client` the second.
pub(crate) struct Pair {
    pub(crate) host: Namespace,
    pub(crate) client: Namespace,
}

pub(crate) const HOST_V4: &str = "192.0.2.1";
pub(crate) const HOST_V6: &str = "2001:db8::1";
const CLIENT_V4: &str = "192.0.2.2";
const CLIENT_V6: &str = "2001:db8::2";

impl Pair {
    pub(crate) fn make() -> Result<Self> {
        remove_leftovers();
        let pair = Self { host: Namespace::make("host")?, client: Namespace::make("client")? };
        let client = (&pair.client, INTERFACE, [CLIENT_V4, CLIENT_V6]);
        cable([(&pair.host, INTERFACE, [HOST_V4, HOST_V6]), client])?;
        Ok(pair)
    }
}

/// One end of a cable: in which namespace, the interface's name, and an address of each family.
type End<'a> = (&'a Namespace, &'a str, [&'a str; 2]);

/// Join two namespaces.
pub(crate) fn cable(ends: [End<'_>; 2]) -> Result<()> {
    let [(one, name, _), (other, peer, _)] = ends;
    // Made inside, so that the machine's own namespace never sees it.
    one.ip(&["link", "add", name, "type", "veth", "peer", "name", peer, "netns", &other.name])?;
    for (end, interface, [v4, v6]) in ends {
        end.ip(&["address", "add", &format!("{v4}/24"), "dev", interface])?;
        // nodad: usable at once.
        end.ip(&["address", "add", &format!("{v6}/64"), "dev", interface, "nodad"])?;
        end.ip(&["link", "set", interface, "up"])?;
    }
    Ok(())
}

impl Namespace {
    /// Make one; `role` is for whoever reads `ip netns list`.
    pub(crate) fn make(role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{role}", std::process::id());
        run::capture(run::command("ip").args(["netns", "add", &name]))
            .context("making a network namespace")?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A command to be run in here. Not by `ip netns exec`, which mounts a new /sys and hides the pins in bpffs.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = run::command("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<()> {
        run::capture(run::command("ip").args(["-n", &self.name]).args(arguments)).map(drop)
    }

    /// A counter of the namespace's own stack, from /proc/net/snmp (two lines, names and values) or /proc/net/snmp6
    /// (name and value a line).
    pub(crate) fn stack_counter(&self, name: &str) -> Result<u64> {
        let text = run::capture(self.command("cat").args(["/proc/net/snmp", "/proc/net/snmp6"]))?;
        stack_counter(&text, name).with_context(|| format!("the kernel shows no counter {name}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// icmp-ctl in a namespace; what it has attached there is detached when this value goes.
pub(crate) struct IcmpCtl<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) program: &'a Path,
}

impl IcmpCtl<'_> {
    pub(crate) fn command(&self, verb: &[&str]) -> Command {
        let mut command = self.namespace.command(self.program);
        command.args(verb);
        command
    }
}

impl Drop for IcmpCtl<'_> {
    fn drop(&mut self) {
        // In a process group of its own: the next Ctrl-C must not stop the tidying.
        let _nothing_attached = run::output(self.command(&["detach", "--all"]).process_group(0));
    }
}

fn remove(name: &str) {
    // In a process group of its own: the next Ctrl-C must not stop the tidying. What fails here has nowhere to go.
    let _failed = run::output(run::command("ip").args(["netns", "delete", name]).process_group(0));
}

/// Namespaces whose process is gone.
pub(crate) fn remove_leftovers() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

fn stack_counter(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    if let Some(value) = lines.iter().find_map(|line| match line[..] {
        [key, value] if key == name => Some(value),
        _ => None,
    }) {
        return value.parse().ok();
    }
    lines.windows(2).find_map(|pair| match pair {
        [names, values] if names.first() == values.first() => {
            let prefix = names.first()?.trim_end_matches(':');
            let column = names.iter().position(|column| name.strip_prefix(prefix) == Some(*column))?;
            values.get(column)?.parse().ok()
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_families_are_found() {
        let text = "Ip: Forwarding InReceives\nIp: 1 77\nIcmp: InMsgs InEchos\nIcmp: 5 3\nIp6InReceives   \t9\nIcmp6InEchos\t4\n";
        assert_eq!(stack_counter(text, "IcmpInEchos"), Some(3));
        assert_eq!(stack_counter(text, "Icmp6InEchos"), Some(4));
        assert_eq!(stack_counter(text, "IpInReceives"), Some(77));
        assert_eq!(stack_counter(text, "IcmpOutEchos"), None);
    }
}
