//! Every ICMP type: its name, its default action, and the clause behind that.
//!
//! Owns the rows made from data/icmp-types.tsv and their numbers in the counter map. It decides nothing about a packet; the policy does, from a
//! table that starts as these defaults.

use crate::wire::{icmpv4, icmpv6};

/// An IP version, as far as ICMP types and addresses depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and ICMP.
    V4,
    /// IPv6 and ICMPv6.
    V6,
}

impl Family {
    /// The name in JSON, metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// Handed to the kernel.
    Pass,
    /// Answered where every check holds, otherwise passed to the kernel; only echo requests can be.
    Answer,
    /// Handed to the kernel within the budget of its kind, discarded beyond it.
    Limit,
    /// Discarded.
    Drop,
}

impl Action {
    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Answer => "answer",
            Self::Limit => "limit",
            Self::Drop => "drop",
        }
    }
}

/// Whose budget a message is charged to. Kinds do not share one, so that a flood of one kind cannot cost the host another
/// (rule R-47 in docs/packet-path.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Budget {
    /// Echo requests: the total of replies sent.
    Replies,
    /// Replies kept back for known sources; part of `Replies`, never on top of it.
    KnownSources,
    /// Errors about the host's own packets.
    Errors,
    /// Fragmentation needed and packet too big.
    PathMtu,
    /// Neighbour discovery.
    NeighbourDiscovery,
    /// Multicast listener and multicast router discovery.
    MulticastListener,
    /// Replies to the host's own queries, and queries the kernel answers.
    Queries,
    /// Redirects.
    Redirects,
    /// Messages that fail a check which only counts them: they spend nothing that others need.
    Unverified,
}

impl Budget {
    /// All budgets in the order of their discriminants.
    pub const ALL: &[Self] = &[
        Self::Replies,
        Self::KnownSources,
        Self::Errors,
        Self::PathMtu,
        Self::NeighbourDiscovery,
        Self::MulticastListener,
        Self::Queries,
        Self::Redirects,
        Self::Unverified,
    ];

    /// The name in configuration, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replies => "replies",
            Self::KnownSources => "known-sources",
            Self::Errors => "errors",
            Self::PathMtu => "path-mtu",
            Self::NeighbourDiscovery => "neighbour-discovery",
            Self::MulticastListener => "multicast-listener",
            Self::Queries => "queries",
            Self::Redirects => "redirects",
            Self::Unverified => "unverified",
        }
    }
}

/// One row of the type table: a type, a range of types nobody distinguishes, or one code of a type.
#[derive(Clone, Copy, Debug)]
pub struct TypeRow {
    /// ICMP or ICMPv6.
    pub family: Family,
    /// First type of the row.
    pub first: u8,
    /// Last type of the row, the same as `first` but for ranges.
    pub last: u8,
    /// The one code this row is about, where a code has a row of its own.
    pub code: Option<u8>,
    /// nftables' name where it has one, a name in its style where it has none, the numbers for a range.
    pub name: &'static str,
    /// The registry's name.
    pub title: &'static str,
    /// current, deprecated or historic.
    pub status: &'static str,
    /// What is done by default.
    pub action: Action,
    /// Whose budget a limited message is charged to.
    pub budget: Budget,
    /// The clause behind the default.
    pub clause: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/types.rs"));

/// Rows in the counter map: three for frames without an ICMP type, then one for each of [`ROWS`].
pub const COUNTER_ROWS: usize = FIRST_TYPE_ROW as usize + ROWS.len();

/// Counter row of frames that are neither IPv4 nor IPv6.
pub const NO_IP_ROW: u8 = 0;
/// Counter row of IPv4 frames without a readable ICMP type.
pub const IPV4_ROW: u8 = 1;
/// Counter row of IPv6 frames without a readable ICMPv6 type.
pub const IPV6_ROW: u8 = 2;
/// Counter row of the first of [`ROWS`].
pub const FIRST_TYPE_ROW: u8 = 3;

const _: () = assert!(COUNTER_ROWS <= 256, "a counter row is kept in a byte");

/// Counter row of IPv4's echo requests.
pub(crate) const ECHO_ROW_V4: u8 = whole_row(Family::V4, icmpv4::ECHO_REQUEST);
/// Counter row of IPv6's echo requests.
pub(crate) const ECHO_ROW_V6: u8 = whole_row(Family::V6, icmpv6::ECHO_REQUEST);

/// Counter row of a family's echo requests.
#[inline(always)]
pub(crate) const fn echo_row(family: Family) -> u8 {
    match family {
        Family::V4 => ECHO_ROW_V4,
        Family::V6 => ECHO_ROW_V6,
    }
}

/// The counter row of a type none of whose codes has a row of its own.
const fn whole_row(family: Family, icmp_type: u8) -> u8 {
    let (row, other) = row_indices(family, icmp_type);
    assert!(other.is_none());
    FIRST_TYPE_ROW + row as u8
}

/// Family and type name of a counter row, as the metrics label them; empty where there is none.
pub const fn row_labels(row: usize) -> (&'static str, &'static str) {
    if row == NO_IP_ROW as usize {
        ("other", "")
    } else if row == IPV4_ROW as usize {
        (Family::V4.name(), "")
    } else if row == IPV6_ROW as usize {
        (Family::V6.name(), "")
    } else {
        let row = &ROWS[row - FIRST_TYPE_ROW as usize];
        (row.family.name(), row.name)
    }
}

/// The row that covers a type, and the one that refines one of its codes.
pub fn rows_of(family: Family, icmp_type: u8) -> (&'static TypeRow, Option<&'static TypeRow>) {
    static TABLE: [TypeRow; ROWS.len()] = ROWS;
    let (covers, refines) = row_indices(family, icmp_type);
    (&TABLE[covers], refines.map(|row| &TABLE[row]))
}

/// Positions in [`ROWS`] of what [`rows_of`] returns.
pub const fn row_indices(family: Family, icmp_type: u8) -> (usize, Option<usize>) {
    let covers = COVERS[family as usize][icmp_type as usize] as usize;
    match REFINES[family as usize][icmp_type as usize] {
        Some((_, row)) => (covers, Some(row)),
        None => (covers, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_in_a_row_of_its_family() {
        for family in [Family::V4, Family::V6] {
            for icmp_type in 0..=u8::MAX {
                let (row, _) = rows_of(family, icmp_type);
                assert_eq!(row.family, family);
                assert!((row.first..=row.last).contains(&icmp_type), "{family:?} {icmp_type}");
            }
        }
    }

    #[test]
    fn fragmentation_needed_has_a_row_of_its_own() {
        let (row, refined) = rows_of(Family::V4, 3);
        assert_eq!((row.budget, row.code), (Budget::Errors, None));
        let refined = refined.expect("3/4 is in the table");
        assert_eq!((refined.budget, refined.code), (Budget::PathMtu, Some(4)));
    }

    #[test]
    fn no_two_rows_of_a_family_share_a_name() {
        for (i, a) in ROWS.iter().enumerate() {
            for b in &ROWS[i + 1..] {
                assert!(a.family != b.family || a.name != b.name, "{}", a.name);
            }
        }
    }
}
