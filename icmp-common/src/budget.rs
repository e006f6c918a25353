//! The budgets' cells, and what a CPU draws from a budget.
//!
//! Owns the places of the budgets' and rules' cells (docs/map-abi.md) and the batches that CPUs lease. What a bucket holds is the
//! limiter's, who is charged to which budget the policy's.

use crate::abi::{Leases, Settings};
use crate::limiter;
use crate::policy::BUDGETS;
use crate::rules::RULE_SLOTS;
use crate::tables::Tables;

/// Cells of 8 bytes in a cache line of 64.
const CELLS_PER_LINE: usize = 8;
/// Cells of the budgets and, behind them, one for each slot of a rule.
pub const CELLS: u32 = (BUDGETS * CELLS_PER_LINE + RULE_SLOTS) as u32;

/// Position of a budget's cell, each in a cache line of its own.
#[inline(always)]
pub(crate) const fn budget_cell(budget: usize) -> u32 {
    (budget * CELLS_PER_LINE) as u32
}

/// Position of a rule's cell, behind those of the budgets.
#[inline(always)]
pub const fn rule_cell(slot: u32) -> u32 {
    (BUDGETS * CELLS_PER_LINE) as u32 + (slot & (RULE_SLOTS as u32 - 1))
}

/// What a budget gave.
pub(crate) enum Draw {
    Taken,
    Exhausted,
    /// A fault of ours: nothing is refused because of it.
    Fault,
}

/// Takes one packet from a budget, a batch at a time.
#[inline(always)]
pub(crate) fn draw<T: Tables>(tables: &T, leases: &mut Leases, settings: &Settings, budget: usize) -> Draw {
    let (Some(limit), Some(batch)) = (settings.budgets.get(budget), settings.batches.get(budget)) else {
        return Draw::Fault;
    };
    if limit.is_unlimited() {
        return Draw::Taken;
    }
    let Some(tokens) = leases.tokens.get_mut(budget) else { return Draw::Fault };
    if *tokens == 0 {
        let now = tables.ticks() << limiter::TICK_SHIFT;
        let Some(taken) = limiter::take_batch(tables, budget_cell(budget), limit, *batch, now) else {
            return Draw::Fault;
        };
        *tokens = taken;
        if taken == 0 {
            return Draw::Exhausted;
        }
    }
    *tokens -= 1;
    Draw::Taken
}

/// Returns what `draw` took, when another level refused the packet.
#[inline(always)]
pub(crate) fn give_back(leases: &mut Leases, settings: &Settings, budget: usize) {
    let unlimited = settings.budgets.get(budget).is_none_or(limiter::Limit::is_unlimited);
    if !unlimited && let Some(tokens) = leases.tokens.get_mut(budget) {
        *tokens = tokens.wrapping_add(1);
    }
}
