//! The whole work of a host per packet, on a veth pair: receiving, answering or refusing, and sending back, on one CPU.
//!
//! Owns the responders that are compared and their set-up. Requests are made in the kernel (live frames that are changed into another ping each
//! time), so no system calls of a sender are in the figures; the cost of making, sending and collecting frames is the same for all, and is
//! shown as `drop`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::XdpMode;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, HOST_MAC, PEER_IF, PEER_MAC, Pair};

use crate::clock::CpuClock;
use crate::figures::Figures;
use crate::interrupt;
use crate::object::{Object, START, Sources, Undo, cpus};
use crate::program::{IpVersion, THOUSAND, echo, full};

/// Who takes the packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Responder {
    /// The kernel's stack.
    Kernel,
    /// icmp-ctl in the driver, or in the kernel's generic code.
    Ours { generic: bool },
    /// A program of the bench.
    Program(&'static str),
    /// An nftables limit for each source, at a hook: the table's family and the chain.
    Nft { hook: &'static str, family: &'static str, chain: &'static str },
    /// iptables' hashlimit in a chain of a table.
    Hashlimit { table: &'static str, chain: &'static str },
}

impl Responder {
    pub(crate) const NFT_INPUT: Self =
        Self::Nft { hook: "input", family: "inet", chain: "type filter hook input priority 0;" };
    /// A program that passes everything.
    pub(crate) const KERNEL_BEHIND_XDP: Self = Self::Program("empty");
    const NFT_RAW: Self =
        Self::Nft { hook: "raw", family: "inet", chain: "type filter hook prerouting priority raw;" };
    const NFT_INGRESS: Self = Self::Nft {
        hook: "ingress",
        family: "netdev",
        chain: "type filter hook ingress device \"host0\" priority 0;",
    };
    const HASHLIMIT_RAW: Self = Self::Hashlimit { table: "raw", chain: "PREROUTING" };
    const HASHLIMIT_INPUT: Self = Self::Hashlimit { table: "filter", chain: "INPUT" };

    /// Its name in figures.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Kernel => "kernel".into(),
            Self::Ours { generic: false } => "icmp-ctl".into(),
            Self::Ours { generic: true } => "icmp-ctl-generic".into(),
            Self::KERNEL_BEHIND_XDP => "kernel-behind-xdp".into(),
            Self::Program(name) => name.into(),
            Self::Nft { hook, .. } => format!("nft-{hook}"),
            Self::Hashlimit { table, .. } => {
                format!("hashlimit-{}", if table == "raw" { "raw" } else { "input" })
            }
        }
    }

    /// Packets in a piece: what takes about a tenth of a second. As many are sent before, which also fills the tables of those that
    /// remember sources.
    fn packets(self, quick: bool) -> u32 {
        let packets = match self {
            Self::Kernel => 40_000,
            Self::Nft { .. } | Self::Hashlimit { .. } => 70_000,
            Self::Ours { .. } | Self::Program(_) => 300_000,
        };
        if quick { packets / 2 } else { packets }
    }
}

/// How long there are packets without a pause.
#[derive(Clone, Copy)]
enum Length {
    /// A tenth of a second.
    Piece,
    /// So long that a burst and what is earned in pauses do not count for much.
    Second,
}

/// The limits of a responder.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// icmp-ctl's.
    pub config: &'a str,
    /// Everybody else's for each source: packets a second, and at once.
    pub per_source: (u32, u32),
}

/// What refuses nothing.
pub(crate) const OPEN: Limits<'static> = Limits { config: "", per_source: (50_000_000, 10_000_000) };
/// The limits that floods meet: as shipped, and for each source the same for all.
const SHIPPED: Limits<'static> = Limits { config: "", per_source: (100, 200) };
/// The same with a total of replies, which of all only icmp-ctl has, that is exhausted: what many sources come to, who are all within the
/// limit for each.
const EXHAUSTED: Limits<'static> =
    Limits { config: "[limits]\nreplies = { rate = \"1/s\", burst = 1 }\n", ..SHIPPED };

