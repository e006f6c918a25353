//! The documentation of the maps against their layouts.
//!
//! Owns that docs/map-abi.md has the version, the sizes and the numbers of the code.

use icmp_common::abi::{
    BUDGETS, COUNTERS, Cpu, HeavyHitter, Interface, Line, OwnFirst, RULE_COUNTERS, Rules, Settings, VERSION,
};
use icmp_common::budget::BUCKETS;
use icmp_common::reason::Reason;

const TEXT: &str = include_str!("../../docs/map-abi.md");

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    match digits.len() {
        0..=4 => digits,
        len => format!("{},{}", &digits[..len - 3], &digits[len - 3..]),
    }
}

/// Loading another entry point writes the sections anew: what the program had written meanwhile would be lost.
#[test]
fn no_map_that_the_program_writes_is_a_section() {
    const MAPS: &str = include_str!("../../icmp-ebpf/src/maps.rs");
    let rows =
        TEXT.lines().filter(|line| line.split('|').nth(2).is_some_and(|kind| kind.trim() == "section"));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.len(), MAPS.matches("link_section = \".data.").count(), "each section has its row");
    for row in rows {
        assert!(row[6].starts_with("controller"), "{} is written by: {}", row[1], row[6]);
    }
}

#[test]
fn the_documentation_has_the_number_and_the_verdict_of_each_reason() {
    for (number, reason) in Reason::ALL.iter().enumerate() {
        let buckets = format!("| {number} | `{}` | {} |", reason.name(), reason.verdict().name());
        assert!(TEXT.contains(&buckets), "docs/map-abi.md lacks {buckets}");
    }
}

#[test]
fn the_documentation_has_the_version_and_the_sizes_of_the_maps() {
    let lines = [
        format!("`VERSION` is {VERSION}."),
        format!("two buffers of `Settings`, {} bytes each", size_of::<Settings>()),
        format!("`Interface`, {} bytes each", size_of::<Interface>()),
        format!("`OwnFirst`, {} bytes each", size_of::<OwnFirst>()),
        format!("`Rules`, {} bytes", thousands(size_of::<Rules>())),
        format!("`Line`, {} bytes", size_of::<Line>()),
        format!("`Cpu`, {} bytes", size_of::<Cpu>()),
        format!("`HeavyHitter`, {} bytes", size_of::<HeavyHitter>()),
        format!("| `RULE_COUNTERS` | per-CPU array | u32 | {RULE_COUNTERS} |"),
        format!("| `BUDGETS` | array | u32 | {BUCKETS} |"),
        format!("| `COUNTERS` | per-CPU array | u32 | {} |", thousands(COUNTERS as usize)),
        format!("| {} | `types: ", std::mem::offset_of!(Settings, types)),
        format!("`budgets: [Limit; {BUDGETS}]`"),
    ];
    for line in lines {
        assert!(TEXT.contains(&line), "docs/map-abi.md lacks {line:?}");
    }
}
