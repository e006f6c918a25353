//! Captures: the program copies frames out, and a process reads them.
//!
//! Owns what the program copies and for how long, and the ring buffer. Nothing of it stays when the process ends: the capture is taken back,
//! and ends by itself a few seconds after its process was killed. It does not own the use of the frames.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData, MapInfo, RingBuf};
use icmp_common::abi::{Capture, CaptureCpu, Captured, CapturedAbout, Tap};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::instance::directory::directory;
use crate::instance::pins::{Instance, Pins};
use crate::kernel::bpf::read_batch_per_cpu;
use crate::kernel::bpffs::unless_gone;
use crate::kernel::clock::monotonic_ns;
use crate::kernel::pod::Pod;

/// How long the program goes on when nobody tells it to.
const LEASE: Duration = Duration::from_secs(3);
/// How often it is told to go on; frames are waited for no longer than that.
const RENEWED: Duration = Duration::from_millis(500);
/// The maps of a tap: what the program is told, and the ring buffer.
const fn maps(tap: Tap) -> (&'static str, &'static str) {
    match tap {
        Tap::Capture => ("CAPTURE", "CAPTURED"),
        Tap::Events => ("EVENTS", "EVENT_FRAMES"),
    }
}

/// Bytes of a record before the frame.
const ABOUT: usize = size_of::<CapturedAbout>();

/// A capture that goes on.
pub struct Capturing {
    tap: Tap,
    pins: Pins,
    ring: RingBuf<MapData>,
    capture: Capture,
    /// Kernel id of the map that says what is captured: pins of another instance have another one.
    map: u32,
    /// How long the program was told nothing, because this process did not run.
    paused: Duration,
}

impl Capturing {
    /// Begins to capture; `wanted` is complete but for its number and its time.
    ///
    /// # Errors
    /// Nothing is loaded, another process captures, or a map cannot be read or written.
    pub fn begin(tap: Tap, wanted: Capture) -> Result<Self> {
        let instance = Instance::open()?;
        if let Some(process) = held(&instance, tap)? {
            let (does, help) = match tap {
                Tap::Capture => ("captures", ""),
                Tap::Events => (
                    "tells of events",
                    "where it is `serve`, a monitor asks it over a socket in /run/icmp-ctl (docs/service.md), which does not answer; otherwise ",
                ),
            };
            bail!(
                "process {process} {does} already, or was killed just now, and frames are copied for one at a time; {help}end that one, or try again in {} s",
                LEASE.as_secs()
            );
        }
        let (told, ring) = maps(tap);
        let mut pins = instance.unlock();
        let pin = pins.directory.join(ring);
        let map = MapData::from_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
        let mut ring = RingBuf::try_from(Map::RingBuf(map)).context("opening the ring buffer of frames")?;
        // What one that was killed has not read.
        while ring.next().is_some() {}
        let info = pins.directory.join(told);
        let map = MapInfo::from_pin(&info).with_context(|| format!("opening {}", info.display()))?.id();
        pins.maps.fill_tap_bucket(tap)?;
        let now = monotonic_ns()?;
        let number = u64::from(std::process::id()) << 32 | now & 0xffff_ffff;
        let capture = Capture { number, until: until(now), ..wanted };
        pins.maps.set_capture(tap, capture)?;
        Ok(Self { tap, pins, ring, capture, map, paused: Duration::ZERO })
    }

    /// Has the program go on with what is wanted now.
    ///
    /// # Errors
    /// What is loaded was removed, another process has captured in this one's place, what is wanted cannot be had any more, or a map cannot be
    /// written.
    pub fn renew(&mut self, wanted: impl FnOnce(&Pins) -> Result<Capture>) -> Result<()> {
        let (told, _) = maps(self.tap);
        let told = self.pins.directory.join(told);
        if unless_gone(&told, || Ok(MapInfo::from_pin(&told)?.id()))? != Some(self.map) {
            bail!("what was loaded has been removed or replaced, and the capture has ended with it");
        }
        if self.pins.maps.capture(self.tap)?.number != self.capture.number {
            bail!("another process has captured in the place of this one, which did not run for a while");
        }
        let now = monotonic_ns()?;
        self.paused += Duration::from_nanos(now.saturating_sub(self.capture.until));
        self.capture = Capture { number: self.capture.number, until: until(now), ..wanted(&self.pins)? };
        self.pins.maps.set_capture(self.tap, self.capture)
    }

