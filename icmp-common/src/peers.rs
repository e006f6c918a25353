//! Peers: loss, reordering and jitter of the path from a sender to this host, by the sequence numbers and times of its echo requests.
//!
//! Owns how a peer's entry changes with each answered request, and which entry a new peer may replace. It does not own where entries lie, their
//! lock, or a clock. The sequence number of a request says how many were sent before it, so a missing one was lost, or is still on its way. The
//! 64 requests up to the latest one are a window of bits, as against replay in IPsec (RFC 4303 section 3.4.3): a request whose bit is already
//! set is a duplicate, and one whose bit is set after those of later ones was reordered. The jitter is that of RFC 3550 section 6.4.1, for a
//! sender that sends at equal intervals.
//!
//! If a sender starts again, nothing counts as lost: neither the requests that were missing before, nor the numbers between the old and the new
//! ones. Some senders number their requests over several destinations (fping), so the step from one number to the next is learnt; some write
//! numbers in their own byte order, which is learnt as well.

use crate::abi::{PEER_LITTLE_ENDIAN, PEER_WAYS, Peer, PeerPrefix};
use crate::frame::Frame;
use crate::types::Family;
use crate::wire::ipv6::Halves;

/// Requests that the window tells apart.
const WINDOW: u64 = 64;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// How many times one after the other a sender has to count on by the same, until that is taken for its way to count: a path that loses one
/// request in two at random looks like that once in 2^32 times.
const LEARNT: u16 = 16;
/// Requests after which a sender is taken for one that goes on.
const ESTABLISHED: u32 = 8;
/// Log2 of the requests over which interval and jitter are averaged (RFC 3550 section 6.4.1 says why 16).
const AVERAGE: u32 = 4;
/// How much a request may be off its time whatever the interval is.
const SLACK: u64 = SECOND / 100;
/// Intervals for which a peer that goes on keeps its place in silence.
const SILENT_INTERVALS: u64 = 64;
/// The same for who has not sent enough to be one that goes on, and the least for who has.
const SHORT_HOLD: u64 = 2 * SECOND;
const LONG_HOLD: u64 = 60 * SECOND;

/// An echo request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who has sent it; an IPv4 address as an IPv6 one.
    pub source: Halves,
    /// Whom it is addressed to.
    pub destination: Halves,
    /// Its identifier.
    pub identifier: u16,
    /// Its sequence number, read as a big-endian one.
    pub sequence: u16,
}

/// First 32 of the last eight bytes of an IPv4 address that is written as an IPv6 one.
const MAPPED: u64 = 0xffff << 32;

/// An IPv4 address as an IPv6 one (RFC 4291 section 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: u32) -> Halves {
    (0, MAPPED | address as u64)
}

/// What the second mask of a prefix has in it at least, for one that an address of this family can be in: a mask that ends within what is before
/// a [`mapped`] address is of IPv6, whose `::/0` has no host of IPv4 in it.
#[inline(always)]
pub const fn least_mask(family: Family) -> u64 {
    match family {
        Family::V4 => u64::MAX << 32,
        Family::V6 => 0,
    }
}

/// Whether an address, of IPv4 [`mapped`], is in a prefix of those who are tracked, of its own family ([`least_mask`]).
#[inline(always)]
pub const fn is_in((high, low): Halves, least_mask: u64, prefix: &PeerPrefix) -> bool {
    // One branch, where the verifier would follow three.
    let others = ((high & prefix.mask_high) ^ prefix.high) | ((low & prefix.mask_low) ^ prefix.low);
    (others | (!prefix.mask_low & least_mask)) == 0
}

/// Notes a request in the places that it may be noted in; false where they are others'.
#[inline(always)]
pub fn note<F: Frame>(places: &mut [Peer; PEER_WAYS], request: &Request, now: u64) -> bool {
    let (mut best, mut claim) = (0, Claim::None);
    // Opaque, or the compiler writes the loop out.
    let mut left = F::opaque(PEER_WAYS);
    while left != 0 {
        left -= 1;
        let way = left & (PEER_WAYS - 1);
        let possible = places[way].claim(request, now);
        if possible as u32 > claim as u32 {
            (best, claim) = (way, possible);
        }
    }
    if matches!(claim, Claim::None) {
        return false;
    }
    let peer = &mut places[best & (PEER_WAYS - 1)];
    peer.make_room();
    let goes_on = match claim {
        Claim::Same => peer.goes_on(request.sequence, now),
        Claim::Again => {
            peer.identifier = request.identifier;
            (peer.span, peer.stride) = (0, 1);
            false
        }
        Claim::None | Claim::Gone => {
            peer.begin(request, now);
            false
        }
    };
    peer.last_at = now;
    if !goes_on {
        peer.restart(request.sequence, now);
    }
    true
}

