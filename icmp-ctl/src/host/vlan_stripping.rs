//! Where a VLAN tag may be removed from a frame before XDP sees it, so that an answer could reach the wrong VLAN.
//!
//! Owns the table of these cases, as code; docs/vlans.md has the same rows with their tests. In doubt a tag counts as removed: then the kernel
//! answers, which knows it.

use anyhow::{Context as _, Result};
use netlink_packet_route::link::InfoKind;

use crate::diagnostics::{note, shell_word};
use crate::finding::{Finding, State};
use crate::host::elsewhere;
use crate::host::netlink::{Link, Network, Vlan};
use crate::kernel::ethtool::TagOffloads;

/// What may have taken a tag out of a frame of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stripping {
    /// Its driver does.
    Driver(TagOffloads),
    /// Its driver cannot be asked.
    Unknown,
    /// Its frames come from another device of this kernel, which keeps the tag beside the frame. A veth has them from its peer as that one
    /// sends them (`tx-vlan-offload`, `tx-vlan-stag-hw-insert`), which is not to be seen from here. A bridge, a bond and a macvlan have them
    /// from a device below, where the tag has been taken out or put beside the frame already.
    Beside(InfoKind),
}

/// What may have taken tags out of an interface's frames, where that matters: VLANs are told apart on it.
pub fn stripping(network: &Network, link: &Link) -> Option<Stripping> {
    if !tells_vlans_apart(network, link) && !elsewhere::has_one_with_its_mac(network, link) {
        return None;
    }
    way(link.kind.as_ref(), || TagOffloads::read(&link.name).ok())
}

/// By which way tags leave the frames of a kind of device.
fn way(kind: Option<&InfoKind>, offloads: impl FnOnce() -> Option<TagOffloads>) -> Option<Stripping> {
    match kind {
        // A network card has no kind. What is written to a tap goes to XDP as it is.
        None | Some(InfoKind::Tun) => match offloads() {
            None => Some(Stripping::Unknown),
            Some(TagOffloads::NONE) => None,
            Some(offloads) => Some(Stripping::Driver(offloads)),
        },
        Some(kind) => Some(Stripping::Beside(kind.clone())),
    }
}

/// Whether frames of several VLANs come in on an interface: VLAN devices are on it, on an ipvlan on it, which has its MAC address, or on the bridge,
/// bond or other device that it is a port of, up or not; or that one, or itself, is a bridge that filters VLANs.
fn tells_vlans_apart(network: &Network, link: &Link) -> bool {
    let by_index = |index| network.links.iter().find(|link| link.index == index);
    // A bond may be a port of a bridge; no chain is longer than there are links.
    std::iter::successors(Some(link), |link| link.controller.and_then(by_index))
        .take(network.links.len())
        .any(|link| {
            let is_ipvlan = |other: &&Link| {
                other.lower == Some(link.index)
                    && matches!(other.kind, Some(InfoKind::IpVlan | InfoKind::IpVtap))
            };
            let ipvlans: Vec<u32> =
                network.links.iter().filter(is_ipvlan).map(|ipvlan| ipvlan.index).collect();
            let is_here = |vlan: Vlan| vlan.parent == link.index || ipvlans.contains(&vlan.parent);
            let on_it = |other: &Link| other.vlan.is_some_and(is_here);
            link.vlan_filtering || network.links.iter().any(on_it)
        })
}

/// Whether the program sees the VLAN tags of an interface's frames.
pub fn tags(network: &Network, link: &Link) -> Finding {
    let interface = &link.name;
    let Some(stripping) = stripping(network, link) else {
        return Finding::fine("vlan-tags", "in the frame, or no VLANs to tell apart").on(interface);
    };
    let vlans = if tells_vlans_apart(network, link) {
        "VLANs are in use on it"
    } else {
        "a device above it is in another network namespace, where it may be a VLAN"
    };
    let (who, help) = match &stripping {
        Stripping::Driver(_) => (
            "its driver takes VLAN tags out of frames before the program sees them (rx-vlan-offload, rx-vlan-stag-hw-parse)",
            "",
        ),
        Stripping::Unknown => (
            "its driver does not say whether it takes VLAN tags out of frames before the program sees them",
            "; on an interface without VLANs they are answered",
        ),
        Stripping::Beside(InfoKind::Veth) => (
            "the other end of a veth may send VLAN tags beside the frame, where the program does not see them",
            "; no setting of this end changes that",
        ),
        Stripping::Beside(_) => (
            "the device below takes VLAN tags out of frames before the program sees them",
            "; no setting of this device changes that",
        ),
    };
    let why = format!("all pings on {interface} are left to the kernel{help}");
    let finding = Finding::new("vlan-tags", State::Slow, format!("{vlans}, and {who}"), why).on(interface);
    match stripping {
        Stripping::Driver(_) => {
            finding.fixed_by(format!("icmp-ctl attach {} --disable-rx-vlan-offload", shell_word(interface)))
        }
        _ => finding,
    }
}

