//! Builds the eBPF object and puts it where `program.rs` embeds it.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

fn main() -> Result<()> {
    let features = [("CARGO_FEATURE_TRACE", "trace"), ("CARGO_FEATURE_NEXT_ABI", "next-abi")];
    let features: Vec<_> = features
        .into_iter()
        .filter(|(on, _)| env::var_os(on).is_some())
        .map(|(_, feature)| feature)
        .collect();
    ebpf_build::build("icmp-ebpf", &features.join(","), &["icmp-ebpf"])?;
    println!("cargo:rustc-env=ICMP_CTL_BUILD={}", build_id(&ebpf_build::workspace()?));
    Ok(())
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
