//! Tracking of answered peers.
//!
//! Owns which answers are recorded, and the lock of a bucket. `peers.rs` at the root owns what is recorded, and which entry a new peer may
//! replace.

use crate::abi::{PEER_PREFIXES, Settings};
use crate::frame::{Frame, field};
use crate::limiter::Shared;
use crate::path::apart::{About, Apart};
use crate::path::limit::{hash, secret};
use crate::path::parse;
use crate::peers::{Request, is_in, least_mask, mapped, note};
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::ipv6::Halves;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// Notes the request that a frame was, which is the answer to it by now; 1 where it was noted.
#[inline(always)]
pub(crate) fn track<F: Apart, T: Tables>(frame: &mut F, tables: &T, about: &About) -> u64 {
    let Some(settings) = tables.settings(about.settings()) else { return 0 };
    let Some(answer) = parse::ip_again(frame, *about) else { return 0 };
    let Some([identifier, sequence]) = echo(frame, about) else { return 0 };
    let family = about.family();
    let as_v6 = |address: Halves| match family {
        Family::V4 => mapped(address.0 as u32),
        Family::V6 => address,
    };
    // The answer goes to who has asked.
    let request = Request {
        source: as_v6(answer.destination),
        destination: as_v6(answer.source),
        identifier,
        sequence,
    };
    if !is_tracked::<F>(settings, request.source, family) {
        return 0;
    }
    let by_source = hash(&secret::<0, T>(tables, family), family, answer.destination);
    let by_destination = hash(&secret::<1, T>(tables, family), family, answer.source);
    let index = mixed(by_source.wrapping_add(by_destination)) >> (tables.peer_shift() & 63);
    let Some((version, mut peers)) = tables.peer_bucket(index as u32) else { return 0 };
    let now = tables.monotonic_ns();
    let Some(locked) = lock(&version) else { return 0 };
    let peers = &mut *peers;
    let is_noted = note::<F>(&mut peers.places, &request, now);
    peers.without_place = peers.without_place.wrapping_add(!is_noted as u64);
    // A swap, because what is behind it may not come before it.
    version.swap(locked, locked.wrapping_add(1));
    is_noted as u64
}

/// A hash in which every bit counts for the highest ones. Those who ping are often neighbours, and sums of products of neighbours lie at equal
/// distances, which may be multiples of a bucket. The finalizer of MurmurHash3 (Appleby).
#[inline(always)]
const fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

/// Takes the lock of a bucket; the version it has then. `None` where another CPU has it for longer than it is waited for, which leaves a request out:
/// a source's frames mostly come on one CPU.
#[inline(always)]
fn lock<S: Shared>(version: &S) -> Option<u64> {
    let mut tries = S::tries();
    while tries != 0 {
        tries -= 1;
        let free = version.load() & !1;
        if version.swap(free, free.wrapping_add(1)) {
            return Some(free.wrapping_add(1));
        }
    }
    None
}

/// Whether who has sent a request is tracked.
#[inline(always)]
fn is_tracked<F: Frame>(settings: &Settings, source: Halves, family: Family) -> bool {
    if settings.peer_prefixes == 0 {
        return true;
    }
    let least_mask = least_mask(family);
    let mut left = F::opaque(PEER_PREFIXES);
    while left != 0 {
        left -= 1;
        let prefix = &settings.tracked[left & (PEER_PREFIXES - 1)];
        let is_used = (left as u32) < settings.peer_prefixes;
        if is_used && is_in(source, least_mask, prefix) {
            return true;
        }
    }
    false
}

