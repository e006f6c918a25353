//! The time of a ping: to an idle host, and to one that another source floods.
//!
//! Owns the pinger, which is a thousand sources in turn, the flood beside it, and the CPU of each. An idle host answers on the pinger's CPU, as
//! veth does, and the pinger polls for the reply, because waking up takes longer than an answer. In a flood the host has a CPU for itself and
//! takes all frames from one queue, as from a network card's; pinger and flood share the other CPU, so there the pinger sleeps, and the flood
//! gives way to it.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use icmp_tests::netns::{HOST_IF, Namespace, PEER_IF};
use icmp_tests::packet::{checksum, put16};
use icmp_tests::process;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendmsg,
    socket,
};

use crate::clock::{pin, pin_thread, threads};
use crate::figures::Figures;
use crate::interrupt;
use crate::object::{START, cpus};
use crate::program::full;
use crate::wire::{Generator, Limits, OPEN, Responder, World};

/// Who is asked.
const ASKED: [Responder; 6] = [
    Responder::Kernel,
    Responder::KERNEL_BEHIND_XDP,
    Responder::Ours { generic: false },
    Responder::Ours { generic: true },
    // What is left of a ping when its answer costs nothing.
    Responder::Program("bare"),
    Responder::NFT_INPUT,
];

/// Packets a second of the flood.
const FLOOD: u64 = 600_000;
/// A limit for each source that the pinger stays below, and the flood does not.
const PER_SOURCE: &str = "[limits]\nper-source = { rate = \"10k/s\", burst = 1000 }\n\
                          per-prefix = { rate = \"50Mpps\", burst = 10000000 }\n";
const LIMITED: Limits<'static> = Limits { config: PER_SOURCE, per_source: (10_000, 1000) };

/// Pings of an idle host.
const PINGS: usize = 20_000;
/// How long a flood goes on, and how much of its beginning is left to settle.
const FLOODED: Duration = Duration::from_secs(1);
const SETTLING: Duration = Duration::from_millis(60);
/// Between two pings of a flooded host, so that the pinger does not take the flood's CPU.
const PAUSE: Duration = Duration::from_micros(200);
/// After this a reply does not come any more.
const LOST: Duration = Duration::from_millis(20);

/// One round of everything.
pub(crate) fn round(world: &World, figures: &mut Figures, quick: bool) -> Result<()> {
    Pinger::own_sources(&world.pair.peer);
    for responder in ASKED {
        let installed = world.install(responder, &Limits { config: &full(""), ..OPEN })?;
        let pings = if quick { PINGS / 4 } else { PINGS };
        let measured = world.pair.peer.enter(|| idle(pings)).with_context(|| responder.name())?;
        drop(installed);
        add(figures, &format!("latency.idle.{}", responder.name()), measured);
    }
    if cpus()? < 2 {
        return Ok(());
    }
    let mut generator = Generator::paced(1_000_000_000 / FLOOD)?;
    let _queue = OneQueue::new(world)?;
    for responder in ASKED {
        let name = format!("latency.flood.{}", responder.name());
        let installed = world.install(responder, &LIMITED)?;
        pin_queue()?;
        let flooded = flooded(world, &mut generator).with_context(|| responder.name())?;
        drop(installed);
        let Pings { ns, lost } = &flooded.pings;
        figures.add(&format!("{name}.taken"), "Mpps", flooded.taken / 1e6);
        figures.add(&format!("{name}.lost"), "share", *lost as f64 / (ns.len() + lost) as f64);
        add(figures, &name, flooded.pings);
    }
    Ok(())
}

/// The CPUs of a flooded host, and of those who send to it.
const HOST_CPU: usize = 0;
const SENDERS_CPU: usize = 1;

/// The host takes all packets from one queue in a thread of its own, until this value goes.
struct OneQueue<'a> {
    world: &'a World,
}

impl<'a> OneQueue<'a> {
    fn new(world: &'a World) -> Result<Self> {
        let queue = Self { world };
        queue.set(true)?;
        Ok(queue)
    }

