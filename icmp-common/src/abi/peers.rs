//! Peers: the senders whose pings are tracked.

/// Buckets of `PEERS` of a default load; a power of two. There are twice as many places as peers to be tracked, so that of 100 peers less than
/// one finds its four places taken.
pub const PEER_BUCKETS: u32 = 128;
/// Ways of a [`PeerBucket`]; a power of two, so that a way can be masked.
pub const PEER_WAYS: usize = 4;

/// The peers that share a hash: an entry of `PEERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PeerBucket {
    /// Lock: a CPU makes it odd by compare-and-swap before it writes to the bucket, and even again after that, with a new value. A reader that
    /// finds it odd, or changed after it has read the bucket, reads again.
    pub version: u64,
    /// The peers, written under the lock.
    pub peers: Peers,
}

/// What a [`PeerBucket`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Peers {
    /// Answers that were not recorded, because all four places had peers that were not silent for long enough.
    pub without_place: u64,
    /// Zero.
    pub reserved: [u64; 6],
    /// The places.
    pub places: [Peer; PEER_WAYS],
}

impl Peers {
    /// No peers.
    pub const NONE: Self = Self { without_place: 0, reserved: [0; 6], places: [Peer::FREE; PEER_WAYS] };
}

/// A peer: a source, a destination and an identifier of echo requests. Addresses are big-endian halves, IPv4 as `::ffff:0:0/96`; counters wrap
/// around. [`crate::peers`] has how a peer changes with each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Peer {
    /// First eight bytes of the source, as a big-endian number; an IPv4 address is written as an IPv6 one (RFC 4291 section 2.5.5.2).
    pub source_high: u64,
    /// Last eight bytes of the source.
    pub source_low: u64,
    /// First eight bytes of the destination.
    pub destination_high: u64,
    /// Last eight bytes of the destination.
    pub destination_low: u64,
    /// Bit n is set if the request n steps of `stride` before `highest` was received.
    pub window: u64,
    /// Time of the first request, in nanoseconds of CLOCK_MONOTONIC; 0 in a free place.
    pub first_at: u64,
    /// Time of the last request.
    pub last_at: u64,
    /// Time of the request with the number `highest`.
    pub highest_at: u64,
    /// Mean time from one request to the next, in nanoseconds; 0 if it is not known.
    pub interval: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1), in sixteenths of a nanosecond.
    pub jitter: u64,
    /// Requests received, each once.
    pub received: u32,
    /// Requests that were sent, by their sequence numbers.
    pub expected: u32,
    /// Requests that were received again.
    pub duplicates: u32,
    /// Requests that came after later ones.
    pub late: u32,
    /// Requests that did not come at the interval.
    pub irregular: u32,
    /// Identifier of the requests.
    pub identifier: u16,
    /// The latest sequence number, in the sender's byte order.
    pub highest: u16,
    /// Step from one sequence number of the sender to the next.
    pub stride: u16,
    /// The last step.
    pub gap: u16,
    /// How many times in a row the step was `gap`.
    pub run: u16,
    /// Valid bits of `window`, in the low byte; and [`PEER_LITTLE_ENDIAN`].
    pub span: u16,
}

/// In `span` of a [`Peer`]: the sender's sequence numbers are little-endian, as those of some stacks are.
pub const PEER_LITTLE_ENDIAN: u16 = 0x8000;

impl Peer {
    /// A free place.
    pub const FREE: Self = Self {
        source_high: 0,
        source_low: 0,
        destination_high: 0,
        destination_low: 0,
        window: 0,
        first_at: 0,
        last_at: 0,
        highest_at: 0,
        interval: 0,
        jitter: 0,
        received: 0,
        expected: 0,
        duplicates: 0,
        late: 0,
        irregular: 0,
        identifier: 0,
        highest: 0,
        stride: 0,
        gap: 0,
        run: 0,
        span: 0,
    };
}
