//! An instance: the program, its maps and its links in one network namespace, as pins in the BPF file system.
//!
//! Owns finding and making an instance, and removing the rest of instances whose namespace is gone. The pins are the only state: no process has
//! to stay for them. `directory.rs` owns where they are, `links.rs` the links, `lock.rs` the lock.

use std::fs;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::diagnostics::{note_about, say_if_it_takes_long, shell_word, warn};
use crate::failure::{Exit, Failure, has_errno, sentence};
use crate::host::netlink::{Link, links_once};
use crate::instance::behind;
use crate::instance::directory::{
    directory, give_to_root, instances, is_root_there, lock, lock_pin, make, refuse_other_versions, remove,
    versions,
};
use crate::instance::links::{self, LinkPin, TAKEN_OFF, Whereabouts};
use crate::instance::lock::Lock;
use crate::instance::maps::InstanceMaps;
use crate::instance::places::ROOT;
use crate::instance::program::{self, Entry, LoadOptions, MAPS, explain_refusal};
use crate::instance::successor;
use crate::kernel::bpf as sys;

/// Symbolic link whose target is the file of the configuration that it was started with, where that is not the usual one.
const FILE_NAME: &str = "file";
/// The pin whose time of modification is when a policy was put in force last.
const SETTINGS: &str = "SETTINGS";
const NOTING_FILE: &str = "noting the configuration's file next to the pins";
/// How often a reader looks again: one change meanwhile is common where `serve` follows a busy host.
const READS: u32 = 100;

/// What is pinned of an instance.
pub struct Pins {
    pub(super) directory: PathBuf,
    /// The maps.
    pub maps: InstanceMaps,
}

/// The instance of a network namespace, to be looked at: it waits for nobody.
pub struct View(Pins);

/// The instance of a network namespace, to be changed: nobody else changes it meanwhile.
pub struct Instance {
    pins: Pins,
    lock: Lock,
}

