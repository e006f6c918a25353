//! Frames and bytes by reason, as text and JSON: the same words in every output.

use icmp_common::reason::Reason;
use serde_json::{Map, Value, json};

use super::table::{Column::Left, Column::Right, table};

/// Packets and bytes of each reason, in the order of [`Reason::ALL`].
pub(super) type Totals = [(u64, u64)];

/// Packets of all reasons.
pub(super) fn received(totals: &Totals) -> u64 {
    totals.iter().map(|(packets, _)| packets).sum()
}

/// All reasons by name.
pub(super) fn in_json(totals: &Totals) -> Map<String, Value> {
    let reasons = Reason::ALL.iter().zip(totals).map(|(reason, (packets, bytes))| {
        let value = json!({ "verdict": reason.verdict().name(), "packets": packets, "bytes": bytes });
        (reason.name().to_owned(), value)
    });
    reasons.collect()
}

/// A line for each reason that there was.
pub(super) fn lines(totals: &Totals) -> Vec<String> {
    let seen = Reason::ALL.iter().zip(totals).filter(|(_, (packets, _))| *packets != 0);
    let rows = seen.map(|(reason, (packets, bytes))| {
        [
            reason.verdict().name().to_owned(),
            reason.name().to_owned(),
            packets.to_string(),
            bytes.to_string(),
            reason.description().trim().to_owned(),
        ]
    });
    let columns = [Left("VERDICT"), Left("REASON"), Right("PACKETS"), Right("BYTES"), Left("WHY")];
    table(columns, rows.collect()).into_iter().map(|line| format!("  {line}")).collect()
}
