//! Owns the rules by which the outcome for a vector is judged.
//!
//! - What is behind the IP packet (padding to the Ethernet minimum) is not compared.
//! - Every checksum of a reply has to verify when it is summed from nothing, whatever the vector leaves open.
//! - Every other byte has to be the expected one, except for the fields that the vector lists as varying.
//!
//! The checksum here is [`packet::ones_sum`], not the code under test.

use crate::packet::{self, Layers};
use crate::vectors::{Expect, Vary, Vector, to_hex};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This was sent back.
    Answer(Vec<u8>),
    /// It reached the stack, unmodified.
    Pass,
    /// It is gone.
    Drop,
}

impl Outcome {
    fn as_expect(&self) -> Expect {
        match self {
            Self::Answer(_) => Expect::Answer,
            Self::Pass => Expect::Pass,
            Self::Drop => Expect::Drop,
        }
    }
}

/// Every objection to `outcome`; none if it is right.
#[must_use]
pub fn objections(vector: &Vector, outcome: &Outcome) -> Vec<String> {
    let got = outcome.as_expect();
    let allowed = match vector.expect {
        Expect::PassOrDrop => got != Expect::Answer,
        expected => got == expected,
    };
    if !allowed && !vector.alt.contains(&got) {
        return vec![format!("{got:?}, want {:?} or one of {:?}", vector.expect, vector.alt)];
    }
    match (outcome, &vector.reply) {
        (Outcome::Answer(reply), Some(want)) => compare(want, reply, &vector.vary),
        (Outcome::Answer(_), None) => vec!["answered, and the vector knows no answer".into()],
        (Outcome::Pass | Outcome::Drop, _) => Vec::new(),
    }
}

/// Every difference between the reply that is wanted and the one that was sent, except where it may vary.
#[must_use]
pub fn compare(want: &[u8], got: &[u8], vary: &[Vary]) -> Vec<String> {
    let (Some(want), Some(got)) = (Layers::of(want), Layers::of(got)) else {
        return vec!["reply too short to have an EtherType".into()];
    };
    let mut bad = Vec::new();
    if want.destination != got.destination && !vary.contains(&Vary::EthDestination) {
        bad.push(format!("eth.dst {}, want {}", to_hex(got.destination), to_hex(want.destination)));
    }
    if want.source != got.source {
        bad.push(format!("eth.src {}, want {}", to_hex(got.source), to_hex(want.source)));
    }
    let comparable = |tags: &[packet::Tag]| -> Vec<packet::Tag> {
        let keep = if vary.contains(&Vary::VlanPriority) { 0x0fff } else { 0xffff };
        tags.iter().map(|t| packet::Tag { tpid: t.tpid, tci: t.tci & keep }).collect()
    };
    let may_lack_tags = vary.contains(&Vary::VlanAbsent) && got.tags.is_empty();
    if !may_lack_tags && comparable(&want.tags) != comparable(&got.tags) {
        bad.push(format!("tags {:x?}, want {:x?}", got.tags, want.tags));
    }
    if want.ethertype != got.ethertype {
        bad.push(format!("EtherType {:#06x}, want {:#06x}", got.ethertype, want.ethertype));
        return bad;
    }
    match want.ethertype {
        packet::ETHERTYPE_IPV4 => compare_ipv4(want.payload, got.payload, vary, &mut bad),
        packet::ETHERTYPE_IPV6 => compare_ipv6(want.payload, got.payload, vary, &mut bad),
        other => bad.push(format!("an answer of EtherType {other:#06x}")),
    }
    bad
}

fn compare_ipv4(want: &[u8], got: &[u8], vary: &[Vary], bad: &mut Vec<String>) {
    const ICMP: usize = 20;
    let Some(got) = cut_to_length(got, 28, |p| usize::from(packet::be16(p, 2)), bad) else { return };
    let mut got = got.to_vec();
    if packet::ones_sum(&got[..ICMP]) != 0xffff {
        bad.push("the IPv4 header checksum does not verify".into());
    }
    if packet::ones_sum(&got[ICMP..]) != 0xffff {
        bad.push("the ICMP checksum does not verify".into());
    }
    //= https://www.rfc-editor.org/rfc/rfc6864#section-4.3
    //# Sources emitting non-atomic datagrams MUST NOT repeat IPv4 ID values within one MDL for a given source
    //# address/destination address/protocol tuple.
    let varies = |field| vary.contains(&field);
    if varies(Vary::IpId) && got[6] & DF == 0 && got[4..6] == [0, 0] && want[4..6] != [0, 0] {
        bad.push("DF clear, and a constant ID of 0".into());
    }
    // What varies takes the expected value, and with it the checksum over it, which has been verified above.
    if varies(Vary::IpId) {
        got[4..6].copy_from_slice(&want[4..6]);
    }
    if varies(Vary::IpDf) {
        got[6] = got[6] & !DF | want[6] & DF;
    }
    if varies(Vary::IpEcn) {
        got[1] = got[1] & !ECN | want[1] & ECN;
    }
    if [Vary::IpId, Vary::IpDf, Vary::IpEcn, Vary::IpChecksumZero].into_iter().any(varies) {
        got[10..12].copy_from_slice(&want[10..12]);
    }
    compare_icmp_and_rest(want, got, ICMP, vary, bad);
}

