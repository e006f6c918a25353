//! Owns the smallest XDP program there is, `return XDP_PASS`, and its attachment; and a program that counts its frames, as another program on
//! the interface.
//!
//! veth delivers a frame that the other end sent with `XDP_TX` only if this end has an XDP program too: without one the frame counts as sent
//! and is lost. Every test on a veth pair needs this, so nothing under test takes part: two instructions go to the kernel as they are, no
//! object file, no pin. The attachment is a link owned by a file descriptor and ends with it.

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

/// Keeps the program attached while it lives.
#[derive(Debug)]
pub struct PassLink {
    program: OwnedFd,
    link: OwnedFd,
}

impl PassLink {
    /// Attaches the program natively to `interface` of the calling thread's network namespace.
    ///
    /// # Panics
    /// If there is no such interface, or the kernel refuses.
    #[must_use]
    pub fn attach(interface: &str) -> Self {
        Self::attach_as(interface, BPF_XDP)
    }

    /// The same, loaded without an attach type, as some libraries do it.
    ///
    /// # Panics
    /// As [`Self::attach`].
    #[must_use]
    pub fn attach_without_type(interface: &str) -> Self {
        Self::attach_as(interface, 0)
    }

    fn attach_as(interface: &str, expected_attach_type: u32) -> Self {
        let ifindex = nix::net::if_::if_nametoindex(interface)
            .unwrap_or_else(|e| panic!("no interface {interface}: {e}"));
        // Jumbo frames come in several buffers.
        let kind = Kind { frags: true, attach_type: expected_attach_type != 0 };
        let program = load("test_pass", &[RETURN_PASS, EXIT], kind)
            .unwrap_or_else(|e| panic!("loading the pass program: {e}"));
        let link = link(&program, ifindex)
            .unwrap_or_else(|e| panic!("attaching the pass program to {interface}: {e}"));
        Self { program, link }
    }

    /// Pins program and link.
    ///
    /// # Panics
    /// If one of the paths is taken, or not in a BPF file system.
    pub fn pin(&self, program: &Path, link: &Path) {
        for (fd, path) in [(&self.program, program), (&self.link, link)] {
            pin(fd, path).unwrap_or_else(|e| panic!("pinning {}: {e}", path.display()));
        }
    }
}

pub(crate) fn pin(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    call(BPF_OBJ_PIN, &ObjectPin { path: path.as_ptr() as u64, fd: fd.as_raw_fd(), flags: 0 }).map(|_| ())
}

/// What is said about a program when it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// It takes frames in several buffers.
    pub frags: bool,
    /// It says that it is for an interface, as programs have since libbpf 1.0.
    pub attach_type: bool,
}

impl Kind {
    /// One buffer, for an interface.
    pub const USUAL: Self = Self { frags: false, attach_type: true };
}

/// A program that counts what it gets and passes it: another's, to our program. It is pinned, for tools that attach by a pin, until this value
/// goes.
#[derive(Debug)]
pub struct Counting {
    program: OwnedFd,
    counter: OwnedFd,
    pin: CString,
}

impl Counting {
    /// Its name.
    pub const NAME: &str = "test_count";

    /// Loads one; nothing is attached.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let map = MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
        let counter = bpf(BPF_MAP_CREATE, &map).unwrap_or_else(|e| panic!("making a counter: {e}"));
        let map = u64::try_from(counter.as_raw_fd()).expect("a descriptor is not negative");
        let instructions = [
            0x0000_0000_fffc_0a62, // *(u32 *)(r10 - 4) = 0
            0x0000_0000_0000_a2bf, // r2 = r10
            0xffff_fffc_0000_0207, // r2 += -4
            0x1118 | map << 32,    // r1 = the map, in two instructions
            0,
            0x0000_0001_0000_0085, // r0 = bpf_map_lookup_elem(r1, r2)
            0x0000_0000_0002_0015, // if r0 == 0, skip two
            0x0000_0001_0000_01b7, // r1 = 1
            0x0000_0000_0000_10db, // lock *(u64 *)(r0 + 0) += r1
            RETURN_PASS,
            EXIT,
        ];
        let program =
            load(Self::NAME, &instructions, kind).unwrap_or_else(|e| panic!("loading {}: {e}", Self::NAME));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pin =
            CString::new(format!("/sys/fs/bpf/icmpt-{}-{number}", std::process::id())).expect("no zeroes");
        self::pin(&program, Path::new(pin.to_str().expect("ASCII")))
            .unwrap_or_else(|e| panic!("pinning {pin:?}: {e}"));
        Self { program, counter, pin }
    }

    /// Where it is pinned.
    ///
    /// # Panics
    /// Never: it is ASCII.
    #[must_use]
    pub fn pin(&self) -> &str {
        self.pin.to_str().expect("ASCII")
    }

    /// Attaches it natively to `interface` of the calling thread's network namespace, by a link that ends with what is returned.
    ///
    /// # Panics
    /// If there is no such interface, or the kernel refuses.
    #[must_use]
    pub fn link(&self, interface: &str) -> OwnedFd {
        let ifindex = nix::net::if_::if_nametoindex(interface)
            .unwrap_or_else(|e| panic!("no interface {interface}: {e}"));
        link(&self.program, ifindex)
            .unwrap_or_else(|e| panic!("attaching {} to {interface}: {e}", Self::NAME))
    }

    /// Has a link run this program, whatever it ran before, as owners of links do when they are upgraded.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn update(&self, link: &OwnedFd) {
        let attributes = LinkUpdate { link: link.as_raw_fd(), program: self.program.as_raw_fd(), flags: 0 };
        call(BPF_LINK_UPDATE, &attributes).unwrap_or_else(|e| panic!("updating a link: {e}"));
    }

    /// How many frames it got.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn count(&self) -> u64 {
        let (key, mut count) = (0_u32, 0_u64);
        let attributes = Element {
            map: self.counter.as_raw_fd(),
            padding: 0,
            key: (&raw const key) as u64,
            value: (&raw mut count) as u64,
            flags: 0,
        };
        call(BPF_MAP_LOOKUP_ELEM, &attributes).unwrap_or_else(|e| panic!("reading a counter: {e}"));
        count
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _not_there = std::fs::remove_file(self.pin.to_str().unwrap_or_default());
    }
}

