//! The limiter's arithmetic: buckets, cells, and how a packet is charged to them.
//!
//! Owns GCRA cells (RFC 4443 section 2.4(f) recommends a token bucket; GCRA is one that fits a word), rows of cells with
//! conservative update, and the batches a CPU takes from a budget. Pure: state, limit and time come in, state and decision
//! go out. It owns no clock, no map, and does not know who shares a cell.
//!
//! A cell holds the instant at which its bucket was, or will have been, *empty*, not the usual theoretical arrival time. The two
//! differ by the burst, and so an exhausted bucket stays exhausted when its limit is changed: nobody gets a fresh burst out
//! of a change (docs/adr/0006-limiter.md). Zero, an untouched cell, is a full bucket.
//!
//! Time is counted in [`UNITS_PER_TICK`] parts of a jiffy. A clock that stands still gives nothing; one that jumps back stops a
//! bucket for [`MAX_SKEW`] at most; one that jumps ahead fills it, no further than its burst.

use core::hint::black_box;

/// Log2 of [`UNITS_PER_TICK`].
pub const TICK_SHIFT: u32 = 24;
/// Units of time in one tick of the kernel's clock. With 2^24 the highest rate, one packet a unit, is beyond any link's at every
/// HZ, and 40 bits are left for ticks: 34 years at HZ = 1000.
pub const UNITS_PER_TICK: u64 = 1 << TICK_SHIFT;

/// How far ahead of the clock a cell may be before it is taken for a leftover of a clock that jumped, in units. Only a clock read
/// on another CPU (one tick) and replies lent to familiar sources (a fraction of a second) get a cell ahead at all.
pub const MAX_SKEW: u64 = 2048 << TICK_SHIFT;

/// How often a compare-and-swap is tried before the packet counts as over its limit. A failed try means that another CPU
/// was admitted from the same cell meanwhile, so giving up never starves a cell and never admits too much.
pub const TRIES: u32 = 6;

/// As [`TRIES`], for cells that few packets contend for; each try is code that the verifier has to follow.
const FEW_TRIES: u32 = 3;

/// A rate and a burst. Layout: 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Units of time one packet costs; 0 is unlimited.
    pub interval: u64,
    /// Units of time a full bucket holds: the burst times the interval. Less than an interval admits nothing.
    pub capacity: u64,
}

impl Limit {
    /// Admits everything.
    pub const UNLIMITED: Self = Self { interval: 0, capacity: 0 };
    /// Admits nothing.
    pub const NOTHING: Self = Self { interval: 1, capacity: 0 };

    /// True where nothing has to be charged.
    #[inline(always)]
    pub const fn is_unlimited(&self) -> bool {
        self.interval == 0
    }
}

/// What a charge makes of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The packet is within the limit; the cell becomes this.
    Admitted(u64),
    /// The packet is over the limit; the cell stays.
    Refused,
    /// The cell is from a clock that jumped back. The packet is refused, the cell becomes this, and counts on from now.
    Repaired(u64),
}

/// Charges `cost` units to a bucket that was empty at `cell`, under `limit`, at `now`.
#[inline(always)]
pub fn charge(cell: u64, limit: &Limit, cost: u64, now: u64) -> Charge {
    let filled = now.wrapping_sub(cell);
    // More than half of all time away means that the cell lies ahead of the clock.
    if filled > i64::MAX as u64 {
        return if filled.wrapping_neg() > MAX_SKEW { Charge::Repaired(now) } else { Charge::Refused };
    }
    let held = less(filled, limit.capacity);
    if held < cost { Charge::Refused } else { Charge::Admitted(now.wrapping_sub(held).wrapping_add(cost)) }
}

/// The difference where it is negative, or else 0.
///
/// Without a branch, which nobody could predict for sources at random. The instruction set has no conditional move, and the compiler makes
/// a branch of every form of this that it sees through: so it must not know how far is shifted.
#[inline(always)]
fn negative(difference: u64) -> u64 {
    difference & (difference as i64 >> black_box(63)) as u64
}

/// The smaller of two numbers below 2^63.
#[inline(always)]
fn less(a: u64, b: u64) -> u64 {
    b.wrapping_add(negative(a.wrapping_sub(b)))
}

