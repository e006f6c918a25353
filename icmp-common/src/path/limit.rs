//! The limits of an echo request: the total reply budget, its source, its source's prefix.
//!
//! Owns their order, which sources are refused while the reply budget is exhausted, and what is recorded of a sender. It does not own bucket
//! arithmetic (`limiter.rs`), token batches (`budget.rs`), what makes a source known (`known_sources.rs`) or the heavy hitters
//! (`heavy_hitters.rs`).
//!
//! A CPU takes tokens of the reply budget in batches. It stops when a batch ends or a request is to be sampled; between two stops the reply
//! budget costs a request one decrement. The work at a stop, and what is recorded of a sender, runs apart.

use crate::abi::{Exhausted, HEAVY_HITTER_BITS, Mask, Settings, Source};
use crate::budget::{self, Draw, budget_bucket};
use crate::heavy_hitters::{self};
use crate::known_sources::{self, Reputation};
use crate::limiter::{self, Admission, Pair, PairIndex, SECRET_WORDS, Shared, Table, hash4, hash6};
use crate::path::Ingress;
use crate::path::apart::{About, Apart, NOTE, STOP};
use crate::path::link::Link;
use crate::path::parse::{self, Headers};
use crate::path::policy::Answer;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::types::Budget;
use crate::types::Family;
use crate::wire::ipv6::Halves;

// What [`stop`] returns and [`note`] is told, bit by bit.
/// The request is a sample.
const SAMPLED: u64 = 1;
/// The total is exhausted, and the source has no part in the reserve.
const REFUSED: u64 = 2;
/// The request's token is of the reserve for known sources.
const RESERVED: u64 = 4;
/// Something of ours is missing.
const FAULT: u64 = 8;
/// The request is over a limit.
const LIMITED: u64 = 16;
/// Before the request at least half of its source's burst was left.
const BELOW_HALF_BURST: u64 = 32;

/// an echo request over a limit is dropped, or the limit would be void.
///
/// # Errors
/// The limit it is over.
#[inline(always)]
pub(crate) fn admit<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    ingress: &Ingress<'_>,
    link: &Link,
    headers: &Headers,
    family: Family,
    answer: Answer,
) -> Result<(), Reason> {
    if matches!(answer, Answer::Charged) {
        return Ok(());
    }
    let ticks = tables.ticks();
    let mut flags = 0;
    let mut admitted = Ok(());
    if !is_prepaid(tables, ingress.switch, ticks) {
        flags = frame.apart::<STOP, T>(tables, ingress.about(link, headers, family), [0; 2]);
        if flags & FAULT != 0 {
            // What cannot be limited is not answered.
            return Err(Reason::Unconfigured);
        }
        if flags == REFUSED {
            return Err(Reason::LimitedTotal);
        }
    }
    if flags & REFUSED != 0 {
        admitted = Err(Reason::LimitedTotal);
    } else if matches!(answer, Answer::Limited) {
        match within(tables, ingress.settings, family, headers.ip.source, limiter::now(ticks)) {
            Ok(is_to_note) => flags |= is_to_note,
            Err(reason) => admitted = Err(reason),
        }
    }
    if flags != 0 {
        let limited = if admitted.is_err() { LIMITED } else { 0 };
        let about = ingress.about(link, headers, family);
        frame.apart::<NOTE, T>(tables, about, [flags | limited, 0]);
    } else if admitted.is_err() {
        refund(tables, ingress.settings, Budget::Replies);
    }
    admitted
}

/// Takes a token of this CPU's batch; false where it has to stop.
#[inline(always)]
fn is_prepaid<T: Tables>(tables: &T, switch: u32, ticks: u64) -> bool {
    let Some(mut cpu) = tables.cpu() else { return false };
    let batches = &mut cpu.batches;
    if batches.until_stop == 0 || batches.generation != budget::generation(switch, ticks) {
        return false;
    }
    batches.until_stop -= 1;
    true
}

