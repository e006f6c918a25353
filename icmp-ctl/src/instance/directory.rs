//! The instances in the BPF file system.
//!
//! Owns the directory of all instances and who may own it, and the version of each instance's maps. `pins.rs` and `links.rs` own what is pinned
//! in an instance's directory; `places.rs` owns the names.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use icmp_common::abi::VERSION;
use nix::libc;

use crate::failure::{Exit, Failure};
use crate::finding::{Finding, State};
use crate::host::netlink::namespace_number;
use crate::instance::behind;
use crate::instance::links::{self, LINKS, NAMES};
use crate::instance::lock::{DEADLINE, Lock};
use crate::instance::migration;
use crate::instance::places::{ROOT, namespace, of_this_version};
use crate::instance::program::Entry;
use crate::kernel::user_namespace::Owner;

/// Where the BPF file system is: every user may make directories there.
const BPFFS: &str = "/sys/fs/bpf";
/// Directory of their locks, each named after its network namespace.
const LOCKS: &str = "locks";

/// The directory of the caller's network namespace.
pub(super) fn directory() -> Result<PathBuf> {
    Ok(of_this_version().join(namespace_number()?.to_string()))
}

/// The directories of the instances of all network namespaces.
pub(super) fn instances() -> Result<Vec<PathBuf>> {
    let directory = of_this_version();
    if !is_root_there()? || !directory.exists() {
        return Ok(Vec::new());
    }
    fs::read_dir(&directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("reading {}", directory.display()))
}

/// Makes the directory of all instances root's, where another user with the capabilities for it has made it.
pub(super) fn give_to_root() -> Result<()> {
    std::os::unix::fs::chown(ROOT, Some(0), Some(0)).map_err(|error| {
        // It would be refused from now on; the first error is the one to tell.
        let _ = fs::remove_dir(ROOT);
        anyhow!(
            "giving the pin directory {ROOT} to root, whose it has to be: {error}; CAP_CHOWN lets this user do so, and root makes it with: \
             install -d -m 700 {ROOT}"
        )
    })
}

/// The lock of the instance in a directory.
pub(super) fn lock(directory: &Path) -> Result<Lock> {
    Lock::take(&lock_pin(directory), directory, DEADLINE)
}

/// Where that is; it goes with the directory, unless who removes them is killed in between.
pub(super) fn lock_pin(directory: &Path) -> PathBuf {
    Path::new(ROOT).join(LOCKS).join(namespace(directory))
}

/// True where the directory of all instances is there, and nobody but root may have put something there.
pub(super) fn is_root_there() -> Result<bool> {
    match ownership()? {
        Some(finding) if finding.state == State::Unknown => {
            Err(Failure::error(Exit::Permission, finding.text()))
        }
        Some(finding) if finding.state == State::Broken => bail!("{}", finding.text()),
        found => Ok(found.is_some()),
    }
}

/// Whose the directory of all instances is; `None` where it is not there. What is pinned there is believed, so nobody but root may have made
/// it or put something there, or may once it is made.
///
/// # Errors
/// It cannot be looked at.
pub fn ownership() -> Result<Option<Finding>> {
    let looked_at = |path: &str, found: io::Result<fs::Metadata>| match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some).with_context(|| format!("looking at {path}")),
    };
    let Some(top) = looked_at(BPFFS, fs::metadata(BPFFS))? else { return Ok(None) };
    let broken = |what: String, why: &str, command: String| {
        Ok(Some(Finding::new("pins", State::Broken, what, why).fixed_by(command)))
    };
    let owner = Owner::of(&top);
    if let Owner::Hidden(namespace) = owner {
        let what = format!(
            "from user namespace {namespace} it cannot be seen whether {BPFFS} and its pins are root's"
        );
        return Ok(Some(Finding::new("pins", State::Unknown, what, "look at it outside of that namespace")));
    }
    if owner != Owner::Root || (top.mode() & 0o022 != 0 && top.mode() & libc::S_ISVTX == 0) {
        return broken(
            format!(
                "{BPFFS} is owned by {owner} with mode {:04o}, so other users than root may replace its pins",
                top.mode() & 0o7777
            ),
            "its pins would be trusted",
            format!("chown root {BPFFS} && chmod 1777 {BPFFS}"),
        );
    }
    let Some(there) = looked_at(ROOT, fs::symlink_metadata(ROOT))? else { return Ok(None) };
    let owner = Owner::of(&there);
    if !there.is_dir() || owner != Owner::Root {
        return broken(
            format!("{ROOT} was made by another user ({owner}), who can change its pins"),
            "removing it removes its pins as well",
            format!("rm -r {ROOT}"),
        );
    }
    if there.mode() & 0o077 != 0 {
        return broken(
            format!("{ROOT} can be entered by others than root (mode {:04o})", there.mode() & 0o7777),
            "they could open its pins",
            format!("chmod 700 {ROOT}"),
        );
    }
    Ok(Some(Finding::fine("pins", format!("{ROOT} is root's"))))
}

/// The instances of a directory's network namespace that are attached, each with the version of its maps, oldest first. The last one is in force:
/// there are others only where an upgrade was cut off before it had removed them.
pub(super) fn versions(directory: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut attached = Vec::new();
    for (version, instance) in all_versions(directory)? {
        if links::is_alive(&instance)? {
            attached.push((version, instance));
        }
    }
    Ok(attached)
}

/// The same with what is left of others, which have no link any more.
pub(super) fn all_versions(directory: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut versions = Vec::new();
    for folder in fs::read_dir(ROOT).with_context(|| format!("reading {ROOT}"))? {
        let folder = folder?;
        let name = folder.file_name();
        let version =
            name.to_str().and_then(|name| name.strip_prefix('v')).and_then(|name| name.parse().ok());
        let instance = folder.path().join(namespace(directory));
        versions.extend(version.map(|version| (version, instance)).filter(|(_, instance)| instance.exists()));
    }
    versions.sort();
    Ok(versions)
}

/// Two versions of the maps in one namespace would count and limit past each other.
pub(super) fn refuse_other_versions(directory: &Path) -> Result<()> {
    match versions(directory)?.last() {
        Some((version, _)) if *version != VERSION && migration::from(*version).is_some() => bail!(
            "an icmp-ctl of before is loaded in this network namespace, whose maps have another layout (v{version}, this one's is v{VERSION}); \
             `icmp-ctl upgrade` puts this one in its place"
        ),
        Some((version, other)) if *version != VERSION => bail!("{}", foreign_version(*version, other)),
        _ => Ok(()),
    }
}

/// That a version is loaded which this binary can do nothing with, and what can be done about it.
pub(super) fn foreign_version(version: u32, instance: &Path) -> String {
    let age = if version > VERSION { "a newer" } else { "an older" };
    format!(
        "{age} icmp-ctl is loaded in this network namespace, whose maps have another layout (v{version}, this one's is v{VERSION}), and nothing \
         is known of that here; use the icmp-ctl that attached it, to upgrade or to detach, or remove its pins: rm -r {}",
        instance.display()
    )
}

pub(super) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing the pins in {}", directory.display())),
    }
}

pub(super) fn make(directory: &Path) -> Result<()> {
    let chained = Entry::CHAINED.map(behind::folder);
    for folder in [LINKS, NAMES].iter().chain(&chained) {
        fs::create_dir_all(directory.join(folder))
            .with_context(|| format!("making the pin directory {}", directory.display()))?;
    }
    behind::note_namespace(directory)
}