    /// Has the program go on, and waits for a frame, a signal, or a moment; or until `full` takes something again, where frames cannot be written
    /// there.
    ///
    /// # Errors
    /// As [`Self::renew`]; or there is no waiting for frames.
    pub fn wait(
        &mut self,
        wanted: impl FnOnce(&Pins) -> Result<Capture>,
        full: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        self.renew(wanted)?;
        let ring = PollFd::new(self.ring.as_fd(), PollFlags::POLLIN);
        let mut wanted = [full.map_or(ring, |full| PollFd::new(full, PollFlags::POLLOUT))];
        match poll(&mut wanted, PollTimeout::try_from(RENEWED).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("waiting for frames"),
        }
    }

    /// The next frame that was copied; what is said of it, and as much of it as was wanted.
    pub fn frame(&mut self) -> Option<(CapturedAbout, Vec<u8>)> {
        loop {
            let record = self.ring.next()?;
            if let Some(read) = read(&record) {
                return Some(read);
            }
        }
    }

    /// What was counted over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counted(&self) -> Result<CaptureCpu> {
        let cpus = read_batch_per_cpu(&self.pins.maps.tap_cpus, self.tap as u32, 1)
            .context("reading what was counted of the capture")?;
        let of_this = |cpu: &&Pod<CaptureCpu>| cpu.0.number == self.capture.number;
        let sum = |sum: CaptureCpu, cpu: &Pod<CaptureCpu>| CaptureCpu {
            asked: sum.asked + cpu.0.asked,
            over_limit: sum.over_limit + cpu.0.over_limit,
            lost: sum.lost + cpu.0.lost,
            ..sum
        };
        Ok(cpus.elements().flatten().filter(of_this).fold(CaptureCpu::default(), sum))
    }

    /// How long the program has captured nothing, because this process did not run.
    pub fn paused(&self) -> Duration {
        self.paused
    }

    /// What is pinned of the instance.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        // It ends by itself where this fails.
        if self.pins.maps.capture(self.tap).is_ok_and(|capture| capture.number == self.capture.number) {
            let _ = self.pins.maps.set_capture(self.tap, Capture::default());
        }
    }
}

/// Takes back what this process has the program copy for a tap, where a thread holds it that does not end before the process does. Where it
/// cannot, it ends by itself.
pub fn give_up(tap: Tap) {
    let told = directory().and_then(|directory| {
        let map = MapData::from_pin(directory.join(maps(tap).0))?;
        Ok(Array::<_, Pod<Capture>>::try_from(Map::Array(map))?)
    });
    let is_ours = |capture: &Pod<Capture>| capture.0.number >> 32 == u64::from(std::process::id());
    if let Ok(mut told) = told
        && told.get(&0, 0).is_ok_and(|capture| is_ours(&capture))
    {
        let _ = told.set(0, Pod(Capture::default()), 0);
    }
}

/// The process that frames are copied for; `None` where there is none.
fn held(pins: &Pins, tap: Tap) -> Result<Option<u64>> {
    let capture = pins.maps.capture(tap)?;
    Ok((capture.until > monotonic_ns()?).then_some(capture.number >> 32))
}

fn until(now: u64) -> u64 {
    now + LEASE.as_nanos() as u64
}

/// A record's parts; `None` where it is not one.
fn read(record: &[u8]) -> Option<(CapturedAbout, Vec<u8>)> {
    let words: [u32; ABOUT / 4] = record
        .get(..ABOUT)?
        .chunks_exact(4)
        .map(|word| word.try_into().map(u32::from_ne_bytes))
        .collect::<Result<Vec<_>, _>>()
        .ok()?
        .try_into()
        .ok()?;
    let [low, high, ifindex, len, captured, rule, reason, row] = words;
    let at = if cfg!(target_endian = "little") {
        u64::from(high) << 32 | u64::from(low)
    } else {
        u64::from(low) << 32 | u64::from(high)
    };
    let frame = record.get(ABOUT..size_of::<Captured>())?.get(..captured as usize)?.to_vec();
    Some((CapturedAbout { at, ifindex, len, captured, rule, reason, row }, frame))
}
