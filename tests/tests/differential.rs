//! The packet path in the kernel against the same code on the host, over generated frames.
//!
//! Owns the invariants that hold for any frame: both sides agree in verdict, bytes, reason and counters; a frame changes only if it is
//! answered; every answer verifies; every frame is counted once. For errors that both sides would share, the oracle says which frames may be
//! answered.

use icmp_common::abi::{AddressKind, Scope};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::host::address_table::OwnAddress;
use icmp_ctl::instance::program::Entry;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::generate::{self, Random};
use icmp_tests::host::{self, Counters, InKernel, OnHost, as_action};
use icmp_tests::oracle::{self, answerable};
use icmp_tests::packet::{self, Echo, Tag};
use icmp_tests::process::stay_on;
use icmp_tests::vectors::{self, to_hex};

/// Frames of a run.
const FRAMES: usize = 20_000;
/// Reading all counters takes longer than many frames, so they are compared after so many.
const BATCH: usize = 250;
/// VLANs the host has addresses on, among those the generator likes.
const VLANS: [u16; 2] = [1, 100];

#[test]
fn kernel_and_host_agree_about_every_generated_frame() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let mut random = Random::new(generate::seed());
    let sides = host::both(UNLIMITED, &VLANS);
    let total = compare(sides, &mut random, FRAMES, UNLIMITED, as_the_rules_say);
    let share = |wanted: fn(Reason) -> bool| -> u64 {
        total
            .iter()
            .filter(|((_, _, r), _)| wanted(Reason::ALL[usize::from(*r)]))
            .map(|(_, (packets, _))| packets)
            .sum()
    };
    let answered = share(|reason| reason == Reason::Answered);
    println!(
        "{FRAMES} frames, {answered} answered, ended for {} of {} reasons",
        reasons(&total),
        Reason::ALL.len()
    );
    assert!(
        answered > FRAMES as u64 / 20,
        "the generator makes frames that are answered: {answered} of {FRAMES}"
    );
    assert!(reasons(&total) >= 20, "and such that end for many reasons");
}

#[test]
fn kernel_and_host_agree_where_limits_are_exhausted() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    // What a CPU has taken from a budget is its own.
    stay_on(0);
    let mut random = Random::new(generate::seed());
    // So slow that no token comes back while the test runs: what is admitted does not depend on the clock, which the two
    // sides do not share. Who is asked first would hide the others, so there are two hosts.
    let other = "
