//! bpf(2), as far as aya does not offer it: elements of an array by the thousand, the interface of a link, detaching and updating a link,
//! another owner's link and program, which program may call which, and the kernel's tick counter.
//!
//! Owns the raw calls, and not the use of their results.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::Pod;
use aya::maps::{Array, IterableMap as _, MapData, PerCpuArray};
use aya::programs::links::{self, LinkType};
use aya::programs::loaded_links;
use aya::util::nr_cpus;
use aya_obj::generated::{
    BPF_F_REPLACE, BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info,
    bpf_map_type, bpf_prog_type,
};
use nix::libc;

use crate::failure::has_errno;

/// What matters of `struct bpf_link_info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkInfo {
    /// Kernel id of its program.
    pub(crate) program_id: u32,
    /// Index of its interface; 0 where that is gone.
    pub(crate) ifindex: u32,
}

/// Asks about a pinned XDP link.
pub(crate) fn link_info(pin: &Path) -> Result<LinkInfo> {
    info_of(&open_link(pin)?).with_context(|| format!("asking about the link {}", pin.display()))
}

/// Kernel id of the link that has an XDP program on an interface; `None` where it was attached without one.
///
/// # Errors
/// As [`links_of`].
pub(crate) fn link_on(ifindex: u32, program_id: u32) -> Result<Option<u32>> {
    let mut found = links_of(LinkType::Xdp, |link| {
        let is_it = link.program_id() == program_id && info_of(&link_by_id(link.id())?)?.ifindex == ifindex;
        Ok(is_it.then_some(link.id()))
    });
    found.next().transpose()
}

/// A link that has a program in a packet filter, of whichever network namespace: the kernel does not tell of which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilterLink {
    /// Kernel id of the link.
    pub(crate) id: u32,
    /// Kernel id of its program.
    pub(crate) program_id: u32,
    /// Number of the family of packets (`NFPROTO_`), and of the hook (`NF_INET_`, both include/uapi/linux/netfilter.h).
    pub(crate) family_and_hook: (u32, u32),
}

/// All links that have a program in a packet filter (Linux 6.4).
///
/// # Errors
/// As [`links_of`].
pub(crate) fn filter_links() -> Result<Vec<FilterLink>> {
    let found = links_of(LinkType::Netfilter, |link| {
        let info = raw_info_of(&link_by_id(link.id())?)?;
        // SAFETY: it is a link of such a program, so this is the arm that the kernel has written; any bytes are a value of it.
        let at = unsafe { info.__bindgen_anon_1.netfilter };
        let family_and_hook = (at.pf, at.hooknum);
        Ok(Some(FilterLink { id: link.id(), program_id: link.program_id(), family_and_hook }))
    });
    found.collect()
}

/// What is wanted of the links of a kind.
///
/// # Errors
/// The kernel does not tell, or does not show links: that takes CAP_SYS_ADMIN.
fn links_of<T>(
    kind: LinkType,
    mut wanted: impl FnMut(&links::LinkInfo) -> Result<Option<T>>,
) -> impl Iterator<Item = Result<T>> {
    loaded_links().filter_map(move |link| {
        let found = link.map_err(anyhow::Error::new).and_then(|link| {
            if link.link_type().is_ok_and(|of| of == kind) { wanted(&link) } else { Ok(None) }
        });
        match found {
            // One that has gone meanwhile, or is being made.
            Err(error) if has_errno(&error, &[libc::ENOENT, libc::EAGAIN]) => None,
            found => found.transpose(),
        }
    })
}

/// Takes a link, whoever holds it, off its interface.
pub(crate) fn detach_link_by_id(id: u32) -> std::io::Result<()> {
    detach(&link_by_id(id)?)
}

fn link_by_id(id: u32) -> std::io::Result<OwnedFd> {
    let mut attr = no_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.link_id = id;
    new_fd(bpf_cmd::BPF_LINK_GET_FD_BY_ID, &mut attr)
}

/// Has a link, whoever holds it, run another program from one instant to the next, if it still runs the old one.
pub(crate) fn exchange_on_link(id: u32, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> std::io::Result<()> {
    let link = link_by_id(id)?;
    let mut attr = no_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = new.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_2.old_prog_fd = old.as_raw_fd() as u32;
    attr.link_update.flags = BPF_F_REPLACE;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Pins a program.
pub(crate) fn pin(program: BorrowedFd<'_>, pin: &Path) -> Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes()).context("a path without zero bytes")?;
    let mut attr = no_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr)
        .with_context(|| format!("pinning a program as {}", pin.display()))?;
    Ok(())
}

/// What was said about an XDP program when it was loaded, as far as programs that call one another have to agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XdpKind {
    /// It takes frames in several buffers.
    pub(crate) frags: bool,
    /// It was loaded to be attached to an interface (`BPF_XDP`), as programs are since libbpf 1.0, and not without a word about that.
    pub(crate) attach_type: bool,
}