/// By what right a request is noted in a place; the highest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// None: it is another's.
    None,
    /// It is free, or nobody's any longer.
    Gone,
    /// It is the same pair of addresses', which has paused and comes back with another identifier, as each run of `ping` does.
    Again,
    /// It is the sender's.
    Same,
}

impl Peer {
    #[inline(always)]
    fn claim(&self, request: &Request, now: u64) -> Claim {
        let silent = now.saturating_sub(self.last_at);
        let is_pair = self.source_high == request.source.0
            && self.source_low == request.source.1
            && self.destination_high == request.destination.0
            && self.destination_low == request.destination.1
            && self.first_at != 0;
        if is_pair && self.identifier == request.identifier {
            Claim::Same
        } else if is_pair && silent > self.pause() {
            Claim::Again
        } else if self.first_at == 0 || self.is_gone(now) {
            Claim::Gone
        } else {
            Claim::None
        }
    }

    /// Silence after which a lower number is a new beginning and not a late request.
    #[inline(always)]
    const fn pause(&self) -> u64 {
        self.interval.wrapping_mul(4).wrapping_add(SECOND)
    }

    /// Whether it has been silent for so long that somebody else may have the place.
    #[inline(always)]
    pub const fn is_gone(&self, now: u64) -> bool {
        now.saturating_sub(self.last_at) > self.hold()
    }

    /// Silence for which the place is kept.
    #[inline(always)]
    const fn hold(&self) -> u64 {
        if self.received < ESTABLISHED {
            return SHORT_HOLD;
        }
        let hold = self.interval.wrapping_mul(SILENT_INTERVALS);
        if hold < LONG_HOLD { LONG_HOLD } else { hold }
    }

    /// Takes the place for the sender of a request.
    #[inline(always)]
    fn begin(&mut self, request: &Request, now: u64) {
        // The compiler is not to see a row of zeroes, which it would call a function to write.
        let zero = core::hint::black_box(0_u32);
        (self.source_high, self.source_low) = request.source;
        (self.destination_high, self.destination_low) = request.destination;
        self.identifier = request.identifier;
        self.first_at = now;
        (self.interval, self.jitter) = (zero as u64, zero as u64);
        (self.received, self.expected) = (zero, zero);
        (self.duplicates, self.late, self.irregular) = (zero, zero, zero);
        (self.gap, self.run, self.span) = (zero as u16, zero as u16, zero as u16);
        self.stride = 1;
    }

    /// Halves what is counted before that wraps, so that the parts that were lost, or did not come when the interval says, stay what they are.
    #[inline(always)]
    const fn make_room(&mut self) {
        if self.expected >> (u32::BITS - 1) != 0 {
            self.received /= 2;
            self.expected /= 2;
            self.irregular /= 2;
        }
    }

    /// Notes a request of this peer; false where it is a new beginning.
    #[inline(always)]
    fn goes_on(&mut self, sequence: u16, now: u64) -> bool {
        let number = self.number(sequence);
        let ahead = number.wrapping_sub(self.highest);
        let is_ahead = ahead as i16 > 0;
        let distance = if is_ahead { ahead } else { ahead.wrapping_neg() };
        // A stride of zero is in no entry of ours; this spares the program a panic.
        let steps = distance.checked_div(self.stride).unwrap_or(0);
        if steps.wrapping_mul(self.stride) != distance {
            // It counts otherwise than before.
            self.stride = 1;
            return false;
        }
        if is_ahead {
            self.advances(number, ahead, steps as u64, now)
        } else {
            self.looks_back(steps as u64, now)
        }
    }

    /// A later request than all before.
    #[inline(always)]
    fn advances(&mut self, number: u16, ahead: u16, steps: u64, now: u64) -> bool {
        self.run = if ahead == self.gap { self.run.saturating_add(1) } else { 1 };
        self.gap = ahead;
        let elapsed = now.saturating_sub(self.highest_at);
        let is_possible = self.interval != 0 && self.interval.wrapping_mul(steps) / 2 <= elapsed;
        // So many cannot have been sent meanwhile: it counts on from elsewhere.
        let goes_on = steps <= WINDOW || is_possible;
        if goes_on {
            self.window = if steps < WINDOW { self.window << (steps & (WINDOW - 1)) | 1 } else { 1 };
            self.set_span(self.span() + steps);
            self.expected = self.expected.wrapping_add(steps as u32);
            self.received = self.received.wrapping_add(1);
            (self.highest, self.highest_at) = (number, now);
            self.time(steps, elapsed);
        }
        if self.run == LEARNT && steps > 1 {
            self.learn(steps);
        }
        goes_on
    }

