//! Reads the changes of an instance, a few times a second.
//!
//! Owns what is read, and how many stopped frames are sampled. [`super::floods`] and [`super::state`] make events of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use icmp_common::abi::{self, Capture, CaptureCpu, Gate, NO_RULE, Tap};
use icmp_common::reason::Reason;
use nix::time::ClockId;

use crate::capture::packet::source;
use crate::config::units::Rate;
use crate::failure::{Exit, exit_of};
use crate::host::netlink::{Link, links_once};
use crate::instance::addresses::answered;
use crate::instance::capture::Capturing;
use crate::instance::links::Whereabouts;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{Pins, View};
use crate::kernel::clock::{Tick, ticks};
use crate::observe::events::floods::{Floods, Sample, Seen, is_stopped};
use crate::observe::events::state::State;
use crate::observe::events::{Event, Interface, Lost, Vip, What};
use crate::policy::gates::check_text;
use crate::policy::limits::{prefix_lengths, prefix_of};

/// Time between two looks.
pub const LOOK: Duration = Duration::from_millis(250);
/// Stopped frames that are looked at of each look, about.
const SAMPLES: u64 = 100;
/// Stopped frames a second that are looked at at most, whatever comes; and as many at once as there is room for in a look.
const MOST: (f64, u64) = (500.0, 100);
/// Bytes of a frame that are looked at: addresses behind a few tags.
const BYTES: u32 = 128;
/// Time after which everything is read again, although nothing says that it has changed: links, for one, are not asked four times a second. Less
/// than what the program copies frames for when nobody tells it to go on.
const IDLE: Duration = Duration::from_secs(2);
/// Time between two words about frames that were not looked at.
const LOST: Duration = Duration::from_secs(10);

/// What is watched.
#[derive(Default)]
pub struct Watch {
    capturing: Option<Capturing>,
    /// One stopped frame in so many is looked at.
    every: u32,
    /// What was counted until the look before.
    counted: CaptureCpu,
    /// As it was at the look before; `None` before the first.
    before: Option<State>,
    /// When all was read last, and how many times in a row no frame had been stopped by then.
    read: (Duration, u32),
    /// What is read again only if something was published.
    published: Option<Published>,
    floods: Floods,
    /// A confirmation was not awaited any more at the look before, and nobody had said why.
    is_late: bool,
    /// Frames that were not looked at, and when that was said last.
    lost: (u64, Duration),
}

/// What changes whenever something is published.
#[derive(Clone, PartialEq)]
struct InForce {
    /// The switch, and whether a confirmation is awaited: while one is, the program changes over by itself.
    switch: (u32, bool),
    interfaces: Vec<abi::Interface>,
}

impl InForce {
    fn read(maps: &InstanceMaps) -> Result<Self> {
        Ok(Self {
            switch: (maps.switch()?, maps.pending()?.is_some()),
            interfaces: maps.interfaces()?.to_vec(),
        })
    }
}

/// What is in force.
struct Published {
    in_force: InForce,
    addresses: BTreeSet<IpAddr>,
    gates: Vec<(Vip, Gate)>,
    /// Prefix lengths of sources.
    lengths: (u8, u8),
}

impl Watch {
    /// What has happened since the look before; of the first one, what goes on.
    ///
    /// # Errors
    /// Another process is told of stopped frames, or the instance or the host cannot be read.
    pub fn look(&mut self) -> Result<Vec<Event>> {
        let now = Duration::from(ClockId::CLOCK_MONOTONIC.now()?);
        let mut happened = Vec::new();
        if self.is_idle(now)? {
            happened.extend(self.floods.see(Seen { at: now, ..Seen::default() }));
            return Ok(happened.into_iter().map(Event::now).collect());
        }
        let is_loaded = self.go_on()?;
        let state = match self.capturing.take().filter(|_| is_loaded) {
            None => State { under_pressure: Some(false), ..State::default() },
            Some(mut capturing) => {
                let read = self.read(&mut capturing, now, &mut happened);
                self.capturing = Some(capturing);
                read?
            }
        };
        // What was there before somebody watched has not happened, but for what goes on.
        let first = || State { under_pressure: Some(false), ..state.clone() };
        let before = self.before.take().unwrap_or_else(first);
        let state = state.or_as(&before).or_awaiting(&before, &mut self.is_late);
        let mut changes = state.since(&before);
        changes.append(&mut happened);
        self.before = Some(state);
        Ok(changes.into_iter().map(Event::now).collect())
    }

    /// True where nothing was stopped and nothing published since the look before, so that there is nothing to tell; for a while.
    fn is_idle(&self, now: Duration) -> Result<bool> {
        let (Some(capturing), Some(published), Some(before)) =
            (&self.capturing, &self.published, &self.before)
        else {
            return Ok(false);
        };
        let (read, unstopped) = self.read;
        // One look in which nothing was stopped has set how many frames are to be copied, and the next one has told the program.
        Ok(now < read + IDLE
            && unstopped > 1
            && !self.is_late
            && capturing.counted()? == self.counted
            && InForce::read(&capturing.pins().maps)? == published.in_force
            && vips(capturing.pins(), published)? == before.vips)
    }

