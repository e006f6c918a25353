//! Tracked peers, as users write them and as the program has them.
//!
//! Owns the translation in both directions, and which names are allowed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use icmp_common::abi::{PEER_PREFIXES, PeerPrefix, SETTINGS_PEERS, Settings};
use icmp_common::peers::{is_in, least_mask, mapped};
use icmp_common::types::Family;
use icmp_common::wire::ipv6::Halves;
use ipnet::IpNet;

use crate::config::peers::{NamedPeer, Peers, Track};
use crate::config::prefix::Prefix;
use crate::config::source::refuse;

/// Characters of a name.
const NAME_LEN: usize = 32;
/// Bits before an IPv4 address that is written as an IPv6 one.
const MAPPED_BITS: u8 = 96;

/// Sets who is tracked.
///
/// # Errors
/// There are more prefixes than there is room for, or names that cannot be.
pub(super) fn set(settings: &mut Settings, peers: &Peers) -> Result<()> {
    settings.flags &= !SETTINGS_PEERS;
    (settings.peers, settings.peer_prefixes) = (peers.most(), 0);
    settings.tracked = [PeerPrefix::default(); PEER_PREFIXES];
    match &peers.track {
        None | Some(Track::Most(_)) => {}
        Some(Track::From(prefixes)) if prefixes.len() > PEER_PREFIXES => {
            let first_beyond = PEER_PREFIXES.to_string();
            return refuse(
                &["peers", "track", &first_beyond],
                format!("{} prefixes are tracked, and there is room for {PEER_PREFIXES}", prefixes.len()),
            );
        }
        Some(Track::From(prefixes)) => {
            settings.peer_prefixes = prefixes.len() as u32;
            for (to, prefix) in settings.tracked.iter_mut().zip(prefixes) {
                *to = in_map(prefix.0);
            }
        }
    }
    if settings.peers != 0 {
        settings.flags |= SETTINGS_PEERS;
    }
    check_names(peers)
}

/// What of it is probably not meant: that nobody is tracked, and names of those who are not.
pub(super) fn warnings(peers: &Peers, settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if matches!(&peers.track, Some(Track::From(prefixes)) if prefixes.is_empty()) {
        warnings.push(
            "peers.track: the list is empty, so that no peer is tracked; a number like 10000 tracks all that ping, and 0 none".to_owned(),
        );
    }
    let is_tracked = |peer: &&NamedPeer| {
        let address = peer.address.to_canonical();
        let least_mask = least_mask(if address.is_ipv4() { Family::V4 } else { Family::V6 });
        let address = halves(address);
        let prefixes = settings.tracked.iter().take(settings.peer_prefixes as usize);
        settings.peers != 0
            && (settings.peer_prefixes == 0
                || prefixes.into_iter().any(|prefix| is_in(address, least_mask, prefix)))
    };
    let untracked: Vec<_> = peers.named.iter().filter(|peer| !is_tracked(peer)).collect();
    let named = |peer: &&NamedPeer| format!("{} ({})", peer.name, peer.address);
    if let [first, others @ ..] = &untracked[..] {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let why =
            if settings.peers == 0 { "no peer is tracked" } else { "no prefix of `track` has the address" };
        warnings.push(format!("peers.named: nothing is told of {}{more}: {why}", named(first)));
    }
    warnings
}

fn check_names(peers: &Peers) -> Result<()> {
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    for (i, peer) in peers.named.iter().enumerate() {
        let number = i.to_string();
        let len = peer.name.chars().count();
        let wrong = if !(1..=NAME_LEN).contains(&len) || peer.name.contains(char::is_control) {
            Some(format!("a name has 1 to {NAME_LEN} characters that can be seen"))
        } else {
            (!names.insert(&peer.name)).then(|| "another peer has this name".to_owned())
        };
        if let Some(why) = wrong {
            return refuse(&["peers", "named", &number, "name"], why);
        }
        if !addresses.insert(peer.address.to_canonical()) {
            return refuse(
                &["peers", "named", &number, "address"],
                format!("{} has another name already", peer.address),
            );
        }
    }
    Ok(())
}

fn in_map(net: IpNet) -> PeerPrefix {
    let (high, low) = halves(net.addr());
    let len = if net.addr().is_ipv4() { net.prefix_len() + MAPPED_BITS } else { net.prefix_len() };
    let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    PeerPrefix { high, low, mask_high: (mask >> 64) as u64, mask_low: mask as u64 }
}

/// An address as it is in the map.
pub(crate) fn halves(address: IpAddr) -> Halves {
    match address {
        IpAddr::V4(v4) => mapped(v4.to_bits()),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
    }
}

/// The address that is so in the map.
pub fn address((high, low): (u64, u64)) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical()
}

fn from_map(prefix: &PeerPrefix) -> Option<Prefix> {
    let len = (prefix.mask_high.count_ones() + prefix.mask_low.count_ones()) as u8;
    let net = match address((prefix.high, prefix.low)) {
        IpAddr::V4(v4) if len >= MAPPED_BITS => ipnet::Ipv4Net::new(v4, len - MAPPED_BITS).map(IpNet::V4),
        // 0.0.0.0 with a prefix of its own family is above; this is one of IPv6.
        IpAddr::V4(v4) => ipnet::Ipv6Net::new(Ipv4Addr::to_ipv6_mapped(&v4), len).map(IpNet::V6),
        IpAddr::V6(v6) => ipnet::Ipv6Net::new(v6, len).map(IpNet::V6),
    };
    net.ok().map(Prefix)
}

