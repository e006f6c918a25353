//! The instance that replaces another: built beside it from its pins, put in its place at one instant, and cleared away after a kill.
//!
//! Owns the order that makes a kill at any point harmless: the directory of the version is in force until another one has its name, and the
//! next command that changes the instance has its links run what is pinned there. `upgrade.rs` owns the steps of an upgrade.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::diagnostics::note;
use crate::host::netlink::links_once;
use crate::instance::directory::{all_versions, make, remove, versions};
use crate::instance::dispatcher;
use crate::instance::foreign::Attachment;
use crate::instance::links::{self, LinkPin};
use crate::instance::places::next;
use crate::instance::program::{self, Entry};
use crate::kernel::bpf;

/// Begins the successor of an instance: pins in its directory what it has in common with it, which is all but the pins of these names.
///
/// # Errors
/// Something cannot be pinned.
pub(super) fn begin(instance: &Path, successor: &Path, without: &[&str]) -> Result<()> {
    make_parent(successor)?;
    pin_again(instance, successor, without)
        .with_context(|| format!("pinning what stays in {}", successor.display()))?;
    // Folders that the version before did not have.
    make(successor)
}

/// Hard links are pins of the same object, and have its time.
fn pin_again(from: &Path, to: &Path, without: &[&str]) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let (path, pin) = (entry.path(), to.join(&name));
        if without.iter().any(|without| *without == name) {
            continue;
        }
        if kind.is_dir() {
            pin_again(&path, &pin, &[])?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&path)?, &pin)?;
        } else {
            fs::hard_link(&path, &pin)?;
        }
    }
    Ok(())
}

/// Has an interface run an entry point as it is pinned in one directory, in the place of the same as it is pinned in another. It is attached by the
/// link that is pinned in the directory of the instance; in front of another program, as that one was; or by a dispatcher.
pub(super) fn run(instance: &Path, ifindex: u32, entry: Entry, before: &Path, after: &Path) -> Result<()> {
    let [before, after] = [before, after].map(|programs| programs.join(entry.program()));
    if Entry::ALONE.contains(&entry) {
        return Ok(bpf::update_link(&links::pin(instance, ifindex), &after)?);
    }
    let links = links_once()?;
    let link = links.iter().find(|link| link.index == ifindex).context("the interface is gone")?;
    if entry == Entry::Extension {
        return dispatcher::exchange(link, ProgramInfo::from_pin(before)?.id(), &after);
    }
    let xdp = link.xdp.context("the program is not there any more")?;
    let attachment = Attachment::of(ifindex, xdp.program_id)?;
    attachment.replace(link, xdp.mode, bpf::open(&before)?.as_fd(), bpf::open(&after)?.as_fd())
}

/// Puts a successor in the place of an instance, as that of a directory of this version: from now on it is the one that is in force. Where that is
/// the instance's own directory, the two are exchanged; where it is that of a later version, it comes beside the other's, and is the later one.
///
/// # Errors
/// The kernel refuses; the instance is still in force.
pub(super) fn replace(instance: &Path, successor: &Path, directory: &Path) -> Result<()> {
    let flags = if instance == directory {
        RenameFlags::EXCHANGE
    } else {
        // What an attach that was killed has left there.
        remove(directory)?;
        make_parent(directory)?;
        RenameFlags::NOREPLACE
    };
    renameat_with(CWD, successor, CWD, directory, flags)
        .with_context(|| format!("putting {} in the place of {}", successor.display(), instance.display()))
}

fn make_parent(directory: &Path) -> Result<()> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    fs::create_dir_all(parent).with_context(|| format!("making the pin directory {}", parent.display()))
}

/// Has the instance that is in force be whole, whatever an upgrade that was cut off has left: its links run its programs, and of what it has
/// taken the place of, or what was to take its own, nothing is left.
///
/// # Errors
/// A link cannot be made to run the program, or a pin cannot be read or removed.
pub(super) fn settle(directory: &Path) -> Result<()> {
    let in_force = versions(directory)?.pop();
    let next = next(directory);
    if next.exists() {
        if let Some((_, in_force)) = &in_force
            && take_back(in_force, &next)?
        {
            note(
                "an upgrade was cut off before it was done; the program of before is on all interfaces again",
            );
        }
        remove(&next)?;
    }
    // What was being removed may have lost its links, and with them all that tells it from none, before the rest.
    let mut others = all_versions(directory)?
        .into_iter()
        .filter(|other| in_force.as_ref().is_some_and(|one| one != other));
    others.try_for_each(|(_, other)| remove(&other))
}

/// True where a link ran a program that is not the instance's.
fn take_back(in_force: &Path, next: &Path) -> Result<bool> {
    let mut found = false;
    let links = links::read(in_force, &links_once()?)?;
    for LinkPin { ifindex, program_id, name, .. } in links.into_iter().filter(LinkPin::is_attached) {
        if program::entry_of(in_force, program_id)?.is_none()
            && let Some(entry) = program::entry_of(next, program_id)?
        {
            run(in_force, ifindex, entry, next, in_force)
                .with_context(|| format!("putting the program of before on {name} again"))?;
            found = true;
        }
    }
    Ok(found)
}
