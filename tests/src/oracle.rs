//! Owns a second reading of the rules: which frames a host may answer, and has to if it limits nothing and its policy says nothing else.
//!
//! Kernel and host run the same code, so the differential test can't see an error in it. This is the same decision as plain
//! conditions in no particular order, over `std::net` types and whole slices; speed and the verifier are no concern.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use icmp_common::abi::{AddressKind, Scope};
use icmp_ctl::host::address_table::OwnAddress;
use ipnet::IpNet;

use crate::host::scope;
use crate::netns::HOST_MAC;
use crate::packet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Layers, Tag, be16};

/// A host, as far as it matters for whom it answers. It has the MAC address of the vectors' host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// What is in its table.
    pub addresses: &'a [OwnAddress],
    /// Prefixes it answers for although it does not own them.
    pub vips: &'a [IpNet],
    /// It verifies the ICMP checksum.
    pub verifies: bool,
}

/// Why a frame must not be answered, or Ok if it has to be.
///
/// # Errors
/// The first rule that forbids the answer.
pub fn answerable(frame: &[u8], host: &Host<'_>) -> Result<(), &'static str> {
    let layers = Layers::of(frame).ok_or("no EtherType")?;
    allow(layers.destination == HOST_MAC, "another MAC address, or a group")?;
    allow(layers.source[0] & 1 == 0, "an answer to a group")?;
    allow(layers.source != [0; 6] && layers.source != HOST_MAC, "no other host's MAC address")?;
    let place = host.place(&layers.tags).ok_or("a VLAN the host is not on")?;
    match layers.ethertype {
        ETHERTYPE_IPV4 => place.ipv4(layers.payload),
        ETHERTYPE_IPV6 => place.ipv6(layers.payload),
        _ => Err("not IP"),
    }
}

/// A host where a frame came in.
struct Place<'a> {
    host: &'a Host<'a>,
    scope: Scope,
}

impl<'a> Host<'a> {
    /// `None` where the host is not on the VLAN of these tags.
    fn place(&'a self, tags: &[Tag]) -> Option<Place<'a>> {
        let ids: Vec<_> = tags.iter().map(|tag| u32::from(tag.tci & 0xfff)).collect();
        let scope = scope(match (tags, &ids[..]) {
            // A priority alone is no VLAN.
            ([], _) | (_, [0]) => 0,
            ([tag], [id]) if tag.tpid == 0x88a8 => id | Scope::SERVICE_ONLY << 12,
            (_, [id]) => *id,
            (_, [outer, inner]) if *outer > 0 && *inner > 0 && *inner != Scope::SERVICE_ONLY => {
                outer | inner << 12
            }
            _ => return None,
        });
        let place = Place { host: self, scope };
        (scope == crate::host::scope(0) || place.is(Ipv4Addr::UNSPECIFIED.into(), AddressKind::Present))
            .then_some(place)
    }
}

impl Place<'_> {
    fn is(&self, address: IpAddr, kind: AddressKind) -> bool {
        self.host.addresses.contains(&OwnAddress { address, scope: self.scope, kind })
    }

    /// True where a request to this address is for this host, which groups are not.
    fn owns(&self, address: IpAddr) -> bool {
        let is_vip = self.scope == scope(0) && self.host.vips.iter().any(|vip| vip.contains(&address));
        self.is(address, AddressKind::Own)
            || is_vip && is_single(address) && !self.is(address, AddressKind::Group)
    }

    /// True where another host can have this address.
    fn may_be_anothers(&self, address: IpAddr) -> bool {
        let anywhere = OwnAddress { address, scope: Scope::ANYWHERE, kind: AddressKind::Anywhere };
        is_single(address)
            && !self.is(address, AddressKind::Own)
            && !self.is(address, AddressKind::Group)
            && !self.host.addresses.contains(&anywhere)
    }

    fn ipv4(&self, ip: &[u8]) -> Result<(), &'static str> {
        allow(ip.len() >= 28, "too short")?;
        allow(ip[0] == 0x45, "not a bare IPv4 header")?;
        let length = usize::from(be16(ip, 2));
        allow((28..=ip.len()).contains(&length), "a length that does not fit")?;
        let message = &ip[20..length];
        allow(be16(ip, 6) & !0x4000 == 0, "a fragment, or the reserved bit")?;
        allow(ip[9] == 1, "not ICMP")?;
        allow(packet::ones_sum(&ip[..20]) == 0xffff, "a wrong header checksum")?;
        self.message(message, || packet::ones_sum(message), 8)?;

        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).expect("four bytes"));
        allow(self.owns(address(16).into()), "not an own address")?;
        allow(self.may_be_anothers(address(12).into()), "a source that is no other single host")
    }

    fn ipv6(&self, ip: &[u8]) -> Result<(), &'static str> {
        allow(ip.len() >= 48, "too short")?;
        allow(ip[0] >> 4 == 6, "not IPv6")?;
        let length = 40 + usize::from(be16(ip, 4));
        allow((48..=ip.len()).contains(&length), "a length that does not fit")?;
        allow(ip[6] == 58, "not ICMPv6 directly")?;
        self.message(&ip[40..length], || packet::icmpv6_sum(&ip[..length]), 128)?;

        let address =
            |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).expect("sixteen bytes"));
        allow(self.owns(address(24).into()), "not an own address")?;
        allow(self.may_be_anothers(address(8).into()), "a source that is no other single host")
    }

    fn message(&self, message: &[u8], sum: impl FnOnce() -> u16, request: u8) -> Result<(), &'static str> {
        allow(message[0] == request && message[1] == 0, "not an echo request of code 0")?;
        // Longer ones are not summed, and so not answered.
        allow(!self.host.verifies || message.len() <= 4096, "too long to be summed")?;
        allow(!self.host.verifies || sum() == 0xffff, "a wrong ICMP checksum")
    }
}

/// False for what RFC 1122 section 3.2.1.3 (a), (c), (g), class D and class E, and RFC 4291 sections 2.5.2, 2.5.3, 2.5.5 and 2.7 say is
/// no host's: this network, loopback, multicast, reserved; unspecified, loopback, IPv4-mapped and IPv4-compatible.
fn is_single(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => !address.is_multicast() && address.segments()[..4] != [0; 4],
    }
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
            let addresses = crate::host::address_list(&vlans);
            let read = answerable(&v.frame, &Host { addresses: &addresses, vips: &[], verifies: true });
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
