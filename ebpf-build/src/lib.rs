//! For build scripts: builds an eBPF package of this workspace and puts the object into `OUT_DIR`.
//!
//! Owns the compiler's flags and the choice of the toolchain, so a measured program is built like the shipped one.
//!
//! aya-build is not used: it fixes the compiler's flags, and the programs need two of their own (below); and it watches the eBPF crate only, so
//! an edit in icmp-common would leave the old program embedded.
#![forbid(unsafe_code)]

mod embedded;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

/// The part of ebpf-toolchain.toml that matters here.
#[derive(serde::Deserialize)]
struct Pin {
    nightly: String,
    rustc: String,
}

/// What every object is made from, next to its own sources.
const SHARED_INPUTS: [&str; 5] =
    ["ebpf-toolchain.toml", "Cargo.lock", "icmp-common/src", "icmp-common/data", "icmp-common/build.rs"];

/// The workspace's folder, from the build script of a package that lies directly in it.
///
/// # Errors
/// This is no build script.
pub fn workspace() -> Result<PathBuf> {
    let manifest_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    Ok(manifest_dir.parent().context("the package lies in the workspace")?.to_owned())
}

/// Builds `package`, whose one binary has the same name, with these features (as cargo takes them); the object, without DWARF, is `OUT_DIR/package`.
/// It is made again when one of `inputs`, paths in the workspace, changes.
///
/// # Errors
/// The toolchain is not there, or the build fails.
pub fn build(package: &str, features: &str, inputs: &[&str]) -> Result<()> {
    let workspace = workspace()?;
    for input in SHARED_INPUTS.iter().chain(inputs) {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    let toolchain = toolchain(&workspace)?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "little" => "bpfel-unknown-none",
        endian => bail!("{endian}-endian hosts are not supported"),
    };
    let mut flags: Vec<String> = [
        // Compare-and-swap needs the third instruction set.
        "-Ctarget-cpu=v3",
        // BTF describes the maps, and xdp-loader asks for it.
        "-Clink-arg=--btf",
        "-Cdebuginfo=2",
    ]
    .map(str::to_owned)
    .into();
    // Wide loads of packet bytes, where the machine reads unaligned words as fast as aligned ones.
    if matches!(env::var("CARGO_CFG_TARGET_ARCH")?.as_str(), "x86_64" | "aarch64") {
        flags.push("-Ctarget-feature=+allows-misaligned-mem-access".to_owned());
    }
    flags.extend(remap_flags(&workspace, &toolchain)?);
    // OUT_DIR is PROFILE/build/PACKAGE/out. One folder for all that is built by a profile: `core`, which takes longest, is the same in each object.
    let profile = out_dir.ancestors().nth(3).context("OUT_DIR lies in the folder of a profile")?;
    let target_dir = profile.join("ebpf-target");
    let status = Command::new("rustup")
        .args(["run", &toolchain, "cargo", "build", "--quiet", "--package", package, "--bins", "--release"])
        .args(["--target", target, "-Zbuild-std=core"])
        .args(["--features", features])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&workspace)
        // The host build's compiler and flags are not for this target.
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // What is stripped from the host's program is what the verifier's log and the maps go by here.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .status()
        .context("starting rustup to build the eBPF object; `cargo xtask setup` installs what it needs")?;
    if !status.success() {
        bail!("building the eBPF object failed ({status}); `cargo xtask setup` installs what it needs");
    }
    let built = target_dir.join(target).join("release").join(package);
    let object = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let embedded = out_dir.join(package);
    fs::write(&embedded, embedded::without_dwarf(&object)?)
        .with_context(|| format!("writing {}", embedded.display()))?;
    Ok(())
}

/// Folders of the building machine that the compiler would write into what it makes, and what it is to write there.
///
/// # Errors
/// The toolchain does not tell where it is.
pub fn paths(workspace: &Path, toolchain: &str) -> Result<Vec<(PathBuf, &'static str)>> {
    let sysroot = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .output()
        .context("asking rustup where the toolchain is")?;
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    Ok(vec![
        (String::from_utf8_lossy(&sysroot.stdout).trim().into(), "/rust"),
        (cargo, "/cargo"),
        (workspace.to_owned(), "/icmp-ctl"),
    ])
}

/// The compiler's flags for [`paths`].
///
/// # Errors
/// As [`paths`].
pub fn remap_flags(workspace: &Path, toolchain: &str) -> Result<Vec<String>> {
    let paths = paths(workspace, toolchain)?;
    Ok(paths.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect())
}

/// The pinned toolchain by its dated name, or by the plain one where that is the same compiler.
fn toolchain(workspace: &Path) -> Result<String> {
    let pin: Pin = toml::from_str(&fs::read_to_string(workspace.join("ebpf-toolchain.toml"))?)?;
    for name in [pin.nightly.as_str(), "nightly"] {
        let version = Command::new("rustup").args(["run", name, "rustc", "--version"]).output();
        if version
            .is_ok_and(|v| v.status.success() && String::from_utf8_lossy(&v.stdout).contains(&pin.rustc))
        {
            return Ok(name.to_owned());
        }
    }
    bail!("no rustc {} found, as ebpf-toolchain.toml pins it; `cargo xtask setup` installs it", pin.rustc)
}
