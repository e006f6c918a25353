//! The links of an instance: which interfaces have the program, and the state of each attachment.
//!
//! Owns the pins of links and the names beside them. A link stays with its device, also in another network namespace, and ends with it.
//! `attach.rs` puts the program on an interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow};

use crate::diagnostics::shell_word;
use crate::finding::{Finding, State};
use crate::host::netlink::{Link, links_once, namespace_number};
use crate::host::patterns::means;
use crate::instance::behind::{self, Behind, Chained};
use crate::instance::foreign::Attachment;
use crate::kernel::bpf::{self as sys, LinkInfo};
use crate::kernel::bpffs::{numbered, remove_if_there, unless_gone};

/// Directory of an instance's links, each named after its interface's index (names may have dots, which this file system refuses).
pub(super) const LINKS: &str = "links";
/// Directory of symbolic links whose targets are the names of those interfaces, as they were last seen here.
pub(super) const NAMES: &str = "names";

/// What has happened to a link whose interface is there and which is on none.
pub(super) const TAKEN_OFF: &str =
    "the program was taken off: a `detach` did not come to its end, or another process has detached the link";

/// A link.
#[derive(Clone, Debug)]
pub struct LinkPin {
    /// Index of the interface when it was attached; the link's pin is named after it.
    pub ifindex: u32,
    /// Name of the interface: as it is now, or was when it was last seen here.
    pub name: String,
    /// Kernel id of the program the link runs.
    pub program_id: u32,
    /// When it was attached, by the clock of that time.
    pinned_at: SystemTime,
    /// Where its interface is now.
    pub whereabouts: Whereabouts,
    /// The other program that ours was put in front of, or in; ours has no link of its own then.
    pub behind: Option<Behind>,
}

/// Those of pins whose interfaces a pattern means.
///
/// # Errors
/// There are none.
pub fn fitting<'a>(pins: &'a [LinkPin], links: &[Link], pattern: &str) -> Result<Vec<&'a LinkPin>> {
    let fitting: Vec<_> = pins.iter().filter(|pin| means(links, pattern, &pin.name)).collect();
    if fitting.is_empty() { Err(nothing_attached(pattern)) } else { Ok(fitting) }
}

/// That a name or a pattern means no interface which is attached.
pub fn nothing_attached(name: &str) -> anyhow::Error {
    anyhow!("{name}: nothing of ours is attached; `icmp-ctl status` lists what is")
}

impl LinkPin {
    /// Whether it is this interface's, of this network namespace.
    pub fn is_of(&self, link: &Link) -> bool {
        self.whereabouts == Whereabouts::Here && self.ifindex == link.index
    }

    /// When it was attached, by the clock of now. Where that was set since, the pin's time may lie in the future, or before its program was loaded, of
    /// which the kernel counts how long ago it is.
    pub fn attached_at(&self, loaded_at: Option<SystemTime>) -> SystemTime {
        let is_wrong =
            |loaded_at: &SystemTime| self.pinned_at < *loaded_at || self.pinned_at > SystemTime::now();
        loaded_at.filter(is_wrong).unwrap_or(self.pinned_at)
    }

