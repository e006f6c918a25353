//! The kernel's clocks as the program reads them: its tick counter, the length of a tick, and the time since boot.
//!
//! Owns reading them. `/proc/timer_list` is the one place where the kernel shows its tick counter (kernel/time/timer_list.c).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::kernel::bpf;

/// The tick the program's clock counts.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Ticks a second: the kernel's HZ.
    pub per_second: f64,
}

impl Tick {
    /// Asks the kernel: the resolution of its coarse clocks is one tick.
    ///
    /// # Errors
    /// The clock cannot be asked, or says nonsense.
    pub fn of_this_kernel() -> Result<Self> {
        let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
            .context("asking the kernel for the length of its clock tick")?;
        Self::of_length(Duration::from(resolution))
    }

    fn of_length(tick: Duration) -> Result<Self> {
        let (shortest, longest) = Self::LENGTHS;
        ensure!(
            (shortest..=longest).contains(&tick),
            "the kernel says its clock tick is {tick:?} long, and it has to be from {shortest:?} to {longest:?}"
        );
        Ok(Self { per_second: 1.0 / tick.as_secs_f64() })
    }

    /// Ticks that kernels have are from 1 to 10 ms long; and some room beyond.
    const LENGTHS: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(50));
}

/// Nanoseconds of CLOCK_MONOTONIC as the program has them while a confirmation is awaited, told by the function that it asks (`bpf_ktime_get_ns`): this
/// process's own may be another one, where it is in a time namespace (time_namespaces(7)).
///
/// # Errors
/// The kernel does not let this process ask.
pub(crate) fn monotonic_ns() -> Result<u64> {
    bpf::ktime_ns().context("asking for the time")
}

/// Ticks as the packet path counts them, told by the function of the kernel's that it asks (`bpf_jiffies64`): /proc/timer_list has them too,
/// and is hidden in many a container.
///
/// # Errors
/// The kernel does not let this process ask.
pub(crate) fn ticks() -> Result<u64> {
    bpf::jiffies().context("asking the kernel for its tick counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_there_cannot_be_is_told_in_the_unit_of_those_that_can_be() {
        let of = |micros: u64| Tick::of_length(Duration::from_micros(micros));
        assert!(of(4_000).is_ok_and(|tick| (249.9..250.1).contains(&tick.per_second)));
        let error = of(100_000).expect_err("it is too long").to_string();
        assert!(error.contains("100ms long") && error.ends_with("to 50ms"), "{error}");
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skip says why")]
    fn ticks_are_those_the_kernel_lists_with_its_timers() {
        let listed = || {
            let text = std::fs::read_to_string("/proc/timer_list").ok()?;
            text.lines().find_map(|line| line.strip_prefix("jiffies: ")?.trim().parse::<u64>().ok())
        };
        let Some(before) = listed() else {
            eprintln!("skipped: the kernel's list of timers is root's, and hidden here");
            return;
        };
        let ticks = ticks().expect("root may ask");
        let after = listed().expect("it was there before");
        assert!((before..=after).contains(&ticks), "{before} {ticks} {after}");
    }
}
