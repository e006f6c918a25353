//! The table of peers, as the program has left it.
//!
//! Owns reading it while CPUs write to it. What the entries tell is icmp-common's `peers`.

use anyhow::{Context as _, Result};
use icmp_common::abi::{PEER_WAYS, Peer, PeerBucket};

use crate::instance::maps::InstanceMaps;
use crate::kernel::bpf::read_batch;

/// How often a bucket is read that CPUs are writing to, until it is taken as it is.
const TRIES: u32 = 16;

/// Everybody who is tracked.
#[derive(Debug, Default)]
pub struct Tracked {
    /// Each with what is known of it.
    pub peers: Vec<Peer>,
    /// Answers to who found no place in the table.
    pub without_place: u64,
    /// Places that there are.
    pub places: u64,
}

impl InstanceMaps {
    /// Buckets of the table of peers.
    pub fn peer_buckets(&self) -> u32 {
        self.peers.len()
    }

    /// Reads the table of peers.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tracked(&self) -> Result<Tracked> {
        let buckets = read_batch(&self.peers, 0, self.peers.len()).context("reading the table of peers")?;
        let places = u64::from(self.peer_buckets()) * PEER_WAYS as u64;
        let mut tracked = Tracked { places, ..Tracked::default() };
        for (index, bucket) in (0..).zip(buckets).filter(|(_, bucket)| bucket.0.version != 0) {
            let PeerBucket { peers, .. } = self.unchanged(index, bucket.0)?;
            tracked.without_place += peers.without_place;
            tracked.peers.extend(peers.places.into_iter().filter(|peer| peer.first_at != 0));
        }
        Ok(tracked)
    }

    /// A bucket that nobody has written to while it was read.
    fn unchanged(&self, index: u32, mut bucket: PeerBucket) -> Result<PeerBucket> {
        for _ in 0..TRIES {
            let again = self.peers.get(&index, 0).context("reading the table of peers")?.0;
            if again.version == bucket.version && bucket.version.is_multiple_of(2) {
                break;
            }
            bucket = again;
        }
        Ok(bucket)
    }
}