    /// Whether ours is on an interface, wherever that is.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::Here | Whereabouts::Moved)
    }

    /// Whether it was this interface's, and is displaced there.
    pub fn was_on(&self, link: &Link) -> bool {
        matches!(self.whereabouts, Whereabouts::Displaced | Whereabouts::Alone) && self.ifindex == link.index
    }

    /// How it is attached to its interface, which is given where it is here; or why it is not.
    pub fn mode(&self, link: Option<&Link>) -> &'static str {
        match self.whereabouts {
            Whereabouts::Here => link.and_then(|link| link.xdp).map_or("none", |xdp| xdp.mode),
            Whereabouts::Displaced | Whereabouts::Alone => "displaced",
            Whereabouts::TakenOff => "taken off",
            Whereabouts::Moved => "moved",
            Whereabouts::Gone => "gone",
        }
    }

    /// The program behind it, and how the two are attached, as JSON.
    ///
    /// # Errors
    /// The kernel does not tell how.
    pub fn behind_now(&self) -> Result<Option<serde_json::Value>> {
        let Some(behind) = &self.behind else { return Ok(None) };
        let mut json = behind.json();
        if self.whereabouts == Whereabouts::Here {
            let on_it = if behind.priority.is_some() { behind.program_id } else { self.program_id };
            json["attached"] = Attachment::of(self.ifindex, on_it)?.text().into();
        }
        Ok(Some(json))
    }

    /// What is wrong with it.
    pub fn finding(&self) -> Option<Finding> {
        let (what, why, cure) = match self.whereabouts {
            Whereabouts::Here | Whereabouts::Gone => return None,
            Whereabouts::Moved => (
                "was moved to another network namespace".to_owned(),
                "the program answers there for addresses of this one".to_owned(),
                "detach",
            ),
            Whereabouts::Displaced => {
                (self.displaced(), "nothing is answered or limited here".to_owned(), "attach --chain")
            }
            Whereabouts::TakenOff => {
                (TAKEN_OFF.to_owned(), "nothing is answered or limited here".to_owned(), "attach")
            }
            Whereabouts::Alone => {
                let what = format!(
                    "{} is there alone, without the program in front of it: an `attach --chain` or a `detach` did not come to its end, or somebody \
                     has put it back",
                    self.behind_text()
                );
                let why = format!(
                    "nothing is answered or limited here; `icmp-ctl detach {}` clears away what is left",
                    shell_word(&self.name)
                );
                (what, why, "attach --chain")
            }
        };
        let finding = Finding::new("link", State::Broken, what, why).on(&self.name);
        Some(finding.fixed_by(format!("icmp-ctl {cure} {}", shell_word(&self.name))))
    }

    /// What has happened where somebody else has decided what is on the interface.
    pub fn displaced(&self) -> String {
        match &self.behind {
            Some(Behind { name, program_id, priority: None }) => format!(
                "the program is not there any more: what had attached {name} (program {program_id}), in front of which it was, has taken both off or put another in their place"
            ),
            // There the programs are put together by whoever comes or goes, and what a killed command has left looks like what another has done.
            _ => "the program is not there: what libxdp's dispatcher calls there is without it: somebody has taken that off, put another in its place or taken ours out of it, or an \
                  `attach --chain` or a `detach` did not come to its end"
                .to_owned(),
        }
    }

    /// The program behind it, as messages call it.
    fn behind_text(&self) -> String {
        let text = |behind: &Behind| format!("{} (program {})", behind.name, behind.program_id);
        self.behind.as_ref().map(text).unwrap_or_default()
    }
}

/// Where an interface is that was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In this network namespace.
    Here,
    /// In this one, but somebody else has taken our program off, which was in front of theirs.
    Displaced,
    /// In this one, but the program that ours was in front of is there alone.
    Alone,
    /// In this one, but another process has detached the link.
    TakenOff,
    /// In another one, where the program goes on answering for addresses of this one.
    Moved,
    /// Nowhere.
    Gone,
}

/// Where an interface's link is pinned.
pub(super) fn pin(directory: &Path, ifindex: u32) -> PathBuf {
    directory.join(LINKS).join(ifindex.to_string())
}

/// What is pinned there; `None` where it has been detached since the pins were listed.
fn info(pin: &Path) -> Result<Option<LinkInfo>> {
    unless_gone(pin, || sys::link_info(pin))
}

