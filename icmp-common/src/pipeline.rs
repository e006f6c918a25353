//! The packet's way, top to bottom: parse -> own? -> classify -> policy -> limit -> respond -> count.
//!
//! Owns the way in and every decision about a single frame up to the limits; `shortcut` makes the same ones at once where nothing is
//! unusual, and what becomes of an echo request that is to be answered is `echo`'s. It does not own positions (`wire`), checksum
//! arithmetic (`checksum`), what a type deserves (`policy`) or bucket arithmetic (`limiter`). Handing over is always correct,
//! answering must be earned: whatever a step is not sure of ends in a reason whose verdict is pass. Steps look, only
//! `echo` writes, and only when nothing is left to be checked. Source and destination are always those of the request.
//!
//! The rules that comments name are in docs/packet-path.md.

use core::ops::DerefMut;

use crate::abi::{
    ADDRESS_BUCKETS, AddressKind, INTERFACE_STRIPS_TAGS, Interface, Leases, SETTINGS_ECHO, SETTINGS_OBSERVE,
    SETTINGS_PRESENT, SETTINGS_RULES, SETTINGS_VIPS, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_SETTINGS, Scope,
    Settings, check_tally,
};
use crate::budget::{Draw, draw, rule_cell};
use crate::checks::{self, Check, Mode};
use crate::checksum::Sum;
use crate::echo::{self, Echo, MAX_START};
use crate::flows::Advance;
use crate::frame::{Frame, field};
use crate::limiter;
use crate::outcome::{Outcome, Step, end};
use crate::policy::{Action, BUDGETS, Decision, type_index};
use crate::prefixes::{self, PrefixKind};
use crate::reason::{Reason, Verdict};
use crate::rules::{self, Facts, Rule};
use crate::shortcut;
use crate::tables::{self, Tables, kind_bits};
use crate::types::{Family, IPV4_ROW, IPV6_ROW, NO_IP_ROW};
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Handles one frame that came in on `ifindex`: decides, turns it into its reply if it is answered, counts.
///
/// The frame is changed only if the verdict is [`Verdict::Answer`].
#[inline(always)]
pub fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Outcome {
    if let Some(outcome) = shortcut::process(frame, tables, ifindex) {
        return outcome;
    }
    frame.renew();
    let interface = tables::interface(tables, ifindex);
    let outcome = match decide(frame, tables, interface) {
        Ok(outcome) | Err(outcome) => outcome,
    };
    tables.count(interface.map_or(0, |i| i.slot), outcome.row, outcome.reason, frame.total_len() as u64);
    outcome
}

#[inline(always)]
fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T, interface: Option<&Interface>) -> Step<Outcome> {
    let link = parse_link(frame)?;
    // Borrowed once for the whole way, and not before there is a message.
    let mut leases;
    let (place, message) = match link.ether_type {
        ethernet::IPV4 => {
            let packet = parse_v4(frame, &link)?;
            let place = Place::find(tables, interface, &link, IPV4_ROW)?;
            let target = own_v4(tables, &place, &link, &packet)?;
            leases = borrow_leases(tables, IPV4_ROW)?;
            let facts = Facts {
                family: Family::V4,
                icmp_type: packet.icmp_type,
                code: packet.code,
                hop_limit: packet.ttl,
                vlan: link.vlan & ethernet::VLAN_ID_MASK as u32,
                len: packet.icmp_len,
                source: (packet.source as u64, 0),
                destination: (packet.destination as u64, 0),
            };
            let mut message = classify(&place, &link, facts, target)?;
            place.observed(check_v4(frame, tables, &mut leases, &place, &link, &packet, &mut message))?;
            (place, message)
        }
        ethernet::IPV6 => {
            let packet = parse_v6(frame, &link)?;
            let place = Place::find(tables, interface, &link, IPV6_ROW)?;
            let target = own_v6(tables, &place, &link, &packet)?;
            leases = borrow_leases(tables, IPV6_ROW)?;
            let facts = Facts {
                family: Family::V6,
                icmp_type: packet.icmp_type,
                code: packet.code,
                hop_limit: packet.hop_limit,
                vlan: link.vlan & ethernet::VLAN_ID_MASK as u32,
                len: packet.icmp_len,
                source: packet.source,
                destination: packet.destination,
            };
            let mut message = classify(&place, &link, facts, target)?;
            place.observed(check_v6(frame, tables, &mut leases, &place, &link, &packet, &mut message))?;
            (place, message)
        }
        _ => return end(Reason::NotIp, NO_IP_ROW),
    };
    place.observed(judge(frame, tables, &mut leases, &place, &link, &message))
}

