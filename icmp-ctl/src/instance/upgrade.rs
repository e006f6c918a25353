//! An upgrade: the program of this binary replaces the loaded one, on all interfaces of the network namespace or on none.
//!
//! Owns the checks before anything changes, and the order: load, update the links, put the successor in place. `successor.rs` owns the pins of
//! the two, and clearing up after a kill; `migration.rs` owns maps whose layout differs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::programs::ProgramFd;
use nix::libc;
use serde_json::json;

use crate::diagnostics::{say_if_it_takes_long, shell_word};
use crate::failure::{Exit, Failure, has_errno, sentence};
use crate::host::netlink::{Link, links_once};
use crate::instance::directory::{directory, foreign_version, is_root_there, lock, versions};
use crate::instance::dispatcher;
use crate::instance::links::{self, LinkPin};
use crate::instance::migration::{self, Different};
use crate::instance::pins::{Instance, nothing_loaded};
use crate::instance::places::next;
use crate::instance::program::{self, BUILD_NAME, Entry, LoadOptions, explain_refusal};
use crate::instance::successor;
use crate::kernel::membarrier::wait_for_readers;

/// What is loaded, and what an upgrade does with it.
pub struct Upgrade {
    instance: PathBuf,
    /// The version of its maps.
    pub version: u32,
    /// Those of its maps that cannot be used as they are.
    pub different: &'static [Different],
    /// The build that is loaded.
    pub build: String,
    /// The interfaces that get the program of this binary.
    pub interfaces: Vec<Upgraded>,
    /// The entry points that the pins of this or that interface are about, which may be gone.
    entries: Vec<Entry>,
}

/// An interface that an upgrade is about.
#[derive(Clone, Debug)]
pub struct Upgraded {
    name: String,
    ifindex: u32,
    /// Entry point of the program, which stays what it is.
    entry: Entry,
    /// Kernel id of the program that is on it.
    before: u32,
    /// Kernel id of the program that has taken its place; `None` where none has.
    after: Option<u32>,
}

impl Upgraded {
    /// As a line.
    pub fn text(&self) -> String {
        let Self { name, entry, before, after, .. } = self;
        let section = entry.section();
        match after {
            Some(after) => {
                format!("{name}: program {after} has taken the place of program {before}, {section}")
            }
            None => format!("{name}: program {before}, {section}, would be replaced"),
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        json!({ "name": self.name, "entry": self.entry.section(), "program_id_before": self.before, "program_id": self.after })
    }
}

impl Upgrade {
    /// Looks at what is loaded in this network namespace.
    ///
    /// # Errors
    /// Nothing is ([`Exit::NothingLoaded`]), or it is nothing that this binary could take the place of.
    pub fn plan() -> Result<Self> {
        if !is_root_there()? {
            return Err(nothing_loaded());
        }
        let directory = directory()?;
        let (version, instance) = versions(&directory)?.pop().ok_or_else(nothing_loaded)?;
        let Some(different) = migration::from(version) else {
            bail!("{}", foreign_version(version, &instance));
        };
        // That of an upgrade that was cut off is taken back first.
        let entry_of = |link: LinkPin| -> Result<_> {
            let entry = match program::entry_of(&instance, link.program_id)? {
                None => program::entry_of(&next(&directory), link.program_id)?,
                entry => entry,
            };
            Ok((link, entry))
        };
        let mut interfaces = Vec::new();
        let links = links::read(&instance, &links_once()?)?.into_iter().map(entry_of);
        let links = links.collect::<Result<Vec<_>>>()?;
        // Where no dispatcher is there any more, there is nothing to load an extension for.
        let is_used = |entry: &Entry| {
            links.iter().any(|(link, of_link)| {
                *of_link == Some(*entry) && (*entry != Entry::Extension || link.is_attached())
            })
        };
        let entries = Entry::ALL.into_iter().filter(is_used).collect();
        for (link, entry) in links.into_iter().filter(|(link, _)| link.is_attached()) {
            let Some(entry) = entry else {
                bail!(
                    "{0}: program {1} is on it, which icmp-ctl has not put there; `icmp-ctl detach {2}`, then `icmp-ctl attach {2}` puts \
                     its own there",
                    link.name,
                    link.program_id,
                    shell_word(&link.name)
                );
            };
            let (name, ifindex, before) = (link.name, link.ifindex, link.program_id);
            interfaces.push(Upgraded { name, ifindex, entry, before, after: None });
        }
        Ok(Self { version, different, build: program::build_of(&instance), instance, interfaces, entries })
    }

