//! The budgets' buckets, and the token batches that each CPU takes from them.
//!
//! Owns the indices of the buckets of budgets and rules (docs/map-abi.md), and the batches. The limiter owns what a bucket holds; the policy
//! owns which budget a message is charged to.

use crate::abi::{BUDGETS, Batches, NEXT, RULE_SLOTS, Settings};
use crate::limiter;
use crate::tables::Tables;

/// Buckets of 8 bytes in a cache line of 64.
const BUCKETS_PER_LINE: usize = 8 << NEXT;
/// Buckets of the budgets and, behind them, one for each slot of a rule.
pub const BUCKETS: u32 = (BUDGETS * BUCKETS_PER_LINE + RULE_SLOTS) as u32;

/// Position of a budget's bucket, each in a cache line of its own.
#[inline(always)]
pub const fn budget_bucket(budget: usize) -> u32 {
    (budget * BUCKETS_PER_LINE) as u32
}

/// Position of a rule's bucket, behind those of the budgets.
#[inline(always)]
pub const fn rule_bucket(slot: u32) -> u32 {
    (BUDGETS * BUCKETS_PER_LINE) as u32 + (slot & (RULE_SLOTS as u32 - 1))
}

/// Log2 of the ticks after which tokens that a CPU has not spent lapse: about a second.
const LIFETIME_SHIFT: u32 = 8;

/// To what the tokens of a CPU belong: the settings in force (by the switch, which counts changes) and about a second. Tokens taken
/// under a limit that is no longer in force are never spent, and none is spent long after it was due.
#[inline(always)]
pub const fn generation(switch: u32, ticks: u64) -> u64 {
    (ticks >> LIFETIME_SHIFT) << 8 | switch as u64
}

/// Has a CPU's tokens end with what they belong to. Echo requests that were still to come before the next stop are returned, because the
/// sampling counts them as well.
#[inline(always)]
pub(crate) fn renew(batches: &mut Batches, generation: u64) -> u32 {
    if batches.generation == generation {
        return 0;
    }
    let unspent = batches.until_stop;
    // The compiler is not to see a row of zeroes, which it would call a function to write: one call too many for the stack on Linux 6.1.
    let zero = core::hint::black_box(0);
    for tokens in &mut batches.tokens {
        *tokens = zero;
    }
    batches.until_stop = 0;
    batches.generation = generation;
    unspent
}

/// What a budget gave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    Taken,
    Exhausted,
    /// A fault of ours: nothing is refused because of it.
    Fault,
}

/// Takes one packet from a budget, a batch at a time. The tokens are of the present generation ([`renew`]).
#[inline(always)]
pub(crate) fn draw<T: Tables>(
    tables: &T,
    batches: &mut Batches,
    settings: &Settings,
    budget: usize,
    now: u64,
) -> Draw {
    let (Some(limit), Some(batch)) = (settings.budgets.get(budget), settings.batches.get(budget)) else {
        return Draw::Fault;
    };
    if limit.is_unlimited() {
        return Draw::Taken;
    }
    let Some(tokens) = batches.tokens.get_mut(budget) else { return Draw::Fault };
    if *tokens == 0 {
        let Some(bucket) = tables.bucket(budget_bucket(budget)) else { return Draw::Fault };
        *tokens = limiter::take(&bucket, limit, *batch, now);
        if *tokens == 0 {
            return Draw::Exhausted;
        }
    }
    *tokens -= 1;
    Draw::Taken
}
