//! The table of the addresses that the program answers for.
//!
//! Owns building the table and reading it back; icmp-common owns the place of an entry. `netlink.rs` reads the addresses of the host,
//! `instance/maps.rs` writes the maps.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use icmp_common::abi::{
    AddressBucket4, AddressBucket6, AddressKind, OTHER_MAC, OwnFirst, SCOPE_SLOTS, Scope, own_bit,
};
use icmp_common::tables::{insert4, insert6};
use icmp_common::wire::ethernet;

use crate::diagnostics::count;

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

impl OwnAddress {
    /// That frames to this MAC address are the host's, too.
    pub fn of_mac(mac: [u8; 6], scope: Scope) -> Self {
        let bits = u128::from(OTHER_MAC) << 64 | u128::from(ethernet::address(mac));
        Self { address: Ipv6Addr::from(bits).into(), scope, kind: AddressKind::Present }
    }

    /// Whether it is one of those.
    pub fn is_mac(&self) -> bool {
        self.kind == AddressKind::Present && self.address.is_ipv6()
    }

    /// Whether it is answered, where all addresses of the host are answered everywhere or not.
    pub fn is_answered(&self, own_host: bool) -> bool {
        match self.kind {
            AddressKind::Own | AddressKind::Everywhere => true,
            AddressKind::Host => own_host,
            _ => false,
        }
    }
}

impl Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V6(address) if self.is_mac() => {
                let [first, rest @ .., _, _] = (address.to_bits() as u64).to_ne_bytes();
                write!(f, "{first:02x}")?;
                rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
            }
            address => address.fmt(f),
        }
    }
}

/// What there is to say of addresses that have found no place in a table that was built to try something.
pub fn no_room(left_out: usize) -> Option<String> {
    let addresses = count(left_out as u64, "address", "addresses");
    (left_out > 0).then(|| format!("for {addresses} there was no room in the table"))
}

/// The two halves of the table, one buffer of each map.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressTable {
    buckets4: Vec<AddressBucket4>,
    buckets6: Vec<AddressBucket6>,
}

impl AddressTable {
    /// Builds the table of so many buckets for each family, a power of two; the addresses that found their bucket full come back with it, and
    /// the kernel answers for them.
    pub fn build(addresses: &[OwnAddress], buckets: u32) -> (Self, Vec<OwnAddress>) {
        let mut table = Self {
            buckets4: vec![AddressBucket4::default(); buckets as usize],
            buckets6: vec![AddressBucket6::default(); buckets as usize],
        };
        let left_out = addresses.iter().filter(|address| !table.insert(address)).copied().collect();
        (table, left_out)
    }

    fn insert(&mut self, own: &OwnAddress) -> bool {
        match own.address {
            IpAddr::V4(address) => insert4(&mut self.buckets4, address.to_bits(), own.scope, own.kind),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                insert6(&mut self.buckets6, (bits >> 64) as u64, bits as u64, own.scope, own.kind)
            }
        }
    }

    /// What is asked first about addresses, by slot: made from the table, so that the two never differ.
    pub fn own_first(&self) -> Vec<OwnFirst> {
        let mut first = vec![OwnFirst::default(); SCOPE_SLOTS as usize];
        let addresses = self.addresses();
        let mut any = OwnFirst::default();
        // Nobody sends from a multicast address whose packets the kernel would act on.
        let is_source = |own: &&OwnAddress| own.kind != AddressKind::Present && !own.address.is_multicast();
        for own in addresses.iter().filter(is_source) {
            let (set, address) = match own.address {
                IpAddr::V4(address) => (&mut any.any4, u64::from(address.to_bits())),
                IpAddr::V6(address) => (&mut any.any6, address.to_bits() as u64),
            };
            let (word, bit) = own_bit(address);
            set[word] |= bit;
        }
        first.fill(any);
        for own in addresses.iter().filter(|own| own.kind == AddressKind::Own) {
            let slot = own.scope.0;
            let Some(entry) = first.get_mut(slot as usize).filter(|_| own.scope == Scope::new(slot, 0))
            else {
                continue;
            };
            match own.address {
                IpAddr::V4(address) => entry.v4 = address.to_bits(),
                // Rather one that is pinged from afar.
                IpAddr::V6(address) if entry.v6 == [0; 2] || !address.is_unicast_link_local() => {
                    let bits = address.to_bits();
                    entry.v6 = [(bits >> 64) as u64, bits as u64];
                }
                IpAddr::V6(_) => {}
            }
        }
        first
    }

    /// One buffer of `ADDRESSES4`.
    pub fn buckets4(&self) -> &[AddressBucket4] {
        &self.buckets4
    }

    /// One buffer of `ADDRESSES6`.
    pub fn buckets6(&self) -> &[AddressBucket6] {
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
                    2 => AddressKind::Group,
                    3 => AddressKind::Present,
                    4 => AddressKind::Somewhere,
                    5 => AddressKind::Anywhere,
                    6 => AddressKind::Host,
                    7 => AddressKind::Everywhere,
                    _ => return None,
                };
                Some(OwnAddress { address, scope: Scope(scope & !Scope::KIND_MASK), kind })
            })
            .collect()
    }

    /// The table of what two maps hold.
    pub fn from_buckets(buckets4: Vec<AddressBucket4>, buckets6: Vec<AddressBucket6>) -> Self {
        Self { buckets4, buckets6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icmp_common::abi::ADDRESS_BUCKETS;

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
        let (table, left_out) = AddressTable::build(&addresses, ADDRESS_BUCKETS);
        assert!(left_out.is_empty());
        let mut found = table.addresses();
        for address in &addresses {
            let position = found.iter().position(|f| f == address).expect("it was put in");
            found.swap_remove(position);
        }
        assert!(found.is_empty());
    }

    #[test]
    fn a_mac_address_is_written_as_one_and_is_no_source() {
        let mac = OwnAddress::of_mac([2, 0, 0x5e, 0, 1, 0x33], Scope::new(1, 0));
        assert_eq!(mac.to_string(), "02:00:5e:00:01:33");
        assert_eq!(own("2001:db8::2", 1, 0).to_string(), "2001:db8::2");
        let (table, _) = AddressTable::build(&[mac], ADDRESS_BUCKETS);
        assert!(table.addresses() == [mac] && mac.is_mac() && !mac.is_answered(true));
        assert!(table.own_first().iter().all(|first| *first == OwnFirst::default()));
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
        let (table, left_out) = AddressTable::build(&addresses, ADDRESS_BUCKETS);
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
        assert!(AddressTable::build(&addresses, ADDRESS_BUCKETS).1.is_empty());
    }
}
