//! Owns the smallest XDP program there is, `return XDP_PASS`, and its attachment.
//!
//! veth delivers a frame that the other end sent with `XDP_TX` only if this end has an XDP program too: without one the
//! frame counts as sent and is lost. Every test on a veth pair needs this, so nothing that is under test takes part: two
//! instructions go to the kernel as they are, no object file, no pin. The attachment is a link owned by a file
//! descriptor and ends with it.

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
        let program =
            load_pass(expected_attach_type).unwrap_or_else(|e| panic!("loading the pass program: {e}"));
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

fn pin(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    call(BPF_OBJ_PIN, &ObjectPin { path: path.as_ptr() as u64, fd: fd.as_raw_fd(), flags: 0 }).map(|_| ())
}

fn load_pass(expected_attach_type: u32) -> io::Result<OwnedFd> {
    // struct bpf_insn { u8 code; u8 registers; s16 offset; s32 immediate }
    const MOV64_IMMEDIATE: u64 = 0xb7;
    const EXIT: u64 = 0x95;
    const XDP_PASS: u64 = 2;
    let instructions: [u64; 2] = [MOV64_IMMEDIATE | XDP_PASS << 32, EXIT];
    let license = c"GPL";
    let mut name = [0; 16];
    name[..9].copy_from_slice(b"test_pass");

    let attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        // Jumbo frames come in several buffers.
        flags: BPF_F_XDP_HAS_FRAGS,
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
fn bpf<T>(command: i32, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: i32, attributes: &T) -> io::Result<RawFd> {
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

/// `union bpf_attr` for `BPF_OBJ_PIN`, as far as it is used.
#[repr(C)]
struct ObjectPin {
    path: u64,
    fd: RawFd,
    flags: u32,
}

// From linux/bpf.h and linux/if_link.h.
const BPF_PROG_LOAD: i32 = 5;
const BPF_OBJ_PIN: i32 = 6;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
