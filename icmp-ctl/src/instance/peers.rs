//! The table of peers.
//!
//! Owns reading it while CPUs write to it. icmp-common's `peers` owns the meaning of the entries.

use std::hint::spin_loop;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use anyhow::{Context as _, Result};
use icmp_common::abi::{PEER_WAYS, Peer, PeerBucket, Peers};

use crate::instance::maps::InstanceMaps;
use crate::kernel::mapped::MappedArray;
use crate::kernel::pod::Pod;

/// How often a bucket is read that CPUs are writing to, until it is taken as it is: for about a hundred microseconds.
const TRIES: u32 = 1 << 12;

/// What there is to say of the table but for who is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
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

    /// Reads the table of peers where it is, because with many thousands of them a call for each would be most of what a scrape costs, and shows each
    /// as it comes, because keeping them would be most of the rest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn each_peer(&self, mut see: impl FnMut(&Peer)) -> Result<Room> {
        let table = MappedArray::new(&self.peers).context("reading the table of peers")?;
        let places = u64::from(self.peer_buckets()) * PEER_WAYS as u64;
        let mut room = Room { places, ..Room::default() };
        let mut bucket = Pod(PeerBucket { version: 0, peers: Peers::NONE });
        for words in table.values().filter(|words| version(words).load(Ordering::Relaxed) != 0) {
            copy_unchanged(words, &mut bucket);
            let peers = &bucket.0.peers;
            room.without_place += peers.without_place;
            peers.places.iter().filter(|peer| peer.first_at != 0).for_each(&mut see);
        }
        Ok(room)
    }
}

/// The version of a bucket, of its words.
fn version(words: &[AtomicU64]) -> &AtomicU64 {
    &words[offset_of!(PeerBucket, version) / size_of::<u64>()]
}

/// Copies what a bucket holds while nobody writes to it.
fn copy_unchanged(words: &[AtomicU64], bucket: &mut Pod<PeerBucket>) {
    let mut tries = TRIES;
    loop {
        let before = version(words).load(Ordering::Acquire);
        MappedArray::copy(words, bucket);
        // What was copied was so before this is asked.
        fence(Ordering::Acquire);
        let is_whole = before.is_multiple_of(2) && version(words).load(Ordering::Relaxed) == before;
        tries -= 1;
        if is_whole || tries == 0 {
            return;
        }
        spin_loop();
    }
}
