//! The addresses that are compared first (`abi::OwnFirst`) against the address table alone, over generated hosts.
//!
//! Owns the proof that both give the same result. icmp-common and `addresses.rs` prove the table.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use icmp_common::abi::{ADDRESS_BUCKETS, AddressKind, Interface, OwnFirst, Scope, own_bit};
use icmp_common::frame::SliceFrame;
use icmp_common::host_tables::HostTables;
use icmp_common::path;
use icmp_common::reason::Reason;
use icmp_ctl::host::address_table::{AddressTable, OwnAddress};
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::host_tables::host_tables_with_hint;
use icmp_ctl::instance::program::LoadOptions;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::generate::{self, Random};
use icmp_tests::host;
use icmp_tests::packet::{Echo, Tag};

/// Interfaces by slot, with their MAC addresses.
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 2]];
/// VLANs as [`Scope`] counts them: none, a tag, a pair of tags, a service tag.
const VLANS: [u32; 4] = [0, 5, 5 | 7 << 12, 5 | Scope::SERVICE_ONLY << 12];

fn slot(interface: usize) -> u32 {
    u32::try_from(interface).expect("few") + 1
}

/// Addresses of which several agree in what the hint looks at, and such that no single host has.
fn pool(random: &mut Random) -> Vec<IpAddr> {
    let mut pool: Vec<IpAddr> =
        ["0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "::", "::1", "ff02::1"]
            .map(|text| text.parse().expect("an address"))
            .to_vec();
    for _ in 0..8 {
        pool.push(Ipv4Addr::from(random.bits() as u32).into());
        let low = random.bits();
        for high in [0xfe80_u64 << 48, 0x2001_0db8 << 32, 0x2001_0db8 << 32 | 1] {
            pool.push(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)).into());
        }
    }
    pool
}

/// A host that has some of them, here and there.
fn addresses(random: &mut Random, pool: &[IpAddr]) -> Vec<OwnAddress> {
    let mut all = BTreeMap::new();
    for _ in 0..random.below(16) {
        let address = random.pick(pool);
        let scope = Scope::new(slot(random.below(MACS.len())), random.pick(&VLANS));
        let is_group = address.is_multicast() || random.once_in(5);
        let kind = if is_group { AddressKind::Group } else { AddressKind::Own };
        // Some are on an interface that no frames come in on here.
        if !random.once_in(3) {
            let _other = all.insert((scope.0, address), OwnAddress { address, scope, kind });
        }
        if scope.0 >> 8 != 0 {
            let nothing = Ipv4Addr::UNSPECIFIED.into();
            let present = OwnAddress { address: nothing, scope, kind: AddressKind::Present };
            let _other = all.insert((scope.0, nothing), present);
        }
        if !is_group || random.once_in(3) {
            let anywhere = OwnAddress { address, scope: Scope::ANYWHERE, kind: AddressKind::Anywhere };
            let _other = all.insert((Scope::ANYWHERE.0, address), anywhere);
        }
    }
    all.into_values().collect()
}

/// A message between two of them, on one of the interfaces.
fn message(random: &mut Random, pool: &[IpAddr], own: &[OwnAddress]) -> (usize, Vec<u8>) {
    let to = if own.is_empty() || random.once_in(4) { random.pick(pool) } else { random.pick(own).address };
    let of_family: Vec<_> = pool.iter().copied().filter(|from| from.is_ipv4() == to.is_ipv4()).collect();
    let interface = random.below(MACS.len());
    let tag = |tpid, tci| Tag { tpid, tci };
    let tags = match random.below(6) {
        0 => vec![tag(0x8100, 5)],
        1 => vec![tag(0x8100, 5), tag(0x8100, 7)],
        2 => vec![tag(0x88a8, 5)],
        _ => vec![],
    };
    let to_mac =
        if random.once_in(6) { random.pick(&[[2, 0, 0, 0, 0, 3], [0xff; 6]]) } else { MACS[interface] };
    let kind = random.once_in(6).then_some(if to.is_ipv4() { 13 } else { 129 });
    let echo = Echo { kind, tags, to_mac, ..Echo::new(random.pick(&of_family), to, vec![0; 8]) };
    (interface, echo.frame())
}

