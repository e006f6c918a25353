//! The host that receives the frame, and the frame's result there: in the kernel and on the host.
//!
//! Owns the origin of the copy (what is loaded, a configuration on this host, a configuration alone), and that both sides get the same copy,
//! the same interface and the same time. The kernel's side is a private program with maps of its own, so nothing is counted or charged in the
//! loaded one.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::ProgramInfo;
use icmp_common::abi::{ADDRESS_BUCKETS, Interface};
use icmp_common::host_tables::Memory;
use icmp_common::outcome::Outcome;
use icmp_common::reason::Reason;
use icmp_common::types::Budget;
use icmp_common::{budget, limiter};
use ipnet::IpNet;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::config::file::Config;
use crate::explain::explanation::{Explanation, Judged};
use crate::explain::watched::{Note, Run, watch};
use crate::finding::Finding;
use crate::host::address_table::AddressTable;
use crate::host::addresses::own_addresses;
use crate::host::checks::mtu::ONE_BUFFER_MTU;
use crate::host::checks::{self, Place};
use crate::host::interfaces::{aggregate, interface_entry, taker, vrf_of};
use crate::host::netlink::{Link, Network, Vlan};
use crate::instance::attach::find;
use crate::instance::datapath::Datapath;
use crate::instance::links::{LinkPin, fitting};
use crate::instance::pins::{View, nothing_loaded};
use crate::instance::program::{BUILD, Entry, LoadOptions};
use crate::instance::snapshot::Snapshot;
use crate::kernel::clock::{Tick, ticks};
use crate::policy::of_file::compiled_to_look_at;
use crate::replay::own::Own;

/// The interface that frames of BPF_PROG_TEST_RUN come in on: the loopback interface of the caller's namespace.
const IFINDEX: u32 = 1;
/// The slot of an interface that has none.
const SLOT: u32 = 1;
/// The tick of a host whose clock nobody asks: so far from 0 that every untouched bucket is full.
const START: u64 = 1 << 32;
/// Ticks that a run in the kernel may take; in more the answer is that of another time.
const MOST_TICKS: u64 = 1000;

/// A host and one of its interfaces.
pub struct Subject {
    /// What decides there.
    pub(super) snapshot: Snapshot,
    /// The entry of the interface, but for its index.
    pub(super) interface: Interface,
    /// What interfaces are called, by slot.
    pub(super) names: Vec<(u32, String)>,
    /// The host's clock.
    pub(super) tick: Tick,
    /// Own addresses for which there was no room in the table.
    pub left_out: usize,
    cpu: usize,
    kernel: Option<InKernel>,
    here: Option<Here>,
}

/// The interface among those of this host.
pub(super) struct Here {
    network: Network,
    ifindex: u32,
    /// The program behind ours, which gets what is passed.
    pub(super) behind: Option<String>,
    /// What is found about the way to the interface and back, which the packet path knows nothing of.
    pub(super) way: Vec<Finding>,
}

impl Here {
    fn new(network: Network, link: &Link, behind: Option<String>) -> Self {
        let mode = link.xdp.map(|xdp| xdp.mode);
        // Whether there are VIPs is asked by none of them.
        let way = checks::way(Place { network: &network, link, mode, has_vips: false });
        Self { network, ifindex: link.index, behind, way }
    }

    /// The longest packet that comes in on the interface in one piece, in bytes.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.network.links.iter().find(|link| link.index == self.ifindex).map(|link| link.mtu)
    }

    /// Index of the VRF that an interface is in.
    pub(super) fn vrf_of(&self, link: &Link) -> Option<u32> {
        vrf_of(&self.network, link).map(|vrf| vrf.index)
    }

    /// The interface by which the kernel takes in a frame with these tags; `None` where there is none.
    pub(super) fn taken_in_by(&self, vlans: &[u16]) -> Option<&Link> {
        let links = &self.network.links;
        let link = links.iter().find(|link| link.index == self.ifindex)?;
        let mut taker = if vlans.is_empty() { taker(&self.network, link)? } else { link };
        for id in vlans.iter().filter(|id| **id != 0) {
            let is_its = |vlan: &Vlan| vlan.parent == taker.index && vlan.id == *id;
            taker = links.iter().find(|link| link.vlan.as_ref().is_some_and(is_its))?;
        }
        Some(taker)
    }
}

/// The program in the kernel.
struct InKernel {
    datapath: Datapath,
    entry: Entry,
    loaded: Option<Loaded>,
}

