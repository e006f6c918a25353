//! Packages for Debian's and Red Hat's families, made of the tree. icmp-ctl/Cargo.toml has their descriptions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Release, names};
use crate::{build, release, run};

/// The first package of a version.
pub(super) const REVISION: &str = "1";

/// The list of the package's versions, as Debian wants it and icmp-ctl/Cargo.toml names it.
const CHANGES: &str = "target/dist-changelog";

/// A package of this revision, in a folder.
pub(super) fn deb(release: &Release, architecture: &str, revision: &str, folder: &Path) -> Result<PathBuf> {
    let version = format!("{}-{revision}", release.version);
    let file = folder.join(format!("icmp-ctl_{version}_{}.deb", names(architecture)?.debian));
    let changes = format!(
        "icmp-ctl ({version}) unstable; urgency=medium\n\n  * Version {}: /usr/share/doc/icmp-ctl/changelog.gz says what has changed.\n\n -- {}  {}\n",
        release.version, release.maintainer, release.day
    );
    fs::write(release.root.join(CHANGES), changes).with_context(|| format!("writing {CHANGES}"))?;
    let mut deb = by_cargo(release, "deb")?;
    // Nothing is left to be built or stripped.
    deb.args(["--package", "icmp-ctl", "--no-build", "--no-strip", "--quiet", "--locked", "--target"])
        .arg(release::target(architecture))
        .args(["--deb-revision", revision, "--maintainer", &release.maintainer, "--output"])
        .arg(&file);
    run::capture(&mut deb)?;
    Ok(file)
}

/// The same.
pub(super) fn rpm(release: &Release, architecture: &str, revision: &str, folder: &Path) -> Result<PathBuf> {
    let file = folder.join(format!("icmp-ctl-{}-{revision}.{architecture}.rpm", release.version));
    let mut rpm = by_cargo(release, "generate-rpm")?;
    rpm.args(["--package", "icmp-ctl", "--auto-req", "disabled", "--arch", architecture, "--output"])
        .arg(&file)
        .args(["--set-metadata", &format!("release = \"{revision}\"")]);
    run::capture(&mut rpm)?;
    Ok(file)
}

fn by_cargo(release: &Release, verb: &str) -> Result<Command> {
    let mut cargo = build::cargo()?;
    cargo.arg(verb).env("SOURCE_DATE_EPOCH", &release.time);
    Ok(cargo)
}