impl View {
    /// Opens the instance of this namespace; `None` where there is none.
    ///
    /// # Errors
    /// Its pins are of another version, cannot be opened, or others than root may have made them.
    pub fn find() -> Result<Option<Self>> {
        if !is_root_there()? {
            return Ok(None);
        }
        let directory = directory()?;
        refuse_other_versions(&directory)?;
        if !links::is_alive(&directory)? {
            return Ok(None);
        }
        match open_maps(&directory) {
            Ok(maps) => Ok(Some(Self(Pins { directory, maps }))),
            // Removed while it was opened.
            Err(_) if !links::is_alive(&directory)? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the instance of this namespace.
    ///
    /// # Errors
    /// As [`Self::find`]; and [`Exit::NothingLoaded`] where there is none.
    pub fn open() -> Result<Self> {
        Self::find()?.ok_or_else(nothing_loaded)
    }

    /// Looks at the instance of this namespace, for what is pinned and in its maps; `None` where there is none. What is removed while it is looked
    /// at was not there, and one that has come in its place is looked at instead.
    ///
    /// # Errors
    /// As [`Self::find`]; those of `look`; or there was another instance each time.
    pub fn look<T>(look: impl Fn(&Self) -> Result<T>) -> Result<Option<T>> {
        let directory = directory()?;
        let number = || fs::metadata(&directory).map(|directory| directory.ino()).ok();
        for _ in 0..READS {
            let before = number();
            let found = match Self::find() {
                // It has come back while it was opened.
                Err(_) if number() != before => continue,
                found => found?,
            };
            let Some(view) = found else { return Ok(None) };
            let seen = look(&view);
            if number() == before && links::is_alive(&directory)? {
                return seen.map(Some);
            }
        }
        bail!(
            "the program has been removed and loaded again each of the {READS} times it was read; try again"
        )
    }
}

impl Deref for View {
    type Target = Pins;

    fn deref(&self) -> &Pins {
        &self.0
    }
}

impl Instance {
    /// Opens the instance of this namespace; `None` where there is none.
    ///
    /// # Errors
    /// Its pins are of another version, cannot be opened, or others than root may have made them; or another process changes it, and does
    /// not come to an end.
    pub fn find() -> Result<Option<Self>> {
        if !is_root_there()? {
            return Ok(None);
        }
        let directory = directory()?;
        if !directory.exists() && !lock_pin(&directory).exists() && versions(&directory)?.is_empty() {
            return Ok(None);
        }
        Ok(Self::find_under(lock(&directory)?, &directory)?.ok())
    }

    /// The instance of this namespace with the lock, or the lock alone.
    pub(super) fn find_under(lock: Lock, directory: &Path) -> Result<Result<Self, Lock>> {
        successor::settle(directory)?;
        refuse_other_versions(directory)?;
        if links::is_alive(directory)? {
            let mut instance = Self::under(lock, directory)?;
            instance.tidy()?;
            if links::is_alive(directory)? {
                if instance.maps.finish_rollback()? {
                    instance.note_applied();
                }
                return Ok(Ok(instance));
            }
            remove(directory)?;
            return Ok(Err(instance.lock));
        }
        // A namespace's number is used again after it is gone, so these may be the pins of another one; and an attach that was killed
        // leaves what it had made so far. Whoever makes an instance holds the lock until its first link is there.
        remove(directory)?;
        Ok(Err(lock))
    }

    fn under(lock: Lock, directory: &Path) -> Result<Self> {
        Ok(Self { pins: Pins { directory: directory.to_owned(), maps: open_maps(directory)? }, lock })
    }

    /// Opens the instance of this namespace.
    ///
    /// # Errors
    /// As [`Self::find`]; and [`Exit::NothingLoaded`] where there is none.
    pub fn open() -> Result<Self> {
        Self::find()?.ok_or_else(nothing_loaded)
    }

    /// Opens the instance of this namespace, or loads one; true where it was loaded just now.
    ///
    /// # Errors
    /// As [`Self::find`]; and `options` fails, or the kernel refuses the program ([`Exit::Refused`]).
    pub fn open_or_load(options: impl FnOnce() -> Result<LoadOptions>) -> Result<(Self, bool)> {
        if !is_root_there()? {
            match DirBuilder::new().mode(0o700).create(ROOT) {
                Ok(()) => give_to_root()?,
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("making the pin directory {ROOT}"));
                }
                // Made by another in between, who may be anybody.
                _ => _ = is_root_there()?,
            }
        }
        let directory = directory()?;
        let lock = match Self::find_under(lock(&directory)?, &directory)? {
            Ok(instance) => return Ok((instance, false)),
            Err(lock) => lock,
        };
        let options = options()?;
        match make(&directory).and_then(|()| load(&directory, &options)) {
            Ok(maps) => Ok((Self { pins: Pins { directory, maps }, lock }, true)),
            Err(error) => {
                // Half an instance is none; the first error is the one to tell.
                let _ = remove(&directory);
                Err(error)
            }
        }
    }

    /// The instance of another network namespace that has its program on an interface of this one, which was moved here; with the index
    /// the interface had there.
    ///
    /// # Errors
    /// Pins cannot be read, or another process changes that instance, and does not come to an end.
    pub fn of_elsewhere(link: &Link) -> Result<Option<(Self, u32)>> {
        let own = directory()?;
        for directory in instances()?.into_iter().filter(|directory| *directory != own) {
            if let Some(ifindex) = links::moved_to(&directory, link)? {
                return Ok(Some((Self::under(lock(&directory)?, &directory)?, ifindex)));
            }
        }
        Ok(None)
    }

    /// Notes what an interface is called, before its link is pinned where this says.
    ///
    /// # Errors
    /// The note cannot be pinned.
    pub(super) fn pin_for(&self, link: &Link) -> Result<PathBuf> {
        let _before = links::note_name(&self.directory, link.index, &link.name)?;
        Ok(links::pin(&self.directory, link.index))
    }