/// The links pinned in an instance's directory, by the index of their interface. `network` is what there is in its namespace.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn read(directory: &Path, network: &[Link]) -> Result<Vec<LinkPin>> {
    let mut links = Vec::new();
    for ifindex in numbered(&directory.join(LINKS))? {
        let pin = pin(directory, ifindex);
        let Some(info) = info(&pin)? else { continue };
        // The index alone may be that of another interface in another namespace.
        let here = network
            .iter()
            .find(|link| link.index == ifindex && link.index == info.ifindex && link.runs(info.program_id));
        let was_on = |link: &&Link| link.index == ifindex && link.name == name(directory, ifindex);
        let (whereabouts, called) = match (info.ifindex, here) {
            (0, _) if network.iter().any(|link| was_on(&link)) => (Whereabouts::TakenOff, None),
            (0, _) => (Whereabouts::Gone, None),
            (_, Some(link)) => (Whereabouts::Here, Some(link.name.clone())),
            (_, None) => (Whereabouts::Moved, None),
        };
        let pinned_at = fs::metadata(&pin).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let name = called.unwrap_or_else(|| name(directory, ifindex));
        links.push(LinkPin {
            ifindex,
            name,
            program_id: info.program_id,
            pinned_at,
            whereabouts,
            behind: None,
        });
    }
    for ifindex in behind::interfaces(directory)? {
        let link = network.iter().find(|link| link.index == ifindex);
        let Some(chained) = behind::chained(directory, ifindex, link)? else { continue };
        let Chained { entry, program_id, is_there, behind } = chained;
        let whereabouts = match link {
            Some(_) if is_there => Whereabouts::Here,
            Some(link) if behind.priority.is_none() && link.runs(behind.program_id) => Whereabouts::Alone,
            Some(_) => Whereabouts::Displaced,
            None => Whereabouts::Gone,
        };
        let pinned_at = behind::since(directory, entry, ifindex).unwrap_or(SystemTime::UNIX_EPOCH);
        let name = link.map_or_else(|| name(directory, ifindex), |link| link.name.clone());
        links.push(LinkPin { ifindex, name, program_id, pinned_at, whereabouts, behind: Some(behind) });
    }
    links.sort_by_key(|link| link.ifindex);
    Ok(links)
}

/// True where something of an instance is attached to an interface that exists, wherever that is; or was in front of another program on one.
///
/// # Errors
/// A pin cannot be read, or the kernel does not tell what interfaces there are.
pub(super) fn is_alive(directory: &Path) -> Result<bool> {
    for ifindex in numbered(&directory.join(LINKS))? {
        if info(&pin(directory, ifindex))?.is_some_and(|info| info.ifindex != 0) {
            return Ok(true);
        }
    }
    let chained = behind::interfaces(directory)?;
    if chained.is_empty() {
        return Ok(false);
    }
    // Those of another namespace cannot be asked for.
    let here = namespace_number()?.to_string();
    Ok(!directory.ends_with(here)
        || behind::are_of_this_namespace(directory)?
            && links_once()?.iter().any(|link| chained.contains(&link.index)))
}

/// The index under which the link is pinned that runs its program on this interface of another namespace, which was moved here.
///
/// # Errors
/// A pin cannot be read.
pub(super) fn moved_to(directory: &Path, link: &Link) -> Result<Option<u32>> {
    for ifindex in numbered(&directory.join(LINKS))? {
        let Some(info) = info(&pin(directory, ifindex))? else { continue };
        if info.ifindex == link.index && link.runs(info.program_id) {
            return Ok(Some(ifindex));
        }
    }
    // What has no link of its own is known by the index it has kept.
    let chained = behind::chained(directory, link.index, Some(link))?;
    Ok(chained.filter(|chained| chained.is_there).map(|_| link.index))
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

/// The interfaces of which a name is noted, by their indexes.
///
/// # Errors
/// The notes cannot be listed.
pub(super) fn noted(directory: &Path) -> Result<Vec<u32>> {
    numbered(&directory.join(NAMES))
}

/// Removes the pin of a link, and the note beside it.
///
/// # Errors
/// They cannot be removed.
pub(super) fn remove(directory: &Path, ifindex: u32) -> Result<()> {
    remove_if_there(&pin(directory, ifindex))?;
    remove_if_there(&directory.join(NAMES).join(ifindex.to_string()))
}

/// What an interface was called when it was attached.
pub(super) fn name(directory: &Path, ifindex: u32) -> String {
    fs::read_link(directory.join(NAMES).join(ifindex.to_string()))
        .map_or_else(|_| format!("index {ifindex}"), |name| name.display().to_string())
}
