//! Checks of the kernel for programs of any kind: a compiler, types, memory, a clock.

use std::path::{Path, PathBuf};

use aya::programs::loaded_programs;

use crate::failure::sentence;
use crate::finding::{Finding, State};
use crate::kernel::clock::Tick;

/// What the smallest limiter and the tables beside it take, rounded up.
const NEEDED: u64 = 32 << 20;

/// All of it.
pub fn features() -> Vec<Finding> {
    vec![types(), compiler(), memory(), clock()]
}

/// The program needs no types of the kernel; whoever chains programs does.
fn types() -> Finding {
    const BTF: &str = "/sys/kernel/btf/vmlinux";
    if Path::new(BTF).exists() {
        Finding::fine("btf", format!("{BTF} is there"))
    } else {
        Finding::fine("btf", "the kernel has none, and the program needs none")
    }
}

/// Whether programs are compiled. The switch is seen in the first network namespace only; elsewhere a program that is loaded tells.
fn compiler() -> Finding {
    const CHECK: &str = "jit";
    const SWITCH: &str = "/proc/sys/net/core/bpf_jit_enable";
    let switch = std::fs::read_to_string(SWITCH).ok().map(|value| value.trim() != "0");
    let is_on = switch
        .or_else(|| loaded_programs().filter_map(Result::ok).next().map(|program| program.size_jitted() > 0));
    match is_on {
        Some(true) => Finding::fine(CHECK, "programs are compiled"),
        Some(false) => {
            Finding::new(CHECK, State::Slow, "programs are interpreted", "that is several times slower")
                .fixed_by("sysctl -w net.core.bpf_jit_enable=1")
        }
        None => {
            let why = "net.core.bpf_jit_enable is seen in the first network namespace, and programs by root";
            Finding::new(CHECK, State::Unknown, "whether programs are compiled is not known", why)
        }
    }
}

/// Whether there is room for the maps. The limit of locked memory does not count for them since Linux 5.11, that of the control group does.
fn memory() -> Finding {
    const CHECK: &str = "memory";
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = Path::new("/sys/fs/cgroup").join(group);
    let groups = own.ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup"));
    let left = groups.filter_map(|path| Some((left_in(path)?, path.to_owned()))).min();
    judge_memory(CHECK, left)
}

fn judge_memory(check: &'static str, left: Option<(u64, PathBuf)>) -> Finding {
    match left {
        None => Finding::fine(check, "no control group limits it"),
        Some((left, _)) if left >= NEEDED => {
            Finding::fine(check, format!("{} MiB are left to the control group", left >> 20))
        }
        Some((left, path)) => {
            let what = format!(
                "{} MiB are left to the control group, the maps may need {}",
                left >> 20,
                NEEDED >> 20
            );
            let why = format!("`memory.max` of {} is to be raised", path.display());
            Finding::new(check, State::Broken, what, why)
        }
    }
}

/// What is left to a control group (cgroup v2) that has a limit.
fn left_in(group: &Path) -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Whether the clock that limits go by can be used.
fn clock() -> Finding {
    match Tick::of_this_kernel() {
        Ok(tick) => Finding::fine("clock", format!("limits go by {:.0} ticks a second", tick.per_second)),
        Err(error) => Finding::new("clock", State::Broken, "limits cannot be kept", sentence(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_with_too_little_memory_is_named() {
        let of = |left| judge_memory("memory", Some((left, PathBuf::from("/sys/fs/cgroup/small"))));
        assert_eq!(of(NEEDED).state, State::Fine);
        let found = of(NEEDED - 1);
        assert!(found.state == State::Broken && found.why.contains("/sys/fs/cgroup/small"), "{found:?}");
        assert_eq!(judge_memory("memory", None).state, State::Fine);
    }
}