/// Charges a request to the buckets of its source and prefix; [`BELOW_HALF_BURST`] where the source is to be noted, or 0.
#[inline(always)]
fn within<T: Tables>(
    tables: &T,
    settings: &Settings,
    family: Family,
    source: Halves,
    now: u64,
) -> Result<u64, Reason> {
    let shift = tables.source_shift();
    let secret = secret::<0, T>(tables, family);
    let place =
        |mask: &Mask, shift| PairIndex::new(hash(&secret, family, masked(mask, family, source)), shift);
    let by_source = place(&settings.source.mask, shift);
    let by_prefix = place(&settings.prefix.mask, shift + 1);
    // A line that cannot be read is a fault of ours, which never drops a packet and is bounded by the total budget.
    let Some(source_buckets) = tables.pair(Table::Sources, by_source) else { return Ok(0) };
    let Some(prefix_buckets) = tables.pair(Table::Prefixes, by_prefix) else { return Ok(0) };
    let (source_pair, prefix_pair) = (Pair::read(source_buckets), Pair::read(prefix_buckets));
    let limit = &settings.source.limit;
    let mut is_to_note = BELOW_HALF_BURST;
    if !limit.is_unlimited() {
        let Admission::Admitted { held, emptied } = source_pair.charge(limit, now) else {
            return Err(Reason::LimitedSource);
        };
        // Where the bucket was full before its last packet, as it is for who keeps well within the limit, this is when that was. Nobody is
        // noted twice in an epoch, and mostly a look at the bucket, which is there already, is enough to know.
        let last = emptied.wrapping_add(limit.capacity).wrapping_sub(limit.interval);
        let is_below_half_burst = held >= limit.capacity / 2;
        if (last ^ now) >> ((settings.epoch_shift + limiter::TICK_SHIFT) & 63) == 0 || !is_below_half_burst {
            is_to_note = 0;
        }
    }
    let limit = &settings.prefix.limit;
    if !limit.is_unlimited() && prefix_pair.charge(limit, now) == Admission::Refused {
        return Err(Reason::LimitedPrefix);
    }
    Ok(is_to_note)
}

/// Returns a token that was taken for a request that another limit has refused.
#[inline(always)]
fn refund<T: Tables>(tables: &T, settings: &Settings, budget: Budget) {
    // Nothing was taken from a budget without a limit.
    if settings.budgets[budget as usize].is_unlimited() {
        return;
    }
    if let Some(mut cpu) = tables.cpu()
        && let Some(tokens) = cpu.batches.tokens.get_mut(budget as usize)
    {
        *tokens = tokens.wrapping_add(1);
    }
}

/// A source as a level of the limiter sees it.
#[inline(always)]
const fn masked(mask: &Mask, family: Family, (high, low): Halves) -> Halves {
    match family {
        Family::V4 => (high & mask.v4 as u64, 0),
        Family::V6 => (high & mask.v6_high, low & mask.v6_low),
    }
}

/// The random words of hash number `N` of a family's sources: the first leads to their buckets, the second to everything else. IPv4 has two.
#[inline(always)]
pub(crate) fn secret<const N: usize, T: Tables>(tables: &T, family: Family) -> [u64; 4] {
    let word = |i: usize| tables.secret(N * SECRET_WORDS + i);
    match family {
        Family::V4 => [word(0), word(1), 0, 0],
        Family::V6 => [word(2), word(3), word(4), word(5)],
    }
}

/// Hashes an address, masked where only a part of it counts.
#[inline(always)]
pub(crate) const fn hash(secret: &[u64; 4], family: Family, source: Halves) -> u64 {
    match family {
        Family::V4 => hash4([secret[0], secret[1]], source.0 as u32),
        Family::V6 => hash6(*secret, source),
    }
}

// ---------------------------------------------------------------------------------------------------------------- apart

/// The sender of a request, for all that is noted of it.
struct Sender {
    source: Source,
    /// What tells it from others in [`Table::Reputations`].
    tag: u32,
    hash: u64,
}

