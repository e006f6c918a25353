//! The path MTU towards a sender: that of the link, or the smallest one that routers have reported recently.
//!
//! Owns the word in which reports are kept. The route of an answer is not known here, so an answer that is longer than the MTU of any path is
//! passed to the kernel, which knows each path (docs/adr/0021-path-mtu.md). It does not own which report is believed (`policy.rs`).

use crate::abi::{Interface, Settings};
use crate::limiter::Shared;
use crate::path::checks::MIN_MTU_V6;
use crate::tables::Tables;
use crate::types::Family;

/// Epochs of [`crate::known_sources`] for which a report holds: ten minutes (RFC 1191 section 6.3, RFC 8201 section 5.3) with ticks of 1 or 4 ms.
const LIFETIME_EPOCHS: u64 = 147;

/// An MTU and until when it holds. Layout: the MTU in bits 0 to 15, a tick in 16 to 63; 0 before there was a report.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    #[inline(always)]
    const fn new(mtu: u64, until: u64) -> Self {
        let mtu = if mtu < LONGEST { mtu } else { LONGEST };
        Self(until << 16 | mtu)
    }

    #[inline(always)]
    const fn mtu(self) -> u64 {
        self.0 & LONGEST
    }

    #[inline(always)]
    const fn until(self) -> u64 {
        self.0 >> 16
    }
}

/// The least that the kernel believes of IPv4 (`net.ipv4.route.min_pmtu` as it comes, net/ipv4/route.c): it sends fragments of that length, and
/// no smaller ones, whatever is reported. Who forges a report is so kept from the answers to pings of the usual sizes.
const LEAST_BELIEVED: u32 = 552;

/// Bytes of the longest IPv4 packet.
const LONGEST: u64 = u16::MAX as u64;

/// True where an IP packet of `len` bytes is longer than the MTU of the link that it came in on, or than one that was reported of late. For IPv6
/// that is 1280 at least, whatever IPv4 has been told.
#[inline(always)]
pub(crate) fn is_exceeded<T: Tables>(tables: &T, interface: &Interface, len: usize, family: Family) -> bool {
    let of_link = match family {
        Family::V4 => interface.mtu4,
        Family::V6 => interface.mtu6,
    };
    if of_link != 0 && len > of_link as usize {
        return true;
    }
    if matches!(family, Family::V6) && len <= MIN_MTU_V6 as usize {
        return false;
    }
    let Some(shared) = tables.path_mtu() else { return false };
    let word = Word(shared.load());
    len as u64 > word.mtu() && tables.ticks() < word.until()
}

/// The MTU that a report means. RFC 1191 section 5: old routers say 0, which can be any.
#[inline(always)]
pub(crate) const fn at_least(mtu: u32) -> u32 {
    if mtu < LEAST_BELIEVED { LEAST_BELIEVED } else { mtu }
}

/// Notes a report. It makes the smallest MTU of those that still hold last as long as itself.
#[inline(always)]
pub(crate) fn note<T: Tables>(tables: &T, settings: &Settings, mtu: u32) {
    let mtu = mtu as u64;
    let ticks = tables.ticks();
    let until = ticks + (LIFETIME_EPOCHS << (settings.epoch_shift & 31));
    let Some(shared) = tables.path_mtu() else { return };
    let old = Word(shared.load());
    let smallest = if ticks < old.until() && old.mtu() < mtu { old.mtu() } else { mtu };
    // Whoever is faster has noted a report just now; the next one of the same router follows.
    shared.swap(old.0, Word::new(smallest, until).0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_tables::HostTables;
    use crate::path::testing;
    use crate::policy::Preset;

    /// A host at a tick, with epochs of 1,024 ticks.
    fn host(tick: u64) -> (HostTables, Settings) {
        let settings = Settings { epoch_shift: 10, ..testing::settings(Preset::Host) };
        let tables = testing::tables(settings, testing::rules());
        tables.set_ticks(tick);
        (tables, settings)
    }

    #[test]
    fn the_smallest_report_that_still_holds_lasts_as_long_as_the_last_one() {
        let (tables, settings) = host(1 << 32);
        let lifetime = LIFETIME_EPOCHS << settings.epoch_shift;
        assert!(
            !is_exceeded(&tables, &testing::interface(), 65_535, Family::V4),
            "nobody has reported anything"
        );
        note(&tables, &settings, 1280);
        tables.set_ticks((1 << 32) + lifetime - 1);
        note(&tables, &settings, 1400);
        assert!(
            is_exceeded(&tables, &testing::interface(), 1281, Family::V4)
                && !is_exceeded(&tables, &testing::interface(), 1280, Family::V4)
        );
        tables.set_ticks((1 << 32) + 2 * lifetime - 2);
        assert!(
            is_exceeded(&tables, &testing::interface(), 1281, Family::V6),
            "for as long as the second report"
        );
        tables.set_ticks((1 << 32) + 2 * lifetime - 1);
        assert!(!is_exceeded(&tables, &testing::interface(), 1281, Family::V6));
        note(&tables, &settings, 1400);
        assert!(
            is_exceeded(&tables, &testing::interface(), 1401, Family::V4)
                && !is_exceeded(&tables, &testing::interface(), 1400, Family::V4)
        );
    }

    #[test]
    fn a_report_means_552_bytes_at_least_and_1280_for_ipv6() {
        let (tables, settings) = host(1 << 32);
        assert_eq!([0, 68, 551, 552, 1500].map(at_least), [552, 552, 552, 552, 1500]);
        note(&tables, &settings, at_least(0));
        for (len, family, exceeded) in [
            (552, Family::V4, false),
            (553, Family::V4, true),
            (1280, Family::V6, false),
            (1281, Family::V6, true),
        ] {
            assert_eq!(
                is_exceeded(&tables, &testing::interface(), len, family),
                exceeded,
                "{len} bytes of {family:?}"
            );
        }
    }

    #[test]
    fn an_answer_longer_than_what_the_link_carries_is_the_kernels() {
        let (tables, _settings) = host(1 << 32);
        let interface = Interface { mtu4: 1000, mtu6: 1280, ..testing::interface() };
        for (len, family, exceeded) in [
            (1000, Family::V4, false),
            (1001, Family::V4, true),
            (1280, Family::V6, false),
            (1281, Family::V6, true),
        ] {
            assert_eq!(is_exceeded(&tables, &interface, len, family), exceeded, "{len} bytes of {family:?}");
        }
    }

    #[test]
    fn an_mtu_longer_than_any_packet_is_no_limit() {
        let (tables, settings) = host(1 << 32);
        note(&tables, &settings, u32::MAX);
        assert!(!is_exceeded(&tables, &testing::interface(), 65_535, Family::V4));
    }
}