/// Who is tracked, as it is written.
pub(super) fn written(settings: &Settings) -> Option<Track> {
    if settings.flags & SETTINGS_PEERS == 0 {
        return None;
    }
    if settings.peer_prefixes == 0 {
        return Some(Track::Most(settings.peers));
    }
    let prefixes = settings.tracked.iter().take(settings.peer_prefixes as usize);
    Some(Track::From(prefixes.filter_map(from_map).collect()))
}

/// The same as a line.
pub(super) fn line(settings: &Settings) -> String {
    match written(settings) {
        None => "peers.track = nobody".to_owned(),
        Some(Track::Most(most)) => format!("peers.track = {most}"),
        Some(Track::From(prefixes)) => {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.0.to_string()).collect();
            format!("peers.track = {}", prefixes.join(", "))
        }
    }
}

/// Whether these words mean what is in force.
pub(super) fn says(peers: &Peers, settings: &Settings) -> bool {
    let mut said = *settings;
    set(&mut said, peers).is_ok() && said == *settings
}

#[cfg(test)]
mod tests {
    use crate::config::file::Config;
    use crate::host::defaults::HostDefaults;
    use crate::kernel::clock::Tick;
    use crate::policy::compile::compile_policy;

    use super::*;

    fn compiled(text: &str) -> Result<Settings> {
        let config = Config::parse(text, "c.toml")?;
        let tick = Tick { per_second: 250.0 };
        compile_policy(&config, tick, HostDefaults { ttl: 64, hop_limit: 64 }, 1)
            .map(|policy| policy.settings)
    }

    #[test]
    fn who_is_tracked_is_written_as_it_was_meant() {
        for (text, means) in [
            ("", "nobody"),
            ("peers.track = 0", "nobody"),
            ("peers.track = []", "nobody"),
            ("peers.track = 10000", "10000"),
            (
                "peers.track = [\"198.51.100.0/24\", \"192.0.2.1\", \"2001:db8::/32\", \"0.0.0.0/0\", \"::/0\"]",
                "198.51.100.0/24, 192.0.2.1/32, 2001:db8::/32, 0.0.0.0/0, ::/0",
            ),
        ] {
            let settings = compiled(text).expect(text);
            assert_eq!(line(&settings), format!("peers.track = {means}"), "{text}");
            let again = Peers { track: written(&settings), named: Vec::new() };
            assert!(says(&again, &settings), "{text}");
        }
    }

    #[test]
    fn a_list_that_is_empty_and_names_of_who_is_not_tracked_are_warned_about() {
        let named = "[[peers.named]]\nname = \"site-b\"\naddress = \"192.0.2.1\"";
        for (track, names, said) in [
            ("", "", vec![]),
            ("10000", named, vec![]),
            ("[\"192.0.2.0/24\", \"2001:db8::/32\"]", named, vec![]),
            ("[]", "", vec!["peers.track: the list is empty, so that no peer is tracked"]),
            ("[]", named, vec!["the list is empty", "site-b (192.0.2.1): no peer is tracked"]),
            ("0", named, vec!["peers.named: nothing is told of site-b (192.0.2.1): no peer is tracked"]),
            ("[\"::/0\"]", named, vec!["site-b (192.0.2.1): no prefix of `track` has the address"]),
            (
                "[\"198.51.100.0/24\"]",
                named,
                vec!["site-b (192.0.2.1): no prefix of `track` has the address"],
            ),
        ] {
            let track = if track.is_empty() { String::new() } else { format!("[peers]\ntrack = {track}\n") };
            let text = format!("{track}{names}\n");
            let peers = Config::parse(&text, "c.toml").expect(&text).peers;
            let warnings = warnings(&peers, &compiled(&text).expect(&text));
            assert_eq!(warnings.len(), said.len(), "{text}: {warnings:?}");
            assert!(
                warnings.iter().zip(said).all(|(warning, said)| warning.contains(said)),
                "{text}: {warnings:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_tracked_or_named_is_refused_with_its_place() {
        let many: Vec<_> = (0..17).map(|n| format!("\"192.0.2.{n}\"")).collect();
        let named = |a: &str, b: &str| format!("peers.named = [{{ {a} }}, {{ {b} }}]");
        for (text, why) in [
            (
                "peers.track = 300000".to_owned(),
                "300000 peers cannot be tracked: from 0, which is none, to 262144",
            ),
            ("peers.track = -1".to_owned(), "-1 peers cannot be tracked"),
            (
                "peers.track = \"all\"".to_owned(),
                "expected a number of peers like 10000, or a list of prefixes",
            ),
            ("peers.track = [\"192.0.2.1/24\"]".to_owned(), "the prefix is 192.0.2.0/24"),
            (
                format!("peers.track = [{}]", many.join(", ")),
                "17 prefixes are tracked, and there is room for 16",
            ),
            ("peers.named = [{ name = \"a\", address = \"x\" }]".to_owned(), "this is no IP address"),
            (
                "peers.named = [{ name = \"\", address = \"192.0.2.1\" }]".to_owned(),
                "a name has 1 to 32 characters",
            ),
            (
                named("name = \"a\", address = \"192.0.2.1\"", "name = \"a\", address = \"192.0.2.2\""),
                "another peer has this name",
            ),
            (
                named("name = \"a\", address = \"192.0.2.1\"", "name = \"b\", address = \"192.0.2.1\""),
                "192.0.2.1 has another name already",
            ),
        ] {
            let error = format!("{:#}", compiled(&text).expect_err(&text));
            assert!(error.contains(why) && error.contains("line 1"), "{text}: {error}");
        }
    }
}