/// A pair of namespaces whose peer makes requests and collects replies.
pub(crate) struct World {
    pub(crate) pair: Pair,
    collector: Object,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let pair = Pair::without_program(1500);
        // Nobody has to ask for anybody in the middle of a measurement.
        for (asking, interface, mac, last) in
            [(&pair.host, HOST_IF, PEER_MAC, 1), (&pair.peer, PEER_IF, HOST_MAC, 2)]
        {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            for network in ["192.0.2.", "2001:db8::"] {
                asking
                    .ip(&format!("neigh replace {network}{last} lladdr {mac} dev {interface} nud permanent"));
            }
        }
        // Without a program, veth takes live frames only where GRO has given it a queue.
        let gro = pair.host.run("ethtool", &["-K", HOST_IF, "gro", "on"]);
        ensure!(gro.code == Some(0), "{gro}");
        let mut collector = Object::load(&["collect"], Undo::Nothing, OPEN.per_source)?;
        pair.peer.enter(|| attach(&mut collector, "collect", PEER_IF))?;
        Ok(Self { pair, collector })
    }

    /// Puts a responder in place until what is returned goes.
    pub(crate) fn install(&self, responder: Responder, limits: &Limits<'_>) -> Result<Installed<'_>> {
        let (rate, burst) = limits.per_source;
        let host = &self.pair.host;
        Ok(match responder {
            Responder::Kernel => Installed::Nothing,
            Responder::Ours { generic } => {
                let folder = Folder::new();
                let file = folder.file("icmp-ctl.toml", limits.config);
                let mode = if generic { "generic" } else { "native" };
                Installed::Ours {
                    _attached: ctl::Attached::with(host, HOST_IF, &format!("--mode {mode} -f {file}")),
                }
            }
            Responder::Program(name) => {
                let mut object = Object::load(&[name], Undo::Nothing, limits.per_source)?;
                host.enter(|| attach(&mut object, name, HOST_IF))?;
                Installed::Program { _object: Box::new(object) }
            }
            Responder::Nft { family, chain, .. } => {
                let script = format!(
                    "table {family} bench {{\n set sources {{ type ipv4_addr; size 65535; flags dynamic,timeout; timeout 60s; }}\n \
                     chain floods {{ {chain} icmp type echo-request update @sources {{ ip saddr limit rate over {rate}/second burst {burst} packets }} drop; }}\n}}\n"
                );
                let guard = Installed::Rules { world: self, undo: vec![("nft", vec!["flush", "ruleset"])] };
                nft(self, &script)?;
                guard
            }
            Responder::Hashlimit { table, chain } => {
                let undo = vec![("iptables", vec!["-t", table, "-F", chain])];
                let guard = Installed::Rules { world: self, undo };
                let limit = format!(
                    "-p icmp --icmp-type echo-request -m hashlimit --hashlimit-name bench --hashlimit-mode srcip \
                     --hashlimit-above {rate}/second --hashlimit-burst {burst} -j DROP"
                );
                let mut arguments = vec!["-t", table, "-A", chain];
                arguments.extend(limit.split_whitespace());
                let done = host.run("iptables", &arguments);
                ensure!(done.code == Some(0), "{done}");
                guard
            }
        })
    }

    /// Nanoseconds of CPU per packet and the share of packets that was answered.
    fn measure(&self, generator: &mut Generator, packets: u32, pieces: u32) -> Result<(f64, f64)> {
        interrupt::check()?;
        let collector = &self.collector;
        self.pair.peer.enter(|| {
            let clock = CpuClock::of(cpus()? - 1)?;
            generator.send(packets)?;
            let replies = collector.replies()?;
            let mut least = f64::INFINITY;
            for _ in 0..pieces {
                let before = clock.ns()?;
                generator.send(packets)?;
                least = least.min(clock.ns()? - before);
            }
            let answered = collector.replies()? - replies;
            Ok((least / f64::from(packets), answered as f64 / f64::from(pieces * packets)))
        })
    }

    /// Packets that have come in at the host's interface.
    pub(crate) fn received(&self) -> Result<u64> {
        let text = self
            .pair
            .host
            .enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))
            .context("reading the counters of the host's interfaces")?;
        let of_host = text.lines().find_map(|line| line.trim().strip_prefix(HOST_IF)?.strip_prefix(':'));
        // Bytes, then packets.
        let packets = of_host.and_then(|numbers| numbers.split_whitespace().nth(1)?.parse().ok());
        packets.with_context(|| format!("no packets of {HOST_IF} in:\n{text}"))
    }

    /// One round of every case whose name is wanted.
    pub(crate) fn round(
        &self,
        figures: &mut Figures,
        quick: bool,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let answering_all = Limits { config: &full(""), ..OPEN };
        let ours = Responder::Ours { generic: false };
        let answering = [
            Responder::Program("drop"),
            Responder::Kernel,
            ours,
            Responder::Ours { generic: true },
            Responder::Program("bare"),
            Responder::Program("conventional"),
        ];
        for (label, version) in [("v4_1000", IpVersion::V4), ("v6_1000", IpVersion::V6)] {
            let mut generator = Generator::new(version, THOUSAND)?;
            for responder in answering {
                let name = responder.name();
                if !is_wanted(&format!("veth.{label}.{name}")) {
                    continue;
                }
                let (ns, answered) =
                    self.with(responder, &answering_all, &mut generator, Length::Piece, quick)?;
                let expected = if responder == Responder::Program("drop") { 0.0 } else { 1.0 };
                ensure!(answered == expected, "{name} answered {answered} of the packets, not {expected}");
                figures.add(&format!("veth.{label}.{name}"), "ns", ns);
                figures.add(&format!("veth.{label}.{name}.rate"), "Mpps per CPU", 1e3 / ns);
            }
        }
        let flooded = [
            Responder::Program("drop"),
            ours,
            Responder::Ours { generic: true },
            Responder::Program("conventional"),
            Responder::NFT_INGRESS,
            Responder::NFT_RAW,
            Responder::NFT_INPUT,
            Responder::HASHLIMIT_RAW,
            Responder::HASHLIMIT_INPUT,
        ];
        for (label, sources, limits, length, flooded) in [
            ("one", Sources::ONE, &SHIPPED, Length::Piece, &flooded[..]),
            ("random", Sources::RANDOM, &EXHAUSTED, Length::Piece, &flooded),
            ("random_shipped", Sources::RANDOM, &SHIPPED, Length::Second, &flooded[..2]),
        ] {
            let mut generator = Generator::new(IpVersion::V4, sources)?;
            for responder in flooded.iter().copied() {
                let name = responder.name();
                if !is_wanted(&format!("flood.{label}.{name}")) {
                    continue;
                }
                let (ns, answered) = self.with(responder, limits, &mut generator, length, quick)?;
                figures.add(&format!("flood.{label}.{name}"), "ns", ns);
                figures.add(&format!("flood.{label}.{name}.rate"), "Mpps per CPU", 1e3 / ns);
                figures.add(&format!("flood.{label}.{name}.answered"), "share", answered);
            }
        }
        Ok(())
    }

    fn with(
        &self,
        responder: Responder,
        limits: &Limits<'_>,
        generator: &mut Generator,
        length: Length,
        quick: bool,
    ) -> Result<(f64, f64)> {
        let installed = self.install(responder, limits)?;
        // As with programs, the cheapest of some pieces is nearest to what it costs by itself.
        let pieces = if quick { 3 } else { 10 };
        let packets = responder.packets(quick);
        let measured = match length {
            Length::Piece => self.measure(generator, packets, pieces),
            Length::Second => self.measure(generator, 10 * packets, pieces / 3),
        };
        drop(installed);
        measured.with_context(|| responder.name())
    }
}

