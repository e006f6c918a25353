//! Attaches the program to interfaces: one link each, pinned.
//!
//! Owns the order in which modes and entry points are tried, and the messages about the result.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::XdpMode;
use aya::programs::links::FdLink;
use clap::ValueEnum;
use icmp_common::abi::MAX_INTERFACES;
use serde_json::json;

use crate::diagnostics::{shell_word, warn};
use crate::failure::{Exit, Failure};
use crate::finding::{Finding, State, report};
use crate::host::checks::mtu::ONE_BUFFER_MTU;
use crate::host::checks::{self, Place};
use crate::host::interfaces::{aggregate, interface_entry};
use crate::host::netlink::{Link, Network, Xdp, links_once};
use crate::host::patterns::{is_pattern, meant};
use crate::instance::addresses::{Refreshed, refresh};
use crate::instance::behind::{Behind, Chained};
use crate::instance::chain;
use crate::instance::foreign::{self, mode_flags};
use crate::instance::links::LinkPin;
use crate::instance::pins::{Instance, View};
use crate::instance::program::Entry;
use crate::kernel::netlink;

/// How a program is to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AttachMode {
    /// Native, or generic where the driver cannot
    Auto,
    /// In the driver
    #[value(alias = "drv")]
    Native,
    /// In the kernel's generic code, slower, with any driver
    #[value(alias = "skb")]
    Generic,
    /// In the network card
    #[value(alias = "hw")]
    Offload,
}

impl AttachMode {
    /// What the kernel's answer calls it; `None` where more than one will do.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Native => Some("native"),
            Self::Generic => Some("generic"),
            Self::Offload => Some("offload"),
        }
    }
}

/// What became of one interface.
pub struct Attached {
    /// Its name.
    pub name: String,
    mode: String,
    entry: Entry,
    program_id: u32,
    /// It had the program before.
    pub already: bool,
    behind: Option<Behind>,
}

impl Attached {
    /// As a line.
    pub fn text(&self) -> String {
        let how = if self.already { "already attached" } else { "attached" };
        let in_front = self.behind.iter().map(|behind| format!(", {}", behind.text()));
        format!(
            "{}: {how}, {} mode, {}, program {}{}",
            self.name,
            self.mode,
            self.entry.section(),
            self.program_id,
            in_front.collect::<String>()
        )
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        json!({ "name": self.name, "mode": self.mode, "entry": self.entry.section(), "program_id": self.program_id,
                "already_attached": self.already, "behind": self.behind.as_ref().map(Behind::json) })
    }
}

/// The interfaces that names and patterns mean, each once. A pattern may mean none.
///
/// # Errors
/// There is none of a name here, or none at all, or one that carries no Ethernet frames, or is a port of a bond.
pub(crate) fn find<'a>(network: &'a Network, names: &[String]) -> Result<Vec<&'a Link>> {
    let mut links: Vec<&Link> = Vec::new();
    for name in names {
        let meant = meant(&network.links, name);
        if meant.is_empty() && !is_pattern(name) {
            return Err(not_there(network, name));
        }
        for link in meant {
            if link.named_otherwise {
                bail!("{}", no_text(link));
            }
            if link.mac.is_none() {
                bail!("{name}: no Ethernet interface, and the program answers Ethernet frames only");
            }
            if let Some(bond) = aggregate(&network.links, link) {
                bail!(
                    "{0}: is a port of {1}, which takes in its frames as its own; `icmp-ctl attach {2}` has the program answer on all ports of \
                     {1}",
                    link.name,
                    bond.name,
                    shell_word(&bond.name)
                );
            }
            if links.iter().all(|other| other.index != link.index) {
                links.push(link);
            }
        }
    }
    if links.is_empty() && !names.is_empty() {
        return Err(not_there(network, &names.join(" ")));
    }
    Ok(links)
}

fn not_there(network: &Network, name: &str) -> anyhow::Error {
    let (others, named): (Vec<&Link>, Vec<&Link>) =
        network.links.iter().partition(|link| link.named_otherwise);
    let names: Vec<_> = named.iter().map(|link| link.name.as_str()).collect();
    let others: String = others.into_iter().map(|link| format!(". {}", no_text(link))).collect();
    anyhow!(
        "no interface {name} in this network namespace; there are: {}{others}. One of another namespace is reached with \
         `nsenter --net=/run/netns/NAME icmp-ctl attach {}`",
        names.join(", "),
        shell_word(name)
    )
}