/// The program that is attached, where there is one.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The build that loaded it.
    pub build: String,
    /// Its instructions are those that a frame is explained by.
    pub is_same: bool,
    /// How long the policy has left that awaits confirmation.
    pub pending: Option<Duration>,
}

/// The program that is attached to an interface, and the interface.
struct Seen {
    interface: Interface,
    names: Vec<(u32, String)>,
    entry: Entry,
    build: String,
    pending: Option<Duration>,
    tag: u64,
    link: Link,
    behind: Option<String>,
}

impl Subject {
    /// This host as it is: with what is in force, on the interface that is named or the only one that is attached.
    ///
    /// # Errors
    /// Nothing is loaded, the interface is not attached, or a private copy cannot be loaded.
    pub fn in_force(interface: Option<&str>) -> Result<Self> {
        let network = Network::read_once()?;
        let what = |view: &View| Ok((Snapshot::options_of(view)?, see(view, &network, interface)?));
        let (options, Seen { entry, .. }) = View::look(what)?.ok_or_else(nothing_loaded)?;
        let mut kernel = InKernel::load(&options, entry)?;
        // Behind the load, which the verifier takes up to a second for: buckets are not as they were before it.
        let all = |view: &View| {
            let in_force = "no policy is in force; `icmp-ctl apply -f FILE` puts one in force";
            Ok((see(view, &network, interface)?, Snapshot::of(view)?.context(in_force)?))
        };
        let (seen, snapshot) = View::look(all)?.ok_or_else(nothing_loaded)?;
        if snapshot.options != options || seen.entry != entry {
            bail!("the program was loaded anew while this was asked; ask again");
        }
        let Seen { interface, names, build, pending, tag, link, behind, .. } = seen;
        kernel.loaded = Some(Loaded { build, is_same: kernel.datapath.tag(entry)? == tag, pending });
        let here = Here::new(network, &link, behind);
        Self::new(snapshot, interface, names, 0, Some(kernel), Some(here))
    }

    /// This host with another configuration, on the interface that is named or the first one of the configuration. In the kernel too, where
    /// this process may load programs.
    ///
    /// # Errors
    /// There is no such interface, the configuration cannot be used, or the program cannot be loaded.
    pub fn planned(config: &Config, interface: Option<&str>, may_load: bool) -> Result<Self> {
        let network = Network::read_once()?;
        let wanted = interface.map(str::to_owned).or_else(|| config.interfaces.first().cloned());
        let wanted = wanted.context(
            "which interface is meant is not known: the configuration names none; `-i IFACE` says it, or `--own ADDRESS` makes it a host of its own",
        )?;
        let links = find(&network, &[wanted])?;
        let link = *links.first().context("no interface is meant")?;
        let policy = compiled_to_look_at(config, Some(&link.name))?;
        let own = own_addresses(&network, &[(SLOT, link)], &policy.gated());
        let (addresses, left_out) = AddressTable::build(&own, ADDRESS_BUCKETS);
        let options = if may_load {
            LoadOptions::new(config.limits.memory.lines())?
        } else {
            LoadOptions::reproducible(config.limits.memory.lines())
        };
        let snapshot = Snapshot::fresh(policy, addresses, options);
        let entry = interface_entry(&network, link, SLOT);
        // What the controller tries first for frames of this length.
        let program = if link.mtu > ONE_BUFFER_MTU { Entry::XdpFrags } else { Entry::Xdp };
        let kernel = may_load.then(|| InKernel::load(&snapshot.options, program)).transpose()?;
        let names = vec![(SLOT, link.name.clone())];
        let here = Here::new(network.clone(), link, None);
        Self::new(snapshot, entry, names, left_out.len(), kernel, Some(here))
    }

