//! Properties of the limiter's arithmetic, against token buckets counted in whole units.
//!
//! Owns the properties that hold for every limit, every clock and every interleaving. icmp-tests has the limiter in the running kernel.

use icmp_common::abi::Limit;
use std::cell::{Cell, RefCell};

use icmp_common::limiter::{
    Admission, MAX_SKEW, Pair, PairIndex, Shared, SharedWords, Table, UNITS_PER_TICK, held, overdraw, take,
};
use proptest::prelude::*;

/// Buckets in memory; between any two accesses other CPUs may come in, as the script says.
#[derive(Default)]
struct Memory {
    buckets: RefCell<Vec<u64>>,
    /// Popped at each access: true lets another CPU charge the same buckets first.
    script: RefCell<Vec<bool>>,
    limit: Cell<Limit>,
    now: Cell<u64>,
    depth: Cell<u32>,
    admitted: Cell<u64>,
}

impl Memory {
    fn new(buckets: usize, limit: Limit, now: u64) -> Self {
        let memory = Self { buckets: RefCell::new(vec![0; buckets]), ..Self::default() };
        memory.limit.set(limit);
        memory.now.set(now);
        memory
    }

    fn charge(&self, first: usize, second: usize) -> bool {
        let admitted = matches!(
            Pair::read([MemoryWord(self, first), MemoryWord(self, second)])
                .charge(&self.limit.get(), self.now.get()),
            Admission::Admitted { .. }
        );
        if admitted {
            self.admitted.set(self.admitted.get() + 1);
        }
        admitted
    }

    fn let_others_in(&self) {
        let come = self.depth.get() < 3 && self.script.borrow_mut().pop() == Some(true);
        if come {
            self.depth.set(self.depth.get() + 1);
            self.charge(0, 1);
            self.depth.set(self.depth.get() - 1);
        }
    }
}

struct MemoryWord<'a>(&'a Memory, usize);

impl SharedWords for Memory {
    fn bucket(&self, index: u32) -> Option<impl Shared> {
        ((index as usize) < self.buckets.borrow().len()).then_some(MemoryWord(self, index as usize))
    }

    fn pair(&self, _table: Table, _place: PairIndex) -> Option<[impl Shared; 2]> {
        None::<[MemoryWord<'_>; 2]>
    }

    fn last_served(&self, _place: u32) -> Option<impl Shared> {
        None::<MemoryWord<'_>>
    }
}

impl Shared for MemoryWord<'_> {
    fn load(&self) -> u64 {
        self.0.let_others_in();
        self.0.buckets.borrow()[self.1]
    }

    fn swap(&self, old: u64, new: u64) -> bool {
        self.0.let_others_in();
        let mut buckets = self.0.buckets.borrow_mut();
        let bucket = &mut buckets[self.1];
        let swapped = *bucket == old;
        if swapped {
            *bucket = new;
        }
        swapped
    }

    fn store(&self, value: u64) {
        self.0.buckets.borrow_mut()[self.1] = value;
    }
}

/// The textbook's bucket: tokens that come with time up to a capacity, in units.
struct TokenBucket {
    tokens: u64,
    last: u64,
    limit: Limit,
}

impl TokenBucket {
    fn full(limit: Limit, now: u64) -> Self {
        Self { tokens: limit.capacity, last: now, limit }
    }

    fn admits(&mut self, now: u64) -> bool {
        self.tokens = (self.tokens + (now - self.last)).min(self.limit.capacity);
        self.last = now;
        let enough = self.tokens >= self.limit.interval;
        if enough {
            self.tokens -= self.limit.interval;
        }
        enough
    }
}

/// From a packet in several minutes to many a tick; bursts of up to two hundred.
fn limits() -> impl Strategy<Value = Limit> {
    (50_u64..100_000 * UNITS_PER_TICK, 1_u64..200)
        .prop_map(|(interval, burst)| Limit { interval, capacity: interval * burst })
}

/// Far enough from zero that an untouched bucket is full, as on every kernel (jiffies start at 2^32 - 300 s).
const START: u64 = (1 << 32) * UNITS_PER_TICK;

