//! The file that is captured to: its interfaces, and what is said of each frame.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use icmp_common::abi::CapturedAbout;
use icmp_common::reason::{Reason, Verdict};

use crate::capture::write::{Decided, Frame, Writer};
use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::capture::Capturing;
use crate::kernel::clock::monotonic_ns;

/// A capture on its way to a file.
pub(super) struct File {
    writer: Writer,
    snapshot_length: u32,
    /// Number in the file and name of each interface, by its index.
    interfaces: BTreeMap<u32, u32>,
    written: u64,
}

/// Whether a path stands for standard output.
pub(super) fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl File {
    pub(super) fn create(path: &Path, snapshot_length: u32) -> Result<Self> {
        let writer =
            if is_standard_output(path) { Writer::to_standard_output()? } else { Writer::create(path)? };
        Ok(Self { writer, snapshot_length, interfaces: BTreeMap::new(), written: 0 })
    }

    /// Names the interfaces that the program is on, so that a capture without a frame has them too.
    pub(super) fn begin(&mut self, capturing: &Capturing, network: &Network) -> Result<()> {
        let pins = capturing.pins();
        let named = slots(pins, network)?;
        for entry in pins.maps.interfaces()?.iter().filter(|entry| entry.is_attached()) {
            let name = named.iter().find(|(slot, _)| *slot == entry.slot).map(|(_, name)| name.as_str());
            self.interface(entry.ifindex, name)?;
        }
        self.writer.flush()
    }

    /// How many frames there are.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Takes the frames that there are, up to so many in all.
    pub(super) fn take(&mut self, capturing: &mut Capturing, most: u64) -> Result<()> {
        let rules = capturing.pins().maps.rule_slots()?;
        let since_1970 =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("asking for the time")?;
        let offset = (since_1970.as_nanos() as u64).wrapping_sub(monotonic_ns()?);
        while self.written < most
            && let Some((about, bytes)) = capturing.frame()
        {
            let rule = rules.iter().find(|(_, slot)| *slot == about.rule).map(|(name, _)| name.as_str());
            let interface = match self.interfaces.get(&about.ifindex) {
                Some(number) => *number,
                None => {
                    // A port of a bond, or one that was attached meanwhile.
                    let network = Network::read_once()?;
                    let link = network.links.iter().find(|link| link.index == about.ifindex);
                    self.interface(about.ifindex, link.map(|link| link.name.as_str()))?
                }
            };
            let decided = Some(decided(&about, rule));
            let time = about.at.wrapping_add(offset);
            self.writer.add(&Frame { interface, time, len: about.len, bytes: &bytes, decided })?;
            self.written += 1;
        }
        self.writer.flush()
    }

    fn interface(&mut self, ifindex: u32, name: Option<&str>) -> Result<u32> {
        let number = self.writer.interface(name, self.snapshot_length)?;
        self.interfaces.insert(ifindex, number);
        Ok(number)
    }
}

/// Verdict, reason and rule; the XDP actions are those of `enum xdp_action` in include/uapi/linux/bpf.h.
fn decided(about: &CapturedAbout, rule: Option<&str>) -> Decided {
    let reason = Reason::from_number(about.reason as u8);
    let verdict = reason.verdict();
    let action = match verdict {
        Verdict::Drop | Verdict::Limit => 1,
        Verdict::Pass => 2,
        Verdict::Answer => 3,
    };
    let rule = rule.map(|name| format!(" (rule {name})")).unwrap_or_default();
    let comment = format!("{}: {}{rule}. {}", verdict.name(), reason.name(), reason.description().trim());
    Decided { action, is_sent: verdict == Verdict::Answer, comment }
}
