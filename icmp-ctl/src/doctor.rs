//! All checks of `doctor`, in the order of its output.
//!
//! Owns which interfaces are checked, and the result for those that cannot be. It changes nothing. The checks are those of `kernel`, `host` and
//! `instance`, which other verbs make as well.

use std::collections::BTreeSet;

use anyhow::Result;
use icmp_common::abi::Settings;
use ipnet::IpNet;

use crate::config::file::Config;
use crate::failure::{Exit, exit_of, sentence};
use crate::finding::{Finding, State};
use crate::host::checks::addresses::{prefixes_left, taken_in_whole};
use crate::host::checks::{self, Place, kernel};
use crate::host::conflicts;
use crate::host::netlink::{Link, Network};
use crate::host::patterns::meant;
use crate::instance::addresses::without_room;
use crate::instance::attach::{find, program_of_others};
use crate::instance::directory::ownership;
use crate::instance::links::LinkPin;
use crate::instance::past::{Which, frames};
use crate::instance::pins::View;
use crate::kernel::bpffs;
use crate::kernel::requirements::{self, Purpose};
use crate::policy::gates::{Gated, findings, gated, state};
use crate::policy::transaction::{Allowed, Proposal};

/// Looks at the kernel, at what is loaded and configured, and at interfaces: those that are named; or those that have the program or are to get
/// it; or all that are up and can have it. Call it while the process has one thread only.
///
/// # Errors
/// The kernel does not say which it is, or what interfaces there are.
pub fn examine(names: &[String]) -> Result<Vec<Finding>> {
    // The configuration is read where the user sees it: pins may be in another mount namespace.
    let (config, configured) = configuration();
    let mut findings = vec![requirements::kernel()?, requirements::capabilities(Purpose::Attach)];
    let mounted = bpffs::enter().map(|()| bpffs::mounted());
    findings.push(mounted.unwrap_or_else(|error| failed("bpffs", &error)));
    findings.extend(kernel::features());
    let owned = ownership().map(|owned| owned.unwrap_or_else(|| Finding::fine("pins", "there are none yet")));
    findings.push(owned.unwrap_or_else(|error| failed("pins", &error)));
    let network = Network::read_once()?;
    let in_force = InForce::read(&network);
    findings.push(match &in_force {
        Ok(InForce { settings: None, .. }) => Finding::fine("instance", "nothing is loaded here"),
        Ok(_) => Finding::fine("instance", "the program is loaded here"),
        Err(error) => failed("instance", error),
    });
    findings.push(configured);
    let is_known = in_force.is_ok();
    let InForce { settings, vips, pins, without_room, frames, checks } = in_force.unwrap_or_default();
    findings.extend(pins.iter().filter_map(LinkPin::finding).chain(without_room).chain(checks));
    let (config, planned) = config.unzip();
    let planned_vips = || config.iter().flat_map(|config| config.responder.prefixes()).map(|(vip, _)| vip.0);
    let has_vips = !vips.is_empty() || planned_vips().next().is_some();
    let vips = if settings.is_some() { vips } else { planned_vips().collect() };
    findings.extend(taken_in_whole(&prefixes_left(&network, vips.into_iter())));
    if let Some(settings) = settings.or(planned) {
        findings.extend(conflicts::findings(&settings));
    }
    let mut seen = BTreeSet::new();
    for name in chosen(names, &network, &pins, config.as_ref()) {
        match find(&network, &[name]) {
            Ok(links) => {
                for link in links.into_iter().filter(|link| seen.insert(link.index)) {
                    let ours = is_known.then_some(pins.as_slice());
                    findings.extend(of_interface(&network, link, ours, has_vips));
                    let is_its = |finding: &&Finding| finding.interface.as_ref() == Some(&link.name);
                    findings.extend(frames.iter().filter(is_its).cloned());
                }
            }
            Err(error) => findings.push(failed("link", &error)),
        }
    }
    Ok(findings)
}

/// What could not be done: it is broken, or this user may not look.
fn failed(check: &'static str, error: &anyhow::Error) -> Finding {
    match exit_of(error) {
        Exit::Permission => Finding::new(check, State::Unknown, sentence(error), "root may look"),
        _ => Finding::new(check, State::Broken, sentence(error), ""),
    }
}