    /// A host that a configuration and addresses alone describe, and that the frame is for on the link.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn alone(config: &Config, frame: &[u8], own: &[IpNet]) -> Result<Self> {
        let policy = compiled_to_look_at(config, config.interfaces.first())?;
        let (addresses, left_out, interface) = Own::of_frame(frame, own).ingress(&policy.gated());
        let options = LoadOptions::reproducible(config.limits.memory.lines());
        let snapshot = Snapshot::fresh(policy, addresses, options);
        Self::new(
            snapshot,
            interface,
            vec![(interface.slot, "the host's interface".to_owned())],
            left_out,
            None,
            None,
        )
    }

    fn new(
        snapshot: Snapshot,
        interface: Interface,
        names: Vec<(u32, String)>,
        left_out: usize,
        kernel: Option<InKernel>,
        here: Option<Here>,
    ) -> Result<Self> {
        let interface = Interface { ifindex: IFINDEX, ..interface };
        // What a CPU has taken from the budgets is its own.
        let cpu = if kernel.is_some() { stay_on_this_cpu()? } else { 0 };
        Ok(Self { snapshot, interface, names, tick: Tick::of_this_kernel()?, left_out, cpu, kernel, here })
    }

    /// The MAC address that frames for the interface are for.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let [mac @ .., _, _] = self.interface.mac.to_ne_bytes();
        mac
    }

    /// What the interface is called.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.name_of(self.interface.slot)
    }

    pub(super) fn name_of(&self, slot: u32) -> &str {
        let named = self.names.iter().find(|(of, _)| *of == slot);
        named.map_or("another interface", |(_, name)| name.as_str())
    }

    /// Where that is on this host.
    pub(super) fn here(&self) -> Option<&Here> {
        self.here.as_ref()
    }

    /// The program that is attached, where that is what is explained.
    #[must_use]
    pub fn loaded(&self) -> Option<&Loaded> {
        self.kernel.as_ref()?.loaded.as_ref()
    }

    /// What becomes of a frame.
    ///
    /// # Errors
    /// It is too short, or too long, to be a frame here; or the kernel does not run it.
    pub fn explain(&mut self, frame: &[u8]) -> Result<Explanation> {
        let shortest = icmp_common::wire::ethernet::LEN;
        if frame.len() < shortest {
            bail!("a frame has {shortest} bytes at least, and this one has {}", frame.len());
        }
        let memory = self.snapshot.memory_of(self.cpu);
        let (run, in_kernel, now) = match &mut self.kernel {
            None => (self.on_host(frame, &memory, START)?, None, START),
            Some(kernel) => {
                self.snapshot.fill(kernel.datapath.maps(), self.interface)?;
                let before = ticks()?;
                let judged = kernel.run(frame, self.interface.slot)?;
                let after = ticks()?;
                // The kernel has run it at one of these, all of which are a few at most.
                let after = after.min(before + MOST_TICKS);
                let mut run = self.on_host(frame, &memory, before)?;
                let mut now = before;
                for tick in before + 1..=after {
                    if judged.is_of(&run) {
                        break;
                    }
                    (run, now) = (self.on_host(frame, &memory, tick)?, tick);
                }
                (run, Some(judged), now)
            }
        };
        let known = self.is_known(frame, &memory, now)?;
        Ok(Explanation { given: frame.to_vec(), memory, now, run, known, in_kernel, cpu: self.cpu })
    }

    fn on_host(&self, frame: &[u8], memory: &Memory, tick: u64) -> Result<Run> {
        let tables = self.snapshot.host_tables(self.interface, memory);
        tables.set_ticks(tick);
        Ok(watch(tables, frame, linear()?, IFINDEX))
    }

    /// Whether the sender is known, which the packet path asks only while the reply budget is exhausted: so this looks at what it would ask then.
    /// `None` where it would not ask.
    fn is_known(&self, frame: &[u8], memory: &Memory, now: u64) -> Result<Option<bool>> {
        let bucket = |budget: Budget| budget::budget_bucket(budget as usize);
        let mut exhausted = memory.clone();
        exhausted.cpu = Default::default();
        exhausted.budgets[bucket(Budget::Replies) as usize] = limiter::now(now);
        let run = self.on_host(frame, &exhausted, now)?;
        let has_looked = |budget| {
            run.notes.iter().any(|note| matches!(note, Note::Bucket(index, _) if *index == bucket(budget)))
        };
        Ok(has_looked(Budget::Replies).then(|| has_looked(Budget::KnownSources)))
    }
}

impl InKernel {
    fn load(options: &LoadOptions, entry: Entry) -> Result<Self> {
        let datapath = Datapath::load(options, &[entry]).context("loading a private copy of the program")?;
        Ok(Self { datapath, entry, loaded: None })
    }

    /// Runs a frame that is counted in a slot in which nothing was counted so far.
    fn run(&mut self, frame: &[u8], slot: u32) -> Result<Judged> {
        let result = self.datapath.run(self.entry, frame)?;
        let mut counted = self.datapath.maps().counters_of(slot)?.into_keys();
        let (Some((row, reason)), None) = (counted.next(), counted.next()) else {
            bail!("the program has not counted the frame once");
        };
        Ok(Judged { outcome: Outcome { reason: Reason::from_number(reason), row }, frame: result.frame })
    }
}

