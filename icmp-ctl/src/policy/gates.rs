//! VIPs with a check, as users write them and as the program has them.
//!
//! Owns the translation in both directions, the bounds of spans and counts, and the settings of the host that make a check useless.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use icmp_common::abi::{GATE_CHECK_LEN, Gate, UNHEALTHY_DROP, UNHEALTHY_PASS};
use ipnet::IpNet;

use crate::config::prefix::Prefix;
use crate::config::source::refuse;
use crate::config::span::Span;
use crate::config::vip::{Check, Kind, Unhealthy, Vip};
use crate::config::words::{Named as _, Word};
use crate::diagnostics::{note, warn};
use crate::failure::sentence;
use crate::finding::{Finding, State};
use crate::host::netlink::Network;
use crate::instance::compiled;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::clock::ticks;

/// Shortest and longest time between two checks.
const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3600)];
/// Shortest and longest time that one may take.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];
/// Most successes or failures one after the other that count.
const MOST: u32 = 100;

/// What follows where the kernel has an address of a VIP.
const WHILE_IT_FAILS: &str =
    "the kernel answers pings to it while the check fails; with `unhealthy = \"drop\"` it does not";

/// What is there while systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// The gate of a VIP, the number of which in the file is `number`.
///
/// # Errors
/// A span or a count that cannot be, with its place in the file.
pub(super) fn gate(vip: &Vip, number: usize) -> Result<Gate> {
    let number = number.to_string();
    let milliseconds = |key: &str, span: Option<Span>, [least, most]: [Duration; 2]| {
        let span = span.map_or(Vip::SECOND, |span| span.0);
        if span < least || span > most {
            let why = format!("{} is not between {} and {}", Span(span), Span(least), Span(most));
            return refuse(&["responder", "vip", &number, key], why);
        }
        Ok(span.as_millis() as u32)
    };
    let count = |key: &str, count: Option<u32>, default: u32| match count.unwrap_or(default) {
        0 | MOST.. => refuse(
            &["responder", "vip", &number, key],
            format!("a count of checks is at least 1 and less than {MOST}"),
        ),
        count => Ok(count),
    };
    let mut check = [0; GATE_CHECK_LEN];
    let text = vip.check.to_string();
    for (to, from) in check.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    Ok(Gate {
        check,
        interval: milliseconds("interval", vip.interval, INTERVALS)?,
        timeout: milliseconds("timeout", vip.timeout, TIMEOUTS)?,
        rise: count("rise", vip.rise, Vip::COUNTS.0)?,
        fall: count("fall", vip.fall, Vip::COUNTS.1)?,
        unhealthy: match vip.unhealthy.map(|word| word.0) {
            None | Some(Unhealthy::Pass) => UNHEALTHY_PASS,
            Some(Unhealthy::Drop) => UNHEALTHY_DROP,
        },
        reserved: [0; 3],
    })
}

fn span(milliseconds: u32) -> Span {
    Span(Duration::from_millis(milliseconds.into()))
}

/// The text of a gate's check.
pub fn check_text(gate: &Gate) -> String {
    String::from_utf8_lossy(&gate.check).trim_end_matches('\0').to_owned()
}

/// What is done with echo requests while a gate is unhealthy.
pub fn unhealthy(gate: &Gate) -> Unhealthy {
    if gate.unhealthy == UNHEALTHY_DROP { Unhealthy::Drop } else { Unhealthy::Pass }
}

/// A VIP with a check, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    /// The prefix.
    pub net: IpNet,
    /// What is checked, and what is done.
    pub gate: Gate,
    /// It is answered.
    pub is_healthy: bool,
}

/// The VIPs in force that have a check.
///
/// # Errors
/// A map or the clock cannot be read.
pub fn gated(maps: &InstanceMaps) -> Result<Vec<Gated>> {
    gated_of(maps, &maps.vips()?)
}

/// The same of these VIPs, which are in force.
///
/// # Errors
/// Likewise.
pub fn gated_of(maps: &InstanceMaps, vips: &[compiled::Vip]) -> Result<Vec<Gated>> {
    let gated = vips.iter().filter_map(|vip| Some((vip.net, vip.gate?)));
    let now = ticks()?;
    gated.map(|(net, gate)| Ok(Gated { net, gate, is_healthy: now < maps.gates.lease(&gate)? })).collect()
}

