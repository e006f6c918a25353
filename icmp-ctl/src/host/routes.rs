//! The kernel's routing decision for a packet, from the kernel itself (RTM_GETROUTE, as `ip route get`).
//!
//! Owns the question and the meaning of the answer. It asks in the network namespace of the command, and changes nothing.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use nix::errno::Errno;
use nix::libc;

use crate::failure::sentence;
use crate::finding::{Finding, State};
use crate::host::netlink::{ask, event_loop};

const CHECK: &str = "route";
const NOT_FORWARDED: &str = "it is for another host, and the kernel does not forward here";

/// What becomes of a packet that comes in on an interface.
pub(super) fn way_in(interface: (u32, &str), source: IpAddr, destination: IpAddr) -> Finding {
    let (ifindex, name) = interface;
    let packet = format!("{source} to {destination}");
    let refused = |why: &str| {
        Finding::new(CHECK, State::Broken, format!("the kernel's routing refuses {packet} on {name}"), why)
    };
    match look_up(Some(source), destination, Some(RouteAttribute::Iif(ifindex))) {
        Ok(Answer::Route(
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast,
        )) => Finding::fine(CHECK, format!("the kernel takes {packet} in")),
        // Of IPv6 the kernel looks at this when it has the route (`ip6_forward` in net/ipv6/ip6_output.c).
        Ok(Answer::Route(RouteType::Unicast)) if destination.is_ipv6() && !forwards_ipv6(name) => {
            refused(NOT_FORWARDED)
        }
        Ok(Answer::Route(RouteType::Unicast)) => {
            let why = "it is for another host, which may answer it, where its TTL or hop limit lasts";
            Finding::new(CHECK, State::Unknown, format!("the kernel forwards {packet}"), why)
        }
        Ok(Answer::Route(_)) => refused("a route says so (blackhole, unreachable or prohibit)"),
        // Linux 6.18 says EINVAL of both, 6.1 says EXDEV of the first.
        Ok(Answer::Refused(libc::EXDEV | libc::EINVAL)) => refused(
            "its source or its destination is one that no packet from a link may have here (of a group that the host has not joined, too), or the way back \
             to its source is not by this interface and `rp_filter` is on",
        ),
        Ok(Answer::Refused(libc::EHOSTUNREACH)) => refused(NOT_FORWARDED),
        Ok(Answer::Refused(errno)) => refused(refusal(errno)),
        Err(error) => unknown(&packet, &error),
    }
}

/// Whether IPv6 packets that come in on an interface are forwarded. `force_forwarding` is there since Linux 6.17.
fn forwards_ipv6(name: &str) -> bool {
    ["all/forwarding".to_owned(), format!("{name}/force_forwarding")].iter().any(|switch| {
        let value = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{switch}"));
        value.is_ok_and(|value| value.trim() != "0")
    })
}

/// Whether a reply finds a way, from an address or from whichever the kernel chooses, by the routes of a VRF where it is in one.
pub(super) fn way_back(source: Option<IpAddr>, destination: IpAddr, vrf: Option<u32>) -> Finding {
    let source_text = source.map_or_else(String::new, |source| format!("{source} "));
    let packet = format!("{source_text}to {destination}");
    let none = |why: &str| {
        Finding::new(CHECK, State::Broken, format!("there is no route for a reply, {packet}"), why)
    };
    match look_up(source, destination, vrf.map(RouteAttribute::Oif)) {
        Ok(Answer::Route(RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit)) => {
            none("a route says so (blackhole, unreachable or prohibit)")
        }
        Ok(Answer::Route(_)) => Finding::fine(CHECK, format!("there is a route for a reply, {packet}")),
        Ok(Answer::Refused(errno)) => none(refusal(errno)),
        Err(error) => unknown(&packet, &error),
    }
}

/// What an error means in the place of a route: those of routes that refuse are in `fib_props` (net/ipv4/fib_semantics.c).
fn refusal(errno: i32) -> &'static str {
    match errno {
        libc::EINVAL => "a route says `blackhole`",
        libc::EHOSTUNREACH => "a route says `unreachable`",
        libc::EACCES => "a route says `prohibit`",
        libc::ENETUNREACH => "the routing tables have none",
        _ => Errno::from_raw(errno).desc(),
    }
}

fn unknown(packet: &str, error: &anyhow::Error) -> Finding {
    Finding::new(CHECK, State::Unknown, format!("the way of {packet} is not known"), sentence(error))
}

/// What the kernel answers.
enum Answer {
    Route(RouteType),
    /// With this error.
    Refused(i32),
}

/// `interface` is where the packet comes in; with another one or none, it is the host's own.
fn look_up(source: Option<IpAddr>, destination: IpAddr, interface: Option<RouteAttribute>) -> Result<Answer> {
    let mut message = RouteMessage::default();
    let (family, length) =
        if destination.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    message.header.address_family = family;
    message.header.source_prefix_length = source.map_or(0, |_| length);
    message.header.destination_prefix_length = length;
    message.attributes.extend(source.map(|source| RouteAttribute::Source(source.into())));
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message.attributes.extend(interface);
    event_loop()?.block_on(ask(async |handle| match handle.route().get(message).execute().try_next().await {
        Ok(answer) => Ok(Answer::Route(answer.context("it has not answered")?.header.kind)),
        Err(rtnetlink::Error::NetlinkError(error)) => Ok(Answer::Refused(-error.raw_code())),
        Err(error) => Err(error).context("asking the kernel for a route"),
    }))
}