impl XdpKind {
    /// That of a loaded program, found by asking with which others the kernel lets it into an array; `None` where it is let in with none.
    /// Older kernels than 6.18 see no difference in the attach type, and it is taken for that of an interface.
    pub(crate) fn of(program: BorrowedFd<'_>) -> std::io::Result<Option<Self>> {
        for attach_type in [true, false] {
            for frags in [false, true] {
                let kind = Self { frags, attach_type };
                match kind.goes_with(program) {
                    Ok(()) => return Ok(Some(kind)),
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// The first program that is put into an array decides which others may follow.
    fn goes_with(self, program: BorrowedFd<'_>) -> std::io::Result<()> {
        let mut attr = no_attr();
        attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
        attr.__bindgen_anon_1.key_size = size_of::<u32>() as u32;
        attr.__bindgen_anon_1.value_size = size_of::<u32>() as u32;
        attr.__bindgen_anon_1.max_entries = 1;
        let array = new_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr)?;
        // r0 = XDP_PASS, return r0
        let instructions = [0xb7 | 2 << 32, 0x95];
        let mut attr = no_attr();
        attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
        if self.frags {
            attr.__bindgen_anon_3.prog_flags = BPF_F_XDP_HAS_FRAGS;
        }
        if self.attach_type {
            attr.__bindgen_anon_3.expected_attach_type = bpf_attach_type::BPF_XDP as u32;
        }
        let passes = load(&mut attr, &instructions)?;
        for program in [passes.as_fd(), program] {
            let (key, value) = (0_u32, program.as_raw_fd());
            let mut attr = no_attr();
            attr.__bindgen_anon_2.map_fd = array.as_raw_fd() as u32;
            attr.__bindgen_anon_2.key = (&raw const key) as u64;
            attr.__bindgen_anon_2.__bindgen_anon_1.value = (&raw const value) as u64;
            bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr)?;
        }
        Ok(())
    }
}

/// Asks about an XDP link.
fn info_of(link: &OwnedFd) -> std::io::Result<LinkInfo> {
    let info = raw_info_of(link)?;
    // SAFETY: it is asked about links of XDP programs only, so this is the arm that the kernel has written; any bytes are a value of it.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(LinkInfo { program_id: info.prog_id, ifindex })
}

fn raw_info_of(link: &OwnedFd) -> std::io::Result<bpf_link_info> {
    // SAFETY: plain data, for which all zeroes is a value.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = no_attr();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of_val(&info) as u32;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Takes a pinned XDP link off its interface. Removing the pin does so too, but some time later, and whoever attaches next would
/// still find the program there.
pub(crate) fn detach_link(pin: &Path) -> Result<()> {
    detach(&open_link(pin)?).with_context(|| format!("detaching the link {}", pin.display()))
}

fn detach(link: &OwnedFd) -> std::io::Result<()> {
    let mut attr = no_attr();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Has a pinned XDP link run another pinned program from one frame to the next.
pub(crate) fn update_link(link: &Path, program: &Path) -> std::io::Result<()> {
    let (link, program) = (open(link)?, open(program)?);
    let mut attr = no_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(|_| ())
}

/// The one value of a pinned array map, as bytes.
pub(crate) fn read_value(pin: &Path) -> Result<Vec<u8>> {
    let map = MapData::from_pin(pin).with_context(|| format!("opening the map {}", pin.display()))?;
    value_of(&map).with_context(|| format!("reading the map {}", pin.display()))
}

/// The one value of an array map, as bytes.
pub(crate) fn value_of(map: &MapData) -> Result<Vec<u8>> {
    let size = map.info()?.value_size();
    let (key, mut value) = (0_u32, vec![0_u8; size as usize]);
    let mut attr = no_attr();
    attr.__bindgen_anon_2.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = (&raw const key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

fn open_link(pin: &Path) -> Result<OwnedFd> {
    open(pin).with_context(|| format!("opening the link {}", pin.display()))
}

/// What is pinned.
pub(crate) fn open(pin: &Path) -> std::io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = no_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    new_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Writes consecutive elements, which may be none.
pub(crate) fn write_batch<V: Pod>(map: &mut Array<MapData, V>, first: u32, values: &[V]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<u32> = (first..).take(values.len()).collect();
    update_batch(map.map(), &mut keys, values.as_ptr().cast())
}

/// Writes the elements of these keys.
pub(super) fn update_batch(map: &MapData, keys: &mut [u32], values: *const u64) -> Result<()> {
    let mut attr = batch(map, keys, values);
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr)?;
    let written = count(&attr);
    ensure!(written as usize == keys.len(), "only {written} of {} were written", keys.len());
    Ok(())
}

/// Reads so many consecutive elements, which may be none.
pub(crate) fn read_batch<V: Pod>(map: &Array<MapData, V>, first: u32, wanted: u32) -> Result<Vec<V>> {
    let mut values: Vec<V> = Vec::with_capacity(wanted as usize);
    look_up_batch(map.map(), first, wanted, values.as_mut_ptr().cast())?;
    // SAFETY: there is room for so many, the kernel has just written them, and any bytes are a value of plain data.
    unsafe { values.set_len(wanted as usize) };
    Ok(values)
}

/// Consecutive elements of a per-CPU array.
pub(crate) struct PerCpu<V> {
    /// The values of all CPUs of the first element, then those of the next: in one piece, as there are thousands.
    values: Vec<V>,
    cpus: usize,
}

impl<V> PerCpu<V> {
    /// Of each element the values of all CPUs.
    pub(crate) fn elements(&self) -> std::slice::Chunks<'_, V> {
        self.values.chunks(self.cpus)
    }
}

/// Reads so many consecutive elements of a per-CPU array, which may be none. The kernel does so since Linux 5.13 (commit f008d732ab18).
pub(crate) fn read_batch_per_cpu<V: Pod>(
    map: &PerCpuArray<MapData, V>,
    first: u32,
    wanted: u32,
) -> Result<PerCpu<V>> {
    let cpus = nr_cpus().map_err(|(path, error)| anyhow!("counting the CPUs in {path}: {error}"))?;
    // The kernel begins each value at a multiple of eight bytes.
    const { assert!(size_of::<V>().is_multiple_of(size_of::<u64>())) };
    let count = cpus * wanted as usize;
    let mut values: Vec<V> = Vec::with_capacity(count);
    look_up_batch(map.map(), first, wanted, values.as_mut_ptr().cast())?;
    // SAFETY: there is room for so many, the kernel has just written them, and any bytes are a value of plain data.
    unsafe { values.set_len(count) };
    Ok(PerCpu { values, cpus })
}

/// Reads so many consecutive elements to where there is room for them.
pub(super) fn look_up_batch(map: &MapData, first: u32, wanted: u32, values: *mut u64) -> Result<()> {
    if wanted == 0 {
        return Ok(());
    }
    let mut keys = vec![0_u32; wanted as usize];
    let mut attr = batch(map, &mut keys, values);
    // The batch begins behind this element, and without it with the first one.
    let before = first.wrapping_sub(1);
    let mut behind = 0_u32;
    attr.batch.in_batch = if first == 0 { 0 } else { (&raw const before) as u64 };
    attr.batch.out_batch = (&raw mut behind) as u64;
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // How the end of the map is told.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        result => _ = result?,
    }
    let read = count(&attr);
    ensure!(read == wanted, "only {read} of {wanted} were read");
    Ok(())
}

/// What a batch of elements is asked with. Values are as large as the map's, which aya has checked.
fn batch(map: &MapData, keys: &mut [u32], values: *const u64) -> bpf_attr {
    let mut attr = no_attr();
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values as u64;
    attr.batch.count = keys.len() as u32;
    attr.batch.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    attr
}

/// How many elements a batch has read or written.
fn count(attr: &bpf_attr) -> u32 {
    // SAFETY: whoever asks has made it with `batch`, and the kernel keeps the arm.
    unsafe { attr.batch.count }
}

/// `bpf_jiffies64()`.
pub(crate) fn jiffies() -> Result<u64> {
    static PROGRAM: OnceLock<SystemCallProgram> = OnceLock::new();
    asked_of_helper(118, &PROGRAM).context("asking for the kernel's tick counter")
}

/// `bpf_ktime_get_ns()`.
pub(crate) fn ktime_ns() -> Result<u64> {
    static PROGRAM: OnceLock<SystemCallProgram> = OnceLock::new();
    asked_of_helper(5, &PROGRAM).context("asking for the kernel's clock")
}

/// What a helper function of the kernel's that takes nothing returns; by its number (include/uapi/linux/bpf.h). The program that calls it stays
/// loaded while this process runs: loading it takes longer than all else that `serve` does four times a second.
fn asked_of_helper(number: u64, program: &OnceLock<SystemCallProgram>) -> Result<u64> {
    let program = match program.get() {
        Some(program) => program,
        None => {
            let loaded = SystemCallProgram::load(&[
                0x16bf,              // r6 = r1, the address of the context
                0x85 | number << 32, // r0 = the function's
                0x067b,              // *(u64 *)(r6 + 0) = r0
                0x00b7,              // r0 = 0
                0x0095,              // return r0
            ])?;
            program.get_or_init(|| loaded)
        }
    };
    let mut context = [0];
    program.run(&mut context)?;
    Ok(context[0])
}

/// A program of the type that is run by a system call (Linux 5.14).
#[derive(Debug)]
pub(super) struct SystemCallProgram(OwnedFd);

impl SystemCallProgram {
    /// Each is a `struct bpf_insn`: operation, registers, offset, and from bit 32 on the immediate value
    /// (Documentation/bpf/standardization).
    pub(super) fn load(instructions: &[u64]) -> Result<Self> {
        let mut attr = no_attr();
        attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_SYSCALL as u32;
        attr.__bindgen_anon_3.prog_flags = BPF_F_SLEEPABLE;
        load(&mut attr, instructions).context("loading a program that does it").map(Self)
    }

    /// Runs it with this context; what it returns.
    pub(super) fn run(&self, context: &mut [u64]) -> Result<u32> {
        let mut attr = no_attr();
        attr.test.prog_fd = self.0.as_raw_fd() as u32;
        attr.test.ctx_in = context.as_mut_ptr() as u64;
        attr.test.ctx_size_in = size_of_val(context) as u32;
        bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).context("running a program that does it")?;
        // SAFETY: the kernel has written this arm.
        Ok(unsafe { attr.test.retval })
    }
}

/// Loads a program of these instructions, of the type that is asked for.
fn load(attr: &mut bpf_attr, instructions: &[u64]) -> std::io::Result<OwnedFd> {
    attr.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attr.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.license = c"GPL".as_ptr() as u64;
    new_fd(bpf_cmd::BPF_PROG_LOAD, attr)
}

/// Nothing asked yet. bpf(2) wants zeroes behind what a command reads.
fn no_attr() -> bpf_attr {
    // SAFETY: plain data, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

/// Whether bpf(2) as a whole is refused: by a filter, since a descriptor that there is not is another error with every capability and with none.
pub(super) fn is_filtered() -> bool {
    let mut attr = no_attr();
    attr.info.bpf_fd = u32::MAX;
    let refused = bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr);
    refused.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)))
}

