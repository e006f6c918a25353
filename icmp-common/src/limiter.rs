//! The limiter's arithmetic: GCRA buckets, pairs of buckets, and how a packet is charged.
//!
//! Owns GCRA buckets (RFC 4443 section 2.4(f) recommends a token bucket; GCRA is one that fits in a word), the two buckets of a source with
//! conservative update, and the token batches that a CPU takes from a budget. State, limit and time are arguments, new state and decision the
//! result. It owns no clock and no map, and does not know which sources share a bucket.
//!
//! A bucket's word is the instant at which the bucket was, or will have been, *empty*, not the usual theoretical arrival time. The two differ by
//! the burst, so an exhausted bucket stays exhausted when its limit is changed: a change gives no source a fresh burst
//! (docs/adr/0006-limiter.md). An untouched bucket, zero, is full.
//!
//! Time is counted in [`UNITS_PER_TICK`] parts of a jiffy. While a clock stands still, no bucket fills. A clock that jumps back stops a bucket
//! for [`MAX_SKEW`] at most; a clock that jumps ahead fills it, no further than its burst.

use crate::abi::{LINE_WORDS, Limit};
use crate::wire::ipv6::Halves;

/// Log2 of [`UNITS_PER_TICK`].
pub const TICK_SHIFT: u32 = 24;
/// Units of time in one tick of the kernel's clock. With 2^24 the highest rate, one packet a unit, is beyond any link's at every
/// HZ, and 40 bits are left for ticks: 34 years at HZ = 1000.
pub const UNITS_PER_TICK: u64 = 1 << TICK_SHIFT;

/// A tick in units.
#[inline(always)]
pub const fn now(ticks: u64) -> u64 {
    ticks << TICK_SHIFT
}

/// How far ahead of the clock a bucket may be before it is taken for a leftover of a clock that jumped, in units. Only a clock read
/// on another CPU (one tick) and replies lent to known sources (a fraction of a second) get a bucket ahead at all.
pub const MAX_SKEW: u64 = 2048 << TICK_SHIFT;

/// How often a compare-and-swap is tried before the packet counts as over its limit. A failed try means that another CPU
/// was admitted from the same bucket meanwhile, so giving up never starves a bucket and never admits too much.
pub const TRIES: u32 = 6;

/// Why a bucket refuses a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The packet is over the limit.
    OverLimit,
    /// The bucket lies so far ahead of the clock that it must be a leftover of a clock that jumped back. It is to count on from now.
    Stale,
}

/// What a bucket with this word holds at `now`, in units, where that covers one packet.
///
/// # Errors
/// It does not.
#[inline(always)]
pub fn held<S: Shared>(bucket: u64, limit: &Limit, now: u64) -> Result<u64, Refusal> {
    let filled = now.wrapping_sub(bucket);
    let held = limit.capacity.wrapping_add(S::negative(filled.wrapping_sub(limit.capacity)));
    if held as i64 >= limit.interval as i64 {
        return Ok(held);
    }
    // Below zero the bucket lies ahead of the clock. A packet that was lent puts it there by as much as a packet costs, however slow the limit.
    let most = MAX_SKEW.wrapping_add(limit.interval);
    Err(if held.wrapping_neg() as i64 > most as i64 { Refusal::Stale } else { Refusal::OverLimit })
}

/// The tables of [`crate::abi::Line`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Buckets of sources.
    Sources,
    /// Buckets of prefixes.
    Prefixes,
    /// Reputation entries of sources ([`crate::known_sources`]).
    Reputations,
}

/// Words that several CPUs share.
pub trait SharedWords {
    /// The bucket of a budget or of a rule; `None` where there is no such bucket.
    fn bucket(&self, index: u32) -> Option<impl Shared>;

    /// Two words of a line; `None` where there is no such line.
    fn pair(&self, table: Table, place: PairIndex) -> Option<[impl Shared; 2]>;

    /// When a source at this place of `LAST_SERVED` was last served as a known one ([`crate::known_sources::may_hold`]).
    fn last_served(&self, place: u32) -> Option<impl Shared>;
}

