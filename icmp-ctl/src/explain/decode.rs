//! A frame in the words of the protocols, for readers. Nothing is decided by it.

use std::net::IpAddr;

use etherparse::{LaxLinkExtSlice, LaxSlicedPacket, LinkSlice};
use icmp_common::types::Family;
use icmp_common::wire::ethernet;
use serde_json::{Value, json};

use crate::capture::packet::Packet;
use crate::diagnostics::count;
use crate::policy::types::type_text;

/// What a frame says of itself.
pub(super) struct Decoded<'a> {
    frame: &'a [u8],
    macs: Option<[String; 2]>,
    vlans: Vec<u16>,
    packet: Option<Packet<'a>>,
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl<'a> Decoded<'a> {
    pub(super) fn of(frame: &'a [u8]) -> Self {
        let nothing = Self { frame, macs: None, vlans: Vec::new(), packet: None };
        let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return nothing };
        let macs = match &packet.link {
            Some(LinkSlice::Ethernet2(link)) => Some([link.source(), link.destination()].map(mac_text)),
            _ => None,
        };
        let vlans = packet.link_exts.iter().filter_map(|tag| match tag {
            LaxLinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
            LaxLinkExtSlice::Macsec(_) => None,
        });
        let vlans = vlans.collect();
        Self { macs, vlans, packet: Packet::of(&packet), ..nothing }
    }

    /// Identifier and sequence number, of an echo request or reply.
    fn echo(&self) -> Option<[u16; 2]> {
        let packet = self.packet.as_ref()?;
        match (packet.icmp?, packet.message) {
            ((Family::V4, 0 | 8, _) | (Family::V6, 128 | 129, _), [_, _, _, _, a, b, c, d, ..]) => {
                Some([[*a, *b], [*c, *d]].map(u16::from_be_bytes))
            }
            _ => None,
        }
    }

    /// VLANs, the outer one first.
    pub(super) fn vlans(&self) -> &[u16] {
        &self.vlans
    }

    /// Family and code, where it is an echo request.
    pub(super) fn ping(&self) -> Option<(Family, u8)> {
        let (family, _, code) = self.packet.filter(Packet::is_echo_request)?.icmp?;
        Some((family, code))
    }

    /// Bytes of the IP packet and behind it.
    pub(super) fn ip_length(&self) -> usize {
        self.frame.len().saturating_sub(ethernet::LEN + self.vlans.len() * ethernet::TAG_LEN)
    }

    /// Source and destination, where it is an IP packet.
    pub(super) fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        self.packet.map(|packet| (packet.source, packet.destination))
    }

    /// Family, type and code, where it is an ICMP message.
    pub(super) fn message(&self) -> Option<(Family, u8, u8)> {
        self.packet?.icmp
    }

    pub(super) fn text(&self) -> String {
        let mut text = count(self.frame.len() as u64, "byte", "bytes");
        if let Some([source, destination]) = &self.macs {
            text.push_str(&format!(" from {source} to {destination}"));
        }
        for vlan in &self.vlans {
            text.push_str(&format!(", VLAN {vlan}"));
        }
        let Some(Packet { source, destination, hop_limit, icmp, message, fragment }) = self.packet else {
            return text;
        };
        let name = if source.is_ipv4() { "TTL" } else { "hop limit" };
        text.push_str(&format!("; {source} to {destination}, {name} {hop_limit}"));
        if let Some(offset) = fragment {
            text.push_str(&format!(", a fragment from byte {offset} on"));
        }
        let Some((family, icmp_type, code)) = icmp else { return text };
        let type_name = type_text(family, icmp_type, None);
        text.push_str(&format!("; {} {type_name}, type {icmp_type} code {code}", family.name()));
        if let Some([identifier, sequence]) = self.echo() {
            text.push_str(&format!(", identifier {identifier}, sequence {sequence}"));
        }
        text.push_str(&format!(", {}", count(message.len() as u64, "byte", "bytes")));
        text
    }

    pub(super) fn json(&self) -> Value {
        let (packet, message, echo) = (self.packet, self.message(), self.echo());
        json!({
            "bytes": self.frame.len(), "vlans": self.vlans,
            "from_mac": self.macs.as_ref().map(|[source, _]| source),
            "to_mac": self.macs.as_ref().map(|[_, destination]| destination),
            "source": packet.map(|packet| packet.source), "destination": packet.map(|packet| packet.destination),
            "hop_limit": packet.map(|packet| packet.hop_limit),
            "fragment": packet.and_then(|packet| packet.fragment),
            "family": message.map(|(family, ..)| family.name()),
            "type": message.map(|(_, icmp_type, _)| icmp_type), "code": message.map(|(.., code)| code),
            "length": message.and(packet).map(|packet| packet.message.len()),
            "identifier": echo.map(|[identifier, _]| identifier), "sequence": echo.map(|[_, sequence]| sequence),
            "hex": self.frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        })
    }
}