    /// Takes what it has counted on by so far for its way to count: nothing was missing of that.
    #[inline(always)]
    fn learn(&mut self, steps: u64) {
        let (missing, lost) = ((steps as u32 - 1).wrapping_mul(LEARNT as u32), self.lost());
        self.expected = self.expected.wrapping_sub(if missing < lost { missing } else { lost });
        self.window = (1 << (LEARNT + 1)) - 1;
        self.set_span(LEARNT as u64 + 1);
        self.interval = self.interval.wrapping_mul(steps);
        if self.gap == 1_u16.swap_bytes() {
            self.span ^= PEER_LITTLE_ENDIAN;
            self.highest = self.highest.swap_bytes();
            (self.stride, self.gap, self.run) = (1, 0, 0);
        } else {
            self.stride = self.gap;
        }
    }

    /// A request that is no later than the latest.
    #[inline(always)]
    fn looks_back(&mut self, steps: u64, now: u64) -> bool {
        if steps >= WINDOW || now.saturating_sub(self.last_at) > self.pause() {
            return false;
        }
        let bit = 1 << (steps & (WINDOW - 1));
        if self.window & bit != 0 {
            self.duplicates = self.duplicates.wrapping_add(1);
            return true;
        }
        self.window |= bit;
        self.late = self.late.wrapping_add(1);
        self.received = self.received.wrapping_add(1);
        let span = self.span();
        if steps >= span {
            // From before the first one that was received.
            self.expected = self.expected.wrapping_add((steps + 1 - span) as u32);
            self.set_span(steps + 1);
        }
        true
    }

    /// The sender begins, or begins again, with this number.
    #[inline(always)]
    fn restart(&mut self, sequence: u16, now: u64) {
        self.expected = self.expected.wrapping_add(1);
        self.received = self.received.wrapping_add(1);
        (self.highest, self.highest_at) = (self.number(sequence), now);
        self.window = 1;
        self.set_span(1);
    }

    /// Interval and jitter, when a request came so long after the one so many steps before.
    #[inline(always)]
    fn time(&mut self, steps: u64, elapsed: u64) {
        let each = elapsed.checked_div(steps).unwrap_or(0);
        if self.interval == 0 {
            self.interval = if each == 0 { 1 } else { each };
            return;
        }
        let predicted = self.interval.wrapping_mul(steps);
        let off = predicted.abs_diff(elapsed);
        let most = (predicted / 2).wrapping_add(SLACK);
        let is_irregular = off > most;
        self.irregular = self.irregular.wrapping_add(is_irregular as u32);
        // What is beyond is the sender's doing.
        let off = if is_irregular { most } else { off };
        self.jitter = self.jitter.wrapping_add(off).wrapping_sub((self.jitter.wrapping_add(8)) >> AVERAGE);
        if self.received < ESTABLISHED {
            self.interval = self.interval.wrapping_add(each) / 2;
            return;
        }
        // One pause does not change it much, and what stays changes it.
        let (least, most) = (self.interval / 2, self.interval.wrapping_mul(2));
        let each = if each < least {
            least
        } else if each > most {
            most
        } else {
            each
        };
        self.interval = self.interval.wrapping_add(each >> AVERAGE).wrapping_sub(self.interval >> AVERAGE);
    }

    /// A sequence number in the sender's byte order.
    #[inline(always)]
    const fn number(&self, sequence: u16) -> u16 {
        if self.span & PEER_LITTLE_ENDIAN != 0 { sequence.swap_bytes() } else { sequence }
    }

    /// How many requests the window tells of.
    #[inline(always)]
    const fn span(&self) -> u64 {
        (self.span & 0xff) as u64
    }

    #[inline(always)]
    const fn set_span(&mut self, span: u64) {
        let span = if span < WINDOW { span } else { WINDOW };
        self.span = self.span & PEER_LITTLE_ENDIAN | span as u16;
    }

    /// Requests that were sent and have not come, those on their way among them.
    pub const fn lost(&self) -> u32 {
        self.expected.wrapping_sub(self.received)
    }

    /// How many of the last 64 requests, or fewer, have not come; and of how many.
    pub const fn recently_lost(&self) -> (u32, u32) {
        let span = self.span() as u32;
        (span.saturating_sub(self.window.count_ones()), span)
    }

    /// Whether requests come at equal intervals. Otherwise its sequence numbers say nothing about loss: a sender that numbers its requests over
    /// several destinations, and sends to each when it likes, is not told from a path that loses some.
    pub const fn is_regular(&self) -> bool {
        self.received >= ESTABLISHED && self.irregular <= self.received / 4
    }
}
