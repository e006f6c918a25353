//! The addresses the program answers for: what belongs in the table, and where in it.
//!
//! Owns the table's construction and the place of an interface's entry; reading it is icmp-common's. Which addresses a host has
//! is `netlink.rs`'s, writing the maps `instance.rs`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use icmp_common::abi::{
    ADDRESS_BUCKETS, AddressKind, Bucket4, Bucket6, Entry6, INTERFACE_ENTRIES, INTERFACE_PROBES, Interface,
    Scope, bucket4, bucket6,
};

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub address: IpAddr,
    /// Interface and VLAN it is owned on.
    pub scope: Scope,
    /// What it is there.
    pub kind: AddressKind,
}

/// The two halves of the table, one bank of each map.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressTable {
    buckets4: Vec<Bucket4>,
    buckets6: Vec<Bucket6>,
}

impl AddressTable {
    /// Builds the table; the addresses that found their bucket full come back with it, and the kernel answers for them.
    pub fn build(addresses: &[OwnAddress]) -> (Self, Vec<OwnAddress>) {
        let mut table = Self {
            buckets4: vec![Bucket4::default(); ADDRESS_BUCKETS as usize],
            buckets6: vec![Bucket6::default(); ADDRESS_BUCKETS as usize],
        };
        let left_out = addresses.iter().filter(|address| !table.insert(address)).copied().collect();
        (table, left_out)
    }

    fn insert(&mut self, own: &OwnAddress) -> bool {
        let scope = own.scope.with_kind(own.kind).0;
        match own.address {
            IpAddr::V4(address) => {
                let address = u64::from(u32::from(address));
                let bucket = &mut self.buckets4[bucket4(address | u64::from(own.scope.0) << 32) as usize];
                place(&mut bucket.entries, address | u64::from(scope) << 32, 0)
            }
            IpAddr::V6(address) => {
                let (high, low) = halves(address);
                let bucket = &mut self.buckets6[bucket6(high, low, own.scope) as usize];
                place(&mut bucket.entries, Entry6 { high, low, scope, reserved: 0 }, Entry6::default())
            }
        }
    }

    /// One bank of `ADDRESSES4`.
    pub fn buckets4(&self) -> &[Bucket4] {
        &self.buckets4
    }

    /// One bank of `ADDRESSES6`.
    pub fn buckets6(&self) -> &[Bucket6] {
        &self.buckets6
    }

    /// What the table holds.
    pub fn addresses(&self) -> Vec<OwnAddress> {
        let v4 = self
            .buckets4
            .iter()
            .flat_map(|bucket| bucket.entries)
            .filter(|entry| *entry != 0)
            .map(|entry| (IpAddr::V4(Ipv4Addr::from(entry as u32)), (entry >> 32) as u32));
        let v6 = self.buckets6.iter().flat_map(|bucket| bucket.entries).filter(|entry| entry.scope != 0).map(
            |entry| {
                (
                    IpAddr::V6(Ipv6Addr::from(u128::from(entry.high) << 64 | u128::from(entry.low))),
                    entry.scope,
                )
            },
        );
        v4.chain(v6)
            .filter_map(|(address, scope)| {
                let kind = match (scope & Scope::KIND_MASK) >> 5 {
                    1 => AddressKind::Own,
                    2 => AddressKind::Broadcast,
                    3 => AddressKind::Present,
                    _ => return None,
                };
                Some(OwnAddress { address, scope: Scope(scope & !Scope::KIND_MASK), kind })
            })
            .collect()
    }

    /// The table of what two maps hold.
    pub fn from_buckets(buckets4: Vec<Bucket4>, buckets6: Vec<Bucket6>) -> Self {
        Self { buckets4, buckets6 }
    }
}

/// Puts an entry in a bucket unless it is there already; false where the bucket is full.
fn place<E: PartialEq + Copy>(entries: &mut [E], entry: E, free: E) -> bool {
    if entries.contains(&entry) {
        return true;
    }
    match entries.iter_mut().find(|place| **place == free) {
        Some(place) => {
            *place = entry;
            true
        }
        None => false,
    }
}

/// An address as the program compares it.
fn halves(address: Ipv6Addr) -> (u64, u64) {
    let bits = u128::from(address);
    ((bits >> 64) as u64, bits as u64)
}

/// Where an interface's entry is, or can go: `None` where all its places are taken by others.
pub fn interface_position(entries: &[Interface], ifindex: u32) -> Option<u32> {
    let places = (0..INTERFACE_PROBES).map(|probe| ifindex.wrapping_add(probe) & (INTERFACE_ENTRIES - 1));
    let holds = |wanted: u32| {
        places.clone().find(|place| entries.get(*place as usize).is_some_and(|e| e.ifindex == wanted))
    };
    holds(ifindex).or_else(|| holds(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(address: &str, slot: u32, vlan: u32) -> OwnAddress {
        OwnAddress {
            address: address.parse().expect("an address"),
            scope: Scope::new(slot, vlan),
            kind: AddressKind::Own,
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let addresses = vec![
            own("192.0.2.2", 1, 0),
            own("192.0.2.2", 2, 100),
            own("2001:db8::2", 1, 0),
            own("fe80::1", 3, 0xfff_00a),
        ];
        let (table, left_out) = AddressTable::build(&addresses);
        assert!(left_out.is_empty());
        let mut found = table.addresses();
        for address in &addresses {
            let position = found.iter().position(|f| f == address).expect("it was put in");
            found.swap_remove(position);
        }
        assert!(found.is_empty());
    }

    #[test]
    fn addresses_beyond_a_full_bucket_are_named_not_lost() {
        let addresses: Vec<_> = (0..20_000_u32)
            .map(|i| OwnAddress {
                address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i)),
                scope: Scope::new(1, 0),
                kind: AddressKind::Own,
            })
            .collect();
        let (table, left_out) = AddressTable::build(&addresses);
        assert_eq!(table.addresses().len() + left_out.len(), addresses.len());
        assert!(!left_out.is_empty());
    }

    #[test]
    fn a_thousand_addresses_find_a_place() {
        let addresses: Vec<_> = (0..1_000_u32)
            .map(|i| OwnAddress {
                address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i)),
                scope: Scope::new(1, 0),
                kind: AddressKind::Own,
            })
            .collect();
        assert!(AddressTable::build(&addresses).1.is_empty());
    }

    #[test]
    fn interfaces_with_indices_that_meet_find_places_next_to_each_other() {
        let mut entries = [Interface::default(); INTERFACE_ENTRIES as usize];
        for ifindex in [5, 5 + INTERFACE_ENTRIES, 5 + 2 * INTERFACE_ENTRIES, 5 + 3 * INTERFACE_ENTRIES] {
            let position = interface_position(&entries, ifindex).expect("four places");
            entries[position as usize].ifindex = ifindex;
        }
        assert_eq!(interface_position(&entries, 5 + 4 * INTERFACE_ENTRIES), None);
        assert_eq!(interface_position(&entries, 5), Some(5));
    }
}
