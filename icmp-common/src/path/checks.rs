//! Checks of a message's content, as far as one packet shows it.
//!
//! Owns the checks of quoted packets, path MTU values and neighbour discovery. `policy.rs` owns the action for a
//! message that fails, which the operator chooses. A check demands no more of a message than its RFC does.

use crate::abi::{CHECKS, ROUTERS, RULE_SLOTS, Settings};
use crate::frame::{Frame, field};
use crate::path::apart::{About, Apart, MAX_START};
use crate::path::reply;
use crate::path::unusual::Unusual;
use crate::reason::Reason;
use crate::rules::Facts;
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::ipv6::Halves;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// A check, which the operator can switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Check {
    /// The packet that an error quotes is one this host has sent.
    Quote,
    /// A path MTU is none that cannot be.
    PathMtu,
    /// Neighbour discovery comes from the link and is well-formed.
    NeighbourDiscovery,
    /// Router advertisements come from the routers named.
    RouterGuard,
}

impl Check {
    /// All checks in the order of their discriminants.
    pub const ALL: &[Self] = &[Self::Quote, Self::PathMtu, Self::NeighbourDiscovery, Self::RouterGuard];

    /// Why a message that fails it is dropped.
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Quote => Reason::BadQuote,
            Self::PathMtu => Reason::BadPathMtu,
            Self::NeighbourDiscovery => Reason::BadDiscovery,
            Self::RouterGuard => Reason::RouterGuard,
        }
    }

    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::PathMtu => "path-mtu",
            Self::NeighbourDiscovery => "neighbour-discovery",
            Self::RouterGuard => "router-guard",
        }
    }
}

const _: () = assert!(Check::ALL.len() == CHECKS);

/// Position of a check's rule counter.
#[inline(always)]
pub const fn check_counter(check: Check) -> u32 {
    RULE_SLOTS as u32 + check as u32
}

/// What is done with a message that fails a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// The check is not made.
    Off,
    /// It is counted and treated like any other.
    Count,
    /// It is counted and discarded.
    Drop,
}

impl Mode {
    /// All modes in the order of their discriminants.
    pub const ALL: &[Self] = &[Self::Off, Self::Count, Self::Drop];

    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Count => "count",
            Self::Drop => "drop",
        }
    }
}

/// Where a check's mode lies in `Settings::checks`.
#[inline(always)]
pub const fn mode_shift(check: Check) -> u32 {
    2 * check as u32
}

/// Checks that a message fails: where each one's mode lies in `Settings::checks`, both bits of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed(u32);

impl Failed {
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// These, and one more where that has failed too.
    #[inline(always)]
    const fn and(self, check: Check, failed: bool) -> Self {
        Self(self.0 | if failed { 3 << mode_shift(check) } else { 0 })
    }

    /// Of modes as in `Settings::checks`, those of the checks that have failed; the others are off.
    #[inline(always)]
    pub(crate) const fn modes(self, checks: u32) -> u32 {
        checks & self.0
    }
}

/// Smallest MTU of IPv4 (RFC 791 section 3.2), below which RFC 1191 section 3 lets no estimate go.
const MIN_MTU_V4: u32 = 68;
/// Smallest MTU of IPv6 (RFC 8200 section 5).
pub(crate) const MIN_MTU_V6: u32 = 1280;
/// Bytes behind the quoted IP header that an error has to carry (RFC 792).
const QUOTED_PAYLOAD: usize = 8;

/// The checks that a message fails, which reports the MTU if it is about one.
#[inline(always)]
pub(crate) fn failed<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    settings: &Settings,
    about: About,
    unusual: Unusual,
    facts: &Facts,
    mtu: Option<u32>,
) -> Failed {
    let start = unusual.start(about);
    let failed = match about.family() {
        Family::V4 => failed_v4(frame, start, facts, mtu),
        Family::V6 => failed_v6(frame, tables, settings, start, facts, mtu),
    };
    let summed = if mtu.is_some() {
        Check::PathMtu
    } else if is_discovery(facts) {
        Check::NeighbourDiscovery
    } else {
        return failed;
    };
    // Last, because it takes longest, and only where that check is not failed anyway.
    let open = failed.modes(3 << mode_shift(summed)) == 0;
    let verifies = if unusual.is_fragment() {
        // The sum of a fragment is that of the whole message. Neighbour discovery is ignored where there are any (RFC 6980 section 5).
        matches!(summed, Check::PathMtu)
    } else {
        !open || reply::message_verifies(frame, tables, about, start)
    };
    failed.and(summed, !verifies)
}

