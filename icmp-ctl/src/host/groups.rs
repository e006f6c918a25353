//! Multicast groups and anycast addresses that the host has joined, and how often its interfaces take in the group of all hosts. They are read
//! from the kernel's files, because rtnetlink reports groups only since Linux 6.15.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A multicast group, or an anycast address, that the host has joined on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Index of the interface.
    pub ifindex: u32,
    /// The group.
    pub address: IpAddr,
}

/// The group of all hosts, which each interface that is up belongs to (RFC 1112 section 4), as the kernel lists its MAC address.
pub(super) const ALL_HOSTS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
const ALL_HOSTS_MAC: &str = "01005e000001";

/// Those of all interfaces of the caller's network namespace. A family that is switched off has no list, and no groups.
pub(super) fn read() -> Vec<Group> {
    let mut groups = v4(&list("igmp"));
    groups.extend(v6(&list("igmp6")));
    groups.extend(v6(&list("anycast6")));
    groups
}

/// A list of the kernel's, or nothing where it has none. In it are names of interfaces, which need not be text.
fn list(file: &str) -> String {
    let bytes = fs::read(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line for each interface, with its index first; below it and indented one for each group, as the eight digits of its bytes read as a
/// number in the machine's order (igmp_mc_seq_show in net/ipv4/igmp.c).
fn v4(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut ifindex = None;
    for line in text.lines().skip(1) {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if line.starts_with('\t') {
            let address = u32::from_str_radix(first, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
            groups.extend(
                ifindex.zip(address).map(|(ifindex, address)| Group { ifindex, address: address.into() }),
            );
        } else {
            ifindex = first.parse().ok();
        }
    }
    groups
}

/// A line for each group: index and name of the interface, and the group's 32 digits (igmp6_mc_seq_show in net/ipv6/mcast.c; ac6_seq_show
/// in net/ipv6/anycast.c).
fn v6(text: &str) -> Vec<Group> {
    let group = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let ifindex = fields.next()?.parse().ok()?;
        let bits = u128::from_str_radix(fields.nth(1)?, 16).ok()?;
        Some(Group { ifindex, address: Ipv6Addr::from(bits).into() })
    };
    text.lines().filter_map(group).collect()
}

/// How often interfaces take in the group of all hosts, by their index.
pub(super) fn all_hosts_taken_in() -> BTreeMap<u32, usize> {
    all_hosts(&list("dev_mcast"))
}

/// A line for each MAC address of a group: index and name of the interface, how often it is taken in, how often globally, and the address
/// (dev_mc_seq_show in net/core/net-procfs.c).
fn all_hosts(text: &str) -> BTreeMap<u32, usize> {
    let of = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [ifindex, _, times, _, ALL_HOSTS_MAC] = fields[..] else { return None };
        Some((ifindex.parse().ok()?, times.parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(groups: &[Group]) -> Vec<String> {
        groups.iter().map(|group| format!("{} {}", group.ifindex, group.address)).collect()
    }

    #[test]
    fn groups_are_read_from_the_kernels_lists_for_each_interface() {
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                    1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
                    12\teth0.100  :     2      V3\n\t\t\t\tFB0000E0     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(texts(&v4(igmp)), ["1 224.0.0.1", "12 224.0.0.251", "12 224.0.0.1"]);
        }
        let igmp6 = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
                     2    eth0            ff0200000000000000000001ff000002     2 00000004 0\n";
        assert_eq!(texts(&v6(igmp6)), ["1 ff02::1", "2 ff02::1:ff00:2"]);
    }

    #[test]
    fn how_often_all_hosts_are_taken_in_is_read_from_the_kernels_list() {
        let text = "1    lo              1     0     01005e000001\n\
                    12   eth0            3     0     01005e000001\n\
                    12   eth0            1     0     333300000001\n";
        assert_eq!(all_hosts(text), BTreeMap::from([(1, 1), (12, 3)]));
    }
}
