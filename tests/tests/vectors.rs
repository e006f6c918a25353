//! Every golden frame through the program in the kernel: with `BPF_PROG_TEST_RUN`, and over a wire.
//!
//! Owns how an outcome is observed; `icmp_tests::vectors` has the frames, `icmp_tests::comparator` judges.

use std::time::Instant;

use icmp_common::reason::Verdict;
use icmp_ctl::instance::program::Entry;
use icmp_tests::comparator::{Outcome, objections};
use icmp_tests::ctl::{Attached, UNLIMITED};
use icmp_tests::host::{self, InKernel};
use icmp_tests::netns::{HOST_IF, HOST_MAC, PEER_IF, PEER_MAC, Pair};
use icmp_tests::packet::{self, ETHERTYPE_EXPERIMENT, Echo};
use icmp_tests::vectors::{self, Vector, to_hex};
use icmp_tests::wire::{Seen, Tap};

#[test]
fn every_vector_is_judged_right_over_a_wire() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let all = vectors::all();
    let mut verdicts = Vec::new();
    for mtu in [1500, 9000] {
        let pair = Pair::new(mtu);
        // A host that limits would, rightly, not answer so many requests of one source.
        let attached = Attached::configured(&pair.host, HOST_IF, UNLIMITED);
        let mut wire = Wire::new(&pair);
        for vector in all.iter().filter(|v| v.ifconfig.mtu == mtu) {
            verdicts.push((vector, wire.outcome(vector)));
        }
        // Reading them checks that they add up.
        let counters = attached.counters();
        assert!(counters.received >= 3, "the program saw the frames: {counters:?}");
    }
    judge("over a wire", &verdicts);
}

#[test]
fn every_vector_is_judged_right_by_a_run_in_the_kernel() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let (mut plain, _) = host::both(UNLIMITED, &[]);
    let (mut with_vlan, _) = host::both(UNLIMITED, &[100]);
    let all = vectors::all();
    let verdicts: Vec<_> = all
        .iter()
        .map(|vector| {
            let vlans: Vec<_> = vector.ifconfig.vlans.keys().copied().collect();
            let kernel = match vlans[..] {
                [] => &mut plain,
                [100] => &mut with_vlan,
                _ => panic!("{}: no host with VLANs {vlans:?}", vector.id),
            };
            (vector, test_run(kernel, vector))
        })
        .collect();
    judge("by BPF_PROG_TEST_RUN", &verdicts);
}

fn test_run(kernel: &mut InKernel, vector: &Vector) -> Result<Outcome, String> {
    if vector.frame.len() < 14 {
        eprintln!("{}: not runnable without an Ethernet header, judged as dropped", vector.id);
        return Ok(Outcome::Drop);
    }
    // What the controller attaches to an interface of this MTU.
    let entry = if vector.ifconfig.mtu > 3000 { Entry::XdpFrags } else { Entry::Xdp };
    match kernel.run(entry, &vector.frame) {
        (Verdict::Answer, reply) => Ok(Outcome::Answer(reply)),
        (_, frame) if frame != vector.frame => {
            Err(format!("not answered, but changed to {}", to_hex(&frame)))
        }
        (Verdict::Pass, _) => Ok(Outcome::Pass),
        (Verdict::Drop | Verdict::Limit, _) => Ok(Outcome::Drop),
    }
}

/// Prints the score, and fails with every objection to every vector.
fn judge(how: &str, verdicts: &[(&Vector, Result<Outcome, String>)]) {
    let mut bad = Vec::new();
    for (vector, outcome) in verdicts {
        let found = match outcome {
            Ok(outcome) => objections(vector, outcome),
            Err(what) => vec![what.clone()],
        };
        if !found.is_empty() {
            let want = vector.reply.as_deref().map_or_else(|| "no answer".into(), to_hex);
            let got = match outcome {
                Ok(Outcome::Answer(reply)) => to_hex(reply),
                other => format!("{other:?}"),
            };
            let Vector { id, description, frame, .. } = vector;
            let (found, frame) = (found.join("; "), to_hex(frame));
            bad.push(format!("{id}: {found} ({description})\n  in   {frame}\n  want {want}\n  got  {got}"));
        }
    }
    println!("{how}: {} of {}", verdicts.len() - bad.len(), vectors::COUNT);
    assert!(bad.is_empty(), "{how}, {} vectors are judged wrong:\n{}", bad.len(), bad.join("\n"));
    assert_eq!(verdicts.len(), vectors::COUNT, "every vector is judged");
}

/// A packet socket at each end.
///
/// What the host's socket receives was passed by the program; what the host's stack sends, that socket sees as outgoing;
/// so a frame that reaches the peer and was not outgoing at the host was sent by the program. The same, turned around,
/// tells the frame under test from what the peer's stack says.
struct Wire {
    host: Tap,
    peer: Tap,
    /// Sends; a packet socket does not see as outgoing what it sent itself, so `peer` must not.
    sender: Tap,
    /// What the stacks said by themselves during the vector before: it may arrive only now.
    sent_by_host: Vec<Vec<u8>>,
    sent_by_peer: Vec<Vec<u8>>,
}

