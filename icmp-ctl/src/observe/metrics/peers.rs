//! The samples of peers: histograms over all of them, and figures of those with a name in the configuration.
//!
//! Owns how they are counted, and the bounds. All describe the current table, none is a counter of a peer: it would jump back when a place goes
//! to another peer. No address is a label; configured names are.

use anyhow::Result;
use prometheus_client::metrics::histogram::Histogram;

use super::samples::{Number, Sample};
use crate::config::peers::NamedPeer;
use crate::instance::peers::Room;
use crate::instance::pins::View;
use crate::observe::peers::{Row, each};
use crate::policy::saved::named_peers;

/// Parts that were lost: one of 64 requests is 1.6 %.
const LOSSES: [f64; 7] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Seconds.
const JITTERS: [f64; 7] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];
/// Seconds.
const INTERVALS: [f64; 7] = [0.01, 0.1, 1.0, 2.0, 10.0, 60.0, 300.0];

/// What the page says of those who are tracked, counted while each is shown once: a scrape keeps none of them.
#[derive(Debug)]
pub(super) struct Peers {
    /// How many ping now.
    current: i64,
    /// Of those.
    losses: Histogram,
    jitters: Histogram,
    intervals: Histogram,
    named: Vec<Named>,
    room: Room,
}

/// One with a name, which may ping several times.
#[derive(Debug, Default)]
struct Named {
    name: String,
    /// How many of how many of the last requests were lost.
    lost: (u32, u32),
    /// The largest jitter, in nanoseconds.
    jitter: Option<u64>,
    /// Nanoseconds since the last request.
    silent: Option<u64>,
}

impl Peers {
    /// Reads the table.
    ///
    /// # Errors
    /// It or the clock cannot be read.
    pub(super) fn read(instance: &View) -> Result<Self> {
        let named = named_peers(instance);
        let mut peers = Self::of(&named);
        peers.room = each(instance, &named, |row| peers.count(&row))?;
        Ok(peers)
    }

    /// Before any is counted.
    fn of(named: &[NamedPeer]) -> Self {
        let name = |peer: &NamedPeer| Named { name: peer.name.clone(), ..Named::default() };
        let [losses, jitters, intervals] = [LOSSES, JITTERS, INTERVALS].map(Histogram::new);
        let named = named.iter().map(name).collect();
        Self { current: 0, losses, jitters, intervals, named, room: Room::default() }
    }

    fn count(&mut self, row: &Row) {
        let mut named = row.named.and_then(|at| self.named.get_mut(at));
        if let Some(named) = &mut named {
            named.silent = Some(named.silent.map_or(row.silent, |silent| silent.min(row.silent)));
        }
        if !row.is_current {
            return;
        }
        self.current += 1;
        if row.peer.interval != 0 {
            self.intervals.observe(seconds(row.peer.interval));
        }
        // Those that ping regularly.
        let Some(lost) = row.recently_lost() else { return };
        self.jitters.observe(seconds(row.jitter()));
        part(lost).into_iter().for_each(|part| self.losses.observe(part));
        if let Some(named) = named {
            named.lost = (named.lost.0 + lost.0, named.lost.1 + lost.1);
            named.jitter = named.jitter.max(Some(row.jitter()));
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// `None` of nothing.
fn part((lost, of): (u32, u32)) -> Option<f64> {
    (of > 0).then(|| f64::from(lost) / f64::from(of))
}

/// The one sample of a figure about all; none where none are tracked.
fn about_all(peers: Option<&Peers>, number: impl Fn(&Peers) -> Number) -> Vec<Sample<'_>> {
    peers.into_iter().map(|peers| (Vec::new(), number(peers))).collect()
}

/// How many ping now.
pub(super) fn current(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    about_all(peers, |peers| Number::Whole(peers.current))
}

/// Answers to who found no place.
pub(super) fn without_place(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    about_all(peers, |peers| Number::Count(peers.room.without_place))
}

/// What each has lost.
pub(super) fn losses(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    about_all(peers, |peers| Number::Histogram(peers.losses.clone()))
}

/// The jitter of each that pings regularly.
pub(super) fn jitters(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    about_all(peers, |peers| Number::Histogram(peers.jitters.clone()))
}

/// The mean time between the requests of each.
pub(super) fn intervals(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    about_all(peers, |peers| Number::Histogram(peers.intervals.clone()))
}

fn named(peers: Option<&Peers>, value: impl Fn(&Named) -> Option<f64>) -> Vec<Sample<'_>> {
    let named = peers.into_iter().flat_map(|peers| &peers.named);
    named.filter_map(|named| Some((vec![named.name.as_str()], Number::Real(value(named)?)))).collect()
}

/// What each with a name has lost.
pub(super) fn named_loss(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    named(peers, |named| part(named.lost))
}

/// The jitter of each with a name, the largest where it pings several times.
pub(super) fn named_jitter(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    named(peers, |named| named.jitter.map(seconds))
}

/// How long nothing has come from each with a name.
pub(super) fn named_silence(peers: Option<&Peers>) -> Vec<Sample<'_>> {
    named(peers, |named| named.silent.map(seconds))
}

#[cfg(test)]
mod tests {
    use icmp_common::abi::Peer;

    use super::*;
    use crate::observe::metrics::Format;
    use crate::observe::metrics::loaded::Loaded;

    /// The page of an instance that nothing is known of but its peers.
    fn page(peers: Option<Peers>) -> String {
        Loaded { peers, ..Loaded::default() }.text(Format::Prometheus).expect("a page")
    }

    fn row(named: Option<usize>, is_current: bool, window: u64, silent: u64) -> Row {
        let peer = Peer {
            window,
            span: 64,
            received: 1000,
            expected: 1000,
            interval: 1_000_000_000,
            jitter: 2_000_000 << 4,
            ..Peer::FREE
        };
        Row { named, silent, since: 0, is_current, peer }
    }

    #[test]
    fn who_has_a_name_is_told_of_by_it_and_nobody_by_an_address() {
        let named = |name: &str| NamedPeer {
            name: name.to_owned(),
            address: "192.0.2.1".parse().expect("an address"),
        };
        let mut peers = Peers::of(&[named("a"), named("b")]);
        peers.room.without_place = 7;
        for row in [
            // Of two that go on half of one is lost; one of before is only the last that was heard.
            row(Some(0), true, u64::from(u32::MAX), 3_000_000_000),
            row(Some(0), true, u64::MAX, 4_000_000_000),
            row(Some(0), false, 0, 5_000_000_000),
            row(None, true, u64::MAX, 0),
        ] {
            peers.count(&row);
        }
        let text = page(Some(peers));
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
        let nobody = page(None);
        assert!(!nobody.contains("peer"), "{nobody}");
    }
}
