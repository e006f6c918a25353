//! The names of the directories of instances: `/sys/fs/bpf/icmp-ctl/v<ABI>/<namespace>`.
//!
//! Owns these paths, and reads none of them.

use std::path::{Path, PathBuf};

use icmp_common::abi::VERSION;

/// Directory of all instances of all versions, which only root may enter.
pub(super) const ROOT: &str = "/sys/fs/bpf/icmp-ctl";
/// Directory in which instances are made that take the place of others, each named after its network namespace.
const NEXT: &str = "next";

/// The directory of all instances of this version.
pub(super) fn of_this_version() -> PathBuf {
    Path::new(ROOT).join(format!("v{VERSION}"))
}

/// Where the instance is made that is to take the place of the one in a directory; and once it has, where that one is.
pub(super) fn next(directory: &Path) -> PathBuf {
    Path::new(ROOT).join(NEXT).join(namespace(directory))
}

/// The number of the network namespace whose instance has this directory.
pub(super) fn namespace(directory: &Path) -> &Path {
    directory.file_name().map_or(directory, Path::new)
}
