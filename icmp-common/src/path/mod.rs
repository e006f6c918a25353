//! The steps of the packet path in order: parse -> own? -> policy -> limit -> reply -> count.
//!
//! Owns the order of the steps and the outcome of a frame, and nothing else. Each step is a file beside this one, and each check is written in
//! one place (docs/packet-path.md has the table). To pass a frame is always correct: if a step is not sure, the frame ends in a reason whose
//! verdict is pass. Only `reply` writes, and only after all checks. Source and destination are always those of the request.
//!
//! The rules that comments name are in docs/packet-path.md.

pub mod apart;
mod capture;
pub mod checks;
mod limit;
mod link;
pub mod mtu;
mod own;
mod parse;
mod peers;
mod policy;
mod reply;
#[cfg(test)]
mod testing;
mod unusual;

use crate::abi::{
    INTERFACE_ENTRIES, INTERFACE_STRIPS_TAGS, Interface, SETTINGS_ECHO, SETTINGS_OBSERVE, SETTINGS_PEERS,
    SETTINGS_PRESENT, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_SETTINGS, Settings, Tap,
};
use crate::frame::Frame;
use crate::outcome::{Outcome, Step, end};
use crate::reason::{Reason, Verdict};
use crate::tables::Tables;
use crate::types::{Family, NO_IP_ROW, echo_row};
use crate::wire::ethernet;

#[cfg(feature = "host")]
pub use own::{Target, looked_up};
#[cfg(feature = "host")]
pub use policy::SENDER_SHARE;

use apart::{About, Apart, CAPTURE, INTERFACE, PEERS};
use link::Link;
#[cfg(not(feature = "host"))]
use own::Target;
use parse::Headers;

/// Handles one frame that came in on `ifindex`: decides, turns it into its reply if it is answered, counts.
///
/// The frame is changed only if the verdict is [`Verdict::Answer`].
#[inline(always)]
pub fn process<F: Apart, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> Outcome {
    let interface = interface(frame, tables, ifindex);
    let (Ok(outcome) | Err(outcome)) = decide(frame, tables, interface);
    tables.count(interface.map_or(0, |i| i.slot), outcome.row, outcome.reason, frame.total_len() as u64);
    // One question for both: mostly nobody wants to know.
    let reasons = tables.captured_reasons(Tap::Capture) | tables.captured_reasons(Tap::Events);
    if reasons >> outcome.reason as u64 & 1 != 0 {
        let ended = outcome.reason as u64 | (outcome.row as u64) << 8;
        for tap in [Tap::Capture, Tap::Events] {
            let ended = ended | (tap as u64) << 16;
            frame.apart::<CAPTURE, T>(tables, About::NOTHING, [ended, ifindex as u64]);
        }
    }
    outcome
}

/// The slot of the interface a frame came in on; 0 where it has none.
#[inline(always)]
pub fn slot<F: Apart, T: Tables>(frame: &mut F, tables: &T, ifindex: u32) -> u32 {
    interface(frame, tables, ifindex).map_or(0, |i| i.slot)
}

/// The entry of the interface a frame came in on, which is mostly where it is looked for first.
#[inline(always)]
fn interface<'t, F: Apart, T: Tables>(frame: &mut F, tables: &'t T, ifindex: u32) -> Option<&'t Interface> {
    let of_interface = |entry: &&Interface| entry.ifindex == ifindex;
    let entry = tables.interface_entry(ifindex & (INTERFACE_ENTRIES - 1))?;
    if of_interface(&entry) {
        return Some(entry);
    }
    let place = frame.apart::<INTERFACE, T>(tables, About::NOTHING, [ifindex as u64, 0]);
    tables.interface_entry(place as u32 & (INTERFACE_ENTRIES - 1)).filter(of_interface)
}

#[inline(always)]
fn decide<F: Apart, T: Tables>(frame: &mut F, tables: &T, interface: Option<&Interface>) -> Step<Outcome> {
    let link = link::link(frame, tables)?;
    let (ingress, request) = match link.ether_type {
        ethernet::IPV4 => packet(frame, tables, interface, &link, Family::V4),
        ethernet::IPV6 => packet(frame, tables, interface, &link, Family::V6),
        _ => end(Reason::NotIp, NO_IP_ROW),
    }?;
    let ended = match answer(frame, tables, &ingress, &link, &request) {
        Ok(()) => Outcome { reason: Reason::Answered, row: echo_row(request.family) },
        Err(reason) => Outcome { reason, row: echo_row(request.family) },
    };
    Ok(ingress.observed(ended))
}

/// An echo request that the policy lets be answered.
struct Request {
    family: Family,
    headers: Headers,
    target: Target,
    answer: policy::Answer,
}

/// Finds out about a packet whether it is a request. The same for both families, each of which gets its own copy, in which what differs is
/// constant.
#[inline(always)]
fn packet<'t, F: Apart, T: Tables>(
    frame: &mut F,
    tables: &'t T,
    interface: Option<&'t Interface>,
    link: &Link,
    family: Family,
) -> Step<(Ingress<'t>, Request)> {
    parse::protocol(frame, link, family)?;
    let ingress = Ingress::find(tables, interface, family)?;
    match request(frame, tables, &ingress, link, family) {
        Ok(request) => Ok((ingress, request)),
        Err(outcome) => Err(ingress.observed(outcome)),
    }
}