/// The configuration at its usual place with the settings that follow from it, where it can be used; and whether it can.
fn configuration() -> (Option<(Config, Settings)>, Finding) {
    let checked = Config::load(None).and_then(|config| {
        let settings = *Proposal::of_file(&config, Allowed::default(), None)?.settings();
        Ok((config, settings))
    });
    match checked {
        Ok(used) => {
            let finding = Finding::fine("configuration", format!("{} can be used", used.0.origin()));
            (Some(used), finding)
        }
        Err(error) => (None, failed("configuration", &error)),
    }
}

/// What is loaded in this network namespace; nothing where nothing is.
#[derive(Default)]
struct InForce {
    settings: Option<Settings>,
    vips: Vec<IpNet>,
    pins: Vec<LinkPin>,
    without_room: Option<Finding>,
    /// Whether the program sees them, by attachment.
    frames: Vec<Finding>,
    /// How VIPs with a check are, and what makes one mean nothing.
    checks: Vec<Finding>,
}

/// Whether a VIP with a check is answered.
fn health(vip: &Gated) -> Finding {
    let what = format!("{} is {}", vip.net, state(vip));
    if vip.is_healthy {
        return Finding::fine("vips", what);
    }
    let why = "its service is down, or `icmp-ctl serve`, which checks it, does not run";
    Finding::new("vips", State::Slow, what, why)
}

impl InForce {
    fn read(network: &Network) -> Result<Self> {
        let in_force = View::look(|view| {
            let vips = view.maps.vips()?;
            let without_room = without_room(view, network)?;
            let pins = view.links()?;
            let frames = frames(view, &pins, Which::All)?;
            let healths: Vec<_> = view.read(gated)?.iter().map(health).collect();
            let checks = [healths, findings(&vips, network)].concat();
            let vips = vips.iter().map(|vip| vip.net).collect();
            Ok(Self { settings: view.maps.settings()?, vips, pins, without_room, frames, checks })
        });
        Ok(in_force?.unwrap_or_default())
    }
}

fn chosen(names: &[String], network: &Network, pins: &[LinkPin], config: Option<&Config>) -> Vec<String> {
    if !names.is_empty() {
        return names.to_vec();
    }
    let attached = network.links.iter().filter(|link| pins.iter().any(|pin| pin.is_of(link)));
    let mut chosen: Vec<_> = attached.map(|link| link.name.clone()).collect();
    chosen.extend(config.into_iter().flat_map(|config| config.interfaces.clone()));
    if chosen.is_empty() {
        let up = meant(&network.links, "*").into_iter().filter(|link| link.up);
        chosen.extend(up.map(|link| link.name.clone()));
        let unnamed = network.links.iter().filter(|link| link.named_otherwise);
        chosen.extend(unnamed.map(|link| link.name.clone()));
    }
    chosen
}

/// The findings of one interface; `pins` is what has ours, where that can be read.
fn of_interface(network: &Network, link: &Link, pins: Option<&[LinkPin]>, has_vips: bool) -> Vec<Finding> {
    let ours = pins.into_iter().flatten().find(|pin| pin.is_of(link));
    let mode = link.xdp.filter(|_| ours.is_some()).map(|xdp| xdp.mode);
    let of_others = match pins {
        None if link.xdp.is_some() => {
            let what = "whether the program on it is another's is not known";
            let why = "the loaded program cannot be read";
            Ok(Some(Finding::new("programs", State::Unknown, what, why).on(&link.name)))
        }
        pins => program_of_others(link, pins.unwrap_or_default()),
    };
    let mut findings = vec![match of_others {
        Ok(None) => {
            let behind = ours.and_then(|ours| ours.behind.as_ref());
            let what = behind.map_or_else(
                || "no other XDP program is on it".to_owned(),
                |behind| format!("ours is {}", behind.text()),
            );
            Finding::fine("programs", what).on(&link.name)
        }
        Ok(Some(finding)) => finding,
        Err(error) => failed("programs", &error).on(&link.name),
    }];
    findings.extend(checks::interface(Place { network, link, mode, has_vips }));
    findings
}
