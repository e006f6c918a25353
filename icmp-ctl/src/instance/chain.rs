//! In front of another program on an interface: ours takes its place at one instant, passes frames on to it, and puts it back in the same way.
//! Or in libxdp's dispatcher, which calls ours first.
//!
//! Owns the order of the steps, so that the interface has one of the two programs wherever a command is killed, and the pins (`behind.rs`) say
//! which belongs there. `dispatcher.rs` exchanges a dispatcher. The kind of attachment stays, netlink or its owner's link: only the program is
//! exchanged. `foreign.rs` describes the other program.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{ProgramFd, ProgramInfo};

use crate::diagnostics::say_if_it_takes_long;
use crate::failure::{Exit, Failure};
use crate::host::netlink::{Link, Xdp, links_once};
use crate::instance::behind::{self, Chained};
use crate::instance::dispatcher;
use crate::instance::foreign::{self, Attachment};
use crate::instance::links::note_name;
use crate::instance::pins::Instance;
use crate::instance::program::{self, Entry, LoadOptions, explain_refusal};
use crate::kernel::bpf::{self, XdpKind};
use crate::kernel::membarrier::wait_for_readers;

impl Instance {
    /// Puts ours in front of the program of an interface, which has its entry in the interface table; in libxdp's dispatcher, where it is one.
    ///
    /// # Errors
    /// The kernel does not let ours call the other, or a dispatcher ours; another one was attached meanwhile, or something cannot be pinned. The
    /// interface has the other program alone.
    pub(super) fn go_in_front(&mut self, link: &Link, xdp: Xdp, slot: u32) -> Result<Chained> {
        let opening = || {
            format!(
                "{}: opening program {} there, for which the kernel asks for CAP_SYS_ADMIN",
                link.name, xdp.program_id
            )
        };
        let info = foreign::program(xdp.program_id).with_context(opening)?;
        let info =
            info.with_context(|| format!("{}: the program that was there is gone; try again", link.name))?;
        if dispatcher::is_one(&info) {
            return self.join(link, &info);
        }
        let behind = behind::named(&info);
        let fd = info.fd().with_context(opening)?;
        let entry = entry_before(link, &info, &fd)?;
        let ours = self.program(entry)?;
        let program_id = ours.info()?.id();
        // What is pinned is the only thing that knows what to put back, so it comes first. What was put there before is somebody else's by now.
        note_name(&self.directory, link.index, &link.name)?;
        self.forget_behind(link.index)?;
        bpf::pin(fd.as_fd(), &behind::pin(&self.directory, entry, link.index))?;
        self.maps.set_chain(entry, slot, &fd)?;
        let attachment = Attachment::of(link.index, xdp.program_id)?;
        attachment.replace(link, xdp.mode, fd.as_fd(), ours.fd()?.as_fd()).map_err(|error| {
            let what =
                format!("{}: going in front of {} (program {})", link.name, behind.name, behind.program_id);
            error.context(Failure { exit: Exit::Refused, message: what })
        })?;
        Ok(Chained { entry, program_id, is_there: true, behind })
    }

    /// Has the dispatcher of an interface call ours.
    fn join(&mut self, link: &Link, dispatcher: &ProgramInfo) -> Result<Chained> {
        let entry = Entry::Extension;
        let pin = self.program_pin(entry);
        if !pin.exists() {
            self.load_extension(dispatcher, &pin)?;
        }
        let program_id = ProgramInfo::from_pin(&pin)?.id();
        note_name(&self.directory, link.index, &link.name)?;
        self.forget_behind(link.index)?;
        behind::note_dispatcher(&self.directory, link.index)?;
        dispatcher::join(link, &pin).map_err(|error| {
            let what = format!("{}: joining {} (program {})", link.name, dispatcher::NAME, dispatcher.id());
            error.context(Failure { exit: Exit::Refused, message: what })
        })?;
        let now = links_once()?.into_iter().find(|now| now.index == link.index).and_then(|now| now.xdp);
        let behind = behind::in_dispatcher(now.map_or(0, |xdp| xdp.program_id));
        Ok(Chained { entry, program_id, is_there: true, behind })
    }

    fn load_extension(&self, dispatcher: &ProgramInfo, pin: &Path) -> Result<()> {
        let options = LoadOptions::of(&self.directory)?;
        let dispatcher = dispatcher.fd()?;
        say_if_it_takes_long("the kernel is verifying the program", || {
            program::load_extension_beside(&options, &self.directory, dispatcher, pin)
        })
        .map_err(explain_refusal)
    }

