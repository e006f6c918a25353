//! The tables of prefixes, made from a list and read back.
//!
//! Owns the order in which lengths are searched, the markers of longer prefixes, and the place of every entry. icmp-common owns the layouts and
//! the search; `maps.rs` writes the tables to the maps.

use icmp_common::abi::{
    INDEX_MASK, LENGTHS4, LENGTHS6, MARKER, PREFIX_BUCKETS4, PREFIX_BUCKETS6, PREFIX_VALUES, PREFIX_WAYS4,
    PREFIX_WAYS6, PrefixBucket4, PrefixBucket6, PrefixKind, Rules, Search, Search4, Search6, Step6, tag,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use icmp_common::abi::ADDRESS_HASH;
use icmp_common::prefixes::{STEPS, prefix_buckets4, prefix_buckets6};
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::kernel::pod::Pod;

/// Multipliers that are tried before entries are said to have no place.
const MULTIPLIERS: u64 = 4;
/// How often entries are moved on to make room for one.
const MOVES: usize = 5000;
/// Log2 of the fewest buckets that are used.
const FEW: u32 = 4;

/// A prefix in the prefix maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// What it is for.
    pub kind: PrefixKind,
    /// The prefix.
    pub net: IpNet,
    /// The rules, one bit each; for a VIP [`ALWAYS`] or [`gate_value`].
    pub value: u64,
}

/// The value of a VIP that has no gate.
pub const ALWAYS: u64 = 1;

/// The value of the VIP that has a gate.
pub const fn gate_value(gate: usize) -> u64 {
    ALWAYS + 1 + gate as u64
}

/// The buckets of a policy's prefixes: a buffer of the prefix maps as far as it is in use. Empty where there are none of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Of `PREFIXES4`.
    pub v4: Vec<Pod<PrefixBucket4>>,
    /// Of `PREFIXES6`.
    pub v6: Vec<Pod<PrefixBucket6>>,
}

/// A search that finds nothing.
pub(crate) const NOTHING: Search = Search {
    multiplier4: 0,
    multiplier6: 0,
    shift4: 64 - FEW,
    shift6: 64 - FEW,
    v4: [Search4 { steps: [0; LENGTHS4], outermost: 0, reserved: 0 }; PrefixKind::ALL.len()],
    v6: [Search6 {
        steps: [Step6 { high: 0, low: 0, word: 0, reserved: 0 }; LENGTHS6],
        outermost: 0,
        reserved: 0,
    }; PrefixKind::ALL.len()],
};

/// Buckets of each family that a search looks at: what it uses of a buffer, and nothing where it has no steps.
pub(crate) fn in_use(search: &Search) -> (u32, u32) {
    let v4 = search.v4.iter().any(|search| search.steps[0] != 0);
    let v6 = search.v6.iter().any(|search| search.steps[0].word != 0);
    let buckets =
        |used: bool, shift: u32| if used { (1 << 63) >> (shift.wrapping_sub(1) & 63) } else { 0_u64 };
    (buckets(v4, search.shift4) as u32, buckets(v6, search.shift6) as u32)
}

impl Buckets {
    /// Lays out a list of prefixes, each of which is in it once and has a value that is not 0. How they are searched becomes part of
    /// the rules.
    ///
    /// # Errors
    /// There are more prefixes, or more distinct values, than there is room for.
    pub fn fill(rules: &mut Rules, prefixes: &[Prefix]) -> Result<Self> {
        let mut indices = HashMap::new();
        // The program knows gates by their index.
        for gate in 0..rules.gates.iter().filter(|gate| gate.unhealthy != 0).count() {
            indices.insert(gate_value(gate), gate + 1);
            rules.prefix_values[gate + 1] = gate_value(gate);
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            let next = indices.len() + 1;
            let index = *indices.entry(prefix.value).or_insert(next);
            if let Some(value) = rules.prefix_values.get_mut(index) {
                *value = prefix.value;
            }
            let family = if prefix.net.addr().is_ipv4() { &mut v4 } else { &mut v6 };
            family.push((prefix, index as u32));
        }
        if indices.len() >= PREFIX_VALUES {
            bail!(
                "the prefixes are in {} different sets of rules, and there is room for {}; lists that overlap less are in fewer",
                indices.len(),
                PREFIX_VALUES - 1
            );
        }
        let places4 = find_places(Family::V4, &v4, &mut rules.search)?;
        let places6 = find_places(Family::V6, &v6, &mut rules.search)?;
        let (used4, used6) = in_use(&rules.search);
        let mut buckets = Self {
            v4: vec![Pod(PrefixBucket4::default()); used4 as usize],
            v6: vec![Pod(PrefixBucket6::default()); used6 as usize],
        };
        for (at, entry) in places4 {
            buckets.v4[at / PREFIX_WAYS4].0.entries[at % PREFIX_WAYS4] = entry.v4();
        }
        for (at, entry) in places6 {
            let (bucket, way) = (&mut buckets.v6[at / PREFIX_WAYS6].0, at % PREFIX_WAYS6);
            (bucket.high[way], bucket.low[way]) = entry.halves();
            bucket.words[way] = entry.word;
        }
        Ok(buckets)
    }