/// How a VIP with a check is, by what.
pub fn state(vip: &Gated) -> String {
    let check = check_text(&vip.gate);
    match (vip.is_healthy, unhealthy(&vip.gate)) {
        (true, _) => format!("healthy by {check}"),
        (false, Unhealthy::Pass) => format!("unhealthy by {check}: echo requests are passed"),
        (false, Unhealthy::Drop) => format!("unhealthy by {check}: echo requests are dropped"),
    }
}

/// Says which VIPs in force are unhealthy, and who may find them healthy. That it cannot be told is said, and fails nothing: what was wanted
/// is done by then.
pub fn say_unhealthy() {
    let gated = View::look(|view| view.read(gated)).unwrap_or_else(|error| {
        warn(&format!("which VIPs are unhealthy is not known: {}", sentence(&error)));
        None
    });
    let gated = gated.unwrap_or_default();
    let unhealthy: Vec<_> =
        gated.iter().filter(|vip| !vip.is_healthy).map(|vip| vip.net.to_string()).collect();
    if !unhealthy.is_empty() {
        note(&format!(
            "unhealthy until `icmp-ctl serve` finds them healthy, and for as long as it does: {}",
            unhealthy.join(", ")
        ));
    }
}

/// What there is on this host that makes a check of these VIPs mean nothing.
pub fn findings(vips: &[compiled::Vip], network: &Network) -> Vec<Finding> {
    let has_systemd = Path::new(SYSTEMD).exists();
    let gated = vips.iter().filter_map(|vip| Some((vip.net, vip.gate.as_ref()?)));
    gated
        .flat_map(|(net, gate)| {
            let answers = kernel_answers(net, gate, network).or_else(|| kernel_takes_in(net, gate, network));
            [answers, unasked(net, gate, has_systemd)]
        })
        .flatten()
        .collect()
}

/// That the kernel has an address of a VIP, and answers while the VIP is unhealthy.
fn kernel_answers(net: IpNet, gate: &Gate, network: &Network) -> Option<Finding> {
    let mut of_host =
        network.addresses.iter().filter(|address| net.contains(&address.address)).filter_map(|address| {
            let link = network.links.iter().find(|link| link.index == address.ifindex && link.up)?;
            (unhealthy(gate) == Unhealthy::Pass || link.vlan.is_some()).then_some((address.address, link))
        });
    let (address, link) = of_host.next()?;
    let what = format!("{net} has a check, and {address} is an address of {}", link.name);
    let why = if link.vlan.is_some() {
        "in a VLAN no VIP counts, so the kernel answers pings to it there whatever the check says"
    } else {
        WHILE_IT_FAILS
    };
    Some(Finding::new("vips", State::Slow, what, why))
}

/// That the kernel takes in a VIP or a part of it as a whole prefix.
fn kernel_takes_in(net: IpNet, gate: &Gate, network: &Network) -> Option<Finding> {
    let is_about = |local: &&IpNet| local.contains(&net) || net.contains(*local);
    let local =
        network.local_prefixes.iter().find(is_about).filter(|_| unhealthy(gate) == Unhealthy::Pass)?;
    let what = format!("{net} has a check, and the kernel takes in all of {local}, because of a local route");
    Some(Finding::new("vips", State::Slow, what, WHILE_IT_FAILS))
}

/// That a check asks about a unit where systemd does not run.
fn unasked(net: IpNet, gate: &Gate, has_systemd: bool) -> Option<Finding> {
    let check = check_text(gate);
    let is_unit = check.parse::<Check>().is_ok_and(|check| matches!(check.kind, Kind::Systemd(_)));
    let what = format!("{net} is checked by {check}, and systemd does not run here ({SYSTEMD} is not there)");
    let why =
        "the check fails, and the VIP stays unhealthy; one of a file, a port or a page needs no systemd";
    (is_unit && !has_systemd).then(|| Finding::new("vips", State::Broken, what, why))
}

/// The VIPs of a policy that have a check, in the words of `like` where those mean it and in its order.
pub(super) fn written(vips: &[compiled::Vip], like: &[Vip]) -> Vec<Vip> {
    let gated: Vec<_> = vips.iter().filter_map(|vip| Some((vip.net, vip.gate?))).collect();
    let is_meant = |said: &Vip, meant: &Gate| gate(said, 0).is_ok_and(|gate| gate == *meant);
    let mut written = Vec::new();
    for said in like {
        if let Some((_, meant)) = gated.iter().find(|(net, _)| *net == said.prefix.0) {
            written.extend(if is_meant(said, meant) {
                Some(said.clone())
            } else {
                own_words(said.prefix.0, meant)
            });
        }
    }
    for (net, meant) in gated.iter().filter(|(net, _)| like.iter().all(|said| said.prefix.0 != *net)) {
        written.extend(own_words(*net, meant));
    }
    written
}