fn compare_ipv6(want: &[u8], got: &[u8], vary: &[Vary], bad: &mut Vec<String>) {
    const ICMP: usize = 40;
    let Some(got) = cut_to_length(got, 48, |p| ICMP + usize::from(packet::be16(p, 4)), bad) else { return };
    let mut got = got.to_vec();
    if packet::icmpv6_sum(&got) != 0xffff {
        bad.push("the ICMPv6 checksum does not verify".into());
    }
    // Version (4 bits), traffic class (8), flow label (20).
    if vary.contains(&Vary::Ip6FlowLabel) {
        got[1] = got[1] & 0xf0 | want[1] & 0x0f;
        got[2..4].copy_from_slice(&want[2..4]);
    }
    if vary.contains(&Vary::Ip6TrafficClass) {
        got[0] = got[0] & 0xf0 | want[0] & 0x0f;
        got[1] = got[1] & 0x0f | want[1] & 0xf0;
    }
    compare_icmp_and_rest(want, got, ICMP, vary, bad);
}

/// The packet without what is behind it, if it is as long as its header says and not shorter than `least`.
fn cut_to_length<'a>(
    payload: &'a [u8],
    least: usize,
    length: impl Fn(&[u8]) -> usize,
    bad: &mut Vec<String>,
) -> Option<&'a [u8]> {
    if payload.len() < least {
        bad.push(format!("{} bytes are no reply", payload.len()));
        return None;
    }
    let length = length(payload);
    if length < least || length > payload.len() {
        bad.push(format!("IP length {length}, in a frame with room for {}", payload.len()));
        return None;
    }
    Some(&payload[..length])
}

fn compare_icmp_and_rest(want: &[u8], mut got: Vec<u8>, icmp: usize, vary: &[Vary], bad: &mut Vec<String>) {
    let code = icmp + 1;
    let checksum = icmp + 2..icmp + 4;
    if vary.contains(&Vary::IcmpCode) && got[code] == 0 && want[code] != 0 {
        got[code] = want[code];
        got[checksum.clone()].copy_from_slice(&want[checksum.clone()]);
    }
    let is_zero = |bytes: &[u8]| matches!(bytes, [0, 0] | [0xff, 0xff]);
    if vary.contains(&Vary::IcmpChecksumZero)
        && is_zero(&got[checksum.clone()])
        && is_zero(&want[checksum.clone()])
    {
        got[checksum.clone()].copy_from_slice(&want[checksum]);
    }
    if want.len() != got.len() {
        bad.push(format!("an IP packet of {} bytes, want {}", got.len(), want.len()));
    }
    if let Some(at) = (0..want.len().min(got.len())).find(|&i| want[i] != got[i]) {
        bad.push(format!("byte {at} of the IP packet is {:02x}, want {:02x}", got[at], want[at]));
    }
}