    /// The list that was laid out, in no order.
    pub fn prefixes(&self, rules: &Rules) -> Vec<Prefix> {
        let mut entries = Vec::new();
        for kind in PrefixKind::ALL {
            let (v4, v6) = (&rules.search.v4[kind as usize], &rules.search.v6[kind as usize]);
            for (family, outermost) in [(Family::V4, v4.outermost), (Family::V6, v6.outermost)] {
                entries.push((family, Entry { address: 0, word: tag(kind, 0) | outermost }));
            }
        }
        for entry in self.v4.iter().flat_map(|bucket| bucket.0.entries) {
            entries.push((Family::V4, Entry { address: u128::from(entry >> 32) << 96, word: entry as u32 }));
        }
        for PrefixBucket6 { high, low, words, .. } in self.v6.iter().map(|bucket| bucket.0) {
            for way in 0..PREFIX_WAYS6 {
                let address = u128::from(high[way]) << 64 | u128::from(low[way]);
                entries.push((Family::V6, Entry { address, word: words[way] }));
            }
        }
        let named = entries.into_iter().filter(|(_, entry)| !entry.is_marker() && entry.index() != 0);
        named.filter_map(|(family, entry)| entry.prefix(family, rules)).collect()
    }
}

/// What lies in a bucket. An IPv4 address is in the upper 32 bits.
#[derive(Clone, Copy)]
struct Entry {
    address: u128,
    /// As icmp-common has it: tag, marker, index.
    word: u32,
}

impl Entry {
    fn new(kind: PrefixKind, len: u8, address: u128, rest: u32) -> Self {
        Self { address: address & mask(len), word: tag(kind, len) | rest }
    }

    fn len(&self) -> u8 {
        (self.word >> 16) as u8
    }

    fn is_marker(&self) -> bool {
        self.word & MARKER != 0
    }

    fn index(&self) -> u32 {
        self.word & INDEX_MASK
    }

    fn contains(&self, other: &Self) -> bool {
        self.len() <= other.len() && other.address & mask(self.len()) == self.address
    }

    /// As an IPv4 entry of a bucket.
    fn v4(&self) -> u64 {
        ((self.address >> 96) as u64) << 32 | u64::from(self.word)
    }

    fn halves(&self) -> (u64, u64) {
        ((self.address >> 64) as u64, self.address as u64)
    }

    fn buckets(&self, family: Family, search: &Search) -> [u32; 2] {
        let (high, low) = self.halves();
        let (first, second) = match family {
            Family::V4 => prefix_buckets4(self.v4(), search),
            Family::V6 => prefix_buckets6(high, low, self.word, search),
        };
        [first, second]
    }

