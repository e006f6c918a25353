//! The addresses that are taken for those of the capture's host, as lines.

use crate::diagnostics::{count, note, warn};
use crate::instance::compiled::Compiled;
use crate::replay::own::{FIRST_LOOK, LookedAt, Own, OwnLink};

/// Says whose capture it is taken for, and what is not known of its VIPs. A host with VIPs need not have an address.
pub(in crate::commands) fn say(own: &Own, policies: &[&Compiled]) {
    let has_vips = policies.iter().any(|policy| !policy.vips().is_empty());
    match (own.guessed, own.seen) {
        (true, true) => note(&format!(
            "taken for the host's own, because most echo requests go there: {}; --own ADDRESS says otherwise",
            of_links(own, |link| {
                let addresses: Vec<String> =
                    link.addresses.iter().map(|own| own.addr().to_string()).collect();
                format!("{} at {}", addresses.join(", "), link.mac_text())
            })
        )),
        (false, true) => note(&format!(
            "the host's MAC address is taken to be {}, where most frames for its addresses go",
            of_links(own, OwnLink::mac_text)
        )),
        (true, false) if has_vips => {}
        (true, false) => warn(&why_unknown(&own.looked_at)),
        (false, false) => {
            warn(&format!("none of the first {FIRST_LOOK} frames is for an address that --own says"));
        }
    }
    if policies.iter().any(|policy| !policy.gated().is_empty()) {
        note("VIPs with a check are taken for healthy: the capture does not say how they were");
    }
}

/// Why no address is known as the host's own, and what helps.
fn why_unknown(looked_at: &LookedAt) -> String {
    let LookedAt { records, sent, unknown, unknown_links } = looked_at;
    if *records == 0 {
        return "the capture has no frames".to_owned();
    }
    if unknown == records {
        let links: Vec<_> = unknown_links.iter().map(i32::to_string).collect();
        return format!(
            "no frame can be read: link type {} is not read, or the frames are too short for their header; capture on an interface with Ethernet, or on `any`",
            links.join(", ")
        );
    }
    let records = count(*records, "frame", "frames");
    if *sent > 0 {
        let sent = count(*sent, "frame that was", "frames that were");
        return format!(
            "no echo request is among the first {records}, but {sent} going out, as the answers are that `icmp-ctl capture` writes; the requests that were answered are in no capture of this host: capture on the sender or on a mirror port"
        );
    }
    format!(
        "no echo request is among the first {records}, so that no address is known as the host's own; --own ADDRESS says which are"
    )
}

/// The same of each link on which something is.
fn of_links(own: &Own, said: impl Fn(&OwnLink) -> String) -> String {
    let links: Vec<_> = own.links().iter().filter(|link| !link.addresses.is_empty()).map(said).collect();
    links.join("; ")
}
