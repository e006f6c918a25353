//! Waiting until no CPU is inside the program any more.

use anyhow::{Result, bail};

/// Returns when every CPU has left whatever XDP program it was in when this was called.
///
/// membarrier's global command is a `synchronize_rcu` (kernel/sched/membarrier.c), and XDP programs run in read-side sections of RCU.
///
/// # Errors
/// The kernel refuses the call (it does where CPUs run without ticks); what was to be changed next must then stay as it is.
pub(crate) fn wait_for_readers() -> Result<()> {
    // SAFETY: the call takes three integers and touches no memory of ours.
    let done =
        unsafe { nix::libc::syscall(nix::libc::SYS_membarrier, nix::libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done != 0 {
        bail!("waiting until the program has left the old tables: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