impl Sender {
    #[inline(always)]
    fn of<F: Apart, T: Tables>(frame: &mut F, tables: &T, settings: &Settings, about: About) -> Option<Self> {
        let family = about.family();
        let (high, low) = masked(&settings.source.mask, family, parse::ip_again(frame, about)?.source);
        let ip_version = if matches!(family, Family::V4) { 4 } else { 6 };
        Some(Self {
            source: Source { high, low, ip_version, reserved: 0 },
            tag: Reputation::tag(hash(&secret::<0, T>(tables, family), family, (high, low)) >> 32),
            hash: hash(&secret::<1, T>(tables, family), family, (high, low)),
        })
    }

    /// Its words in [`Table::Reputations`].
    #[inline(always)]
    fn words<T: Tables>(&self, tables: &T) -> Option<[impl Shared; 2]> {
        tables.pair(Table::Reputations, PairIndex::new(self.hash, tables.source_shift() + 1))
    }

    /// When who shares its place in `LAST_SERVED` was last served.
    #[inline(always)]
    fn last_served<T: Tables>(&self, tables: &T) -> Option<impl Shared> {
        tables.last_served((self.hash >> (64 - known_sources::LAST_SERVED_BITS)) as u32)
    }

    #[inline(always)]
    fn is_known<T: Tables>(&self, tables: &T, epoch: u32) -> bool {
        self.last_served(tables).is_some_and(|entry| known_sources::may_hold(entry.load(), epoch))
            && self.words(tables).is_some_and(|words| {
                Reputation(words[0].load()).is_known(self.tag, epoch)
                    || Reputation(words[1].load()).is_known(self.tag, epoch)
            })
    }

    /// Notes that the source was served.
    #[inline(always)]
    fn remember<T: Tables>(&self, tables: &T, epoch: u32) {
        let Some([first, second]) = self.words(tables) else { return };
        let (one, other) = (Reputation(first.load()), Reputation(second.load()));
        if one.is_of(self.tag) || other.is_of(self.tag) {
            let (word, shared) = if one.is_of(self.tag) { (one, first) } else { (other, second) };
            let new = word.served(epoch);
            if new == word {
                return;
            }
            shared.store(new.0);
            if new.has_streak()
                && let Some(entry) = self.last_served(tables)
            {
                entry.store(epoch as u64);
            }
        } else if let Some(new) = one.taken_over(self.tag, epoch) {
            first.store(new.0);
        } else if let Some(new) = other.taken_over(self.tag, epoch) {
            second.store(new.0);
        }
    }

    /// Notes a sample.
    #[inline(always)]
    fn sample<T: Tables>(&self, tables: &T, window: u32, is_limited: bool) {
        if let Some(mut heavy_hitter) = tables.heavy_hitter((self.hash >> (64 - HEAVY_HITTER_BITS)) as u32) {
            heavy_hitter.note(&self.source, window);
            if is_limited {
                heavy_hitter.note_limited(&self.source);
            }
        }
    }
}

/// The epoch of [`crate::known_sources`] that a tick is in.
#[inline(always)]
const fn epoch(settings: &Settings, ticks: u64) -> u32 {
    (ticks >> (settings.epoch_shift & 63)) as u32
}

/// The window of [`heavy hitters`] that a tick is in.
#[inline(always)]
const fn window(settings: &Settings, ticks: u64) -> u32 {
    (ticks >> heavy_hitters::window_shift(settings.epoch_shift)) as u32
}

