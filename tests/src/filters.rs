//! Filters of system calls, for what a process may not do although it has every capability.
//!
//! They are put on between fork and exec, with `pre_exec`: all that is called there only makes system calls.

use nix::libc;

const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;

/// A statement of a filter of system calls.
const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes on with the next statement where what was loaded is this, and leaves out so many where it is not.
const fn unless(k: u32, leave_out: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: leave_out, k }
}

/// Has the kernel refuse to pin anything.
///
/// # Errors
/// The kernel takes no filter.
pub fn refuse_pinning() -> std::io::Result<()> {
    const OBJ_PIN: u32 = 6;
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    filter_calls(&mut [
        // The number of the call is the first word, the command the low half of the first argument.
        statement(load, 0),
        unless(libc::SYS_bpf as u32, 3),
        statement(load, 16),
        unless(OBJ_PIN, 1),
        statement(libc::BPF_RET | libc::BPF_K, REFUSE),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ])
}

/// Has the kernel refuse both ways of waiting until no CPU is in the program.
///
/// # Errors
/// The kernel takes no filter.
pub fn refuse_waiting() -> std::io::Result<()> {
    filter_calls(&mut [
        // The number of the call is the first word.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        unless(libc::SYS_membarrier as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, REFUSE),
        unless(libc::SYS_sched_setaffinity as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, REFUSE),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ])
}

/// Refuses bpf(2) as container runtimes do whose profile wants CAP_SYS_ADMIN for it.
///
/// # Errors
/// The kernel takes no filter.
pub fn refuse_bpf() -> std::io::Result<()> {
    filter_calls(&mut [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        unless(libc::SYS_bpf as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ])
}

/// Puts a filter on the system calls of this process.
fn filter_calls(filter: &mut [libc::sock_filter]) -> std::io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the call takes integers.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    nix::errno::Errno::result(done)?;
    // SAFETY: the program and its filter are alive during the call, which copies them.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    nix::errno::Errno::result(done)?;
    Ok(())
}
