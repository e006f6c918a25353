//! The packet's way, top to bottom: parse -> own? -> classify -> policy -> limit -> respond -> count.
//!
//! Owns the order of the steps and every decision about a single frame. It does not own positions (`wire`), checksum
//! arithmetic (`checksum`), what a type deserves (`policy`) or bucket arithmetic (`limiter`). Handing over is always correct,
//! answering must be earned: whatever a step is not sure of ends in a reason whose verdict is pass. Steps look, only
//! `respond` writes, and only when nothing is left to be checked. Source and destination are always those of the request.
//!
//! The rules that comments name are in docs/packet-path.md.

use core::ops::DerefMut;

use crate::abi::{
    ADDRESS_BUCKETS, AddressKind, INTERFACE_STRIPS_TAGS, Interface, Leases, Mask, SETTINGS_ECHO,
    SETTINGS_OBSERVE, SETTINGS_PRESENT, SETTINGS_RULES, SETTINGS_VERIFY_FULL, SETTINGS_VIPS,
    SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_SETTINGS, Scope, Settings, check_tally,
};
use crate::checks::{self, Check, Mode};
use crate::checksum::{Sum, echo_reply_v4, echo_reply_v6, update_u32};
use crate::familiar::Word;
use crate::frame::{Frame, field, set_field};
use crate::limiter::{self, Admission, Shared as _};
use crate::policy::{Action, BUDGETS, Budget, Decision, type_index};
use crate::reason::{Reason, Verdict};
use crate::rules::{self, Facts, PrefixKind, RULE_SLOTS, Rule, selector};
use crate::tables::{self, Tables, kind_bits};
use crate::talkers::{self, Source, TALKER_BITS, WINDOW_SHIFT};
use crate::types::{Family, IPV4_ROW, IPV6_ROW, NO_IP_ROW};
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Bytes of an IPv4 header without options and an ICMP header, the window everything about an IPv4 request is read from.
const V4_WINDOW: usize = ipv4::LEN + icmpv4::LEN;
/// Bytes of an IPv6 header and an ICMPv6 header.
const V6_WINDOW: usize = ipv6::LEN + icmpv6::LEN;

/// How a frame ended: why, and in which row of the type table it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// Row of the counter map.
    pub row: u8,
}

/// Handles one frame that came in on `ifindex`: decides, turns it into its reply if it is answered, counts.
///
/// The frame is changed only if the verdict is [`Verdict::Answer`].
#[inline(always)]
pub fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Outcome {
    let interface = tables::interface(tables, ifindex);
    let outcome = match decide(frame, tables, interface.as_ref()) {
        Ok(outcome) | Err(outcome) => outcome,
    };
    tables.count(interface.map_or(0, |i| i.slot), outcome.row, outcome.reason, frame.total_len() as u64);
    outcome
}

/// A step's result: go on, or the frame's end.
type Step<T> = Result<T, Outcome>;

