//! What the kernel would have refused: the host's own switches and packet filters, which answered frames bypass.
//!
//! Owns reading them, the warnings, and following the switches if the configuration says so. `firewall.rs` has the meaning of rules. They are
//! those of the network namespace in which the command runs, at the time when it runs.

use std::time::{Duration, Instant};

use icmp_common::abi::{Settings, type_index};
use icmp_common::types::{Action, Family};
use nix::libc;
use serde_json::Value;

use crate::failure::{has_errno, sentence};
use crate::finding::{Finding, State};
use crate::host::firewall::{self, Packet, Refusal};
use crate::host::iptables;
use crate::host::nftables::{self, VerdictMaps};
use crate::kernel::bpf;
use crate::kernel::command::ask;
use crate::kernel::holders::holders;

/// How long a packet filter's command is waited for: it takes seconds for a ruleset with tens of thousands of rules.
const FOR_RULES: Duration = Duration::from_secs(10);

/// How long all verdict maps together are waited for. Of one that is not known by then, every packet may be refused.
const FOR_MAPS: Duration = Duration::from_secs(2);

/// Switches with which the kernel ignores echo requests to its own addresses; those for groups need none, as groups are always the
/// kernel's.
const SWITCHES: [(Family, u8, &str); 2] =
    [(Family::V4, 8, "net.ipv4.icmp_echo_ignore_all"), (Family::V6, 128, "net.ipv6.icmp.echo_ignore_all")];

/// Switches with which it ignores those to groups.
const GROUP_SWITCHES: [(Family, &str); 2] = [
    (Family::V4, "net.ipv4.icmp_echo_ignore_broadcasts"),
    (Family::V6, "net.ipv6.icmp.echo_ignore_multicast"),
];

/// An echo request that was passed to the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// ICMP or ICMPv6.
    pub family: Family,
    /// Its code.
    pub code: u8,
    /// Whether it is for a group.
    pub is_to_group: bool,
}

