//! Programs and filters of traffic control that answered pings and their answers bypass: those of the interface, and of the devices above it.
//!
//! Owns where these are looked for. `interfaces.rs` owns which devices a frame passes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Error, Result};
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use nix::libc;

use crate::diagnostics::count;
use crate::failure::{has_errno, sentence};
use crate::finding::{Finding, State};
use crate::host::checks::Place;
use crate::host::interfaces::{passed_through, ports};
use crate::host::netlink::Link;
use crate::kernel::netlink::{
    TRAFFIC_HANDLE, TRAFFIC_HEADER, TRAFFIC_IFINDEX, attributes, classes, filters, qdiscs, word32,
};

const CHECK: &str = "traffic-control";

/// The attribute that says of which kind something is (include/uapi/linux/rtnetlink.h).
const TCA_KIND: u16 = 1;

/// Whose filters are at a hook (include/uapi/linux/pkt_sched.h).
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// So many devices are named.
const NAMED: usize = 3;

/// Both hooks: its name, that of the kernel for programs, and what does not come there.
const HOOKS: [(&str, TcAttachType, &str); 2] = [
    ("ingress", TcAttachType::Ingress, "pings that are answered"),
    ("egress", TcAttachType::Egress, "answers of the program"),
];

/// Where there are any. In native mode the program of a bond runs on its ports.
pub(super) fn bypassed(place: Place<'_>) -> Vec<Finding> {
    let Place { network, link, mode, .. } = place;
    let mut devices = passed_through(network, link);
    devices.extend(ports(network, link).filter(|_| mode != Some("generic")));
    let qdiscs = qdiscs().and_then(|all| all.iter().map(|body| Qdisc::read(body)).collect::<Result<_>>());
    let qdiscs: Vec<Qdisc> = match qdiscs {
        Ok(all) => all,
        Err(error) => return vec![unknown(&error).on(&link.name)],
    };
    let (mut found, mut failed) = (BTreeMap::<_, Vec<&str>>::new(), None);
    for device in devices {
        for (hook, attach_type, who) in HOOKS {
            match there(device, &qdiscs, attach_type) {
                Ok(there) if there.is_empty() => {}
                Ok(there) => found.entry((hook, who, there)).or_default().push(&device.name),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    let mut findings: Vec<_> = found
        .into_iter()
        .map(|((hook, who, there), devices)| {
            let what = format!(
                "at the {hook} of {} is {}, which {who} never reach",
                names(&devices),
                there.join(" and ")
            );
            let why =
                "it refuses, counts or marks only the other frames; a [[policy.rule]] can refuse the same";
            Finding::new(CHECK, State::Unknown, what, why)
        })
        .collect();
    findings.extend(failed.as_ref().map(unknown));
    if findings.is_empty() {
        findings.push(Finding::fine(CHECK, "nothing at ingress and egress"));
    }
    findings.into_iter().map(|finding| finding.on(&link.name)).collect()
}

fn unknown(error: &Error) -> Finding {
    Finding::new(CHECK, State::Unknown, "the filters at ingress and egress are not known", sentence(error))
}

fn names(devices: &[&str]) -> String {
    let (named, others) = devices.split_at(devices.len().min(NAMED));
    match others.len() as u64 {
        0 => named.join(" and "),
        others => format!("{} and {}", named.join(", "), count(others, "other device", "other devices")),
    }
}

/// What is at a hook of a device, as it is called in a sentence.
fn there(device: &Link, qdiscs: &[Qdisc], hook: TcAttachType) -> Result<Vec<String>> {
    let own = qdiscs.iter().filter(|qdisc| qdisc.ifindex == device.index);
    let mut parents: BTreeSet<u32> = own.filter_map(|qdisc| qdisc.parent_at(hook)).collect();
    if hook == TcAttachType::Egress {
        parents.extend(classes(device.index)?.iter().map(|class| word32(class, TRAFFIC_HANDLE)));
    }
    let mut kinds = BTreeSet::new();
    for parent in parents {
        for filter in filters(device.index, parent)? {
            kinds.insert(kind(&filter)?);
        }
    }
    let mut there: Vec<String> = kinds.into_iter().map(|kind| format!("a {kind} filter")).collect();
    match SchedClassifier::query_tcx(&device.name, hook).map_err(Error::new) {
        Ok((_, programs)) => there.extend(
            programs
                .iter()
                .map(|program| format!("the program {}", program.name_as_str().unwrap_or_default())),
        ),
        // Kernels before 6.6 have no such programs.
        Err(error) if has_errno(&error, &[libc::EINVAL]) => {}
        Err(error) if there.is_empty() => return Err(error),
        Err(_) => there.push("perhaps a program".to_owned()),
    }
    Ok(there)
}

/// A queueing discipline.
struct Qdisc {
    ifindex: u32,
    handle: u32,
    kind: String,
}

impl Qdisc {
    fn read(body: &[u8]) -> Result<Self> {
        let kind = kind(body)?;
        Ok(Self { ifindex: word32(body, TRAFFIC_IFINDEX), handle: word32(body, TRAFFIC_HANDLE), kind })
    }

    /// Whose filters to ask for at a hook. Those of a discipline that queues, and of its classes, sort what goes out, and may drop it or send it
    /// elsewhere. The one that a device has from the start has no number, which is how it is asked about.
    fn parent_at(&self, hook: TcAttachType) -> Option<u32> {
        match (self.kind.as_str(), hook) {
            ("ingress" | "clsact", TcAttachType::Ingress) => Some(INGRESS),
            ("clsact", TcAttachType::Egress) => Some(EGRESS),
            ("ingress", _) | (_, TcAttachType::Ingress) => None,
            _ => Some(self.handle),
        }
    }
}

/// Of which kind a queueing discipline or a filter is.
fn kind(body: &[u8]) -> Result<String> {
    let mut all = attributes(body.get(TRAFFIC_HEADER..).unwrap_or_default());
    let (_, kind) = all.find(|(kind, _)| *kind == TCA_KIND).context("an answer that is none")?;
    Ok(String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discipline_has_filters_at_its_hook_and_one_that_queues_those_of_its_number() {
        use TcAttachType::{Egress, Ingress};
        for (kind, handle, at_ingress, at_egress) in [
            ("ingress", 0xffff_0000, Some(INGRESS), None),
            ("clsact", 0xffff_0000, Some(INGRESS), Some(EGRESS)),
            ("htb", 0x0001_0000, None, Some(0x0001_0000)),
            ("fq_codel", 0, None, Some(0)),
        ] {
            let qdisc = Qdisc { ifindex: 1, handle, kind: kind.to_owned() };
            assert_eq!(
                [Ingress, Egress].map(|hook| qdisc.parent_at(hook)),
                [at_ingress, at_egress],
                "{kind}"
            );
        }
    }
}
