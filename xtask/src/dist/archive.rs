//! Archives whose bytes do not depend on the machine: sorted, with the commit's time, all files owned by root.

use std::path::Path;

use anyhow::Result;

use super::Release;
use crate::run;

/// Of what is at these paths in a folder.
pub(super) fn plain(release: &Release, folder: &Path, paths: &[&str], to: &Path) -> Result<()> {
    let mut tar = run::command("tar");
    tar.args(["--sort=name", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{}", release.time)])
        .arg("-C")
        .arg(folder)
        .arg("-cf")
        .arg(to)
        .args(paths);
    run::capture(&mut tar).map(drop)
}

/// The same, compressed.
pub(super) fn compressed(release: &Release, folder: &Path, paths: &[&str], to: &Path) -> Result<()> {
    let bare = to.with_extension("");
    plain(release, folder, paths, &bare)?;
    compress(&bare)
}

/// A file, in the place of which there is one with `.gz` at its name's end.
pub(super) fn compress(file: &Path) -> Result<()> {
    // Without a name and a time.
    run::capture(run::command("gzip").args(["-9", "-n", "-f"]).arg(file)).map(drop)
}

/// A file's SHA-256, in hexadecimal digits.
pub(super) fn sha256(file: &Path) -> Result<String> {
    let said = run::capture(run::command("sha256sum").arg("-b").arg(file))?;
    Ok(said.chars().take_while(char::is_ascii_hexdigit).collect())
}