#[inline(always)]
fn borrow_leases<T: Tables>(tables: &T, row: u8) -> Step<impl DerefMut<Target = Leases>> {
    tables.leases().ok_or(Outcome { reason: Reason::Unconfigured, row })
}

#[inline(always)]
fn judge<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    place: &Place<'_>,
    link: &Link,
    message: &Message,
) -> Step<Outcome> {
    let capped = policy(tables, leases, place, message)?;
    let (echo, obstacle, capped) = join(tables, leases, link, message, capped);
    if !capped {
        echo::limit(tables, leases, place.settings, &echo, Advance::NOTHING)?;
    }
    if obstacle as u8 != Reason::Answered as u8 {
        return end(obstacle, echo.row);
    }
    echo::respond(frame, tables, leases, place.settings, &echo)
}

/// Brings the verifier's paths together: from here on it follows one, whatever way the frame has come.
#[inline(always)]
fn join<T: Tables>(
    tables: &T,
    leases: &mut Leases,
    link: &Link,
    message: &Message,
    capped: bool,
) -> (Echo, Reason, bool) {
    let v6 = matches!(message.facts.family, Family::V6) as usize;
    let facts = tables.opaque(
        leases,
        message.facts.len << 32
            | link.l3 << 24
            | (capped as usize) << 17
            | v6 << 16
            | (message.obstacle as usize) << 8
            | message.decision.row as usize,
    );
    let echo = Echo {
        l3: facts >> 24 & MAX_START,
        icmp_len: facts >> 32 & 0xffff,
        family: if facts >> 16 & 1 == 0 { Family::V4 } else { Family::V6 },
        source: message.facts.source,
        row: facts as u8,
    };
    (echo, Reason::from_number((facts >> 8) as u8), facts >> 17 & 1 != 0)
}

// ---------------------------------------------------------------------------------------------------------------- parse

/// What the link layer says of a frame.
struct Link {
    /// Where the IP header starts.
    l3: usize,
    /// VLAN as [`Scope`] counts it; 0 is untagged or priority-tagged.
    vlan: u32,
    ether_type: u16,
    destination: u64,
    source: u64,
}

#[inline(always)]
fn parse_link<F: Frame>(frame: &mut F) -> Step<Link> {
    let Some(header) = frame.window::<{ ethernet::LEN }>(0) else { return end(Reason::Truncated, NO_IP_ROW) };
    let destination = ethernet::address(field::<{ ethernet::DESTINATION }, 6, _>(header));
    let source = ethernet::address(field::<{ ethernet::SOURCE }, 6, _>(header));
    let ether_type = u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header));
    let untagged = Link { l3: ethernet::LEN, vlan: 0, ether_type, destination, source };
    if ether_type != ethernet::CUSTOMER_TAG && ether_type != ethernet::SERVICE_TAG {
        return Ok(untagged);
    }
    // one or two tags are understood; behind a third one there is no IP for us.
    let (outer, inner_type) = tag(frame, ethernet::LEN)?;
    if inner_type != ethernet::CUSTOMER_TAG && inner_type != ethernet::SERVICE_TAG {
        let single = if ether_type == ethernet::SERVICE_TAG { Scope::SERVICE_ONLY << 12 } else { 0 };
        let vlan = if outer == 0 { 0 } else { outer | single };
        return Ok(Link { l3: ethernet::LEN + ethernet::TAG_LEN, vlan, ether_type: inner_type, ..untagged });
    }
    let (inner, last_type) = tag(frame, ethernet::LEN + ethernet::TAG_LEN)?;
    // A priority tag around or inside another is nothing anybody configures, and the reserved identifier is no VLAN's but marks a
    // single service tag: 0xffffff is never in the table.
    let vlan = if outer == 0 || inner == 0 || inner == Scope::SERVICE_ONLY {
        0xff_ffff
    } else {
        outer | inner << 12
    };
    Ok(Link { l3: ethernet::LEN + 2 * ethernet::TAG_LEN, vlan, ether_type: last_type, ..untagged })
}

