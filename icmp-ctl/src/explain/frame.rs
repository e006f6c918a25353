//! The frame to be explained: made from options, from hexadecimal digits, or taken from a capture.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use etherparse::PacketBuilder;
use icmp_common::types::Family;
use icmp_common::wire::{ethernet, icmpv4, icmpv6};
use ipnet::IpNet;

use crate::capture::ethernet::{Kind, OWN_MAC, frame, has_own_mac};
use crate::capture::packet::source;
use crate::capture::read::{Capture, Record};
use crate::explain::hex;
use crate::failure::{Exit, Failure};
use crate::policy::types::TypeName;

/// The link type of IP packets without a header of the link.
const RAW_IP: i32 = 101;
/// Identifier and sequence number of echo requests.
const ECHO: [u8; 4] = [0x12, 0x34, 0, 1];

/// A frame.
#[derive(Debug)]
pub struct Given {
    /// From its Ethernet header on.
    pub bytes: Vec<u8>,
    /// Its MAC addresses are its own. Otherwise it is for whatever interface it comes in on.
    pub has_mac: bool,
    /// What there is to say about it.
    pub note: Option<String>,
}

impl Given {
    /// Addresses a frame without MAC addresses of its own to an interface, unless it is for a group.
    pub fn come_in_on(&mut self, mac: [u8; 6]) {
        if !self.has_mac && self.bytes.starts_with(&OWN_MAC) {
            self.bytes[..mac.len()].copy_from_slice(&mac);
        }
    }

    /// Says of a captured frame of this MAC address, or from one of these addresses, that its host sent it itself, where the capture does not.
    pub fn was_sent_by(&mut self, mac: [u8; 6], addresses: &[IpNet]) {
        let is_from = |own: &IpNet| source(&self.bytes) == Some(own.addr());
        let has_its_mac = self.bytes.get(ethernet::SOURCE..ethernet::ETHER_TYPE) == Some(&mac);
        if self.has_mac && has_its_mac || addresses.iter().any(is_from) {
            self.note.get_or_insert_with(|| GOING_OUT.to_owned());
        }
    }
}

/// What is said of a frame that the host sent itself.
const GOING_OUT: &str = "it was going out: the capturing host sent it itself, as it does its answers; it is explained as if it had come in";

/// An ICMP message in a packet of its own.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Source.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// Type, by name or number, with `/CODE` for another code than 0.
    pub icmp_type: &'a str,
    /// Bytes behind the first eight of the message.
    pub size: u16,
    /// VLANs, the outer one first.
    pub vlans: &'a [u16],
    /// TTL or hop limit.
    pub hop_limit: u8,
}

/// A frame of these fields, all its checksums right. Behind type, code and checksum an echo request has an identifier and a sequence number;
/// every other byte is 0.
///
/// # Errors
/// There is no such message ([`Exit::Usage`]).
pub fn of_fields(fields: &Fields<'_>) -> Result<Given> {
    let packet = packet(fields).map_err(|why| Failure::error(Exit::Usage, why))?;
    let record = Record {
        number: 1,
        time: None,
        interface: 0,
        link_type: RAW_IP,
        bytes: &packet,
        length: packet.len(),
        is_sent: false,
    };
    let mut bytes = frame(&record, &mut Vec::new()).1.to_vec();
    for (depth, vlan) in fields.vlans.iter().enumerate() {
        // IEEE 802.1Q: a service tag outside, a customer tag inside.
        let is_outer_of_two = depth == 0 && fields.vlans.len() == 2;
        let tag = if is_outer_of_two { ethernet::SERVICE_TAG } else { ethernet::CUSTOMER_TAG };
        let at = ethernet::ETHER_TYPE + depth * ethernet::TAG_LEN;
        bytes.splice(at..at, [tag.to_be_bytes(), vlan.to_be_bytes()].concat());
    }
    Ok(Given { bytes, has_mac: false, note: None })
}

