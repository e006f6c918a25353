//! Another XDP program on an interface: its name, who holds it, the command that takes it off, and how it is exchanged.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use nix::libc;
use nix::unistd::Pid;

use crate::diagnostics::shell_word;
use crate::failure::has_errno;
use crate::finding::{Finding, State};
use crate::host::netlink::{Link, Xdp};
use crate::kernel::holders::holders;
use crate::kernel::{bpf, netlink};

/// How it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// By the link of this id, which stays as long as a process or a pin holds it.
    Link(u32),
    /// To the interface itself, over netlink, where it stays until it is taken off.
    Netlink,
    /// One or the other: which, the kernel tells only who has CAP_SYS_ADMIN.
    Unasked,
}

impl Attachment {
    /// How this program is attached to this interface.
    ///
    /// # Errors
    /// The kernel does not tell, though it would.
    pub(crate) fn of(ifindex: u32, program_id: u32) -> Result<Self> {
        match bpf::link_on(ifindex, program_id) {
            Ok(Some(id)) => Ok(Self::Link(id)),
            Ok(None) => Ok(Self::Netlink),
            Err(error) if has_errno(&error, &[libc::EPERM]) => Ok(Self::Unasked),
            Err(error) => Err(error.context("asking how a program is attached")),
        }
    }

    /// As words behind "attached".
    pub(crate) fn text(self) -> String {
        match self {
            Self::Link(id) => format!("by link {id}"),
            Self::Netlink => "by netlink".to_owned(),
            Self::Unasked => "by netlink or a link".to_owned(),
        }
    }

    /// Puts one program in the place of another, which stays attached like this, from one instant to the next.
    ///
    /// # Errors
    /// The old one is not there any more, or the kernel or the driver refuses; nothing has changed.
    pub(super) fn replace(
        self,
        link: &Link,
        mode: &str,
        old: BorrowedFd<'_>,
        new: BorrowedFd<'_>,
    ) -> Result<()> {
        let replaced = match self {
            Self::Netlink | Self::Unasked => netlink::replace(link.index, mode_flags(mode), old, Some(new)),
            Self::Link(id) => {
                bpf::exchange_on_link(id, old, new).with_context(|| format!("updating link {id}"))
            }
        };
        replaced.map_err(|error| {
            let why = if has_errno(&error, &[libc::EEXIST]) {
                "another program has come in its place meanwhile; try again"
            } else if has_errno(&error, &[libc::EINVAL]) && matches!(self, Self::Link(_)) {
                "the two were loaded with different attach types, and the kernel lets a link run only programs that agree in that"
            } else if has_errno(&error, &[libc::EBUSY]) && self == Self::Unasked {
                "it is attached by a link of another owner, for which the kernel asks for CAP_SYS_ADMIN"
            } else {
                return error;
            };
            error.context(why)
        })
    }

    /// Takes a program off.
    ///
    /// # Errors
    /// It is not there any more, or the kernel or the driver refuses; nothing has changed.
    pub(super) fn take_off(self, link: &Link, mode: &str, old: BorrowedFd<'_>) -> Result<()> {
        match self {
            Self::Netlink | Self::Unasked => netlink::replace(link.index, mode_flags(mode), old, None),
            Self::Link(id) => bpf::detach_link_by_id(id).with_context(|| format!("detaching link {id}")),
        }
    }
}

/// The flag of netlink for a mode (`XDP_FLAGS_*_MODE`).
pub(super) fn mode_flags(mode: &str) -> u32 {
    match mode {
        "generic" => 1 << 1,
        "offload" => 1 << 3,
        _ => 1 << 2,
    }
}