#[inline(always)]
fn request<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    ingress: &Ingress<'_>,
    link: &Link,
    family: Family,
) -> Step<Request> {
    let headers = parse::headers(frame, tables, link, family)?;
    let target = own::target(frame, tables, ingress, link, &headers, family)?;
    let answer = policy::answer(frame, tables, ingress, link, &headers, family)?;
    Ok(Request { family, headers, target, answer })
}

/// Answers a request, or says why not.
#[inline(always)]
fn answer<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    ingress: &Ingress<'_>,
    link: &Link,
    request: &Request,
) -> Result<(), Reason> {
    let Request { family, ref headers, target, answer } = *request;
    limit::admit(frame, tables, ingress, link, headers, family, answer)?;
    // Whatever else there is about the request: the kernel may have the address, and answer what is passed to it.
    if matches!(target, Target::UnhealthyDrop) {
        return Err(Reason::UnhealthyVipDrop);
    }
    if let Some(reason) = headers.unusual.reason().or_else(|| ingress.no_answer(frame, target, headers.code))
    {
        return Err(reason);
    }
    if mtu::is_exceeded(tables, ingress.interface, headers.ip_len(family), family) {
        return Err(Reason::BeyondPathMtu);
    }
    if let Some(reason) = reply::unverified(frame, tables, ingress, link, headers, family) {
        return Err(reason);
    }
    if ingress.settings.flags & SETTINGS_OBSERVE != 0 {
        return Err(Reason::WouldAnswer);
    }
    reply::write(frame, ingress.settings, link.l3, family).ok_or(Reason::Truncated)?;
    if ingress.settings.flags & SETTINGS_PEERS != 0 {
        frame.apart::<PEERS, T>(tables, ingress.about(link, headers, family), [0; 2]);
    }
    Ok(())
}

/// Where a frame came in, and what is in force there for the time of this frame.
pub(crate) struct Ingress<'t> {
    pub(crate) interface: &'t Interface,
    pub(crate) settings: &'t Settings,
    pub(crate) switch: u32,
    /// Buffer of the settings in force.
    pub(crate) buffer: u32,
    /// Buffer of the addresses in force.
    pub(crate) addresses: u32,
}

impl<'t> Ingress<'t> {
    #[inline(always)]
    fn find<T: Tables>(tables: &'t T, interface: Option<&'t Interface>, family: Family) -> Step<Self> {
        // nothing configured is nothing answered and nothing dropped.
        let unconfigured = Outcome { reason: Reason::Unconfigured, row: parse::row(family) };
        let interface = interface.ok_or(unconfigured)?;
        let mut switch = tables.switch().ok_or(unconfigured)?;
        if switch & SWITCH_AWAITS != 0 && tables.rollback_at().is_some_and(|at| tables.monotonic_ns() >= at) {
            // Everything that goes by the switch is to see that other settings are in force, token batches too.
            switch ^= SWITCH_SETTINGS;
        }
        let buffer = switch & SWITCH_SETTINGS;
        let settings = tables.settings(buffer).ok_or(unconfigured)?;
        if settings.flags & SETTINGS_PRESENT == 0 {
            return Err(unconfigured);
        }
        let addresses = (switch & SWITCH_ADDRESSES != 0) as u32;
        Ok(Self { interface, settings, switch, buffer, addresses })
    }

    /// The preset `observe` decides nothing: what would have been dropped or limited passes.
    #[inline(always)]
    fn observed(&self, outcome: Outcome) -> Outcome {
        if self.settings.flags & SETTINGS_OBSERVE == 0 {
            return outcome;
        }
        match outcome.verdict() {
            Verdict::Drop => Outcome { reason: Reason::WouldDrop, ..outcome },
            Verdict::Limit => Outcome { reason: Reason::WouldLimit, ..outcome },
            Verdict::Pass | Verdict::Answer => outcome,
        }
    }

    /// What a step that runs apart is told of a frame.
    #[inline(always)]
    fn about(&self, link: &Link, headers: &Headers, family: Family) -> About {
        About::new(family, link.l3, link.vlan)
            .with_ingress(self.switch, self.buffer, self.addresses, self.interface.slot)
            .with_len(headers.icmp_len)
    }

    /// Why an echo request is the kernel's to answer.
    #[inline(always)]
    fn no_answer<F: Frame>(&self, frame: &mut F, target: Target, code: u8) -> Option<Reason> {
        let Interface { mac, flags, .. } = self.interface;
        let Some(source_mac) = link::source_mac(frame) else { return Some(Reason::Truncated) };
        if self.settings.flags & SETTINGS_ECHO == 0 {
            return Some(Reason::PolicyPass);
        }
        match target {
            Target::Own => {}
            Target::Group => return Some(Reason::GroupEcho),
            Target::LinkGroup => return Some(Reason::LinkGroup),
            Target::Unanswerable => return Some(Reason::MartianSource),
            Target::FromOwn => return Some(Reason::OwnSource),
            Target::Elsewhere => return Some(Reason::NotOwnAddress),
            // What is dropped has ended before.
            Target::Unhealthy | Target::UnhealthyDrop => return Some(Reason::UnhealthyVip),
        }
        // the answer must go to one other host.
        if source_mac & ethernet::GROUP_BIT != 0 || source_mac == 0 {
            return Some(Reason::MartianSource);
        }
        if source_mac == *mac {
            return Some(Reason::OwnSource);
        }
        // stacks differ in what they do with other codes.
        if code != 0 {
            return Some(Reason::EchoCode);
        }
        // A tag in the frame may be the inner one of two.
        (flags & INTERFACE_STRIPS_TAGS != 0).then_some(Reason::StrippedVlan)
    }
}
