//! The eBPF object: embedded, and loaded into the kernel.
//!
//! Owns which object this binary carries, how it is loaded (sizes, secret, pins) and which entry point suits an interface. It attaches nothing
//! and writes no configuration.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::MapInfo;
use aya::programs::{Extension, ProgramFd, ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader, features};
use icmp_common::abi::{ADDRESS_BUCKETS, PEER_BUCKETS};
use icmp_common::limiter::SECRETS;
use nix::errno::Errno;
use nix::libc;
use object::{Object as _, ObjectSection as _};

use crate::failure::{Exit, Failure, has_errno};
use crate::instance::dispatcher;
use crate::kernel::bpf;
use crate::kernel::bpffs::unless_gone;

/// The object, as build.rs made it.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/icmp-ebpf"));

/// Version and commit of this build.
pub const BUILD: &str = env!("ICMP_CTL_BUILD");

/// Day of the commit of this build, like 2026-11-27; empty where there was no commit.
pub const BUILD_DATE: &str = env!("ICMP_CTL_DATE");

/// Symbolic link beside the pins whose target is the build that loaded the program.
pub(super) const BUILD_NAME: &str = "build";

/// Maps of an instance, in the order in which they are pinned.
pub const MAPS: &[&str] = &[
    "SWITCH",
    "SETTINGS",
    "INTERFACES",
    "OWN_FIRST",
    "GATES",
    "SECRET",
    "ADDRESSES4",
    "ADDRESSES6",
    "RULES",
    "PREFIXES4",
    "PREFIXES6",
    "RULE_COUNTERS",
    "BUDGETS",
    "SOURCES",
    "PREFIXES",
    "REPUTATIONS",
    "LAST_SERVED",
    "PATH_MTU",
    "CPU",
    "HEAVY_HITTERS",
    "COUNTERS",
    "CAPTURE",
    "EVENTS",
    "TAP_BUCKETS",
    "TAP_CPU",
    "CAPTURED",
    "EVENT_FRAMES",
    "PEERS",
    "CHAIN",
    "CHAIN_FRAGS",
];

/// What the object calls a map. Those that are a section, for whose value the program knows the address, have the section's name: the
/// kernel takes 15 bytes of it, and wants no dots in the names of pins.
pub fn name_in_object(map: &str) -> &str {
    match map {
        "SWITCH" => ".data.SWITCH",
        "SETTINGS" => ".data.SETTINGS",
        "INTERFACES" => ".data.IFACES",
        "OWN_FIRST" => ".data.OWN",
        "GATES" => ".data.GATES",
        "SECRET" => ".data.SECRET",
        "CAPTURE" => ".data.CAPTURE",
        "EVENTS" => ".data.EVENTS",
        other => other,
    }
}

/// One of the entry points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Frames in one buffer.
    Xdp,
    /// Frames in one buffer or several (`xdp.frags`).
    XdpFrags,
    /// Frames in one buffer, in front of another program.
    Chain,
    /// Frames in one buffer or several, in front of another program.
    ChainFrags,
    /// Frames in one buffer, called by libxdp's dispatcher: the first one, loaded as an extension.
    Extension,
}

impl Entry {
    /// Those for an interface of our own, in the order in which they are tried.
    pub const ALONE: [Self; 2] = [Self::Xdp, Self::XdpFrags];
    /// Those beside another program, in another's attachment.
    pub const CHAINED: [Self; 3] = [Self::Chain, Self::ChainFrags, Self::Extension];
    /// All.
    pub const ALL: [Self; 5] = [Self::Xdp, Self::XdpFrags, Self::Chain, Self::ChainFrags, Self::Extension];

    /// Name of its pin; of the program in the object as well, except for the extension's.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "icmp_ctl",
            Self::XdpFrags => "icmp_ctl_frags",
            Self::Chain => "icmp_ctl_chain",
            Self::ChainFrags => "icmp_ctl_chain_frags",
            Self::Extension => "icmp_ctl_extension",
        }
    }

    /// Name of its section, as `status` shows it.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Xdp | Self::Chain => "xdp",
            Self::XdpFrags | Self::ChainFrags => "xdp.frags",
            Self::Extension => "freplace",
        }
    }
}

/// What is fixed when the object is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Lines of the limiter's table of sources, 64 bytes each; a power of two, at least two. Of prefixes and of known sources there are half as
    /// many.
    pub lines: u32,
    /// Buckets in one buffer of each address table; a power of two, at least two.
    pub address_buckets: u32,
    /// Buckets of peers; a power of two, at least two.
    pub peer_buckets: u32,
    /// The secret of the limiter's hash.
    pub secret: [u64; SECRETS],
}

impl LoadOptions {
    /// The lines of a load without a configuration: 1 MiB in all.
    pub const DEFAULT_LINES: u32 = 1 << 13;

    /// With a secret from the kernel's random numbers.
    ///
    /// # Errors
    /// The kernel's random numbers cannot be read.
    pub fn new(lines: u32) -> Result<Self> {
        use std::io::Read as _;
        let mut bytes = [0; 8 * SECRETS];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .context("reading a secret for the limiter from /dev/urandom")?;
        Ok(Self {
            lines,
            address_buckets: ADDRESS_BUCKETS,
            peer_buckets: PEER_BUCKETS,
            secret: words(&bytes),
        })
    }