/// A responder in place.
pub(crate) enum Installed<'a> {
    Nothing,
    Ours { _attached: ctl::Attached<'a> },
    Program { _object: Box<Object> },
    Rules { world: &'a World, undo: Vec<(&'static str, Vec<&'static str>)> },
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        if let Self::Rules { world, undo } = self {
            for (program, arguments) in undo {
                let done = world.pair.host.command(program).args(&*arguments).output();
                if !done.as_ref().is_ok_and(|done| done.status.success()) {
                    eprintln!("{program} {}: {done:?}", arguments.join(" "));
                }
            }
        }
    }
}

fn attach(object: &mut Object, name: &str, interface: &str) -> Result<()> {
    object
        .program_mut(name)?
        .attach(interface, XdpMode::Driver)
        .with_context(|| format!("attaching {name} to {interface}"))?;
    Ok(())
}

fn nft(world: &World, script: &str) -> Result<()> {
    use std::io::Write as _;
    let mut child = world
        .pair
        .host
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("starting nft")?;
    child.stdin.take().context("a pipe")?.write_all(script.as_bytes()).context("writing rules to nft")?;
    let status = child.wait().context("waiting for nft")?;
    if !status.success() {
        bail!("nft refused:\n{script}");
    }
    Ok(())
}

/// What the peer sends.
pub(crate) struct Generator {
    object: Object,
    program: &'static str,
    frame: Vec<u8>,
}

impl Generator {
    /// Pings of the smallest size from these sources, as fast as they are taken.
    fn new(version: IpVersion, sources: Sources) -> Result<Self> {
        let (frame, undo) = (echo(version, START), version.pings());
        let mut object = Object::load(&["generate"], undo, OPEN.per_source)?;
        object.set_request(&[&frame], sources, undo)?;
        Ok(Self { object, program: "generate", frame })
    }

    /// Pings from one source, at this distance in time.
    pub(crate) fn paced(interval_ns: u64) -> Result<Self> {
        let (frame, undo) = (echo(IpVersion::V4, START), Undo::PingV4);
        let mut object = Object::load(&["generate_paced"], undo, OPEN.per_source)?;
        object.set_paced_request(&[&frame], Sources::ONE, undo, interval_ns)?;
        Ok(Self { object, program: "generate_paced", frame })
    }

    /// Runs this often; the calling thread is in the peer's namespace.
    pub(crate) fn send(&mut self, runs: u32) -> Result<()> {
        let ifindex = nix::net::if_::if_nametoindex(PEER_IF)?;
        self.object.generate(self.program, &self.frame, ifindex, runs)
    }

    /// How many runs take this long, found by trying.
    pub(crate) fn runs_in(&mut self, time: Duration) -> Result<u32> {
        const TRIED: u32 = 1_000_000;
        let start = Instant::now();
        self.send(TRIED)?;
        Ok((f64::from(TRIED) * time.as_secs_f64() / start.elapsed().as_secs_f64()) as u32)
    }
}
