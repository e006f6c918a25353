//! The kernel's clocks as the program reads them: its tick counter, how long a tick is, and the time since boot.
//!
//! Owns reading them. `/proc/timer_list` is the one place where the kernel shows its tick counter (kernel/time/timer_list.c).

use anyhow::{Context as _, Result, bail};

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
        let seconds = resolution.tv_sec() as f64 + resolution.tv_nsec() as f64 / 1e9;
        if !(0.0005..=0.05).contains(&seconds) {
            bail!("the kernel says its clock tick is {seconds} s long, expected 1 to 10 ms");
        }
        Ok(Self { per_second: 1.0 / seconds })
    }
}

/// Nanoseconds of CLOCK_MONOTONIC, which the program asks while a confirmation is awaited.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn monotonic_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).context("asking for the time")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

const TIMER_LIST: &str = "/proc/timer_list";

/// Ticks as `bpf_jiffies64` counts them.
///
/// # Errors
/// The file cannot be read, or does not have it.
pub(crate) fn ticks() -> Result<u64> {
    let text = std::fs::read_to_string(TIMER_LIST)
        .with_context(|| format!("reading the kernel's tick counter from {TIMER_LIST}"))?;
    parse(&text).with_context(|| format!("{TIMER_LIST} does not show the kernel's tick counter"))
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("jiffies: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_among_the_timers() {
        assert_eq!(parse("cpu: 0\n  .nohz_mode: 1\njiffies: 4295875449\n"), Some(4_295_875_449));
        assert_eq!(parse("cpu: 0\n"), None);
    }
}