    /// Puts the program behind ours back in its place; true where there was one. Where ours is not in front of it any more, somebody else has
    /// decided what is there.
    ///
    /// # Errors
    /// The kernel refuses, and ours is still in front of it.
    pub(super) fn put_back(&mut self, ifindex: u32) -> Result<bool> {
        let links = links_once()?;
        let link = links.iter().find(|link| link.index == ifindex);
        let Some(chained) = behind::chained(&self.directory, ifindex, link)? else { return Ok(false) };
        let Chained { entry, program_id, is_there, behind } = chained;
        let Some((link, xdp)) = link.filter(|_| is_there).and_then(|link| Some((link, link.xdp?))) else {
            return Ok(true);
        };
        if entry == Entry::Extension {
            dispatcher::leave(link, program_id)
                .with_context(|| format!("{}: leaving {}", link.name, behind.name))?;
            return Ok(true);
        }
        let other = bpf::open(&behind::pin(&self.directory, entry, ifindex))?;
        let ours = bpf::open(&self.program_pin(entry))?;
        let attachment = Attachment::of(ifindex, program_id)?;
        attachment.replace(link, xdp.mode, ours.as_fd(), other.as_fd()).with_context(|| {
            format!("{}: putting {} (program {}) back", link.name, behind.name, behind.program_id)
        })?;
        Ok(true)
    }

    /// Whether this process may take ours off an interface where it is beside another program.
    ///
    /// # Errors
    /// It may not; with the reason.
    pub(crate) fn may_put_back(&self, ifindex: u32) -> Result<()> {
        let links = links_once()?;
        let on_it = links.iter().find(|link| link.index == ifindex);
        let on_it = on_it.and_then(|link| Some((link, link.xdp?)));
        let Some((entry, (link, xdp))) = behind::entry_on(&self.directory, ifindex).zip(on_it) else {
            return Ok(());
        };
        if entry == Entry::Extension {
            return dispatcher::open(xdp.program_id).map(drop);
        }
        // What it is exchanged for itself changes nothing.
        let ours = bpf::open(&self.program_pin(entry))?;
        Attachment::of(ifindex, xdp.program_id)?.replace(link, xdp.mode, ours.as_fd(), ours.as_fd())
    }

    /// Forgets what was behind ours on an interface.
    ///
    /// # Errors
    /// A map cannot be written, or a pin not removed.
    pub(super) fn forget_behind(&mut self, ifindex: u32) -> Result<()> {
        let Some(entry) = behind::entry_on(&self.directory, ifindex) else { return Ok(()) };
        // A frame that ours has begun with still finds the other behind it.
        wait_for_readers()?;
        let entries = self.maps.interfaces()?;
        let interface = entries.iter().find(|interface| interface.ifindex == ifindex);
        if let Some(interface) = interface.filter(|_| entry != Entry::Extension) {
            self.maps.clear_chain(entry, interface.slot)?;
        }
        behind::remove(&self.directory, ifindex)
    }
}

/// Refuses to go in front of a program where that cannot work, before anything is loaded.
///
/// # Errors
/// The network card runs it, or there are several.
pub(super) fn refuse_hopeless(link: &Link, xdp: Xdp) -> Result<()> {
    match xdp.mode {
        "native" | "generic" => Ok(()),
        "offload" => bail!(
            "{}: `--chain` works in this host only, and the program there is run by the network card",
            link.name
        ),
        _ => bail!(
            "{}: `--chain` goes in front of one program, and there are several; `ip -d link show {0}` lists them",
            link.name
        ),
    }
}

/// The entry point of ours that the kernel lets call this program.
fn entry_before(link: &Link, info: &ProgramInfo, fd: &ProgramFd) -> Result<Entry> {
    let reason = match XdpKind::of(fd.as_fd()) {
        Ok(Some(XdpKind { attach_type: true, frags })) => {
            return Ok(if frags { Entry::ChainFrags } else { Entry::Chain });
        }
        Ok(Some(XdpKind { attach_type: false, .. })) => {
            "it was loaded without an attach type, as by libraries before libbpf 1.0, and from Linux 6.18 on programs that call one another have \
             to agree in that; load it with `expected_attach_type` BPF_XDP"
                .to_owned()
        }
        Ok(None) if info.size_jitted() == 0 => {
            "it is interpreted and ours is compiled; load it again with `sysctl net.core.bpf_jit_enable=1`".to_owned()
        }
        Ok(None) => "it is bound to a device, or of a kind that the kernel lets no other program call".to_owned(),
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
            "other programs extend it, and the kernel lets no program call such a one".to_owned()
        }
        Err(error) => return Err(anyhow!(error).context(format!("{}: asking which programs may call the one there", link.name))),
    };
    let message = format!(
        "{}: going in front of {} (program {}) is impossible: {reason}; it stays as it is",
        link.name,
        foreign::name(info),
        info.id()
    );
    Err(Failure::error(Exit::Refused, message))
}