    /// With a secret that is always the same, for a limiter in host memory: whoever asks twice is told the same twice.
    pub fn reproducible(lines: u32) -> Self {
        // One as good as any that is drawn; with a small one all sources would share their buckets.
        let word = |i| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(0xbf58_476d_1ce4_e5b9 + 2 * i as u64);
        Self {
            lines,
            address_buckets: ADDRESS_BUCKETS,
            peer_buckets: PEER_BUCKETS,
            secret: std::array::from_fn(word),
        }
    }

    /// Those of the maps that are pinned in a directory.
    ///
    /// # Errors
    /// A map cannot be read.
    pub(super) fn of(pins: &Path) -> Result<Self> {
        let entries = |map: &str| {
            let pin = pins.join(map);
            let info = MapInfo::from_pin(&pin);
            info.map(|info| info.max_entries())
                .with_context(|| format!("asking about the map {}", pin.display()))
        };
        let secret = words(&bpf::read_value(&pins.join("SECRET"))?);
        // Before version 11 nobody was tracked.
        let peer_buckets = if pins.join("PEERS").exists() { entries("PEERS")? } else { PEER_BUCKETS };
        // Two buffers.
        let address_buckets = entries("ADDRESSES4")? / 2;
        Ok(Self { lines: entries("SOURCES")?, address_buckets, peer_buckets, secret })
    }
}

/// Notes beside the pins that this build has loaded the program.
pub(super) fn note_build(pins: &Path) -> Result<()> {
    symlink(BUILD, pins.join(BUILD_NAME)).context("noting the build next to the pins")
}

/// The build that loaded the program that is pinned in a directory.
pub(super) fn build_of(pins: &Path) -> String {
    let build = fs::read_link(pins.join(BUILD_NAME));
    build.map_or_else(|_| "unknown".to_owned(), |build| build.display().to_string())
}

/// The secret in a map's value, which may be longer.
fn words(bytes: &[u8]) -> [u64; SECRETS] {
    let mut words = [0; SECRETS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight bytes"));
    }
    words
}

