//! What the kernel has to allow and to have before anything is done.

use anyhow::{Context as _, Result};

use crate::failure::{Exit, Failure};
use crate::finding::{Finding, State};
use crate::kernel::bpffs;

/// Oldest kernel the program is tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading and changing what is loaded.
    Use,
    /// Loading the program, where it is not, and attaching it.
    Attach,
}

/// A capability (capabilities(7)) and what it is for.
struct Capability {
    name: &'static str,
    bit: u32,
    why: &'static str,
}

const BPF: Capability = Capability { name: "CAP_BPF", bit: 39, why: "to open the program's maps" };
const PERFMON: Capability = Capability {
    name: "CAP_PERFMON",
    bit: 38,
    why: "for the verifier to accept a program that works with packet pointers",
};
const NET_ADMIN: Capability =
    Capability { name: "CAP_NET_ADMIN", bit: 12, why: "to attach it to interfaces" };
/// The pins are root's, who needs no capability for them.
const DAC_OVERRIDE: Capability =
    Capability { name: "CAP_DAC_OVERRIDE", bit: 1, why: "to reach the pins, which are root's" };
/// What stands for CAP_BPF and CAP_PERFMON, which were parts of it before kernel 5.8.
const SYS_ADMIN: u32 = 21;

impl Purpose {
    /// What is missing for it, as the part of a sentence; `None` where nothing is.
    pub(crate) fn missing(self) -> Option<String> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        missing(self, effective(&status)?, nix::unistd::geteuid().is_root())
    }
}

fn missing(purpose: Purpose, effective: u64, is_root: bool) -> Option<String> {
    let mut needed = vec![BPF];
    if purpose == Purpose::Attach {
        needed.extend([PERFMON, NET_ADMIN]);
    }
    if !is_root {
        needed.push(DAC_OVERRIDE);
    }
    let has = |bit: u32| effective >> bit & 1 != 0;
    let replaced =
        |capability: &Capability| [BPF.bit, PERFMON.bit].contains(&capability.bit) && has(SYS_ADMIN);
    let missing: Vec<_> = needed
        .iter()
        .filter(|capability| !has(capability.bit) && !replaced(capability))
        .map(|Capability { name, why, .. }| format!("{name}, {why}"))
        .collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// The capabilities in effect, from `/proc/self/status`; `None` where it does not say, so that the kernel decides.
fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// Makes sure that what is to be done can be done. Call it while the process has one thread only.
///
/// # Errors
/// It cannot: a capability is missing, an old kernel, no BPF file system.
pub(crate) fn prepare(purpose: Purpose) -> Result<()> {
    for (finding, exit) in [(capabilities(purpose), Exit::Permission), (kernel()?, Exit::Refused)] {
        if finding.state == State::Broken {
            return Err(Failure::error(exit, finding.text()));
        }
    }
    bpffs::ensure()
}

/// Whether this process may do it.
pub(crate) fn capabilities(purpose: Purpose) -> Finding {
    match purpose.missing() {
        None => Finding::fine("capabilities", "this process has all that are needed"),
        Some(missing) => Finding::new(
            "capabilities",
            State::Broken,
            format!("this process lacks {missing}"),
            "run it as root, for example with sudo, or give it these",
        ),
    }
}

/// Whether the kernel is new enough.
///
/// # Errors
/// It does not say which it is.
pub(crate) fn kernel() -> Result<Finding> {
    let release = nix::sys::utsname::uname().context("asking for the kernel's version")?;
    let release = release.release().to_string_lossy();
    let (major, minor) = OLDEST_KERNEL;
    Ok(if version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        let what = format!("this kernel is {release}, the program needs {major}.{minor} or newer");
        Finding::new("kernel", State::Broken, what, "boot a newer kernel")
    } else {
        Finding::fine("kernel", format!("{release}, {major}.{minor} or newer is needed"))
    })
}

/// Major and minor version of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_it_is_for() {
        let all = (0..41).fold(0, |set, bit| set | 1_u64 << bit);
        let without = |capabilities: &[u32]| capabilities.iter().fold(all, |set, bit| set & !(1 << bit));
        for purpose in [Purpose::Use, Purpose::Attach] {
            assert_eq!(missing(purpose, all, true), None);
            // The older one stands for both.
            assert_eq!(missing(purpose, without(&[BPF.bit, PERFMON.bit]), true), None);
        }
        let text =
            missing(Purpose::Attach, without(&[PERFMON.bit, SYS_ADMIN]), true).expect("one is missing");
        assert!(text.contains("CAP_PERFMON, for the verifier") && !text.contains("CAP_BPF"), "{text}");
        assert_eq!(missing(Purpose::Use, without(&[PERFMON.bit, SYS_ADMIN, NET_ADMIN.bit]), true), None);
        let text = missing(Purpose::Attach, 0, false).expect("all are missing");
        for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE"] {
            assert!(text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn the_capabilities_in_effect_are_read() {
        assert_eq!(effective("CapPrm:\t0000000000000001\nCapEff:\t000001ffffffffff\n"), Some((1 << 41) - 1));
        assert_eq!(effective(""), None);
    }

    #[test]
    fn kernel_releases_are_compared_by_their_numbers() {
        assert_eq!(version("6.1.0-28-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert!(version("6.18.44-fc").expect("a version") > OLDEST_KERNEL);
    }
}
