//! The installed files: a folder like the root of a host.
//!
//! Owns the one list of them. Archive, packages and image are made of this folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Release, archive, files, make_anew};
use crate::run;

/// Files of the repository, and where they go: a folder, or another name.
const FILES: &[(&str, &str)] = &[
    ("deploy/config.toml", "etc/icmp-ctl/config.toml"),
    ("deploy/systemd/icmp-ctl.service", "usr/lib/systemd/system/"),
    ("deploy/systemd/icmp-ctl@.service", "usr/lib/systemd/system/"),
    ("deploy/sysusers.d/icmp-ctl.conf", "usr/lib/sysusers.d/"),
    ("deploy/tmpfiles.d/icmp-ctl.conf", "usr/lib/tmpfiles.d/"),
    ("deploy/prometheus/icmp-ctl.rules.yml", "usr/share/icmp-ctl/prometheus/"),
    ("deploy/grafana/icmp-ctl.json", "usr/share/icmp-ctl/grafana/"),
    ("deploy/icmp-ctl.schema.json", "usr/share/icmp-ctl/"),
    ("deploy/icmp-ctl-event.schema.json", "usr/share/icmp-ctl/"),
    ("deploy/debian/each-namespace.sh", "usr/share/icmp-ctl/"),
    ("deploy/debian/lintian-overrides", "usr/share/lintian/overrides/icmp-ctl"),
    ("LICENSE-MIT", "usr/share/licenses/icmp-ctl/"),
    ("LICENSE-APACHE", "usr/share/licenses/icmp-ctl/"),
    ("LICENSE-GPL2", "usr/share/licenses/icmp-ctl/"),
];

/// Where the tree is; the packages' lists of files (icmp-ctl/Cargo.toml) have it by this name.
const FOLDER: &str = "target/dist-tree";

/// Makes it, with this program. Manual and completions are written by `writer`, which is the same program and runs here.
pub(super) fn make(release: &Release, program: &Path, writer: &Path) -> Result<PathBuf> {
    let tree = release.root.join(FOLDER);
    make_anew(&tree)?;
    lay(&release.root, program, &tree)?;
    let changes = install(&release.root.join("CHANGELOG.md"), &tree, "usr/share/doc/icmp-ctl/changelog")?;
    archive::compress(&changes)?;
    manual(&tree, writer)?;
    for (shell, file) in [
        ("bash", "usr/share/bash-completion/completions/icmp-ctl"),
        ("zsh", "usr/share/zsh/vendor-completions/_icmp-ctl"),
        ("fish", "usr/share/fish/vendor_completions.d/icmp-ctl.fish"),
    ] {
        let script = run::capture(run::command(&writer.to_string_lossy()).args(["completions", shell]))?;
        write(&tree.join(file), script.as_bytes())?;
    }
    Ok(tree)
}

/// Lays the program and the files of the repository at `root` where they go in a tree.
pub(crate) fn lay(root: &Path, program: &Path, tree: &Path) -> Result<()> {
    install(program, tree, "usr/bin/icmp-ctl")?;
    for (file, to) in FILES {
        let name = file.rsplit('/').next().unwrap_or_default();
        let to = if to.ends_with('/') { format!("{to}{name}") } else { (*to).to_owned() };
        install(&root.join(file), tree, &to)?;
    }
    Ok(())
}

/// The pages, each in the folder of its section.
fn manual(tree: &Path, writer: &Path) -> Result<()> {
    let folder = tree.join("usr/share/man");
    run::capture(run::command(&writer.to_string_lossy()).arg("man").arg(&folder))?;
    for page in files(&folder)? {
        let section = page.rsplit('.').next().unwrap_or_default();
        let to = install(&folder.join(&page), tree, &format!("usr/share/man/man{section}/{page}"))?;
        fs::remove_file(folder.join(&page)).with_context(|| format!("moving {page}"))?;
        archive::compress(&to)?;
    }
    Ok(())
}

fn install(file: &Path, tree: &Path, to: &str) -> Result<PathBuf> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let to = tree.join(to);
    write(&to, &bytes)?;
    let executable = to.parent().is_some_and(|folder| folder.ends_with("bin"));
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(&to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", to.display()))?;
    Ok(to)
}

fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))
}
