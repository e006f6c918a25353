//! Frames of every link type as Ethernet frames, which the packet path reads.
//!
//! Owns the Ethernet header that is added if a capture has none, and which frames the capturing host sent itself. Link types:
//! <https://www.tcpdump.org/linktypes.html>.

use icmp_common::wire::ethernet;

use crate::capture::read::Record;

/// MAC address of the capturing host where the link type has none: of those for documentation (RFC 9542 section 2.1.2), as the others.
pub const OWN_MAC: [u8; 6] = [0, 0, 0x5e, 0, 0x53, 1];
/// The same of another host, whose frames these are.
const SENDER_MAC: [u8; 6] = [0, 0, 0x5e, 0, 0x53, 2];
/// The same of a third host, to which they are.
const THIRD_MAC: [u8; 6] = [0, 0, 0x5e, 0, 0x53, 3];

const ETHERNET: i32 = 1;
/// LINKTYPE_RAW, the numbers that two systems have for the same, LINKTYPE_IPV4 and LINKTYPE_IPV6.
const IP: [i32; 5] = [101, 12, 14, 228, 229];
const LINUX_SLL: i32 = 113;
const LINUX_SLL2: i32 = 276;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame, of which the capture does not say who sent it.
    Frame,
    /// A frame that the capturing host sent itself.
    Sent,
    /// Of a link type that is not read, or too short for its header.
    Unknown,
}

/// Whether the link type has MAC addresses of its own.
pub const fn has_own_mac(link_type: i32) -> bool {
    link_type == ETHERNET
}

/// A record as an Ethernet frame: its own bytes where they are one, or else what is made of them in `room`. Of what the capture has cut off,
/// there are zeros.
pub fn frame<'f>(record: &Record<'f>, room: &'f mut Vec<u8>) -> (Kind, &'f [u8]) {
    if record.link_type == ETHERNET && record.length == record.bytes.len() && record.length >= ethernet::LEN {
        return (if record.is_sent { Kind::Sent } else { Kind::Frame }, record.bytes);
    }
    room.clear();
    let Some((kind, header)) = put_header(record, room) else { return (Kind::Unknown, &[]) };
    room.extend_from_slice(record.bytes.get(header..).unwrap_or_default());
    room.resize(room.len() + record.length - record.bytes.len(), 0);
    (if record.is_sent { Kind::Sent } else { kind }, room)
}

/// Writes the header that is missing; what the record is, and how much of it is a header of another kind.
fn put_header(record: &Record<'_>, frame: &mut Vec<u8>) -> Option<(Kind, usize)> {
    let bytes = record.bytes;
    match record.link_type {
        ETHERNET if bytes.len() >= ethernet::LEN => Some((Kind::Frame, 0)),
        link_type if IP.contains(&link_type) => {
            let ether_type = match bytes.first()? >> 4 {
                4 => ethernet::IPV4,
                6 => ethernet::IPV6,
                _ => return None,
            };
            put(frame, group_mac(bytes, ether_type).unwrap_or(OWN_MAC), SENDER_MAC, ether_type);
            Some((Kind::Frame, 0))
        }
        LINUX_SLL => {
            let [_, kind, _, _, _, length, address @ .., high, low] = bytes.first_chunk::<16>()?;
            Some(put_cooked(frame, bytes, 16, *kind, *length, address, [*high, *low]))
        }
        LINUX_SLL2 => {
            let [high, low, _, _, _, _, _, _, _, _, kind, length, address @ ..] =
                bytes.first_chunk::<20>()?;
            Some(put_cooked(frame, bytes, 20, *kind, *length, address, [*high, *low]))
        }
        _ => None,
    }
}

/// The header for a packet of `bytes` behind a cooked header of so many bytes, with the packet type of packet(7).
fn put_cooked(
    frame: &mut Vec<u8>,
    bytes: &[u8],
    header: usize,
    kind: u8,
    length: u8,
    address: &[u8; 8],
    protocol: [u8; 2],
) -> (Kind, usize) {
    let ether_type = u16::from_be_bytes(protocol);
    let packet = &bytes[header..];
    let destination = match kind {
        1 => [0xff; 6],
        2 => group_mac(packet, ether_type).unwrap_or([0x33; 6]),
        3 => THIRD_MAC,
        _ => OWN_MAC,
    };
    let sent = kind == 4;
    let source = match address {
        _ if sent => OWN_MAC,
        [source @ .., _, _] if length == 6 => *source,
        _ => SENDER_MAC,
    };
    put(frame, destination, source, ether_type);
    (if sent { Kind::Sent } else { Kind::Frame }, header)
}

