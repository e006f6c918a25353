//! What a program costs: nanoseconds of CPU per packet above an empty program in the same wrapper.
//!
//! Owns the list of cases. Each is checked while it is measured: the last run has to return what is expected, and the packet path has to
//! have counted every frame under the reason that is measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Barrier};

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use icmp_common::reason::Reason;
use icmp_ctl::instance::compiled::Compiled;
use icmp_tests::packet::{Echo, put16};

use crate::clock::{pin, thread_ns};
use crate::figures::Figures;
use crate::interrupt;
use crate::object::{
    MEASURED, Object, START, Undo, XDP_DROP, XDP_PASS, XDP_TX, cpus, expect_action, policy, run,
};
use crate::wire::OPEN;

/// Limits that are all in force and refuse nothing.
pub(crate) const GENEROUS: &str = r#"
per-source = { rate = "50Mpps", burst = 10000000 }
per-prefix = { rate = "50Mpps", burst = 10000000 }
replies    = { rate = "50Mpps", burst = 10000000 }
"#;

/// Sources of a flood that is as random as IPv4 can be; see the eBPF half.
pub(crate) const ALL_SOURCES: u64 = 126 << 24;

/// Prefixes of a long list.
pub(crate) const MANY: usize = 50_000;

/// One measurement.
pub(crate) struct Case {
    pub name: String,
    pub program: &'static str,
    pub undo: Undo,
    pub frame: Vec<u8>,
    pub sources: u64,
    pub policy: Arc<Compiled>,
    pub action: u32,
    pub reason: Option<Reason>,
}

/// Everything of a run: objects are loaded once, cases are measured once a round.
pub(crate) struct Bench {
    objects: Vec<(Undo, Object)>,
    cases: Vec<Case>,
    generous: Arc<Compiled>,
    pieces: u32,
}

impl Bench {
    /// Loads what is needed.
    pub(crate) fn new(quick: bool, cases: Vec<Case>) -> Result<Self> {
        let mut objects = Vec::new();
        for undo in [Undo::Same, Undo::RandomV4, Undo::RandomV6] {
            let mut object = Object::load(&MEASURED, undo, OPEN.per_source)?;
            object.configure()?;
            objects.push((undo, object));
        }
        let generous = policy(&full(""))?;
        Ok(Self { objects, cases, generous, pieces: if quick { PIECES / 4 } else { PIECES } })
    }

    /// Measures every case once.
    pub(crate) fn round(&mut self, figures: &mut Figures) -> Result<()> {
        for case in &self.cases {
            interrupt::check()?;
            let object = object(&mut self.objects, case.undo)?;
            object.apply(&case.policy)?;
            object.set_request(&[(&case.frame, case.sources)], case.undo)?;
            let before = case.reason.map(|reason| object.counted(reason as u8)).transpose()?;
            let pieces = if case.sources > 1 { self.pieces / 2 } else { self.pieces };
            let cost = cost(object, (case.program, case.action), &case.frame, pieces, None)
                .with_context(|| case.name.clone())?;
            if let (Some(reason), Some(before)) = (case.reason, before) {
                let now = object.counted(reason as u8)?;
                let (all, of_reason) = (now.0 - before.0, now.1 - before.1);
                // Bursts are what a limit gives before it refuses.
                ensure!(
                    all - of_reason < 1000,
                    "{}: {of_reason} of {all} frames ended as {}",
                    case.name,
                    reason.name()
                );
            }
            figures.add(&case.name, "ns", cost.above_empty());
        }
        self.two_cpus(figures)
    }

