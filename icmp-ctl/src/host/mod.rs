//! The host: its interfaces and addresses, and what on it is against an answer.

pub mod address_table;
pub mod addresses;
mod bridge_ports;
pub mod bridge_vlans;
pub mod checks;
pub mod conflicts;
pub mod defaults;
mod elsewhere;
mod firewall;
pub mod groups;
pub mod idle;
pub mod interfaces;
mod iptables;
mod left_out;
mod local_routes;
pub mod netlink;
mod nftables;
mod other_macs;
pub mod passed;
pub mod patterns;
pub mod received;
mod routes;
mod routing_rules;
#[cfg(test)]
mod testing;
pub mod vlan_stripping;