impl Wire {
    fn new(pair: &Pair) -> Self {
        let host = pair.host.enter(|| Tap::open(HOST_IF));
        let (peer, sender) = pair.peer.enter(|| (Tap::open(PEER_IF), Tap::open(PEER_IF)));
        Self { host, peer, sender, sent_by_host: Vec::new(), sent_by_peer: Vec::new() }
    }

    /// Sends the frame, and two marks behind it on the same queue: one that is answered and one that is passed. When the
    /// answer is back and the other is at the host, everything before them has happened; no time has to be guessed.
    fn outcome(&mut self, vector: &Vector) -> Result<Outcome, String> {
        let answered_mark = answered_mark(&vector.id);
        let passed_mark = passed_mark(&vector.id);
        match self.sender.send(&vector.frame) {
            Ok(()) => {}
            // Without a whole Ethernet header there is no way to put it on this wire, or on any.
            Err(e) if vector.frame.len() < 14 => {
                eprintln!("{}: not sendable ({e}), judged as dropped", vector.id);
                return Ok(Outcome::Drop);
            }
            Err(e) => return Err(format!("not sent: {e}")),
        }
        self.sender.send(&answered_mark).map_err(|e| format!("mark not sent: {e}"))?;
        self.sender.send(&passed_mark).map_err(|e| format!("mark not sent: {e}"))?;

        let deadline = Instant::now() + icmp_tests::process::LIMIT;
        let at_peer = until(&self.peer, deadline, |f| is_answer_to(f, &answered_mark))
            .ok_or("the echo request behind it was not answered")?;
        let mut at_host =
            until(&self.host, deadline, |f| f == passed_mark).ok_or("the frame behind it did not arrive")?;
        // veth delivers what it passes before it flushes what it sends back, so the rest is there; generic receive offload
        // may have put a TCP segment behind the mark.
        at_host.extend(std::iter::from_fn(|| self.host.receive(Instant::now())));

        if incoming(&at_host).any(|f| *f == answered_mark) {
            return Err("the echo request behind it reached the stack".into());
        }
        // The sender's own frames are outgoing at the peer's other socket.
        let sent_by_peer = with(&mut self.sent_by_peer, &at_peer);
        let mut passed = incoming(&at_host).filter(|f| **f == vector.frame || !sent_by_peer.contains(f));
        let sent_by_host = with(&mut self.sent_by_host, &at_host);
        let mut answers = incoming(&at_peer).filter(|f| !sent_by_host.contains(f));
        let found = (passed.next(), answers.next());
        if let Some(more) = passed.next().or(answers.next()) {
            return Err(format!("one frame too many: {}", to_hex(more)));
        }
        match found {
            (None, None) => Ok(Outcome::Drop),
            (None, Some(answer)) => Ok(Outcome::Answer(answer.clone())),
            (Some(frame), None) if *frame == vector.frame => Ok(Outcome::Pass),
            (Some(frame), None) => Err(format!("passed, but changed to {}", to_hex(frame))),
            (Some(_), Some(answer)) => Err(format!("passed, and answered with {}", to_hex(answer))),
        }
    }
}

/// Everything seen before the frame that is the mark, or None if it did not come.
fn until(tap: &Tap, deadline: Instant, is_mark: impl Fn(&[u8]) -> bool) -> Option<Vec<Seen>> {
    let mut before = Vec::new();
    loop {
        let seen = tap.receive(deadline)?;
        if !seen.outgoing && is_mark(&seen.frame) {
            return Some(before);
        }
        before.push(seen);
    }
}

fn incoming(seen: &[Seen]) -> impl Iterator<Item = &Vec<u8>> {
    seen.iter().filter(|s| !s.outgoing).map(|s| &s.frame)
}

/// What a stack said during the vector before and during this one, which is the one before from now on.
fn with(before: &mut Vec<Vec<u8>>, seen: &[Seen]) -> Vec<Vec<u8>> {
    let now: Vec<_> = seen.iter().filter(|s| s.outgoing).map(|s| s.frame.clone()).collect();
    let both = [std::mem::take(before), now.clone()].concat();
    *before = now;
    both
}

/// Of an EtherType that is nobody's business.
fn passed_mark(id: &str) -> Vec<u8> {
    let mut frame = [HOST_MAC, PEER_MAC].concat();
    frame.extend(ETHERTYPE_EXPERIMENT.to_be_bytes());
    frame.extend(id.bytes());
    frame
}

/// An echo request that has to be answered.
fn answered_mark(id: &str) -> Vec<u8> {
    let data = format!("mark behind {id}").into_bytes();
    Echo::new("192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address"), data)
        .frame()
}

fn is_answer_to(frame: &[u8], mark: &[u8]) -> bool {
    // Behind the ICMP header.
    const DATA: usize = 42;
    frame.len() == mark.len()
        && frame[DATA..] == mark[DATA..]
        && frame[..6] == mark[6..12]
        && packet::objections_to_reply(frame).is_empty()
}
