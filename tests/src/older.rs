//! Owns an instance as versions 10 to 8 of the map ABI had it: pins of maps in their layouts, with the values of this version.
//!
//! The program continues with the maps of this version, so nothing may be counted between this and an upgrade.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use icmp_common::abi::{COUNTERS, Rules, Settings};
use icmp_common::reason::{REASONS, Reason};

use crate::xdp::{
    BPF_MAP_CREATE, BPF_MAP_LOOKUP_ELEM, BPF_MAP_TYPE_ARRAY, Element, MapCreate, ObjectPin, bpf, call, pin,
};

const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_OBJ_GET: i32 = 7;
const BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
/// Bytes of one buffer of `SETTINGS`, which ended before tracked sources.
const SETTINGS: u32 = 4536;
/// Bytes of one buffer of `RULES`, which ended before its gates.
const RULES: u32 = 187_880;
/// What came later.
const NEW_REASONS: [Reason; 2] = [Reason::UnhealthyVip, Reason::UnhealthyVipDrop];

/// Gives the pins of an instance the layouts of version 10, and takes from them what it had not.
///
/// # Panics
/// If the kernel refuses.
pub fn make_version_10(pins: &Path) {
    remove(pins, &["EVENTS", "EVENT_FRAMES", "PEERS"]);
    for (now, before) in [("TAP_BUCKETS", "CAPTURE_BUCKET"), ("TAP_CPU", "CAPTURE_CPU")] {
        fs::rename(pins.join(now), pins.join(before)).unwrap_or_else(|e| panic!("renaming {now}: {e}"));
    }
    settings(pins).unwrap_or_else(|e| panic!("making settings of version 10 in {}: {e}", pins.display()));
}

/// As [`make_version_10`], of version 9.
///
/// # Panics
/// If the kernel refuses.
pub fn make_version_9(pins: &Path) {
    make_version_10(pins);
    remove(pins, &["CAPTURE", "CAPTURE_BUCKET", "CAPTURE_CPU", "CAPTURED"]);
}

fn remove(pins: &Path, maps: &[&str]) {
    for map in maps {
        fs::remove_file(pins.join(map)).unwrap_or_else(|e| panic!("removing {map}: {e}"));
    }
}

/// Gives the pins of an instance the layouts of version 8.
///
/// # Panics
/// If the kernel refuses.
pub fn make_version_8(pins: &Path) {
    make_version_9(pins);
    let made = rules(pins).and_then(|()| counters(pins)).and_then(|()| fs::remove_file(pins.join("GATES")));
    made.unwrap_or_else(|e| panic!("making maps of version 8 in {}: {e}", pins.display()));
}

fn settings(pins: &Path) -> io::Result<()> {
    let (old, new) = (open(&pins.join("SETTINGS"))?, array(BPF_MAP_TYPE_ARRAY, 2 * SETTINGS, 1)?);
    let mut value = vec![0; 2 * size_of::<Settings>()];
    element(BPF_MAP_LOOKUP_ELEM, &old, 0, &mut value)?;
    value.copy_within(size_of::<Settings>()..size_of::<Settings>() + SETTINGS as usize, SETTINGS as usize);
    element(BPF_MAP_UPDATE_ELEM, &new, 0, &mut value)?;
    replace(&pins.join("SETTINGS"), &new)
}

fn rules(pins: &Path) -> io::Result<()> {
    let (old, new) = (open(&pins.join("RULES"))?, array(BPF_MAP_TYPE_ARRAY, RULES, 2)?);
    for buffer in 0..2 {
        let mut value = vec![0; size_of::<Rules>()];
        element(BPF_MAP_LOOKUP_ELEM, &old, buffer, &mut value)?;
        element(BPF_MAP_UPDATE_ELEM, &new, buffer, &mut value)?;
    }
    replace(&pins.join("RULES"), &new)
}

fn counters(pins: &Path) -> io::Result<()> {
    let before = REASONS - NEW_REASONS.len();
    let entries = COUNTERS / u32::try_from(REASONS).expect("a few") * u32::try_from(before).expect("a few");
    let (old, new) = (open(&pins.join("COUNTERS"))?, array(BPF_MAP_TYPE_PERCPU_ARRAY, 16, entries)?);
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let cpus: usize =
        possible.trim().rsplit('-').next().map_or(0, |last| last.parse().expect("a number")) + 1;
    let kept: Vec<_> =
        (0..REASONS).filter(|reason| !NEW_REASONS.iter().any(|new| *new as usize == *reason)).collect();
    for entry in 0..entries {
        let (place, reason) = (entry as usize / before, entry as usize % before);
        let mut value = vec![0; 16 * cpus];
        let from = u32::try_from(place * REASONS + kept[reason]).expect("an index");
        element(BPF_MAP_LOOKUP_ELEM, &old, from, &mut value)?;
        if value.iter().any(|byte| *byte != 0) {
            element(BPF_MAP_UPDATE_ELEM, &new, entry, &mut value)?;
        }
    }
    replace(&pins.join("COUNTERS"), &new)
}

fn array(map_type: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    bpf(BPF_MAP_CREATE, &MapCreate { map_type, key_size: 4, value_size, max_entries })
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    bpf(BPF_OBJ_GET, &ObjectPin { path: path.as_ptr() as u64, fd: 0, flags: 0 })
}

/// Reads an element into `value`, or writes it from there.
fn element(command: i32, map: &OwnedFd, key: u32, value: &mut [u8]) -> io::Result<()> {
    let (key, value) = ((&raw const key) as u64, value.as_mut_ptr() as u64);
    call(command, &Element { map: map.as_raw_fd(), padding: 0, key, value, flags: 0 }).map(|_| ())
}

fn replace(at: &Path, map: &OwnedFd) -> io::Result<()> {
    fs::remove_file(at)?;
    pin(map, at)
}