/// VLAN identifier and EtherType of the tag at `offset`.
#[inline(always)]
fn tag<F: Frame>(frame: &mut F, offset: usize) -> Step<(u32, u16)> {
    let Some(tag) = frame.window::<{ ethernet::TAG_LEN }>(offset) else {
        return end(Reason::Truncated, NO_IP_ROW);
    };
    let control = u16::from_be_bytes(field::<0, 2, _>(tag));
    Ok(((control & ethernet::VLAN_ID_MASK) as u32, u16::from_be_bytes(field::<2, 2, _>(tag))))
}

/// An IPv4 packet that holds an ICMP message, every length proved.
pub(crate) struct PacketV4 {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) icmp_len: usize,
    pub(crate) ttl: u8,
    pub(crate) icmp_type: u8,
    pub(crate) code: u8,
}

#[inline(always)]
fn parse_v4<F: Frame>(frame: &mut F, link: &Link) -> Step<PacketV4> {
    let available = frame.linear_len();
    let Some(header) = frame.window::<{ ipv4::WITH_ICMP }>(link.l3) else {
        return end(short_frame(frame), IPV4_ROW);
    };
    if header[ipv4::PROTOCOL] != ipv4::ICMP {
        return end(Reason::NotIcmp, IPV4_ROW);
    }
    // version 4 and exactly five words.
    let version_ihl = header[ipv4::VERSION_IHL];
    if version_ihl != ipv4::VERSION_4_IHL_5 {
        let options = version_ihl & ipv4::VERSION_MASK == ipv4::VERSION_4_IHL_5 & ipv4::VERSION_MASK
            && version_ihl > ipv4::VERSION_4_IHL_5;
        return end(if options { Reason::IpOptions } else { Reason::BadIpHeader }, IPV4_ROW);
    }
    // no fragment, not even the first; the reserved bit clear.
    let fragment = u16::from_be_bytes(field::<{ ipv4::FRAGMENT }, 2, _>(header));
    if fragment & (ipv4::FRAGMENT_MASK | ipv4::RESERVED_FLAG) != 0 {
        let reserved = fragment & ipv4::RESERVED_FLAG != 0;
        return end(if reserved { Reason::ReservedFlag } else { Reason::Fragment }, IPV4_ROW);
    }
    // the IP length counts, what the frame has beyond it is padding.
    let total_len = u16::from_be_bytes(field::<{ ipv4::TOTAL_LEN }, 2, _>(header)) as usize;
    let packet = PacketV4 {
        source: u32::from_be_bytes(field::<{ ipv4::SOURCE }, 4, _>(header)),
        destination: u32::from_be_bytes(field::<{ ipv4::DESTINATION }, 4, _>(header)),
        icmp_len: total_len.wrapping_sub(ipv4::LEN),
        ttl: header[ipv4::TTL],
        icmp_type: header[ipv4::LEN + icmpv4::TYPE],
        code: header[ipv4::LEN + icmpv4::CODE],
    };
    let intact = Sum::ZERO.add_words::<0, { ipv4::LEN }, _>(header).verifies();
    if total_len < ipv4::WITH_ICMP {
        return end(Reason::BadLength, IPV4_ROW);
    }
    if link.l3 + total_len > available {
        return end(beyond_first_buffer(frame, link.l3 + total_len), IPV4_ROW);
    }
    //= https://www.rfc-editor.org/rfc/rfc1122#section-3.2.1.2
    //# A host MUST verify the IP header checksum on every received
    //# datagram and silently discard every datagram that has a bad
    //# checksum.
    if !intact {
        return end(Reason::BadIpChecksum, IPV4_ROW);
    }
    Ok(packet)
}

