//! What happens to a packet that the program has passed to the kernel, as far as that can be known.
//!
//! Owns which questions are asked for which packet, and for which reasons the kernel drops passed packets. `conflicts.rs` has its switches and
//! packet filters, `routes.rs` its routing.

use std::net::IpAddr;

use icmp_common::reason::Reason;

use crate::finding::{Finding, State};
use crate::host::conflicts::Ping;
use crate::host::interfaces::WITHOUT_IPV6;
use crate::host::{conflicts, routes};

/// A packet that was passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Why.
    pub reason: Reason,
    /// Source and destination, where it is an IP packet.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// The echo request that it is, where it is for this host.
    pub ping: Option<Ping>,
    /// Whether frames for other hosts come in on the interface as well: of a bridge's port, or below a macvlan or ipvlan.
    pub is_shared: bool,
    /// Index and name of the interface that the kernel takes it in by, where that is known.
    pub interface: Option<(u32, &'a str)>,
    /// Whether the kernel takes in no IPv6 by it.
    pub without_ipv6: bool,
    /// Index of the VRF that this one is in.
    pub vrf: Option<u32>,
    /// Where the program is in front of others, or among them.
    pub behind: Option<&'a str>,
}

/// What may stop it.
pub fn findings(passed: &Passed<'_>) -> Vec<Finding> {
    let drops = |why| Finding::new("packet", State::Broken, "the kernel drops it", why);
    let unknown = |what: &str, why: String| Finding::new("packet", State::Unknown, what, why);
    let mut findings = Vec::new();
    if let Some(behind) = passed.behind {
        findings.push(unknown("another XDP program may stop it first", format!("ours is {behind}")));
    }
    if let Some(why) = dropped(passed.reason) {
        findings.push(if passed.is_shared {
            unknown("this host does not take it in, and a bridge or the device above may", why.to_owned())
        } else {
            drops(why)
        });
    }
    if passed.reason == Reason::IpOptions {
        findings.push(unknown(
            "it has IPv4 options",
            "the kernel drops some of them, and which is not looked at".to_owned(),
        ));
    }
    if let Some((IpAddr::V6(source), _)) = passed.addresses
        && (source.is_loopback() || source.is_multicast())
    {
        // `ip6_rcv_core` in net/ipv6/ip6_input.c.
        findings.push(drops("its source is one that no other host can have"));
    }
    if passed.without_ipv6 && passed.addresses.is_some_and(|(source, _)| source.is_ipv6()) {
        findings.push(drops(WITHOUT_IPV6));
    }
    if passed.interface.is_none() {
        let why = "it has a VLAN without a device, or a bridge does not take it in";
        findings.push(unknown("no interface that is known takes it in", why.to_owned()));
    }
    if let (Some((source, destination)), Some(interface)) = (passed.addresses, passed.interface) {
        // Of IPv6 groups the kernel answers EMSGSIZE to the question, whatever it does with them.
        if !(destination.is_ipv6() && destination.is_multicast()) {
            findings.push(routes::way_in(interface, source, destination));
        }
        if let Some(ping) = passed.ping {
            // A group is no source: the kernel chooses one.
            let from = if ping.is_to_group { None } else { Some(destination) };
            findings.push(routes::way_back(from, source, passed.vrf));
        }
    }
    if let Some(ping) = passed.ping {
        findings.extend(conflicts::of_passed(ping));
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

    fn said(passed: &Passed<'_>) -> Vec<(State, String)> {
        findings(passed).into_iter().map(|finding| (finding.state, finding.text())).collect()
    }

    #[test]
    fn what_a_bridge_or_the_device_above_may_take_is_not_said_to_be_dropped() {
        for (is_shared, state) in [(false, State::Broken), (true, State::Unknown)] {
            let reason = Reason::ForeignMac;
            let passed = Passed {
                reason,
                addresses: None,
                ping: None,
                is_shared,
                interface: Some((1, "lo")),
                without_ipv6: false,
                vrf: None,
                behind: None,
            };
            assert_eq!(said(&passed)[0].0, state, "{is_shared}");
        }
    }

    #[test]
    fn sources_that_ipv6_drops_are_told_and_a_group_is_asked_no_way_in() {
        let passed = |source: &str, reason| Passed {
            reason,
            addresses: Some((source.parse().expect("an address"), "ff02::1".parse().expect("an address"))),
            ping: None,
            is_shared: false,
            interface: Some((1, "lo")),
            without_ipv6: false,
            vrf: None,
            behind: None,
        };
        for source in ["::1", "ff02::1"] {
            let said = said(&passed(source, Reason::MartianSource));
            assert!(said.len() == 1 && said[0].1.contains("the kernel drops it"), "{said:?}");
        }
        assert!(said(&passed("2001:db8::1", Reason::GroupEcho)).is_empty());
    }

    #[test]
    fn what_the_kernel_drops_was_passed_to_it() {
        use icmp_common::reason::Verdict;
        for reason in Reason::ALL.iter().filter(|reason| dropped(**reason).is_some()) {
            assert_eq!(reason.verdict(), Verdict::Pass, "{}", reason.name());
        }
    }
}
