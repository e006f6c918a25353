//! The cost of a program: nanoseconds of CPU per packet above an empty program in the same wrapper.
//!
//! Owns the list of cases. Each is checked while it is measured: the last run has to return the expected verdict, and the packet path and the
//! conventional responder have to have counted every frame under the expected reason. In cases with raised limits, no frame is refused.

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
    MEASURED, Object, START, Sources, Undo, XDP_DROP, XDP_PASS, XDP_TX, cpus, expect_action, policy, run,
};
use crate::wire::OPEN;

/// Limits that are all in force and refuse nothing: a bench sends in a microsecond what monitors send in a second. All else is as shipped.
pub(crate) const GENEROUS: &str = r#"
per-source = { rate = "50Mpps", burst = 10000000 }
per-prefix = { rate = "50Mpps", burst = 10000000 }
replies    = { rate = "50Mpps", burst = 10000000 }
"#;

/// The sources that are measured, by their names in figures.
pub(crate) const SOURCES: [(&str, Sources); 5] = [
    ("one", Sources::ONE),
    ("sources_1000", THOUSAND),
    ("sources_10000", Sources::adjacent(10_000)),
    ("sources_100000", Sources::adjacent(100_000)),
    ("random", Sources::RANDOM),
];
/// A server's monitors.
pub(crate) const THOUSAND: Sources = Sources::adjacent(1000);
/// From one source to the next where each is in a prefix of its own (a /24, as shipped).
const APART: u32 = 257;

/// Prefixes of a long list.
pub(crate) const MANY: usize = 50_000;

/// One measurement.
pub(crate) struct Case {
    pub name: String,
    pub program: &'static str,
    pub undo: Undo,
    pub frame: Vec<u8>,
    pub sources: Sources,
    pub policy: Arc<Compiled>,
    pub action: u32,
    pub reason: Option<Reason>,
    /// Somebody watches for events.
    pub is_watched: bool,
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
        // Two CPUs are sent IPv4.
        let is_needed = |undo| undo == Undo::PingV4 || cases.iter().any(|case| case.undo == undo);
        for undo in [Undo::Same, Undo::PingV4, Undo::PingV6].into_iter().filter(|undo| is_needed(*undo)) {
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
            object.watch(case.is_watched)?;
            object.set_request(&[&case.frame], case.sources, case.undo)?;
            let before = counted(object, case)?;
            let cost = cost(object, (case.program, case.action), &case.frame, self.pieces, None)
                .with_context(|| case.name.clone())?;
            check(case, before, counted(object, case)?, u64::from(PIECE) * u64::from(self.pieces + 1))?;
            figures.add(&case.name, "ns", cost.above_empty());
            figures.add("program.empty", "ns", cost.empty);
        }
        Ok(())
    }

    /// The same pipeline on two CPUs at once, on the same maps, each with sources of its own, as a network card spreads them.
    pub(crate) fn two_cpus(&mut self, figures: &mut Figures) -> Result<()> {
        if cpus()? < 2 {
            return Ok(());
        }
        // Two CPUs are undisturbed at once more seldom than one.
        let pieces = PIECES;
        // Random ones are all there are, for both.
        for (name, sources, other) in
            [("sources_1000", THOUSAND, "2.0.0.0"), ("random", Sources::RANDOM, "1.0.0.0")]
        {
            let frames = ["1.0.0.0", other].map(|from| request(from, "192.0.2.2", START));
            let case = Case {
                name: format!("scale.{name}"),
                program: "full",
                undo: Undo::PingV4,
                frame: frames[0].clone(),
                sources,
                policy: Arc::clone(&self.generous),
                action: XDP_TX,
                reason: Some(Reason::Answered),
                is_watched: false,
            };
            let object = object(&mut self.objects, case.undo)?;
            object.apply(&case.policy)?;
            object.set_request(&[&frames[0], &frames[1]], sources, case.undo)?;
            let object = &*object;
            let before = counted(object, &case)?;
            let answers = (case.program, case.action);
            let alone = on(0, object, answers, &frames[0], pieces, None)?;
            let barrier = Barrier::new(2);
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(|| on(1, object, answers, &frames[1], pieces, Some(&barrier)));
                let this = on(0, object, answers, &frames[0], pieces, Some(&barrier));
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .and_then(|b| Ok((this?, b)))
            })?;
            check(&case, before, counted(object, &case)?, 3 * u64::from(PIECE) * u64::from(pieces + 1))?;
            // Above the loop's floor, which would hide what the CPUs do to each other.
            figures.add(&format!("{}.one_cpu", case.name), "ns", alone.above_empty());
            let both = f64::midpoint(both.0.above_empty(), both.1.above_empty());
            figures.add(&format!("{}.two_cpus", case.name), "ns", both);
        }
        Ok(())
    }
}