    fn set(&self, on: bool) -> Result<()> {
        let host = &self.world.pair.host;
        // The files of a namespace's interfaces are seen where /sys has been mounted in it.
        let threaded = format!("echo {} > /sys/class/net/{HOST_IF}/threaded", u8::from(on));
        let mut inside = Command::new("ip");
        let done = process::run(inside.args(["netns", "exec", host.name(), "sh", "-c", &threaded]));
        ensure!(done.code == Some(0), "having the host receive in a thread: {done}");
        // A veth whose sender can segment hands a socket's packets to the kernel past the queue, unless there is a program.
        let segment = if on { "off" } else { "on" };
        let done = self.world.pair.peer.run("ethtool", &["-K", PEER_IF, "tso", segment]);
        ensure!(done.code == Some(0), "having pings wait in the host's queue: {done}");
        Ok(())
    }
}

impl Drop for OneQueue<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(false) {
            eprintln!("{error:#}");
        }
    }
}

/// Keeps the thread that receives for the host, which comes and goes with programs, on the host's CPU.
fn pin_queue() -> Result<()> {
    let name = format!("napi/{HOST_IF}-");
    let threads = threads(|of| of.starts_with(&name))?;
    ensure!(!threads.is_empty(), "the kernel has no thread {name}… that receives for the host");
    threads.into_iter().try_for_each(|thread| pin_thread(thread, HOST_CPU))
}

/// Times of pings in nanoseconds, and how many had no reply.
struct Pings {
    ns: Vec<u64>,
    lost: usize,
}

struct Flooded {
    pings: Pings,
    /// Packets a second that the host has taken, pings among them.
    taken: f64,
}

fn add(figures: &mut Figures, name: &str, mut pings: Pings) {
    pings.ns.sort_unstable();
    for (label, permille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
        let at = pings.ns.len() * permille / 1000;
        figures.add(&format!("{name}.{label}"), "us", pings.ns[at] as f64 / 1e3);
    }
}

fn idle(pings: usize) -> Result<Pings> {
    interrupt::check()?;
    pin(cpus()? - 1)?;
    let mut pinger = Pinger::new(Wait::Spinning)?;
    for _ in 0..pings / 20 {
        pinger.ping()?;
    }
    let mut measured = Pings { ns: Vec::with_capacity(pings), lost: 0 };
    for _ in 0..pings {
        measured.add(pinger.ping()?);
    }
    ensure!(measured.lost == 0, "{} of {pings} pings had no reply", measured.lost);
    Ok(measured)
}

fn flooded(world: &World, generator: &mut Generator) -> Result<Flooded> {
    interrupt::check()?;
    let peer = &world.pair.peer;
    let runs = peer.enter(|| pin(SENDERS_CPU).and_then(|()| generator.runs_in(FLOODED)))?;
    let over = AtomicBool::new(false);
    let before = (Instant::now(), world.received()?);
    let pings = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let done = peer.enter(|| {
                pin(SENDERS_CPU)?;
                give_way()?;
                generator.send(runs)
            });
            over.store(true, Ordering::Relaxed);
            done
        });
        let pings = peer.enter(|| ping_until(&over));
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(pings)
    })?;
    let taken = (world.received()? - before.1) as f64 / before.0.elapsed().as_secs_f64();
    Ok(Flooded { pings, taken })
}

/// Has the calling thread run only where no other wants to.
fn give_way() -> Result<()> {
    let thread = nix::unistd::gettid().to_string();
    let done = process::run(Command::new("chrt").args(["--idle", "--pid", "0", &thread]));
    ensure!(done.code == Some(0), "having the flood give way to the pinger: {done}");
    Ok(())
}