/// That an interface cannot be attached because of its name, and what changes that.
fn no_text(link: &Link) -> String {
    format!(
        "{0}: its name is no UTF-8, and what is asked by name cannot be had of it; `ip link set dev $'{0}' name NAME` gives it another, while it is \
         down",
        link.name
    )
}

/// Another's program stays where it is; with `chain`, or where ours was in front of one before, it may go there.
pub(crate) fn refuse_others(link: &Link, mode: AttachMode, chain: bool) -> Result<()> {
    let pins = View::look(|instance| instance.links())?.unwrap_or_default();
    if program_of_others(link, &pins)?.is_none() {
        return Ok(());
    }
    // So does one of ours look that came or went meanwhile. Under the lock none does.
    let (pins, links) = {
        let instance = Instance::find()?;
        let pins = instance.as_ref().map(|instance| instance.links()).transpose()?;
        (pins.unwrap_or_default(), links_once()?)
    };
    let Some(link) = links.iter().find(|now| now.index == link.index) else { return Ok(()) };
    let Some(finding) = program_of_others(link, &pins)? else { return Ok(()) };
    let chain = chain || pins.iter().any(|pin| pin.was_on(link));
    let in_front = chain && Instance::of_elsewhere(link)?.is_none();
    match link.xdp.filter(|_| in_front) {
        None => bail!("{}", finding.text()),
        Some(xdp) if mode.word().is_some_and(|mode| mode != xdp.mode) => bail!(
            "{}: the program there is attached in {} mode, and ours can go in front of it in the same mode only; leave out `--mode`",
            link.name,
            xdp.mode
        ),
        Some(xdp) => chain::refuse_hopeless(link, xdp),
    }
}

/// That there is a program on an interface which is none of these.
///
/// # Errors
/// The pins of other network namespaces cannot be read, or the kernel does not tell about the program.
pub(crate) fn program_of_others(link: &Link, ours: &[LinkPin]) -> Result<Option<Finding>> {
    let Some(xdp) = link.xdp.filter(|_| !ours.iter().any(|pin| pin.is_of(link))) else { return Ok(None) };
    if Instance::of_elsewhere(link)?.is_none() {
        return foreign::finding(link, xdp).map(Some);
    }
    let what = "was moved here with the program of another network namespace on it";
    let why = "it answers here for addresses of that one";
    let finding = Finding::new("programs", State::Broken, what, why).on(&link.name);
    Ok(Some(finding.fixed_by(format!("icmp-ctl detach {}", shell_word(&link.name)))))
}

/// Attaches to one interface, unless it is attached already.
///
/// # Errors
/// The kernel or the driver refused, all slots are taken, or it is attached in another mode.
pub(crate) fn attach(
    instance: &mut Instance,
    network: &Network,
    link: &Link,
    mode: AttachMode,
    chain: bool,
) -> Result<Attached> {
    // Whatever can fail comes before the link, or it would be there and nobody would know.
    let has_vips = !instance.maps.vips()?.is_empty();
    let attached = attach_one(instance, network, link, mode, chain)?;
    report(&checks::attached(Place { network, link, mode: Some(&attached.mode), has_vips }));
    Ok(attached)
}

fn attach_one(
    instance: &mut Instance,
    network: &Network,
    link: &Link,
    mode: AttachMode,
    chain: bool,
) -> Result<Attached> {
    let pins = instance.links()?;
    if let Some(pin) = pins.iter().find(|pin| pin.is_of(link)) {
        let entry = instance.entry_of(pin.program_id)?.unwrap_or(Entry::Xdp);
        let now = link.xdp.map_or("native", |xdp| xdp.mode);
        if let Some(wanted) = mode.word().filter(|wanted| *wanted != now) {
            bail!(
                "{0}: already attached in {now} mode; `icmp-ctl detach {1}` first to attach it in {wanted} mode",
                link.name,
                shell_word(&link.name)
            );
        }
        report_left_out(&refresh(instance, network)?);
        return Ok(Attached {
            name: link.name.clone(),
            mode: now.to_owned(),
            entry,
            program_id: pin.program_id,
            already: true,
            behind: pin.behind.clone(),
        });
    }
    let is_displaced = pins.iter().any(|pin| pin.was_on(link));
    let slot = slot_for(instance, link)?;
    let entered = instance.maps.set_interface(interface_entry(network, link, slot));
    let attached = entered.and_then(|()| refresh(instance, network)).and_then(|refreshed| {
        report_left_out(&refreshed);
        if let Some(xdp) = link.xdp.filter(|_| chain || is_displaced) {
            return in_front(instance, link, xdp, slot);
        }
        instance.forget_behind(link.index)?;
        attach_link(instance, link, mode)
    });
    if attached.is_err() && !is_displaced {
        // Its entry and the note of its name; the first error is the one to tell, and what stays is cleared away by the next change.
        let _ = instance.forget(link.index);
    }
    let AttachResult { mode, entry, program_id, instead_of, behind } = attached?;
    if let Some(refusal) = instead_of {
        warn(&format!(
            "{}: attached in {mode} mode, which is several times slower than native, because the driver refused: \
             {refusal}",
            link.name
        ));
    }
    Ok(Attached { name: link.name.clone(), mode: mode.to_owned(), entry, program_id, already: false, behind })
}

