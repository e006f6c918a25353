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
    let workspace = ebpf_build::workspace()?;
    // Set where a release is built, whose commit is to be right: while one works, an object that is still right is not made again for each commit.
    println!("cargo:rerun-if-env-changed=ICMP_CTL_COMMIT");
    println!("cargo:rustc-env=ICMP_CTL_BUILD={}", build_id(&workspace));
    println!("cargo:rustc-env=ICMP_CTL_DATE={}", of_commit("%cs", &workspace).unwrap_or_default());
    Ok(())
}

/// Version and commit, for `status` to say which build loaded what.
fn build_id(workspace: &Path) -> String {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match of_commit("%h", workspace) {
        Some(commit) => format!("{version}+{commit}"),
        None => version,
    }
}

/// What git says of the commit that is built, where there is one.
fn of_commit(format: &str, workspace: &Path) -> Option<String> {
    let show = ["show", "--no-patch", "--abbrev=12"];
    let said = Command::new("git")
        .args(show)
        .arg(format!("--format={format}"))
        .current_dir(workspace)
        .output()
        .ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
