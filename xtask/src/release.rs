//! `cargo xtask release`: icmp-ctl as it is shipped.
//!
//! Owns what the shipped program may be: no larger than it has to be, and with nothing in it that tells about the machine it was built on.
//! Cargo's profile `shipped` makes it small; the paths are remapped by flags for the compiler, because stable cargo has no setting for that.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::{build, run, setup};

/// Most that the program may have, in bytes. It has 6.5 million.
const MOST: usize = 8 << 20;

pub(crate) fn verb() -> Result<()> {
    setup::ready(setup::Purpose::Build)?;
    check()
}

/// Builds it; where it is. Expects `setup` to be done.
pub(crate) fn build() -> Result<PathBuf> {
    let root = run::root()?;
    let flags = ebpf_build::remap_flags(&root, &toolchain())?;
    // A folder of its own: other flags would have all be built again, here and the next time without them.
    let folder = root.join("target/shipped");
    let folder = folder.to_str().context("a path in UTF-8")?;
    Ok(build::icmp_ctl_with(&["--profile", "shipped", "--target-dir", folder], &flags)?.program)
}

/// The toolchain that runs this, as rustup calls it.
fn toolchain() -> String {
    std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned())
}

/// Build and look. Expects `setup` to be done.
pub(crate) fn check() -> Result<()> {
    run::heading("Release");
    let program = build()?;
    let bytes = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
    ensure!(bytes.len() <= MOST, "{} has {} bytes, and may have {MOST}", program.display(), bytes.len());
    for (path, _) in ebpf_build::paths(&run::root()?, &toolchain())? {
        let path = path.to_str().context("a path in UTF-8")?;
        ensure!(!contains(&bytes, path), "{} has the path {path} of this machine in it", program.display());
    }
    println!(
        "  {}, {:.1} MB, with no path of this machine in it",
        program.display(),
        bytes.len() as f64 / 1e6
    );
    Ok(())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_path_is_found_wherever_it_is() {
        assert!(contains(b"\0\0/root/.cargo/x\0", "/root/.cargo") && !contains(b"/cargo/x", "/root/.cargo"));
    }
}