proptest! {
    #[test]
    fn a_source_alone_gets_exactly_its_token_bucket(
        limit in limits(),
        steps in prop::collection::vec((0_u64..2000, 1_usize..40), 1..60),
    ) {
        let memory = Memory::new(2, limit, START);
        let mut model = TokenBucket::full(limit, START);
        let mut now = START;
        for (ticks, packets) in steps {
            now += ticks * UNITS_PER_TICK;
            memory.now.set(now);
            for _ in 0..packets {
                prop_assert_eq!(memory.charge(0, 1), model.admits(now));
            }
        }
    }

    #[test]
    fn a_source_with_one_bucket_of_its_own_gets_exactly_its_due(
        limit in limits(),
        steps in prop::collection::vec((0_u64..300, prop::collection::vec(0_usize..4, 1..30)), 1..40),
    ) {
        // Sources 0 and 1 share a first bucket, 1 and 2 a second one, 3 lies across both: 0 and 2 have one of their own, as has 1 none.
        let places = [(0, 10), (0, 11), (1, 11), (0, 12)];
        let alone = [0, 2, 3];
        let memory = Memory::new(16, limit, START);
        let mut models: Vec<_> = places.iter().map(|_| TokenBucket::full(limit, START)).collect();
        let mut now = START;
        for (ticks, senders) in steps {
            now += ticks * UNITS_PER_TICK;
            memory.now.set(now);
            for sender in senders {
                let (first, second) = places[sender];
                let admitted = memory.charge(first, second);
                let due = models[sender].admits(now);
                if alone.contains(&sender) {
                    prop_assert_eq!(admitted, due, "source {}", sender);
                }
            }
        }
    }

    #[test]
    fn no_interleaving_admits_more_than_the_burst_and_none_loses_any(
        interval in 50_u64..UNITS_PER_TICK,
        burst in 1_u64..60,
        script in prop::collection::vec(any::<bool>(), 0..400),
    ) {
        let limit = Limit { interval, capacity: interval * burst };
        let memory = Memory::new(2, limit, START);
        *memory.script.borrow_mut() = script;
        for _ in 0..burst + 5 {
            memory.charge(0, 1);
        }
        memory.script.borrow_mut().clear();
        while memory.charge(0, 1) {}
        prop_assert_eq!(memory.admitted.get(), burst);
    }

    #[test]
    fn no_clock_gives_more_than_burst_and_rate(
        limit in limits(),
        steps in prop::collection::vec((any::<i64>(), 0_u8..4, 1_usize..50), 1..40),
    ) {
        // Still, forward by ticks, back by up to an hour, anywhere at all. Only time that went forward may have given anything.
        let memory = Memory::new(2, limit, START);
        let (mut now, mut forward, mut admitted) = (START, 0_u128, 0_u128);
        for (by, kind, packets) in steps {
            let next = match kind {
                0 => now,
                1 => now.wrapping_add(by.unsigned_abs() % (1000 * UNITS_PER_TICK)),
                2 => now.wrapping_sub(by.unsigned_abs() % (900_000 * UNITS_PER_TICK)),
                _ => now.wrapping_add(by as u64),
            };
            forward += u128::from(next.wrapping_sub(now).min(now.wrapping_sub(next)).min(limit.capacity));
            // A jump of more than half of all time is as far as it looks from the other side.
            now = next;
            memory.now.set(now);
            for _ in 0..packets {
                admitted += u128::from(memory.charge(0, 1));
            }
        }
        let most = (u128::from(limit.capacity) + forward) / u128::from(limit.interval);
        prop_assert!(admitted <= most, "{} admitted, at most {}", admitted, most);
    }

    #[test]
    fn no_clock_leaves_a_bucket_stuck(limit in limits(), bucket in any::<u64>(), now in any::<u64>()) {
        let memory = Memory::new(2, limit, now);
        memory.buckets.borrow_mut().fill(bucket);
        // The first packet finds out that the clock has jumped; a full refill later there is a whole burst.
        memory.charge(0, 1);
        memory.now.set(now.wrapping_add(limit.capacity).wrapping_add(MAX_SKEW + limit.interval));
        let admitted = (0..limit.capacity / limit.interval).filter(|_| memory.charge(0, 1)).count() as u64;
        prop_assert_eq!(admitted, limit.capacity / limit.interval);
    }

    #[test]
    fn changing_a_limit_gives_no_fresh_burst(before in limits(), after in limits()) {
        let memory = Memory::new(2, before, START);
        while memory.charge(0, 1) {}
        memory.limit.set(after);
        let left = before.interval / after.interval;
        let admitted = (0..=left).filter(|_| memory.charge(0, 1)).count() as u64;
        prop_assert!(admitted <= left, "what was left of one packet before is all there is");
    }

    #[test]
    fn batches_take_what_single_packets_would_get(limit in limits(), batch in 1_u32..64, ticks in 0_u64..500) {
        let (one, many) = (Memory::new(1, limit, START), Memory::new(1, limit, START));
        for now in [START, START + ticks * UNITS_PER_TICK] {
            let mut singly = 0;
            while take(&MemoryWord(&one, 0), &limit, 1, now) == 1 {
                singly += 1;
            }
            let mut at_once = 0;
            while let taken @ 1.. = take(&MemoryWord(&many, 0), &limit, batch, now) {
                prop_assert!(taken <= batch);
                at_once += taken;
            }
            prop_assert_eq!(singly, at_once);
        }
    }

    #[test]
    fn what_is_owed_is_paid_before_anything_is_admitted(interval in 50..10 * UNITS_PER_TICK, owed in 1_u64..50) {
        let limit = Limit { interval, capacity: 20 * interval };
        let memory = Memory::new(1, limit, START);
        let bucket = MemoryWord(&memory, 0);
        while take(&bucket, &limit, 1, START) == 1 {}
        for _ in 0..owed {
            overdraw(&bucket, &limit, START);
        }
        prop_assert!((owed + 1) * interval < MAX_SKEW, "debts are small");
        prop_assert_eq!(take(&bucket, &limit, 1, START + owed * limit.interval - 1), 0);
        prop_assert_eq!(take(&bucket, &limit, 1, START + (owed + 1) * limit.interval), 1);
    }
}

#[test]
fn what_was_lent_from_a_slow_limit_is_no_leftover_of_a_clock_that_jumped() {
    let interval = 2 * MAX_SKEW;
    let limit = Limit { interval, capacity: interval };
    let memory = Memory::new(1, limit, START);
    let bucket = MemoryWord(&memory, 0);
    assert_eq!(take(&bucket, &limit, 1, START), 1);
    overdraw(&bucket, &limit, START);
    assert_eq!(take(&bucket, &limit, 1, START + 1), 0);
    assert_eq!(
        take(&bucket, &limit, 1, START + 2 * interval - 1),
        0,
        "the packet that was lent is paid first"
    );
    assert_eq!(take(&bucket, &limit, 1, START + 2 * interval), 1);
}

#[test]
fn an_untouched_bucket_is_full() {
    let limit = Limit { interval: UNITS_PER_TICK, capacity: 10 * UNITS_PER_TICK };
    assert_eq!(held::<MemoryWord<'_>>(0, &limit, START), Ok(limit.capacity));
}