/// `None` of a check that nobody can have written.
fn own_words(net: IpNet, gate: &Gate) -> Option<Vip> {
    let said = |milliseconds: u32| Some(span(milliseconds)).filter(|span| span.0 != Vip::SECOND);
    let unhealthy = unhealthy(gate);
    Some(Vip {
        prefix: Prefix(net),
        check: check_text(gate).parse::<Check>().ok()?,
        interval: said(gate.interval),
        timeout: said(gate.timeout),
        rise: Some(gate.rise).filter(|rise| *rise != Vip::COUNTS.0),
        fall: Some(gate.fall).filter(|fall| *fall != Vip::COUNTS.1),
        unhealthy: Some(Word(unhealthy)).filter(|word| word.0 != Unhealthy::Pass),
    })
}

/// A VIP as a line of text.
pub(super) fn line(vip: &compiled::Vip) -> String {
    let Some(gate) = &vip.gate else { return format!("responder.vips: {}", vip.net) };
    format!(
        "responder.vip: {} while {} every {} within {}, rise {} fall {}, otherwise {}",
        vip.net,
        check_text(gate),
        span(gate.interval),
        span(gate.timeout),
        gate.rise,
        gate.fall,
        unhealthy(gate).name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::{Address, Link, Vlan};

    #[test]
    fn a_check_means_nothing_where_the_kernel_answers_and_where_it_cannot_be_made() {
        let net: IpNet = "192.0.2.0/28".parse().expect("a prefix");
        let mut gate = Gate { unhealthy: UNHEALTHY_PASS, ..Gate::NONE };
        let vlan = Some(Vlan { parent: 1, id: 100, service: false });
        let link = |index, vlan, up| Link { index, name: format!("if{index}"), up, vlan, ..Link::default() };
        let with = |text: &str, ifindex| Network {
            links: vec![link(1, None, true), link(2, vlan, true), link(3, None, false)],
            addresses: vec![Address {
                ifindex,
                address: text.parse().expect("an address"),
                peer: None,
                prefix_len: 32,
                broadcast: None,
                global: true,
            }],
            ..Network::default()
        };
        for (text, ifindex, passes, drops) in [
            ("192.0.2.7", 1, Some("`unhealthy = \"drop\"`"), None),
            ("192.0.2.7", 2, Some("in a VLAN"), Some("in a VLAN")),
            ("192.0.2.7", 3, None, None),
            ("192.0.2.77", 1, None, None),
        ] {
            for (unhealthy, expected) in [(UNHEALTHY_PASS, passes), (UNHEALTHY_DROP, drops)] {
                let gate = Gate { unhealthy, ..gate };
                let found = kernel_answers(net, &gate, &with(text, ifindex)).map(|finding| finding.text());
                let is_told = found.as_ref().zip(expected).is_some_and(|(found, part)| found.contains(part));
                assert!(is_told || found.is_none() && expected.is_none(), "{text} on if{ifindex}: {found:?}");
            }
        }
        for (local, passes) in [("192.0.2.0/24", true), ("192.0.2.8/29", true), ("192.0.2.16/28", false)] {
            let local = local.parse().expect("a prefix");
            let network = Network { local_prefixes: vec![local], ..Network::default() };
            for (unhealthy, expected) in [(UNHEALTHY_PASS, passes), (UNHEALTHY_DROP, false)] {
                let gate = Gate { unhealthy, ..gate };
                assert_eq!(kernel_takes_in(net, &gate, &network).is_some(), expected, "{local}");
            }
        }
        for (check, has_systemd, expected) in [
            ("systemd:a.service", false, true),
            ("systemd:a.service", true, false),
            ("file:/systemd:", false, false),
        ] {
            gate.check = Gate::NONE.check;
            gate.check[..check.len()].copy_from_slice(check.as_bytes());
            assert_eq!(unasked(net, &gate, has_systemd).is_some(), expected, "{check}, {has_systemd}");
        }
    }
}
