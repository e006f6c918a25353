//! The link layer: destination and source of a frame, and what follows its VLAN tags.
//!
//! Owns every check of the Ethernet header and of VLAN tags. It does not own which VLANs exist (`own.rs`).

use crate::frame::{Frame, field};
use crate::outcome::{Step, end};
use crate::path::apart::{About, Apart, MAX_TAGS, TAGS};
use crate::path::unusual::Unusual;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::types::NO_IP_ROW;
use crate::wire::ethernet;

use crate::abi::Scope;

/// What the link layer says of a frame.
pub(crate) struct Link {
    /// Where the IP header starts.
    pub(crate) l3: usize,
    /// VLAN as [`Scope`] counts it; 0 is untagged or priority-tagged.
    pub(crate) vlan: u32,
    pub(crate) ether_type: u16,
    /// [`Unusual::USUAL`], or the reason why nothing in this frame is answered.
    pub(crate) unusual: Unusual,
}

/// Reads the EtherType, through all tags.
#[inline(always)]
pub(crate) fn link<F: Apart, T: Tables>(frame: &mut F, tables: &T) -> Step<Link> {
    let Some(header) = frame.window::<{ ethernet::LEN }>(0) else { return end(Reason::Truncated, NO_IP_ROW) };
    let ether_type = u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header));
    if !ethernet::is_tag(ether_type) {
        return Ok(Link { l3: ethernet::LEN, vlan: 0, ether_type, unusual: Unusual::USUAL });
    }
    let Some(tag) = frame.window::<{ ethernet::TAG_LEN }>(ethernet::LEN) else {
        return end(Reason::Truncated, NO_IP_ROW);
    };
    let (id, inner_type) = id_and_type(tag);
    if !ethernet::is_tag(inner_type) {
        let l3 = ethernet::LEN + ethernet::TAG_LEN;
        return Ok(Link {
            l3,
            vlan: single(ether_type, id),
            ether_type: inner_type,
            unusual: Unusual::USUAL,
        });
    }
    let tags = frame.apart::<TAGS, T>(tables, About::NOTHING, [0; 2]);
    if tags == CUT_TAGS {
        return end(Reason::Truncated, NO_IP_ROW);
    }
    Ok(Link {
        l3: ethernet::LEN + (tags as usize >> 40 & MAX_TAGS) * ethernet::TAG_LEN,
        vlan: (tags >> 16) as u32 & NO_VLAN,
        ether_type: tags as u16,
        unusual: if tags >> 48 == 0 { Unusual::USUAL } else { Unusual::of(Reason::UnknownVlan) },
    })
}

/// VLAN identifier of a tag, and the EtherType behind it.
#[inline(always)]
fn id_and_type(tag: &[u8; ethernet::TAG_LEN]) -> (u32, u16) {
    let control = u16::from_be_bytes(field::<0, 2, _>(tag));
    ((control & ethernet::VLAN_ID_MASK) as u32, u16::from_be_bytes(field::<2, 2, _>(tag)))
}

/// The VLAN of a frame with one tag, of which VLAN 0 is none.
#[inline(always)]
fn single(ether_type: u16, id: u32) -> u32 {
    let service = if ether_type == ethernet::SERVICE_TAG { Scope::SERVICE_ONLY << 12 } else { 0 };
    if id == 0 { 0 } else { id | service }
}

/// A VLAN that is never in the table: its inner identifier, which is reserved, marks a single service tag, and the outer one is reserved too.
const NO_VLAN: u32 = 0xff_ffff;

/// In the place of what [`tags`] returns: the frame ends within its tags.
const CUT_TAGS: u64 = u64::MAX;