    /// Notes the file that the configuration it is started with is in.
    ///
    /// # Errors
    /// The note cannot be made; what was noted before is gone then.
    pub fn note_file(&mut self, file: Option<&Path>) -> Result<()> {
        let note = self.directory.join(FILE_NAME);
        match fs::remove_file(&note) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context(NOTING_FILE),
            _ => {}
        }
        let Some(file) = file else { return Ok(()) };
        std::path::absolute(file).and_then(|file| std::os::unix::fs::symlink(file, note)).context(NOTING_FILE)
    }

    /// An entry point, which is loaded if no interface has had a use for it so far.
    ///
    /// # Errors
    /// The kernel refuses it, or its pin cannot be opened.
    pub(super) fn program(&self, entry: Entry) -> Result<Xdp> {
        let pin = self.program_pin(entry);
        if !pin.exists() {
            let options = LoadOptions::of(&self.directory)?;
            say_if_it_takes_long("the kernel is verifying the program", || {
                program::load_beside(&options, &self.directory, entry, &pin)
            })
            .map_err(explain_refusal)?;
        }
        Xdp::from_pin(&pin, XdpAttachType::Interface)
            .with_context(|| format!("opening the program {}", pin.display()))
    }

    /// Takes the program off an interface, wherever that is: its link, or itself from in front of another program, which is alone again.
    ///
    /// # Errors
    /// It cannot be taken off, or the kernel does not put the other program in its place.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        let was_chained = self.put_back(ifindex)?;
        if !was_chained {
            sys::detach_link(&links::pin(&self.directory, ifindex))?;
        }
        // It is off, and what is left of a link is cleared away by whoever changes the instance next. What is left of one in front of another
        // program looks as if somebody else had taken it off, which is not for others to decide about.
        if let Err(error) = self.forget(ifindex) {
            let who = if was_chained {
                "the same `icmp-ctl detach` again"
            } else {
                "the next command that changes something"
            };
            warn(&format!("clearing away what was left: {}; {who} does it", sentence(&error)));
        }
        Ok(())
    }

    /// Removes what there is of a link that is off its interface, or was never on it.
    ///
    /// # Errors
    /// A pin cannot be removed, or the interface table cannot be written.
    pub(super) fn forget(&mut self, ifindex: u32) -> Result<()> {
        self.forget_behind(ifindex)?;
        links::remove(&self.directory, ifindex)?;
        self.maps.remove_interface(ifindex)
    }

    /// Clears away what an interface that is gone, or an attach that was killed, has left, and has the program stop answering on an
    /// interface that was moved away.
    fn tidy(&mut self) -> Result<()> {
        let links = self.links()?;
        for link in &links {
            match link.whereabouts {
                // What was decided about one that is displaced stays until it is attached again, or detached.
                Whereabouts::Here | Whereabouts::Displaced | Whereabouts::Alone => {
                    if let Some(before) = links::note_name(&self.directory, link.ifindex, &link.name)? {
                        let text = format!("{before}: is called {} now, and stays attached", link.name);
                        note_about("renamed", Some(&link.name), &text);
                    }
                }
                Whereabouts::Moved => {
                    self.detach(link.ifindex)?;
                    note_about(
                        "moved",
                        Some(&link.name),
                        &format!(
                            "{}: was moved to another network namespace, where the program would answer for addresses of this one; it was \
                         taken off",
                            link.name
                        ),
                    );
                }
                Whereabouts::TakenOff => {
                    self.forget(link.ifindex)?;
                    let text = format!(
                        "{}: {TAKEN_OFF}; `icmp-ctl attach {}` puts it on again",
                        link.name,
                        shell_word(&link.name)
                    );
                    note_about("taken-off", Some(&link.name), &text);
                }
                Whereabouts::Gone => {
                    self.forget(link.ifindex)?;
                    let text = format!("{}: is gone, and the program with it", link.name);
                    note_about("gone", Some(&link.name), &text);
                }
            }
        }
        let is_known = |ifindex: u32| links.iter().any(|link| link.ifindex == ifindex);
        // An attach notes its name and enters the interface first, and was killed before it had pinned the link; a detach does so last.
        for ifindex in links::noted(&self.directory)?.into_iter().filter(|ifindex| !is_known(*ifindex)) {
            links::remove(&self.directory, ifindex)?;
        }
        for entry in self.maps.interfaces()?.iter().filter(|entry| entry.is_attached()) {
            if !is_known(entry.ifindex) {
                self.maps.remove_interface(entry.ifindex)?;
            }
        }
        Ok(())
    }

    /// Removes the program and its maps; links that are left go with them.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory)
    }

    /// Removes the program and its maps where no interface has it any more.
    ///
    /// # Errors
    /// A pin cannot be read or removed.
    pub fn remove_if_unused(self) -> Result<Option<Self>> {
        if links::is_alive(&self.directory)? {
            return Ok(Some(self));
        }
        self.remove()?;
        Ok(None)
    }
}

impl Instance {
    /// Lets others change it.
    pub fn unlock(self) -> Pins {
        self.pins
    }
}