/// An IPv6 packet that holds an ICMPv6 message, every length proved.
pub(crate) struct PacketV6 {
    pub(crate) source: ipv6::Halves,
    pub(crate) destination: ipv6::Halves,
    pub(crate) icmp_len: usize,
    pub(crate) hop_limit: u8,
    pub(crate) icmp_type: u8,
    pub(crate) code: u8,
}

#[inline(always)]
fn parse_v6<F: Frame>(frame: &mut F, link: &Link) -> Step<PacketV6> {
    let available = frame.linear_len();
    let Some(header) = frame.window::<{ ipv6::WITH_ICMP }>(link.l3) else {
        return end(short_frame(frame), IPV6_ROW);
    };
    // answered only where ICMPv6 follows directly.
    let next_header = header[ipv6::NEXT_HEADER];
    if next_header != ipv6::ICMPV6 {
        return end(
            if ipv6::is_extension(next_header) { Reason::ExtensionHeader } else { Reason::NotIcmp },
            IPV6_ROW,
        );
    }
    let first_word = u32::from_be_bytes(field::<{ ipv6::VERSION_CLASS_LABEL }, 4, _>(header));
    if first_word >> 28 != ipv6::VERSION_6 {
        return end(Reason::BadIpHeader, IPV6_ROW);
    }
    // a payload length of zero is shorter than the eight bytes every message has.
    let payload_len = u16::from_be_bytes(field::<{ ipv6::PAYLOAD_LEN }, 2, _>(header)) as usize;
    let packet = PacketV6 {
        source: ipv6::halves(field::<{ ipv6::SOURCE }, 16, _>(header)),
        destination: ipv6::halves(field::<{ ipv6::DESTINATION }, 16, _>(header)),
        icmp_len: payload_len,
        hop_limit: header[ipv6::HOP_LIMIT],
        icmp_type: header[ipv6::LEN + icmpv6::TYPE],
        code: header[ipv6::LEN + icmpv6::CODE],
    };
    if payload_len < icmpv6::LEN {
        return end(Reason::BadLength, IPV6_ROW);
    }
    if link.l3 + ipv6::LEN + payload_len > available {
        return end(beyond_first_buffer(frame, link.l3 + ipv6::LEN + payload_len), IPV6_ROW);
    }
    Ok(packet)
}

/// Why a header does not fit the first buffer.
#[inline(always)]
fn short_frame<F: Frame>(frame: &F) -> Reason {
    if frame.total_len() > frame.linear_len() { Reason::MultiBuffer } else { Reason::Truncated }
}

/// Why a packet that ends at `end` does not fit the first buffer.
#[inline(always)]
fn beyond_first_buffer<F: Frame>(frame: &F, end: usize) -> Reason {
    if end <= frame.total_len() { Reason::MultiBuffer } else { Reason::BadLength }
}

// ----------------------------------------------------------------------------------------------------------------- own?

/// Where the frame came in, and the tables in force there for the time of this frame.
struct Place<'t> {
    settings: &'t Settings,
    scope: Scope,
    mac: u64,
    strips_tags: bool,
    addresses: u32,
}

impl<'t> Place<'t> {
    #[inline(always)]
    fn find<T: Tables>(tables: &'t T, interface: Option<&Interface>, link: &Link, row: u8) -> Step<Self> {
        // nothing configured is nothing answered and nothing dropped.
        let Some(interface) = interface else { return end(Reason::Unconfigured, row) };
        let Some(switch) = tables.switch() else { return end(Reason::Unconfigured, row) };
        let mut bank = switch & SWITCH_SETTINGS;
        if switch & SWITCH_AWAITS != 0 && tables.rollback_at().is_some_and(|at| tables.monotonic_ns() >= at) {
            bank ^= SWITCH_SETTINGS;
        }
        let Some(settings) = tables.settings(bank) else {
            return end(Reason::Unconfigured, row);
        };
        if settings.flags & SETTINGS_PRESENT == 0 {
            return end(Reason::Unconfigured, row);
        }
        Ok(Self {
            settings,
            scope: Scope::new(interface.slot, link.vlan),
            mac: interface.mac,
            strips_tags: interface.flags & INTERFACE_STRIPS_TAGS != 0,
            addresses: if switch & SWITCH_ADDRESSES == 0 { 0 } else { ADDRESS_BUCKETS },
        })
    }