/// The host with this hint.
fn host(policy: &Compiled, table: &AddressTable, hint: Vec<OwnFirst>) -> HostTables {
    let options = LoadOptions::reproducible(1 << 10);
    let mut tables = host_tables_with_hint(policy, table, hint, &options);
    for (interface, [a, b, c, d, e, f]) in MACS.into_iter().enumerate() {
        let mac = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
        tables.add_interface(Interface {
            ifindex: slot(interface),
            slot: slot(interface),
            mac,
            flags: 0,
            mtu4: 0,
            mtu6: 0,
        });
    }
    tables
}

/// The host without a hint: every interface seems to have no address to be asked first about.
fn by_the_table(policy: &Compiled, table: &AddressTable) -> HostTables {
    host(policy, table, table.own_first().iter().map(|_| OwnFirst::default()).collect())
}

fn decision(tables: &HostTables, interface: usize, frame: &[u8]) -> (Reason, Vec<u8>) {
    let mut frame = frame.to_vec();
    let outcome = path::process(&mut SliceFrame::new(&mut frame), tables, slot(interface));
    (outcome.reason, frame)
}

#[test]
fn the_hint_decides_about_every_source_and_destination_as_the_table_alone() {
    let mut random = Random::new(generate::seed());
    let policy = host::policy_of(UNLIMITED);
    let mut ended = BTreeMap::<_, u32>::new();
    for _ in 0..300 {
        let pool = pool(&mut random);
        let own = addresses(&mut random, &pool);
        let (table, left_out) = AddressTable::build(&own, ADDRESS_BUCKETS);
        assert!(left_out.is_empty(), "{left_out:?}");
        let (hinted, alone) = (host(&policy, &table, table.own_first()), by_the_table(&policy, &table));
        for _ in 0..200 {
            let (interface, frame) = message(&mut random, &pool, &own);
            let expected = decision(&alone, interface, &frame);
            let got = decision(&hinted, interface, &frame);
            assert_eq!(got.0.name(), expected.0.name(), "interface {interface}, {frame:02x?}, {own:?}");
            assert_eq!(got.1, expected.1);
            *ended.entry(expected.0.name()).or_default() += 1;
        }
    }
    println!("{ended:?}");
    for reason in [
        Reason::Answered,
        Reason::OwnSource,
        Reason::MartianSource,
        Reason::NotOwnAddress,
        Reason::UnknownVlan,
    ] {
        assert!(ended.get(reason.name()).is_some_and(|count| *count > 100), "{}: {ended:?}", reason.name());
    }
}

#[test]
fn a_hint_that_forgets_an_own_address_would_answer_it() {
    let policy = host::policy_of(UNLIMITED);
    let first = |address: &str| OwnAddress {
        address: address.parse().expect("an address"),
        scope: Scope::new(slot(0), 0),
        kind: AddressKind::Own,
    };
    let anywhere =
        |own: OwnAddress| OwnAddress { scope: Scope::ANYWHERE, kind: AddressKind::Anywhere, ..own };
    let broadcast = OwnAddress { kind: AddressKind::Group, ..first("192.0.2.255") };
    let own = [
        first("192.0.2.2"),
        first("2001:db8::2"),
        anywhere(first("203.0.113.9")),
        anywhere(first("2001:db8:9::9")),
        broadcast,
    ];
    let (table, left_out) = AddressTable::build(&own, ADDRESS_BUCKETS);
    assert!(left_out.is_empty(), "{left_out:?}");
    let alone = by_the_table(&policy, &table);
    for forgotten in own {
        let to = if forgotten.address.is_ipv4() { own[0].address } else { own[1].address };
        let frame = Echo { to_mac: MACS[0], ..Echo::new(forgotten.address, to, vec![0; 8]) }.frame();
        let expected = decision(&alone, 0, &frame).0;
        let mut hint = table.own_first();
        assert_eq!(decision(&host(&policy, &table, hint.clone()), 0, &frame).0, expected);
        for entry in &mut hint {
            let (set, address) = match forgotten.address {
                IpAddr::V4(address) => (&mut entry.any4, u64::from(address.to_bits())),
                IpAddr::V6(address) => (&mut entry.any6, address.to_bits() as u64),
            };
            let (word, bit) = own_bit(address);
            set[word] &= !bit;
        }
        let got = decision(&host(&policy, &table, hint), 0, &frame).0;
        assert_eq!((got, expected == Reason::Answered), (Reason::Answered, false), "{}", forgotten.address);
    }
}
