//! The BPF file system: there, or made to be there, where pins outlive the command.
//!
//! A pin lives as long as the mount it was made in. A command started by `ip netns exec` runs in a mount namespace of its own with
//! a fresh /sys, whose pins would be gone with the command; it is moved to the system's mount namespace first.

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, statfs};

/// Where it is mounted by convention.
const MOUNT_POINT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const MAGIC: FsType = FsType(0xcafe_4a11_u32 as _);

/// Makes sure that pins can be made and stay. Call it while the process has one thread only.
///
/// # Errors
/// It is not mounted and cannot be.
pub(crate) fn ensure() -> Result<()> {
    if is_mounted() {
        return Ok(());
    }
    if let Some(system) = system_mount_namespace() {
        setns(system, CloneFlags::CLONE_NEWNS).context(
            "no BPF file system is mounted here, and the system's mount namespace cannot be entered, so pins would be gone with \
             this command; run it with `nsenter --net=/run/netns/NAME icmp-ctl ...` instead of `ip netns exec`",
        )?;
        if is_mounted() {
            return Ok(());
        }
    }
    mount(Some("bpf"), MOUNT_POINT, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting the BPF file system; by hand: mount -t bpf bpf {MOUNT_POINT}"))
}

fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|fs| fs.filesystem_type() == MAGIC)
}

/// The mount namespace of the oldest ancestor that can be asked for it, if it is not this process's own. That is pid 1, except in a
/// sandbox that hides its pid 1.
fn system_mount_namespace() -> Option<File> {
    let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let own = namespace(std::process::id())?;
    let ancestors = std::iter::successors(Some(std::process::id()), |process| parent(*process));
    let (oldest, system) = ancestors.filter_map(|process| Some((process, namespace(process)?))).last()?;
    if system == own { None } else { File::open(format!("/proc/{oldest}/ns/mnt")).ok() }
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent != 0).then_some(parent)
}