/// Frames that have been counted, and those of them that became what is measured; none where nobody counts.
fn counted(object: &Object, case: &Case) -> Result<Option<(u64, u64)>> {
    match (case.reason, case.program) {
        (Some(reason), _) => object.counted(reason as u8).map(Some),
        (None, "conventional" | "conventional_tuned") => object.conventional().map(Some),
        (None, _) => Ok(None),
    }
}

/// Refuses a figure of something else.
fn check(case: &Case, before: Option<(u64, u64)>, after: Option<(u64, u64)>, runs: u64) -> Result<()> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
    let (all, meant) = (after.0 - before.0, after.1 - before.1);
    // A limit that is what drops gives its burst first.
    let other = if case.action == XDP_DROP { 1000 } else { 0 };
    ensure!(
        all == runs && all - meant <= other,
        "{}: of {runs} frames {all} were counted, {meant} of them as {}",
        case.name,
        case.reason.map_or("answered", Reason::name)
    );
    Ok(())
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

impl IpVersion {
    /// The object whose programs leave pings of this version.
    pub(crate) const fn pings(self) -> Undo {
        match self {
            Self::V4 => Undo::PingV4,
            Self::V6 => Undo::PingV6,
        }
    }
}

/// An echo request of this many bytes to the host, from the first of many sources, none of which is on the link.
pub(crate) fn echo(version: IpVersion, len: usize) -> Vec<u8> {
    match version {
        IpVersion::V4 => request("1.0.0.0", "192.0.2.2", len),
        IpVersion::V6 => request("2001:db8:100::1", "2001:db8::2", len),
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
        IpVersion::V4 => echo(version, START),
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
        let policy = Arc::clone(policy);
        cases.push(Case { name, program, undo, frame, sources, policy, action, reason, is_watched: false });
    };
    let answered = Some(Reason::Answered);

    // What is compared with what lies next to each other.
    let programs = [
        ("full", "full", generous, answered),
        ("header", "full", header, answered),
        ("conventional", "conventional", generous, None),
        ("conventional_tuned", "conventional_tuned", generous, None),
        ("bare", "bare", generous, None),
        // IPv4 only.
        ("limits", "limits", generous, None),
    ];
    for (version, family, programs) in
        [(IpVersion::V4, "v4", &programs[..]), (IpVersion::V6, "v6", &programs[..3])]
    {
        for (label, sources) in SOURCES {
            for (name, program, policy, reason) in programs {
                let name = format!("program.{name}.{label}.{family}");
                case(name, program, version.pings(), echo(version, START), sources, policy, XDP_TX, *reason);
            }
        }
        for len in [128, 512, 1472] {
            for (verify, policy) in [("full", generous), ("header", header)] {
                let name = format!("program.{verify}.bytes_{len}.{family}");
                case(name, "full", version.pings(), echo(version, len), THOUSAND, policy, XDP_TX, answered);
            }
        }
        for (protocol, number) in [("tcp", TCP), ("udp", UDP)] {
            let name = format!("program.pass.{protocol}.{family}");
            let frame = with_protocol(echo(version, START), number);
            let reason = Some(Reason::NotIcmp);
            case(name, "full", Undo::Same, frame, Sources::ONE, generous, XDP_PASS, reason);
        }
    }
    for count in [1000, 100_000] {
        let sources = Sources { count, distance: APART };
        for (program, reason) in [("full", answered), ("conventional", None)] {
            let name = format!("program.{program}.apart_{count}.v4");
            case(name, program, Undo::PingV4, echo(IpVersion::V4, START), sources, generous, XDP_TX, reason);
        }
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
    let ping = || echo(IpVersion::V4, START);
    for (reason, undo, frame, policy) in [
        (Reason::PolicyDrop, Undo::Same, message(4, 0, 0, 22).frame(), Arc::clone(generous)),
        (Reason::LimitedTotal, Undo::PingV4, ping(), refusing("replies")?),
        (Reason::LimitedSource, Undo::PingV4, ping(), refusing("per-source")?),
        (Reason::LimitedPrefix, Undo::PingV4, ping(), refusing("per-prefix")?),
        (Reason::LimitedBudget, Undo::Same, message(3, 1, 0, QUOTE).frame(), refusing("errors")?),
        (Reason::RuleDrop, Undo::Same, message(13, 0, 0, 22).frame(), rule("\"drop\"")?),
        (
            Reason::LimitedRule,
            Undo::Same,
            message(13, 0, 0, 22).frame(),
            rule("\"limit\"\nlimit = \"1/s\"\nburst = 1")?,
        ),
        (Reason::BadQuote, Undo::Same, message(3, 1, 0, QUOTE).frame(), check("quote")?),
        (Reason::BadPathMtu, Undo::Same, message(3, 4, MTU, QUOTE).frame(), check("path-mtu")?),
        (Reason::BadDiscovery, Undo::Same, discovery(135, 64).frame(), check("neighbour-discovery")?),
        (Reason::RouterGuard, Undo::Same, discovery(134, 255).frame(), guarded),
    ] {
        let name = format!("program.drop.{}", reason.name());
        case(name, "full", undo, frame, Sources::ONE, &policy, XDP_DROP, Some(reason));
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
            format!("program.header.without.{}.v4", if without.len() > 1 { "limits" } else { without[0] });
        case(name, "full", Undo::PingV4, ping(), THOUSAND, &policy, XDP_TX, answered);
    }

    // Who is answered is tracked, or is not.
    let tracking = &policy(&format!("{}[peers]\ntrack = 10000\n", full("")))?;
    for (version, family) in [(IpVersion::V4, "v4"), (IpVersion::V6, "v6")] {
        for (label, sources) in [("one", Sources::ONE), ("sources_1000", THOUSAND)] {
            for (tracked, policy) in [("on", tracking), ("off", generous)] {
                let name = format!("program.peers.{tracked}.{label}.{family}");
                case(name, "full", version.pings(), echo(version, START), sources, policy, XDP_TX, answered);
            }
        }
    }

    // Without rules after there were many: nothing of them is left to be paid for.
    for (version, family) in [(IpVersion::V4, "v4"), (IpVersion::V6, "v6")] {
        let many = &policy(&format!("{}{}", full(""), listing(version, MANY)))?;
        for (from, sources) in [("random", Sources::RANDOM), ("one", Sources::ONE)] {
            for (count, policy) in [(MANY, many), (0, generous)] {
                let name = format!("program.prefixes.{count}.{from}.{family}");
                case(name, "full", version.pings(), listed(version), sources, policy, XDP_TX, answered);
            }
        }
    }

    // Somebody watches for events, or nobody.
    for (ends, sources, policy, action, reason) in [
        ("answered", THOUSAND, Arc::clone(generous), XDP_TX, Reason::Answered),
        ("limited-source", Sources::ONE, refusing("per-source")?, XDP_DROP, Reason::LimitedSource),
    ] {
        for (watched, is_watched) in [("on", true), ("off", false)] {
            let name = format!("program.watched.{watched}.{ends}.v4");
            let (undo, reason, policy) = (Undo::PingV4, Some(reason), Arc::clone(&policy));
            cases.push(Case {
                name,
                program: "full",
                undo,
                frame: ping(),
                sources,
                policy,
                action,
                reason,
                is_watched,
            });
        }
    }
    Ok(cases)
}
