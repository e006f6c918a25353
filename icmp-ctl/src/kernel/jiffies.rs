//! The kernel's tick counter as of now, which the program stamps things with.
//!
//! Owns reading it from `/proc/timer_list`, the one place where the kernel shows it (kernel/time/timer_list.c).

use anyhow::{Context as _, Result};

const TIMER_LIST: &str = "/proc/timer_list";

/// Ticks as `bpf_jiffies64` counts them.
///
/// # Errors
/// The file cannot be read, or does not have it.
pub(crate) fn now() -> Result<u64> {
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