#[inline(always)]
fn is_discovery(facts: &Facts) -> bool {
    matches!(facts.family, Family::V6) && icmpv6::is_neighbour_discovery(facts.icmp_type)
}

/// The MTU that a message reports; `None` where it is not about one.
#[inline(always)]
pub(crate) fn reported_mtu<F: Frame>(frame: &mut F, start: usize, facts: &Facts) -> Option<u32> {
    let (is_about_one, bits) = match facts.family {
        Family::V4 => (
            facts.icmp_type == icmpv4::DESTINATION_UNREACHABLE && facts.code == icmpv4::FRAGMENTATION_NEEDED,
            u16::MAX as u32,
        ),
        Family::V6 => (facts.icmp_type == icmpv6::PACKET_TOO_BIG, u32::MAX),
    };
    if !is_about_one {
        return None;
    }
    let message = frame.window::<{ icmpv6::LEN }>(start)?;
    // The word where ICMPv6 has it ends in that of ICMPv4.
    Some(u32::from_be_bytes(field::<{ icmpv6::MTU }, 4, _>(message)) & bits)
}

/// What of an ICMPv4 message cannot be.
#[inline(always)]
fn failed_v4<F: Frame>(frame: &mut F, start: usize, facts: &Facts, mtu: Option<u32>) -> Failed {
    let Facts { len, icmp_type, destination, .. } = *facts;
    if !icmpv4::is_error(icmp_type) {
        return Failed::NONE;
    }
    // RFC 1191 section 5: old routers say 0. Opaque, or the compiler computes with what it has where there is none, and the verifier refuses.
    let reported = F::opaque(mtu.unwrap_or(0) as usize);
    let failed = Failed::NONE.and(Check::PathMtu, reported != 0 && reported < MIN_MTU_V4 as usize);
    const WINDOW: usize = icmpv4::LEN + ipv4::LEN;
    if len < WINDOW {
        return failed.and(Check::Quote, true);
    }
    let Some(message) = frame.window::<WINDOW>(start) else { return failed };
    let version_ihl = message[icmpv4::LEN + ipv4::VERSION_IHL];
    let header_len = (version_ihl & 0x0f) as usize * 4;
    let total_len = u16::from_be_bytes(field::<{ icmpv4::LEN + ipv4::TOTAL_LEN }, 2, _>(message)) as usize;
    let source = u32::from_be_bytes(field::<{ icmpv4::LEN + ipv4::SOURCE }, 4, _>(message));
    // The quote has what RFC 792 demands, or is the whole packet.
    let quoted =
        if total_len < header_len + QUOTED_PAYLOAD { total_len } else { header_len + QUOTED_PAYLOAD };
    let sane = version_ihl & ipv4::VERSION_MASK == ipv4::VERSION_4_IHL_5 & ipv4::VERSION_MASK
        && header_len >= ipv4::LEN
        && total_len >= header_len
        && len >= icmpv4::LEN + quoted;
    // RFC 792: an error goes to the source of the packet it is about, so both are one address, whatever interface it is on.
    failed.and(Check::Quote, !sane || source as u64 != destination.0)
}

/// What of an ICMPv6 message cannot be, or is from none of the routers named.
#[inline(always)]
fn failed_v6<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    settings: &Settings,
    start: usize,
    facts: &Facts,
    mtu: Option<u32>,
) -> Failed {
    let Facts { len, icmp_type, code, hop_limit, source, destination, .. } = *facts;
    if icmpv6::is_error(icmp_type) {
        //= https://www.rfc-editor.org/rfc/rfc8201#section-4
        //# A node MUST NOT reduce its estimate of the Path MTU below the IPv6
        //# minimum link MTU.
        let failed = Failed::NONE.and(Check::PathMtu, mtu.is_some_and(|mtu| mtu < MIN_MTU_V6));
        const WINDOW: usize = icmpv6::LEN + ipv6::LEN;
        if len < WINDOW {
            return failed.and(Check::Quote, true);
        }
        let Some(message) = frame.window::<WINDOW>(start) else { return failed };
        let version = message[icmpv6::LEN + ipv6::VERSION_CLASS_LABEL] >> 4;
        // As much as fits (RFC 4443 section 2.4(c)): eight bytes behind the header, or the whole packet.
        let payload =
            u16::from_be_bytes(field::<{ icmpv6::LEN + ipv6::PAYLOAD_LEN }, 2, _>(message)) as usize;
        let quoted = if payload < QUOTED_PAYLOAD { payload } else { QUOTED_PAYLOAD };
        // RFC 4443 section 2.2: an error goes to the source of the packet it is about.
        let about = ipv6::halves(field::<{ icmpv6::LEN + ipv6::SOURCE }, 16, _>(message));
        let sane = version as u32 == ipv6::VERSION_6 && len >= WINDOW + quoted && about == destination;
        return failed.and(Check::Quote, !sane);
    }
    if !is_discovery(facts) {
        return Failed::NONE;
    }
    let is_wrong = hop_limit != u8::MAX || code != 0 || !is_valid_discovery(frame, start, facts);
    let failed = Failed::NONE.and(Check::NeighbourDiscovery, is_wrong);
    if icmp_type == icmpv6::ROUTER_ADVERTISEMENT
        && let Some(rules) = tables.rules(settings.rules)
    {
        return failed.and(Check::RouterGuard, !is_named(&rules.routers, source));
    }
    failed
}

