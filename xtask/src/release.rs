//! `cargo xtask release`: icmp-ctl as it is shipped, for this machine.
//!
//! Owns the properties of the shipped program: static, so that it runs with any C library on the host; no larger than necessary; with nothing
//! in it about the machine that built it; and with the list of the crates in it. Cargo's profile `shipped` makes it small; the paths are
//! remapped by flags for the compiler, because stable cargo has no setting for that.

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use object::Endianness;
use object::elf::PT_INTERP;
use object::read::Object as _;
use object::read::elf::{ElfFile64, ProgramHeader as _};

use crate::{build, run, setup};

/// Those that there are packages for.
pub(crate) const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Most that the program may have, in bytes.
const MOST: usize = 8 << 20;

/// Where cargo-auditable writes the crates, and programs that look for known faults read them.
const CRATES: &str = ".dep-v0";

/// Build and look.
pub(crate) fn verb() -> Result<()> {
    setup::ready(setup::Purpose::Release)?;
    run::heading("Release");
    program(ARCH).map(drop)
}

/// What rustc calls the target whose programs are shipped for an architecture.
pub(crate) fn target(architecture: &str) -> String {
    format!("{architecture}-unknown-linux-musl")
}

/// Build for an architecture, and look. Expects `setup` to be done.
pub(crate) fn program(architecture: &str) -> Result<PathBuf> {
    let root = run::root()?;
    // The toolchain that runs this, as rustup calls it.
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    let mut flags = ebpf_build::remap_flags(&root, &toolchain)?;
    // The toolchain's own linker and C library, for any architecture: no compiler for C is asked.
    flags.extend(["-Clinker=rust-lld", "-Clink-self-contained=yes"].map(str::to_owned));
    // A folder of its own: other flags would have all be built again, here and the next time without them.
    let folder = root.join("target/shipped");
    let folder = folder.to_str().context("a path in UTF-8")?;
    let target = target(architecture);
    let arguments = ["--profile", "shipped", "--locked", "--target", &target, "--target-dir", folder];
    let program = build::shipped(&arguments, &flags)?.program;

    let bytes = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
    ensure!(bytes.len() <= MOST, "{} has {} bytes, and may have {MOST}", program.display(), bytes.len());
    for (path, _) in ebpf_build::paths(&root, &toolchain)? {
        let path = path.to_str().context("a path in UTF-8")?;
        ensure!(!contains(&bytes, path), "{} has the path {path} of this machine in it", program.display());
    }
    let elf = ElfFile64::<Endianness>::parse(&*bytes).context("understanding the program")?;
    let interpreted = elf.elf_program_headers().iter().any(|header| header.p_type(elf.endian()) == PT_INTERP);
    ensure!(!interpreted, "{} is not static", program.display());
    ensure!(
        elf.section_by_name(CRATES).is_some(),
        "{} does not say of which crates it is made",
        program.display()
    );
    println!(
        "  {}, {:.1} MB, static, with no path of this machine in it",
        program.display(),
        bytes.len() as f64 / 1e6
    );
    Ok(program)
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