/// Where a hash leads to in a table of [`crate::abi::Line`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairIndex {
    /// The line.
    pub line: u32,
    /// Two different words of it.
    pub words: [usize; 2],
}

/// Bits of a hash that choose the first word of a line.
const FIRST_BITS: u32 = LINE_WORDS.ilog2();
/// Bits of a hash that choose the second word.
const SECOND_BITS: u32 = 8;

impl PairIndex {
    /// The place of a hash in a table of 2^(64 - `shift`) lines. Line and words are the highest bits of the hash, next to each other,
    /// because only those are universal.
    #[inline(always)]
    pub const fn new(hash: u64, shift: u32) -> Self {
        let bits = hash >> (shift - FIRST_BITS - SECOND_BITS);
        let first = (bits >> SECOND_BITS) as usize & (LINE_WORDS - 1);
        // One of the seven others.
        let behind = ((bits & ((1 << SECOND_BITS) - 1)) * (LINE_WORDS as u64 - 1)) >> SECOND_BITS;
        Self {
            line: (bits >> (FIRST_BITS + SECOND_BITS)) as u32,
            words: [first, (first + 1 + behind as usize) & (LINE_WORDS - 1)],
        }
    }
}

/// A word that several CPUs share.
pub trait Shared {
    /// Its value.
    fn load(&self) -> u64;

    /// Sets it to `new` if it still is `old`; true if it was.
    fn swap(&self, old: u64, new: u64) -> bool;

    /// Sets it; a race may lose that.
    fn store(&self, value: u64);

    /// [`TRIES`], of which the compiler knows nothing: it would write a loop out as many times.
    #[inline(always)]
    fn tries() -> u32 {
        TRIES
    }

    /// The difference where it is negative, or else 0.
    ///
    /// Without a branch, which nobody could predict for sources at random. The kernel's side has a form of its own: the instruction set has
    /// no conditional move, and the compiler makes a branch of every form of this that it sees through.
    #[inline(always)]
    fn negative(difference: u64) -> u64 {
        difference & (difference as i64 >> 63) as u64
    }
}

/// What became of a packet at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Within the limit, and charged.
    Admitted {
        /// What the bucket held before, in units; the capacity where it was full.
        held: u64,
        /// The instant the bucket was empty, before: the emptier it was, the later.
        emptied: u64,
    },
    /// Over the limit.
    Refused,
}

/// A source's two buckets at one level, and what they held when they were read.
pub struct Pair<S> {
    buckets: [S; 2],
    seen: [u64; 2],
}

impl<S: Shared> Pair<S> {
    /// Reads two buckets.
    ///
    /// Apart from charging, so that all that a packet needs can be on its way from memory before the first compare-and-swap, which
    /// waits for everything before it and lets nothing behind it begin.
    #[inline(always)]
    pub fn read(buckets: [S; 2]) -> Self {
        let seen = [buckets[0].load(), buckets[1].load()];
        Self { buckets, seen }
    }

    /// Charges one packet to the source.
    ///
    /// A packet is over the limit only if both buckets say so; an admitted one raises both to the same value and leaves a bucket
    /// alone that others have raised further (conservative update), so a source gets less than its due only where both of its buckets
    /// are shared. Exact over all CPUs: the first bucket is raised last and commits the admission; whoever read what another
    /// CPU has changed since decides again. A restart may leave a bucket raised, which errs towards refusing.
    #[inline(always)]
    pub fn charge(self, limit: &Limit, now: u64) -> Admission {
        let Self { buckets: [first, second], seen: [mut a, mut b] } = self;
        let mut tries = S::tries();
        while tries != 0 {
            // The fuller of the two: the one that has been empty for longer.
            let fuller = a.wrapping_add(S::negative(b.wrapping_sub(a)));
            let held = match held::<S>(fuller, limit, now) {
                Ok(held) => held,
                Err(Refusal::OverLimit) => return Admission::Refused,
                Err(Refusal::Stale) => {
                    // Whoever gets there first repairs; a lost race means that it has been done.
                    second.swap(b, now);
                    first.swap(a, now);
                    return Admission::Refused;
                }
            };
            let raised = now.wrapping_sub(held).wrapping_add(limit.interval);
            // A bucket that is raised further already is swapped for itself: a compare-and-swap costs less than not to know.
            let later = |bucket: u64| raised.wrapping_sub(S::negative(raised.wrapping_sub(bucket)));
            if second.swap(b, later(b)) && first.swap(a, later(a)) {
                return Admission::Admitted { held, emptied: fuller };
            }
            [a, b] = [first.load(), second.load()];
            tries -= 1;
        }
        Admission::Refused
    }
}

