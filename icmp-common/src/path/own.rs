//! Whether a packet is for the host, for a group of the host, or for another host; and whether its source is another host.
//!
//! Owns every check of MAC addresses, VLANs and IP addresses that decides whether a packet is touched at all. It does not own the tables
//! (`tables.rs`) or which addresses a host has (icmp-ctl). The usual packet, for the first address of its interface and from an address that is
//! in no table, is recognized by a few comparisons; for all others the tables are searched apart.

use crate::abi::{
    AddressKind, INTERFACE_MAC_SHARED, INTERFACE_SHARED, OTHER_MAC, OwnFirst, PrefixKind, Scope, own_bit,
};
use crate::frame::Frame;
use crate::outcome::{Step, end};
use crate::path::Ingress;
use crate::path::apart::{About, Apart, LONGEST, OWN};
use crate::path::link::{self, Link};
use crate::path::parse::{self, Headers, Ip};
use crate::reason::Reason;
use crate::tables::{self, Tables, kind_bits};
use crate::types::Family;
use crate::wire::ipv6::Halves;
use crate::wire::{ethernet, ipv4, ipv6};

use crate::abi::{GATE_CHECKED, GATE_DROPS, GATE_UNTIL, SETTINGS_OWN_HOST, SETTINGS_VIPS, gate_position};

/// Whom a message for this host is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Target {
    /// One of the host's unicast addresses, or a VIP.
    Own,
    /// The same, from a source that cannot be answered.
    Unanswerable,
    /// The same, from an address of the host's own.
    FromOwn,
    /// A unicast address that the host has on another interface, and that only the kernel answers on any; or one of the host's in a frame to
    /// another MAC address of its own (docs/adr/0008-address-ownership.md).
    Elsewhere,
    /// A broadcast or multicast address whose members include the host.
    Group,
    /// One of the host's unicast addresses, in a frame to a broadcast or multicast MAC address.
    LinkGroup,
    /// A VIP that is not healthy, whose echo requests are passed.
    Unhealthy,
    /// The same, whose echo requests are dropped.
    UnhealthyDrop,
}

#[cfg(feature = "host")]
impl Target {
    /// All of them in the order of their discriminants.
    pub const ALL: [Self; REASONS as usize] = [
        Self::Own,
        Self::Unanswerable,
        Self::FromOwn,
        Self::Elsewhere,
        Self::Group,
        Self::LinkGroup,
        Self::Unhealthy,
        Self::UnhealthyDrop,
    ];
}

/// Reasons come behind the targets in the number that [`look_up`] returns.
const REASONS: u64 = 8;

/// Whom a packet is addressed to, or why it is not touched.
#[inline(always)]
pub(crate) fn target<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    ingress: &Ingress<'_>,
    link: &Link,
    headers: &Headers,
    family: Family,
) -> Step<Target> {
    if link.vlan == 0
        && link::destination_mac(frame) == Some(ingress.interface.mac)
        && is_first(tables, ingress, family, headers)
    {
        return Ok(Target::Own);
    }
    let flags = ingress.interface.flags | ingress.settings.flags & SETTINGS_OWN_HOST;
    let interface = [ingress.interface.mac, flags as u64];
    match frame.apart::<OWN, T>(tables, ingress.about(link, headers, family), interface) {
        0 => Ok(Target::Own),
        1 => Ok(Target::Unanswerable),
        2 => Ok(Target::FromOwn),
        3 => Ok(Target::Elsewhere),
        4 => Ok(Target::Group),
        5 => Ok(Target::LinkGroup),
        6 => Ok(Target::Unhealthy),
        7 => Ok(Target::UnhealthyDrop),
        reason => end(Reason::from_number((reason - REASONS) as u8), parse::row(family)),
    }
}

