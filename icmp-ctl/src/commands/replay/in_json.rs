//! The result of a replay in JSON.

use std::hash::Hash;

use icmp_common::reason::Verdict;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::text::{NS, SHOWN, peaks};
use crate::commands::reasons::{self, received};
use crate::replay::run::Replay;
use crate::replay::top::Top;

pub(super) fn in_json(replay: &Replay) -> Value {
    let (began, span) = replay.frames.time();
    let own = &replay.frames.own;
    let totals = replay.totals();
    let peaks: Map<String, Value> = peaks(replay)
        .into_iter()
        .map(|(name, peak)| (name.to_owned(), json!({ "packets": peak.frames, "second": peak.second })))
        .collect();
    let bins: Vec<Value> = replay
        .timeline()
        .bins
        .iter()
        .map(|counts| {
            Verdict::ALL
                .iter()
                .zip(counts)
                .map(|(verdict, n)| (verdict.name().to_owned(), json!(n)))
                .collect()
        })
        .collect();
    json!({
        "schema": 1,
        "own": {
            "addresses": addresses(own.addresses()), "mac": own.links()[0].mac_text(), "guessed": own.guessed,
            "interfaces": own.links().iter().map(|link| json!({
                "mac": link.mac_text(), "addresses": addresses(link.addresses.iter().copied()),
            })).collect::<Vec<_>>(),
        },
        "began_ns": began, "seconds": span as f64 / NS,
        "received": received(&totals), "sent": replay.frames.sent, "unknown": replay.frames.unknown, "cut_off": replay.frames.cut,
        "without_time": replay.frames.untimed,
        "reasons": reasons::in_json(&totals),
        "busiest_seconds": peaks,
        "timeline": { "seconds": replay.timeline().seconds, "bins": bins },
        "limited": top_in_json(replay.limited(), "source"),
        "replies": { "second": replay.replies().1.second, "packets": replay.replies().1.frames, "prefixes": top_in_json(replay.replies().0, "prefix") },
        "against": replay.against().map(|(totals, differences)| json!({
            "reasons": reasons::in_json(&totals),
            "first": differences.first.iter().map(|difference| json!({
                "frame": difference.number, "seconds": difference.time as f64 / NS, "packet": difference.frame,
                "reasons": difference.reasons.map(|reason| reason.name()),
            })).collect::<Vec<_>>(),
            "totals": differences.totals().iter().map(|(reasons, packets)| json!({
                "reasons": reasons.map(|reason| reason.name()), "packets": packets,
            })).collect::<Vec<_>>(),
        })),
    })
}

fn addresses(own: impl IntoIterator<Item = IpNet>) -> Vec<String> {
    own.into_iter().map(|own| own.addr().to_string()).collect()
}

fn top_in_json<K: Copy + Eq + Hash + Ord + ToString>(top: &Top<K>, key: &str) -> Vec<Value> {
    let entry = |(who, packets): (K, u64)| json!({ key: who.to_string(), "packets": packets, "at_most_more": top.missed() });
    top.most(SHOWN).into_iter().map(entry).collect()
}