    /// Has the kernel verify the program of this binary, and does nothing else.
    ///
    /// # Errors
    /// The kernel refuses it ([`Exit::Refused`]).
    pub fn verify(&self) -> Result<()> {
        let options = LoadOptions::of(&self.instance)?;
        let (extension, others): (Vec<_>, Vec<_>) =
            self.entries.iter().partition(|entry| **entry == Entry::Extension);
        if !extension.is_empty() {
            let dispatcher = dispatcher_of(&self.interfaces)?;
            verifying(|| program::load_extension(&options, None, dispatcher))?;
        }
        verifying(|| program::load(&options, &others)).map(|_| ())
    }
}

/// Does it; what it was, and the instance that is in force then, where what that has replaced could be cleared away.
///
/// # Errors
/// As [`Upgrade::plan`]; or the kernel refuses the program or does not let it take the place of the other on one of the interfaces
/// ([`Exit::Refused`]). Then that one is on all of them, as before, or the error says that it may not be.
pub fn upgrade() -> Result<(Upgrade, Result<Instance>)> {
    if !is_root_there()? {
        return Err(nothing_loaded());
    }
    let directory = directory()?;
    let lock = lock(&directory)?;
    successor::settle(&directory)?;
    let mut plan = Upgrade::plan()?;
    if let Err(error) = take_place(&mut plan, &next(&directory), &directory) {
        return Err(match successor::settle(&directory) {
            Ok(()) => error.context("all is as before"),
            Err(also) => error.context(format!(
                "taking the upgrade back failed, and until the next command that changes something does so, both programs may be on interfaces: {}",
                sentence(&also)
            )),
        });
    }
    // It is done, whatever becomes of what it has replaced.
    let instance =
        Instance::find_under(lock, &directory).and_then(|found| found.map_err(|_| nothing_loaded()));
    Ok((plan, instance))
}

fn take_place(plan: &mut Upgrade, successor: &Path, directory: &Path) -> Result<()> {
    let Upgrade { instance, interfaces, entries, different, .. } = plan;
    let mut own = vec![BUILD_NAME];
    own.extend(Entry::ALL.map(Entry::program));
    own.extend(different.iter().map(|different| different.map));
    successor::begin(instance, successor, &own)?;
    program::note_build(successor)?;
    let options = LoadOptions::of(instance)?;
    program::create(program::OBJECT, &options, Some(successor), &[]).map_err(explain_refusal)?;
    migration::write(different, instance, successor)?;
    for entry in entries {
        let pin = successor.join(entry.program());
        if *entry == Entry::Extension {
            let dispatcher = dispatcher_of(interfaces)?;
            verifying(|| program::load_extension_beside(&options, successor, dispatcher, &pin))?;
        } else {
            verifying(|| program::load_beside(&options, successor, *entry, &pin))?;
        }
    }
    migration::raise_instants(different, instance, successor)?;
    for Upgraded { entry, after, .. } in &mut *interfaces {
        *after = Some(program::program_id_of(successor, *entry)?);
    }
    for Upgraded { name, entry, ifindex, .. } in interfaces {
        successor::run(instance, *ifindex, *entry, instance, successor)
            .map_err(|error| refusal(name, *entry, error))?;
    }
    if !different.is_empty() {
        // From then on the old program writes nothing any more.
        wait_for_readers()?;
        migration::raise_instants(different, instance, successor)?;
        migration::add_counters(different, instance, successor)?;
    }
    successor::replace(instance, successor, directory)
}

/// A dispatcher that calls ours on one of the interfaces.
fn dispatcher_of(interfaces: &[Upgraded]) -> Result<ProgramFd> {
    let links = links_once()?;
    let is_in_one = |link: &&Link| {
        interfaces.iter().any(|one| one.entry == Entry::Extension && one.ifindex == link.index)
    };
    let link = links.iter().find(is_in_one).and_then(|link| link.xdp);
    dispatcher::open(link.context("the dispatcher is gone")?.program_id)
}

fn verifying<T>(load: impl FnOnce() -> Result<T>) -> Result<T> {
    say_if_it_takes_long("the kernel is verifying the program", load).map_err(explain_refusal)
}

/// Why a link may not run another program: the kernel wants the attach type that the first one was loaded with (bpf_xdp_link_update() in
/// net/core/dev.c), and the driver may refuse too.
fn refusal(name: &str, entry: Entry, error: anyhow::Error) -> anyhow::Error {
    let why = if has_errno(&error, &[libc::EINVAL]) {
        ": it was loaded with another attach type, by a build with another library, or the driver refuses this one"
    } else {
        ""
    };
    let chain = if Entry::CHAINED.contains(&entry) { " --chain" } else { "" };
    error.context(Failure {
        exit: Exit::Refused,
        message: format!(
            "{name}: the program of this build cannot take the place of the one on it{why}. `icmp-ctl detach --all` and \
             `icmp-ctl attach{chain}` replace it, at this cost: until the program is loaded again, some seconds, the kernel answers, but not for VIPs, \
             and nothing is limited; counters, buckets, known sources and what was changed since the configuration was read begin anew"
        ),
    })
}