/// True for a packet to the first address of an interface, from an ordinary source that is in no table.
#[inline(always)]
fn is_first<T: Tables>(tables: &T, ingress: &Ingress<'_>, family: Family, headers: &Headers) -> bool {
    let Some(first) = tables.own_first(ingress.addresses, ingress.interface.slot) else { return false };
    let OwnFirst { v4, v6, any4, any6, .. } = first;
    match family {
        Family::V4 => {
            let source = headers.ip.source.0 as u32;
            let (word, bit) = own_bit(source as u64);
            // An interface that has no address has 0 here, which a packet may be addressed to.
            *v4 != 0
                && headers.ip.destination.0 as u32 == *v4
                && any4[word] & bit == 0
                && !ipv4::is_martian_source(source)
        }
        Family::V6 => {
            let (high, low) = headers.ip.source;
            let (word, bit) = own_bit(low);
            v6[0] != 0
                && headers.ip.destination == (v6[0], v6[1])
                && any6[word] & bit == 0
                && !ipv6::is_martian_source(high)
        }
    }
}

/// What the number says that [`look_up`] has returned, for whoever watches the steps of a frame.
///
/// # Errors
/// Why the packet is not touched.
#[cfg(feature = "host")]
pub fn looked_up(number: u64) -> Result<Target, Reason> {
    let target = Target::ALL.get(number as usize).copied();
    target.ok_or_else(|| Reason::from_number(number.saturating_sub(REASONS) as u8))
}

/// Looks up a packet in the tables: a [`Target`] as a number, or a [`Reason`] behind those.
#[inline(always)]
pub(crate) fn look_up<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: &About,
    mac: u64,
    flags: u32,
) -> u64 {
    match checked(frame, tables, *about, mac, flags) {
        Ok(target) => target as u64,
        Err(reason) => REASONS + reason as u64,
    }
}

#[inline(always)]
fn checked<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    mac: u64,
    flags: u32,
) -> Result<Target, Reason> {
    let on_link = link(frame, tables, about, mac)?;
    // What is for a MAC address of the host is for nobody else, whoever else's frames come in; but for one that others may have, too.
    let flags = match on_link {
        Target::Elsewhere => flags & !(INTERFACE_SHARED | INTERFACE_MAC_SHARED),
        Target::Own if flags & INTERFACE_MAC_SHARED == 0 => flags & !INTERFACE_SHARED,
        _ => flags,
    };
    let Ip { source, destination, .. } = parse::ip_again(frame, about).ok_or(Reason::Truncated)?;
    let target = match about.family() {
        Family::V4 => own_v4(frame, tables, about, flags, source.0 as u32, destination.0 as u32),
        Family::V6 => own_v6(frame, tables, about, flags, source, destination),
    }?;
    Ok(match (on_link, target) {
        (Target::LinkGroup, target) if !matches!(target, Target::Group) => Target::LinkGroup,
        // The answer would come from another MAC address than the kernel's.
        (Target::Elsewhere, Target::Own) => Target::Elsewhere,
        _ => target,
    })
}

/// what a packet for the host itself is by who its frame is for on the link. Frames of a VLAN that is not configured are nobody's here.
#[inline(always)]
fn link<F: Frame, T: Tables>(frame: &mut F, tables: &T, about: About, mac: u64) -> Result<Target, Reason> {
    let destination = link::destination_mac(frame).ok_or(Reason::Truncated)?;
    let on_link = if destination == mac {
        Target::Own
    } else if destination & ethernet::GROUP_BIT != 0 {
        Target::LinkGroup
    } else {
        let known = tables::kind6::<F, T>(tables, about.addresses(), (OTHER_MAC, destination), scope(about));
        if known != Some(kind_bits(AddressKind::Present)) {
            return Err(Reason::ForeignMac);
        }
        Target::Elsewhere
    };
    if about.vlan() != 0 && kind4::<F, T>(tables, about, 0)? != kind_bits(AddressKind::Present) {
        return Err(Reason::UnknownVlan);
    }
    Ok(on_link)
}

/// Where the packet came in, as the address table knows it.
#[inline(always)]
const fn scope(about: About) -> Scope {
    Scope::new(about.slot(), about.vlan())
}

