//! User namespaces: in any but the system's, the kernel checks other users and privileges than a process sees.
//!
//! Owns which one this process is in, and what is known there of a file's owner.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;

/// Number of the system's, `PROC_USER_INIT_INO` (include/linux/proc_ns.h).
const INITIAL: u64 = 0xefff_fffd;
/// Whom a user is seen as who has no number in a namespace, where the kernel does not tell another (`DEFAULT_OVERFLOWUID`, include/linux/highuid.h).
const OVERFLOW: u32 = 65534;

/// The number of this process's user namespace, where that is not the system's. bpf(2) wants capabilities of the system's, which no process
/// in another one has (`bpf_capable`, include/linux/capability.h), whatever it reads of itself.
pub(super) fn not_the_systems() -> Option<u64> {
    // Where it cannot be asked for, the kernel decides.
    let own = fs::metadata("/proc/self/ns/user").ok()?.ino();
    (own != INITIAL).then_some(own)
}

/// Who owns a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The system's root.
    Root,
    /// Somebody else.
    Other(u32),
    /// Nobody who can be told from root in this user namespace.
    Hidden(u64),
}

impl Owner {
    /// That of a file of which this is known.
    pub(crate) fn of(file: &Metadata) -> Self {
        let overflow = || fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
        match not_the_systems() {
            None => Self::seen(file.uid(), None),
            Some(namespace) => Self::seen(file.uid(), Some((namespace, overflow().unwrap_or(OVERFLOW)))),
        }
    }

    /// Of a number as it is seen; in another namespace than the system's, 0 may be anybody who was given it there, and the second number
    /// is that of all who were given none.
    fn seen(uid: u32, elsewhere: Option<(u64, u32)>) -> Self {
        match elsewhere {
            Some((namespace, overflow)) if uid == 0 || uid == overflow => Self::Hidden(namespace),
            None if uid == 0 => Self::Root,
            _ => Self::Other(uid),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Other(uid) => write!(f, "uid {uid}"),
            Self::Hidden(namespace) => write!(f, "a user that user namespace {namespace} does not show"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_in_the_systems_user_namespace_only() {
        assert_eq!(
            [0, 1000, 65534].map(|uid| Owner::seen(uid, None)),
            [Owner::Root, Owner::Other(1000), Owner::Other(65534)]
        );
        let inside = |uid| Owner::seen(uid, Some((7, 65534)));
        assert_eq!([0, 1000, 65534].map(inside), [Owner::Hidden(7), Owner::Other(1000), Owner::Hidden(7)]);
    }
}
