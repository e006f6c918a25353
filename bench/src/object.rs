//! The bench's eBPF object: loading it, configuring the packet path in it, running its programs.
//!
//! Owns the values that are fixed at load (what is undone after a run, the conventional responder's limit), the layout of `REQUESTS`, and which
//! bytes of a frame differ from ping to ping.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use icmp_common::abi::{Capture, Tap};
use icmp_ctl::config::file::Config;
use icmp_ctl::config::peers::Peers;
use icmp_ctl::host::defaults::HostDefaults;
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::maps::InstanceMaps;
use icmp_ctl::instance::program::{LoadOptions, create};
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::observe::events::watch::wanted;
use icmp_ctl::policy::compile::compile_policy;
use icmp_tests::host;
use icmp_tests::packet::{icmpv6_sum, ones_sum};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/icmp-bench-ebpf"));

/// Programs that are measured, by their names in the object.
pub(crate) const MEASURED: [&str; 6] =
    ["empty", "full", "bare", "limits", "conventional", "conventional_tuned"];

/// What a program's run leaves for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// What it has made of the frame: as attached.
    Nothing = 0,
    /// The same frame.
    Same = 1,
    /// The next ping, IPv4.
    PingV4 = 2,
    /// The next ping, IPv6.
    PingV6 = 3,
}

/// Who sends pings: the source of the frame that is given, and those after it. Which of them is next is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// How many.
    pub count: u64,
    /// From one to the next: IPv4 addresses, or IPv6 networks of 64 bits.
    pub distance: u32,
}

impl Sources {
    /// The frame's own.
    pub(crate) const ONE: Self = Self::adjacent(1);
    /// As random as IPv4 can be from 1.0.0.0 on: all up to 126.255.255.255. Of IPv6 as many networks.
    pub(crate) const RANDOM: Self = Self::adjacent(126 << 24);

    /// So many, one beside the other.
    pub(crate) const fn adjacent(count: u64) -> Self {
        Self { count, distance: 1 }
    }
}

/// XDP actions.
pub(crate) const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
pub(crate) const XDP_PASS: u32 = 2;
/// See [`XDP_DROP`].
pub(crate) const XDP_TX: u32 = 3;

/// Bytes that the wrapper writes, at least what a frame has.
pub(crate) const START: usize = 64;

/// Words of a value of `REQUESTS`.
const WORDS: usize = START / 8 + 9;

/// A loaded object.
pub(crate) struct Object {
    ebpf: Ebpf,
    maps: InstanceMaps,
    in_force: Option<Arc<Compiled>>,
    requests: PerCpuArray<MapData, [u64; WORDS]>,
    replies: PerCpuArray<MapData, [u64; 2]>,
    statistics: PerCpuArray<MapData, u64>,
}

