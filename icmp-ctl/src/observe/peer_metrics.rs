//! The metrics of peers: histograms over all of them, and figures of those whom the configuration gives a name.
//!
//! Owns their names, labels and bounds. All are of what is in the table now, none is a counter of a peer: one whose place goes to another would jump
//! back. No address is a label; names are, which are configured.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

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

/// Writes them, where peers are tracked.
pub(super) fn encode(seen: &Seen, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    if !seen.is_tracking {
        return Ok(());
    }
    let current: Vec<&Row> = seen.rows.iter().filter(|row| row.is_current).collect();
    let help = "Peers that ping this host now";
    let peers = encoder.encode_descriptor("peers", help, None, MetricType::Gauge)?;
    ConstGauge::new(current.len() as i64).encode(peers)?;
    let help = "Answers to who found no place in the table of peers";
    let without = encoder.encode_descriptor("peers_without_place", help, None, MetricType::Counter)?;
    ConstCounter::new(seen.without_place).encode(without)?;
    let losses = current.iter().filter_map(|row| recent_loss([*row]));
    let help = "Peers by the part of their last 64 requests that was lost";
    histogram(encoder, "peers_loss_ratio", help, None, LOSSES, losses)?;
    let regular = current.iter().filter(|row| row.peer.is_regular());
    let help = "Peers by the jitter with which their requests come";
    let jitters = regular.map(|row| seconds(row.jitter()));
    histogram(encoder, "peers_jitter", help, Some(&Unit::Seconds), JITTERS, jitters)?;
    let intervals = current.iter().map(|row| row.peer.interval).filter(|interval| *interval != 0);
    let help = "Peers by the mean time between their requests";
    histogram(encoder, "peers_interval", help, Some(&Unit::Seconds), INTERVALS, intervals.map(seconds))?;
    encode_named(seen, encoder)
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    bounds: [f64; 7],
    values: impl Iterator<Item = f64>,
) -> Result<(), Error> {
    let histogram = Histogram::new(bounds);
    values.for_each(|value| histogram.observe(value));
    histogram.encode(encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?)
}

fn encode_named(seen: &Seen, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    type Value = fn(&[&Row]) -> Option<f64>;
    let gauges: [(&str, &str, Option<Unit>, Value); 3] = [
        (
            "peer_loss_ratio",
            "Part of the last 64 requests of a peer with a name that was lost on the way here",
            None,
            |rows| recent_loss(rows.iter().copied().filter(|row| row.is_current)),
        ),
        (
            "peer_jitter",
            "Jitter with which the requests of a peer with a name come; the largest where it pings several times",
            Some(Unit::Seconds),
            |rows| {
                let rows = rows.iter().filter(|row| row.is_current && row.peer.is_regular());
                rows.map(|row| row.jitter()).max().map(seconds)
            },
        ),
        (
            "peer_silent",
            "Time since the last request of a peer with a name that was answered",
            Some(Unit::Seconds),
            |rows| rows.iter().map(|row| row.silent).min().map(seconds),
        ),
    ];
    for (name, help, unit, value) in gauges {
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for named in &seen.named {
            let rows: Vec<&Row> =
                seen.rows.iter().filter(|row| row.name.as_ref() == Some(&named.name)).collect();
            if let Some(value) = value(&rows) {
                let labels = [("peer", named.name.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use icmp_common::abi::Peer;

    use super::*;

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
        let address = "192.0.2.1".parse().expect("an address");
        Row {
            address,
            destination: address,
            name: name.map(str::to_owned),
            silent,
            since: 0,
            is_current,
            peer,
        }
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
        let page = crate::observe::metrics::page_of_peers(seen);
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
            assert!(page.lines().any(|text| text == line), "no {line}: {page}");
        }
        assert!(!page.contains("192.0.2") && !page.contains("peer=\"b\""), "{page}");
        let nobody = crate::observe::metrics::page_of_peers(Seen::default());
        assert!(!nobody.contains("peer"), "{nobody}");
    }
}