/// Looks whether a request is to be sampled, and takes a token for it: of the total, or while that is exhausted of the reserve for known
/// sources. Returns the bits above.
#[inline(always)]
pub(crate) fn stop<F: Apart, T: Tables>(frame: &mut F, tables: &T, about: &About) -> u64 {
    let Some(settings) = tables.settings(about.settings()) else { return FAULT };
    let ticks = tables.ticks();
    let now = limiter::now(ticks);
    let epoch = epoch(settings, ticks);
    let (draw, flags) = {
        let Some(mut cpu) = tables.cpu() else { return FAULT };
        let cpu = &mut *cpu;
        let unspent = budget::renew(&mut cpu.batches, budget::generation(about.switch(), ticks));
        let left = cpu.sampling.left.wrapping_add(unspent);
        let flags = if left == 0 { SAMPLED } else { 0 };
        let mut left = if left == 0 { heavy_hitters::until_next(&mut cpu.sampling) } else { left - 1 };
        let draw = budget::draw(tables, &mut cpu.batches, settings, Budget::Replies as usize, now);
        match draw {
            Draw::Taken => {
                let tokens = &mut cpu.batches.tokens[Budget::Replies as usize];
                let is_unlimited = settings.budgets[Budget::Replies as usize].is_unlimited();
                let run = if is_unlimited || left < *tokens { left } else { *tokens };
                cpu.batches.until_stop = run;
                left -= run;
                if !is_unlimited {
                    *tokens -= run;
                }
            }
            Draw::Exhausted => cpu.exhausted = Exhausted { at: ticks, epoch: epoch as u64 },
            Draw::Fault => {}
        }
        cpu.sampling.left = left;
        (draw, flags)
    };
    match draw {
        Draw::Taken => return flags,
        Draw::Fault => return FAULT,
        Draw::Exhausted => {}
    }
    let Some(sender) = Sender::of(frame, tables, settings, *about) else { return FAULT };
    if sender.is_known(tables, epoch)
        && let Some(mut cpu) = tables.cpu()
        && budget::draw(tables, &mut cpu.batches, settings, Budget::KnownSources as usize, now) == Draw::Taken
    {
        return flags | RESERVED;
    }
    flags | REFUSED
}

