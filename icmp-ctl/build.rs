//! Builds the eBPF object and puts it where `program.rs` embeds it.
//!
//! Not aya-build: that fixes the compiler's flags, and the program needs two of its own (below), and it watches the eBPF crate only,
//! so that an edit in icmp-common would leave the old program embedded.

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

fn main() -> Result<()> {
    let manifest_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().context("icmp-ctl lies in the workspace")?;
    for input in [
        "ebpf-toolchain.toml",
        "Cargo.lock",
        "icmp-ebpf",
        "icmp-common/src",
        "icmp-common/data",
        "icmp-common/build.rs",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo:rerun-if-env-changed=ICMP_EBPF_FEATURES");
    let pin: Pin = toml::from_str(&fs::read_to_string(workspace.join("ebpf-toolchain.toml"))?)?;
    let toolchain = toolchain(&pin)?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "little" => "bpfel-unknown-none",
        endian => bail!("{endian}-endian hosts are not supported"),
    };
    let mut flags = vec![
        // Compare-and-swap needs the third instruction set.
        "-Ctarget-cpu=v3",
        // BTF describes the maps, and xdp-loader asks for it.
        "-Clink-arg=--btf",
        "-Cdebuginfo=2",
    ];
    // Wide loads of packet bytes, where the machine reads unaligned words as fast as aligned ones.
    if matches!(env::var("CARGO_CFG_TARGET_ARCH")?.as_str(), "x86_64" | "aarch64") {
        flags.push("-Ctarget-feature=+allows-misaligned-mem-access");
    }
    let target_dir = out_dir.join("ebpf-target");
    let status = Command::new("rustup")
        .args([
            "run",
            &toolchain,
            "cargo",
            "build",
            "--quiet",
            "--package",
            "icmp-ebpf",
            "--bins",
            "--release",
        ])
        .args(["--target", target, "-Zbuild-std=core"])
        .args(["--features", &env::var("ICMP_EBPF_FEATURES").unwrap_or_default()])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(workspace)
        // The host build's compiler and flags are not for this target.
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .status()
        .context("starting rustup to build the eBPF object; `cargo xtask setup` installs what it needs")?;
    if !status.success() {
        bail!("building the eBPF object failed ({status}); `cargo xtask setup` installs what it needs");
    }
    let built = target_dir.join(target).join("release/icmp-ebpf");
    fs::copy(&built, out_dir.join("icmp-ebpf")).with_context(|| format!("copying {}", built.display()))?;
    println!("cargo:rustc-env=ICMP_CTL_BUILD={}", build_id(workspace));
    Ok(())
}

/// The pinned toolchain by its dated name, or by the plain one where that is the same compiler.
fn toolchain(pin: &Pin) -> Result<String> {
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

/// Version and commit, for `status` to say which build loaded what.
fn build_id(workspace: &Path) -> String {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit =
        Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(workspace).output();
    match commit {
        Ok(output) if output.status.success() => {
            format!("{version}+{}", String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => version,
    }
}
