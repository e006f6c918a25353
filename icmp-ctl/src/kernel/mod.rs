//! What is asked of the kernel that aya does not offer.

pub(crate) mod bpf;
pub(crate) mod bpffs;
pub(crate) mod jiffies;
pub(crate) mod membarrier;
pub mod plain;
