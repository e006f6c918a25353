//! Owns a second reading of the rules: which frames the host of the vectors may answer, and has to if it limits nothing.
//!
//! Kernel and host run the same code, so the differential test can't see an error in it. This is the same decision as plain
//! conditions in no particular order, over `std::net` types and whole slices; speed and the verifier are no concern.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::netns::{HOST_IPV4, HOST_IPV6, HOST_MAC};
use crate::packet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Layers, be16};

/// Why a frame must not be answered, or Ok if it has to be; on each of `vlans` the host owns its first address of each family.
///
/// # Errors
/// The first rule that forbids the answer.
pub fn answerable(frame: &[u8], vlans: &[u16]) -> Result<(), &'static str> {
    let layers = Layers::of(frame).ok_or("no EtherType")?;
    allow(layers.destination == HOST_MAC, "another MAC address, or a group")?;
    allow(layers.source[0] & 1 == 0, "an answer to a group")?;
    allow(layers.source != [0; 6] && layers.source != HOST_MAC, "no other host's MAC address")?;
    let owned = match layers.tags[..] {
        [] => usize::MAX,
        // A priority, and no VLAN.
        [tag] if tag.tci & 0xfff == 0 => usize::MAX,
        [tag] if tag.tpid == 0x8100 && vlans.contains(&(tag.tci & 0xfff)) => 1,
        _ => return Err("a VLAN the host is not on"),
    };
    match layers.ethertype {
        ETHERTYPE_IPV4 => ipv4(layers.payload, owned),
        ETHERTYPE_IPV6 => ipv6(layers.payload, owned),
        _ => Err("not IP"),
    }
}

fn ipv4(ip: &[u8], owned: usize) -> Result<(), &'static str> {
    allow(ip.len() >= 28, "too short")?;
    allow(ip[0] == 0x45, "not a bare IPv4 header")?;
    let length = usize::from(be16(ip, 2));
    allow((28..=ip.len()).contains(&length), "a length that does not fit")?;
    let message = &ip[20..length];
    allow(be16(ip, 6) & !0x4000 == 0, "a fragment, or the reserved bit")?;
    allow(ip[9] == 1, "not ICMP")?;
    allow(packet::ones_sum(&ip[..20]) == 0xffff, "a wrong header checksum")?;
    allow(packet::ones_sum(message) == 0xffff, "a wrong ICMP checksum")?;
    allow(message[0] == 8 && message[1] == 0, "not an echo request of code 0")?;

    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).expect("four bytes"));
    let (source, destination) = (address(12), address(16));
    let own: Vec<Ipv4Addr> = HOST_IPV4.iter().take(owned).map(|text| parse(text)).collect();
    allow(own.contains(&destination), "not an own address")?;
    allow(!own.contains(&source), "an own address as source")?;
    // RFC 1122 section 3.2.1.3 (a), (c), (g), class D and class E, and the directed broadcasts of the own prefix.
    let first = source.octets()[0];
    allow(first != 0 && first != 127 && first < 224, "a source that is no single host")?;
    allow(
        !["192.0.2.0", "192.0.2.255"].map(parse::<Ipv4Addr>).contains(&source),
        "a directed broadcast as source",
    )
}

fn ipv6(ip: &[u8], owned: usize) -> Result<(), &'static str> {
    allow(ip.len() >= 48, "too short")?;
    allow(ip[0] >> 4 == 6, "not IPv6")?;
    let length = 40 + usize::from(be16(ip, 4));
    allow((48..=ip.len()).contains(&length), "a length that does not fit")?;
    allow(ip[6] == 58, "not ICMPv6 directly")?;
    allow(packet::icmpv6_sum(&ip[..length]) == 0xffff, "a wrong ICMPv6 checksum")?;
    allow(ip[40] == 128 && ip[41] == 0, "not an echo request of code 0")?;

    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).expect("sixteen bytes"));
    let (source, destination) = (address(8), address(24));
    let own: Vec<Ipv6Addr> = HOST_IPV6.iter().take(owned).map(|text| parse(text)).collect();
    allow(own.contains(&destination), "not an own address")?;
    allow(!own.contains(&source), "an own address as source")?;
    allow(!source.is_multicast(), "a multicast source")?;
    // RFC 4291 sections 2.5.2, 2.5.3 and 2.5.5: unspecified, loopback, IPv4-mapped and IPv4-compatible.
    allow(source.segments()[..4] != [0; 4], "a source below ::/64")
}

fn parse<A: std::str::FromStr>(text: &str) -> A {
    let address = text.split('/').next().expect("before the slash");
    address.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

fn allow(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{self, Expect};

    #[test]
    fn the_rules_agree_with_the_vectors() {
        for v in vectors::all() {
            let vlans: Vec<_> = v.ifconfig.vlans.keys().copied().collect();
            let read = answerable(&v.frame, &vlans);
            let may = v.expect == Expect::Answer || v.alt.contains(&Expect::Answer);
            let must = v.expect == Expect::Answer && v.alt.is_empty();
            assert!(
                if read.is_ok() { may } else { !must },
                "{}: {read:?}, want {:?} or {:?}",
                v.id,
                v.expect,
                v.alt
            );
        }
    }
}