fn packet(fields: &Fields<'_>) -> Result<Vec<u8>, String> {
    let family = if fields.from.is_ipv4() { Family::V4 } else { Family::V6 };
    let all = TypeName::all(fields.icmp_type, &[family])?;
    let name = all.first().filter(|name| name.first == name.last);
    let name = name.ok_or_else(|| format!("{:?} is several types; name one", fields.icmp_type))?;
    let (icmp_type, code) = (name.first, name.code.unwrap_or(0));
    let is_echo = matches!(
        (family, icmp_type),
        (Family::V4, icmpv4::ECHO_REQUEST) | (Family::V6, icmpv6::ECHO_REQUEST)
    );
    let second_word = if is_echo { ECHO } else { [0; 4] };
    // What of 65,535 bytes the headers leave: IPv4's own are counted, IPv6's not.
    let most = match family {
        Family::V4 => u16::MAX - 28,
        Family::V6 => u16::MAX - 8,
    };
    if fields.size > most {
        return Err(format!(
            "a size of {}: behind these headers there is room for {most} bytes",
            fields.size
        ));
    }
    let data = vec![0; usize::from(fields.size)];
    let mut packet = Vec::new();
    let written = match (fields.from, fields.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            PacketBuilder::ipv4(from.octets(), to.octets(), fields.hop_limit)
                .icmpv4_raw(icmp_type, code, second_word)
                .write(&mut packet, &data)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            PacketBuilder::ipv6(from.octets(), to.octets(), fields.hop_limit)
                .icmpv6_raw(icmp_type, code, second_word)
                .write(&mut packet, &data)
        }
        (from, to) => return Err(format!("{from} and {to} are of two families")),
    };
    written.map_err(|error| format!("a packet with {} bytes of data: {error}", fields.size))?;
    Ok(packet)
}

/// A frame of hexadecimal digits, alone or in a dump.
///
/// # Errors
/// They are none ([`Exit::Usage`]).
pub fn of_hex(text: &str) -> Result<Given> {
    let bytes = hex::bytes(text).map_err(|why| Failure::error(Exit::Usage, format!("--hex: {why}")))?;
    Ok(Given { bytes, has_mac: true, note: None })
}

/// Frame number `number`, from 1, of a capture.
///
/// # Errors
/// The capture cannot be read until there, has fewer frames, or that one is of a link type that is not read.
pub fn of_capture(path: &Path, number: u64) -> Result<Given> {
    let (mut found, mut last) = (None, 0);
    let mut capture = Capture::open(path)?;
    let read = capture.each(
        |record| {
            last = record.number;
            if record.number != number {
                return Ok(ControlFlow::Continue(()));
            }
            let mut room = Vec::new();
            let (kind, bytes) = frame(record, &mut room);
            let note = match kind {
                Kind::Unknown => {
                    return Err(anyhow!(
                        "frame {number} is of link type {}, which is not read, or too short for its header",
                        record.link_type
                    ));
                }
                Kind::Sent => Some(GOING_OUT.to_owned()),
                Kind::Frame if record.length > record.bytes.len() => Some(format!(
                    "the capture has {} of its {} bytes; the rest is taken for zeros, with which no ICMP checksum verifies",
                    record.bytes.len(),
                    record.length
                )),
                Kind::Frame => None,
            };
            found = Some(Given { bytes: bytes.to_vec(), has_mac: has_own_mac(record.link_type), note });
            Ok(ControlFlow::Break(()))
        },
        |_, _| (),
    );
    read?;
    found.with_context(|| format!("{}: there is no frame {number}; the last one is {last}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(from: &str, to: &str, icmp_type: &'a str, vlans: &'a [u16]) -> Fields<'a> {
        let address = |text: &str| text.parse().expect("an address");
        Fields { from: address(from), to: address(to), icmp_type, size: 8, vlans, hop_limit: 9 }
    }

    #[test]
    fn tags_are_a_service_tag_outside_and_a_customer_tag_inside() {
        let ether_types = |vlans: &[u16]| {
            let frame = of_fields(&fields("192.0.2.1", "192.0.2.2", "8", vlans)).expect("a frame").bytes;
            frame[12..20].to_vec()
        };
        assert_eq!(ether_types(&[])[..2], [8, 0]);
        assert_eq!(ether_types(&[7])[..6], [0x81, 0, 0, 7, 8, 0]);
        assert_eq!(ether_types(&[7, 9]), [0x88, 0xa8, 0, 7, 0x81, 0, 0, 9]);
    }

    #[test]
    fn fields_that_are_no_message_are_refused_with_what_is_wrong() {
        for (from, to, icmp_type, said) in [
            ("192.0.2.1", "2001:db8::1", "8", "two families"),
            ("192.0.2.1", "192.0.2.2", "44-252", "several types"),
            ("192.0.2.1", "192.0.2.2", "packet-too-big", "is a type of ipv6"),
        ] {
            let error = of_fields(&fields(from, to, icmp_type, &[])).expect_err(icmp_type);
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
    }
}