/// The entry point that a program is, of those pinned in a directory.
///
/// # Errors
/// The kernel does not tell what is pinned.
pub(super) fn entry_of(pins: &Path, program_id: u32) -> Result<Option<Entry>> {
    for entry in Entry::ALL {
        let pin = pins.join(entry.program());
        if unless_gone(&pin, || program_id_of(pins, entry))? == Some(program_id) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Kernel id of an entry point that is pinned in a directory.
pub(super) fn program_id_of(pins: &Path, entry: Entry) -> Result<u32> {
    let pin = pins.join(entry.program());
    let info = ProgramInfo::from_pin(&pin);
    info.map(|info| info.id()).with_context(|| format!("asking about the program {}", pin.display()))
}

/// Loads a private copy of the object with these entry points; nothing of it is pinned.
///
/// # Errors
/// The kernel refused a map or a program; the verifier's last words are part of the error.
pub fn load(options: &LoadOptions, entries: &[Entry]) -> Result<Ebpf> {
    let mut object = create(OBJECT, options, None, &[])?;
    for entry in entries {
        xdp(&mut object, *entry)?
            .load()
            .with_context(|| format!("loading the program {}", entry.program()))?;
    }
    Ok(object)
}

/// Loads one entry point on the maps that are pinned in `pins`, and pins it as `pin`.
///
/// # Errors
/// As [`load`].
pub fn load_beside(options: &LoadOptions, pins: &Path, entry: Entry, pin: &Path) -> Result<()> {
    let mut object = create(OBJECT, options, Some(pins), &[])?;
    let program = xdp(&mut object, entry)?;
    program.load().with_context(|| format!("loading the program {}", entry.program()))?;
    program.pin(pin).with_context(|| format!("pinning the program as {}", pin.display()))
}

/// Loads the extension of a dispatcher on the maps that are pinned in `pins`, and pins it as `pin`; it can be put in any dispatcher.
///
/// # Errors
/// As [`load`].
pub(super) fn load_extension_beside(
    options: &LoadOptions,
    pins: &Path,
    dispatcher: ProgramFd,
    pin: &Path,
) -> Result<()> {
    let mut object = load_extension(options, Some(pins), dispatcher)?;
    let program = extension(&mut object)?;
    program.pin(pin).with_context(|| format!("pinning the program as {}", pin.display()))
}

/// The same on maps of its own, or on those that are pinned in `pins`; it is not pinned.
///
/// # Errors
/// As [`load`].
pub(super) fn load_extension(
    options: &LoadOptions,
    pins: Option<&Path>,
    dispatcher: ProgramFd,
) -> Result<Ebpf> {
    let mut object = create_with(OBJECT, options, pins, &[], Some(Entry::Xdp.program()))?;
    extension(&mut object)?
        .load(dispatcher, dispatcher::NAME)
        .with_context(|| format!("loading the program {} as an extension", Entry::Xdp.program()))?;
    Ok(object)
}

fn extension(object: &mut Ebpf) -> Result<&mut Extension> {
    let program = object.program_mut(Entry::Xdp.program()).context("the eBPF object lacks a program")?;
    Ok(program.try_into()?)
}

/// Creates the maps of an object that was made from the packet path, or opens those that are pinned in `pins` and pins the others there, with
/// `globals` of its own beside the packet path's; its programs are left to be loaded.
///
/// # Errors
/// The object lacks something, or the kernel refused a map.
pub fn create(
    object: &[u8],
    options: &LoadOptions,
    pins: Option<&Path>,
    globals: &[(&str, u32)],
) -> Result<Ebpf> {
    create_with(object, options, pins, globals, None)
}

fn create_with(
    object: &[u8],
    options: &LoadOptions,
    pins: Option<&Path>,
    globals: &[(&str, u32)],
    extension: Option<&str>,
) -> Result<Ebpf> {
    require_features()?;
    let shift = 64 - options.lines.ilog2();
    let address_shift = 64 - options.address_buckets.ilog2();
    let peer_shift = 64 - options.peer_buckets.ilog2();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("SOURCE_SHIFT", &shift, true)
        .override_global("ADDRESS_SHIFT", &address_shift, true)
        .override_global("PEER_SHIFT", &peer_shift, true)
        .map_max_entries("SOURCES", options.lines)
        .map_max_entries("PREFIXES", options.lines / 2)
        .map_max_entries("REPUTATIONS", options.lines / 2)
        .map_max_entries("PEERS", options.peer_buckets)
        // Two buffers.
        .map_max_entries("ADDRESSES4", 2 * options.address_buckets)
        .map_max_entries("ADDRESSES6", 2 * options.address_buckets);
    if let Some(pins) = pins {
        for map in MAPS {
            loader.map_pin_path(name_in_object(map), pins.join(map));
        }
    }
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    if let Some(extension) = extension {
        loader.extension(extension);
    }
    let object = with_contents(object, options, pins)?;
    loader.load(&object).context("loading the eBPF object")
}

/// aya takes a probe that fails for whatever reason for a feature that the kernel lacks, and does without: the verifier then reads the program
/// for minutes before it refuses it. The oldest kernel that it is loaded on has these.
fn require_features() -> Result<()> {
    let has = features();
    let has_functions = has.btf().is_some_and(|btf| btf.btf_func() && btf.btf_func_global());
    ensure!(
        has.bpf_name() && has.bpf_global_data() && has_functions,
        "asking the kernel which features of BPF it has: it refused one that each kernel has which the program runs on; try again, and start \
         `serve` again where that says so"
    );
    Ok(())
}

/// The object with what its sections are to hold. aya writes a section's content into its map, also into one that is pinned and in use, so
/// that has to be what is there already. The program writes none of these maps, and the lock of the instance keeps every other controller
/// from changing them meanwhile.
fn with_contents(object: &[u8], options: &LoadOptions, pins: Option<&Path>) -> Result<Vec<u8>> {
    let secret: Vec<u8> = options.secret.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut bytes = object.to_vec();
    let file = object::File::parse(object).context("reading the eBPF object")?;
    for map in MAPS.iter().filter(|map| name_in_object(map).starts_with(".data.")) {
        let pin = pins.map(|pins| pins.join(map)).filter(|pin| pin.exists());
        let content = match pin {
            Some(pin) => bpf::read_value(&pin)?,
            None if *map == "SECRET" => secret.clone(),
            None => continue,
        };
        let name = name_in_object(map);
        let section = file.section_by_name(name).and_then(|section| section.file_range());
        let (offset, _) = section.with_context(|| format!("the eBPF object has no section {name}"))?;
        let place = bytes.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..content.len()));
        place
            .with_context(|| format!("the section {name} ends beyond the object"))?
            .copy_from_slice(&content);
    }
    Ok(bytes)
}

/// One of the object's entry points.
///
/// # Errors
/// The object does not have it: the build is broken.
pub fn xdp(object: &mut Ebpf, entry: Entry) -> Result<&mut Xdp> {
    object
        .program_mut(entry.program())
        .with_context(|| format!("the eBPF object has no program {}", entry.program()))?
        .try_into()
        .with_context(|| format!("{} is no XDP program", entry.program()))
}

/// Permission has an exit code of its own, all else is the kernel's refusal; EACCES is the verifier's.
pub(super) fn explain_refusal(error: anyhow::Error) -> anyhow::Error {
    if has_errno(&error, &[libc::EPERM]) {
        error
    } else if let Some(errno) =
        [Errno::EMFILE, Errno::ENFILE].into_iter().find(|errno| has_errno(&error, &[*errno as i32]))
    {
        // Without the verifier's log, which comes with it where the last descriptor was the program's.
        anyhow!("loading the program: {}", errno.desc())
    } else {
        error.context(Failure { exit: Exit::Refused, message: REFUSED.into() })
    }
}

const REFUSED: &str = "the kernel refused the program";
