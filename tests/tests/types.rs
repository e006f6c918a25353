//! The type table against the reference lists of all 256 ICMPv4 and 256 ICMPv6 types.
//!
//! Owns the comparison with tests/data/icmp4-types.csv and icmp6-types.csv, row by row and type by type, read by a parser of
//! its own.

use icmp_common::abi::type_index;
use icmp_common::policy::{Preset, preset_types};
use icmp_common::types::{Family, rows_of};

const LISTS: [(Family, &str); 2] = [
    (Family::V4, include_str!("../data/icmp4-types.csv")),
    (Family::V6, include_str!("../data/icmp6-types.csv")),
];

#[test]
fn every_type_is_named_and_treated_as_the_reference_lists_say() {
    let mut compared = 0;
    for (family, list) in LISTS {
        let mut next = 0_u16;
        for line in list.lines().skip(1) {
            let columns = columns(line);
            let [types, name, _, status, _, _, _, action, reason, _] = &columns[..] else {
                panic!("ten columns in {line:?}: {columns:?}");
            };
            let (first, last) = types.split_once('-').unwrap_or((types, types));
            let (first, last): (u16, u16) = (first.parse().expect("a type"), last.parse().expect("a type"));
            assert_eq!(first, next, "the list has no gap before {line:?}");
            next = last + 1;
            for icmp_type in first..=last {
                let icmp_type = u8::try_from(icmp_type).expect("a type is a byte");
                let (row, _) = rows_of(family, icmp_type);
                let entry = preset_types(Preset::Host)[type_index(family, icmp_type)];
                let at = format!("{} type {icmp_type}", family.name());
                assert_eq!((row.title, row.status), (name.as_str(), status.as_str()), "{at}");
                assert_eq!((row.action.name(), row.clause), (action.as_str(), reason.as_str()), "{at}");
                assert_eq!(entry.main.action, row.action as u8, "{at}, as the packet path sees it");
                compared += 1;
            }
        }
        assert_eq!(next, 256, "the list of {} ends with the last type", family.name());
    }
    assert_eq!(compared, 512);
}

/// The fields of a line, whose quotes are only around whole fields.
fn columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            other => columns.last_mut().expect("there is always one").push(other),
        }
    }
    columns
}