/// Don't Fragment, in the byte that holds the flags.
const DF: u8 = 0x40;
/// The bits of the TOS byte that RFC 3168 took for congestion notification.
const ECN: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    fn vector(id: &str) -> Vector {
        vectors::all().into_iter().find(|v| v.id == id).unwrap_or_else(|| panic!("no vector {id}"))
    }

    fn changed(id: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let v = vector(id);
        let mut reply = v.reply.clone().expect("an answer");
        change(&mut reply);
        objections(&v, &Outcome::Answer(reply))
    }

    /// Changes header bytes and sets the header checksum right again.
    fn with_header_checksum(reply: &mut [u8]) {
        reply[24..26].fill(0);
        let sum = packet::checksum(&reply[14..34]);
        reply[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn every_expected_reply_is_accepted() {
        for v in vectors::all() {
            if let Some(reply) = &v.reply {
                assert_eq!(objections(&v, &Outcome::Answer(reply.clone())), Vec::<String>::new(), "{}", v.id);
            }
        }
    }

    #[test]
    fn no_request_is_accepted_as_its_own_answer() {
        for v in vectors::all().iter().filter(|v| v.reply.is_some()) {
            assert_ne!(objections(v, &Outcome::Answer(v.frame.clone())), Vec::<String>::new(), "{}", v.id);
        }
    }

    #[test]
    fn any_changed_byte_of_a_reply_is_found() {
        for id in ["v4-echo-len-0001", "v4-echo-len-0002"] {
            let v = vector(id);
            let reply = v.reply.clone().expect("an answer");
            for at in 0..reply.len() {
                let mut reply = reply.clone();
                reply[at] ^= 1;
                assert_ne!(objections(&v, &Outcome::Answer(reply)), Vec::<String>::new(), "{id} byte {at}");
            }
        }
    }

    #[test]
    fn an_outcome_that_is_not_allowed_is_named() {
        let answerable = vector("v4-echo-len-0001");
        assert_eq!(objections(&answerable, &Outcome::Pass), ["Pass, want Answer or one of []"]);
        let v = vectors::all()
            .into_iter()
            .find(|v| v.expect == Expect::PassOrDrop && v.alt.is_empty())
            .expect("one");
        assert_eq!(objections(&v, &Outcome::Pass), Vec::<String>::new());
        assert_eq!(objections(&v, &Outcome::Drop), Vec::<String>::new());
        assert_eq!(objections(&v, &Outcome::Answer(v.frame.clone())).len(), 1);
    }

    #[test]
    fn an_alternative_outcome_is_accepted() {
        let v = vector("vlan-100-owned-v4");
        assert_eq!(objections(&v, &Outcome::Pass), Vec::<String>::new());
        let reply = v.reply.clone().expect("an answer is the alternative");
        assert_eq!(objections(&v, &Outcome::Answer(reply)), Vec::<String>::new());
        assert_eq!(objections(&v, &Outcome::Drop).len(), 1);
    }

    #[test]
    fn an_identification_may_vary_if_the_checksum_follows() {
        let id = "v4-echo-len-0001";
        assert_eq!(changed(id, |r| r[18] = 0x77), ["the IPv4 header checksum does not verify"]);
        assert_eq!(
            changed(id, |r| {
                r[18] = 0x77;
                with_header_checksum(r);
            }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_constant_identification_needs_df() {
        let zero_id = |df| {
            move |r: &mut Vec<u8>| {
                r[18..20].fill(0);
                r[20] = df;
                with_header_checksum(r);
            }
        };
        assert_eq!(changed("v4-echo-len-0001", zero_id(0)), ["DF clear, and a constant ID of 0"]);
        assert_eq!(changed("v4-echo-len-0001", zero_id(DF)), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_time_to_live_is_found_although_the_identification_varies() {
        let bad = changed("v4-echo-len-0001", |r| {
            r[22] = 63;
            with_header_checksum(r);
        });
        assert_eq!(bad, ["byte 8 of the IP packet is 3f, want 40"]);
    }

    #[test]
    fn a_reply_that_is_cut_or_lies_about_its_length_is_no_reply() {
        let id = "v4-echo-len-0001";
        assert_eq!(changed(id, |r| r.truncate(13)), ["reply too short to have an EtherType"]);
        assert_eq!(changed(id, |r| r.truncate(30)), ["16 bytes are no reply"]);
        assert_eq!(changed(id, |r| r[16..18].copy_from_slice(&[0, 200])).len(), 1);
    }

    #[test]
    fn padding_behind_the_packet_is_nobodys_business() {
        assert_eq!(changed("v4-echo-len-0001", |r| r.extend([1, 2, 3])), Vec::<String>::new());
    }

    #[test]
    fn both_forms_of_zero_are_one_checksum_only_where_the_vector_says_so() {
        let v = vectors::all().into_iter().find(|v| {
            v.vary.contains(&Vary::IcmpChecksumZero)
                && v.reply
                    .as_ref()
                    .is_some_and(|r| r[12..14] == [8, 0] && matches!(r[36..38], [0, 0] | [255, 255]))
        });
        let v = v.expect("a reply whose checksum is a zero");
        let mut reply = v.reply.clone().expect("an answer");
        let other = if reply[36] == 0 { 0xff } else { 0 };
        reply[36..38].fill(other);
        assert_eq!(objections(&v, &Outcome::Answer(reply.clone())), Vec::<String>::new());
        assert_eq!(compare(v.reply.as_ref().expect("an answer"), &reply, &[]).len(), 1);
    }

    #[test]
    fn a_flow_label_may_vary_and_a_traffic_class_may_not() {
        let v = vectors::all().into_iter().find(|v| v.vary == [Vary::Ip6FlowLabel]).expect("one");
        assert_eq!(changed(&v.id, |r| r[16] ^= 0xff), Vec::<String>::new());
        assert_eq!(changed(&v.id, |r| r[15] ^= 0x10).len(), 1);
        assert_eq!(changed(&v.id, |r| r[21] ^= 0xff).len(), 1);
    }
}