/// Cells that several CPUs share.
pub trait Cells {
    /// The cell of a budget or of a rule; `None` where there is no such cell.
    fn cell(&self, index: u32) -> Option<impl Shared>;

    /// The words at a place of the limiter's table; `None` where there is no such place.
    fn cluster(&self, place: u32) -> Option<Cluster<impl Shared>>;

    /// When a source at this place of `FAMILIAR` was last served as a familiar one ([`crate::familiar::may_hold`]).
    fn familiar(&self, place: u32) -> Option<impl Shared>;
}

/// The words that lie together at one place of the limiter's table (`abi::Cluster`), each there for a hash of its own.
pub struct Cluster<S> {
    /// First row of the sources.
    pub source: S,
    /// Who is familiar of those whose cell `source` is ([`crate::familiar`]).
    pub familiar: [S; 2],
    /// Second row of the sources.
    pub source_second: S,
    /// First row of the prefixes.
    pub prefix: S,
    /// Second row of the prefixes.
    pub prefix_second: S,
}

/// A word that several CPUs share.
pub trait Shared {
    /// Its value.
    fn load(&self) -> u64;

    /// Sets it to `new` if it still is `old`; true if it was.
    fn swap(&self, old: u64, new: u64) -> bool;

    /// Sets it; a race may lose that.
    fn store(&self, value: u64);
}

/// What became of a packet at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Within the limit, and charged.
    Admitted {
        /// At least half of the burst is left: the source keeps well within its limit.
        calm: bool,
    },
    /// Over the limit.
    Refused,
}

/// The fuller of two cells of one source: the one that has been empty for longer.
#[inline(always)]
fn fuller(a: u64, b: u64) -> u64 {
    a.wrapping_add(negative(b.wrapping_sub(a)))
}

/// The emptier of two cells.
#[inline(always)]
fn emptier(a: u64, b: u64) -> u64 {
    b.wrapping_sub(negative(b.wrapping_sub(a)))
}

/// A source's cells at one level, one in each row, and what they held when they were read.
pub struct Rows<S> {
    first: S,
    second: S,
    seen: (u64, u64),
}

impl<S: Shared> Rows<S> {
    /// Reads two cells.
    ///
    /// Apart from charging, so that all that a packet needs can be on its way from memory before the first compare-and-swap, which
    /// waits for everything before it and lets nothing behind it begin.
    #[inline(always)]
    pub fn read(first: S, second: S) -> Self {
        let seen = (first.load(), second.load());
        Self { first, second, seen }
    }

    /// True if half of the burst is left. It then still covers a 64th of it after every try of [`Self::charge`], whatever other CPUs
    /// take meanwhile.
    #[inline(always)]
    pub fn is_calm(&self, limit: &Limit, now: u64) -> bool {
        let filled = now.wrapping_sub(fuller(self.seen.0, self.seen.1)) as i64;
        limit.is_unlimited() || filled >= (limit.capacity / 2) as i64
    }

    /// Charges packets to the source, all or none; `returned` are those it was charged before and that did not come, of which it gets
    /// back what a full bucket has room for.
    ///
    /// A packet is over the limit only if both cells say so; an admitted one raises both to the same value and leaves a cell
    /// alone that others have raised further (conservative update), so a source gets less than its due only where both of its cells
    /// are shared. Exact over all CPUs: the first cell is raised last and commits the admission; whoever read what another
    /// CPU has changed since decides again. A restart may leave a cell raised, which errs towards refusing.
    #[inline(always)]
    pub fn charge(self, limit: &Limit, packets: u64, returned: u64, now: u64) -> Admission {
        if limit.is_unlimited() {
            return Admission::Admitted { calm: true };
        }
        let Self { first, second, seen: (mut a, mut b) } = self;
        let (cost, returned) = (limit.interval.wrapping_mul(packets), limit.interval.wrapping_mul(returned));
        for _ in 0..TRIES {
            match charge(fuller(a, b).wrapping_sub(returned), limit, cost, now) {
                Charge::Refused => return Admission::Refused,
                Charge::Admitted(raised) => {
                    // A cell that is raised further already is swapped for itself: a compare-and-swap costs less than not to know.
                    if second.swap(b, emptier(b, raised)) && first.swap(a, emptier(a, raised)) {
                        return Admission::Admitted { calm: now.wrapping_sub(raised) >= limit.capacity / 2 };
                    }
                }
                Charge::Repaired(repaired) => {
                    // Whoever gets there first repairs; a lost race means that it has been done.
                    second.swap(b, repaired);
                    first.swap(a, repaired);
                    return Admission::Refused;
                }
            }
            (a, b) = (first.load(), second.load());
        }
        Admission::Refused
    }
}

