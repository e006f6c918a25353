//! Waiting until no CPU is inside the program any more.

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Returns when every CPU has left whatever XDP program it was in when this was called.
///
/// membarrier's global command is a `synchronize_rcu` (kernel/sched/membarrier.c), and XDP programs run in read-side sections of RCU.
/// Where CPUs run without ticks the kernel refuses it; then this thread visits each CPU, which it can't while that CPU is in one.
///
/// # Errors
/// The kernel refuses both.
pub(crate) fn wait_for_readers() -> Result<()> {
    // SAFETY: the call takes three integers and touches no memory of ours.
    let done =
        unsafe { nix::libc::syscall(nix::libc::SYS_membarrier, nix::libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done == 0 { Ok(()) } else { visit_each_cpu() }
}

fn visit_each_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let home = sched_getaffinity(this).context("asking for this thread's CPUs")?;
    let mut visited = 0;
    for cpu in 0..CpuSet::count() {
        let mut only = CpuSet::new();
        only.set(cpu)?;
        // A CPU that is off or not there runs no program either.
        visited += usize::from(sched_setaffinity(this, &only).is_ok());
    }
    sched_setaffinity(this, &home).context("going back to this thread's CPUs")?;
    let online = std::fs::read_to_string("/proc/stat").context("counting the CPUs that are on")?;
    let online = online.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    if visited < online {
        bail!(
            "waiting until the program has left the old tables: of {online} CPUs this process may visit {visited}; run it outside of \
             a cpuset"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_is_visited_and_the_thread_comes_home() {
        let home = sched_getaffinity(Pid::from_raw(0)).expect("an affinity");
        visit_each_cpu().expect("this machine lets us");
        assert_eq!(sched_getaffinity(Pid::from_raw(0)), Ok(home));
    }
}