/// The tags of a frame, through as many as the kernel takes for none: the EtherType behind them in bits 0 to 15, the VLAN in 16 to 39, how
/// many they are in 40 to 47, and in 48 whether any is of VLAN 0; or [`CUT_TAGS`]. Behind the last one that is looked at there is no IP
/// for us, nor behind a third one with a VLAN.
#[inline(always)]
pub(crate) fn tags<F: Frame>(frame: &mut F) -> u64 {
    let (mut tags, mut ether_type) = (0, ethernet::CUSTOMER_TAG);
    // Of those that are not of VLAN 0 the identifier, and in bit 12 whether it is a service tag; 16 bits each, the last one lowest.
    let mut vlans = 0;
    // Opaque, or the compiler writes the loop out.
    let mut left = F::opaque(MAX_TAGS);
    while left != 0 {
        left -= 1;
        let at = ethernet::ETHER_TYPE + tags * ethernet::TAG_LEN;
        let Some(tag) = frame.window::<{ 2 + ethernet::TAG_LEN }>(at) else { return CUT_TAGS };
        // Bit 3 tells the two kinds of tags from each other. Opaque, and not OR below: what the verifier knows of a number that differs with
        // the way here, it follows by itself.
        let service = F::opaque(tag[1] as usize) as u64 >> 3 & 1;
        ether_type = u16::from_be_bytes(field::<0, 2, _>(tag));
        if !ethernet::is_tag(ether_type) {
            break;
        }
        tags += 1;
        let id = (u16::from_be_bytes(field::<2, 2, _>(tag)) & ethernet::VLAN_ID_MASK) as u64;
        if id != 0 {
            vlans = F::opaque((vlans as usize) << 16) as u64 ^ service << 12 ^ id;
        }
    }
    let [inner, outer] = [vlans as u32 & 0xffff, (vlans >> 16) as u32 & 0xffff];
    let id = |vlan| vlan & ethernet::VLAN_ID_MASK as u32;
    let vlan = if outer == 0 {
        single(if inner == id(inner) { ethernet::CUSTOMER_TAG } else { ethernet::SERVICE_TAG }, id(inner))
    } else if id(inner) == Scope::SERVICE_ONLY {
        NO_VLAN
    } else {
        id(outer) | id(inner) << 12
    };
    if vlans >> 32 != 0 {
        ether_type = ethernet::CUSTOMER_TAG;
    }
    let any_zero = tags > (inner != 0) as usize + (outer != 0) as usize;
    (any_zero as u64) << 48 | (tags as u64) << 40 | (vlan as u64) << 16 | ether_type as u64
}

/// Whom a frame is for on the link.
#[inline(always)]
pub(crate) fn destination_mac<F: Frame>(frame: &mut F) -> Option<u64> {
    let header = frame.window::<{ ethernet::LEN }>(0)?;
    Some(ethernet::first_six(field::<{ ethernet::DESTINATION }, 8, _>(header)))
}

/// Who has sent a frame on the link.
#[inline(always)]
pub(crate) fn source_mac<F: Frame>(frame: &mut F) -> Option<u64> {
    let header = frame.window::<{ ethernet::LEN }>(0)?;
    Some(ethernet::address(field::<{ ethernet::SOURCE }, 6, _>(header)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::SliceFrame;
    use crate::path::testing::{L3, UNASKED, message};
    use crate::types::Family;

    /// What [`link`] says of a frame with these tags: where the IP header starts, the VLAN, and whether anything may be answered.
    fn tagged(tags: &[(u16, u16)]) -> Option<(usize, u32, bool)> {
        let mut frame = message(Family::V4, 0xc633_6405, 8, 0, 16);
        let bytes = tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        frame.splice(12..12, bytes);
        let link = UNASKED.with(|tables| link(&mut SliceFrame::new(&mut frame), tables)).ok()?;
        (link.ether_type == ethernet::IPV4).then_some((link.l3, link.vlan, link.unusual == Unusual::USUAL))
    }

    #[test]
    fn tags_of_vlan_0_count_for_none_and_beside_others_nothing_is_answered() {
        const C: u16 = 0x8100;
        const S: u16 = 0x88a8;
        for (tags, vlan, is_usual) in [
            (&[][..], 0, true),
            (&[(C, 0xe000)], 0, true),
            (&[(C, 7)], 7, true),
            (&[(S, 7)], 0xfff_007, true),
            (&[(C, 7), (C, 9)], 0x009_007, true),
            (&[(S, 7), (C, 9)], 0x009_007, true),
            (&[(S, 7), (C, 0xfff)], 0xff_ffff, true),
            (&[(C, 0), (C, 0)], 0, false),
            (&[(C, 0), (C, 7)], 7, false),
            (&[(C, 0), (S, 7)], 0xfff_007, false),
            (&[(S, 7), (C, 0)], 0xfff_007, false),
            (&[(C, 7), (C, 0), (C, 9)], 0x009_007, false),
            (&[(C, 0), (S, 7), (C, 0), (C, 9), (C, 0)], 0x009_007, false),
            (&[(C, 0); 62], 0, false),
        ] {
            let l3 = L3 + 4 * tags.len();
            assert_eq!(tagged(tags), Some((l3, vlan, is_usual)), "{tags:x?}");
        }
        assert_eq!(tagged(&[(C, 1), (C, 2), (C, 3)]), None, "three VLANs");
        assert_eq!(tagged(&[(C, 1), (C, 0), (C, 2), (C, 0), (C, 3), (C, 4)]), None, "four VLANs");
        assert_eq!(tagged(&[(C, 0); 64]), None, "more tags than are looked at");
    }
}
