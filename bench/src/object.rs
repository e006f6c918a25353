//! The bench's eBPF object: loading it, configuring the packet path in it, running its programs.
//!
//! Owns what is fixed at a load (what is undone after a run, the conventional responder's limit) and the layout of `REQUESTS`.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use icmp_ctl::config::file::Config;
use icmp_ctl::host::defaults::HostDefaults;
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::maps::InstanceMaps;
use icmp_ctl::instance::program::{LoadOptions, create};
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::compile::compile_policy;
use icmp_tests::host;

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/icmp-bench-ebpf"));

/// Programs that are measured, by their names in the object.
pub(crate) const MEASURED: [&str; 6] =
    ["empty", "full", "bare", "limits", "conventional", "conventional_tuned"];

/// What a program's run leaves for the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    /// What it has made of the frame: as attached.
    Nothing = 0,
    /// The same request.
    Same = 1,
    /// A request from another IPv4 source.
    RandomV4 = 2,
    /// A request from another IPv6 subnet.
    RandomV6 = 3,
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
const WORDS: usize = START / 8 + 4;

/// A loaded object.
pub(crate) struct Object {
    ebpf: Ebpf,
    maps: InstanceMaps,
    in_force: Option<Arc<Compiled>>,
    requests: PerCpuArray<MapData, [u64; WORDS]>,
    replies: PerCpuArray<MapData, [u64; 2]>,
}

impl Object {
    /// Loads these programs. `per_source` is the conventional responder's limit: packets a second, and at once.
    pub(crate) fn load(programs: &[&str], undo: Undo, per_source: (u32, u32)) -> Result<Self> {
        let options = LoadOptions::new(LoadOptions::DEFAULT_CELLS)?;
        let globals = [("UNDO", undo as u32), ("RATE", per_source.0), ("BURST", per_source.1)];
        let mut ebpf = create(OBJECT, &options, None, &globals)?;
        for name in programs {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("loading the program {name}"))?;
        }
        let maps = InstanceMaps::take(&mut ebpf)?;
        let requests = ebpf.take_map("REQUESTS").context("the object has requests")?.try_into()?;
        let replies = ebpf.take_map("REPLIES").context("the object counts replies")?.try_into()?;
        Ok(Self { ebpf, maps, in_force: None, requests, replies })
    }

    /// Makes it the host of the tests.
    pub(crate) fn configure(&mut self) -> Result<()> {
        self.maps.set_interface(host::interface())?;
        self.maps.switch_addresses(&host::addresses(&[]))
    }

    /// Puts this policy in force, if it is not.
    pub(crate) fn apply(&mut self, policy: &Arc<Compiled>) -> Result<()> {
        if !self.in_force.as_ref().is_some_and(|in_force| Arc::ptr_eq(in_force, policy)) {
            self.maps.switch_policy(policy, None)?;
            self.in_force = Some(Arc::clone(policy));
        }
        Ok(())
    }

    /// Makes this frame the request of a CPU, from one source or from this many.
    pub(crate) fn set_request(&mut self, frames: &[(&[u8], u64)], undo: Undo) -> Result<()> {
        self.set_paced_request(frames, undo, 0)
    }

    /// The same, at this distance in time.
    pub(crate) fn set_paced_request(
        &mut self,
        frames: &[(&[u8], u64)],
        undo: Undo,
        interval_ns: u64,
    ) -> Result<()> {
        let cpus = cpus()?;
        let mut values = Vec::new();
        for cpu in 0..cpus {
            let (frame, sources) = frames[cpu.min(frames.len() - 1)];
            values.push(request(frame, undo, sources, cpu, interval_ns));
        }
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

/// A value of `REQUESTS`.
fn request(frame: &[u8], undo: Undo, sources: u64, cpu: usize, interval_ns: u64) -> [u64; WORDS] {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut start = [0; START];
    let len = START.min(frame.len());
    start[..len].copy_from_slice(&frame[..len]);
    if undo == Undo::RandomV4 {
        // The program puts the source in and completes the checksum.
        const CHECKSUM: usize = 14 + 10;
        const SOURCE: usize = 14 + 12;
        start[CHECKSUM..CHECKSUM + 2].fill(0);
        start[SOURCE..SOURCE + 4].fill(0);
        let without = icmp_tests::packet::checksum(&start[14..34]);
        start[CHECKSUM..CHECKSUM + 2].copy_from_slice(&without.to_be_bytes());
    }
    let mut value = [0; WORDS];
    for (word, bytes) in value.iter_mut().zip(start.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
    }
    value[START / 8] = SEED.wrapping_mul(cpu as u64 + 1);
    value[START / 8 + 1] = sources;
    value[START / 8 + 2] = interval_ns;
    value
}

/// Refuses to measure a program that does not do what is to be measured.
pub(crate) fn expect_action(name: &str, action: u32, expected: u32) -> Result<()> {
    ensure!(action == expected, "{name}: the program returned {action} instead of {expected}");
    Ok(())
}
