//! The host as it is: its interfaces and addresses, and what of it stands against an answer.

pub mod address_table;
pub mod addresses;
pub mod conflicts;
pub mod defaults;
mod firewall;
mod iptables;
pub mod groups;
pub mod netlink;
mod nftables;
