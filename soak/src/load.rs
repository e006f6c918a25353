//! The load on the host, and whether each reply is right.
//!
//! Owns the two senders at the far end of the wire. A monitor sends one request after the other and waits for each reply: while the link is up
//! no reply may be lost, none may come twice, and each has to match its request to the byte. A flood of requests from many made-up sources and
//! from one real one, and of other messages, goes on beside it; its replies have to be right as well.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use icmp_tests::generate::Random;
use icmp_tests::netns::{HOST_MAC, PEER_IF, PEER_MAC, Pair};
use icmp_tests::packet::{ETHERTYPE_IPV4, Echo, Layers, objections_to_reply};
use icmp_tests::wire::Tap;

/// From whom and to whom the monitor's requests go, by family.
pub(crate) const MONITORS: [(&str, &str); 2] = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];
/// Addresses of the host that come and go; the monitor leaves them to `ping`.
pub(crate) const GUESTS: [&str; 2] = ["192.0.2.100", "2001:db8::100"];
/// The flood's sources that have one request each (RFC 2544, appendix C.2.2).
pub(crate) const STRANGERS: &str = "198.18.0.0/15";
/// The flood's one source that goes on.
pub(crate) const OFFENDER: &str = "203.0.113.9";

/// Between two requests of the monitor.
const PACE: Duration = Duration::from_micros(500);
/// How long a reply may take on two busy CPUs, before it is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Frames of the flood sent at once, which is less than the 256 that one end of a veth pair takes (VETH_RING_SIZE, drivers/net/veth.c).
const BURST: usize = 16;
/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(4);