/// What `look_up` says of an address where the packet came in, or else on any interface.
#[inline(always)]
fn kind<F: Frame>(about: About, look_up: impl Fn(Scope) -> Option<u32>) -> Result<u32, Reason> {
    let mut scope = scope(about);
    // Opaque, or the lookup is written out twice.
    let mut left = F::opaque(2);
    let mut kind = 0;
    while left != 0 && kind == 0 {
        left -= 1;
        kind = look_up(scope).ok_or(Reason::Unconfigured)?;
        scope = Scope::ANYWHERE;
    }
    Ok(kind)
}

#[inline(always)]
fn kind4<F: Frame, T: Tables>(tables: &T, about: About, address: u32) -> Result<u32, Reason> {
    kind::<F>(about, |scope| tables::kind4::<F, T>(tables, about.addresses(), address, scope))
}

#[inline(always)]
fn kind6<F: Frame, T: Tables>(tables: &T, about: About, address: Halves) -> Result<u32, Reason> {
    kind::<F>(about, |scope| tables::kind6::<F, T>(tables, about.addresses(), address, scope))
}

/// True for what [`kind4`] says of the host's own unicast addresses.
#[inline(always)]
const fn is_own(kind: u32) -> bool {
    kind == kind_bits(AddressKind::Own) || kind >= kind_bits(AddressKind::Somewhere)
}

#[inline(always)]
fn own_v4<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    flags: u32,
    source: u32,
    destination: u32,
) -> Result<Target, Reason> {
    // own, or a group the host belongs to, or nothing of ours.
    let kind = kind4::<F, T>(tables, about, destination)?;
    let target = if kind == kind_bits(AddressKind::Own) {
        Target::Own
    } else if kind == kind_bits(AddressKind::Group) || destination == u32::MAX {
        group(flags)?
    } else if !ipv4::is_martian_source(destination)
        // however wide a VIP prefix is, it has no loopback address in it.
        && let Some(target) = vip(frame, tables, about, (destination as u64, 0))
    {
        target
    } else {
        // The kernel takes loopback addresses from outside with `route_localnet`, which kube-proxy sets.
        elsewhere(flags, kind, destination >> 24 == 127)?
    };
    // a source that one other host can have. What the kernel drops without a look is passed to it; what it would act on goes
    // through policy and limits, and is not answered. An own source it drops unless `accept_local` is on, which is not known here.
    if ipv4::is_ignored_source(source) {
        return Err(Reason::MartianSource);
    }
    let kind = kind4::<F, T>(tables, about, source)?;
    // A broadcast address of an own prefix the kernel takes for a source where `rp_filter` is off.
    Ok(answerable(target, kind, !ipv4::is_martian_source(source)))
}

#[inline(always)]
fn own_v6<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    flags: u32,
    source: Halves,
    destination: Halves,
) -> Result<Target, Reason> {
    // own, or a group the host belongs to, or nothing of ours; ::, ::1 and mapped addresses are in no table.
    let kind = kind6::<F, T>(tables, about, destination)?;
    let target = if kind == kind_bits(AddressKind::Own) {
        Target::Own
    } else if kind == kind_bits(AddressKind::Group) {
        group(flags)?
    } else if !ipv6::is_martian_source(destination.0)
        && let Some(target) = vip(frame, tables, about, destination)
    {
        target
    } else {
        elsewhere(flags, kind, false)?
    };
    // as in IPv4; but IPv6 takes an own source from outside.
    if ipv6::is_ignored_source(source) {
        return Err(Reason::MartianSource);
    }
    let kind = kind6::<F, T>(tables, about, source)?;
    // An anycast address of its own it takes for a source as well.
    Ok(answerable(target, kind, !ipv6::is_martian_source(source.0)))
}

/// A group's messages on an interface that other hosts' frames come in on are for those hosts, too, and not touched.
#[inline(always)]
const fn group(flags: u32) -> Result<Target, Reason> {
    if flags & INTERFACE_SHARED == 0 { Ok(Target::Group) } else { Err(Reason::NotOwnAddress) }
}

