//! Interfaces of the kernel that aya does not offer.

pub(crate) mod bpf;
pub(crate) mod bpffs;
pub mod clock;
pub(crate) mod command;
pub mod confine;
pub mod ethtool;
pub mod files;
pub(crate) mod holders;
pub(crate) mod http;
pub(crate) mod mapped;
pub(crate) mod membarrier;
pub(crate) mod memory;
pub mod netdev;
pub(crate) mod netlink;
pub mod pod;
pub(crate) mod requirements;
pub mod sockets;
pub mod threads;
pub(crate) mod user_namespace;
pub(crate) mod words;