/// Identifier and sequence number, read as big-endian numbers.
#[inline(always)]
fn echo<F: Frame>(frame: &mut F, about: &About) -> Option<[u16; 2]> {
    let [a, b, c, d] = match about.family() {
        Family::V4 => field::<{ ipv4::LEN + icmpv4::IDENTIFIER }, 4, _>(
            frame.window::<{ ipv4::WITH_ICMP }>(about.l3())?,
        ),
        Family::V6 => field::<{ ipv6::LEN + icmpv6::IDENTIFIER }, 4, _>(
            frame.window::<{ ipv6::WITH_ICMP }>(about.l3())?,
        ),
    };
    Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::abi::{Peer, PeerPrefix, SETTINGS_PEERS};
    use crate::host_tables::HostTables;
    use crate::path::testing::{self, L3, echo4, message, repair4, send};
    use crate::policy::Preset;
    use crate::reason::Reason;

    /// 198.51.100.1
    const PEER: u32 = 0xc633_6401;
    /// When the tests begin.
    const NOW: u64 = 1 << 40;

    fn tables(change: impl FnOnce(&mut Settings)) -> HostTables {
        let mut settings = testing::settings(Preset::Host);
        settings.flags |= SETTINGS_PEERS;
        change(&mut settings);
        let tables = testing::tables(settings, testing::rules());
        tables.set_monotonic_ns(NOW);
        tables
    }

    fn tracked(tables: &HostTables) -> Vec<Peer> {
        tables.peers().flat_map(|(_, peers)| peers.places).filter(|peer| peer.first_at != 0).collect()
    }

    #[test]
    fn who_is_answered_is_noted_with_whom_it_has_asked_and_by_which_numbers() {
        let tables = tables(|_| {});
        let mut v4 = echo4(PEER, 64);
        v4[L3 + ipv4::LEN + icmpv4::IDENTIFIER..][..4].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        repair4(&mut v4);
        assert_eq!(send(&tables, &mut v4), Reason::Answered);
        let peer = tracked(&tables)[0];
        assert_eq!((peer.source_high, peer.source_low), mapped(PEER));
        assert_eq!((peer.destination_high, peer.destination_low), mapped(0xc000_0201));
        assert_eq!((peer.identifier, peer.highest), (0x1234, 0x5678));
        assert_eq!((peer.first_at, peer.last_at, peer.received, peer.expected), (NOW, NOW, 1, 1));

        let tables = self::tables(|_| {});
        assert_eq!(send(&tables, &mut message(Family::V6, 7, icmpv6::ECHO_REQUEST, 0, 64)), Reason::Answered);
        let peer = tracked(&tables)[0];
        assert_eq!((peer.source_high, peer.source_low), (0x2001_0db8_0000_0000, 7));
        assert_eq!((peer.destination_high, peer.destination_low), (0x2001_0db8_0000_0000, 1));
    }

    #[test]
    fn nobody_is_noted_who_is_not_answered_or_where_nobody_is_tracked() {
        let on = tables(|_| {});
        let mut with_code = message(Family::V4, PEER, icmpv4::ECHO_REQUEST, 1, 64);
        assert_eq!(send(&on, &mut with_code), Reason::EchoCode);
        let off = tables(|settings| settings.flags &= !SETTINGS_PEERS);
        assert_eq!(send(&off, &mut echo4(PEER, 64)), Reason::Answered);
        assert_eq!((tracked(&on), tracked(&off)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn where_prefixes_are_named_only_sources_in_them_are_noted() {
        let tables = tables(|settings| {
            // 198.51.100.0/30
            let (high, low) = mapped(PEER & !3);
            settings.tracked[1] = PeerPrefix { high, low, mask_high: u64::MAX, mask_low: !3 };
            settings.tracked[0] = PeerPrefix { high: 1, low: 0, mask_high: u64::MAX, mask_low: 0 };
            // What is behind the number is not looked at, and would be everybody.
            settings.tracked[2] = PeerPrefix::default();
            settings.peer_prefixes = 2;
        });
        for source in [PEER, PEER + 1, PEER + 2, PEER + 3, PEER + 4] {
            assert_eq!(send(&tables, &mut echo4(source, 64)), Reason::Answered);
        }
        let mut sources: Vec<_> = tracked(&tables).iter().map(|peer| peer.source_low as u32).collect();
        sources.sort_unstable();
        assert_eq!(sources, [PEER, PEER + 1, PEER + 2]);
    }

    #[test]
    fn a_prefix_has_no_sources_of_the_other_family() {
        let sources = |prefix: PeerPrefix| {
            let tables = tables(|settings| {
                settings.tracked[0] = prefix;
                settings.peer_prefixes = 1;
            });
            let mut v6 = message(Family::V6, 7, icmpv6::ECHO_REQUEST, 0, 64);
            assert_eq!(send(&tables, &mut echo4(PEER, 64)), Reason::Answered);
            assert_eq!(send(&tables, &mut v6), Reason::Answered);
            tracked(&tables).iter().map(|peer| (peer.source_high, peer.source_low)).collect::<Vec<_>>()
        };
        // ::/0 and ::/3, in which 2001:db8::7 is not.
        let everybody = PeerPrefix::default();
        assert_eq!(sources(everybody), [(0x2001_0db8_0000_0000, 7)]);
        assert_eq!(sources(PeerPrefix { mask_high: 7 << 61, ..everybody }), []);
        // 0.0.0.0/0
        let (high, low) = mapped(0);
        let all4 = PeerPrefix { high, low, mask_high: u64::MAX, mask_low: u64::MAX << 32 };
        assert_eq!(sources(all4), [mapped(PEER)]);
    }

    #[test]
    fn the_version_of_a_bucket_is_even_again_and_another_one() {
        let tables = tables(|_| {});
        for n in 1..=3 {
            assert_eq!(send(&tables, &mut echo4(PEER, 64)), Reason::Answered);
            let versions: Vec<_> = tables.peers().map(|(version, _)| version).filter(|v| *v != 0).collect();
            assert_eq!(versions, [2 * n]);
        }
    }

    #[test]
    fn answers_to_who_finds_no_place_are_counted() {
        let tables = tables(|_| {});
        let all = 4 * crate::abi::PEER_BUCKETS + 100;
        for source in 0..all {
            assert_eq!(send(&tables, &mut echo4(PEER + source, 64)), Reason::Answered);
        }
        let without: u64 = tables.peers().map(|(_, peers)| peers.without_place).sum();
        assert_eq!(tracked(&tables).len() as u64 + without, u64::from(all));
        assert!(without >= 100, "{without}");
    }
}
