//! Privileges and features of the kernel that are checked before anything is done.

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::geteuid;

use crate::failure::{Exit, Failure};
use crate::finding::{Finding, State};
use crate::kernel::bpf;
use crate::kernel::bpffs;
use crate::kernel::user_namespace;

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

/// A capability and what it is for.
struct Need {
    capability: Capability,
    why: &'static str,
}

const BPF: Need = Need { capability: Capability::CAP_BPF, why: "to open the program's maps" };
const PERFMON: Need = Need {
    capability: Capability::CAP_PERFMON,
    why: "for the verifier to accept a program that works with packet pointers",
};
const NET_ADMIN: Need = Need { capability: Capability::CAP_NET_ADMIN, why: "to attach it to interfaces" };
/// The pins are root's, who needs no capability for them.
const DAC_OVERRIDE: Need =
    Need { capability: Capability::CAP_DAC_OVERRIDE, why: "to reach the pins, which are root's" };

impl Purpose {
    fn needs(self, is_root: bool) -> Vec<Need> {
        let mut needs = vec![BPF];
        if self == Self::Attach {
            needs.extend([PERFMON, NET_ADMIN]);
        }
        if !is_root {
            needs.push(DAC_OVERRIDE);
        }
        needs
    }

    /// What keeps this process from it, and what would help; `None` where nothing does.
    pub(crate) fn obstacle(self) -> Option<[String; 2]> {
        // In there it seems to have all of them.
        if let Some(namespace) = user_namespace::not_the_systems() {
            return Some([
                format!(
                    "this process is in user namespace {namespace}, and bpf(2) wants capabilities of the system's"
                ),
                "run it outside of that namespace, as root".to_owned(),
            ]);
        }
        // Where it does not say, the kernel decides.
        let effective = caps::read(None, CapSet::Effective).ok()?;
        if let Some(missing) = missing(self, &effective, geteuid().is_root()) {
            let help = "run it as root, for example with sudo, or give it these";
            return Some([format!("this process lacks {missing}"), help.to_owned()]);
        }
        bpf::is_filtered().then(|| {
            [
                "bpf(2) is refused to this process whatever capabilities it has, by a filter of system calls (seccomp) or a security module"
                    .to_owned(),
                "have the container runtime use a profile that allows bpf(2) with CAP_BPF, as those of containerd and Docker do"
                    .to_owned(),
            ]
        })
    }

    /// Those of the capabilities in `held` that are needed for it.
    pub(super) fn needed_of(self, held: &CapsHashSet) -> CapsHashSet {
        let needs = self.needs(geteuid().is_root());
        needs.iter().filter_map(|need| holds(held, need)).collect()
    }
}

/// Which of the capabilities held is the one needed: CAP_SYS_ADMIN stands for two that were parts of it before kernel 5.8.
fn holds(held: &CapsHashSet, need: &Need) -> Option<Capability> {
    let older = matches!(need.capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
        .then_some(Capability::CAP_SYS_ADMIN);
    [Some(need.capability), older].into_iter().flatten().find(|capability| held.contains(capability))
}

fn missing(purpose: Purpose, held: &CapsHashSet, is_root: bool) -> Option<String> {
    let missing: Vec<_> = purpose
        .needs(is_root)
        .iter()
        .filter(|need| holds(held, need).is_none())
        .map(|Need { capability, why }| format!("{capability}, {why}"))
        .collect();
    (!missing.is_empty()).then(|| missing.join("; "))
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
    match purpose.obstacle() {
        None => Finding::fine("capabilities", "this process has all that are needed"),
        Some([obstacle, help]) => Finding::new("capabilities", State::Broken, obstacle, help),
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
        let without = |names: &[Capability]| -> CapsHashSet {
            caps::all().into_iter().filter(|capability| !names.contains(capability)).collect()
        };
        let [bpf, perfmon, net_admin] = [&BPF, &PERFMON, &NET_ADMIN].map(|need| need.capability);
        for purpose in [Purpose::Use, Purpose::Attach] {
            assert_eq!(missing(purpose, &caps::all(), true), None);
            // The older one stands for both.
            assert_eq!(missing(purpose, &without(&[bpf, perfmon]), true), None);
        }
        let older = Capability::CAP_SYS_ADMIN;
        let text = missing(Purpose::Attach, &without(&[perfmon, older]), true).expect("one is missing");
        assert!(text.contains("CAP_PERFMON, for the verifier") && !text.contains("CAP_BPF"), "{text}");
        assert_eq!(missing(Purpose::Use, &without(&[perfmon, older, net_admin]), true), None);
        let text = missing(Purpose::Attach, &CapsHashSet::new(), false).expect("all are missing");
        for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE"] {
            assert!(text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn kernel_releases_are_compared_by_their_numbers() {
        assert_eq!(version("6.1.0-28-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert!(version("6.18.44-fc").expect("a version") > OLDEST_KERNEL);
    }
}
