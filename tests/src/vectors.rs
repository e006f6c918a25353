//! Owns the golden frames: `data/vectors.jsonl`, one frame per line with the outcome the protocols ask for.
//!
//! Only the shape of the data is here; whether an outcome is right is [`crate::comparator`]'s business.

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Layers};

/// How many lines the file has; a test that judged fewer did not judge all.
pub const COUNT: usize = 431;

/// One frame, who receives it, and what has to become of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Unique, speaking name.
    pub id: String,
    /// The case in words.
    pub description: String,
    /// Numbers of the protocol rules that decide the case.
    pub rule: Vec<String>,
    /// The frame as received, from the destination MAC address on, without frame check sequence.
    #[serde(rename = "frame_hex", deserialize_with = "hex_bytes")]
    pub frame: Vec<u8>,
    /// The outcome asked for.
    pub expect: Expect,
    /// Outcomes that are right as well.
    #[serde(default)]
    pub alt: Vec<Expect>,
    /// Which of several right outcomes is the better one.
    pub prefer: Option<Expect>,
    /// The answer, where one is allowed.
    #[serde(default, rename = "reply_hex", deserialize_with = "optional_hex_bytes")]
    pub reply: Option<Vec<u8>>,
    /// Fields of the answer that are the responder's choice.
    #[serde(default)]
    pub vary: Vec<Vary>,
    /// The receiving host.
    pub ifconfig: IfConfig,
    /// A remark for the reader.
    pub note: Option<String>,
}

/// What may become of a frame.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Answered by the fast path.
    Answer,
    /// Handed over to the stack, unmodified.
    Pass,
    /// Gone.
    Drop,
    /// Anything but answered.
    PassOrDrop,
}

/// A field of the reply that the protocols leave to the responder.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Vary {
    /// Any identification.
    #[serde(rename = "ip.id")]
    IpId,
    /// DF clear or set.
    #[serde(rename = "ip.df")]
    IpDf,
    /// The low two bits of the TOS byte.
    #[serde(rename = "ip.ecn")]
    IpEcn,
    /// Either form of zero as header checksum.
    #[serde(rename = "ip.ck.zero")]
    IpChecksumZero,
    /// Either form of zero as ICMP checksum.
    #[serde(rename = "icmp.ck.zero")]
    IcmpChecksumZero,
    /// The request's code, or 0.
    #[serde(rename = "icmp.code")]
    IcmpCode,
    /// Any flow label.
    #[serde(rename = "ip6.flowlabel")]
    Ip6FlowLabel,
    /// Any traffic class.
    #[serde(rename = "ip6.tc")]
    Ip6TrafficClass,
    /// A next hop chosen otherwise than by turning the frame around.
    #[serde(rename = "eth.dst")]
    EthDestination,
    /// The priority bits of a tag.
    #[serde(rename = "vlan.pcp")]
    VlanPriority,
    /// A priority tag missing in the reply.
    #[serde(rename = "vlan.absent")]
    VlanAbsent,
}

/// The interface that receives the frame.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct IfConfig {
    /// Its MAC address.
    pub mac: String,
    /// Its MTU.
    pub mtu: u32,
    /// Time to live of what the host sends.
    pub ttl: u8,
    /// Hop limit of what the host sends.
    pub hop_limit: u8,
    /// IPv4 addresses with prefix length.
    pub ipv4: Vec<String>,
    /// IPv6 addresses with prefix length.
    pub ipv6: Vec<String>,
    /// The next hop for everything else.
    pub gateway4: Ipv4Addr,
    /// The same for IPv6.
    pub gateway6: String,
    /// Addresses that the host has on a VLAN only, by VLAN identifier.
    #[serde(default)]
    pub vlans: std::collections::BTreeMap<u16, VlanAddresses>,
}

/// The addresses of a VLAN interface on top of the receiving one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct VlanAddresses {
    /// IPv4 addresses with prefix length.
    pub ipv4: Vec<String>,
    /// IPv6 addresses with prefix length.
    pub ipv6: Vec<String>,
}

/// All vectors, in the order of the file, but those last that report a path MTU: the host goes by them from then on.
///
/// # Panics
/// If the file that was compiled in is not what the types above say.
#[must_use]
pub fn all() -> Vec<Vector> {
    let mut all: Vec<Vector> = include_str!("../data/vectors.jsonl")
        .lines()
        .enumerate()
        .map(|(line, text)| {
            serde_json::from_str(text).unwrap_or_else(|e| panic!("vectors.jsonl line {}: {e}", line + 1))
        })
        .collect();
    all.sort_by_key(|vector| reports_mtu(&vector.frame));
    all
}

fn reports_mtu(frame: &[u8]) -> bool {
    let Some(Layers { ethertype, payload: ip, .. }) = Layers::of(frame) else { return false };
    match ethertype {
        ETHERTYPE_IPV4 => ip.get(9) == Some(&1) && ip.get(20..22) == Some(&[3, 4]),
        ETHERTYPE_IPV6 => ip.get(6) == Some(&58) && ip.get(40) == Some(&2),
        _ => false,
    }
}

/// Bytes as two hexadecimal digits each, as error messages and the data file write them.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The opposite of [`to_hex`]; None if `text` is anything else.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

fn hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_hex(&text).ok_or_else(|| D::Error::custom("not hexadecimal"))
}

fn optional_hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    hex_bytes(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_every_vector_once() {
        let vectors = all();
        let ids: std::collections::BTreeSet<_> = vectors.iter().map(|v| &v.id).collect();
        assert_eq!((vectors.len(), ids.len()), (COUNT, COUNT));
    }

    #[test]
    fn wherever_an_answer_is_allowed_the_reply_is_given() {
        for v in all() {
            let allowed = v.expect == Expect::Answer || v.alt.contains(&Expect::Answer);
            assert_eq!(v.reply.is_some(), allowed, "{}", v.id);
        }
    }

    #[test]
    fn hex_survives_the_round_trip_and_refuses_the_rest() {
        assert_eq!(from_hex(&to_hex(&[0, 0x0f, 0xf0, 0xff])), Some(vec![0, 0x0f, 0xf0, 0xff]));
        assert_eq!((from_hex("0"), from_hex("zz"), from_hex("µ")), (None, None, None));
    }
}
