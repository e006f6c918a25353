//! Every interleaving of three CPUs that charge one source and its neighbours, on the code that runs in the kernel.
//!
//! Owns the model: a scheduler that may switch CPUs at every access to a shared bucket, and a search of all states that can be reached.
//! `limiter.rs` has the properties of one CPU and any limit, `limiter_collisions.rs` how often buckets collide.

use icmp_common::abi::Limit;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

use icmp_common::limiter::{Admission, Pair, Shared};

/// What a packet costs, in units.
const INTERVAL: u64 = 2;
/// Units between two readings of the clock. No multiple of [`INTERVAL`], so that something is left over.
const TICK: u64 = 3;
/// Far from zero and from the end of time.
const START: u64 = 1 << 40;

/// Accesses of a charge: two reads, and six tries of two swaps and two reads.
const ACCESSES: usize = 26;

/// The two buckets of a source, in the order in which they are charged.
type Places = (u8, u8);

/// A bucket, as what it is ahead of [`START`]; the least stands for one that nobody has touched. Small, because there are many states.
type Small = i8;

/// Who sends from one CPU.
#[derive(Clone, Copy)]
struct Sender {
    places: Places,
    /// The source that is limited; false for a neighbour.
    is_x: bool,
    packets: u8,
}

/// What is searched.
struct Model {
    senders: [Sender; 3],
    /// Packets a full bucket holds.
    burst: u64,
    /// How often the clock ticks meanwhile. A CPU may read any of its values: clocks are apart, and a CPU may be delayed once it has read.
    ticks: u8,
}

/// A charge that has begun: all that a CPU knows of it is the clock it has read and what its accesses gave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Charge {
    tick: u8,
    accesses: u8,
    seen: [Small; ACCESSES],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Cpu {
    places: Places,
    is_x: bool,
    left: u8,
    charge: Option<Charge>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    buckets: [Small; 3],
    cpus: [Cpu; 3],
    /// Packets of X that were admitted, and the earliest and the latest tick that was read for one.
    admitted: u8,
    clocks: Option<(u8, u8)>,
}

const UNTOUCHED: Small = Small::MIN;

fn small(bucket: u64) -> Small {
    Small::try_from(bucket.wrapping_sub(START) as i64).expect("a bucket near the start")
}

fn large(bucket: Small) -> u64 {
    if bucket == UNTOUCHED { 0 } else { START.wrapping_add_signed(bucket.into()) }
}

/// Runs a charge again with what it has seen, does one access more, and finds out whether the charge ends with that.
struct OneMore<'a> {
    buckets: &'a mut [Small; 3],
    charge: &'a mut Charge,
    at: usize,
    /// How many accesses are given, the new one among them.
    given: usize,
    /// True once the charge wants another access: whatever it says in the end, it has not ended.
    goes_on: bool,
}

impl OneMore<'_> {
    /// What an access gives, `op` if it is the new one; `beyond` what is given brings the charge to its end.
    fn access(&mut self, bucket: u8, op: impl FnOnce(&mut Small) -> Small, beyond: Small) -> Small {
        if self.at == self.given {
            self.goes_on = true;
            return beyond;
        }
        if self.at == usize::from(self.charge.accesses) {
            self.charge.seen[self.at] = op(&mut self.buckets[usize::from(bucket)]);
            self.charge.accesses += 1;
        }
        self.at += 1;
        self.charge.seen[self.at - 1]
    }
}

struct ModelWord<'a, 'b>(&'a RefCell<OneMore<'b>>, u8);

impl Shared for ModelWord<'_, '_> {
    fn load(&self) -> u64 {
        large(self.0.borrow_mut().access(self.1, |bucket| *bucket, 0))
    }

    fn swap(&self, old: u64, new: u64) -> bool {
        let swap = |bucket: &mut Small| {
            let swapped = large(*bucket) == old;
            if swapped && new != old {
                *bucket = small(new);
            }
            swapped.into()
        };
        self.0.borrow_mut().access(self.1, swap, 1) == 1
    }

    fn store(&self, value: u64) {
        let store = |bucket: &mut Small| {
            *bucket = small(value);
            0
        };
        self.0.borrow_mut().access(self.1, store, 0);
    }
}

impl Model {
    fn limit(&self) -> Limit {
        Limit { interval: INTERVAL, capacity: INTERVAL * self.burst }
    }

    /// One access of a charge; what became of the packet if that was its last.
    fn step(&self, places: Places, charge: &mut Charge, buckets: &mut [Small; 3]) -> Option<Admission> {
        let now = START + u64::from(charge.tick) * TICK;
        let given = usize::from(charge.accesses) + 1;
        let run = RefCell::new(OneMore { buckets, charge, at: 0, given, goes_on: false });
        let pair = Pair::read([ModelWord(&run, places.0), ModelWord(&run, places.1)]);
        let admission = pair.charge(&self.limit(), now);
        (!run.into_inner().goes_on).then_some(admission)
    }