    /// What it stands for; `None` where it is nothing that is laid out here.
    fn prefix(&self, family: Family, rules: &Rules) -> Option<Prefix> {
        let address = match family {
            Family::V4 => Ipv4Addr::from_bits((self.address >> 96) as u32).into(),
            Family::V6 => Ipv6Addr::from_bits(self.address).into(),
        };
        Some(Prefix {
            kind: *PrefixKind::ALL.get((self.word >> 24) as usize)?,
            net: IpNet::new(address, self.len()).ok()?,
            value: *rules.prefix_values.get(self.index() as usize)?,
        })
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// Bits of an address as [`Entry`] has them.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A length and where to go from it, as positions in the order; 0 is nowhere.
#[derive(Clone, Copy)]
struct Step {
    len: u8,
    hit: u8,
    miss: u8,
}

impl Step {
    fn word(self, kind: PrefixKind) -> u32 {
        tag(kind, self.len) | u32::from(self.hit) << 8 | u32::from(self.miss)
    }
}

/// Sets how a family's prefixes are searched, and returns each entry with its place, all places counted through.
///
/// As few steps as can be; where the markers of that find no room, more steps and fewer markers.
fn find_places(
    family: Family,
    prefixes: &[(&Prefix, u32)],
    search: &mut Search,
) -> Result<Vec<(usize, Entry)>> {
    let (buckets, ways) = match family {
        Family::V4 => (PREFIX_BUCKETS4 as usize, PREFIX_WAYS4),
        Family::V6 => (PREFIX_BUCKETS6 as usize, PREFIX_WAYS6),
    };
    let mut needed = 0;
    for spare in 0..STEPS {
        let mut entries = Vec::new();
        for kind in PrefixKind::ALL {
            let of_kind: Vec<_> = prefixes.iter().filter(|(prefix, _)| prefix.kind == kind).collect();
            let mut counts = [0; LENGTHS6 + 1];
            let mut outermost = 0;
            for (prefix, index) in &of_kind {
                match prefix.net.prefix_len() {
                    0 => outermost = *index,
                    len => counts[usize::from(len)] += 1,
                }
            }
            let steps = order(&counts, spare);
            entries.extend(entries_of(kind, &of_kind, &steps, outermost));
            set(family, search, kind, &steps, outermost);
        }
        // At most two thirds full while there is room: a full bucket makes for a second look.
        let wanted = (entries.len() + entries.len() / 2).div_ceil(ways).next_power_of_two();
        let used = wanted.clamp(1 << FEW, buckets);
        needed = entries.len();
        for attempt in 0..MULTIPLIERS {
            let (multiplier, shift) = match family {
                Family::V4 => (&mut search.multiplier4, &mut search.shift4),
                Family::V6 => (&mut search.multiplier6, &mut search.shift6),
            };
            *multiplier = ADDRESS_HASH.wrapping_mul(2 * attempt + 1);
            *shift = 64 - used.ilog2();
            let homes: Vec<_> = entries.iter().map(|entry| entry.buckets(family, search)).collect();
            if let Some(places) = place(&homes, used, ways) {
                let of_entry = |entry: u32| entries.get(entry as usize).copied();
                let placed = places.into_iter().enumerate();
                return Ok(placed.filter_map(|(at, entry)| Some((at, of_entry(entry)?))).collect());
            }
        }
    }
    bail!(
        "{} {} prefixes take {needed} places, with the marks that a search through all of their lengths needs, and of the \
         {} that there are not all can be filled; fewer lengths need fewer marks",
        prefixes.len(),
        if family == Family::V4 { "IPv4" } else { "IPv6" },
        buckets * ways
    )
}

fn set(family: Family, search: &mut Search, kind: PrefixKind, steps: &[Step], outermost: u32) {
    match family {
        Family::V4 => {
            let search = &mut search.v4[kind as usize];
            search.outermost = outermost;
            for (to, step) in search.steps.iter_mut().zip(steps) {
                *to = ((mask(step.len) >> 96) as u64) << 32 | u64::from(step.word(kind));
            }
        }
        Family::V6 => {
            let search = &mut search.v6[kind as usize];
            search.outermost = outermost;
            for (to, step) in search.steps.iter_mut().zip(steps) {
                let mask = mask(step.len);
                let word = step.word(kind);
                *to = Step6 { high: (mask >> 64) as u64, low: mask as u64, word, reserved: 0 };
            }
        }
    }
}

/// The order in which lengths are asked for: as few steps as they need, and up to so many to spare, with as few markers as that allows.
/// Takes how many prefixes there are of each length.
fn order(counts: &[usize], spare: usize) -> Vec<Step> {
    let lens: Vec<u8> = (1..counts.len()).filter(|len| counts[*len] != 0).map(|len| len as u8).collect();
    let n = lens.len();
    let depth = ((n + 1).next_power_of_two().ilog2() as usize + spare).min(STEPS);
    let before: Vec<usize> =
        (0..=n).map(|i| lens[..i].iter().map(|len| counts[usize::from(*len)]).sum()).collect();
    // By steps, first and end of a range of lengths: the markers it needs at most, and which length to ask for first.
    let mut cheapest = vec![vec![(usize::MAX, 0); (n + 1) * (n + 1)]; depth + 1];
    for steps in 0..=depth {
        for first in 0..=n {
            cheapest[steps][first * (n + 1) + first] = (0, 0);
            for end in (first + 1)..=(if steps == 0 { first } else { n }) {
                let cost = |root: usize| {
                    let shorter = cheapest[steps - 1][first * (n + 1) + root].0;
                    let longer = cheapest[steps - 1][(root + 1) * (n + 1) + end].0;
                    shorter.saturating_add(longer).saturating_add(before[end] - before[root + 1])
                };
                cheapest[steps][first * (n + 1) + end] =
                    (first..end).map(|root| (cost(root), root)).min().unwrap_or((usize::MAX, 0));
            }
        }
    }
    let mut order = Vec::with_capacity(n);
    let _root = arrange(&lens, &cheapest, depth, 0, n, &mut order);
    order
}

/// Puts the lengths of a range behind those that are in order already; returns the position of the first that is asked for.
fn arrange(
    lens: &[u8],
    cheapest: &[Vec<(usize, usize)>],
    steps: usize,
    first: usize,
    end: usize,
    order: &mut Vec<Step>,
) -> u8 {
    if first == end {
        return 0;
    }
    let root = cheapest[steps][first * (lens.len() + 1) + end].1;
    let at = order.len();
    order.push(Step { len: lens[root], hit: 0, miss: 0 });
    order[at].miss = arrange(lens, cheapest, steps - 1, first, root, order);
    order[at].hit = arrange(lens, cheapest, steps - 1, root + 1, end, order);
    at as u8
}

/// The prefixes of a kind and their markers, each with the value of the longest prefix around it.
fn entries_of(kind: PrefixKind, prefixes: &[&(&Prefix, u32)], steps: &[Step], outermost: u32) -> Vec<Entry> {
    // The shorter lengths that lead to each one.
    let mut ways = vec![Vec::new(); LENGTHS6 + 1];
    for to in steps.iter().map(|step| step.len) {
        let mut at = 0;
        loop {
            let step = steps[at];
            if step.len == to {
                break;
            }
            if step.len < to {
                ways[usize::from(to)].push(step.len);
            }
            at = usize::from(if step.len < to { step.hit } else { step.miss });
        }
    }
    let mut entries = Vec::with_capacity(prefixes.len());
    for (prefix, index) in prefixes {
        let (address, len) = (bits(prefix.net.addr()), prefix.net.prefix_len());
        if len != 0 {
            entries.push(Entry::new(kind, len, address, *index));
        }
        entries
            .extend(ways[usize::from(len)].iter().map(|marked| Entry::new(kind, *marked, address, MARKER)));
    }
    // A prefix is ordered before all that it contains, and before its markers, of which it needs none.
    entries.sort_unstable_by_key(|entry| (entry.address, entry.len(), entry.is_marker()));
    entries.dedup_by_key(|entry| (entry.address, entry.len()));
    let mut around: Vec<Entry> = Vec::new();
    for entry in &mut entries {
        while around.last().is_some_and(|outer| !outer.contains(entry)) {
            around.pop();
        }
        if entry.is_marker() {
            entry.word |= around.last().map_or(outermost, Entry::index);
        } else {
            around.push(*entry);
        }
    }
    entries
}

/// A place for each entry in one of its two buckets, in the second only if the first is full; `None` where that fails. Returns for each
/// place of each bucket which entry has it, `u32::MAX` for none.
///
/// Where both are full, an entry takes the place of another, which goes to its other bucket (Pagh and Rodler, ESA 2001).
fn place(homes: &[[u32; 2]], buckets: usize, ways: usize) -> Option<Vec<u32>> {
    const FREE: u32 = u32::MAX;
    if homes.len() > buckets * ways {
        return None;
    }
    let mut places = vec![FREE; buckets * ways];
    for entry in 0..homes.len() as u32 {
        let mut entry = entry;
        let mut left = None;
        let mut moves = 0;
        loop {
            let [first, second] = homes[entry as usize].map(|bucket| bucket as usize * ways);
            let free = [first, second]
                .into_iter()
                .find_map(|bucket| (bucket..bucket + ways).find(|at| places[*at] == FREE));
            if let Some(at) = free {
                places[at] = entry;
                break;
            }
            if moves == MOVES {
                return None;
            }
            // Not back to where it has just been put out; which of the others has to go is spread over all.
            let bucket = if left == Some(first) { second } else { first };
            let at = bucket + (moves * 5 + moves / ways) % ways;
            std::mem::swap(&mut places[at], &mut entry);
            left = Some(bucket);
            moves += 1;
        }
    }
    Some(places)
}