    /// Has the program go on, or begin, to copy stopped frames; false where nothing is loaded.
    fn go_on(&mut self) -> Result<bool> {
        let wanted = wanted(self.every)?;
        if let Some(capturing) = &mut self.capturing {
            if capturing.renew(|_| Ok(wanted)).is_ok() {
                return Ok(true);
            }
            // What was loaded is gone, or another is in its place.
            self.capturing = None;
        }
        (self.counted, self.published) = (CaptureCpu::default(), None);
        // Whoever loads the program has the lock until that is done, and is not waited for.
        if View::find()?.is_none() {
            return Ok(false);
        }
        match Capturing::begin(Tap::Events, wanted) {
            Ok(capturing) => self.capturing = Some(capturing),
            Err(error) if exit_of(&error) == Exit::NothingLoaded => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn read(&mut self, capturing: &mut Capturing, now: Duration, happened: &mut Vec<What>) -> Result<State> {
        let links = links_once()?;
        let published = self.published(capturing.pins())?;
        let state = state(capturing.pins(), &links, published)?;
        let lengths = published.lengths;
        let counted = capturing.counted()?;
        let before = std::mem::replace(&mut self.counted, counted);
        let stopped = counted.asked.saturating_sub(before.asked);
        self.read = (now, if stopped == 0 { self.read.1.saturating_add(1) } else { 0 });
        let samples = std::iter::from_fn(|| capturing.frame()).filter_map(|(about, frame)| {
            let interface = links.iter().find(|link| link.index == about.ifindex);
            Some(Sample {
                row: about.row as u8,
                source: prefix_of(source(&frame)?, lengths),
                reason: Reason::from_number(about.reason as u8),
                interface: interface
                    .map_or_else(|| format!("index {}", about.ifindex), |link| link.name.clone()),
            })
        });
        let seen = Seen { at: now, stopped, samples: samples.collect() };
        happened.extend(self.floods.see(seen));
        // Odd, and another one each time: sources that take turns would be seen in step otherwise.
        let every = stopped.div_ceil(SAMPLES);
        self.every =
            if every > 1 { (every + (u64::from(now.subsec_nanos()) >> 10) % every) as u32 | 1 } else { 1 };
        self.lost.0 +=
            counted.over_limit.saturating_sub(before.over_limit) + counted.lost.saturating_sub(before.lost);
        if self.lost.0 > 0 && now >= self.lost.1 + LOST {
            happened.push(What::Lost(Lost { frames: self.lost.0, events: 0 }));
            self.lost = (0, now);
        }
        Ok(state)
    }

    fn published(&mut self, pins: &Pins) -> Result<&Published> {
        let in_force = InForce::read(&pins.maps)?;
        let published = match self.published.take().filter(|published| published.in_force == in_force) {
            Some(published) => published,
            None => pins.read(|maps| published(maps, in_force.clone()))?,
        };
        Ok(self.published.insert(published))
    }
}

/// Has the program copy one stopped frame in so many, complete but for its number and its time.
///
/// # Errors
/// The kernel does not tell how long its ticks are.
pub fn wanted(every: u32) -> Result<Capture> {
    let (rate, burst) = MOST;
    let stopped = Reason::ALL.iter().filter(|reason| is_stopped(**reason));
    Ok(Capture {
        reasons: stopped.fold(0, |reasons, reason| reasons | 1 << *reason as u64),
        limit: Tick::of_this_kernel()?.limit("samples", Rate::PerSecond(rate), burst)?,
        every,
        rule: NO_RULE,
        snap_len: BYTES,
        slots: u32::MAX,
        ..Capture::default()
    })
}

fn published(maps: &InstanceMaps, in_force: InForce) -> Result<Published> {
    let policy = maps.policy()?;
    let settings = policy.as_ref().map(|policy| &policy.settings);
    let (v4, v6) = settings.map_or((32, 128), |settings| prefix_lengths(&settings.source));
    let vips = policy.as_ref().map(|policy| policy.vips()).unwrap_or_default();
    let gates = vips.iter().filter_map(|vip| Some((vip.net, vip.gate?)));
    Ok(Published {
        in_force,
        addresses: answered(maps)?.into_iter().map(|own| own.address).collect(),
        gates: gates
            .map(|(net, gate)| (Vip { vip: net.to_string(), check: check_text(&gate) }, gate))
            .collect(),
        lengths: (v4 as u8, v6 as u8),
    })
}

fn state(pins: &Pins, links: &[Link], published: &Published) -> Result<State> {
    let attached = pins.links_among(links)?;
    let interfaces = attached.iter().filter(|pin| pin.whereabouts == Whereabouts::Here).map(|pin| {
        let link = links.iter().find(|link| pin.is_of(link));
        let behind = pin.behind.as_ref().map(|behind| behind.text());
        (pin.ifindex, Interface { interface: pin.name.clone(), mode: pin.mode(link).to_owned(), behind })
    });
    Ok(State {
        interfaces: interfaces.collect(),
        addresses: published.addresses.clone(),
        change: pins.last_change(),
        awaits: published.in_force.switch.1,
        under_pressure: pins.maps.pressure(),
        vips: vips(pins, published)?,
    })
}

/// VIPs with a check, and whether they are healthy.
fn vips(pins: &Pins, published: &Published) -> Result<BTreeMap<Vip, bool>> {
    let healthy = |(vip, gate): &(Vip, Gate)| Ok((vip.clone(), ticks()? < pins.maps.gates.lease(gate)?));
    published.gates.iter().map(healthy).collect()
}