/// Notes what became of a request's sender, by the bits above.
#[inline(always)]
pub(crate) fn note<F: Apart, T: Tables>(frame: &mut F, tables: &T, about: &About, flags: u64) -> u64 {
    let Some(settings) = tables.settings(about.settings()) else { return 0 };
    let ticks = tables.ticks();
    let epoch = epoch(settings, ticks);
    let Some(sender) = Sender::of(frame, tables, settings, *about) else { return 0 };
    let (is_limited, is_reserved) = (flags & LIMITED != 0, flags & RESERVED != 0);
    if flags & SAMPLED != 0 {
        sender.sample(tables, window(settings, ticks), is_limited);
    }
    if is_limited {
        if flags & REFUSED == 0 {
            refund(tables, settings, if is_reserved { Budget::KnownSources } else { Budget::Replies });
        }
        return 0;
    }
    // While the total is exhausted nobody becomes known, who is stays so.
    let is_exhausted = tables.cpu().is_none_or(|cpu| cpu.exhausted.epoch == epoch as u64);
    if flags & (BELOW_HALF_BURST | SAMPLED | RESERVED) != 0 && (is_reserved || !is_exhausted) {
        sender.remember(tables, epoch);
    }
    if is_reserved
        && let Some(limit) = settings.budgets.get(Budget::Replies as usize)
        && let Some(bucket) = tables.bucket(budget_bucket(Budget::Replies as usize))
    {
        // What the reserve gives, everybody else gets less of: the total is never exceeded.
        limiter::overdraw(&bucket, limit, limiter::now(ticks));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{BUDGETS, HEAVY_HITTERS, Limit, SWITCH_CHANGE};
    use crate::heavy_hitters::SAMPLE;
    use crate::host_tables::HostTables;
    use crate::limiter::UNITS_PER_TICK;
    use crate::path::testing::{self, echo4, send};
    use crate::policy::Preset;

    /// A tick at which a generation begins.
    const START: u64 = 1 << 32;
    /// So much time for one reply that no test sees the next one come.
    const NEVER: u64 = (1 << 26) * UNITS_PER_TICK;

    /// So many at once, and no more.
    const fn once(burst: u64) -> Limit {
        Limit { interval: NEVER, capacity: burst * NEVER }
    }

    /// A host with a total, of which a CPU takes `batch` replies at once, and a limit for each source.
    fn host(total: Limit, batch: u32, source: Limit) -> HostTables {
        let mut settings = testing::settings(Preset::Host);
        settings.budgets[Budget::Replies as usize] = total;
        settings.budgets[Budget::KnownSources as usize] = Limit::NOTHING;
        settings.batches = [batch; BUDGETS];
        settings.source.limit = source;
        let tables = testing::tables(settings, testing::rules());
        tables.set_ticks(START);
        tables
    }

    /// What becomes of a request from source number `n`.
    fn ping(tables: &HostTables, n: u32) -> Reason {
        send(tables, &mut echo4(0x0a00_0000 + n, 16))
    }

    #[test]
    fn the_total_is_what_all_batches_together_give() {
        for batch in [1, 3, 7, 64, 256] {
            let tables = host(once(50), batch, Limit::UNLIMITED);
            let answered = (0..100).filter(|n| ping(&tables, *n) == Reason::Answered).count();
            assert_eq!(answered, 50, "in batches of {batch}");
            assert_eq!(ping(&tables, 0), Reason::LimitedTotal);
        }
    }

    #[test]
    fn tokens_of_another_generation_of_the_settings_are_not_spent() {
        let tables = host(once(64), 64, Limit::UNLIMITED);
        for n in 0..3 {
            assert_eq!(ping(&tables, n), Reason::Answered);
        }
        // The CPU has 61 tokens, and the total nothing. With the next change of the settings they are gone.
        tables.set_switch(SWITCH_CHANGE);
        assert_eq!(ping(&tables, 3), Reason::LimitedTotal);
    }

    #[test]
    fn a_batch_that_is_not_spent_lapses_after_a_while_and_not_before() {
        let tables = host(once(64), 64, Limit::UNLIMITED);
        assert_eq!(ping(&tables, 0), Reason::Answered);
        tables.set_ticks(START + 255);
        assert_eq!(ping(&tables, 1), Reason::Answered);
        // About a second at 250 ticks each.
        tables.set_ticks(START + 256);
        assert_eq!(ping(&tables, 2), Reason::LimitedTotal);
    }

    #[test]
    fn a_request_that_its_source_is_refused_gives_its_token_back_once() {
        for refused in [0, 1, 40, 500] {
            for batch in [1, 10, 64] {
                let tables = host(once(10), batch, once(1));
                assert_eq!(ping(&tables, 0), Reason::Answered);
                for _ in 0..refused {
                    assert_eq!(ping(&tables, 0), Reason::LimitedSource);
                }
                // Sources that share a bucket by chance are refused as well, so there are more than enough.
                let answered = (1..200).filter(|n| ping(&tables, *n) == Reason::Answered).count();
                assert_eq!(answered, 9, "after {refused} refused, in batches of {batch}");
            }
        }
    }

    /// Samples of this many requests, a new generation after every thousand, each third request of a source over its limit.
    fn samples(requests: u32, batch: u32) -> u32 {
        let more_than_enough = Limit { interval: 1, capacity: 1 << 40 };
        let tables = host(more_than_enough, batch, Limit { interval: 1, capacity: 1 });
        for n in 0..requests {
            tables.set_ticks(START + n as u64 / 1000 * 300);
            let reason = ping(&tables, n / 3);
            assert!(matches!(reason, Reason::Answered | Reason::LimitedSource), "{}", reason.name());
        }
        (0..HEAVY_HITTERS).filter_map(|i| tables.heavy_hitter(i).map(|t| t.seen + t.others)).sum()
    }

    #[test]
    fn one_request_in_thirty_two_is_sampled_however_large_batches_are() {
        let requests = 20_000;
        let of_one = samples(requests, 1);
        let expected = requests / SAMPLE;
        assert!(of_one.abs_diff(expected) < expected / 10, "{of_one} samples, {expected} expected");
        for batch in [2, 3, 31, 64, 256] {
            assert_eq!(samples(requests, batch), of_one, "in batches of {batch}");
        }
    }
}