impl Deref for Instance {
    type Target = Pins;

    fn deref(&self) -> &Pins {
        &self.pins
    }
}

impl DerefMut for Instance {
    fn deref_mut(&mut self) -> &mut Pins {
        &mut self.pins
    }
}

impl Pins {
    /// Reads what consists of several maps, as it was at one time.
    ///
    /// # Errors
    /// A map cannot be read, or what is in force changes all the time.
    pub fn read<T>(&self, read: impl Fn(&InstanceMaps) -> Result<T>) -> Result<T> {
        for _ in 0..READS {
            let before = self.maps.switch()?;
            let value = read(&self.maps);
            if self.maps.switch()? == before {
                return value;
            }
        }
        bail!("the policy in force has changed each of the {READS} times it was read; try again")
    }

    /// Where an entry point is pinned.
    pub fn program_pin(&self, entry: Entry) -> PathBuf {
        self.directory.join(entry.program())
    }

    /// All links, those included whose interface is not here any more.
    ///
    /// # Errors
    /// A pin cannot be read, or the kernel does not tell what interfaces there are.
    pub fn links(&self) -> Result<Vec<LinkPin>> {
        self.links_among(&links_once()?)
    }

    /// As [`Self::links`], where these are all interfaces that there are.
    ///
    /// # Errors
    /// A pin cannot be read.
    pub fn links_among(&self, interfaces: &[Link]) -> Result<Vec<LinkPin>> {
        links::read(&self.directory, interfaces)
    }

    /// The build that loaded the program.
    pub fn build(&self) -> String {
        program::build_of(&self.directory)
    }

    /// The file that the configuration it was started with is in; `None` for the usual one.
    pub fn file(&self) -> Option<PathBuf> {
        fs::read_link(self.directory.join(FILE_NAME)).ok()
    }

    /// When a policy was put in force last; `None` where that cannot be known.
    pub fn applied_at(&self) -> Option<SystemTime> {
        fs::metadata(self.directory.join(SETTINGS)).and_then(|pin| pin.modified()).ok()
    }

    /// Notes that a policy was put in force just now.
    pub fn note_applied(&self) {
        let (pin, now) = (self.directory.join(SETTINGS), TimeSpec::UTIME_NOW);
        // It is a figure for who looks, and what it is about is done.
        let _ = utimensat(AT_FDCWD, &pin, &now, &now, UtimensatFlags::FollowSymlink);
    }

    /// The entry point a program id belongs to.
    ///
    /// # Errors
    /// The kernel does not tell what is pinned.
    pub fn entry_of(&self, program_id: u32) -> Result<Option<Entry>> {
        program::entry_of(&self.directory, program_id)
    }
}

/// Says that there is no instance, and what makes one.
pub fn nothing_loaded() -> anyhow::Error {
    Failure::error(
        Exit::NothingLoaded,
        "nothing is loaded in this network namespace; `icmp-ctl attach IFACE` loads and attaches the program",
    )
}

fn load(directory: &Path, options: &LoadOptions) -> Result<InstanceMaps> {
    let mut object =
        program::create(program::OBJECT, options, Some(directory), &[]).map_err(explain_refusal)?;
    program::note_build(directory)?;
    InstanceMaps::take(&mut object)
}

fn open_maps(directory: &Path) -> Result<InstanceMaps> {
    let opened = InstanceMaps::from_source(|name| {
        debug_assert!(MAPS.contains(&name));
        let pin = directory.join(name);
        let data = MapData::from_pin(&pin).with_context(|| format!("opening the map {}", pin.display()))?;
        Map::from_map_data(data).with_context(|| format!("the map {} is of an unknown type", pin.display()))
    });
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EPERM, libc::EACCES];
    opened.map_err(|error| {
        if has_errno(&error, &ours) {
            return error;
        }
        let in_front = behind::interfaces(directory).is_ok_and(|interfaces| !interfaces.is_empty());
        // That attachment is another's.
        let stays = "; where it is in front of another program it stays until who attached that ends, or `ip link set dev IFACE xdp off` takes off both";
        error.context(format!(
            "pins are missing in {0}; `rm -r {0}` takes the program off and removes the other pins{1}",
            directory.display(),
            if in_front { stays } else { "" }
        ))
    })
}
