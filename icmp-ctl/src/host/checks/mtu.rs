//! Whether the program can take frames of the interface's MTU.

use crate::diagnostics::shell_word;
use crate::failure::sentence;
use crate::finding::{Finding, State};
use crate::host::netlink::Link;
use crate::kernel::netdev::XdpFeatures;

/// Largest MTU whose frames always fit one buffer of a 4 KiB page next to what the kernel keeps there.
pub const ONE_BUFFER_MTU: u32 = 3498;
/// Smallest MTU with which the kernel has IPv6 on an interface (RFC 8200 section 5).
const IPV6_MTU: u32 = 1280;
const CHECK: &str = "mtu";

/// Whether it fits IPv6 and the driver.
pub(super) fn fits(link: &Link) -> Finding {
    // A driver without native mode gives the program no buffers: the kernel does, in generic mode, and all of them.
    let has_frags = XdpFeatures::read(link.index)
        .map(|features| Some(features.filter(|features| features.is_native())?.has_frags()));
    judge(link, has_frags.map_err(|error| sentence(&error))).on(&link.name)
}

/// `has_frags` is whether the driver gives the program frames in several buffers, where it gives any and the kernel tells.
fn judge(link: &Link, has_frags: Result<Option<bool>, String>) -> Finding {
    let Link { name, mtu, .. } = link;
    let smaller = |to: u32| format!("ip link set dev {} mtu {to}", shell_word(name));
    match *mtu {
        0..IPV6_MTU => {
            let why = format!(
                "IPv6 needs {IPV6_MTU}, so the kernel has no IPv6 address on it, and no ping to one is answered"
            );
            Finding::new(CHECK, State::Broken, format!("has an MTU of {mtu}"), why)
                .fixed_by(smaller(IPV6_MTU))
        }
        IPV6_MTU..=ONE_BUFFER_MTU => Finding::fine(CHECK, format!("{mtu}, every frame fits one buffer")),
        _ if has_frags == Ok(Some(false)) => {
            let why = format!(
                "its driver gives the program frames in one buffer only, which fit for sure up to {ONE_BUFFER_MTU}; above that it may refuse \
                 native mode, or keep large frames from the program"
            );
            Finding::new(CHECK, State::Slow, format!("has an MTU of {mtu}"), why)
                .fixed_by(smaller(ONE_BUFFER_MTU))
        }
        _ if let Err(why) = has_frags => {
            let what = format!("has an MTU of {mtu}; whether its driver takes so large frames is not known");
            Finding::new(CHECK, State::Unknown, what, why)
        }
        _ => Finding::fine(CHECK, format!("{mtu}, large frames come in several buffers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mtu_is_held_against_ipv6_and_the_buffers_of_the_driver() {
        for (mtu, has_frags, expected) in [
            (1279, Ok(Some(true)), State::Broken),
            (1280, Ok(Some(false)), State::Fine),
            (3498, Ok(Some(false)), State::Fine),
            (3498, Err("refused".to_owned()), State::Fine),
            (3499, Ok(Some(false)), State::Slow),
            (9000, Ok(Some(true)), State::Fine),
            (9000, Ok(None), State::Fine),
            (9000, Err("refused".to_owned()), State::Unknown),
        ] {
            let link = Link { name: "eth0".to_owned(), mtu, ..Link::default() };
            assert_eq!(judge(&link, has_frags.clone()).state, expected, "{mtu} {has_frags:?}");
        }
    }
}