errors     = { rate = \"2/h\", burst = 30 }
path-mtu   = { rate = \"2/h\", burst = 10 }
neighbour-discovery = { rate = \"2/h\", burst = 20 }
multicast-listener  = { rate = \"2/h\", burst = 5 }
queries    = { rate = \"2/h\", burst = 10 }
redirects  = { rate = \"2/h\", burst = 5 }
unverified = { rate = \"2/h\", burst = 5 }
";
    let by_source = "
per-source = { rate = \"2/h\", burst = 20 }
per-prefix = { rate = \"2/h\", burst = 30, ipv4-prefix = 1, ipv6-prefix = 3 }
replies    = { rate = \"unlimited\" }";
    let in_total = "
per-source = { rate = \"unlimited\" }
per-prefix = { rate = \"unlimited\" }
replies    = { rate = \"2/h\", burst = 50 }";
    let mut reached = Vec::new();
    for limits in [by_source, in_total] {
        let config = format!("[limits]{limits}{other}");
        let total = compare(host::both(&config, &VLANS), &mut random, FRAMES / 4, &config, replies_verify);
        reached.extend(total.keys().map(|(_, _, reason)| Reason::ALL[usize::from(*reason)]));
    }
    for reason in [
        Reason::LimitedSource,
        Reason::LimitedPrefix,
        Reason::LimitedTotal,
        Reason::LimitedBudget,
        Reason::WithinLimit,
    ] {
        assert!(reached.contains(&reason), "no frame ended for {}", reason.name());
    }
}

#[test]
fn kernel_and_host_agree_about_vips_and_unverified_sums() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let vips =
        "vips = [\"192.0.0.0/2\", \"8.0.0.0/5\", \"192.0.2.0/24\", \"2001:db8::/32\", \"64:ff9b::/96\"]";
    let config = format!("[responder]\nverify = \"header\"\nwide-vips = true\n{vips}\n{UNLIMITED}");
    let mut random = Random::new(generate::seed());
    let sides = host::both(&config, &VLANS);
    let _total = compare(sides, &mut random, FRAMES / 2, &config, replies_verify_but_for_the_senders_sum);
}

#[test]
fn an_answerable_frame_cut_anywhere_is_not_answered() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let (kernel, host) = host::both(UNLIMITED, &VLANS);
    for id in ["v4-echo-len-0064", "v6-echo-len-0064"] {
        let frame = vectors::all().into_iter().find(|v| v.id == id).expect("a vector").frame;
        for length in 0..frame.len() {
            let mut cut = frame[..length].to_vec();
            let outcome = host.run(&mut cut);
            assert_eq!(
                (outcome.verdict(), &cut[..]),
                (Verdict::Pass, &frame[..length]),
                "{id} cut at {length}, host"
            );
            // The kernel runs nothing without an Ethernet header.
            if length >= 14 {
                let (verdict, after) = kernel.run(Entry::Xdp, &cut);
                assert_eq!((verdict, after), (Verdict::Pass, cut), "{id} cut at {length}, kernel");
            }
        }
    }
}

#[test]
fn a_message_too_long_to_be_summed_is_handed_over() {
    let address = "192.0.2.2".parse().expect("an address");
    let host = host::on_host_with(&[OwnAddress { address, scope: host::scope(0), kind: AddressKind::Own }]);
    for (length, reason) in
        [(4096, Reason::Answered), (4097, Reason::MultiBuffer), (4150, Reason::MultiBuffer)]
    {
        let data = vec![0x5a; length - 8];
        let mut frame = Echo::new("192.0.2.1".parse().expect("an address"), address, data).frame();
        assert_eq!(host.run(&mut frame).reason, reason, "a message of {length} bytes");
    }
}

#[test]
fn a_reserved_inner_vlan_is_no_single_service_tag() {
    let address = "192.0.2.2".parse().expect("an address");
    let scope = host::scope(100 | Scope::SERVICE_ONLY << 12);
    let present =
        OwnAddress { address: std::net::Ipv4Addr::UNSPECIFIED.into(), scope, kind: AddressKind::Present };
    let host = host::on_host_with(&[present, OwnAddress { address, scope, kind: AddressKind::Own }]);
    let tag = |tpid, tci| Tag { tpid, tci };
    for (tags, reason) in [
        (vec![tag(0x88a8, 100)], Reason::Answered),
        (vec![tag(0x88a8, 100), tag(0x8100, 0xfff)], Reason::UnknownVlan),
    ] {
        let request =
            Echo { tags, ..Echo::new("192.0.2.1".parse().expect("an address"), address, vec![0; 56]) };
        assert_eq!(host.run(&mut request.frame()).reason, reason, "{:?}", request.tags);
    }
}

#[test]
fn with_nothing_configured_everything_is_passed() {
    if !icmp_tests::can_run(&[]) {
        return;
    }
    let kernel = host::unconfigured();
    for vector in vectors::all().iter().filter(|v| v.frame.len() >= 14 && v.ifconfig.mtu == 1500) {
        let (verdict, after) = kernel.run(Entry::Xdp, &vector.frame);
        assert_eq!((verdict, &after), (Verdict::Pass, &vector.frame), "{}", vector.id);
    }
}

/// What else is asked of a frame, of the reason it ended for and of the reply to it, if it was answered: all objections.
type Also = fn(&[u8], Reason, Option<&[u8]>) -> Vec<String>;

/// It is answered if and only if the rules say so, and the reply is right.
///
/// One generated frame in many thousands is a path MTU message that is right, after which longer requests are handed over. The oracle
/// remembers nothing; `strangers.rs` owns when that is so.
fn as_the_rules_say(frame: &[u8], reason: Reason, reply: Option<&[u8]>) -> Vec<String> {
    let addresses = host::address_list(&VLANS);
    let host = oracle::Host { addresses: &addresses, vips: &[], verifies: true };
    match (answerable(frame, &host), reply) {
        (Ok(()), Some(reply)) => packet::objections_to_reply(reply),
        (Ok(()), None) if reason == Reason::BeyondPathMtu => Vec::new(),
        (Ok(()), None) => vec!["has to be answered".into()],
        (Err(rule), Some(_)) => vec![format!("answered in spite of {rule}")],
        (Err(_), None) => Vec::new(),
    }
}

/// A reply is right; whether there is one depends on limits.
fn replies_verify(_: &[u8], _: Reason, reply: Option<&[u8]>) -> Vec<String> {
    reply.map_or_else(Vec::new, packet::objections_to_reply)
}

/// With `verify = "header"` a wrong checksum may be carried through, and nothing else be wrong.
fn replies_verify_but_for_the_senders_sum(_: &[u8], _: Reason, reply: Option<&[u8]>) -> Vec<String> {
    let mut objections = reply.map_or_else(Vec::new, packet::objections_to_reply);
    objections.retain(|objection| !objection.contains("the ICMP"));
    objections
}

/// Runs the frames through both sides; returns what was counted.
fn compare(
    (kernel, host): (InKernel, OnHost),
    random: &mut Random,
    count: usize,
    config: &str,
    also: Also,
) -> Counters {
    for batch in 0..count / BATCH {
        let frames: Vec<_> = (0..BATCH).map(|_| generate::frame(random)).collect();
        for (i, frame) in frames.iter().enumerate() {
            // Both entry points are the same path.
            let entry = if i % 2 == 0 { Entry::Xdp } else { Entry::XdpFrags };
            judge(&kernel, &host, entry, frame, also);
        }
        let (in_kernel, on_host) = (kernel.counters(), host.counters());
        if in_kernel != on_host {
            name_the_frame(&frames, config);
            panic!("the counters differ after batch {batch}: {}", differences(&in_kernel, &on_host));
        }
        let received: u64 = in_kernel.values().map(|(packets, _)| packets).sum();
        assert_eq!(received, ((batch + 1) * BATCH) as u64, "every frame is counted once");
    }
    kernel.counters()
}

fn judge(kernel: &InKernel, host: &OnHost, entry: Entry, frame: &[u8], also: Also) {
    let (verdict, after) = kernel.run(entry, frame);
    let mut on_host = frame.to_vec();
    let outcome = host.run(&mut on_host);
    let told = || format!("reason {} for {}", outcome.reason.name(), to_hex(frame));
    assert_eq!(
        verdict,
        as_action(outcome.verdict()),
        "verdict of the kernel and of the host, {}; counted so far:\n{}",
        told(),
        differences(&kernel.counters(), &host.counters())
    );
    assert_eq!(to_hex(&after), to_hex(&on_host), "frame as the kernel and as the host leave it, {}", told());
    if verdict == Verdict::Answer {
        assert_eq!(after.len(), frame.len(), "no amplification, {}", told());
    } else {
        assert_eq!(to_hex(&after), to_hex(frame), "changed without being answered, {}", told());
    }
    let objections = also(frame, outcome.reason, (verdict == Verdict::Answer).then_some(&after[..]));
    assert_eq!(objections, Vec::<String>::new(), "{}, left as {}", told(), to_hex(&after));
}

/// Says which frame of a batch is counted differently, by running each on fresh tables.
fn name_the_frame(frames: &[Vec<u8>], config: &str) {
    let (kernel, host) = host::both(config, &VLANS);
    for frame in frames {
        let _same = kernel.run(Entry::Xdp, frame);
        let outcome = host.run(&mut frame.clone());
        let (in_kernel, on_host) = (kernel.counters(), host.counters());
        if in_kernel != on_host {
            eprintln!(
                "counted differently, reason {} on the host: {}\n{}",
                outcome.reason.name(),
                to_hex(frame),
                differences(&in_kernel, &on_host)
            );
            return;
        }
    }
}

fn differences(kernel: &Counters, host: &Counters) -> String {
    let keys: std::collections::BTreeSet<_> = kernel.keys().chain(host.keys()).collect();
    keys.into_iter()
        .filter(|key| kernel.get(key) != host.get(key))
        .map(|key| {
            let (slot, row, reason) = key;
            let name = Reason::ALL.get(usize::from(*reason)).map_or("?", |r| r.name());
            format!("slot {slot} row {row} {name}: kernel {:?}, host {:?}", kernel.get(key), host.get(key))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn reasons(counters: &Counters) -> usize {
    counters.keys().map(|(_, _, reason)| reason).collect::<std::collections::BTreeSet<_>>().len()
}