    /// The preset `observe` decides nothing: what would have been dropped or limited passes.
    #[inline(always)]
    fn observed<R>(&self, judged: Step<R>) -> Step<R> {
        if self.settings.flags & SETTINGS_OBSERVE == 0 {
            return judged;
        }
        judged.map_err(|outcome| match outcome.verdict() {
            Verdict::Drop => Outcome { reason: Reason::WouldDrop, ..outcome },
            Verdict::Limit => Outcome { reason: Reason::WouldLimit, ..outcome },
            Verdict::Pass | Verdict::Answer => outcome,
        })
    }
}

/// Whom a message for this host is addressed to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// One of the host's unicast addresses, or a VIP.
    Own,
    /// A broadcast or multicast address.
    Group,
}

/// who the frame is for on the link. Frames of a VLAN that is not configured are nobody's here.
#[inline(always)]
fn own_link<T: Tables>(tables: &T, place: &Place<'_>, link: &Link, row: u8) -> Step<()> {
    if link.destination != place.mac && link.destination & ethernet::GROUP_BIT == 0 {
        return end(Reason::ForeignMac, row);
    }
    if link.vlan != 0
        && tables::kind4(tables, place.addresses, 0, place.scope) != Some(kind_bits(AddressKind::Present))
    {
        return end(Reason::UnknownVlan, row);
    }
    Ok(())
}

#[inline(always)]
fn own_v4<T: Tables>(tables: &T, place: &Place<'_>, link: &Link, packet: &PacketV4) -> Step<Target> {
    own_link(tables, place, link, IPV4_ROW)?;
    let Some(kind) = tables::kind4(tables, place.addresses, packet.destination, place.scope) else {
        return end(Reason::Unconfigured, IPV4_ROW);
    };
    // own, or a group the host may belong to, or nothing of ours.
    let target = if kind == kind_bits(AddressKind::Own) {
        Target::Own
    } else if kind == kind_bits(AddressKind::Broadcast) || ipv4::is_group(packet.destination) {
        Target::Group
    } else if link.vlan == 0
        && !ipv4::is_martian_source(packet.destination)
        && is_vip(tables, place, Family::V4, (packet.destination as u64, 0))
    {
        // however wide a VIP prefix is, it has no loopback address in it.
        Target::Own
    } else {
        return end(Reason::NotOwnAddress, IPV4_ROW);
    };
    // a source that one other host can have.
    if ipv4::is_martian_source(packet.source) {
        return end(Reason::MartianSource, IPV4_ROW);
    }
    match tables::kind4(tables, place.addresses, packet.source, place.scope) {
        Some(0) => Ok(target),
        Some(kind) if kind == kind_bits(AddressKind::Broadcast) => end(Reason::MartianSource, IPV4_ROW),
        Some(_) => end(Reason::OwnSource, IPV4_ROW),
        None => end(Reason::Unconfigured, IPV4_ROW),
    }
}

#[inline(always)]
fn is_vip<T: Tables>(tables: &T, place: &Place<'_>, family: Family, address: ipv6::Halves) -> bool {
    if place.settings.flags & SETTINGS_VIPS == 0 {
        return false;
    }
    let bank = place.settings.rules;
    let Some(rules) = tables.rules(bank) else { return false };
    prefixes::longest(tables, &rules.search, bank, family, PrefixKind::Vip, address) != 0
}