fn is_on(switch: &str) -> bool {
    let path = format!("/proc/sys/{}", switch.replace('.', "/"));
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

/// Leaves to the kernel what its switches make it ignore.
pub fn respect(settings: &mut Settings) {
    for (family, icmp_type, switch) in SWITCHES {
        let decision = &mut settings.types[type_index(family, icmp_type)].main;
        if is_on(switch) && decision.action == Action::Answer as u8 {
            decision.action = Action::Pass as u8;
        }
    }
}

/// Whether the program answers what the kernel would have refused.
pub fn findings(settings: &Settings) -> Vec<Finding> {
    let answered = |family, icmp_type| {
        settings.types[type_index(family, icmp_type)].main.action == Action::Answer as u8
            && settings.flags & icmp_common::abi::SETTINGS_ECHO != 0
    };
    let mut findings = Vec::new();
    for (family, icmp_type, switch) in SWITCHES {
        findings.push(if answered(family, icmp_type) && is_on(switch) {
            let what = format!(
                "{switch} is on: the kernel would ignore echo requests of {} that the program will answer",
                family.name()
            );
            let why = "`respect-sysctl = true` in [responder] follows it";
            Finding::new("sysctl", State::Broken, what, why).fixed_by(format!("sysctl -w {switch}=0"))
        } else {
            Finding::fine("sysctl", format!("{switch} and the program agree"))
        });
    }
    let answered =
        |family| SWITCHES.iter().any(|(of, icmp_type, _)| *of == family && answered(family, *icmp_type));
    let packets: Vec<_> = Packet::ALL.into_iter().filter(|packet| answered(packet.family)).collect();
    findings.extend(filter_refusals(&packets));
    findings
}

/// What the packet filters do to pings, or may: each as a finding of where that is, and how sure it is.
fn filter_findings(
    packets: &[Packet],
    pings: &str,
    found: impl Fn(State, &'static str, String) -> Finding,
) -> Vec<Finding> {
    let mut refusals = Vec::new();
    let mut unknown = Vec::new();
    if !packets.is_empty() {
        of_nftables(packets, &mut refusals, &mut unknown);
        of_iptables(packets, &mut refusals, &mut unknown);
        of_programs(packets, &mut refusals, &mut unknown);
    }
    // Of one rule for both families, or for both ways, what is certain counts.
    refusals.sort_by(|a, b| (&a.text, b.certain).cmp(&(&b.text, a.certain)));
    refusals.dedup_by(|a, b| a.text == b.text);
    let refusals = refusals.into_iter().map(|Refusal { text, certain }| {
        let (state, how) = if certain { (State::Broken, "refuses") } else { (State::Unknown, "may refuse") };
        found(state, how, text)
    });
    let unknown = unknown.into_iter().map(|why| {
        let what = format!("whether the packet filter refuses {pings} is not known");
        Finding::new("packet-filter", State::Unknown, what, why)
    });
    let mut findings: Vec<_> = refusals.chain(unknown).collect();
    if findings.is_empty() {
        findings.push(Finding::fine("packet-filter", format!("no rule refuses {pings}")));
    }
    findings
}

/// Where the packet filters refuse pings that the program answers, or may.
fn filter_refusals(packets: &[Packet]) -> Vec<Finding> {
    const PINGS: &str = "pings that the program answers";
    filter_findings(packets, PINGS, |state, how, text| {
        let what = format!("the packet filter {how} {PINGS}, which never reach it: {text}");
        Finding::new("packet-filter", state, what, "a [[policy.rule]] can say the same")
    })
}

/// What of the kernel's own stops a ping that the program passes to it.
pub(super) fn of_passed(ping: Ping) -> Vec<Finding> {
    let Ping { family, code, is_to_group } = ping;
    let own = SWITCHES.map(|(of, _, switch)| (of, switch));
    let of_groups = if is_to_group { &GROUP_SWITCHES[..] } else { &[] };
    let switches = own.iter().chain(of_groups).filter(|(of, _)| *of == family);
    let mut findings: Vec<_> = switches
        .map(|(_, switch)| {
            if is_on(switch) {
                let what = format!("{switch} is on");
                Finding::new("sysctl", State::Broken, what, "the kernel answers no such ping")
            } else {
                Finding::fine("sysctl", format!("{switch} is off"))
            }
        })
        .collect();
    let packets: Vec<_> = Packet::ALL.into_iter().filter(|packet| packet.family == family).collect();
    let packets: Vec<_> = packets.into_iter().map(|packet| Packet { code, ..packet }).collect();
    findings.extend(filter_findings(&packets, "such pings", |state, how, text| {
        Finding::new(
            "packet-filter",
            state,
            format!("the packet filter {how} such pings or their replies: {text}"),
            "",
        )
    }));
    findings
}

fn of_nftables(packets: &[Packet], refusals: &mut Vec<Refusal>, unknown: &mut Vec<String>) {
    // Terse, without what is in sets and maps: listing hundreds of thousands of addresses takes seconds.
    let words = ask("nft", &["-a", "-t", "list", "ruleset"], FOR_RULES);
    match (ask("nft", &["-j", "-t", "list", "ruleset"], FOR_RULES), words) {
        (Ok(Some(ruleset)), Ok(listing)) => match serde_json::from_str(&ruleset) {
            Ok(ruleset) => {
                let listing = listing.unwrap_or_default();
                let maps = verdict_maps(&ruleset, packets);
                let of = |packet: &Packet| {
                    firewall::refusals(&nftables::chains(&ruleset, &maps, &listing, *packet))
                };
                refusals.extend(packets.iter().flat_map(of));
            }
            Err(error) => unknown.push(format!("nft: {error}")),
        },
        (Err(error), _) | (_, Err(error)) => unknown.push(error),
        (Ok(None), _) => {}
    }
}

/// What is in the maps that decide about the packets, as far as it can be had in time.
fn verdict_maps(ruleset: &Value, packets: &[Packet]) -> VerdictMaps {
    let until = Instant::now() + FOR_MAPS;
    let elements = |name: &str| {
        let left = until.saturating_duration_since(Instant::now());
        let asked = (!left.is_zero()).then(|| ask("nft", &["-j", "list", "map", name], left))?;
        nftables::elements(&serde_json::from_str(&asked.ok()??).ok()?)
    };
    let names = nftables::deciding_maps(ruleset, packets);
    names.into_iter().filter_map(|name| elements(&name).map(|elements| (name, elements))).collect()
}

fn of_iptables(packets: &[Packet], refusals: &mut Vec<Refusal>, unknown: &mut Vec<String>) {
    for (family, tables, command) in LEGACY {
        // Asking the command would load the tables where there are none.
        if std::fs::read_to_string(tables).is_ok_and(|names| !names.trim().is_empty()) {
            match ask(command, &[], FOR_RULES) {
                Ok(Some(saved)) => {
                    let packets = packets.iter().filter(|packet| packet.family == family);
                    let of = |packet: &Packet| firewall::refusals(&iptables::chains(&saved, *packet));
                    refusals.extend(packets.flat_map(of));
                }
                Ok(None) => unknown.push(format!("{tables} has tables, and {command} is not installed")),
                Err(error) => unknown.push(error),
            }
        }
    }
}

/// BPF programs at the hooks of packet filters, each of which may refuse what it likes. Of which network namespace one is the kernel does not say: if every
/// process that holds it is in another one, it is taken for that one's. Who may not list links, as `serve`, is told nothing.
fn of_programs(packets: &[Packet], refusals: &mut Vec<Refusal>, unknown: &mut Vec<String>) {
    let links = match bpf::filter_links() {
        Ok(links) => links,
        Err(error) if has_errno(&error, &[libc::EPERM]) => return,
        Err(error) => return unknown.push(format!("listing BPF programs: {}", sentence(&error))),
    };
    for link in links {
        let Some((family, hook)) = place_of(link.family_and_hook) else { continue };
        let is_met = packets.iter().any(|packet| packet.family == family && packet.meets(hook, false));
        if !is_met {
            continue;
        }
        let mut held = holders(link.id).map(|holder| holder.is_here()).peekable();
        if held.peek().is_none() || held.any(|is_here| is_here != Some(false)) {
            let (family, id) = (family.name(), link.program_id);
            let text = format!(
                "the BPF program {id} at {hook} of {family}, which `bpftool prog show id {id}` tells of"
            );
            refusals.push(Refusal { text, certain: false });
        }
    }
}

/// Which packets meet a program of a packet filter, and where, by the kernel's numbers.
fn place_of((family, hook): (u32, u32)) -> Option<(Family, &'static str)> {
    let family = match family {
        NFPROTO_IPV4 => Family::V4,
        NFPROTO_IPV6 => Family::V6,
        _ => return None,
    };
    Some((family, *HOOKS.get(hook as usize)?))
}

/// Families of packets, and the hooks for them in the order of their numbers (include/uapi/linux/netfilter.h).
const NFPROTO_IPV4: u32 = 2;
/// See [`NFPROTO_IPV4`].
const NFPROTO_IPV6: u32 = 10;
/// See [`NFPROTO_IPV4`].
const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

/// Where the kernel lists the tables of iptables-legacy in this network namespace, and what prints them.
const LEGACY: [(Family, &str, &str); 2] = [
    (Family::V4, "/proc/self/net/ip_tables_names", "iptables-legacy-save"),
    (Family::V6, "/proc/self/net/ip6_tables_names", "ip6tables-legacy-save"),
];
