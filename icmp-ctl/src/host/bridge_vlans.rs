//! The VLANs of bridges and of their ports, read over rtnetlink.
//!
//! Owns reading them. `bridge_ports.rs` decides what follows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::Result;

use crate::kernel::netlink::{VLAN_HEADER, attributes, bridge_vlans};

/// Numbers of include/uapi/linux/if_bridge.h.
const BRIDGE_VLANDB_ENTRY: u16 = 1;
const BRIDGE_VLANDB_ENTRY_INFO: u16 = 1;
const BRIDGE_VLANDB_ENTRY_RANGE: u16 = 2;
const BRIDGE_VLANDB_ENTRY_STATE: u16 = 3;
const BRIDGE_VLANDB_ENTRY_TUNNEL_INFO: u16 = 4;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;
const BR_STATE_FORWARDING: u8 = 3;
/// What says that a value has attributes in it (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// VLANs of a bridge itself, or of one of its ports, that have all of this in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanRange {
    /// Their identifiers.
    pub ids: RangeInclusive<u16>,
    /// Frames that come in without a tag are of this VLAN.
    pub pvid: bool,
    /// Frames leave without their tag.
    pub untagged: bool,
    /// Frames are taken in and sent (spanning trees for each VLAN), and are put in no tunnel.
    pub forwards: bool,
}

/// The VLANs of all bridges and ports, by the index of the interface.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn read() -> Result<BTreeMap<u32, Vec<VlanRange>>> {
    let mut vlans: BTreeMap<u32, Vec<VlanRange>> = BTreeMap::new();
    for message in bridge_vlans()? {
        let Some((header, body)) = message.split_first_chunk::<VLAN_HEADER>() else { continue };
        let [_, _, _, _, ifindex @ ..] = *header;
        let entries = attributes(body).filter(|(kind, _)| kind & !NESTED == BRIDGE_VLANDB_ENTRY);
        let ranges = vlans.entry(u32::from_ne_bytes(ifindex)).or_default();
        ranges.extend(entries.filter_map(|(_, entry)| range(entry)));
    }
    Ok(vlans)
}

/// What one entry says; `None` where that is nothing.
fn range(entry: &[u8]) -> Option<VlanRange> {
    let word = |bytes: &[u8], at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let value =
        |wanted| attributes(entry).find_map(|(kind, value)| (kind & !NESTED == wanted).then_some(value));
    let info = value(BRIDGE_VLANDB_ENTRY_INFO)?;
    let (flags, first) = (word(info, 0)?, word(info, 2)?);
    let last = value(BRIDGE_VLANDB_ENTRY_RANGE).and_then(|last| word(last, 0)).unwrap_or(first);
    Some(VlanRange {
        ids: first..=last,
        pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
        untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
        forwards: value(BRIDGE_VLANDB_ENTRY_STATE).is_some_and(|state| state == [BR_STATE_FORWARDING])
            && value(BRIDGE_VLANDB_ENTRY_TUNNEL_INFO).is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::bridge_vlan as vlan;
    use crate::kernel::netlink::attribute;

    #[test]
    fn an_entry_says_its_vlans_how_they_are_tagged_and_whether_they_forward() {
        let info = |flags: u16, id: u16| {
            attribute(BRIDGE_VLANDB_ENTRY_INFO, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat())
        };
        let state = |state| attribute(BRIDGE_VLANDB_ENTRY_STATE, &[state]);
        let last = attribute(BRIDGE_VLANDB_ENTRY_RANGE, &200_u16.to_ne_bytes());
        let tunnel = attribute(BRIDGE_VLANDB_ENTRY_TUNNEL_INFO | NESTED, &[]);
        let forwarding = state(BR_STATE_FORWARDING);
        for (what, entry, expected) in [
            ("an own VLAN", [info(6, 1), forwarding.clone()].concat(), Some(vlan(1, "pvid untagged"))),
            ("a tagged one", [info(0, 7), forwarding.clone()].concat(), Some(vlan(7, ""))),
            (
                "several",
                [info(0, 100), last, forwarding.clone()].concat(),
                Some(VlanRange { ids: 100..=200, ..vlan(100, "") }),
            ),
            ("blocked", [info(0, 7), state(4)].concat(), Some(vlan(7, "blocked"))),
            ("of no state", info(0, 7), Some(vlan(7, "blocked"))),
            ("in a tunnel", [info(0, 7), forwarding, tunnel].concat(), Some(vlan(7, "blocked"))),
            ("cut off", vec![8, 0, 1, 0, 6, 0], None),
            ("nothing", Vec::new(), None),
        ] {
            assert_eq!(range(&entry), expected, "{what}");
        }
    }
}