#[inline(always)]
fn own_v6<T: Tables>(tables: &T, place: &Place<'_>, link: &Link, packet: &PacketV6) -> Step<Target> {
    own_link(tables, place, link, IPV6_ROW)?;
    let (high, low) = packet.destination;
    // own, or a group whose members the stack knows, or nothing of ours; ::, ::1 and mapped addresses are in
    // no table.
    let target = if ipv6::is_multicast(high) {
        Target::Group
    } else {
        match tables::kind6(tables, place.addresses, high, low, place.scope) {
            None => return end(Reason::Unconfigured, IPV6_ROW),
            Some(kind) if kind == kind_bits(AddressKind::Own) => Target::Own,
            Some(_)
                if link.vlan == 0
                    && !ipv6::is_martian_source(high)
                    && is_vip(tables, place, Family::V6, (high, low)) =>
            {
                Target::Own
            }
            Some(_) => return end(Reason::NotOwnAddress, IPV6_ROW),
        }
    };
    // neighbour discovery speaks from :: to groups (RFC 4862 section 5.4.2), so a group's messages are the policy's to judge.
    if target == Target::Group {
        return Ok(target);
    }
    // a source that one other host can have.
    let (high, low) = packet.source;
    if ipv6::is_martian_source(high) {
        return end(Reason::MartianSource, IPV6_ROW);
    }
    match tables::kind6(tables, place.addresses, high, low, place.scope) {
        Some(0) => Ok(target),
        Some(_) => end(Reason::OwnSource, IPV6_ROW),
        None => end(Reason::Unconfigured, IPV6_ROW),
    }
}

// ------------------------------------------------------------------------------------------------------------- classify

/// A message, what the policy says of its type and code, and what an answer to it would have to overcome.
struct Message {
    decision: Decision,
    is_echo_request: bool,
    facts: Facts,
    /// Why an echo request is the kernel's to answer; [`Reason::Answered`] where nothing is in the way.
    obstacle: Reason,
}

#[inline(always)]
fn classify(place: &Place<'_>, link: &Link, facts: Facts, target: Target) -> Step<Message> {
    let Facts { family, icmp_type, code, .. } = facts;
    let (row, echo_request) = match family {
        Family::V4 => (IPV4_ROW, icmpv4::ECHO_REQUEST),
        Family::V6 => (IPV6_ROW, icmpv6::ECHO_REQUEST),
    };
    let Some(entry) = place.settings.types.get(type_index(family, icmp_type)) else {
        return end(Reason::Unconfigured, row);
    };
    let is_echo_request = icmp_type == echo_request;
    let obstacle = obstacle(place, link, target, code);
    Ok(Message { decision: entry.decision(code), is_echo_request, facts, obstacle })
}

/// The checks that only an answer needs, the same for both families.
#[inline(always)]
fn obstacle(place: &Place<'_>, link: &Link, target: Target, code: u8) -> Reason {
    if place.settings.flags & SETTINGS_ECHO == 0 {
        Reason::PolicyPass
    } else if target == Target::Group {
        Reason::GroupEcho
    } else if link.destination != place.mac {
        Reason::LinkGroup
    } else if link.source & ethernet::GROUP_BIT != 0 || link.source == 0 {
        // the answer must go to one other host.
        Reason::MartianSource
    } else if link.source == place.mac {
        Reason::OwnSource
    } else if code != 0 {
        // stacks differ in what they do with other codes.
        Reason::EchoCode
    } else if place.strips_tags && link.vlan == 0 {
        Reason::StrippedVlan
    } else {
        Reason::Answered
    }
}

/// ends an error that makes no sense, where the operator wants that. Afterwards the verifier has forgotten which of the
/// types looked at it is, or it would follow the policy once for each.
#[inline(always)]
fn check_v4<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    place: &Place<'_>,
    link: &Link,
    packet: &PacketV4,
    message: &mut Message,
) -> Step<()> {
    if message.is_echo_request || place.settings.checks == 0 {
        return Ok(());
    }
    if let Some(check) = checks::failed_v4(frame, link.l3 + ipv4::LEN, packet) {
        failed(tables, place, check, message)?;
    }
    message.facts.icmp_type = tables.opaque(leases, packet.icmp_type as usize) as u8;
    Ok(())
}

/// and the router advertisement guard; as [`check_v4`].
#[inline(always)]
fn check_v6<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    place: &Place<'_>,
    link: &Link,
    packet: &PacketV6,
    message: &mut Message,
) -> Step<()> {
    if message.is_echo_request || place.settings.checks == 0 {
        return Ok(());
    }
    if let Some(check) = checks::failed_v6(frame, tables, leases, link.l3 + ipv6::LEN, packet) {
        failed(tables, place, check, message)?;
    }
    if packet.icmp_type == icmpv6::ROUTER_ADVERTISEMENT
        && let Some(rules) = tables.rules(place.settings.rules)
    {
        let mut named = false;
        for router in &rules.routers {
            named |= router[0] == packet.source.0 && router[1] == packet.source.1;
        }
        if !named {
            failed(tables, place, Check::RouterGuard, message)?;
        }
    }
    message.facts.icmp_type = tables.opaque(leases, packet.icmp_type as usize) as u8;
    Ok(())
}

