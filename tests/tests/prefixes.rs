//! The longest prefix by the packet path's search against the longest of a list, tried one after the other.
//!
//! Owns random lists of every shape and the addresses at their edges. The search runs on the host; `rules.rs` and `differential.rs` compare it
//! with the kernel.

use icmp_common::abi::{
    PREFIX_BUCKETS4, PREFIX_BUCKETS6, PREFIX_VALUES, PREFIX_WAYS4, PREFIX_WAYS6, PrefixKind,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use icmp_common::abi::{ADDRESS_BUCKETS, PEER_BUCKETS};
use icmp_common::frame::SliceFrame;
use icmp_common::host_tables::HostTables;
use icmp_common::limiter::SECRETS;
use icmp_common::path::apart::About;
use icmp_common::prefixes::longest;
use icmp_common::tables::Tables as _;
use icmp_common::types::Family;
use icmp_ctl::host::address_table::AddressTable;
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::host_tables::host_tables;
use icmp_ctl::instance::prefixes::Prefix;
use icmp_ctl::instance::program::LoadOptions;
use icmp_tests::generate::{self, Random};
use icmp_tests::host;
use ipnet::IpNet;

/// The rules that a search finds, on tables of a list.
struct Searched {
    policy: Compiled,
    tables: HostTables,
}

impl Searched {
    fn new(prefixes: Vec<Prefix>) -> Result<Self, String> {
        let none = host::policy_of("");
        let policy = Compiled::new(none.settings, none.rules, prefixes).map_err(|e| e.to_string())?;
        let options = LoadOptions {
            lines: 64,
            address_buckets: ADDRESS_BUCKETS,
            peer_buckets: PEER_BUCKETS,
            secret: [1; SECRETS],
        };
        let tables = host_tables(&policy, &AddressTable::build(&[], ADDRESS_BUCKETS).0, &options);
        Ok(Self { policy, tables })
    }

    fn find(&self, kind: PrefixKind, address: IpAddr) -> u64 {
        let rules = self.tables.rules(0).expect("rules");
        let (family, halves) = match address {
            IpAddr::V4(address) => (Family::V4, (u64::from(address.to_bits()), 0)),
            IpAddr::V6(address) => (Family::V6, ((address.to_bits() >> 64) as u64, address.to_bits() as u64)),
        };
        rules.prefix_values
            [longest::<SliceFrame<'_>, _>(&self.tables, &About::of_kind(family, kind), halves) as usize]
    }
}

fn asked_one_after_the_other(prefixes: &[Prefix], kind: PrefixKind, address: IpAddr) -> u64 {
    let around = prefixes.iter().filter(|prefix| prefix.kind == kind && prefix.net.contains(&address));
    around.max_by_key(|prefix| prefix.net.prefix_len()).map_or(0, |prefix| prefix.value)
}

fn net(family: Family, bits: u128, len: u8) -> IpNet {
    IpNet::new(address(family, bits), len).expect("a length of the family").trunc()
}

/// The address with these bits at its beginning.
fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits((bits >> 96) as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

fn bits(random: &mut Random) -> u128 {
    u128::from(random.bits()) << 64 | u128::from(random.bits())
}

fn longest_of(family: Family) -> u8 {
    if family == Family::V4 { 32 } else { 128 }
}

/// Prefixes of all kinds over a few stems, so that many lie within others; no two the same.
fn list(random: &mut Random, family: Family) -> Vec<Prefix> {
    let any_length = |random: &mut Random| random.below(usize::from(longest_of(family)) + 1) as u8;
    let lengths: Vec<u8> = match random.below(4) {
        0 => vec![any_length(random)],
        1 => (0..3).map(|_| any_length(random)).collect(),
        2 => (0..12).map(|_| any_length(random)).collect(),
        _ => (0..=longest_of(family)).collect(),
    };
    let stems: Vec<u128> = (0..1 + random.below(6)).map(|_| bits(random)).collect();
    let values: Vec<u64> = (0..1 + random.below(20)).map(|_| random.bits() | 1).collect();
    let mut prefixes: Vec<Prefix> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1 + random.below(400) {
        // A stem whose end is random from somewhere on.
        let bits = random.pick(&stems) ^ bits(random).checked_shr(random.below(129) as u32).unwrap_or(0);
        let net = net(family, bits, random.pick(&lengths));
        let kind = random.pick(&PrefixKind::ALL);
        if seen.insert((kind as u8, net)) {
            prefixes.push(Prefix { kind, net, value: random.pick(&values) });
        }
    }
    prefixes
}

/// Addresses in a prefix, at its edges and just beside it.
fn around(random: &mut Random, net: IpNet) -> Vec<IpAddr> {
    let (family, first) = match net.network() {
        IpAddr::V4(address) => (Family::V4, u128::from(address.to_bits()) << 96),
        IpAddr::V6(address) => (Family::V6, address.to_bits()),
    };
    let host = u128::MAX.checked_shr(u32::from(net.prefix_len())).unwrap_or(0);
    let inside = first | bits(random) & host;
    let flipped = inside ^ 1 << (127 - random.below(usize::from(longest_of(family))));
    let beside = [first.wrapping_sub(1 << 96), first.wrapping_sub(1), (first | host).wrapping_add(1)];
    [inside, first, first | host, flipped, bits(random)]
        .into_iter()
        .chain(beside)
        .map(|bits| address(family, bits))
        .collect()
}

#[test]
fn a_search_finds_what_asking_one_after_the_other_finds() {
    let mut random = Random::new(generate::seed());
    let (mut found, mut not_found) = (0_u32, 0_u32);
    for _ in 0..150 {
        let mut prefixes = list(&mut random, Family::V4);
        prefixes.extend(list(&mut random, Family::V6));
        let searched = Searched::new(prefixes).expect("few prefixes");
        let prefixes = &searched.policy.prefixes;
        for _ in 0..40 {
            let near = prefixes[random.below(prefixes.len())].net;
            for address in around(&mut random, near) {
                for kind in PrefixKind::ALL {
                    let expected = asked_one_after_the_other(prefixes, kind, address);
                    assert_eq!(searched.find(kind, address), expected, "{kind:?} {address} in {prefixes:?}");
                    *if expected == 0 { &mut not_found } else { &mut found } += 1;
                }
            }
        }
    }
    println!("{found} found, {not_found} not");
    assert!(found > 10_000 && not_found > 10_000, "lists that are neither everything nor nothing");
}

#[test]
fn what_is_laid_out_can_be_read_back() {
    let mut random = Random::new(generate::seed());
    let sorted = |mut prefixes: Vec<Prefix>| {
        prefixes.sort_by_key(|prefix| (prefix.kind as u8, prefix.net));
        prefixes
    };
    for _ in 0..50 {
        let mut prefixes = list(&mut random, Family::V4);
        prefixes.extend(list(&mut random, Family::V6));
        let Searched { policy, .. } = Searched::new(prefixes.clone()).expect("few prefixes");
        assert_eq!(sorted(policy.buckets.prefixes(&policy.rules)), sorted(prefixes));
    }
}

/// So many prefixes, of lengths that take turns, each distinct.
fn many(family: Family, lengths: &[u8], count: usize) -> Vec<Prefix> {
    // Multiplying by an odd number permutes the numbers of each length.
    let bits = |i: usize, len: u8| {
        let number = (i as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        number << (128 - u32::from(len))
    };
    let of_length = |(i, len): (usize, &u8)| net(family, bits(i / lengths.len(), *len), *len);
    let nets = lengths.iter().cycle().take(count).enumerate().map(of_length);
    nets.map(|net| Prefix { kind: PrefixKind::From, net, value: 1 }).collect()
}

#[test]
fn as_many_prefixes_as_the_documentation_promises_are_found() {
    let mut random = Random::new(generate::seed());
    for (family, lengths, count) in [
        (Family::V4, vec![32], 260_000),
        (Family::V4, (13..=32).collect(), 131_072),
        (Family::V6, vec![48], 186_000),
        (Family::V6, vec![128], 131_072),
        (Family::V6, vec![32, 48, 64], 131_072),
    ] {
        let searched = Searched::new(many(family, &lengths, count))
            .unwrap_or_else(|e| panic!("{family:?} {lengths:?}: {e}"));
        let prefixes = &searched.policy.prefixes;
        for Prefix { net, .. } in prefixes {
            assert_eq!(searched.find(PrefixKind::From, net.network()), 1, "{net}");
        }
        for _ in 0..100 {
            let address = address(family, bits(&mut random));
            let expected = asked_one_after_the_other(prefixes, PrefixKind::From, address);
            assert_eq!(searched.find(PrefixKind::From, address), expected, "{address} among {lengths:?}");
        }
    }
}

#[test]
fn what_finds_no_room_is_refused_with_the_numbers() {
    for (family, places) in [
        (Family::V4, PREFIX_BUCKETS4 as usize * PREFIX_WAYS4),
        (Family::V6, PREFIX_BUCKETS6 as usize * PREFIX_WAYS6),
    ] {
        let Err(text) = Searched::new(many(family, &[32], places + 1)) else { panic!("{family:?} fits") };
        assert!(text.contains(&(places + 1).to_string()) && text.contains(&places.to_string()), "{text}");
    }
    let mut prefixes = many(Family::V4, &[32], PREFIX_VALUES);
    for (i, prefix) in prefixes.iter_mut().enumerate() {
        prefix.value = i as u64 + 1;
    }
    assert!(Searched::new(prefixes.clone()).is_err());
    prefixes.pop();
    let searched = Searched::new(prefixes).expect("one less");
    for Prefix { net, value, .. } in searched.policy.prefixes.clone() {
        assert_eq!(searched.find(PrefixKind::From, net.network()), value);
    }
}