/// Has an interface's driver leave all tags in the frame; what it did before, if that was anything else. Where that does not help, it says so.
///
/// # Errors
/// The driver cannot be asked, or refuses.
pub fn leave_tags(link: &Link) -> Result<Option<TagOffloads>> {
    let name = &link.name;
    if let Some(Stripping::Beside(kind)) = way(link.kind.as_ref(), || Some(TagOffloads::NONE)) {
        note(&format!(
            "{name}: --disable-rx-vlan-offload does not help on a {kind}, whose frames come without their tags whatever its own offloads are"
        ));
        return Ok(None);
    }
    let before = TagOffloads::read(name)?;
    if before == TagOffloads::NONE {
        return Ok(None);
    }
    TagOffloads::NONE.write(name).with_context(|| format!("{name}: switching rx-vlan-offload off"))?;
    let after = TagOffloads::read(name).inspect_err(|_| {
        // Whoever asked would not know that it was switched; the first error is the one to tell.
        let _ = before.write(name);
    })?;
    if after != TagOffloads::NONE {
        let still = if after.customer { "rx-vlan-offload" } else { "rx-vlan-stag-hw-parse" };
        note(&format!("{name}: --disable-rx-vlan-offload does not help: the driver leaves {still} on"));
    }
    Ok(Some(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUSTOMER: TagOffloads = TagOffloads { customer: true, service: false };
    const SERVICE: TagOffloads = TagOffloads { customer: false, service: true };

    fn link(index: u32) -> Link {
        Link { index, ..Link::default() }
    }

    #[test]
    fn a_card_strips_by_either_offload_and_when_it_cannot_be_asked() {
        for (offloads, expected) in [
            (Some(TagOffloads::NONE), None),
            (Some(CUSTOMER), Some(Stripping::Driver(CUSTOMER))),
            (Some(SERVICE), Some(Stripping::Driver(SERVICE))),
            (None, Some(Stripping::Unknown)),
        ] {
            assert_eq!(way(None, || offloads), expected, "{offloads:?}");
        }
    }

    #[test]
    fn a_device_that_another_one_feeds_strips_whatever_its_own_offloads_are() {
        for kind in [
            InfoKind::Veth,
            InfoKind::Bridge,
            InfoKind::Bond,
            InfoKind::Team,
            InfoKind::MacVlan,
            InfoKind::IpVlan,
            InfoKind::Other("unheard-of".to_owned()),
        ] {
            assert_eq!(way(Some(&kind), || Some(TagOffloads::NONE)), Some(Stripping::Beside(kind.clone())));
        }
    }

    #[test]
    fn a_missing_tag_matters_where_vlans_are_told_apart() {
        let vlan = |index, parent, up| {
            let vlan = Some(Vlan { parent, id: 100, service: false });
            Link { vlan, up, ..link(index) }
        };
        let port = Link { controller: Some(9), ..link(1) };
        let above = |kind| Link { kind: Some(kind), lower: Some(1), ..link(3) };
        let filtering = Link { vlan_filtering: true, ..link(9) };
        for (what, expected, links) in [
            ("nothing on it", false, vec![link(1), vlan(5, 2, true)]),
            ("a VLAN device", true, vec![link(1), vlan(5, 1, true)]),
            ("a VLAN device that is down", true, vec![link(1), vlan(5, 1, false)]),
            ("a VLAN device on the bridge above it", true, vec![port.clone(), link(9), vlan(5, 9, true)]),
            ("a VLAN device on an ipvlan", true, vec![link(1), above(InfoKind::IpVlan), vlan(5, 3, true)]),
            ("an ipvlan without", false, vec![link(1), above(InfoKind::IpVlan), vlan(5, 4, true)]),
            // What is for it has its MAC address.
            ("a VLAN device on a macvlan", false, vec![link(1), above(InfoKind::MacVlan), vlan(5, 3, true)]),
            ("a bridge above it that filters VLANs", true, vec![port.clone(), filtering.clone()]),
            ("a bridge above it that does not", false, vec![port, link(9)]),
            ("itself a bridge that filters VLANs", true, vec![filtering]),
        ] {
            let network = Network { links, ..Network::default() };
            assert_eq!(tells_vlans_apart(&network, &network.links[0]), expected, "{what}");
        }
    }
}
