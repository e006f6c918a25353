//! The samples of peers: histograms over all of them, and figures of those whom the configuration gives a name.
//!
//! Owns how they are counted, and the bounds. All are of what is in the table now, none is a counter of a peer: one whose place goes to another would jump
//! back. No address is a label; names are, which are configured.

use std::collections::HashMap;

use prometheus_client::metrics::histogram::Histogram;

use super::samples::{Number, Sample};
use crate::observe::peers::{Row, Seen};

/// Parts that were lost: one of 64 requests is 1.6 %.
const LOSSES: [f64; 7] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Seconds.
const JITTERS: [f64; 7] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];
/// Seconds.
const INTERVALS: [f64; 7] = [0.01, 0.1, 1.0, 2.0, 10.0, 60.0, 300.0];

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// What the last 64 requests of each row say together; `None` where none says anything.
fn recent_loss<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Option<f64> {
    let rows = rows.into_iter().filter_map(Row::recently_lost);
    let (lost, of) = rows.fold((0, 0), |(lost, of), row| (lost + row.0, of + row.1));
    (of > 0).then(|| f64::from(lost) / f64::from(of))
}

/// Those that ping now; of nobody where none are tracked.
fn now(seen: &Seen) -> impl Iterator<Item = &Row> {
    seen.rows.iter().filter(|row| row.is_current)
}

fn where_tracked(seen: &Seen, number: impl FnOnce() -> Number) -> Vec<Sample<'_>> {
    if seen.is_tracking { vec![(Vec::new(), number())] } else { Vec::new() }
}

fn histogram(seen: &Seen, bounds: [f64; 7], values: impl Iterator<Item = f64>) -> Vec<Sample<'_>> {
    where_tracked(seen, || {
        let histogram = Histogram::new(bounds);
        values.for_each(|value| histogram.observe(value));
        Number::Histogram(histogram)
    })
}

/// How many ping now.
pub(super) fn current(seen: &Seen) -> Vec<Sample<'_>> {
    where_tracked(seen, || Number::Whole(now(seen).count() as i64))
}

/// Answers to who found no place.
pub(super) fn without_place(seen: &Seen) -> Vec<Sample<'_>> {
    where_tracked(seen, || Number::Count(seen.without_place))
}

/// What each has lost.
pub(super) fn losses(seen: &Seen) -> Vec<Sample<'_>> {
    histogram(seen, LOSSES, now(seen).filter_map(|row| recent_loss([row])))
}

/// The jitter of each that pings regularly.
pub(super) fn jitters(seen: &Seen) -> Vec<Sample<'_>> {
    histogram(seen, JITTERS, now(seen).filter(|row| row.peer.is_regular()).map(|row| seconds(row.jitter())))
}

/// The mean time between the requests of each.
pub(super) fn intervals(seen: &Seen) -> Vec<Sample<'_>> {
    let intervals = now(seen).map(|row| row.peer.interval).filter(|interval| *interval != 0);
    histogram(seen, INTERVALS, intervals.map(seconds))
}

fn named<'a>(seen: &'a Seen, value: impl Fn(&[&'a Row]) -> Option<f64>) -> Vec<Sample<'a>> {
    // Once through the rows, which are many more than names.
    let mut rows: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in &seen.rows {
        row.name.iter().for_each(|name| rows.entry(name).or_default().push(row));
    }
    let samples = seen.named.iter().filter(|_| seen.is_tracking).filter_map(|named| {
        let name = named.name.as_str();
        Some((vec![name], Number::Real(value(rows.get(name).map_or(&[], Vec::as_slice))?)))
    });
    samples.collect()
}

/// What each with a name has lost.
pub(super) fn named_loss(seen: &Seen) -> Vec<Sample<'_>> {
    named(seen, |rows| recent_loss(rows.iter().copied().filter(|row| row.is_current)))
}

/// The jitter of each with a name, the largest where it pings several times.
pub(super) fn named_jitter(seen: &Seen) -> Vec<Sample<'_>> {
    named(seen, |rows| {
        let rows = rows.iter().filter(|row| row.is_current && row.peer.is_regular());
        rows.map(|row| row.jitter()).max().map(seconds)
    })
}

/// How long nothing has come from each with a name.
pub(super) fn named_silence(seen: &Seen) -> Vec<Sample<'_>> {
    named(seen, |rows| rows.iter().map(|row| row.silent).min().map(seconds))
}

#[cfg(test)]
mod tests {
    use icmp_common::abi::Peer;

    use super::*;
    use crate::observe::metrics::Format;
    use crate::observe::metrics::loaded::Loaded;

    /// The page of an instance that nothing is known of but its peers.
    fn page(peers: Seen) -> String {
        Loaded { peers, ..Loaded::default() }.text(Format::Prometheus).expect("a page")
    }

    fn row(name: Option<&str>, is_current: bool, window: u64, silent: u64) -> Row {
        let peer = Peer {
            window,
            span: 64,
            received: 1000,
            expected: 1000,
            interval: 1_000_000_000,
            jitter: 2_000_000 << 4,
            ..Peer::FREE
        };
        Row { name: name.map(str::to_owned), silent, since: 0, is_current, peer }
    }

    #[test]
    fn who_has_a_name_is_told_of_by_it_and_nobody_by_an_address() {
        use crate::config::peers::NamedPeer;
        let named = |name: &str| NamedPeer {
            name: name.to_owned(),
            address: "192.0.2.1".parse().expect("an address"),
        };
        let seen = Seen {
            is_tracking: true,
            rows: vec![
                // Of two that go on half of one is lost; one of before is only the last that was heard.
                row(Some("a"), true, u64::from(u32::MAX), 3_000_000_000),
                row(Some("a"), true, u64::MAX, 4_000_000_000),
                row(Some("a"), false, 0, 5_000_000_000),
                row(None, true, u64::MAX, 0),
            ],
            named: vec![named("a"), named("b")],
            without_place: 7,
            places: 512,
        };
        let text = page(seen);
        for line in [
            "icmp_ctl_peers 3",
            "icmp_ctl_peers_without_place_total 7",
            "icmp_ctl_peers_loss_ratio_bucket{le=\"0.0\"} 2",
            "icmp_ctl_peers_loss_ratio_bucket{le=\"0.5\"} 3",
            "icmp_ctl_peers_jitter_seconds_bucket{le=\"0.003\"} 3",
            "icmp_ctl_peers_interval_seconds_count 3",
            "icmp_ctl_peer_loss_ratio{peer=\"a\"} 0.25",
            "icmp_ctl_peer_jitter_seconds{peer=\"a\"} 0.002",
            "icmp_ctl_peer_silent_seconds{peer=\"a\"} 3.0",
        ] {
            assert!(text.lines().any(|there| there == line), "no {line}: {text}");
        }
        assert!(!text.contains("192.0.2") && !text.contains("peer=\"b\""), "{text}");
        let nobody = page(Seen::default());
        assert!(!nobody.contains("peer"), "{nobody}");
    }
}
