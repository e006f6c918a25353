//! What tests of this room share: interfaces as rtnetlink describes them.

use netlink_packet_route::link::InfoKind;

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