/// Takes up to `batch` packets at once from the one cell of a budget; how many were taken.
///
/// Dividing is left to the case that something is there to take, so that an exhausted budget costs a load and a compare.
#[inline(always)]
pub fn take_batch<C: Cells>(cells: &C, index: u32, limit: &Limit, batch: u32, now: u64) -> Option<u32> {
    let shared = cells.cell(index)?;
    for _ in 0..TRIES {
        let cell = shared.load();
        match charge(cell, limit, limit.interval, now) {
            Charge::Refused => return Some(0),
            Charge::Repaired(repaired) => {
                shared.swap(cell, repaired);
                return Some(0);
            }
            Charge::Admitted(after_one) => {
                // An interval of zero is unlimited and was asked about before; this spares the program a panic.
                let left = now.wrapping_sub(after_one).checked_div(limit.interval)?;
                let more = if left < batch as u64 - 1 { left } else { batch as u64 - 1 };
                if shared.swap(cell, after_one.wrapping_add(more.wrapping_mul(limit.interval))) {
                    return Some(more as u32 + 1);
                }
            }
        }
    }
    Some(0)
}

/// Charges one packet to a cell of its own; true where that is over the limit. A fault of ours refuses nothing.
#[inline(always)]
pub fn is_over<C: Cells>(cells: &C, index: u32, limit: &Limit, now: u64) -> bool {
    let Some(shared) = cells.cell(index) else { return false };
    for _ in 0..FEW_TRIES {
        let cell = shared.load();
        match charge(cell, limit, limit.interval, now) {
            Charge::Refused => return true,
            Charge::Admitted(raised) => {
                if shared.swap(cell, raised) {
                    return false;
                }
            }
            Charge::Repaired(repaired) => {
                shared.swap(cell, repaired);
                return true;
            }
        }
    }
    true
}

/// Charges one packet to a budget's cell whether or not it is there: what a familiar source gets from the reserve is taken from what
/// the others get next.
#[inline(always)]
pub fn owe<C: Cells>(cells: &C, index: u32, limit: &Limit, now: u64) {
    let Some(shared) = cells.cell(index) else { return };
    for _ in 0..TRIES {
        let cell = shared.load();
        let filled = now.wrapping_sub(cell);
        let start = if filled <= i64::MAX as u64 && filled > limit.capacity {
            now.wrapping_sub(limit.capacity)
        } else {
            cell
        };
        if shared.swap(cell, start.wrapping_add(limit.interval)) {
            return;
        }
    }
}

/// The hash's secret from random numbers: those that are multiplied with are odd.
pub const fn secret(random: [u64; 4]) -> [u64; 4] {
    [random[0], random[1] | 1, random[2] | 1, random[3] | 1]
}

/// Hashes an address, already masked to what a level looks at, with a [`secret`] drawn at load: one value for each row, of which only high
/// bits may be used.
///
/// The first multiplication and the fold are a bijection of `high` that brings its differences to the low bits, too. Each value
/// is then a multiplication by a secret odd number of its own, whose high bits are universal: any two inputs picked without the
/// secret agree in the n highest bits with probability 2/2^n at most, independently in each row (docs/adr/0006-limiter.md).
#[inline(always)]
pub const fn hash(secret: &[u64; 4], high: u64, low: u64) -> (u64, u64) {
    let product = (high ^ secret[0]).wrapping_mul(secret[1]);
    let input = product ^ product >> 32 ^ low;
    (input.wrapping_mul(secret[2]), input.wrapping_mul(secret[3]))
}
