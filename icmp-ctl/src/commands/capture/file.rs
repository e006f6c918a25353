//! The file of a capture: its interfaces, and the comment of each frame.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::decided::decided;
use crate::capture::write::{Frame, Writer};
use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::capture::Capturing;
use crate::kernel::clock::monotonic_ns;
use crate::kernel::files::is_standard_stream;

/// A capture on its way to a file.
pub(super) struct File {
    writer: Writer,
    snapshot_length: u32,
    /// Number in the file and name of each interface, by its index.
    interfaces: BTreeMap<u32, u32>,
    written: u64,
}

impl File {
    pub(super) fn create(path: &Path, snapshot_length: u32) -> Result<Self> {
        let writer =
            if is_standard_stream(path) { Writer::to_standard_output()? } else { Writer::create(path)? };
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
            // What finds no place stays where the program finds no room either then, and counts it.
            && self.writer.full().is_none()
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
            // Each by itself: less than a pipe takes at once where it takes something.
            self.writer.flush()?;
            self.written += 1;
        }
        Ok(())
    }

    /// Where it is written to, if that takes nothing now.
    pub(super) fn full(&self) -> Option<BorrowedFd<'_>> {
        self.writer.full()
    }

    fn interface(&mut self, ifindex: u32, name: Option<&str>) -> Result<u32> {
        let number = self.writer.interface(name, self.snapshot_length)?;
        self.interfaces.insert(ifindex, number);
        Ok(number)
    }
}