/// True for a listener message as hosts and routers send them; every other is ignored: hop limit 1, from a link-local address or, in a report
/// of a host that has none yet, from `::` (RFC 2710 section 3, RFC 3590, RFC 3810 sections 5.1.14, 5.2.13 and 6.2, RFC 4286 section 5).
#[inline(always)]
pub(crate) fn is_listener_message(facts: &Facts) -> bool {
    facts.hop_limit == 1 && (ipv6::is_link_local(facts.source.0) || facts.source == (0, 0))
}

/// True for a router that is named. Unused places are zero, and `::` is no router.
#[inline(always)]
fn is_named(routers: &[[u64; 2]; ROUTERS], source: Halves) -> bool {
    let mut named = false;
    for router in routers {
        named |= *router != [0, 0] && router[0] == source.0 && router[1] == source.1;
    }
    named
}

/// Options looked at; the RFC sets no bound, and what is behind these is the kernel's to judge.
const OPTIONS: usize = 8;

/// RFC 4861 sections 6.1.1, 6.1.2, 7.1.1, 7.1.2 and 8.1, but for hop limit, code and checksum.
#[inline(always)]
fn is_valid_discovery<F: Frame>(frame: &mut F, start: usize, facts: &Facts) -> bool {
    let Facts { len, icmp_type, source, destination, .. } = *facts;
    let from_link = ipv6::is_link_local(source.0);
    let unspecified = source == (0, 0);
    let options = match icmp_type {
        icmpv6::ROUTER_SOLICITATION => 8,
        icmpv6::ROUTER_ADVERTISEMENT if from_link => 16,
        icmpv6::NEIGHBOUR_SOLICITATION => 24,
        icmpv6::NEIGHBOUR_ADVERTISEMENT => 24,
        icmpv6::REDIRECT if from_link => 40,
        _ => return false,
    };
    if len < options {
        return false;
    }
    if options >= 24 {
        let Some(message) = frame.window::<24>(start) else { return false };
        let target = ipv6::halves(field::<8, 16, _>(message));
        if ipv6::is_multicast(target.0) {
            return false;
        }
        let solicited = message[4] & icmpv6::SOLICITED != 0;
        if icmp_type == icmpv6::NEIGHBOUR_ADVERTISEMENT && solicited && ipv6::is_multicast(destination.0) {
            return false;
        }
        if icmp_type == icmpv6::NEIGHBOUR_SOLICITATION && unspecified && !ipv6::is_solicited_node(destination)
        {
            return false;
        }
        if icmp_type == icmpv6::REDIRECT {
            let Some(about) = frame.window::<16>(start + 24) else { return false };
            let about = ipv6::halves(*about);
            if ipv6::is_multicast(about.0) || !(ipv6::is_link_local(target.0) || target == about) {
                return false;
            }
        }
    }
    let (mut at, end) = (start + options, start + len);
    // Opaque, or the compiler writes the loop out.
    let mut left = F::opaque(OPTIONS);
    while left != 0 {
        left -= 1;
        // What is behind the first page is the kernel's to judge too.
        if at >= end || at > MAX_START {
            break;
        }
        at &= MAX_START;
        let Some([kind, units]) = frame.window::<2>(at).copied() else { return false };
        let names_sender =
            kind == icmpv6::SOURCE_LINK_LAYER_ADDRESS && icmp_type != icmpv6::NEIGHBOUR_ADVERTISEMENT;
        at += units as usize * 8;
        // Every option has a length, and ends with the packet at the latest (RFC 4861 section 4.6).
        if units == 0 || at > end || unspecified && names_sender {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_from_nobody_is_of_no_router_that_is_named() {
        let mut routers = [[0; 2]; ROUTERS];
        routers[0] = [0xfe80 << 48, 1];
        assert!(is_named(&routers, (0xfe80 << 48, 1)));
        assert!(!is_named(&routers, (0xfe80 << 48, 2)) && !is_named(&routers, (0, 0)));
    }
}
