//! Peers, and the figures of the path from each.
//!
//! Owns the form of the table's entries: addresses, names, and figures in units. icmp-common's `peers` owns the meaning of an entry.

use std::net::IpAddr;

use anyhow::Result;
use icmp_common::abi::{Peer, SETTINGS_PEERS, Settings};
use icmp_common::wire::ipv6::Halves;

use crate::config::peers::NamedPeer;
use crate::instance::peers::Room;
use crate::instance::pins::View;
use crate::kernel::clock::monotonic_ns;
use crate::policy::peers::{address, halves};
use crate::policy::saved::named_peers;

/// Everybody who is tracked.
#[derive(Debug, Default)]
pub struct Seen {
    /// The settings in force say that peers are tracked.
    pub is_tracking: bool,
    /// Those in the table.
    pub rows: Vec<Row>,
    /// Those that have a name, whether they have pinged or not.
    pub named: Vec<NamedPeer>,
    /// What there is to say of the table.
    pub room: Room,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which of those that have a name it is.
    pub named: Option<usize>,
    /// Nanoseconds since its last request.
    pub silent: u64,
    /// Nanoseconds since its first one.
    pub since: u64,
    /// It has pinged recently enough to be one who does.
    pub is_current: bool,
    /// The entry itself.
    pub peer: Peer,
}

impl Row {
    /// Where its requests come from.
    pub fn address(&self) -> IpAddr {
        address((self.peer.source_high, self.peer.source_low))
    }

    /// Whom they are addressed to.
    pub fn destination(&self) -> IpAddr {
        address((self.peer.destination_high, self.peer.destination_low))
    }

    /// The part of its requests that was lost; `None` where its numbers do not tell.
    pub fn loss(&self) -> Option<f64> {
        let expected = f64::from(self.peer.expected.max(1));
        self.peer.is_regular().then(|| f64::from(self.peer.lost()) / expected)
    }

    /// As [`Self::loss`], of the last 64 requests: how many were lost, and of how many.
    pub fn recently_lost(&self) -> Option<(u32, u32)> {
        self.peer.is_regular().then(|| self.peer.recently_lost())
    }

    /// Jitter in nanoseconds.
    pub fn jitter(&self) -> u64 {
        self.peer.jitter >> 4
    }
}

impl Seen {
    /// Reads the table, where these settings, which are in force, say that peers are tracked.
    ///
    /// # Errors
    /// A map or the clock cannot be read.
    pub fn now(instance: &View, settings: &Settings) -> Result<Self> {
        if !is_tracking(settings) {
            return Ok(Self::default());
        }
        let named = named_peers(instance);
        let mut rows = Vec::new();
        let room = each(instance, &named, |row| rows.push(row))?;
        Ok(Self { is_tracking: true, rows, named, room })
    }

    /// What the configuration calls a row's address.
    pub fn name(&self, row: &Row) -> Option<&str> {
        Some(self.named.get(row.named?)?.name.as_str())
    }
}

/// Whether settings say that peers are tracked.
pub fn is_tracking(settings: &Settings) -> bool {
    settings.flags & SETTINGS_PEERS != 0
}

/// Shows each who is tracked, of whom some have a name.
///
/// # Errors
/// The table or the clock cannot be read.
pub fn each(instance: &View, named: &[NamedPeer], mut see: impl FnMut(Row)) -> Result<Room> {
    let mut names: Vec<(Halves, usize)> =
        named.iter().enumerate().map(|(at, peer)| (halves(peer.address.to_canonical()), at)).collect();
    names.sort_unstable();
    let name = |source: Halves| {
        let place = names.binary_search_by_key(&source, |(address, _)| *address).ok()?;
        Some(names[place].1)
    };
    let now = monotonic_ns()?;
    instance.maps.each_peer(|peer| {
        see(Row {
            named: name((peer.source_high, peer.source_low)),
            silent: now.saturating_sub(peer.last_at),
            since: now.saturating_sub(peer.first_at),
            is_current: !peer.is_gone(now),
            peer: *peer,
        });
    })
}
