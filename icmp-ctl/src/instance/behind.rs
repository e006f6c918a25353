//! Pins of the programs that ours are in front of, one for each such interface; and notes of those in a dispatcher.
//!
//! Owns their places and contents. `chain.rs` owns going in front of a program and putting it back.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use serde_json::json;

use crate::host::netlink::Link;
use crate::instance::places::next;
use crate::instance::program::Entry;
use crate::instance::{dispatcher, foreign};
use crate::kernel::bpffs::{numbered, remove_if_there, unless_gone};
use crate::kernel::netlink::namespace_cookie;

/// Symbolic link whose target is the cookie of the network namespace. Its number, by which the directory is called, another one has later, perhaps
/// with an interface of the same index, and a pin does not know its interface as a link does.
const NAMESPACE: &str = "namespace";

/// A program behind ours, or libxdp's dispatcher that calls ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Its kernel id; 0 for a dispatcher that is gone.
    pub program_id: u32,
    /// Its name.
    pub name: String,
    /// The priority of ours in a dispatcher; `None` where ours is in front of a program.
    pub priority: Option<u32>,
}

impl Behind {
    /// As words about ours.
    pub(crate) fn text(&self) -> String {
        let Self { program_id, name, priority } = self;
        match priority {
            None => {
                format!("in front of {name} (program {program_id}), which gets the frames that it passes")
            }
            Some(priority) => format!("in {name} (program {program_id}), priority {priority}"),
        }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({ "program_id": self.program_id, "name": self.name, "priority": self.priority })
    }
}

/// Ours in front of another, or in a dispatcher.
pub(super) struct Chained {
    /// Entry point of ours.
    pub(super) entry: Entry,
    /// Kernel id of ours.
    pub(super) program_id: u32,
    /// Whether ours is on the interface, by itself or in the dispatcher there.
    pub(super) is_there: bool,
    pub(super) behind: Behind,
}

/// Directory of the pins of programs behind an entry point, each named after its interface's index.
pub(super) const fn folder(entry: Entry) -> &'static str {
    match entry {
        Entry::Xdp | Entry::Chain => "behind",
        Entry::XdpFrags | Entry::ChainFrags => "behind_frags",
        Entry::Extension => "dispatched",
    }
}

/// Where the program behind ours on an interface is pinned.
pub(super) fn pin(directory: &Path, entry: Entry, ifindex: u32) -> PathBuf {
    directory.join(folder(entry)).join(ifindex.to_string())
}

/// The entry point that another program is pinned for as the one behind it on an interface.
pub(super) fn entry_on(directory: &Path, ifindex: u32) -> Option<Entry> {
    Entry::CHAINED.into_iter().find(|entry| pin(directory, *entry, ifindex).symlink_metadata().is_ok())
}

/// The interfaces on which a program is pinned as the one behind ours, by their indexes.
///
/// # Errors
/// The pins cannot be listed.
pub(super) fn interfaces(directory: &Path) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in Entry::CHAINED {
        all.extend(numbered(&directory.join(folder(entry)))?);
    }
    Ok(all)
}

/// What is pinned about an interface, which is given where it is here; `None` where there is no program behind ours, or none any more.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn chained(directory: &Path, ifindex: u32, link: Option<&Link>) -> Result<Option<Chained>> {
    let Some(entry) = entry_on(directory, ifindex) else { return Ok(None) };
    unless_gone(&pin(directory, entry, ifindex), || chained_by(directory, entry, ifindex, link))
}

fn chained_by(directory: &Path, entry: Entry, ifindex: u32, link: Option<&Link>) -> Result<Chained> {
    let info = |pin: PathBuf| {
        ProgramInfo::from_pin(&pin).with_context(|| format!("opening the program {}", pin.display()))
    };
    let in_dispatcher = entry == Entry::Extension;
    let behind = if in_dispatcher {
        self::in_dispatcher(link.and_then(|link| link.xdp).map_or(0, |xdp| xdp.program_id))
    } else {
        named(&info(pin(directory, entry, ifindex))?)
    };
    let runs = |link: &Link, id: &u32| {
        if in_dispatcher { dispatcher::calls(link.index, *id) } else { Ok(link.runs(*id)) }
    };
    let pinned = directory.join(entry.program());
    // An upgrade loads no extension where no dispatcher is left.
    let ours = if in_dispatcher && !pinned.exists() { 0 } else { info(pinned)?.id() };
    // While an upgrade is under way, an interface has the program that the other directory has.
    let upgraded = next(directory).join(entry.program());
    let upgraded = unless_gone(&upgraded, || Ok(info(upgraded.clone())?.id()))?;
    let mut there = None;
    for id in [Some(ours), upgraded].into_iter().flatten() {
        if there.is_none() && link.map_or(Ok(false), |link| runs(link, &id))? {
            there = Some(id);
        }
    }
    let (program_id, is_there) = (there.unwrap_or(ours), there.is_some());
    Ok(Chained { entry, program_id, is_there, behind })
}

/// Notes that ours is in the dispatcher of an interface.
///
/// # Errors
/// The note cannot be made.
pub(super) fn note_dispatcher(directory: &Path, ifindex: u32) -> Result<()> {
    let note = pin(directory, Entry::Extension, ifindex);
    symlink(dispatcher::NAME, &note).with_context(|| format!("making the note {}", note.display()))
}

/// Notes beside the pins which network namespace they are of, where that is not noted yet.
///
/// # Errors
/// The note cannot be made, or the kernel does not tell.
pub(super) fn note_namespace(directory: &Path) -> Result<()> {
    match symlink(namespace_cookie()?.to_string(), directory.join(NAMESPACE)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).context("noting the network namespace next to the pins")
        }
        _ => Ok(()),
    }
}

/// Whether pins in a directory of this namespace's number are of this namespace, and not of one that had its number before.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn are_of_this_namespace(directory: &Path) -> Result<bool> {
    let noted = fs::read_link(directory.join(NAMESPACE)).ok();
    Ok(noted == Some(namespace_cookie()?.to_string().into()))
}

/// When ours was put in front, where the pin tells.
pub(super) fn since(directory: &Path, entry: Entry, ifindex: u32) -> Option<SystemTime> {
    fs::symlink_metadata(pin(directory, entry, ifindex)).and_then(|pin| pin.modified()).ok()
}

/// A loaded program as one behind ours.
pub(super) fn named(info: &ProgramInfo) -> Behind {
    Behind { program_id: info.id(), name: foreign::name(info), priority: None }
}

/// A dispatcher that calls ours.
pub(super) fn in_dispatcher(program_id: u32) -> Behind {
    Behind { program_id, name: dispatcher::NAME.to_owned(), priority: Some(dispatcher::PRIORITY) }
}

/// Removes the pin of the program behind ours.
///
/// # Errors
/// It cannot be removed.
pub(super) fn remove(directory: &Path, ifindex: u32) -> Result<()> {
    Entry::CHAINED.into_iter().try_for_each(|entry| remove_if_there(&pin(directory, entry, ifindex)))
}
