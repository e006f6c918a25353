//! What becomes of a packet that the program has passed to the kernel, as far as that can be known.
//!
//! Owns which questions are asked of which packet, and for which reasons the kernel drops what was passed. Its switches and packet filters
//! are `conflicts.rs`'s, its routing `routes.rs`'s.

use std::net::IpAddr;

use icmp_common::reason::Reason;
use icmp_common::types::Family;

use crate::finding::{Finding, State};
use crate::host::{conflicts, routes};

/// A packet that was passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Why.
    pub reason: Reason,
    /// Source and destination, where it is an IP packet.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// The family of an echo request that is for this host, and whether it is for a group.
    pub ping: Option<(Family, bool)>,
    /// Index and name of the interface that the kernel takes it in by, where that is known.
    pub interface: Option<(u32, &'a str)>,
}

/// What may stop it.
pub fn findings(passed: &Passed<'_>) -> Vec<Finding> {
    let mut findings: Vec<_> = dropped(passed.reason)
        .map(|why| Finding::new("packet", State::Broken, "the kernel drops it", why))
        .into_iter()
        .collect();
    if passed.interface.is_none() {
        let why = "it has a VLAN without a device, or a bridge does not take it in";
        findings.push(Finding::new("packet", State::Unknown, "no interface that is known takes it in", why));
    }
    if let (Some((source, destination)), Some(interface)) = (passed.addresses, passed.interface) {
        findings.push(routes::way_in(interface, source, destination));
        if let Some((_, is_to_group)) = passed.ping {
            // A group is no source: the kernel chooses one.
            let from = if is_to_group { None } else { Some(destination) };
            findings.push(routes::way_back(from, source));
        }
    }
    if let Some((family, is_to_group)) = passed.ping {
        findings.extend(conflicts::of_passed(family, is_to_group));
    }
    findings
}

/// Why the kernel drops each packet that ends so.
const fn dropped(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::BadIpHeader | Reason::BadLength | Reason::Truncated => "its headers or lengths cannot be",
        Reason::BadIpChecksum => "its IPv4 header checksum does not verify",
        Reason::BadIcmpChecksum => "its ICMP checksum does not verify",
        Reason::ForeignMac => "it is for another host's MAC address",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_drops_was_passed_to_it() {
        use icmp_common::reason::Verdict;
        for reason in Reason::ALL.iter().filter(|reason| dropped(**reason).is_some()) {
            assert_eq!(reason.verdict(), Verdict::Pass, "{}", reason.name());
        }
    }
}
