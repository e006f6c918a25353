//! Who pings this host, and what is told of the path from there.
//!
//! Owns what is made of the entries of the table of peers: addresses, names, and figures in units. What an entry means is icmp-common's
//! `peers`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use icmp_common::abi::{Peer, SETTINGS_PEERS, Settings};

use crate::config::peers::NamedPeer;
use crate::instance::pins::View;
use crate::kernel::clock::monotonic_ns;
use crate::policy::peers::address;
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
    /// Answers to who has found no place in the table.
    pub without_place: u64,
    /// Places that there are.
    pub places: u64,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the configuration calls the address.
    pub name: Option<String>,
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
        if settings.flags & SETTINGS_PEERS == 0 {
            return Ok(Self::default());
        }
        let named = named_peers(instance);
        let tracked = instance.maps.tracked()?;
        // Asked last, so that nobody was seen after it.
        let now = monotonic_ns()?;
        let names: BTreeMap<IpAddr, &str> =
            named.iter().map(|peer| (peer.address.to_canonical(), peer.name.as_str())).collect();
        let name = |peer: &Peer| names.get(&address((peer.source_high, peer.source_low)));
        let row = |peer: Peer| Row {
            name: name(&peer).map(|name| (*name).to_owned()),
            silent: now.saturating_sub(peer.last_at),
            since: now.saturating_sub(peer.first_at),
            is_current: !peer.is_gone(now),
            peer,
        };
        Ok(Self {
            is_tracking: true,
            rows: tracked.peers.into_iter().map(row).collect(),
            without_place: tracked.without_place,
            places: tracked.places,
            named,
        })
    }
}