/// Takes up to `most` packets at once from one bucket; how many were taken.
///
/// Dividing is left to the case that something is there to take, so that an exhausted budget costs a load and a compare.
#[inline(always)]
pub fn take<S: Shared>(shared: &S, limit: &Limit, most: u32, now: u64) -> u32 {
    let mut tries = S::tries();
    while tries != 0 {
        tries -= 1;
        let bucket = shared.load();
        match held::<S>(bucket, limit, now) {
            Ok(held) => {
                let start = now.wrapping_sub(held);
                // An interval of zero is unlimited and was asked about before; this spares the program a panic.
                let there = held.checked_div(limit.interval).unwrap_or(0);
                let taken = if there < most as u64 { there } else { most as u64 };
                if shared.swap(bucket, start.wrapping_add(taken.wrapping_mul(limit.interval))) {
                    return taken as u32;
                }
            }
            Err(Refusal::OverLimit) => return 0,
            Err(Refusal::Stale) => {
                shared.swap(bucket, now);
                return 0;
            }
        }
    }
    0
}

/// Charges one packet to a bucket whether or not it holds one: what a known source gets from the reserve is taken from what
/// the others get next.
#[inline(always)]
pub fn overdraw<S: Shared>(shared: &S, limit: &Limit, now: u64) {
    let mut tries = S::tries();
    while tries != 0 {
        tries -= 1;
        let bucket = shared.load();
        let filled = now.wrapping_sub(bucket);
        let start = if filled <= i64::MAX as u64 && filled > limit.capacity {
            now.wrapping_sub(limit.capacity)
        } else {
            bucket
        };
        if shared.swap(bucket, start.wrapping_add(limit.interval)) {
            return;
        }
    }
}

/// Random words of a [`hash4`] and a [`hash6`].
pub const SECRET_WORDS: usize = 6;
/// Words of the limiter's secret: for the hash that leads to buckets, and for the one that leads to everything else about a source.
pub const SECRETS: usize = 2 * SECRET_WORDS;

/// Hashes an IPv4 address, already masked to what a level looks at, with random words drawn at load. Only the highest 32 bits may be used:
/// any two addresses picked without the secret agree in n of them with probability 2^-n.
///
/// Multiply-add-shift (Thorup, "High Speed Hashing for Integers and Strings", section 3.1): strongly universal for 32-bit inputs.
#[inline(always)]
pub const fn hash4(secret: [u64; 2], address: u32) -> u64 {
    secret[0].wrapping_mul(address as u64).wrapping_add(secret[1])
}

/// Hashes an IPv6 address, as [`hash4`]. The random words are others, so nobody can choose an address of one family that meets a host of
/// the other one.
///
/// Pair-multiply-shift (as above, section 3.5): strongly universal over all 128 bits.
#[inline(always)]
pub const fn hash6(secret: [u64; 4], (high, low): Halves) -> u64 {
    const WORD: u64 = u32::MAX as u64;
    let first = secret[0].wrapping_add(high >> 32).wrapping_mul(secret[1].wrapping_add(high & WORD));
    let second = secret[2].wrapping_add(low >> 32).wrapping_mul(secret[3].wrapping_add(low & WORD));
    first.wrapping_add(second)
}
