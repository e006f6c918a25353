//! The other end of a veth: a frame sent there in native mode arrives only if that end has a program, too (drivers/net/veth.c).

use netlink_packet_route::link::InfoKind;

use crate::diagnostics::shell_word;
use crate::finding::{Finding, State};
use crate::host::checks::Place;
use crate::host::netlink::{Link, peer_once};

const CHECK: &str = "peer";

/// Whether answers arrive there; nothing of what is no veth.
pub(super) fn takes_answers(place: Place<'_>) -> Option<Finding> {
    let name = &place.link.name;
    if place.link.kind != Some(InfoKind::Veth) {
        return None;
    }
    if place.mode == Some("generic") {
        return Some(Finding::fine(CHECK, "generic mode needs no program at its other end").on(name));
    }
    let word = shell_word(name);
    let again = if place.mode.is_some() { format!("icmp-ctl detach {word} && ") } else { String::new() };
    let generic = format!("{again}icmp-ctl attach {word} --mode generic");
    let peer = peer_once(place.network, place.link);
    let found = match peer.as_ref().map(Option::as_ref) {
        Ok(Some(peer)) if is_native(peer) => Finding::fine(CHECK, "its other end has an XDP program"),
        Ok(Some(_)) => Finding::new(
            CHECK,
            State::Broken,
            "is a veth, and its other end has no XDP program in native mode",
            "no answer arrives there that is sent in native mode; generic mode needs none there",
        )
        .fixed_by(generic),
        Ok(None) | Err(_) => Finding::new(
            CHECK,
            State::Unknown,
            "is a veth, and whether its other end has an XDP program cannot be seen from here",
            "without one no answer arrives there that is sent in native mode; generic mode needs none there",
        )
        .fixed_by(generic),
    };
    Some(found.on(name))
}

fn is_native(peer: &Link) -> bool {
    peer.xdp.is_some_and(|xdp| xdp.mode != "generic")
}