impl Object {
    /// Loads these programs. `per_source` is the conventional responder's limit: packets a second, and at once.
    pub(crate) fn load(programs: &[&str], undo: Undo, per_source: (u32, u32)) -> Result<Self> {
        let options = LoadOptions {
            peer_buckets: Peers::buckets(Peers::USUAL),
            ..LoadOptions::new(LoadOptions::DEFAULT_LINES)?
        };
        let globals = [("UNDO", undo as u32), ("RATE", per_source.0), ("BURST", per_source.1)];
        let mut ebpf = create(OBJECT, &options, None, &globals)?;
        for name in programs {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("loading the program {name}"))?;
        }
        let maps = InstanceMaps::take(&mut ebpf)?;
        let requests = ebpf.take_map("REQUESTS").context("the object has requests")?.try_into()?;
        let replies = ebpf.take_map("REPLIES").context("the object counts replies")?.try_into()?;
        let statistics =
            ebpf.take_map("STATISTICS").context("the conventional responder counts")?.try_into()?;
        Ok(Self { ebpf, maps, in_force: None, requests, replies, statistics })
    }

    /// Makes it the host of the tests.
    pub(crate) fn configure(&mut self) -> Result<()> {
        self.maps.set_interface(host::interface())?;
        self.maps.publish_addresses(&host::addresses(&[]))
    }

    /// Puts this policy in force, if it is not.
    pub(crate) fn apply(&mut self, policy: &Arc<Compiled>) -> Result<()> {
        if !self.in_force.as_ref().is_some_and(|in_force| Arc::ptr_eq(in_force, policy)) {
            self.maps.publish(policy, None)?;
            self.in_force = Some(Arc::clone(policy));
        }
        Ok(())
    }

    /// Has somebody watch for events, or nobody: as a monitor does in a flood.
    pub(crate) fn watch(&mut self, is_watched: bool) -> Result<()> {
        // A million stopped frames a second, of which it wants 400.
        const EVERY: u32 = 2501;
        let watched = Capture { number: 1, until: u64::MAX, ..wanted(EVERY)? };
        self.maps.set_capture(Tap::Events, if is_watched { watched } else { Capture::default() })
    }

    /// Makes these frames the requests of the CPUs, each as its own sources send it; the last one is that of all other CPUs.
    pub(crate) fn set_request(&mut self, frames: &[&[u8]], sources: Sources, undo: Undo) -> Result<()> {
        self.set_paced_request(frames, sources, undo, 0)
    }

    /// The same, at this distance in time.
    pub(crate) fn set_paced_request(
        &mut self,
        frames: &[&[u8]],
        sources: Sources,
        undo: Undo,
        interval_ns: u64,
    ) -> Result<()> {
        let values: Vec<_> = (0..cpus()?)
            .map(|cpu| request(frames[cpu.min(frames.len() - 1)], undo, sources, cpu, interval_ns))
            .collect();
        let values = PerCpuValues::try_from(values).context("a request for each CPU")?;
        self.requests.set(0, values, 0).context("writing the request")
    }

    /// Frames the packet path has seen, and those of them that ended for this reason.
    pub(crate) fn counted(&self, reason: u8) -> Result<(u64, u64)> {
        let mut counted = (0, 0);
        for ((_, _, of), counter) in self.maps.counters()? {
            counted.0 += counter.packets;
            counted.1 += if of == reason { counter.packets } else { 0 };
        }
        Ok(counted)
    }

    /// Requests the conventional responder has seen, and those of them that it has answered.
    pub(crate) fn conventional(&self) -> Result<(u64, u64)> {
        let of = |index| -> Result<u64> {
            let counts = self.statistics.get(&index, 0).context("reading what was answered and dropped")?;
            Ok(counts.iter().sum())
        };
        let answered = of(0)?;
        Ok((answered + of(1)?, answered))
    }

    /// Replies collected since the object was loaded.
    pub(crate) fn replies(&self) -> Result<u64> {
        Ok(self.replies.get(&0, 0).context("reading the replies")?.iter().map(|[packets, _]| packets).sum())
    }

    /// A program of the object.
    pub(crate) fn program(&self, name: &str) -> Result<&Xdp> {
        let program = self.ebpf.program(name).with_context(|| format!("the object has a program {name}"))?;
        program.try_into().with_context(|| format!("{name} is an XDP program"))
    }

    /// The same, to attach it.
    pub(crate) fn program_mut(&mut self, name: &str) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, name)
    }

    /// Has `generate`, or `generate_paced`, send frames out of an interface of the calling thread's namespace; it is run this often.
    pub(crate) fn generate(&self, name: &str, frame: &[u8], ifindex: u32, packets: u32) -> Result<()> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> = [0, frame.len() as u32, 0, ifindex, 0, 0].map(u32::to_ne_bytes).concat();
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::default()
        };
        self.program(name)?.test_run(options).context("sending live frames")?;
        Ok(())
    }
}

/// Runs a program on a frame this often, and returns what the last run said.
pub(crate) fn run(program: &Xdp, name: &str, frame: &[u8], repeat: u32) -> Result<u32> {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
    Ok(program.test_run(options).with_context(|| format!("running {name}"))?.return_value)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has a program {name}"))?;
    program.try_into().with_context(|| format!("{name} is an XDP program"))
}

/// The policy of a configuration.
pub(crate) fn policy(config: &str) -> Result<Arc<Compiled>> {
    let config = Config::parse(config, "bench")?;
    let host = HostDefaults { ttl: 64, hop_limit: 64 };
    Ok(Arc::new(compile_policy(&config, Tick::of_this_kernel()?, host, cpus()? as u32)?))
}

/// CPUs that a value per CPU is for.
pub(crate) fn cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("counting the CPUs in {path}: {error}"))
}

/// Where pings differ, by offset and length: in IPv4 the packet's identification, its checksum, the source, and of the message checksum,
/// identifier, sequence number and time stamp; in IPv6 the source's network, and of the message the same.
const CHANGED_V4: [(usize, usize); 7] = [(18, 2), (24, 2), (SOURCE, 4), (36, 2), (38, 2), (40, 2), (42, 4)];
const CHANGED_V6: [(usize, usize); 5] = [(SOURCE, 4), (56, 2), (58, 2), (60, 2), (62, 2)];
/// The IPv4 source, and the third and fourth 16 bits of an IPv6 source, are at the same place.
const SOURCE: usize = 26;