/// Ends a frame.
#[inline(always)]
const fn end<T>(reason: Reason, row: u8) -> Step<T> {
    Err(Outcome { reason, row })
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
    let echo = Echo::join(tables, leases, link, message, capped);
    if !echo.capped {
        limit_echo(tables, leases, place, &echo)?;
    }
    respond(frame, tables, leases, place, &echo)
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
    let destination = mac(field::<{ ethernet::DESTINATION }, 6, _>(header));
    let source = mac(field::<{ ethernet::SOURCE }, 6, _>(header));
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

/// An address as a big-endian 48-bit number.
#[inline(always)]
fn mac(bytes: [u8; 6]) -> u64 {
    (u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as u64) << 16
        | u16::from_be_bytes([bytes[4], bytes[5]]) as u64
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
    let Some(header) = frame.window::<V4_WINDOW>(link.l3) else {
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
    if total_len < V4_WINDOW {
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
    let Some(header) = frame.window::<V6_WINDOW>(link.l3) else {
        return end(short_frame(frame), IPV6_ROW);
    };
    // answered only where ICMPv6 follows directly.
    let next_header = header[ipv6::NEXT_HEADER];
    if next_header != ipv6::ICMPV6 {
        return end(
            if is_extension(next_header) { Reason::ExtensionHeader } else { Reason::NotIcmp },
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

#[inline(always)]
fn is_extension(next_header: u8) -> bool {
    let mut found = false;
    for extension in ipv6::EXTENSION_HEADERS {
        found |= next_header == extension;
    }
    found
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

    /// The preset `observe` answers nothing: ends what has passed every check of an answer.
    #[inline(always)]
    fn ends_observed(&self, row: u8) -> Step<()> {
        if self.settings.flags & SETTINGS_OBSERVE == 0 { Ok(()) } else { end(Reason::WouldAnswer, row) }
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
    place.settings.flags & SETTINGS_VIPS != 0
        && tables::prefix(tables, family, selector(place.settings.rules, PrefixKind::Vip), address) != 0
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

/// Position of a rule's cell, behind those of the budgets.
#[inline(always)]
pub const fn rule_cell(slot: u32) -> u32 {
    (BUDGETS * CELLS_PER_LINE) as u32 + (slot & (RULE_SLOTS as u32 - 1))
}

// ---------------------------------------------------------------------------------------------------------------- limit

/// What a budget gave.
enum Draw {
    Taken,
    Exhausted,
    /// A fault of ours: nothing is refused because of it.
    Fault,
}

/// Takes one packet from a budget, a batch at a time.
#[inline(always)]
fn draw<T: Tables>(tables: &T, leases: &mut Leases, settings: &Settings, budget: usize) -> Draw {
    let (Some(limit), Some(batch)) = (settings.budgets.get(budget), settings.batches.get(budget)) else {
        return Draw::Fault;
    };
    if limit.is_unlimited() {
        return Draw::Taken;
    }
    let Some(tokens) = leases.tokens.get_mut(budget) else { return Draw::Fault };
    if *tokens == 0 {
        let now = tables.ticks() << limiter::TICK_SHIFT;
        let Some(taken) = limiter::take_batch(tables, budget_cell(budget), limit, *batch, now) else {
            return Draw::Fault;
        };
        *tokens = taken;
        if taken == 0 {
            return Draw::Exhausted;
        }
    }
    *tokens -= 1;
    Draw::Taken
}

/// Position of a budget's cell, each in a cache line of its own at the start of the map.
#[inline(always)]
const fn budget_cell(budget: usize) -> u32 {
    (budget * CELLS_PER_LINE) as u32
}

/// Cells of 8 bytes in a cache line of 64.
const CELLS_PER_LINE: usize = 8;
/// Cells before the first row: those of the budgets, and one for each slot of a rule.
pub const BUDGET_CELLS: u32 = (BUDGETS * CELLS_PER_LINE + RULE_SLOTS) as u32;
/// Rows of cells: the first of the sources, which takes two because a word of [`crate::familiar`] lies beside each cell, in the same
/// cache line; the second of the sources; two of the prefixes.
pub const ROWS: u32 = 5;

/// An echo request the policy would have answered.
struct Echo {
    l3: usize,
    icmp_len: usize,
    family: Family,
    source: ipv6::Halves,
    row: u8,
    obstacle: Reason,
    /// Admitted by the limit of its rule.
    capped: bool,
}

impl Echo {
    /// Brings the verifier's paths together: from here on it follows one, whatever way the frame has come.
    #[inline(always)]
    fn join<T: Tables>(
        tables: &T,
        leases: &mut Leases,
        link: &Link,
        message: &Message,
        capped: bool,
    ) -> Self {
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
        Self {
            l3: facts >> 24 & MAX_START,
            icmp_len: facts >> 32 & 0xffff,
            family: if facts >> 16 & 1 == 0 { Family::V4 } else { Family::V6 },
            source: message.facts.source,
            row: facts as u8,
            obstacle: Reason::from_number((facts >> 8) as u8),
            capped: facts >> 17 & 1 != 0,
        }
    }
}

/// Where an echo request's source is limited, and as whom.
struct Sender {
    source: Source,
    /// Cells of its level.
    cells: (u32, u32),
    /// Where its word may lie: beside its first cell or the neighbouring one.
    words: (u32, u32),
    /// What tells it from others in a word.
    tag: u32,
    talker: u32,
}

impl Sender {
    #[inline(always)]
    fn find<T: Tables>(tables: &T, settings: &Settings, echo: &Echo) -> Self {
        let source = masked(&settings.source.mask, echo);
        let hashes = limiter::hash(&tables.secret(), source.high, source.low);
        let (first, second) = indices(tables, hashes);
        Self {
            source,
            cells: (BUDGET_CELLS + 2 * first, BUDGET_CELLS + 2 * (1 << tables.cell_bits()) + second),
            words: (BUDGET_CELLS + 2 * first + 1, BUDGET_CELLS + 2 * (first ^ 1) + 1),
            tag: (hashes.1 >> 32) as u32,
            talker: (hashes.0 >> (64 - TALKER_BITS)) as u32,
        }
    }

    #[inline(always)]
    fn is_familiar<T: Tables>(&self, tables: &T, epoch: u32) -> bool {
        let known = |at| tables.cell(at).is_some_and(|word| Word(word.load()).is_familiar(self.tag, epoch));
        known(self.words.0) || known(self.words.1)
    }

    /// Notes that the source was served; mostly its word is there and says so already.
    #[inline(always)]
    fn remember<T: Tables>(&self, tables: &T, epoch: u32) {
        let Some(first) = tables.cell(self.words.0) else { return };
        let one = Word(first.load());
        if one.is_of(self.tag) {
            let new = one.served(epoch);
            if new != one {
                first.store(new.0);
            }
            return;
        }
        let Some(second) = tables.cell(self.words.1) else { return };
        let other = Word(second.load());
        if other.is_of(self.tag) {
            let new = other.served(epoch);
            if new != other {
                second.store(new.0);
            }
        } else if let Some(new) = one.taken_over(self.tag, epoch) {
            first.store(new.0);
        } else if let Some(new) = other.taken_over(self.tag, epoch) {
            second.store(new.0);
        }
    }
}

/// A source as a level sees it.
#[inline(always)]
fn masked(mask: &Mask, echo: &Echo) -> Source {
    let (high, low) = echo.source;
    let (high, low, ip_version) = match echo.family {
        Family::V4 => (high & mask.v4 as u64, 0, 4),
        Family::V6 => (high & mask.v6_high, low & mask.v6_low, 6),
    };
    Source { high, low, ip_version, reserved: 0 }
}

/// Indices within a level's two rows.
#[inline(always)]
fn indices<T: Tables>(tables: &T, hashes: (u64, u64)) -> (u32, u32) {
    let shift = (64 - tables.cell_bits()) & 63;
    ((hashes.0 >> shift) as u32, (hashes.1 >> shift) as u32)
}

/// an echo request over a limit is dropped, or the limit would be void. Ends it unless total, source and prefix all admit.
#[inline(always)]
fn limit_echo<T: Tables>(tables: &T, leases: &mut Leases, place: &Place<'_>, echo: &Echo) -> Step<()> {
    let settings = place.settings;
    let ticks = tables.ticks();
    let epoch = (ticks >> (settings.epoch_shift & 63)) as u32;
    let sender = Sender::find(tables, settings, echo);
    let prefix = masked(&settings.prefix.mask, echo);
    let ended = admit_echo(tables, leases, settings, ticks, epoch, &sender, &prefix);
    if talkers::sample(&mut leases.sampler)
        && let Some(mut talker) = tables.talker(sender.talker)
    {
        talker.note(&sender.source, epoch >> WINDOW_SHIFT, ended.is_some());
    }
    match ended {
        Some(reason) => end(reason, echo.row),
        None => Ok(()),
    }
}

/// Why an echo request is not to be answered, or `None` if all levels have admitted it.
///
/// The total comes first: it is the cheapest to ask, and in a flood little else has to be.
#[inline(always)]
fn admit_echo<T: Tables>(
    tables: &T,
    leases: &mut Leases,
    settings: &Settings,
    ticks: u64,
    epoch: u32,
    sender: &Sender,
    prefix: &Source,
) -> Option<Reason> {
    let now = ticks << limiter::TICK_SHIFT;
    let budget = match draw(tables, leases, settings, Budget::Replies as usize) {
        Draw::Taken => Budget::Replies,
        // What cannot be limited is not answered.
        Draw::Fault => return Some(Reason::Unconfigured),
        Draw::Exhausted => {
            leases.exhausted_at = ticks;
            if !sender.is_familiar(tables, epoch) {
                return Some(Reason::LimitedTotal);
            }
            match draw(tables, leases, settings, Budget::Familiar as usize) {
                Draw::Taken => Budget::Familiar,
                Draw::Exhausted | Draw::Fault => return Some(Reason::LimitedTotal),
            }
        }
    };
    let refused =
        match limiter::charge_rows(tables, sender.cells.0, sender.cells.1, &settings.source.limit, now) {
            Admission::Refused => Some(Reason::LimitedSource),
            admission => {
                let (first, second) =
                    indices(tables, limiter::hash(&tables.secret(), prefix.high, prefix.low));
                let row = BUDGET_CELLS + 3 * (1 << tables.cell_bits());
                let (first, second) = (row + first, row + (1 << tables.cell_bits()) + second);
                let charged = limiter::charge_rows(tables, first, second, &settings.prefix.limit, now);
                if charged == Admission::Refused {
                    Some(Reason::LimitedPrefix)
                } else {
                    // While the total is exhausted nobody becomes familiar, who is stays so.
                    let learning = match budget {
                        Budget::Familiar => true,
                        _ => leases.exhausted_at >> (settings.epoch_shift & 63) != epoch as u64,
                    };
                    if learning && admission == (Admission::Admitted { calm: true }) {
                        sender.remember(tables, epoch);
                    }
                    None
                }
            }
        };
    if refused.is_some() {
        give_back(leases, settings, budget as usize);
    } else if matches!(budget, Budget::Familiar) {
        // What the reserve gives, everybody else gets less of: the total is never exceeded.
        if let Some(total) = settings.budgets.get(Budget::Replies as usize) {
            limiter::owe(tables, budget_cell(Budget::Replies as usize), total, now);
        }
    }
    refused
}

/// Returns what `draw` took, when another level refused the packet.
#[inline(always)]
fn give_back(leases: &mut Leases, settings: &Settings, budget: usize) {
    let unlimited = settings.budgets.get(budget).is_none_or(limiter::Limit::is_unlimited);
    if !unlimited && let Some(tokens) = leases.tokens.get_mut(budget) {
        *tokens = tokens.wrapping_add(1);
    }
}

// -------------------------------------------------------------------------------------------------------------- respond

/// Turns a request into its answer, or leaves it to the kernel.
#[inline(always)]
fn respond<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    place: &Place<'_>,
    echo: &Echo,
) -> Step<Outcome> {
    if echo.obstacle as u8 != Reason::Answered as u8 {
        return end(echo.obstacle, echo.row);
    }
    match echo.family {
        Family::V4 => respond_v4(frame, tables, leases, place, echo)?,
        Family::V6 => respond_v6(frame, tables, leases, place, echo)?,
    }
    swap_macs(frame);
    Ok(Outcome { reason: Reason::Answered, row: echo.row })
}

#[inline(always)]
fn respond_v4<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    place: &Place<'_>,
    echo: &Echo,
) -> Step<()> {
    let row = echo.row;
    if place.settings.flags & SETTINGS_VERIFY_FULL != 0 {
        match sum_message(frame, tables, leases, echo.l3 + ipv4::LEN, echo.icmp_len) {
            None => return end(Reason::MultiBuffer, row),
            Some(sum) if !sum.verifies() => return end(Reason::BadIcmpChecksum, row),
            Some(_) => {}
        }
    }
    place.ends_observed(row)?;
    let Some(header) = frame.window::<V4_WINDOW>(echo.l3) else { return end(Reason::Truncated, row) };
    let mut checksum = u16::from_ne_bytes(field::<{ ipv4::CHECKSUM }, 2, _>(header));
    // the TTL is ours, never the request's.
    let ttl_word = field::<{ ipv4::TTL }, 2, _>(header);
    let new_ttl_word = [place.settings.ttl as u8, ttl_word[1]];
    checksum =
        update_u32(checksum, u16::from_ne_bytes(ttl_word) as u32, u16::from_ne_bytes(new_ttl_word) as u32);
    // identification and DF come back as they came, but an identification of 0 only with DF.
    let id_word = field::<{ ipv4::IDENTIFICATION }, 4, _>(header);
    if id_word == [0; 4] {
        let with_df = [0, 0, (ipv4::DONT_FRAGMENT >> 8) as u8, 0];
        checksum = update_u32(checksum, 0, u32::from_ne_bytes(with_df));
        set_field::<{ ipv4::IDENTIFICATION }, 4, _>(header, with_df);
    }
    set_field::<{ ipv4::TTL }, 2, _>(header, new_ttl_word);
    set_field::<{ ipv4::CHECKSUM }, 2, _>(header, checksum.to_ne_bytes());
    // swapping the addresses leaves both sums alone.
    let source = field::<{ ipv4::SOURCE }, 4, _>(header);
    let destination = field::<{ ipv4::DESTINATION }, 4, _>(header);
    set_field::<{ ipv4::SOURCE }, 4, _>(header, destination);
    set_field::<{ ipv4::DESTINATION }, 4, _>(header, source);
    let request = u16::from_ne_bytes(field::<{ ipv4::LEN + icmpv4::CHECKSUM }, 2, _>(header));
    set_field::<{ ipv4::LEN + icmpv4::CHECKSUM }, 2, _>(header, echo_reply_v4(request).to_ne_bytes());
    header[ipv4::LEN + icmpv4::TYPE] = icmpv4::ECHO_REPLY;
    Ok(())
}

#[inline(always)]
fn respond_v6<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    place: &Place<'_>,
    echo: &Echo,
) -> Step<()> {
    let row = echo.row;
    if place.settings.flags & SETTINGS_VERIFY_FULL != 0 {
        let Some(header) = frame.window::<V6_WINDOW>(echo.l3) else { return end(Reason::Truncated, row) };
        // RFC 8200 section 8.1: both addresses, the length and the next header, each in a 32-bit word.
        let pseudo = Sum::ZERO
            .add_words::<{ ipv6::SOURCE }, 32, _>(header)
            .add_u32((echo.icmp_len as u32).to_be())
            .add_u32((ipv6::ICMPV6 as u32).to_be());
        match sum_message(frame, tables, leases, echo.l3 + ipv6::LEN, echo.icmp_len) {
            None => return end(Reason::MultiBuffer, row),
            Some(sum) if !sum.plus(pseudo).verifies() => return end(Reason::BadIcmpChecksum, row),
            Some(_) => {}
        }
    }
    place.ends_observed(row)?;
    let Some(header) = frame.window::<V6_WINDOW>(echo.l3) else { return end(Reason::Truncated, row) };
    // version and traffic class stay, the flow label becomes zero.
    let class = header[ipv6::VERSION_CLASS_LABEL + 1] & 0xf0;
    set_field::<{ ipv6::VERSION_CLASS_LABEL + 1 }, 3, _>(header, [class, 0, 0]);
    header[ipv6::HOP_LIMIT] = place.settings.hop_limit as u8;
    let source = field::<{ ipv6::SOURCE }, 16, _>(header);
    let destination = field::<{ ipv6::DESTINATION }, 16, _>(header);
    set_field::<{ ipv6::SOURCE }, 16, _>(header, destination);
    set_field::<{ ipv6::DESTINATION }, 16, _>(header, source);
    let request = u16::from_ne_bytes(field::<{ ipv6::LEN + icmpv6::CHECKSUM }, 2, _>(header));
    set_field::<{ ipv6::LEN + icmpv6::CHECKSUM }, 2, _>(header, echo_reply_v6(request).to_ne_bytes());
    header[ipv6::LEN + icmpv6::TYPE] = icmpv6::ECHO_REPLY;
    Ok(())
}

/// back to the host the frame came from. The window was there when the frame was parsed and is there still.
#[inline(always)]
fn swap_macs<F: Frame>(frame: &mut F) {
    if let Some(header) = frame.window::<{ ethernet::LEN }>(0) {
        let destination = field::<{ ethernet::DESTINATION }, 6, _>(header);
        let source = field::<{ ethernet::SOURCE }, 6, _>(header);
        set_field::<{ ethernet::DESTINATION }, 6, _>(header, source);
        set_field::<{ ethernet::SOURCE }, 6, _>(header, destination);
    }
}

/// Bytes summed at a stretch.
const CHUNK: usize = 64;
/// Bytes summed at a time of what is left.
const PIECE: usize = 16;
/// Stretches that one buffer can have: a page of 4 KiB is the usual size, what is longer goes to the kernel.
const MAX_CHUNKS: usize = 4096 / CHUNK;
/// Where a message can start at most, as a mask: behind two tags and an IPv6 header.
const MAX_START: usize = 127;
const _: () = assert!(ethernet::LEN + 2 * ethernet::TAG_LEN + ipv6::LEN <= MAX_START);
const _: () = assert!((MAX_CHUNKS * CHUNK).is_power_of_two());

/// Sum over the ICMP message of `len` bytes at `start`, R-24, R-30 and R-69; `None` where it is too long to be summed here.
///
/// All lengths were proved before; the windows prove them again for the verifier, which follows every path on its own. Before and
/// behind the chunks the paths are brought together by values of which it knows nothing, or it would follow the chunks once for
/// each way a frame can get here, and the tail once for each number of chunks.
#[inline(always)]
fn sum_message<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    leases: &mut Leases,
    start: usize,
    len: usize,
) -> Option<Sum> {
    if len > MAX_CHUNKS * CHUNK {
        return None;
    }
    let mut sum = Sum::ZERO;
    let mut at = start;
    let mut left = len;
    if len >= CHUNK {
        let place = tables.opaque(leases, start << 16 | len);
        let start = place >> 16 & MAX_START;
        at = start;
        left = place & 0xffff;
        for _ in 0..MAX_CHUNKS {
            if left < CHUNK {
                break;
            }
            sum = sum.add_words::<0, CHUNK, CHUNK>(frame.window::<CHUNK>(at)?);
            at += CHUNK;
            left -= CHUNK;
        }
        if left >= CHUNK {
            return None;
        }
        let len = tables.opaque(leases, len);
        at = start + (len & ((MAX_CHUNKS * CHUNK - 1) & !(CHUNK - 1)));
        left = len & (CHUNK - 1);
    }
    for _ in 0..CHUNK / PIECE - 1 {
        if left < PIECE {
            break;
        }
        sum = sum.add_words::<0, PIECE, PIECE>(frame.window::<PIECE>(at)?);
        at += PIECE;
        left -= PIECE;
    }
    for _ in 0..PIECE / 4 - 1 {
        if left < 4 {
            break;
        }
        sum = sum.add_u32(u32::from_ne_bytes(*frame.window::<4>(at)?));
        at += 4;
        left -= 4;
    }
    if left >= 2 {
        sum = sum.add_u16(u16::from_ne_bytes(*frame.window::<2>(at)?));
        at += 2;
        left -= 2;
    }
    if left == 1 {
        // An odd length is summed as if a zero byte followed.
        let [last] = *frame.window::<1>(at)?;
        sum = sum.add_u16(u16::from_ne_bytes([last, 0]));
    }
    Some(sum)
}

impl Outcome {
    /// What becomes of the frame.
    #[inline(always)]
    pub const fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }
}
