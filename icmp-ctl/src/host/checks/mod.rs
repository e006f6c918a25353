//! The checks of the kernel and of an interface, each written once, for `doctor` and for `attach`.
//!
//! Owns the list. Each file here has its checks; those of packet filters and of the kernel's switches are in `conflicts.rs`, of VLAN tags in
//! `vlan_stripping.rs`, of a link and its addresses in `idle.rs`.

pub mod addresses;
mod driver;
pub mod kernel;
pub mod mtu;
mod peer;
mod queues;
mod traffic_control;

use crate::finding::Finding;
use crate::host::netlink::{Link, Network};
use crate::host::{idle, vlan_stripping};

/// An interface as it is checked.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What there is around it.
    pub network: &'a Network,
    /// The interface.
    pub link: &'a Link,
    /// In which mode it has our program; `None` where it has not.
    pub mode: Option<&'a str>,
    /// Addresses of others are answered for.
    pub has_vips: bool,
}

/// Whether frames come in on an interface at all, and whether what is answered there arrives.
pub fn way(place: Place<'_>) -> Vec<Finding> {
    let mut findings = idle::up(place.network, place.link);
    findings.extend(peer::takes_answers(place));
    findings
}

/// What may be in the way of a program that is on an interface.
pub fn attached(place: Place<'_>) -> Vec<Finding> {
    let Place { network, link, has_vips, .. } = place;
    let mut findings = idle::up(network, link);
    findings.push(idle::addressed(network, link, has_vips));
    findings.push(vlan_stripping::tags(network, link));
    findings.push(mtu::fits(link));
    findings.extend(traffic_control::bypassed(place));
    findings.extend(addresses::unanswered(network, link));
    findings.extend(queues::enough(link));
    findings.extend(peer::takes_answers(place));
    findings
}

/// What may be in the way of a program on an interface, whether it is there or not.
pub fn interface(place: Place<'_>) -> Vec<Finding> {
    let mut findings = vec![driver::native(place), driver::merging(place)];
    findings.extend(attached(place));
    findings
}