/// That it is in the way, and what takes it off.
///
/// # Errors
/// The kernel does not tell about it, though it would.
pub(super) fn finding(link: &Link, xdp: Xdp) -> Result<Finding> {
    let attachment = Attachment::of(link.index, xdp.program_id)?;
    let holder = match attachment {
        Attachment::Link(id) => holders(id).next().map(|holder| (holder.pid, holder.name())),
        Attachment::Netlink | Attachment::Unasked => None,
    };
    let what = format!(
        "another XDP program is attached, {} with id {} ({} mode, {})",
        match program(xdp.program_id) {
            Ok(program) => program.as_ref().map_or_else(|| NAMELESS.to_owned(), name),
            Err(error) if has_errno(&error, &[libc::EPERM]) => UNASKED.to_owned(),
            Err(error) => return Err(error),
        },
        xdp.program_id,
        xdp.mode,
        attachment.text()
    );
    let (mut why, command) = removal(&link.name, xdp.mode, attachment, holder);
    if ["native", "generic"].contains(&xdp.mode) {
        why.push_str(&format!(
            "; `icmp-ctl attach --chain {}` goes in front of it, and it gets the frames that are passed",
            shell_word(&link.name)
        ));
    }
    Ok(Finding::new("programs", State::Broken, what, why).on(&link.name).fixed_by(command))
}

/// Who has it attached, and the command that takes it off.
fn removal(
    interface: &str,
    mode: &str,
    attachment: Attachment,
    holder: Option<(Pid, String)>,
) -> (String, String) {
    match (attachment, holder) {
        (Attachment::Link(id), Some((pid, name))) => (
            format!("{name} (process {pid}) holds the link, and would have to be stopped"),
            format!("bpftool link detach id {id}"),
        ),
        (Attachment::Link(id), None) => (
            "the link is pinned, or held by a process that cannot be asked from here".to_owned(),
            format!("bpftool link detach id {id}"),
        ),
        (Attachment::Netlink | Attachment::Unasked, _) => {
            let word = match mode {
                "native" => "xdpdrv",
                "generic" => "xdpgeneric",
                "offload" => "xdpoffload",
                _ => "xdp",
            };
            (
                "the tool that attached it takes it off".to_owned(),
                format!("ip link set dev {} {word} off", shell_word(interface)),
            )
        }
    }
}

/// What a program is called that has no name.
const NAMELESS: &str = "one without a name";

/// What stands for the name of a program where this process may not ask for it.
const UNASKED: &str = "one whose name takes CAP_SYS_ADMIN to ask for,";

/// A loaded program; `None` where it is gone.
///
/// # Errors
/// The kernel does not tell, or does not show programs: that takes CAP_SYS_ADMIN.
pub(super) fn program(id: u32) -> Result<Option<ProgramInfo>> {
    for info in loaded_programs() {
        match info.map_err(anyhow::Error::new) {
            Ok(info) if info.id() == id => return Ok(Some(info)),
            Ok(_) => {}
            // One that has gone meanwhile.
            Err(error) if has_errno(&error, &[libc::ENOENT]) => {}
            Err(error) => return Err(error).context("asking about the programs that are loaded"),
        }
    }
    Ok(None)
}

/// What it is called.
pub(super) fn name(info: &ProgramInfo) -> String {
    info.name_as_str().filter(|name| !name.is_empty()).unwrap_or(NAMELESS).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_program_off_goes_by_how_it_is_attached() {
        for (mode, attachment, holder, said, command) in [
            ("native", Attachment::Netlink, None, "", "ip link set dev eth0 xdpdrv off"),
            ("generic", Attachment::Netlink, None, "", "ip link set dev eth0 xdpgeneric off"),
            ("offload", Attachment::Netlink, None, "", "ip link set dev eth0 xdpoffload off"),
            ("native", Attachment::Link(7), None, "pinned", "bpftool link detach id 7"),
            (
                "generic",
                Attachment::Link(7),
                Some((Pid::from_raw(9), "xdp-filter".to_owned())),
                "xdp-filter (process 9) holds the link",
                "bpftool link detach id 7",
            ),
        ] {
            let (why, found) = removal("eth0", mode, attachment, holder);
            assert!(found == command && why.contains(said), "{why} {found}");
        }
    }
}
