//! Files as whoever calls the command sees them, also after it has entered another mount namespace.
//!
//! Owns what is kept of the first one. `ip netns exec` shows the command files of that network namespace's own
//! (`/etc/netns/NAME/` over `/etc/`), and the command leaves that view to reach the pins.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The root of the first mount namespace, and that namespace, without which what is mounted in it would be gone.
static FIRST: OnceLock<(File, File)> = OnceLock::new();

/// Keeps what this process sees now.
pub(super) fn keep() -> std::io::Result<()> {
    let seen = (File::open("/")?, File::open("/proc/self/ns/mnt")?);
    // The first one is the caller's.
    let _ = FIRST.set(seen);
    Ok(())
}

/// The path by which to open what the caller calls so.
pub fn seen_by_caller(path: &Path) -> PathBuf {
    match (FIRST.get(), path.strip_prefix("/")) {
        (Some((root, _)), Ok(below)) => Path::new(&format!("/proc/self/fd/{}", root.as_raw_fd())).join(below),
        _ => path.to_owned(),
    }
}
