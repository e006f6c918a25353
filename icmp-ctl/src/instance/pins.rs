//! An instance: the program, its maps and its links in one network namespace, as pins in the BPF file system.
//!
//! Owns the pin directory (`/sys/fs/bpf/icmp-ctl/v<ABI>/<namespace>`), the lock that writers take, finding and making an instance, and cleaning up after
//! namespaces and interfaces that are gone. The pins are the only truth: no process has to stay for them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData, MapInfo, MapType};
use aya::programs::ProgramInfo;
use icmp_common::abi::VERSION;
use nix::fcntl::{Flock, FlockArg};

use crate::failure::{Exit, Failure};
use crate::instance::maps::InstanceMaps;
use crate::instance::program::{self, BUILD, Entry, LoadOptions, MAPS};
use crate::kernel::bpf as sys;

/// Directory of all instances of all versions.
const ROOT: &str = "/sys/fs/bpf/icmp-ctl";
/// Directory of an instance's links, each named after its interface's index (names may have dots, which this file system refuses).
const LINKS: &str = "links";
/// Symbolic link whose target is the build that loaded the program.
const BUILD_NAME: &str = "build";

/// The instance of the caller's network namespace.
pub struct Instance {
    directory: PathBuf,
    /// The maps.
    pub maps: InstanceMaps,
    _lock: Flock<File>,
}

/// A link pin.
#[derive(Clone, Debug)]
pub struct LinkPin {
    /// Index of the interface.
    pub ifindex: u32,
    /// Kernel id of the program the link runs.
    pub program_id: u32,
    /// When it was attached.
    pub attached_at: SystemTime,
}

impl Instance {
    /// Opens the instance of this namespace; `None` where there is none.
    ///
    /// # Errors
    /// Its pins are of another version, or cannot be opened.
    pub fn find() -> Result<Option<Self>> {
        if !Path::new(ROOT).exists() {
            return Ok(None);
        }
        Ok(Self::find_under(lock()?)?.ok())
    }

    /// The instance of this namespace with the lock, or the lock alone.
    fn find_under(lock: Flock<File>) -> Result<Result<Self, Flock<File>>> {
        let directory = directory()?;
        refuse_other_versions()?;
        if !directory.exists() || is_stale(&directory)? {
            return Ok(Err(lock));
        }
        let mut maps = open_maps(&directory)?;
        maps.settle()?;
        Ok(Ok(Self { maps, directory, _lock: lock }))
    }

    /// Opens the instance of this namespace.
    ///
    /// # Errors
    /// As [`Self::find`]; and [`Exit::NothingLoaded`] where there is none.
    pub fn open() -> Result<Self> {
        Self::find()?.ok_or_else(|| {
            Failure::error(
                Exit::NothingLoaded,
                "nothing is loaded in this network namespace; `icmp-ctl attach IFACE` loads and attaches the program",
            )
        })
    }

    /// Opens the instance of this namespace, or loads one; true where it was loaded just now.
    ///
    /// # Errors
    /// As [`Self::find`]; and the kernel refuses the program ([`Exit::Refused`]).
    pub fn open_or_load(options: &LoadOptions) -> Result<(Self, bool)> {
        fs::create_dir_all(ROOT).with_context(|| format!("making the pin directory {ROOT}"))?;
        let lock = match Self::find_under(lock()?)? {
            Ok(instance) => return Ok((instance, false)),
            Err(lock) => lock,
        };
        let directory = directory()?;
        remove(&directory)?;
        fs::create_dir_all(directory.join(LINKS))
            .with_context(|| format!("making the pin directory {}", directory.display()))?;
        let loaded = load(&directory, options);
        match loaded {
            Ok(maps) => Ok((Self { directory, maps, _lock: lock }, true)),
            Err(error) => {
                // Half an instance is none; the first error is the one to tell.
                let _ = remove(&directory);
                Err(error)
            }
        }
    }

    /// Where an entry point is pinned.
    pub fn program_pin(&self, entry: Entry) -> PathBuf {
        self.directory.join(entry.program())
    }

    /// Where an interface's link is pinned.
    pub fn link_pin(&self, ifindex: u32) -> PathBuf {
        self.directory.join(LINKS).join(ifindex.to_string())
    }

    /// All links that still have their interface; the pins of others are removed, with their entries in the interface table.
    ///
    /// # Errors
    /// A pin cannot be read or removed.
    pub fn links(&mut self) -> Result<Vec<LinkPin>> {
        let mut links = Vec::new();
        for (path, named) in link_pins(&self.directory)? {
            let info = sys::link_info(&path)?;
            if info.ifindex == named {
                let attached_at =
                    fs::metadata(&path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                links.push(LinkPin { ifindex: named, program_id: info.program_id, attached_at });
            } else {
                fs::remove_file(&path)
                    .with_context(|| format!("removing the stale pin {}", path.display()))?;
                self.maps.remove_interface(named)?;
            }
        }
        links.sort_by_key(|link| link.ifindex);
        Ok(links)
    }

    /// The build that loaded the program.
    pub fn build(&self) -> String {
        fs::read_link(self.directory.join(BUILD_NAME))
            .map_or_else(|_| "unknown".to_owned(), |t| t.display().to_string())
    }

    /// Takes a link off its interface.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        let pin = self.link_pin(ifindex);
        sys::detach_link(&pin)?;
        fs::remove_file(&pin).with_context(|| format!("removing the link pin {}", pin.display()))?;
        self.maps.remove_interface(ifindex)
    }

