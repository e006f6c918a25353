//! The lines of `peers`.

use std::net::{IpAddr, Ipv4Addr};

use icmp_common::abi::Peer;

use super::*;
use crate::config::peers::NamedPeer;
use crate::instance::peers::Room;
use crate::policy::peers::halves;

fn row(address: &str, named: Option<usize>, peer: Peer) -> Row {
    let [(source_high, source_low), (destination_high, destination_low)] =
        [address, "192.0.2.1"].map(|address| halves(address.parse().expect("an address")));
    Row {
        named,
        silent: 321_000_000,
        since: 9_000_000_000,
        is_current: true,
        peer: Peer { source_high, source_low, destination_high, destination_low, ..peer },
    }
}

#[test]
fn lines_fit_eighty_columns_whatever_address_and_name_are() {
    let regular = Peer {
        identifier: 7,
        interval: 1_000_200_000,
        jitter: 1_234_567 << 4,
        received: 123_456,
        expected: 123_999,
        duplicates: 3,
        late: 12,
        ..Peer::FREE
    };
    let rows = [
        row("198.51.100.1", Some(0), regular),
        row("2001:db8:1111:2222:3333:4444:5555:6666", Some(1), regular),
        row("192.0.2.7", None, Peer { received: 1, expected: 1, ..Peer::FREE }),
    ];
    let named = ["frankfurt", "a-name-of-thirty-two-characters-"]
        .map(|name| NamedPeer { name: name.to_owned(), address: IpAddr::V4(Ipv4Addr::UNSPECIFIED) });
    let room = Room { without_place: 5, places: 512 };
    let seen = Seen { is_tracking: true, named: named.to_vec(), room, ..Seen::default() };
    let rows: Vec<_> = rows.iter().collect();
    let lines = lines(&seen, &rows, 5, true);
    assert_eq!(
        lines,
        [
            "ADDRESS       EVERY   GOT   LOST  TWICE  LATE  JITTER   SEEN  NAME",
            "198.51.100.1  1.00s  123k  0.4 %      3    12  1.23ms  321ms  frankfurt",
            "  to 192.0.2.1, identifier 7",
            "2001:db8:1111:2222:3333:4444:5555:6666 a-name-of-thirty-two-characters-",
            "              1.00s  123k  0.4 %      3    12  1.23ms  321ms",
            "  to 192.0.2.1, identifier 7",
            "192.0.2.7         -     1      -      0     0     0ns  321ms",
            "  to 192.0.2.1, identifier 0",
            "and 2 more; `-n 5` shows them",
            "5 answers went to who found no place in the table, which has 512; a higher `track` makes it larger when the program is loaded again",
        ]
    );
    assert!(lines[..8].iter().all(|line| line.chars().count() <= 80));
}