fn put(frame: &mut Vec<u8>, destination: [u8; 6], source: [u8; 6], ether_type: u16) {
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ether_type.to_be_bytes());
}

/// The MAC address of the group that a packet is for (RFC 1112 section 6.4, RFC 2464 section 7), if it is for one.
fn group_mac(packet: &[u8], ether_type: u16) -> Option<[u8; 6]> {
    match ether_type {
        ethernet::IPV4 => match packet.get(16..20)? {
            [224..240, b, c, d] => Some([1, 0, 0x5e, b & 0x7f, *c, *d]),
            [255, 255, 255, 255] => Some([0xff; 6]),
            _ => None,
        },
        ethernet::IPV6 => match packet.get(24..40)? {
            [0xff, .., a, b, c, d] => Some([0x33, 0x33, *a, *b, *c, *d]),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(link_type: i32, bytes: &[u8]) -> Record<'_> {
        Record {
            number: 1,
            time: None,
            interface: 0,
            link_type,
            bytes,
            length: bytes.len() + 2,
            is_sent: false,
        }
    }

    #[test]
    fn what_has_no_ethernet_header_gets_one() {
        let v4 = [[0x45].as_slice(), &[0; 15], &[192, 0, 2, 2]].concat();
        let sll = |kind: u8| [&[0, kind, 0, 1, 0, 6, 2, 9, 9, 9, 9, 9, 0, 0, 8, 0][..], &v4].concat();
        let sll2 =
            |kind: u8| [&[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, kind, 6, 2, 9, 9, 9, 9, 9, 0, 0][..], &v4].concat();
        let from = [2, 9, 9, 9, 9, 9];
        for (link_type, bytes, kind, destination, source) in [
            (101, v4.clone(), Kind::Frame, OWN_MAC, SENDER_MAC),
            (228, v4.clone(), Kind::Frame, OWN_MAC, SENDER_MAC),
            (113, sll(0), Kind::Frame, OWN_MAC, from),
            (113, sll(1), Kind::Frame, [0xff; 6], from),
            (276, sll2(3), Kind::Frame, THIRD_MAC, from),
            (276, sll2(4), Kind::Sent, OWN_MAC, OWN_MAC),
        ] {
            let expected = [&destination[..], &source, &[8, 0], &v4, &[0, 0]].concat();
            let mut room = vec![1];
            let made = frame(&record(link_type, &bytes), &mut room);
            assert_eq!(made, (kind, &expected[..]), "{link_type}");
        }
    }

    #[test]
    fn a_whole_ethernet_frame_is_its_own_bytes_and_one_that_is_cut_off_is_filled_with_zeros() {
        let bytes = [7; 20];
        for (length, expected) in [(20, vec![7; 20]), (22, [vec![7; 20], vec![0; 2]].concat())] {
            let mut room = vec![1];
            let record = Record { length, ..record(1, &bytes) };
            assert_eq!(frame(&record, &mut room), (Kind::Frame, &expected[..]), "{length}");
        }
    }

    #[test]
    fn a_packet_to_a_group_gets_the_groups_mac_address() {
        let mut v6 = vec![0x60; 40];
        v6[24..40].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 9]);
        let mut room = Vec::new();
        let (kind, made) = frame(&record(229, &v6), &mut room);
        assert_eq!((kind, &made[..6]), (Kind::Frame, &[0x33, 0x33, 0xff, 0, 0, 9][..]));
    }

    #[test]
    fn records_too_short_for_their_header_and_of_other_links_are_unknown() {
        for (link_type, bytes) in
            [(1, vec![0; 13]), (113, vec![0; 15]), (276, vec![0; 19]), (101, vec![]), (105, vec![0; 99])]
        {
            assert_eq!(frame(&record(link_type, &bytes), &mut Vec::new()).0, Kind::Unknown, "{link_type}");
        }
    }
}
