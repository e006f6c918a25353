//! What the tests beside the steps share: a host, and frames for it.
//!
//! Owns a host with one address of each family, no limit, and no rule or a plain one, and well-formed messages for it. Each test changes the
//! part that it is about.

use core::ops::Range;
use std::boxed::Box;
use std::vec::Vec;

use crate::abi::{
    ADDRESS_BUCKETS, AddressBucket4, AddressBucket6, AddressKind, BUDGETS, CODE_BLOCKS, GATES, Gate,
    INTERFACE_ENTRIES, Interface, LENGTHS, LENGTHS4, LENGTHS6, Level, Limit, MAX_RULES, Mask, NAME_LEN,
    OTHER_MAC, OwnFirst, PEER_PREFIXES, PREFIX_VALUES, PeerPrefix, PrefixKind, ROUTERS, RULES_LENGTH, Rule,
    Rules, SCOPE_SLOTS, SETTINGS_ECHO, SETTINGS_PRESENT, SETTINGS_RULES, SETTINGS_VERIFY_FULL, Scope, Search,
    Search4, Search6, Settings, Step6, TYPE_ENTRIES, TypeRules, VLANS,
};
use crate::checksum::tests::rfc1071;
use crate::frame::{Frame, SliceFrame};
use crate::host_tables::{HostTables, Layouts};
use crate::path;
use crate::path::apart::Apart;
use crate::policy::{Preset, preset_types};
use crate::reason::Reason;
use crate::tables::{insert4, insert6};
use crate::types::Family;
use crate::wire::{ethernet, icmpv4, ipv4, ipv6};

/// The interface that frames come in on.
pub(super) const IFINDEX: u32 = 3;
pub(super) const SLOT: u32 = 1;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Another one of the host's, on the same interface.
pub(super) const SECOND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// 192.0.2.1, the host's.
const OWN4: u32 = 0xc000_0201;
/// 2001:db8::1, the host's.
const OWN6: (u64, u64) = (0x2001_0db8_0000_0000, 1);

/// Where the IP header starts, without a tag.
pub(super) const L3: usize = ethernet::LEN;

/// A frame whose first buffer has less than all of it.
pub(super) struct Cut<'a> {
    pub(super) first: SliceFrame<'a>,
    pub(super) total: usize,
}

impl Apart for Cut<'_> {}

impl Frame for Cut<'_> {
    fn linear_len(&self) -> usize {
        self.first.linear_len()
    }

    fn total_len(&self) -> usize {
        self.total
    }

    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.first.window(offset)
    }
}

std::thread_local! {
    /// For tests that ask no table: making one takes long.
    pub(super) static UNASKED: HostTables = tables(settings(Preset::Host), rules());
}

/// Settings under which every echo request that is in order is answered, and none refused.
pub(super) fn settings(preset: Preset) -> Settings {
    let level = Level {
        limit: Limit::UNLIMITED,
        mask: Mask { v6_high: u64::MAX, v6_low: u64::MAX, v4: u32::MAX, reserved: 0 },
    };
    Settings {
        flags: SETTINGS_PRESENT | SETTINGS_ECHO | SETTINGS_VERIFY_FULL,
        ttl: 64,
        hop_limit: 64,
        // So long that no test sees its end.
        epoch_shift: 38,
        source: level,
        prefix: level,
        peers: 0,
        peer_prefixes: 0,
        rules: 0,
        checks: 0,
        budgets: [Limit::UNLIMITED; BUDGETS],
        batches: [1; BUDGETS],
        preset: preset as u32,
        reserved: 0,
        types: preset_types(preset),
        tracked: [PeerPrefix::default(); PEER_PREFIXES],
    }
}

/// No rules.
pub(super) fn rules() -> Box<Rules> {
    let v4 = Search4 { steps: [0; LENGTHS4], outermost: 0, reserved: 0 };
    let v6 = Search6 { steps: [Step6::default(); LENGTHS6], outermost: 0, reserved: 0 };
    Box::new(Rules {
        conditions: 0,
        count: 0,
        audited: 0,
        any_source: 0,
        any_destination: 0,
        types: [TypeRules::default(); TYPE_ENTRIES],
        codes: [[0; 256]; CODE_BLOCKS],
        hop_limits: [0; 256],
        lengths: [0; LENGTHS],
        vlans: [0; VLANS],
        rules: [Rule::default(); MAX_RULES],
        names: [[0; NAME_LEN]; MAX_RULES],
        routers: [[0; 2]; ROUTERS],
        search: Search {
            multiplier4: 1,
            multiplier6: 1,
            shift4: 63,
            shift6: 63,
            v4: [v4; PrefixKind::ALL.len()],
            v6: [v6; PrefixKind::ALL.len()],
        },
        prefix_values: [0; PREFIX_VALUES],
        gates: [Gate::NONE; GATES],
    })
}

/// Settings as above and one rule, for messages of these lengths whatever they are.
pub(super) fn rule_for_lengths(lengths: Range<usize>, rule: Rule) -> (Settings, Box<Rules>) {
    let mut settings = settings(Preset::Host);
    settings.flags |= SETTINGS_RULES;
    let mut rules = rules();
    (rules.count, rules.any_source, rules.any_destination) = (1, 1, 1);
    rules.conditions = RULES_LENGTH;
    rules.types.fill(TypeRules { rules: 1, block: 0, reserved: 0 });
    rules.lengths[lengths].fill(1);
    rules.rules[0] = rule;
    (settings, rules)
}