/// What the operator wants done with a message that fails a check.
#[inline(always)]
fn failed<T: Tables>(tables: &T, place: &Place<'_>, check: Check, message: &Message) -> Step<()> {
    let mode = place.settings.checks >> checks::mode_shift(check) & 3;
    if mode == Mode::Off as u32 {
        return Ok(());
    }
    if let Some(mut tally) = tables.tally(check_tally(check)) {
        tally.hits = tally.hits.wrapping_add(1);
    }
    if mode != Mode::Drop as u32 {
        return Ok(());
    }
    let reason = match check {
        Check::Quote => Reason::BadQuote,
        Check::PathMtu => Reason::BadPathMtu,
        Check::NeighbourDiscovery => Reason::BadDiscovery,
        Check::RouterGuard => Reason::RouterGuard,
    };
    end(reason, message.decision.row)
}

// --------------------------------------------------------------------------------------------------------------- policy

/// Ends everything but an echo request that is to be answered: the first rule that matches decides, or else the type table. True where
/// the rule has a limit of its own, which stands for all others.
#[inline(always)]
fn policy<T: Tables>(tables: &T, leases: &mut Leases, place: &Place<'_>, message: &Message) -> Step<bool> {
    let Decision { action, budget, row } = message.decision;
    if place.settings.flags & SETTINGS_RULES != 0
        && let Some(rules) = tables.rules(place.settings.rules)
    {
        let matching = rules::matching(tables, rules, place.settings.rules, &message.facts);
        if let Some(rule) = rules::first(rules, matching & rules.audited & matching.wrapping_neg()) {
            let over = over_limit(tables, rule);
            if let Some(mut tally) = tables.tally(rule.slot) {
                tally.would_hit = tally.would_hit.wrapping_add(1);
                tally.would_limit = tally.would_limit.wrapping_add(over as u64);
            }
        }
        if let Some(rule) = rules::first(rules, matching & !rules.audited) {
            return obey(tables, rule, message);
        }
    }
    if action == Action::Answer as u8 && message.is_echo_request {
        return Ok(false);
    }
    if action == Action::Drop as u8 {
        return end(Reason::PolicyDrop, row);
    }
    if action == Action::Limit as u8 {
        return match draw(tables, leases, place.settings, budget as usize & (BUDGETS - 1)) {
            Draw::Taken | Draw::Fault => end(Reason::WithinLimit, row),
            Draw::Exhausted => end(Reason::LimitedBudget, row),
        };
    }
    end(Reason::PolicyPass, row)
}

/// Does what a rule says; returns as [`policy`].
#[inline(always)]
fn obey<T: Tables>(tables: &T, rule: &Rule, message: &Message) -> Step<bool> {
    let row = message.decision.row;
    let over = over_limit(tables, rule);
    if let Some(mut tally) = tables.tally(rule.slot) {
        tally.hits = tally.hits.wrapping_add(1);
        tally.limited = tally.limited.wrapping_add(over as u64);
    }
    if over {
        return end(Reason::LimitedRule, row);
    }
    if rule.action == Action::Drop as u32 {
        return end(Reason::RuleDrop, row);
    }
    if rule.action == Action::Answer as u32 && message.is_echo_request {
        return Ok(!rule.limit.is_unlimited());
    }
    end(Reason::RulePass, row)
}

/// Charges a message to the limit of its rule; true where that has nothing left.
#[inline(always)]
fn over_limit<T: Tables>(tables: &T, rule: &Rule) -> bool {
    if rule.limit.is_unlimited() {
        return false;
    }
    let now = tables.ticks() << limiter::TICK_SHIFT;
    limiter::is_over(tables, rule_cell(rule.slot), &rule.limit, now)
}
