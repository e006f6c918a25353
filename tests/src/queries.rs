//! The names in queries of Prometheus, compared with the metrics, reasons, verdicts and types that exist.
//!
//! Owns that comparison, for every shipped file with queries. Other tests prove that a query finds what it is for.

use std::collections::BTreeSet;

use icmp_common::reason::Reason;
use icmp_common::types::{COUNTER_ROWS, row_labels};

/// Panics unless each metric in `queries` is in `documented`, the text of `docs/cli.md`, and each value of the labels
/// `reason`, `verdict` and `type` is one that a counter can have. At least one metric and one value is expected.
pub fn assert_they_ask_for_what_there_is(queries: &str, documented: &str) {
    let words: BTreeSet<&str> = queries.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let metrics: Vec<_> = words.iter().filter(|word| word.starts_with("icmp_ctl_")).collect();
    assert!(metrics.len() >= 4, "the queries were read: {metrics:?}");
    for metric in metrics {
        assert!(documented.contains(&format!("`{metric}`")), "{metric} is none of docs/cli.md");
    }
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let verdicts: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.verdict().name()).collect();
    let types: BTreeSet<&str> = (0..COUNTER_ROWS).map(|row| row_labels(row).1).collect();
    let mut looked_at = 0;
    for (label, known) in [("reason", &reasons), ("verdict", &verdicts), ("type", &types)] {
        for value in ["=", "=~", "!=", "!~"]
            .iter()
            .flat_map(|operator| queries.split(&format!("{label}{operator}\"")).skip(1).collect::<Vec<_>>())
            .filter_map(|rest| rest.split('"').next())
            .flat_map(|values| values.split('|'))
        {
            assert!(known.contains(value), "{value} is no {label}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 0, "the queries ask for a reason, verdict or type");
}
