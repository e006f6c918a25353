//! The links of an instance: which interfaces have the program, and what became of those that were attached.
//!
//! Owns the pins of links and the names beside them. A link stays with its device wherever that goes: into another network namespace, or
//! away. Putting the program on an interface is `attach.rs`'s.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::finding::{Finding, State};
use crate::host::netlink::Link;
use crate::kernel::bpf as sys;

/// Directory of an instance's links, each named after its interface's index (names may have dots, which this file system refuses).
pub(super) const LINKS: &str = "links";
/// Directory of symbolic links whose targets are the names of those interfaces, as they were last seen here.
pub(super) const NAMES: &str = "names";

/// A link.
#[derive(Clone, Debug)]
pub struct LinkPin {
    /// Index of the interface when it was attached; the link's pin is named after it.
    pub ifindex: u32,
    /// Name of the interface: as it is now, or was when it was last seen here.
    pub name: String,
    /// Kernel id of the program the link runs.
    pub program_id: u32,
    /// When it was attached.
    pub attached_at: SystemTime,
    /// Where its interface is now.
    pub whereabouts: Whereabouts,
}

impl LinkPin {
    /// Whether it is this interface's, of this network namespace.
    pub fn is_of(&self, link: &Link) -> bool {
        self.whereabouts == Whereabouts::Here && self.ifindex == link.index
    }

    /// What is wrong with it.
    pub fn finding(&self) -> Option<Finding> {
        (self.whereabouts == Whereabouts::Moved).then(|| {
            let what = "was moved to another network namespace";
            let why = "the program answers there for addresses of this one";
            Finding::new("link", State::Broken, what, why)
                .on(&self.name)
                .fixed_by(format!("icmp-ctl detach {}", self.name))
        })
    }
}

/// Where an interface is that was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In this network namespace.
    Here,
    /// In another one, where the program goes on answering for addresses of this one.
    Moved,
    /// Nowhere.
    Gone,
}

/// Where an interface's link is pinned.
pub(super) fn pin(directory: &Path, ifindex: u32) -> PathBuf {
    directory.join(LINKS).join(ifindex.to_string())
}

/// The links pinned in an instance's directory, by the index of their interface. `network` is what there is in its namespace.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn read(directory: &Path, network: &[Link]) -> Result<Vec<LinkPin>> {
    let mut links = Vec::new();
    for ifindex in indexes(directory)? {
        let pin = pin(directory, ifindex);
        let info = sys::link_info(&pin)?;
        // The index alone may be that of another interface in another namespace.
        let here = network
            .iter()
            .find(|link| link.index == ifindex && link.index == info.ifindex && link.runs(info.program_id));
        let whereabouts = match info.ifindex {
            0 => Whereabouts::Gone,
            _ if here.is_some() => Whereabouts::Here,
            _ => Whereabouts::Moved,
        };
        let attached_at =
            fs::metadata(&pin).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let name = here.map_or_else(|| name(directory, ifindex), |link| link.name.clone());
        links.push(LinkPin { ifindex, name, program_id: info.program_id, attached_at, whereabouts });
    }
    links.sort_by_key(|link| link.ifindex);
    Ok(links)
}

/// True where something of an instance is attached to an interface that exists, wherever that is.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn is_alive(directory: &Path) -> Result<bool> {
    Ok(!attached(directory)?.is_empty())
}

/// Those of an instance's links, by the index under which they are pinned, that are on an interface, wherever that is.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn attached(directory: &Path) -> Result<Vec<u32>> {
    let mut attached = Vec::new();
    for ifindex in indexes(directory)? {
        if sys::link_info(&pin(directory, ifindex))?.ifindex != 0 {
            attached.push(ifindex);
        }
    }
    Ok(attached)
}

/// The index under which the link is pinned that runs its program on this interface of another namespace, which was moved here.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn moved_to(directory: &Path, link: &Link) -> Result<Option<u32>> {
    for ifindex in indexes(directory)? {
        let info = sys::link_info(&pin(directory, ifindex))?;
        if info.ifindex == link.index && link.runs(info.program_id) {
            return Ok(Some(ifindex));
        }
    }
    Ok(None)
}

/// Notes what an interface is called, before its link is pinned and whenever it has got another name; the name of before if that is another
/// one.
///
/// # Errors
/// The note cannot be pinned.
pub(super) fn note_name(directory: &Path, ifindex: u32, now: &str) -> Result<Option<String>> {
    let before = name(directory, ifindex);
    if before == now {
        return Ok(None);
    }
    let note = directory.join(NAMES).join(ifindex.to_string());
    // The name of before, or that of an attach that was killed.
    remove_if_there(&note)?;
    std::os::unix::fs::symlink(now, &note).with_context(|| format!("pinning {}", note.display()))?;
    Ok(Some(before))
}

/// Removes the pin of a link, and the note beside it.
///
/// # Errors
/// They cannot be removed.
pub(super) fn remove(directory: &Path, ifindex: u32) -> Result<()> {
    remove_if_there(&pin(directory, ifindex))?;
    remove_if_there(&directory.join(NAMES).join(ifindex.to_string()))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the pin {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What an interface was called when it was attached.
pub(super) fn name(directory: &Path, ifindex: u32) -> String {
    fs::read_link(directory.join(NAMES).join(ifindex.to_string()))
        .map_or_else(|_| format!("index {ifindex}"), |name| name.display().to_string())
}

fn indexes(directory: &Path) -> Result<Vec<u32>> {
    let links = directory.join(LINKS);
    let entries = match fs::read_dir(&links) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", links.display()))?,
    };
    let mut indexes = Vec::new();
    for entry in entries {
        indexes.extend(entry?.file_name().to_string_lossy().parse::<u32>());
    }
    Ok(indexes)
}
