//! What the kernel has to allow and to have before anything is done.

use anyhow::{Context as _, Result};

use crate::failure::{Exit, Failure};
use crate::kernel::bpffs;

/// Oldest kernel the program is tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Makes sure that programs can be loaded and pinned. Call it while the process has one thread only.
///
/// # Errors
/// They cannot: not root, an old kernel, no BPF file system.
pub(crate) fn prepare() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::error(
            Exit::Permission,
            "not root: the kernel lets only root load programs and read their maps; run it with sudo",
        ));
    }
    let release = nix::sys::utsname::uname().context("asking for the kernel's version")?;
    let release = release.release().to_string_lossy();
    if version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        return Err(Failure::error(
            Exit::Refused,
            format!(
                "this kernel is {release}, the program needs {major}.{minor} or newer; boot a newer kernel"
            ),
        ));
    }
    bpffs::ensure()
}

/// Major and minor version of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_their_numbers() {
        assert_eq!(version("6.1.0-28-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert!(version("6.18.44-fc").expect("a version") > OLDEST_KERNEL);
    }
}
