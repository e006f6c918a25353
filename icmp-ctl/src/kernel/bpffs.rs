//! The BPF file system: found or mounted in a place where pins outlive the command.
//!
//! A pin lives as long as the mount in which it was made. A command started by `ip netns exec` runs in a mount namespace of its own with a
//! fresh /sys, whose pins would end with the command; so it is moved to the system's mount namespace first.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, statfs};

use crate::finding::{Finding, State};
use crate::kernel::files;

/// Where it is mounted by convention.
pub(super) const MOUNT_POINT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const MAGIC: FsType = FsType(0xcafe_4a11_u32 as _);
/// Number of the process namespace that the system was started in, `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
const INITIAL_PROCESSES: u64 = 0xefff_fffc;

/// Makes sure that pins can be made and stay. As [`enter`], it is about the thread that calls it.
///
/// # Errors
/// It is not mounted where pins would stay, and cannot be.
pub(crate) fn ensure() -> Result<()> {
    enter()?;
    if is_mounted() {
        return Ok(());
    }
    let mounted = mounted();
    if mounted.state == State::Broken {
        bail!("{}", mounted.text());
    }
    mount(Some("bpf"), MOUNT_POINT, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("mounting the BPF file system; by hand: mount -t bpf bpf {MOUNT_POINT}"))
}

/// Goes where pins outlive this command, if that is elsewhere. Call it while the process has no other thread that works with pins: this one alone goes.
///
/// # Errors
/// It may not.
pub(crate) fn enter() -> Result<()> {
    if let Some(oldest) = oldest_ancestor_elsewhere()
        && !is_that_of(oldest)
    {
        let system =
            File::open(format!("/proc/{oldest}/ns/mnt")).context("opening the system's mount namespace")?;
        files::keep().context("keeping what files this command sees")?;
        // A thread that has told what it is for may not have ended yet, and no thread enters that has its root directory in common with another
        // one (mntns_install in fs/namespace.c).
        unshare(CloneFlags::CLONE_FS).context("having a root directory of this thread's own")?;
        setns(system, CloneFlags::CLONE_NEWNS).context(
            "pins would be gone with the mount namespace of this command, and the system's cannot be entered; run it with \
             `nsenter --net=/run/netns/NAME icmp-ctl ...` instead of `ip netns exec`",
        )?;
    }
    Ok(())
}

/// Whether there is one, or can be.
pub(crate) fn mounted() -> Finding {
    if is_mounted() {
        Finding::fine("bpffs", format!("is mounted at {MOUNT_POINT}"))
    } else if fs::metadata("/proc/self/ns/pid").is_ok_and(|processes| processes.ino() == INITIAL_PROCESSES) {
        Finding::fine("bpffs", format!("none is mounted yet, `attach` mounts one at {MOUNT_POINT}"))
    } else {
        let what = "no BPF file system is mounted here, and this is a container";
        let why = format!(
            "with one that this command mounts would be gone pins and program; start the container with the system's \
             (`-v {MOUNT_POINT}:{MOUNT_POINT}`), or mount one in it if it stays for as long as the program is to run"
        );
        Finding::new("bpffs", State::Broken, what, why).fixed_by(format!("mount -t bpf bpf {MOUNT_POINT}"))
    }
}

/// Whether what is mounted here is what another process sees there: then pins stay without this mount namespace.
fn is_that_of(process: u32) -> bool {
    let device = |path: &str| fs::metadata(path).map(|top| top.dev());
    let there = format!("/proc/{process}/root{MOUNT_POINT}");
    is_mounted() && device(MOUNT_POINT).is_ok_and(|here| device(&there).is_ok_and(|there| there == here))
}

fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|fs| fs.filesystem_type() == MAGIC)
}

/// The oldest ancestor that can be asked for its mount namespace, if that is not this process's own. It is pid 1, except in a sandbox that
/// hides its pid 1.
fn oldest_ancestor_elsewhere() -> Option<u32> {
    let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let own = namespace(std::process::id())?;
    let ancestors = std::iter::successors(Some(std::process::id()), |process| parent(*process));
    let (oldest, system) = ancestors.filter_map(|process| Some((process, namespace(process)?))).last()?;
    (system != own).then_some(oldest)
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent != 0).then_some(parent)
}

/// Removes a pin, if it is there.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the pin {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What is read of a pin that was there; `None` where that has failed because it has been removed meanwhile, by somebody who has the lock.
///
/// # Errors
/// It is there, and cannot be read.
pub(crate) fn unless_gone<T>(pin: &Path, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    match read() {
        Err(_) if pin.symlink_metadata().is_err() => Ok(None),
        read => read.map(Some),
    }
}

/// The numbers that the pins in a folder are named after; none where there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn numbered(folder: &Path) -> Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", folder.display()))?,
    };
    let mut indexes = Vec::new();
    for entry in entries {
        indexes.extend(entry?.file_name().to_string_lossy().parse::<u32>());
    }
    Ok(indexes)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_goes_away_while_it_is_read_was_not_there_and_what_stays_and_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let pin = folder.path().join("7");
        let failing = |goes: bool| {
            fs::write(&pin, "").expect("a file");
            unless_gone(&pin, || -> Result<()> {
                if goes {
                    fs::remove_file(&pin)?;
                }
                bail!("it cannot be opened")
            })
        };
        assert_eq!(failing(true).expect("it is gone"), None);
        let _still_there = failing(false).expect_err("it cannot be read");
        assert_eq!(unless_gone(&pin, || Ok(7)).expect("it is read"), Some(7));
    }
}