/// A value of `REQUESTS`.
fn request(frame: &[u8], undo: Undo, sources: Sources, cpu: usize, interval_ns: u64) -> [u64; WORDS] {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut blank = frame.to_vec();
    let changed: &[_] = match undo {
        Undo::Nothing | Undo::Same => &[],
        Undo::PingV4 => &CHANGED_V4,
        Undo::PingV6 => &CHANGED_V6,
    };
    for (at, len) in changed {
        blank[*at..at + len].fill(0);
    }
    let (header, message) = match undo {
        Undo::Nothing | Undo::Same => (0, 0),
        Undo::PingV4 => (ones_sum(&blank[14..34]), ones_sum(&blank[34..])),
        Undo::PingV6 => (0, icmpv6_sum(&blank[14..])),
    };
    let source: [u8; 4] = frame[SOURCE..SOURCE + 4].try_into().expect("four bytes");
    let mut value = [0; WORDS];
    for (word, bytes) in value.iter_mut().zip(blank[..START].chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
    }
    value[START / 8..].copy_from_slice(&[
        u64::from(header.to_be()),
        u64::from(message.to_be()),
        u64::from(u32::from_be_bytes(source)),
        sources.count,
        u64::from(sources.distance),
        SEED.wrapping_mul(cpu as u64 + 1),
        0,
        interval_ns,
        0,
    ]);
    value
}

/// Refuses to measure a program that does not do what is to be measured.
pub(crate) fn expect_action(name: &str, action: u32, expected: u32) -> Result<()> {
    ensure!(action == expected, "{name}: the program returned {action} instead of {expected}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use icmp_tests::packet::be16;

    use super::*;
    use crate::program::{IpVersion, echo};

    const COUNT: usize = 300;

    /// Requests as the wrapper leaves them, one after the other.
    fn requests(version: IpVersion, sources: Sources) -> Vec<Vec<u8>> {
        let (frame, undo) = (echo(version, 128), version.pings());
        let mut object = Object::load(&["empty"], undo, (1, 1)).expect("an object");
        object.set_request(&[&frame], sources, undo).expect("a request");
        let program = object.program("empty").expect("a program");
        let next = || {
            let mut out = vec![0; frame.len()];
            let options = TestRunOptions {
                data_in: Some(&frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            };
            program.test_run(options).expect("a run");
            out
        };
        // What a CPU writes is its own.
        crate::clock::pin(0).expect("a CPU");
        (0..COUNT).map(|_| next()).collect()
    }

    #[test]
    fn requests_differ_as_pings_do_and_their_checksums_are_right() {
        if !icmp_tests::can_run(&[]) {
            return;
        }
        for (version, message, payload) in [(IpVersion::V4, 34, 42..46), (IpVersion::V6, 54, 62..64)] {
            let sources = Sources { count: 7, distance: 257 };
            let requests = requests(version, sources);
            for request in &requests {
                match version {
                    IpVersion::V4 => {
                        assert_eq!((ones_sum(&request[14..34]), ones_sum(&request[34..])), (0xffff, 0xffff));
                    }
                    IpVersion::V6 => assert_eq!(icmpv6_sum(&request[14..]), 0xffff),
                }
            }
            let sequence: Vec<u16> = requests.iter().map(|request| be16(request, message + 6)).collect();
            assert!(sequence.windows(2).all(|two| two[1] == two[0] + 1), "{sequence:?}");
            // Sixteen random bits are now and then the same.
            let distinct = |bytes: std::ops::Range<usize>| {
                requests.iter().map(|request| request[bytes.clone()].to_vec()).collect::<BTreeSet<_>>().len()
            };
            assert!(distinct(payload) > COUNT - 10);
            assert!(version == IpVersion::V6 || distinct(18..20) > COUNT - 10);

            let identifiers: BTreeSet<(u32, u16)> = requests
                .iter()
                .map(|request| {
                    let source =
                        u32::from(be16(request, SOURCE)) << 16 | u32::from(be16(request, SOURCE + 2));
                    (source, be16(request, message + 4))
                })
                .collect();
            let of_sources: BTreeMap<u32, u16> = identifiers.iter().copied().collect();
            let expected: Vec<u32> = (0..7).map(|number| (1 << 24) + number * 257).collect();
            assert_eq!(of_sources.keys().copied().collect::<Vec<_>>(), expected);
            assert_eq!(identifiers.len(), expected.len(), "one identifier a source");
            assert_eq!(of_sources.values().collect::<BTreeSet<_>>().len(), expected.len(), "each its own");
        }
    }
}