/// Pings until the flood is over.
fn ping_until(over: &AtomicBool) -> Result<Pings> {
    pin(SENDERS_CPU)?;
    let mut pinger = Pinger::new(Wait::Sleeping)?;
    let start = Instant::now();
    let mut pings = Pings { ns: Vec::new(), lost: 0 };
    loop {
        std::thread::sleep(PAUSE);
        let took = pinger.ping()?;
        if over.load(Ordering::Relaxed) {
            break;
        }
        if start.elapsed() > SETTLING {
            pings.add(took);
        }
    }
    ensure!(!pings.ns.is_empty(), "no ping had a reply, of {} that were sent in a flood", pings.lost);
    Ok(pings)
}

impl Pings {
    fn add(&mut self, took: Option<Duration>) {
        match took {
            Some(took) => self.ns.push(took.as_nanos() as u64),
            None => self.lost += 1,
        }
    }
}

/// How a pinger waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Spinning,
    Sleeping,
}

/// A socket that pings the host, in the namespace of the thread that makes it, from a thousand sources in turn.
struct Pinger {
    socket: OwnedFd,
    wait: Wait,
    /// Pings so far.
    count: u32,
}

impl Pinger {
    /// As the bench's other cases have.
    const SOURCES: u32 = 1000;
    /// The first source; for benchmarks (RFC 2544, RFC 6890).
    const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
    /// Of the first source's pings, and one more for each that follows; all below those of the bench's own requests, whose replies end in
    /// the collector.
    const IDENTIFIER: u16 = 0x1000;
    const HOST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 0);

    /// Has the namespace take all the sources for its own.
    fn own_sources(namespace: &Namespace) {
        namespace.ip(&format!("route replace local {}/22 dev lo", Self::FIRST));
    }

    fn new(wait: Wait) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)
            .context("opening a raw socket for pings")?;
        Ok(Self { socket, wait, count: 0 })
    }

    /// Sends a request and waits for its reply; `None` if there is none.
    fn ping(&mut self) -> Result<Option<Duration>> {
        const IPV4: usize = 20;
        let (source, sequence) = (self.count % Self::SOURCES, self.count / Self::SOURCES);
        self.count += 1;
        let mut message = [0x5a; START - 14 - IPV4];
        message[..4].copy_from_slice(&[8, 0, 0, 0]);
        put16(&mut message, 4, Self::IDENTIFIER + source as u16);
        put16(&mut message, 6, sequence as u16);
        // Where ping has the time.
        message[8..12].copy_from_slice(&self.count.to_be_bytes());
        let sum = checksum(&message);
        put16(&mut message, 2, sum);
        let from = Ipv4Addr::from_bits(Self::FIRST.to_bits() + source).to_bits().to_be();
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: from },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let (from, to) = ([ControlMessage::Ipv4PacketInfo(&info)], SockaddrIn::from(Self::HOST));
        let mut reply = [0; 2048];
        let start = Instant::now();
        let request = [IoSlice::new(&message)];
        sendmsg(self.socket.as_raw_fd(), &request, &from, MsgFlags::empty(), Some(&to))
            .context("sending a ping")?;
        loop {
            match recv(self.socket.as_raw_fd(), &mut reply, MsgFlags::empty()) {
                // Type and code of a reply, then a checksum, then what was sent.
                Ok(length)
                    if length == IPV4 + message.len()
                        && reply[IPV4..IPV4 + 2] == [0, 0]
                        && reply[IPV4 + 4..IPV4 + 8] == message[4..8] =>
                {
                    return Ok(Some(start.elapsed()));
                }
                Ok(_) => {}
                Err(Errno::EAGAIN) if start.elapsed() > LOST => return Ok(None),
                Err(Errno::EAGAIN) if self.wait == Wait::Sleeping => {
                    let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                    let longest = PollTimeout::try_from(LOST).context("a time that poll takes")?;
                    poll(&mut sockets, longest).context("waiting for a reply")?;
                }
                Err(Errno::EAGAIN) => std::hint::spin_loop(),
                Err(error) => return Err(error).context("waiting for a reply"),
            }
        }
    }
}