    /// The same pipeline on two CPUs at once, on the same maps, each with a source of its own and with random ones.
    fn two_cpus(&mut self, figures: &mut Figures) -> Result<()> {
        if cpus()? < 2 {
            return Ok(());
        }
        // Two CPUs are undisturbed at once more seldom than one.
        let pieces = PIECES;
        for (name, undo, sources) in [("one", Undo::Same, 1), ("random", Undo::RandomV4, ALL_SOURCES)] {
            let object = object(&mut self.objects, undo)?;
            object.apply(&self.generous)?;
            let frames = ["192.0.2.9", "203.0.113.9"].map(|from| request(from, "192.0.2.2", START));
            object.set_request(&[(&frames[0], sources), (&frames[1], sources)], undo)?;
            let object = &*object;
            let answers = ("full", XDP_TX);
            let alone = on(0, object, answers, &frames[0], pieces, None)?;
            if undo == Undo::Same {
                figures.add("program.empty", "ns", alone.empty);
            }
            let barrier = Barrier::new(2);
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(|| on(1, object, answers, &frames[1], pieces, Some(&barrier)));
                let this = on(0, object, answers, &frames[0], pieces, Some(&barrier));
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .and_then(|b| Ok((this?, b)))
            })?;
            // Above the loop's floor, which would hide what the CPUs do to each other.
            figures.add(&format!("scale.{name}.one_cpu"), "ns", alone.above_empty());
            let both = f64::midpoint(both.0.above_empty(), both.1.above_empty());
            figures.add(&format!("scale.{name}.two_cpus"), "ns", both);
        }
        Ok(())
    }
}

fn object(objects: &mut [(Undo, Object)], undo: Undo) -> Result<&mut Object> {
    objects
        .iter_mut()
        .find(|(of, _)| *of == undo)
        .map(|(_, object)| object)
        .context("an object for each undo")
}

/// Runs in a piece. What others do on this machine only ever adds to a cost, so the cheapest of some pieces is nearest to the program's own.
const PIECE: u32 = 40_000;
/// Pieces a round.
const PIECES: u32 = 24;

/// Nanoseconds of CPU per run.
struct Cost {
    program: f64,
    /// Of the empty program, measured in turn with it.
    empty: f64,
}

impl Cost {
    fn above_empty(&self) -> f64 {
        self.program - self.empty
    }
}

/// What a program costs on this CPU. Where it is measured together with others, all begin each piece at the same time, and go on to the
/// last one even if one of theirs has failed.
fn cost(
    object: &Object,
    (name, action): (&str, u32),
    frame: &[u8],
    pieces: u32,
    together: Option<&Barrier>,
) -> Result<Cost> {
    let (program, empty) = (object.program(name)?, object.program("empty")?);
    let begin = || together.map(Barrier::wait);
    let mut least =
        run(program, name, frame, PIECE).map(|_| Cost { program: f64::INFINITY, empty: f64::INFINITY });
    for _ in 0..pieces {
        begin();
        let answer = piece(program, name, frame, action);
        begin();
        let nothing = piece(empty, "empty", frame, XDP_PASS);
        least = least.and_then(|least| {
            Ok(Cost { program: least.program.min(answer?), empty: least.empty.min(nothing?) })
        });
    }
    least
}

/// The same on a CPU of the caller's choice.
fn on(
    cpu: usize,
    object: &Object,
    program: (&str, u32),
    frame: &[u8],
    pieces: u32,
    together: Option<&Barrier>,
) -> Result<Cost> {
    let pinned = pin(cpu);
    // Others may wait for this one, pinned or not.
    let cost = cost(object, program, frame, pieces, together);
    pinned.and(cost)
}

fn piece(program: &Xdp, name: &str, frame: &[u8], action: u32) -> Result<f64> {
    let before = thread_ns()?;
    let last = run(program, name, frame, PIECE)?;
    let ns = thread_ns()? - before;
    expect_action(name, last, action)?;
    Ok(ns / f64::from(PIECE))
}