/// The slot of an interface: what it has had since it was attached before, or a free one without counts.
fn slot_for(instance: &mut Instance, link: &Link) -> Result<u32> {
    let entries = instance.maps.interfaces()?;
    if let Some(entry) = entries.iter().find(|entry| entry.ifindex == link.index) {
        return Ok(entry.slot);
    }
    let slot = (1..=MAX_INTERFACES)
        .find(|slot| entries.iter().all(|entry| entry.ifindex == 0 || entry.slot != *slot))
        .with_context(|| {
            format!("{}: the instance has {MAX_INTERFACES} interfaces already, its limit", link.name)
        })?;
    instance.maps.clear_counters(slot)?;
    Ok(slot)
}

fn report_left_out(refreshed: &Refreshed) {
    if let Some((_, text)) = refreshed.left_out() {
        warn(&text);
    }
}

/// How the kernel took the program.
struct AttachResult {
    mode: &'static str,
    entry: Entry,
    program_id: u32,
    /// Why no better mode was taken; `None` where it is the best that was asked for.
    instead_of: Option<String>,
    /// The program it is in front of.
    behind: Option<Behind>,
}

/// Goes in front of the program that is there, in its mode.
fn in_front(instance: &mut Instance, link: &Link, xdp: Xdp, slot: u32) -> Result<AttachResult> {
    let Chained { entry, program_id, behind, .. } = instance.go_in_front(link, xdp, slot)?;
    Ok(AttachResult { mode: xdp.mode, entry, program_id, instead_of: None, behind: Some(behind) })
}

/// Tries modes and entry points in the order in which they are best, and pins the first that is taken.
fn attach_link(instance: &Instance, link: &Link, mode: AttachMode) -> Result<AttachResult> {
    let modes: &[(XdpMode, &'static str)] = match mode {
        AttachMode::Auto => &[(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")],
        AttachMode::Native => &[(XdpMode::Driver, "native")],
        AttachMode::Generic => &[(XdpMode::Skb, "generic")],
        AttachMode::Offload => &[(XdpMode::Hardware, "offload")],
    };
    let entries = if link.mtu > ONE_BUFFER_MTU { [Entry::XdpFrags, Entry::Xdp] } else { Entry::ALONE };
    let mut refusal = None;
    for (xdp_mode, mode) in modes {
        for entry in entries {
            let mut program = instance.program(entry)?;
            match program.attach_to_if_index(link.index, *xdp_mode) {
                Ok(id) => {
                    let fd_link: FdLink =
                        program.take_link(id)?.try_into().context("the kernel attaches without a link")?;
                    let link_pin = instance.pin_for(link)?;
                    let program_id = program.info()?.id();
                    // Last: until it is pinned the link ends with this function, and whatever has failed leaves nothing.
                    fd_link
                        .pin(&link_pin)
                        .with_context(|| format!("pinning the link as {}", link_pin.display()))?;
                    let instead_of = refusal.filter(|_| *mode != modes[0].1);
                    return Ok(AttachResult { mode, entry, program_id, instead_of, behind: None });
                }
                Err(error) => {
                    let words = program
                        .fd()
                        .ok()
                        .and_then(|fd| netlink::refusal(link.index, fd.as_fd(), mode_flags(mode)));
                    let words = words.map(|words| format!(" (the kernel says: {words})")).unwrap_or_default();
                    let cause = anyhow::Error::new(error).root_cause().to_string();
                    refusal.get_or_insert(format!("{mode} mode at MTU {}: {cause}{words}", link.mtu));
                }
            }
        }
    }
    let way_out = match mode {
        AttachMode::Native => "a smaller MTU may help, and `--mode generic` works with any driver",
        AttachMode::Offload => "only few network cards can; `--mode native` runs it in the driver",
        AttachMode::Auto | AttachMode::Generic => "`ip -d link show` tells what the interface is",
    };
    let refusal = refusal.context("no mode to try")?;
    Err(Failure::error(Exit::Refused, format!("{}: attaching in {refusal}; {way_out}", link.name)))
}