    /// What can come next: a CPU does an access, the first one of a packet's with any clock.
    fn each_successor(&self, state: &State, mut found: impl FnMut(State)) {
        for (i, cpu) in state.cpus.iter().enumerate() {
            match cpu.charge {
                Some(charge) => found(self.after(state, i, charge)),
                None if cpu.left > 0 => {
                    for tick in 0..=self.ticks {
                        found(self.after(state, i, Charge { tick, accesses: 0, seen: [0; ACCESSES] }));
                    }
                }
                None => {}
            }
        }
    }

    fn after(&self, state: &State, i: usize, mut charge: Charge) -> State {
        let mut after = *state;
        let cpu = &mut after.cpus[i];
        let ended = self.step(cpu.places, &mut charge, &mut after.buckets);
        cpu.charge = ended.is_none().then_some(charge);
        cpu.left -= u8::from(ended.is_some());
        if let (Some(Admission::Admitted { .. }), true) = (ended, cpu.is_x) {
            let (first, last) = after.clocks.unwrap_or((charge.tick, charge.tick));
            after.clocks = Some((first.min(charge.tick), last.max(charge.tick)));
            after.admitted += 1;
        }
        // It does not matter which of two CPUs that send the same is which.
        after.cpus.sort_unstable();
        after
    }

    /// Goes through all states, and asks in each whether X got too much; the states in which everything has been sent.
    fn search(&self) -> Vec<State> {
        let mut cpus = self.senders.map(|Sender { places, is_x, packets }| Cpu {
            places,
            is_x,
            left: packets,
            charge: None,
        });
        cpus.sort_unstable();
        let start = State { buckets: [UNTOUCHED; 3], cpus, admitted: 0, clocks: None };
        let (mut seen, mut open, mut ends) = (HashSet::from([start]), vec![start], Vec::new());
        while let Some(state) = open.pop() {
            let elapsed = state.clocks.map_or(0, |(first, last)| u64::from(last - first) * TICK);
            assert!(
                u64::from(state.admitted) * INTERVAL <= INTERVAL * self.burst + elapsed,
                "{} packets admitted in {elapsed} units, buckets {:?}",
                state.admitted,
                state.buckets
            );
            self.each_successor(&state, |next| {
                if seen.insert(next) {
                    open.push(next);
                }
            });
            if state.cpus.iter().all(|cpu| cpu.left == 0) {
                ends.push(state);
            }
        }
        let admitted: BTreeSet<_> = ends.iter().map(|end: &State| end.admitted).collect();
        println!("{} states; in the end {admitted:?} of X admitted", seen.len());
        ends
    }
}

/// Searches with X on two CPUs and a neighbour on a third.
fn search_with_neighbour(x: Places, y: Places, packets: [u8; 3], ticks: u8) {
    let [one, two, neighbour] = packets;
    let sender = |places, is_x, packets| Sender { places, is_x, packets };
    println!("{x:?} beside {y:?}");
    let senders = [sender(x, true, one), sender(x, true, two), sender(y, false, neighbour)];
    Model { senders, burst: 2, ticks }.search();
}

#[test]
fn a_source_on_three_cpus_gets_its_burst_and_no_more() {
    let sender = Sender { places: (0, 1), is_x: true, packets: 2 };
    for end in (Model { senders: [sender; 3], burst: 3, ticks: 0 }).search() {
        assert_eq!(end.admitted, 3, "of six");
    }
}

#[test]
fn a_neighbour_in_one_of_two_rows_gives_a_source_no_more_than_its_due() {
    search_with_neighbour((0, 1), (0, 2), [2, 2, 1], 1);
    search_with_neighbour((0, 1), (2, 1), [2, 2, 1], 1);
}

#[test]
fn a_neighbour_in_both_rows_gives_a_source_no_more_than_its_due() {
    search_with_neighbour((0, 1), (0, 1), [2, 1, 1], 1);
}

/// Where a source's buckets are two of one line, one source's first may be another's second.
#[test]
fn a_neighbour_in_the_same_line_gives_a_source_no_more_than_its_due() {
    search_with_neighbour((0, 1), (1, 2), [2, 2, 1], 1);
    search_with_neighbour((0, 1), (2, 0), [2, 1, 1], 1);
    search_with_neighbour((0, 1), (1, 0), [2, 1, 1], 0);
}

/// A table must not do that: the second swap finds what the first has changed, so nothing is ever admitted. But it gives nobody too much.
#[test]
fn one_bucket_in_place_of_two_refuses_its_source_and_gives_no_neighbour_more() {
    let sender = |places, is_x| Sender { places, is_x, packets: 1 };
    let senders = [sender((0, 0), true), sender((0, 0), true), sender((0, 1), false)];
    assert!(Model { senders, burst: 2, ticks: 1 }.search().iter().all(|end| end.admitted == 0));
    search_with_neighbour((0, 1), (0, 0), [2, 1, 1], 0);
}