/// Two instructions, struct bpf_insn { u8 code; u8 registers; s16 offset; s32 immediate }: r0 = XDP_PASS, and the end.
const RETURN_PASS: u64 = 0xb7 | 2 << 32;
/// See [`RETURN_PASS`].
const EXIT: u64 = 0x95;

fn load(called: &str, instructions: &[u64], kind: Kind) -> io::Result<OwnedFd> {
    let flags = if kind.frags { BPF_F_XDP_HAS_FRAGS } else { 0 };
    load_as(called, instructions, BPF_PROG_TYPE_XDP, flags, if kind.attach_type { BPF_XDP } else { 0 })
}

/// Has a program that drops all packets of IPv4 before they are routed, in the packet filter of the calling thread's network namespace, for as long as
/// the link is open.
///
/// # Panics
/// If the kernel refuses.
#[must_use]
pub fn drop_before_routing() -> OwnedFd {
    const BPF_PROG_TYPE_NETFILTER: u32 = 32;
    const BPF_NETFILTER: u32 = 45;
    const RETURN_DROP: u64 = 0xb7;
    let attach_type = BPF_NETFILTER;
    let program = load_as("test_drop", &[RETURN_DROP, EXIT], BPF_PROG_TYPE_NETFILTER, 0, attach_type)
        .unwrap_or_else(|e| panic!("loading the program: {e}"));
    // A program, no target, the type, no flags; IPv4, the first hook, a priority.
    let attributes: [i32; 7] = [program.as_raw_fd(), 0, attach_type as i32, 0, 2, 0, -128];
    bpf(BPF_LINK_CREATE, &attributes).unwrap_or_else(|e| panic!("attaching the program: {e}"))
}

fn load_as(
    called: &str,
    instructions: &[u64],
    program_type: u32,
    flags: u32,
    expected_attach_type: u32,
) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut name = [0; 16];
    name[..called.len()].copy_from_slice(called.as_bytes());

    let attributes = ProgramLoad {
        program_type,
        instruction_count: u32::try_from(instructions.len()).expect("a few"),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags,
        name,
        ifindex: 0,
        expected_attach_type,
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

fn link(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
    let attributes =
        LinkCreate { program: program.as_raw_fd(), ifindex, attach_type: BPF_XDP, flags: XDP_FLAGS_DRV_MODE };
    bpf(BPF_LINK_CREATE, &attributes)
}

/// One call whose result is a file descriptor.
pub(crate) fn bpf<T>(command: i32, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn call<T>(command: i32, attributes: &T) -> io::Result<RawFd> {
    let size = size_of::<T>();
    let attributes = std::ptr::from_ref(attributes).cast::<c_void>();
    // SAFETY: `attributes` points to `size` readable bytes, the head of `union bpf_attr` for this command; the kernel takes
    // what is missing as zero. The pointers inside are to objects of the caller that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(RawFd::try_from(result).expect("a file descriptor fits an int"))
}

/// `union bpf_attr` for `BPF_MAP_CREATE`, as far as it is used.
#[repr(C)]
pub(crate) struct MapCreate {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

/// `union bpf_attr` for `BPF_MAP_LOOKUP_ELEM` and `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
pub(crate) struct Element {
    pub(crate) map: RawFd,
    pub(crate) padding: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// `union bpf_attr` for `BPF_LINK_UPDATE`, as far as it is used.
#[repr(C)]
struct LinkUpdate {
    link: RawFd,
    program: RawFd,
    flags: u32,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`, as far as it is used.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_OBJ_PIN` and `BPF_OBJ_GET`, as far as it is used.
#[repr(C)]
pub(crate) struct ObjectPin {
    pub(crate) path: u64,
    pub(crate) fd: RawFd,
    pub(crate) flags: u32,
}

// From linux/bpf.h and linux/if_link.h.
pub(crate) const BPF_MAP_CREATE: i32 = 0;
pub(crate) const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_PROG_LOAD: i32 = 5;
const BPF_OBJ_PIN: i32 = 6;
const BPF_LINK_CREATE: i32 = 28;
const BPF_LINK_UPDATE: i32 = 29;
pub(crate) const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
