//! libxdp's dispatcher: an XDP program that calls up to ten others in the order of their priorities, each as an extension of it.
//!
//! Owns libxdp's protocol (lib/libxdp/protocol.org of xdp-tools): a dispatcher's list of its programs, where these are pinned, and how a
//! dispatcher with other programs is built and takes its place. `chain.rs` owns when ours is in one.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::MapData;
use aya::programs::links::FdLink;
use aya::programs::{Extension, ProgramFd, ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::fcntl::{Flock, FlockArg};

use crate::diagnostics::warn;
use crate::host::netlink::{Link, links_once};
use crate::instance::foreign::{self, Attachment};
use crate::kernel::bpf;
use crate::kernel::bpffs::unless_gone;
use crate::kernel::user_namespace::Owner;

/// Name of a dispatcher, and of its main function.
pub(super) const NAME: &str = "xdp_dispatcher";
/// Our priority. Programs that ask for none have 50, and lower ones come first.
pub(super) const PRIORITY: u32 = 10;
/// `XDP_PASS`, and what a place without a program returns (`XDP_DISPATCHER_RETVAL`): the next program has its turn.
const GO_ON: u32 = 1 << 2 | 1 << 31;

/// Where libxdp pins the programs of all dispatchers. It is also its lock.
const PINS: &str = "/sys/fs/bpf/xdp";
/// The object that libxdp makes dispatchers from, and where distributions have it.
const OBJECT: &str = "xdp-dispatcher.o";
const OBJECTS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

/// `XDP_DISPATCHER_MAGIC`
const MAGIC: u8 = 236;
/// `MAX_DISPATCHER_ACTIONS`
const PLACES: usize = 10;

/// What a dispatcher says about its programs (`struct xdp_dispatcher_config`): magic number, version, number of programs and whether it takes
/// frames in several buffers, one byte each; then of each place what goes on to the next, the priority and flags, ten words of 32 bits each;
/// in version 3, whether it is bound to a device.
#[derive(Clone)]
struct Config(Vec<u8>);

impl Config {
    const VERSION: usize = 1;
    const COUNT: usize = 2;
    const FRAGS: usize = 3;
    const ACTIONS: usize = 4;
    const PRIORITIES: usize = Self::ACTIONS + 4 * PLACES;
    const FLAGS: usize = Self::PRIORITIES + 4 * PLACES;
    /// Also the size in version 2.
    const BOUND: usize = Self::FLAGS + 4 * PLACES;

    /// Checks that it is one of a version that is known here.
    fn of(bytes: Vec<u8>) -> Result<Self> {
        let is_known =
            bytes.len() >= Self::BOUND && bytes[0] == MAGIC && (2..=3).contains(&bytes[Self::VERSION]);
        ensure!(
            is_known && usize::from(bytes[Self::COUNT]) <= PLACES,
            "it is of another version than libxdp's versions 2 and 3"
        );
        ensure!(
            bytes.get(Self::BOUND).is_none_or(|bound| *bound == 0),
            "it is bound to a network card, and so would ours have to be"
        );
        Ok(Self(bytes))
    }

    fn count(&self) -> usize {
        usize::from(self.0[Self::COUNT])
    }

    fn word(&self, table: usize, place: usize) -> u32 {
        let at = table + 4 * place;
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    /// That of a dispatcher with these programs. It takes frames in one buffer only, as libxdp's does where one of the programs does.
    fn with(&self, components: &[Component]) -> Self {
        let mut bytes = self.0.clone();
        bytes[Self::COUNT] = components.len() as u8;
        bytes[Self::FRAGS] = 0;
        bytes[Self::ACTIONS..Self::BOUND].fill(0);
        for (place, component) in components.iter().enumerate() {
            let Component { actions, priority, flags, .. } = component;
            for (table, word) in
                [(Self::ACTIONS, actions), (Self::PRIORITIES, priority), (Self::FLAGS, flags)]
            {
                let at = table + 4 * place;
                bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        Self(bytes)
    }
}

/// A program that a dispatcher calls.
struct Component {
    program: Extension,
    program_id: u32,
    name: String,
    /// Verdicts after which the next program has its turn, as bits.
    actions: u32,
    priority: u32,
    flags: u32,
}

impl Component {
    fn pinned(pin: &Path, actions: u32, priority: u32, flags: u32) -> Result<Self> {
        let open = || -> Result<_> { Ok((Extension::from_pin(pin)?, ProgramInfo::from_pin(pin)?)) };
        let (program, info) = open().with_context(|| format!("opening the program {}", pin.display()))?;
        Ok(Self { program, program_id: info.id(), name: foreign::name(&info), actions, priority, flags })
    }
}

/// Whether a program is a dispatcher.
pub(super) fn is_one(info: &ProgramInfo) -> bool {
    info.name_as_str() == Some(NAME)
}

/// The program of a dispatcher, as what an extension is loaded for.
///
/// # Errors
/// It is gone, or may not be opened.
pub(super) fn open(program_id: u32) -> Result<ProgramFd> {
    Ok(found(program_id)?.fd()?)
}

fn found(program_id: u32) -> Result<ProgramInfo> {
    let info = foreign::program(program_id).with_context(|| {
        format!("opening {NAME} (program {program_id}), for which the kernel asks for CAP_SYS_ADMIN")
    })?;
    info.with_context(|| format!("{NAME} (program {program_id}) is gone; try again"))
}

/// Whether the dispatcher that an interface has now calls a program.
///
/// # Errors
/// The kernel does not tell which one that is.
pub(super) fn calls(ifindex: u32, program_id: u32) -> Result<bool> {
    let on_it = || -> Result<_> {
        let links = links_once()?;
        let link = links.into_iter().find(|link| link.index == ifindex);
        Ok(link.and_then(|link| link.xdp).map(|xdp| xdp.program_id))
    };
    let mut found = on_it()?;
    while let Some(dispatcher) = found {
        if programs(&pins(ifindex, dispatcher))?.contains(&program_id) {
            return Ok(true);
        }
        // The pins of one go with it, which may have been in between.
        found = on_it()?.filter(|now| *now != dispatcher);
    }
    Ok(false)
}

/// Kernel ids of the programs that are pinned in a folder; none where there is none.
fn programs(pins: &Path) -> Result<Vec<u32>> {
    let found = match fs::read_dir(pins) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.with_context(|| format!("reading {}", pins.display()))?,
    };
    let mut ids = Vec::new();
    for pin in found {
        let pin = pin.with_context(|| format!("reading {}", pins.display()))?.path();
        if pin.to_string_lossy().ends_with("-prog") {
            let info = || ProgramInfo::from_pin(&pin).with_context(|| format!("opening {}", pin.display()));
            ids.extend(unless_gone(&pin, info)?.map(|program| program.id()));
        }
    }
    Ok(ids)
}

/// Has a dispatcher call one of ours, before all that have a higher number for priority.
///
/// # Errors
/// As [`change`]; or all places are taken.
pub(super) fn join(link: &Link, program: &Path) -> Result<()> {
    change(link, |components| {
        ensure!(components.len() < PLACES, "its {PLACES} places are taken");
        let ours = Component::pinned(program, GO_ON, PRIORITY, 0)?;
        // As libxdp orders those of one priority.
        let before = |other: &&Component| (other.priority, &other.name) <= (ours.priority, &ours.name);
        let place = components.iter().take_while(before).count();
        components.insert(place, ours);
        Ok(())
    })
}

/// Has a dispatcher without one of ours take the place of the one with it, or none where it is the last one.
///
/// # Errors
/// As [`change`].
pub(super) fn leave(link: &Link, program_id: u32) -> Result<()> {
    change(link, |components| {
        components.retain(|component| component.program_id != program_id);
        Ok(())
    })
}

/// Has a dispatcher call another program in the place of one of ours.
///
/// # Errors
/// As [`change`]; or it does not call ours.
pub(super) fn exchange(link: &Link, program_id: u32, program: &Path) -> Result<()> {
    change(link, |components| {
        let ours = components.iter_mut().find(|component| component.program_id == program_id);
        let ours = ours.context("ours is not in it any more")?;
        *ours = Component::pinned(program, ours.actions, ours.priority, ours.flags)?;
        Ok(())
    })
}

/// Puts a dispatcher with other programs in the place of the one that is on an interface, from one instant to the next.
///
/// # Errors
/// It is of another version, cannot be made, or another one was put there meanwhile. What is there stays.
fn change(link: &Link, change: impl FnOnce(&mut Vec<Component>) -> Result<()>) -> Result<()> {
    let xdp = link.xdp.context("the program is not there any more")?;
    // libxdp takes it for each step; who replaces one between two steps finds another dispatcher than it has seen.
    let _lock = lock()?;
    let old = found(xdp.program_id)?;
    let config = config(&old)?;
    let old = old.fd()?;
    let old_pins = pins(link.index, xdp.program_id);
    let mut components = (0..config.count())
        .map(|place| {
            let word = |table| config.word(table, place);
            let pin = old_pins.join(format!("prog{place}-prog"));
            Component::pinned(&pin, word(Config::ACTIONS), word(Config::PRIORITIES), word(Config::FLAGS))
        })
        .collect::<Result<Vec<_>>>()?;
    change(&mut components)?;
    let attachment = Attachment::of(link.index, xdp.program_id)?;
    if components.is_empty() {
        attachment.take_off(link, xdp.mode, old.as_fd())?;
    } else {
        let mut object = load(&config.with(&components))?;
        let dispatcher: &mut Xdp = object.program_mut(NAME).context("no such program")?.try_into()?;
        let new_pins = pins(link.index, dispatcher.info()?.id());
        let done = fill(dispatcher.fd()?, &mut components, &new_pins)
            .and_then(|()| attachment.replace(link, xdp.mode, old.as_fd(), dispatcher.fd()?.as_fd()));
        if let Err(error) = done {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&new_pins);
            return Err(error);
        }
    }
    if let Err(error) = fs::remove_dir_all(&old_pins) {
        let text = format!("removing {}: {error}; `xdp-loader clean` does so", old_pins.display());
        warn(&text);
    }
    Ok(())
}

/// What a loaded dispatcher says about its programs.
fn config(dispatcher: &ProgramInfo) -> Result<Config> {
    let maps = dispatcher.map_ids()?.unwrap_or_default();
    let [map] = maps[..] else { bail!("it has {} maps, and libxdp's has one", maps.len()) };
    let map = MapData::from_id(map).context("opening the map with its programs")?;
    Config::of(bpf::value_of(&map).context("reading its programs")?)
}

/// Loads a dispatcher. It is made from the object that the host's libxdp makes its own from, which goes by the same version of the protocol.
fn load(config: &Config) -> Result<Ebpf> {
    let path = object().with_context(|| {
        format!(
            "libxdp's {OBJECT} is not below {}, as it is where libxdp is installed: with it a dispatcher for one program more is made",
            OBJECTS.join(", ")
        )
    })?;
    let load = || -> Result<_> {
        let object = fs::read(&path)?;
        let mut object = EbpfLoader::new().override_global("conf", &config.0[..], true).load(&object)?;
        let dispatcher: &mut Xdp = object.program_mut(NAME).context("no such program")?.try_into()?;
        dispatcher.load()?;
        Ok(object)
    };
    load().with_context(|| format!("loading a dispatcher from {}", path.display()))
}

fn object() -> Option<PathBuf> {
    let folders = OBJECTS.into_iter().flat_map(|folder| {
        // Debian has a folder for each architecture.
        let inner = fs::read_dir(folder).into_iter().flatten().flatten().map(|inner| inner.path());
        std::iter::once(PathBuf::from(folder)).chain(inner)
    });
    folders.map(|folder| folder.join("bpf").join(OBJECT)).find(|path| path.exists())
}

/// Has a dispatcher that is nowhere so far call these programs, and pins that.
fn fill(dispatcher: &ProgramFd, components: &mut [Component], pins: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(pins).with_context(|| format!("making {}", pins.display()))?;
    let alone = components.len() == 1;
    for (place, component) in components.iter_mut().enumerate() {
        let Component { program, name, .. } = component;
        let function = if alone { NAME.to_owned() } else { format!("prog{place}") };
        let mut link = || -> Result<FdLink> {
            let id = program.attach_to_program(dispatcher, &function)?;
            Ok(program.take_link(id)?.into())
        };
        let link = link().with_context(|| format!("putting {name} in the new dispatcher"))?;
        let pin = pins.join(format!("prog{place}-link"));
        link.pin(&pin).with_context(|| format!("pinning the link as {}", pin.display()))?;
        bpf::pin(program.fd()?.as_fd(), &pins.join(format!("prog{place}-prog")))?;
    }
    Ok(())
}

fn pins(ifindex: u32, dispatcher: u32) -> PathBuf {
    Path::new(PINS).join(format!("dispatch-{ifindex}-{dispatcher}"))
}

fn lock() -> Result<Flock<File>> {
    let take = || -> Result<_> {
        let folder = File::open(PINS)?;
        ensure!(
            Owner::of(&folder.metadata()?) == Owner::Root,
            "it is not root's, and its pins would be trusted"
        );
        Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    };
    take().with_context(|| format!("locking {PINS}, where libxdp pins what dispatchers call"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatcher_of_another_version_is_none_that_ours_joins() {
        let bytes = |length: usize, head: [u8; 3]| {
            let mut bytes = vec![0; length];
            bytes[..3].copy_from_slice(&head);
            bytes
        };
        for (length, head) in [(124, [MAGIC, 2, 1]), (128, [MAGIC, 3, 10])] {
            assert_eq!(Config::of(bytes(length, head)).expect("known").count(), usize::from(head[2]));
        }
        for (length, head) in [
            (84, [1, 0, 0]),
            (124, [1, 2, 1]),
            (124, [MAGIC, 1, 1]),
            (124, [MAGIC, 2, 11]),
            (128, [MAGIC, 4, 1]),
        ] {
            assert!(Config::of(bytes(length, head)).is_err(), "{length} {head:?}");
        }
        let mut bound = bytes(128, [MAGIC, 3, 1]);
        bound[124] = 1;
        assert!(Config::of(bound).is_err());
    }
}
