//! CPU time: of this thread, and of the kernel's thread that works for it.
//!
//! Owns pinning and reading. Without `CONFIG_IRQ_TIME_ACCOUNTING` the time of a soft interrupt counts for the interrupted thread, and the rest
//! goes to the CPU's `ksoftirqd`; the two together are the cost of packets if everything happens on one CPU.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Keeps the calling thread on a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    pin_thread(Pid::from_raw(0), cpu)
}

/// Keeps a thread on a CPU; 0 is the calling one.
pub(crate) fn pin_thread(thread: Pid, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    sched_setaffinity(thread, &set).with_context(|| format!("pinning thread {thread} to CPU {cpu}"))
}

/// The kernel's threads, and others' first ones, with such names.
pub(crate) fn threads(named: impl Fn(&str) -> bool) -> Result<Vec<Pid>> {
    let processes = fs::read_dir("/proc").context("reading /proc")?.flatten();
    let wanted = processes.filter(|process| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|name| named(name.trim()))
    });
    Ok(wanted.filter_map(|process| process.file_name().to_str()?.parse().ok().map(Pid::from_raw)).collect())
}

/// Nanoseconds of CPU that the calling thread has used.
pub(crate) fn thread_ns() -> Result<f64> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("asking for this thread's CPU time")?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// CPU time of everything that receives on one CPU, the calling thread included.
pub(crate) struct CpuClock {
    ksoftirqd: PathBuf,
}

impl CpuClock {
    /// Pins the calling thread to `cpu`, and finds that CPU's `ksoftirqd`.
    pub(crate) fn of(cpu: usize) -> Result<Self> {
        pin(cpu)?;
        let wanted = format!("ksoftirqd/{cpu}");
        let found = threads(|name| name == wanted)?;
        let thread = found.first().with_context(|| format!("there is no thread {wanted}"))?;
        Ok(Self { ksoftirqd: format!("/proc/{thread}/schedstat").into() })
    }

    /// Nanoseconds so far.
    pub(crate) fn ns(&self) -> Result<f64> {
        let text = fs::read_to_string(&self.ksoftirqd)
            .with_context(|| format!("reading {}", self.ksoftirqd.display()))?;
        let ran: f64 = text.split_whitespace().next().unwrap_or_default().parse().context("its time")?;
        Ok(thread_ns()? + ran)
    }
}