fn see(view: &View, network: &Network, wanted: Option<&str>) -> Result<Seen> {
    let (pins, away): (Vec<_>, Vec<_>) =
        view.links()?.into_iter().partition(|pin| link_of(network, pin).is_some());
    if let Some(link) = network.links.iter().find(|link| Some(link.name.as_str()) == wanted)
        && let Some(bond) = aggregate(&network.links, link)
    {
        bail!(
            "{}: is a port of {1}, which takes in its frames as its own; `-i {1}` is meant",
            link.name,
            bond.name
        );
    }
    let meant = match wanted {
        Some(name) => fitting(&pins, &network.links, name).map_err(|not_attached| {
            let away = fitting(&away, &network.links, name).ok().and_then(|away| away.first()?.finding());
            away.map_or(not_attached, |finding| anyhow!(finding.text()))
        })?,
        None => pins.iter().collect(),
    };
    let names = || pins.iter().map(|pin| pin.name.as_str()).collect::<Vec<_>>().join(", ");
    let pin = match meant[..] {
        [pin] => pin,
        [] => bail!("no interface that is here is attached; `icmp-ctl status` shows what became of them"),
        _ => bail!(
            "several interfaces are attached: {}; `-i IFACE` says on which one the frame comes in",
            names()
        ),
    };
    let link = link_of(network, pin).cloned().with_context(|| format!("{}: it is gone", pin.name))?;
    let entries = view.maps.interfaces()?;
    let attached = || entries.iter().filter(|entry| entry.is_attached());
    let interface = attached().find(|entry| entry.ifindex == pin.ifindex).copied();
    let interface = interface.with_context(|| format!("{}: it is not in the interface table", pin.name))?;
    let name_of = |ifindex: u32| {
        let link = network.links.iter().find(|link| link.index == ifindex);
        link.map_or_else(|| format!("index {ifindex}"), |link| link.name.clone())
    };
    let entry = view.entry_of(pin.program_id)?;
    let entry = entry.with_context(|| format!("{}: its program is not one of the pinned ones", pin.name))?;
    let info = ProgramInfo::from_pin(view.program_pin(entry)).context("asking about the program")?;
    // A dispatcher's extension is this entry point, loaded otherwise.
    let entry = if entry == Entry::Extension { Entry::Xdp } else { entry };
    Ok(Seen {
        interface,
        names: attached().map(|entry| (entry.slot, name_of(entry.ifindex))).collect(),
        entry,
        build: view.build(),
        pending: view.maps.pending()?,
        tag: info.tag(),
        link,
        behind: pin.behind.as_ref().map(|behind| behind.text()),
    })
}

fn link_of<'n>(network: &'n Network, pin: &LinkPin) -> Option<&'n Link> {
    network.links.iter().find(|link| pin.is_of(link))
}

/// That the policy which a frame is explained by may not stay.
#[must_use]
pub fn unconfirmed(loaded: &Loaded) -> Option<String> {
    loaded.pending.map(|left| {
        format!(
            "this is the policy that awaits confirmation: in {:.0} s the one that was confirmed last comes back, unless `icmp-ctl confirm` keeps this one",
            left.as_secs_f64()
        )
    })
}

/// That the program which is attached is of another build, which may decide otherwise.
#[must_use]
pub fn other_build(loaded: &Loaded) -> Option<String> {
    (!loaded.is_same).then(|| {
        format!(
            "the program that is attached was loaded by build {}, and its instructions are not those of this one, {BUILD}; a frame is explained by \
             this build's, which `icmp-ctl upgrade` would put in its place",
            loaded.build
        )
    })
}

fn stay_on_this_cpu() -> Result<usize> {
    let cpu = sched_getcpu().context("asking on which CPU this is")?;
    let mut set = CpuSet::new();
    set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).context("staying on one CPU")?;
    Ok(cpu)
}

/// Bytes that the first buffer of a frame holds in BPF_PROG_TEST_RUN: a page, less the room in front of the frame and behind it (`bpf_prog_test_run_xdp`
/// in net/bpf/test_run.c: XDP_PACKET_HEADROOM, and `struct skb_shared_info` in whole cache lines). Drivers leave much the same.
fn linear() -> Result<usize> {
    const ROOM: usize = 256 + 320;
    let page =
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).context("asking for the size of a page")?;
    let page = page.ok_or_else(|| anyhow!("the size of a page is not known"))?;
    Ok(page as usize - ROOM)
}