/// Configuration of the whole pipeline, with `limits` as they are given or generous.
pub(crate) fn full(responder: &str) -> String {
    format!("[responder]\n{responder}\n[limits]\n{GENEROUS}")
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpVersion {
    V4,
    V6,
}

/// An echo request of this many bytes from the peer to the host.
pub(crate) fn echo(version: IpVersion, len: usize) -> Vec<u8> {
    match version {
        IpVersion::V4 => request("192.0.2.1", "192.0.2.2", len),
        IpVersion::V6 => request("2001:db8::1", "2001:db8::2", len),
    }
}

/// An echo request of this many bytes.
pub(crate) fn request(from: &str, to: &str, len: usize) -> Vec<u8> {
    let address = |text: &str| text.parse::<IpAddr>().unwrap_or_else(|e| panic!("{text}: {e}"));
    let headers = if address(from).is_ipv4() { 14 + 20 + 8 } else { 14 + 40 + 8 };
    Echo::new(address(from), address(to), vec![0x5a; len - headers]).frame()
}

/// The same frame as another protocol's.
fn with_protocol(mut frame: Vec<u8>, protocol: u8) -> Vec<u8> {
    if frame[12] == 0x08 {
        frame[14 + 9] = protocol;
        put16(&mut frame, 14 + 10, 0);
        let sum = icmp_tests::packet::checksum(&frame[14..34]);
        put16(&mut frame, 14 + 10, sum);
    } else {
        frame[14 + 6] = protocol;
    }
    frame
}

/// An ICMP message of another type, with this second word and these bytes behind it.
fn message(kind: u8, code: u8, second_word: u32, data: usize) -> Echo {
    let (from, to) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    Echo { kind: Some(kind), code, second_word, ..Echo::new(from, to, vec![0x5a; data]) }
}

/// Neighbour discovery from the link.
fn discovery(kind: u8, hop_limit: u8) -> Echo {
    let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
    let to = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
    Echo { kind: Some(kind), ttl: hop_limit, second_word: 0, ..Echo::new(from.into(), to.into(), vec![0; 8]) }
}

/// Distinct prefixes, spread evenly over where random sources are, so that a lookup goes as deep as it would in a long list; the first
/// has [`listed`] in it.
pub(crate) fn prefixes(version: IpVersion, count: usize) -> Vec<String> {
    // Multiplying by an odd number permutes the numbers of 23 bits; the golden ratio spreads them.
    let spread = (0..count as u32).map(|i| i.wrapping_mul(0x4f_1bbd) & 0x7f_ffff);
    spread
        .map(|number| match version {
            IpVersion::V4 => format!("{}/24", Ipv4Addr::from_bits((1 << 24) + (number << 8))),
            IpVersion::V6 => {
                format!("{}/55", Ipv6Addr::from_bits((0x2001_0db8 << 96) + (u128::from(number) << 73)))
            }
        })
        .collect()
}

/// A rule for this many sources, which is otherwise what happens anyway.
pub(crate) fn listing(version: IpVersion, count: usize) -> String {
    let from = prefixes(version, count).join("\", \"");
    format!(
        "[[policy.rule]]\nname = \"listed\"\nfrom = [\"{from}\"]\ntype = \"echo-request\"\naction = \"answer\"\n"
    )
}

/// A request from a source in the first of [`prefixes`].
pub(crate) fn listed(version: IpVersion) -> Vec<u8> {
    match version {
        IpVersion::V4 => request("1.0.0.9", "192.0.2.2", START),
        IpVersion::V6 => request("2001:db8::9", "2001:db8::2", START),
    }
}

/// Everything that is measured of programs by themselves.
pub(crate) fn cases() -> Result<Vec<Case>> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let generous = &policy(&full(""))?;
    let header = &policy(&full("verify = \"header\""))?;
    let mut cases = Vec::new();
    let mut case = |name: String, program, undo, frame, sources, policy: &Arc<Compiled>, action, reason| {
        cases.push(Case { name, program, undo, frame, sources, policy: Arc::clone(policy), action, reason });
    };

    // What is compared with what lies next to each other.
    for (version, random, label) in
        [(IpVersion::V4, Undo::RandomV4, "v4"), (IpVersion::V6, Undo::RandomV6, "v6")]
    {
        for program in ["bare", "conventional", "conventional_tuned"] {
            let name = format!("program.{program}.{label}.64");
            case(name, program, Undo::Same, echo(version, START), 1, generous, XDP_TX, None);
        }
        for len in [64, 128, 512, 1472] {
            for (verify, policy) in [("full", generous), ("header", header)] {
                let name = format!("program.{verify}.{label}.{len}");
                let reason = Some(Reason::Answered);
                case(name, "full", Undo::Same, echo(version, len), 1, policy, XDP_TX, reason);
            }
        }
        for (program, reason) in [
            ("bare", None),
            ("full", Some(Reason::Answered)),
            ("conventional", None),
            ("conventional_tuned", None),
        ] {
            let name = format!("program.{program}.random.{label}");
            case(name, program, random, echo(version, START), ALL_SOURCES, generous, XDP_TX, reason);
        }
        for (protocol, number) in [("tcp", TCP), ("udp", UDP)] {
            let name = format!("program.pass.{protocol}.{label}");
            let frame = with_protocol(echo(version, START), number);
            let reason = Some(Reason::NotIcmp);
            case(name, "full", Undo::Same, frame, 1, generous, XDP_PASS, reason);
        }
    }

    for (undo, sources, label) in [(Undo::Same, 1, "v4.64"), (Undo::RandomV4, ALL_SOURCES, "random.v4")] {
        let name = format!("program.limits.{label}");
        case(name, "limits", undo, echo(IpVersion::V4, START), sources, generous, XDP_TX, None);
    }

    // One level at a time refuses; the others are generous.
    let refusing = |level: &str| {
        let others = GENEROUS.lines().filter(|line| !line.starts_with(level)).collect::<Vec<_>>().join("\n");
        policy(&format!("[limits]\n{others}\n{level} = {{ rate = \"1/s\", burst = 1 }}\n"))
    };
    let rule = |action: &str| {
        let rule = format!("name = \"rule\"\ntype = \"timestamp-request\"\naction = {action}\n");
        policy(&format!("{}[[policy.rule]]\n{rule}", full("")))
    };
    let check = |check: &str| policy(&format!("{}[policy.checks]\n{check} = \"drop\"\n", full("")));
    let guarded =
        policy(&format!("{}[policy.checks]\nrouter-guard = \"drop\"\nrouters = [\"fe80::1\"]\n", full("")))?;
    // Behind these bytes of an error there is what RFC 792 asks it to quote.
    const QUOTE: usize = 28;
    const MTU: u32 = 67;
    for (reason, frame, policy) in [
        (Reason::PolicyDrop, message(4, 0, 0, 22).frame(), Arc::clone(generous)),
        (Reason::LimitedTotal, echo(IpVersion::V4, START), refusing("replies")?),
        (Reason::LimitedSource, echo(IpVersion::V4, START), refusing("per-source")?),
        (Reason::LimitedPrefix, echo(IpVersion::V4, START), refusing("per-prefix")?),
        (Reason::LimitedBudget, message(3, 1, 0, QUOTE).frame(), refusing("errors")?),
        (Reason::RuleDrop, message(13, 0, 0, 22).frame(), rule("\"drop\"")?),
        (Reason::LimitedRule, message(13, 0, 0, 22).frame(), rule("\"limit\"\nlimit = \"1/s\"\nburst = 1")?),
        (Reason::BadQuote, message(3, 1, 0, QUOTE).frame(), check("quote")?),
        (Reason::BadPathMtu, message(3, 4, MTU, QUOTE).frame(), check("path-mtu")?),
        (Reason::BadDiscovery, discovery(135, 64).frame(), check("neighbour-discovery")?),
        (Reason::RouterGuard, discovery(134, 255).frame(), guarded),
    ] {
        let name = format!("program.drop.{}", reason.name());
        case(name, "full", Undo::Same, frame, 1, &policy, XDP_DROP, Some(reason));
    }

    // What the answer costs without one of its limits, and without any.
    for without in
        [&["replies"][..], &["per-source"], &["per-prefix"], &["replies", "per-source", "per-prefix"]]
    {
        let limits = GENEROUS.lines().filter(|line| !without.iter().any(|level| line.starts_with(level)));
        let unlimited = without.iter().map(|level| format!("{level} = {{ rate = \"unlimited\" }}"));
        let limits = limits.map(ToOwned::to_owned).chain(unlimited).collect::<Vec<_>>().join("\n");
        let policy = policy(&format!("[responder]\nverify = \"header\"\n[limits]\n{limits}"))?;
        let name =
            format!("program.header.v4.without.{}", if without.len() > 1 { "limits" } else { without[0] });
        let reason = Some(Reason::Answered);
        case(name, "full", Undo::Same, echo(IpVersion::V4, START), 1, &policy, XDP_TX, reason);
    }

    // Without rules after there were many: nothing of them is left to be paid for.
    for (version, random, label) in
        [(IpVersion::V4, Undo::RandomV4, "v4"), (IpVersion::V6, Undo::RandomV6, "v6")]
    {
        let many = &policy(&format!("{}{}", full(""), listing(version, MANY)))?;
        let reason = Some(Reason::Answered);
        for (undo, sources, from) in [(random, ALL_SOURCES, "random."), (Undo::Same, 1, "")] {
            for (count, policy) in [(MANY, many), (0, generous)] {
                let name = format!("program.prefixes.{count}.{from}{label}");
                case(name, "full", undo, listed(version), sources, policy, XDP_TX, reason);
            }
        }
    }
    Ok(cases)
}