/// The host's tables.
pub(super) fn tables(settings: Settings, rules: Box<Rules>) -> HostTables {
    let mut addresses4 = vec![AddressBucket4::default(); ADDRESS_BUCKETS as usize];
    let mut addresses6 = vec![AddressBucket6::default(); ADDRESS_BUCKETS as usize];
    for (scope, kind) in [(Scope::new(SLOT, 0), AddressKind::Own), (Scope::ANYWHERE, AddressKind::Anywhere)] {
        assert!(insert4(&mut addresses4, OWN4, scope, kind));
        assert!(insert6(&mut addresses6, OWN6.0, OWN6.1, scope, kind));
    }
    let other = (OTHER_MAC, ethernet::address(SECOND_MAC));
    assert!(insert6(&mut addresses6, other.0, other.1, Scope::new(SLOT, 0), AddressKind::Present));
    let mut tables = HostTables::new(Layouts {
        settings,
        rules,
        prefixes4: Vec::new(),
        prefixes6: Vec::new(),
        addresses4,
        addresses6,
        own_first: vec![OwnFirst::default(); SCOPE_SLOTS as usize],
        lines: 1 << 13,
        secret: core::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    });
    const { assert!(IFINDEX < INTERFACE_ENTRIES) };
    tables.add_interface(interface());
    tables
}

/// The interface's entry.
pub(super) fn interface() -> Interface {
    Interface { ifindex: IFINDEX, slot: SLOT, mac: ethernet::address(MAC), flags: 0, mtu4: 0, mtu6: 0 }
}

/// What becomes of a frame.
pub(super) fn send(tables: &HostTables, frame: &mut [u8]) -> Reason {
    path::process(&mut SliceFrame::new(frame), tables, IFINDEX).reason
}

/// An IPv4 echo request of `len` bytes of ICMP from a source, for the host.
pub(super) fn echo4(source: u32, len: usize) -> Vec<u8> {
    message(Family::V4, source, icmpv4::ECHO_REQUEST, 0, len)
}

/// Sets the checksums of an IPv4 message right again.
pub(super) fn repair4(frame: &mut [u8]) {
    let (header, icmp) = frame[L3..].split_at_mut(ipv4::LEN);
    header[ipv4::CHECKSUM..ipv4::SOURCE].fill(0);
    let sum = rfc1071(header);
    header[ipv4::CHECKSUM..ipv4::SOURCE].copy_from_slice(&sum.to_be_bytes());
    let len = u16::from_be_bytes([header[2], header[3]]) as usize - ipv4::LEN;
    icmp[2..4].fill(0);
    let sum = rfc1071(&icmp[..len]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// A message for the host with everything in order. Its data are not zero, and four bytes follow it that do not belong to it.
pub(super) fn message(family: Family, source: u32, icmp_type: u8, code: u8, len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(MAC);
    frame.extend([2, 0, 0, 0, 0, 2]);
    let mut icmp: Vec<u8> = (0..len).map(|i| (i * 37 + 11) as u8).collect();
    icmp[..4].copy_from_slice(&[icmp_type, code, 0, 0]);
    let pseudo = match family {
        Family::V4 => {
            frame.extend(ethernet::IPV4.to_be_bytes());
            let total = (ipv4::LEN + len) as u16;
            let mut header = [0; ipv4::LEN];
            header[..4].copy_from_slice(&[0x45, 0, (total >> 8) as u8, total as u8]);
            header[ipv4::TTL] = 60;
            header[ipv4::PROTOCOL] = ipv4::ICMP;
            header[ipv4::SOURCE..ipv4::DESTINATION].copy_from_slice(&source.to_be_bytes());
            header[ipv4::DESTINATION..].copy_from_slice(&OWN4.to_be_bytes());
            let sum = rfc1071(&header);
            header[ipv4::CHECKSUM..ipv4::SOURCE].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
            Vec::new()
        }
        Family::V6 => {
            frame.extend(ethernet::IPV6.to_be_bytes());
            let mut header = [0; ipv6::LEN];
            header[0] = 0x60;
            header[ipv6::PAYLOAD_LEN..ipv6::NEXT_HEADER].copy_from_slice(&(len as u16).to_be_bytes());
            header[ipv6::NEXT_HEADER] = ipv6::ICMPV6;
            header[ipv6::HOP_LIMIT] = 60;
            header[ipv6::SOURCE..ipv6::SOURCE + 8].copy_from_slice(&OWN6.0.to_be_bytes());
            header[ipv6::DESTINATION - 4..ipv6::DESTINATION].copy_from_slice(&source.to_be_bytes());
            header[ipv6::DESTINATION..ipv6::DESTINATION + 8].copy_from_slice(&OWN6.0.to_be_bytes());
            header[ipv6::DESTINATION + 8..].copy_from_slice(&OWN6.1.to_be_bytes());
            frame.extend(header);
            let mut pseudo = header[ipv6::SOURCE..].to_vec();
            pseudo.extend((len as u32).to_be_bytes());
            pseudo.extend((ipv6::ICMPV6 as u32).to_be_bytes());
            pseudo
        }
    };
    let sum = rfc1071(&[pseudo, icmp.clone()].concat());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend(icmp);
    frame.extend([0xa5; 4]);
    frame
}