/// What is for another interface of the host is for the host, unless others may have the MAC address of this one.
#[inline(always)]
const fn elsewhere(flags: u32, kind: u32, is_loopback: bool) -> Result<Target, Reason> {
    if flags & INTERFACE_MAC_SHARED != 0 {
        Err(Reason::NotOwnAddress)
    } else if kind + (flags & SETTINGS_OWN_HOST) >= kind_bits(AddressKind::Everywhere) {
        Ok(Target::Own)
    } else if kind >= kind_bits(AddressKind::Anywhere) || is_loopback {
        Ok(Target::Elsewhere)
    } else {
        Err(Reason::NotOwnAddress)
    }
}

/// The same target, if its source is another host's, and of one host, by what the table says of it.
#[inline(always)]
fn answerable(target: Target, kind: u32, is_of_one_host: bool) -> Target {
    match target {
        Target::Own if is_own(kind) => Target::FromOwn,
        Target::Own if !is_of_one_host || kind == kind_bits(AddressKind::Group) => Target::Unanswerable,
        _ => target,
    }
}

/// What an address is that is in a VIP prefix, which holds for frames without a VLAN; `None` where it is in none.
#[inline(always)]
fn vip<F: Apart, T: Tables>(frame: &mut F, tables: &T, about: About, address: Halves) -> Option<Target> {
    let rules = tables.settings(about.settings()).filter(|s| s.flags & SETTINGS_VIPS != 0)?.rules;
    if about.vlan() != 0 {
        return None;
    }
    let about = about.with_kind(PrefixKind::Vip as u8);
    let index = frame.apart::<LONGEST, T>(tables, about, [address.0, address.1]) as u32;
    if index == 0 {
        return None;
    }
    let Some(position) = gate_position(rules, index) else { return Some(Target::Own) };
    let gate = tables.gate(position)?;
    // The lease is looked at for each frame, so that nothing is answered by it that comes in later.
    Some(if gate & GATE_CHECKED == 0 || tables.ticks() < gate & GATE_UNTIL {
        Target::Own
    } else if gate & GATE_DROPS != 0 {
        Target::UnhealthyDrop
    } else {
        Target::Unhealthy
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::GATES;
    use crate::frame::SliceFrame;
    use crate::path::testing;
    use crate::policy::Preset;

    const BROADCAST: [u8; 6] = [0xff; 6];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const OWN4: u32 = 0xc000_0201;
    const FAR4: u32 = 0xc633_6407;

    /// Whose a packet is that came in on the host's interface.
    fn whose(
        family: Family,
        mac: Option<[u8; 6]>,
        vlan: u32,
        flags: u32,
        source: u32,
        destination: Option<u32>,
    ) -> Result<Target, Reason> {
        let tables = testing::tables(testing::settings(Preset::Host), testing::rules());
        let mut bytes = testing::message(family, source, 8, 0, 16);
        if let Some(mac) = mac {
            bytes[..6].copy_from_slice(&mac);
        }
        if let Some(destination) = destination {
            bytes[ethernet::LEN + ipv4::DESTINATION..][..4].copy_from_slice(&destination.to_be_bytes());
        }
        let interface = testing::interface();
        let about =
            About::new(family, ethernet::LEN, vlan).with_ingress(0, 0, 0, interface.slot).with_len(16);
        checked(&mut SliceFrame::new(&mut bytes), &tables, about, interface.mac, flags)
    }

    #[test]
    fn a_number_that_a_lookup_returns_says_what_was_looked_up() {
        for (number, target) in (0..).zip(Target::ALL) {
            assert_eq!((target as u64, looked_up(number)), (number, Ok(target)));
        }
        for reason in Reason::ALL {
            assert_eq!(looked_up(REASONS + *reason as u64), Err(*reason));
        }
    }

    #[test]
    fn a_frame_is_the_hosts_by_mac_address_vlan_and_group() {
        for family in [Family::V4, Family::V6] {
            let from_far = |mac, vlan| whose(family, mac, vlan, 0, FAR4, None);
            assert_eq!(from_far(None, 0), Ok(Target::Own));
            assert_eq!(from_far(Some(OTHER), 0), Err(Reason::ForeignMac));
            assert_eq!(from_far(Some(BROADCAST), 0), Ok(Target::LinkGroup));
            for flags in [0, INTERFACE_SHARED | INTERFACE_MAC_SHARED] {
                let of_second = whose(family, Some(testing::SECOND_MAC), 0, flags, FAR4, None);
                assert_eq!(of_second, Ok(Target::Elsewhere), "another MAC address of the host's");
            }
            assert_eq!(from_far(Some(testing::SECOND_MAC), 5), Err(Reason::ForeignMac), "not in this VLAN");
            assert_eq!(from_far(None, 5), Err(Reason::UnknownVlan));
        }
        for (flags, whose_it_is) in [(0, Ok(Target::Group)), (INTERFACE_SHARED, Err(Reason::NotOwnAddress))] {
            let everybody = Some(u32::MAX);
            let of_second = whose(Family::V4, Some(testing::SECOND_MAC), 0, flags, FAR4, everybody);
            assert_eq!(of_second, Ok(Target::Group), "for nobody else by its MAC address");
            assert_eq!(whose(Family::V4, Some(BROADCAST), 0, flags, FAR4, everybody), whose_it_is);
            let of_own = |others| whose(Family::V4, None, 0, flags | others, FAR4, everybody);
            assert_eq!((of_own(0), of_own(INTERFACE_MAC_SHARED)), (Ok(Target::Group), whose_it_is));
        }
        for mac in [None, Some(testing::SECOND_MAC)] {
            assert_eq!(whose(Family::V4, mac, 0, 0, FAR4, Some(FAR4)), Err(Reason::NotOwnAddress));
        }
    }

    /// What becomes of an echo request to an address in a VIP prefix at a tick, where the word of its gate is this.
    fn to_vip(gate: u64, ticks: u64, index: u32, echo: fn(&mut [u8])) -> (Reason, bool) {
        let mut settings = testing::settings(Preset::Host);
        settings.flags |= SETTINGS_VIPS;
        let mut rules = testing::rules();
        // Every address.
        rules.search.v4[PrefixKind::Vip as usize].outermost = index;
        let tables = testing::tables(settings, rules);
        tables.set_gate(0, gate);
        tables.set_ticks(ticks);
        let mut frame = testing::echo4(0xc633_6408, 16);
        frame[ethernet::LEN + ipv4::DESTINATION..][..4].copy_from_slice(&FAR4.to_be_bytes());
        echo(&mut frame);
        testing::repair4(&mut frame);
        let before = frame.clone();
        (testing::send(&tables, &mut frame), frame == before)
    }

    #[test]
    fn a_vip_with_a_check_is_answered_until_its_lease_ends_and_not_at_that_tick() {
        let lease = |bits: u64| bits | 5000;
        for (ticks, unhealthy, unhealthy_drop) in [
            (4999, Reason::Answered, Reason::Answered),
            (5000, Reason::UnhealthyVip, Reason::UnhealthyVipDrop),
            (u64::MAX, Reason::UnhealthyVip, Reason::UnhealthyVipDrop),
        ] {
            let sent = |gate| to_vip(gate, ticks, 1, |_| ()).0;
            assert_eq!(sent(lease(GATE_CHECKED)), unhealthy, "tick {ticks}");
            assert_eq!(sent(lease(GATE_CHECKED | GATE_DROPS)), unhealthy_drop, "tick {ticks}");
            assert_eq!(sent(0), Reason::Answered, "no check, tick {ticks}");
            // Its index is beyond those of gates.
            let of_none = to_vip(lease(GATE_CHECKED), ticks, GATES as u32 + 1, |_| ()).0;
            assert_eq!(of_none, Reason::Answered, "tick {ticks}");
        }
    }

    #[test]
    fn whatever_else_a_request_to_an_unhealthy_vip_has_it_is_dropped_and_of_other_messages_nothing_is() {
        let code: fn(&mut [u8]) = |frame| frame[ethernet::LEN + ipv4::LEN + 1] = 3;
        let first_fragment: fn(&mut [u8]) = |frame| frame[ethernet::LEN + 6] = 0x20;
        let reply: fn(&mut [u8]) = |frame| frame[ethernet::LEN + ipv4::LEN] = 0;
        for (change, passed, dropped) in [
            (code, Reason::UnhealthyVip, Reason::UnhealthyVipDrop),
            (first_fragment, Reason::Fragment, Reason::UnhealthyVipDrop),
            (reply, Reason::WithinLimit, Reason::WithinLimit),
        ] {
            assert_eq!(to_vip(GATE_CHECKED, 1, 1, change), (passed, true));
            assert_eq!(to_vip(GATE_CHECKED | GATE_DROPS, 1, 1, change), (dropped, true));
        }
    }

    #[test]
    fn an_address_of_another_interface_is_answered_by_its_kind_and_the_settings() {
        use AddressKind::{Anywhere, Everywhere, Host, Somewhere};
        let nobodys = Err(Reason::NotOwnAddress);
        for (kind, by_interface, by_host) in [
            (Somewhere, nobodys, nobodys),
            (Anywhere, Ok(Target::Elsewhere), Ok(Target::Elsewhere)),
            (Host, Ok(Target::Elsewhere), Ok(Target::Own)),
            (Everywhere, Ok(Target::Own), Ok(Target::Own)),
        ] {
            for (flags, expected) in [(0, by_interface), (SETTINGS_OWN_HOST, by_host)] {
                assert_eq!(elsewhere(flags, kind_bits(kind), false), expected, "{kind:?}, flags {flags}");
                let of = |others| elsewhere(flags | others, kind_bits(kind), false);
                assert_eq!(of(INTERFACE_SHARED), expected, "{kind:?}, others' frames come in");
                assert_eq!(of(INTERFACE_MAC_SHARED), nobodys, "{kind:?}, others have the MAC address");
            }
            assert!(is_own(kind_bits(kind)), "{kind:?} is no other host's source");
        }
        for flags in [0, SETTINGS_OWN_HOST] {
            assert_eq!(elsewhere(flags, 0, true), Ok(Target::Elsewhere), "127.0.0.1");
            assert_eq!(elsewhere(flags, 0, false), nobodys);
        }
    }

    #[test]
    fn a_source_that_is_a_group_of_the_hosts_cannot_be_answered() {
        for (kind, expected) in [
            (0, Target::Own),
            (kind_bits(AddressKind::Own), Target::FromOwn),
            (kind_bits(AddressKind::Anywhere), Target::FromOwn),
            (kind_bits(AddressKind::Group), Target::Unanswerable),
        ] {
            assert_eq!(answerable(Target::Own, kind, true), expected, "{kind}");
            assert_eq!(answerable(Target::Elsewhere, kind, true), Target::Elsewhere, "{kind}");
        }
    }

    #[test]
    fn a_source_is_another_host_that_can_be_answered_or_is_not() {
        for (source, whose_it_is) in [
            (FAR4, Ok(Target::Own)),
            (OWN4, Ok(Target::FromOwn)),
            (0xf000_0001, Ok(Target::Unanswerable)),
            (0xe000_0001, Err(Reason::MartianSource)),
        ] {
            assert_eq!(whose(Family::V4, None, 0, 0, source, None), whose_it_is, "{source:#x}");
        }
        // The host's is 2001:db8::1, and the message's source has the same first half.
        assert_eq!(whose(Family::V6, None, 0, 0, 1, None), Ok(Target::FromOwn));
    }
}
