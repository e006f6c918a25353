//! Prefixes: the longest one that contains an address, in a few steps.
//!
//! Owns how prefixes lie in the maps, the place of an entry, and the search for the longest; icmp-ctl's `prefixes.rs` makes the tables from a
//! list. The search does not try one length after the other but halves the lengths (Waldvogel et al., SIGCOMM 1997): an entry at one length
//! means that there may be longer ones, no entry means that there are only shorter ones. For that, longer prefixes leave markers at the lengths
//! that the search tries first, and each entry has the value of the longest prefix around it, so no length is searched twice (docs/adr/0011).

use crate::abi::{
    INDEX_MASK, LENGTHS4, LENGTHS6, PREFIX_BUCKETS4, PREFIX_BUCKETS6, PREFIX_WAYS4, PREFIX_WAYS6,
    PrefixBucket4, PrefixBucket6, Search, Search4, Search6, TAG_MASK,
};
use crate::frame::Frame;
use crate::path::apart::About;
use crate::tables::Tables;
use crate::types::Family;
use crate::wire::ipv6::Halves;

/// Lengths that a search asks for at most: enough for the 128 of IPv6.
pub const STEPS: usize = 8;

/// The two buckets an IPv4 entry may lie in: the second only if the first is full. Only tag and address of the entry matter.
#[inline(always)]
pub const fn prefix_buckets4(entry: u64, search: &Search) -> (u32, u32) {
    let key = entry & !(!TAG_MASK as u64);
    let hash = (key ^ key >> 32).wrapping_mul(search.multiplier4);
    (hash.wrapping_shr(search.shift4) as u32, (hash << 16).wrapping_shr(search.shift4) as u32)
}

/// The two buckets an IPv6 entry may lie in, as [`prefix_buckets4`].
#[inline(always)]
pub const fn prefix_buckets6(high: u64, low: u64, word: u32, search: &Search) -> (u32, u32) {
    let hash = (high ^ (word & TAG_MASK) as u64).wrapping_mul(search.multiplier6) ^ low;
    let hash = (hash ^ hash >> 32).wrapping_mul(search.multiplier6);
    (hash.wrapping_shr(search.shift6) as u32, (hash << 16).wrapping_shr(search.shift6) as u32)
}

/// Index of the value of the longest prefix around an address, whose IPv4 form is in the first half; 0 where there is none. Family, kind and
/// settings are those that the frame is about.
#[inline(always)]
pub fn longest<F: Frame, T: Tables>(tables: &T, about: &About, address: Halves) -> u32 {
    let Some(buffer) = tables.settings(about.settings()).map(|settings| settings.rules) else { return 0 };
    let Some(rules) = tables.rules(buffer) else { return 0 };
    let kind = F::opaque(about.kind() as usize);
    match about.family() {
        Family::V4 => rules
            .search
            .v4
            .get(kind)
            .map_or(0, |search| longest4(tables, &rules.search, search, buffer, address.0)),
        Family::V6 => rules
            .search
            .v6
            .get(kind)
            .map_or(0, |search| longest6(tables, &rules.search, search, buffer, address)),
    }
}

#[inline(always)]
fn longest4<T: Tables>(tables: &T, search: &Search, lengths: &Search4, buffer: u32, address: u64) -> u32 {
    let Search4 { steps, outermost, .. } = lengths;
    let mut found = *outermost;
    let mut step = steps[0];
    if step == 0 {
        return found;
    }
    for _ in 0..STEPS {
        let key = step & (address << 32 | TAG_MASK as u64);
        let next = match entry4(tables, search, buffer, key) {
            Some(word) => {
                found = word & INDEX_MASK;
                step >> 8
            }
            None => step,
        };
        let next = next as usize & (LENGTHS4 - 1);
        if next == 0 {
            break;
        }
        step = steps[next];
    }
    found
}

/// What is in an entry's word beside the tag.
#[inline(always)]
fn entry4<T: Tables>(tables: &T, search: &Search, buffer: u32, key: u64) -> Option<u32> {
    let (first, second) = prefix_buckets4(key, search);
    let buffer = (buffer & 1) * PREFIX_BUCKETS4;
    let bucket = tables.prefixes4(buffer | first)?;
    if let Some(word) = in_bucket4(bucket, key) {
        return Some(word);
    }
    if bucket.entries[PREFIX_WAYS4 - 1] == 0 {
        return None;
    }
    in_bucket4(tables.prefixes4(buffer | second)?, key)
}

#[inline(always)]
fn in_bucket4(bucket: &PrefixBucket4, key: u64) -> Option<u32> {
    for entry in &bucket.entries {
        // What is left of an entry of this key is below the tag.
        let rest = entry ^ key;
        if rest <= !TAG_MASK as u64 {
            return Some(rest as u32);
        }
    }
    None
}

#[inline(always)]
fn longest6<T: Tables>(
    tables: &T,
    search: &Search,
    lengths: &Search6,
    buffer: u32,
    (high, low): Halves,
) -> u32 {
    let Search6 { steps, outermost, .. } = lengths;
    let mut found = *outermost;
    let mut step = &steps[0];
    if step.word == 0 {
        return found;
    }
    for _ in 0..STEPS {
        let key = (high & step.high, low & step.low);
        let next = match entry6(tables, search, buffer, key, step.word & TAG_MASK) {
            Some(word) => {
                found = word & INDEX_MASK;
                step.word >> 8
            }
            None => step.word,
        };
        let next = next as usize & (LENGTHS6 - 1);
        if next == 0 {
            break;
        }
        step = &steps[next];
    }
    found
}

/// As [`entry4`].
#[inline(always)]
fn entry6<T: Tables>(tables: &T, search: &Search, buffer: u32, key: Halves, tag: u32) -> Option<u32> {
    let (first, second) = prefix_buckets6(key.0, key.1, tag, search);
    let buffer = (buffer & 1) * PREFIX_BUCKETS6;
    let bucket = tables.prefixes6(buffer | first)?;
    if let Some(word) = in_bucket6(bucket, key, tag) {
        return Some(word);
    }
    if bucket.words[PREFIX_WAYS6 - 1] == 0 {
        return None;
    }
    in_bucket6(tables.prefixes6(buffer | second)?, key, tag)
}

#[inline(always)]
fn in_bucket6(bucket: &PrefixBucket6, (high, low): Halves, tag: u32) -> Option<u32> {
    for way in 0..PREFIX_WAYS6 {
        let rest = bucket.words[way] ^ tag;
        if bucket.high[way] == high && bucket.low[way] == low && rest <= !TAG_MASK {
            return Some(rest);
        }
    }
    None
}
