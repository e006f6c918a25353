//! Who pings this host regularly: the table of peers.

/// Buckets of `PEERS` of a default load; a power of two. There are twice as many places as peers that are asked for, so that of 100 peers less
/// than one finds its four places taken.
pub const PEER_BUCKETS: u32 = 128;
/// Ways of a [`PeerBucket`]; a power of two, so that a way can be masked.
pub const PEER_WAYS: usize = 4;

/// The peers that share a hash: an entry of `PEERS`. Layout: 512 bytes, the lock and the count first, peers from byte 64 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PeerBucket {
    /// Odd while a CPU writes to the bucket; another value after each change. Who reads it while it is odd, or finds another value behind
    /// what it has read, reads again.
    pub version: u64,
    /// What is written under that lock.
    pub peers: Peers,
}

/// What a [`PeerBucket`] holds. Layout: 504 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Peers {
    /// Answers that were not noted, because every place was taken by a peer that was not silent for long enough.
    pub without_place: u64,
    /// Zero.
    pub reserved: [u64; 6],
    /// The places.
    pub places: [Peer; PEER_WAYS],
}

impl Peers {
    /// Nobody.
    pub const NONE: Self = Self { without_place: 0, reserved: [0; 6], places: [Peer::FREE; PEER_WAYS] };
}

/// One who pings: a source, a destination and an identifier of echo requests. Layout: 112 bytes. What becomes of it with each answer is
/// [`crate::peers`]'.
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
    /// Bit n is set where the request n steps before `highest` was received.
    pub window: u64,
    /// When the first request came, in nanoseconds of CLOCK_MONOTONIC; 0 in a free place.
    pub first_at: u64,
    /// When the last one came, whichever it was.
    pub last_at: u64,
    /// When the request with the number `highest` came.
    pub highest_at: u64,
    /// Mean time from one request to the next, in nanoseconds; 0 where it is not known.
    pub interval: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1), in sixteenths of a nanosecond.
    pub jitter: u64,
    /// Requests received, each once.
    pub received: u32,
    /// Requests that the sequence numbers say were sent.
    pub expected: u32,
    /// Requests that were received again.
    pub duplicates: u32,
    /// Requests that came behind later ones.
    pub late: u32,
    /// Requests that did not come when the interval says.
    pub irregular: u32,
    /// Identifier of the requests.
    pub identifier: u16,
    /// The latest sequence number, in the sender's byte order.
    pub highest: u16,
    /// By how much the sender counts on from one request to the next.
    pub stride: u16,
    /// By how much it has counted on last.
    pub gap: u16,
    /// How many times one after the other it has counted on by `gap`.
    pub run: u16,
    /// How many bits of `window` say something, in the low byte; and [`PEER_LITTLE_ENDIAN`].
    pub span: u16,
}

/// In [`Peer::span`]: the sender's sequence numbers are little-endian, as those of some stacks are.
pub const PEER_LITTLE_ENDIAN: u16 = 0x8000;

impl Peer {
    /// Nobody.
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
