//! What tests in this folder share: interfaces as rtnetlink describes them.

use netlink_packet_route::link::InfoKind;

use crate::host::bridge_vlans::VlanRange;
use crate::host::netlink::{Link, Vlan};

/// An Ethernet interface, or a VLAN device.
pub(super) fn link(index: u32, up: bool, vlan: Option<Vlan>) -> Link {
    Link {
        index,
        name: format!("if{index}"),
        mac: Some([2; 6]),
        mtu: 1500,
        up,
        vlan,
        kind: vlan.map(|_| InfoKind::Vlan),
        lower: vlan.map(|vlan| vlan.parent),
        ..Link::default()
    }
}

/// A VLAN of a bridge or a port, as `bridge vlan` writes it; `blocked` where it does not forward.
pub(super) fn bridge_vlan(id: u16, words: &str) -> VlanRange {
    let has = |word| words.split(' ').any(|other| other == word);
    VlanRange { ids: id..=id, pvid: has("pvid"), untagged: has("untagged"), forwards: !has("blocked") }
}