/// What both senders and their owner know.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Odd while the link is not to be relied on.
    link: AtomicU64,
    asked: AtomicU64,
    answered: [AtomicU64; 2],
    lost_with_link: AtomicU64,
    flooded: AtomicU64,
    strangers_answered: AtomicU64,
    offender_answered: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn fail(&self, what: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(what);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Both senders, until this value goes.
pub(crate) struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(pair: &Pair, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let [for_monitor, for_flood] = [(); 2].map(|()| pair.peer.enter(|| Tap::open_for_incoming(PEER_IF)));
        let (of_monitor, of_flood) = (Arc::clone(&shared), Arc::clone(&shared));
        let senders = vec![
            std::thread::spawn(move || monitor(&for_monitor, &of_monitor)),
            std::thread::spawn(move || flood(&for_flood, &of_flood, seed)),
        ];
        Self { shared, senders }
    }

    /// Says so if a reply was wrong, was lost, or came twice.
    pub(crate) fn failure(&self) -> Result<()> {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |failure| bail!("{failure}"))
    }

    /// Does something that takes the link away for a while: what is lost meanwhile is nobody's fault. Over when both families are answered.
    pub(crate) fn without_link(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.shared.link.fetch_add(1, Ordering::Relaxed);
        work()?;
        let answered = || self.shared.answered.each_ref().map(|family| family.load(Ordering::Relaxed));
        let before = answered();
        let deadline = Instant::now() + 10 * PATIENCE;
        while answered().iter().zip(before).any(|(now, before)| *now == before) {
            self.failure()?;
            ensure!(Instant::now() < deadline, "the link is up again, and pings are not answered");
            std::thread::sleep(PACE);
        }
        self.shared.link.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Replies that the offender has had.
    pub(crate) fn offender_answered(&self) -> u64 {
        self.shared.offender_answered.load(Ordering::Relaxed)
    }

    /// Ends both senders; what was sent and answered.
    pub(crate) fn end(mut self) -> Result<String> {
        self.stop();
        self.failure()?;
        Ok(self.to_string())
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            if sender.join().is_err() {
                self.shared.fail("a sender panicked; what it said is above".into());
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared {
            asked, answered, lost_with_link, flooded, strangers_answered, offender_answered, ..
        } = &*self.shared;
        write!(
            f,
            "monitor: {} asked, {} answered, {} lost with the link; flood: {} sent, {} of strangers and {} of one source answered",
            of(asked),
            answered.iter().map(of).sum::<u64>(),
            of(lost_with_link),
            of(flooded),
            of(strangers_answered),
            of(offender_answered)
        )
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn monitor(tap: &Tap, shared: &Shared) {
    let mut unanswered = BTreeSet::new();
    for number in 0.. {
        let family = number as usize % MONITORS.len();
        let (from, to) = MONITORS[family];
        let data = Random::new(u64::from(number)).bytes(48);
        let request = Echo { second_word: number, ..Echo::new(address(from), address(to), data) };
        let link = shared.link.load(Ordering::Relaxed);
        shared.asked.fetch_add(1, Ordering::Relaxed);
        // With the link down there is nowhere to send to: that is a request without a reply like any other.
        let _down = tap.send(&request.frame());
        let deadline = Instant::now() + PATIENCE;
        unanswered.insert(number);
        while unanswered.contains(&number) {
            let Some(seen) = tap.receive(deadline) else { break };
            if let Err(what) = judge(&seen.frame, shared, &mut unanswered) {
                return shared.fail(format!("{what}: {:02x?}", seen.frame));
            }
            if !shared.goes_on() {
                return;
            }
        }
        if !unanswered.contains(&number) {
            shared.answered[family].fetch_add(1, Ordering::Relaxed);
        } else if link % 2 == 1 || link != shared.link.load(Ordering::Relaxed) {
            shared.lost_with_link.fetch_add(1, Ordering::Relaxed);
        } else {
            return shared.fail(format!("request {number}, to {to}, was not answered within {PATIENCE:?}"));
        }
        std::thread::sleep(PACE);
    }
}

/// What is wrong with a frame that came in, if it is a reply.
fn judge(frame: &[u8], shared: &Shared, unanswered: &mut BTreeSet<u32>) -> Result<(), &'static str> {
    let Some(layers) = Layers::of(frame) else { return Ok(()) };
    let ip = layers.payload;
    let is_v4 = layers.ethertype == ETHERTYPE_IPV4;
    let (protocol, message, reply) = if is_v4 { (9, 20, 0) } else { (6, 40, 129) };
    if ip.len() < message + 8 || ![1, 58].contains(&ip[protocol]) || ip[message] != reply {
        return Ok(());
    }
    if let Some(objection) = objections_to_reply(frame).first() {
        eprintln!("{objection}");
        return Err("no right reply");
    }
    if frame[..6] != PEER_MAC || frame[6..12] != HOST_MAC {
        return Err("a reply to or from another MAC address");
    }
    let (source, destination) = if is_v4 {
        let part = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap_or_default());
        (part(12), part(16))
    } else {
        let part = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap_or_default());
        (part(8), part(24))
    };
    let Some((_, to)) = MONITORS.iter().find(|(from, _)| address(from) == destination) else {
        let counter = if destination == address(OFFENDER) {
            &shared.offender_answered
        } else {
            &shared.strangers_answered
        };
        counter.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    };
    if GUESTS.map(address).contains(&source) {
        return Ok(());
    }
    if source != address(to) {
        return Err("a reply from an address that was not asked");
    }
    let number = u32::from_be_bytes(ip[message + 4..message + 8].try_into().unwrap_or_default());
    if !unanswered.remove(&number) {
        return Err("a reply that came twice, or that nothing was asked for");
    }
    if ip[message + 8..] != Random::new(u64::from(number)).bytes(48) {
        return Err("a reply with other data than its request");
    }
    Ok(())
}

fn flood(tap: &Tap, shared: &Shared, seed: u64) {
    let mut random = Random::new(seed);
    let target = address(MONITORS[0].1);
    let frames: Vec<Vec<u8>> = (0..4096).map(|_| of_flood(&mut random, target).frame()).collect();
    while shared.goes_on() {
        for _ in 0..BURST {
            // With the link down there is nowhere to send to.
            if tap.send(&frames[random.below(frames.len())]).is_ok() {
                shared.flooded.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn of_flood(random: &mut Random, target: IpAddr) -> Echo {
    let stranger = IpAddr::from([198, 18 + random.byte() % 2, random.byte(), random.byte()]);
    let from = if random.once_in(2) { address(OFFENDER) } else { stranger };
    let data = random.bytes(32);
    // A tenth are messages that get no reply: errors, redirects, timestamps.
    let kind = random.once_in(10).then(|| random.pick(&[3, 5, 11, 13, 17]));
    Echo { kind, second_word: 0, ..Echo::new(from, target, data) }
}