    /// Removes the program and its maps; links that are left go with them.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory)
    }

    /// The entry point a program id belongs to.
    pub fn entry_of(&self, program_id: u32) -> Option<Entry> {
        Entry::ALL.into_iter().find(|entry| {
            ProgramInfo::from_pin(self.program_pin(*entry)).is_ok_and(|info| info.id() == program_id)
        })
    }
}

/// The directory of the caller's network namespace.
fn directory() -> Result<PathBuf> {
    let namespace = fs::metadata("/proc/self/ns/net").context("looking up the network namespace")?.ino();
    Ok(Path::new(ROOT).join(format!("v{VERSION}")).join(namespace.to_string()))
}

/// Held by whoever looks at or changes an instance, until it is dropped.
fn lock() -> Result<Flock<File>> {
    let root = File::open(ROOT).with_context(|| format!("opening the pin directory {ROOT}"))?;
    Flock::lock(root, FlockArg::LockExclusive)
        .map_err(|(_, errno)| anyhow::anyhow!("locking {ROOT}: {errno}"))
}

/// Two versions of the maps in one namespace would count and limit past each other.
fn refuse_other_versions() -> Result<()> {
    let namespace = directory()?.file_name().map(ToOwned::to_owned).unwrap_or_default();
    for version in fs::read_dir(ROOT).with_context(|| format!("reading {ROOT}"))? {
        let version = version?.file_name();
        let other = Path::new(ROOT).join(&version).join(&namespace);
        if version.to_string_lossy() != format!("v{VERSION}") && other.is_dir() && !is_stale(&other)? {
            bail!(
                "an icmp-ctl whose maps have another layout ({}) is loaded in this network namespace, this one's is v{VERSION}; \
                 detach with the icmp-ctl that attached it, or remove its pins: rm -r {}",
                version.to_string_lossy(),
                other.display()
            );
        }
    }
    Ok(())
}

/// True where nothing of an instance is attached to an interface that exists; its pins are removed.
///
/// A namespace's number is used again after it is gone, so a directory may be a leftover of another namespace; and an attach that was
/// killed leaves what it had made so far. Whoever makes an instance holds the lock until its first link is there.
fn is_stale(directory: &Path) -> Result<bool> {
    for (path, _) in link_pins(directory)? {
        if sys::link_info(&path)?.ifindex != 0 {
            return Ok(false);
        }
    }
    remove(directory)?;
    Ok(true)
}

fn link_pins(directory: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let links = directory.join(LINKS);
    let mut pins = Vec::new();
    if links.exists() {
        for pin in fs::read_dir(&links).with_context(|| format!("reading {}", links.display()))? {
            let pin = pin?;
            if let Ok(ifindex) = pin.file_name().to_string_lossy().parse() {
                pins.push((pin.path(), ifindex));
            }
        }
    }
    Ok(pins)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing the pins in {}", directory.display())),
    }
}

fn load(directory: &Path, options: &LoadOptions) -> Result<InstanceMaps> {
    let mut object = program::load(options, Some(directory)).map_err(|error| {
        // Permission has an exit code of its own, all else is the kernel's refusal; EACCES is the verifier's.
        if crate::failure::has_errno(&error, &[nix::libc::EPERM]) {
            error
        } else {
            error.context(Failure { exit: Exit::Refused, message: REFUSED.into() })
        }
    })?;
    for entry in Entry::ALL {
        let pin = directory.join(entry.program());
        program::xdp(&mut object, entry)?
            .pin(&pin)
            .with_context(|| format!("pinning the program as {}", pin.display()))?;
    }
    std::os::unix::fs::symlink(BUILD, directory.join(BUILD_NAME))
        .context("noting the build next to the pins")?;
    InstanceMaps::take(&mut object)
}

const REFUSED: &str = "the kernel refused the program";

fn open_maps(directory: &Path) -> Result<InstanceMaps> {
    InstanceMaps::from_source(|name| {
        debug_assert!(MAPS.contains(&name));
        let pin = directory.join(name);
        let info = MapInfo::from_pin(&pin).with_context(|| format!("opening the map {}", pin.display()))?;
        let data = MapData::from_pin(&pin).with_context(|| format!("opening the map {}", pin.display()))?;
        Ok(
            match info
                .map_type()
                .with_context(|| format!("the map {} is of an unknown type", pin.display()))?
            {
                MapType::PerCpuArray => Map::PerCpuArray(data),
                _ => Map::Array(data),
            },
        )
    })
}
