//! What `serve` gives up before it starts: capabilities, new privileges, writing outside the BPF file system and its sockets.
//!
//! Owns how these are given up. It does not own what is needed (`requirements.rs`), nor what the unit takes away before (`deploy/systemd`).

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};
use nix::sys::prctl::set_no_new_privs;

use crate::diagnostics::note;
use crate::kernel::bpffs;
use crate::kernel::requirements::Purpose;
use crate::kernel::sockets;

/// `iptables-legacy-save` asks the kernel on a raw socket. Where it cannot, its rules are not warned about, and all else works.
const FOR_LEGACY_RULES: Capability = Capability::CAP_NET_RAW;

/// Gives up, for this process and all that it runs, every capability that is not needed to attach and to ask about rules, new privileges, and with Landlock writing
/// elsewhere than to the BPF file system. Call it while the process has one thread only: the kernel takes it from
/// the thread that asks.
///
/// # Errors
/// The kernel refuses a step; what was given up by then stays so.
pub fn confine() -> Result<()> {
    keep_needed_capabilities().context("giving up capabilities")?;
    set_no_new_privs().context("giving up new privileges")?;
    restrict().context("giving up writing with Landlock")
}

/// Gives up connecting over TCP, but for these ports, as [`confine`] gives up the rest. What is given up is not had again.
///
/// # Errors
/// The kernel refuses.
pub fn give_up_connecting(but_to: &[u16]) -> Result<()> {
    let connecting = AccessNet::ConnectTcp;
    let restricted = || -> Result<()> {
        let rules =
            Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(connecting)?;
        let ports = but_to.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, connecting)));
        rules.create()?.add_rules(ports)?.restrict_self()?;
        Ok(())
    };
    restricted().context("giving up connecting with Landlock")
}

fn keep_needed_capabilities() -> Result<()> {
    let held = caps::read(None, CapSet::Permitted)?;
    let mut needed = Purpose::Attach.needed_of(&held);
    needed.extend(held.get(&FOR_LEGACY_RULES));
    // The bounding set holds for what is run, such as `nft`; without CAP_SETPCAP it stays, and new privileges are not had anyway.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &needed)?;
    caps::set(None, CapSet::Permitted, &needed)?;
    let inherited: CapsHashSet =
        caps::read(None, CapSet::Inheritable)?.intersection(&needed).copied().collect();
    Ok(caps::set(None, CapSet::Inheritable, &inherited)?)
}

/// Reading stays as it is: files that a configuration names may be anywhere, and `nft` has libraries.
fn restrict() -> Result<()> {
    let writing = AccessFs::from_write(ABI::V3);
    let mut rules =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(writing)?.create()?;
    for (path, allowed) in [(bpffs::MOUNT_POINT, writing), ("/dev/null", AccessFs::WriteFile.into())] {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, allowed))?;
    }
    // Where it is not there, nobody is to ask.
    if let Ok(folder) = PathFd::new(sockets::FOLDER) {
        rules = rules.add_rule(PathBeneath::new(folder, AccessFs::MakeSock | AccessFs::RemoveFile))?;
    }
    if rules.restrict_self()?.ruleset == RulesetStatus::NotEnforced {
        note("this kernel has no Landlock: `serve` may write what its user may, as far as its unit lets it");
    }
    Ok(())
}
