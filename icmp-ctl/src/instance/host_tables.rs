//! The tables of the packet path on the host, filled as the controller fills the maps.
//!
//! Owns which part of a policy and of the addresses goes into which table; icmp-common owns the tables and the packet path. The caller enters
//! interfaces.

use icmp_common::abi::{OwnFirst, Rules};
use icmp_common::host_tables::{HostTables, Layouts};

use crate::host::address_table::AddressTable;
use crate::instance::compiled::{Compiled, assign_slots};
use crate::instance::program::LoadOptions;

/// Tables with this policy and these addresses in force.
#[must_use]
pub fn host_tables(policy: &Compiled, addresses: &AddressTable, options: &LoadOptions) -> HostTables {
    host_tables_with_hint(policy, addresses, addresses.own_first(), options)
}

/// The same with something else asked first about addresses.
#[must_use]
pub fn host_tables_with_hint(
    policy: &Compiled,
    addresses: &AddressTable,
    own_first: Vec<OwnFirst>,
    options: &LoadOptions,
) -> HostTables {
    let mut rules = policy.rules.clone();
    assign_slots(&mut rules, []);
    HostTables::new(layouts(policy, rules, addresses, own_first, options))
}

/// What tables begin with where each of the rules has its slot.
pub(super) fn layouts(
    policy: &Compiled,
    rules: Box<Rules>,
    addresses: &AddressTable,
    own_first: Vec<OwnFirst>,
    options: &LoadOptions,
) -> Layouts {
    Layouts {
        settings: policy.settings,
        rules,
        prefixes4: policy.buckets.v4.iter().map(|bucket| bucket.0).collect(),
        prefixes6: policy.buckets.v6.iter().map(|bucket| bucket.0).collect(),
        addresses4: addresses.buckets4().to_vec(),
        addresses6: addresses.buckets6().to_vec(),
        own_first,
        lines: options.lines,
        secret: options.secret,
    }
}