/// How often a command is given that a signal has broken off: as often as libbpf loads a program again.
const TRIES: u32 = 5;

/// A command whose result is a descriptor.
fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> std::io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> std::io::Result<i32> {
    let asked = *attr;
    unless_broken_off(command == bpf_cmd::BPF_PROG_LOAD, || {
        // The kernel writes into it also where it fails: how much of a batch it has done.
        *attr = asked;
        let (attr, size) = (std::ptr::from_mut(attr), size_of_val(attr));
        // SAFETY: attr is as large as is said, zero behind what the command reads, and the addresses in it are those of buffers that are alive.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result as i32) }
    })
}

/// Does again what a signal has broken off, for which the verifier says EAGAIN (bpf_check() in kernel/bpf/verifier.c).
fn unless_broken_off<T>(
    is_load: bool,
    mut command: impl FnMut() -> std::io::Result<T>,
) -> std::io::Result<T> {
    for _ in 1..TRIES {
        match command() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if is_load && error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signal_has_broken_off_is_done_again_and_not_for_ever() {
        for (is_load, error, times) in [
            (false, libc::EINTR, TRIES),
            (true, libc::EINTR, TRIES),
            (true, libc::EAGAIN, TRIES),
            (false, libc::EAGAIN, 1),
            (true, libc::EPERM, 1),
        ] {
            let mut tried = 0;
            let mut until = |done| {
                tried = 0;
                unless_broken_off(is_load, || {
                    tried += 1;
                    if tried == done { Ok(()) } else { Err(std::io::Error::from_raw_os_error(error)) }
                })
                .map(|()| tried)
            };
            assert_eq!(until(TRIES).ok(), (times == TRIES).then_some(TRIES), "{is_load} {error}");
            let failed = until(TRIES + 1).expect_err("never");
            assert_eq!(failed.raw_os_error(), Some(error));
            assert_eq!(tried, times, "{is_load} {error}");
        }
    }
}
