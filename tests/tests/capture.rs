//! `icmp-ctl capture`: each frame with its decision, also frames that the kernel never sees.
//!
//! Owns which frames are captured and which are left out, and what stays when a capture ends. Other tests prove the reasons of frames.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached, UNLIMITED};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, PEER_IF, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process::{self, Finished, Watch, stay_on};
use icmp_tests::wire::Tap;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::unistd::ttyname;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Unlimited, but for one source that a rule drops and one that another rule limits to one packet.
const RULES: &str = "
[[policy.rule]]
name = \"blocked\"
from = [\"198.51.100.9\"]
type = \"echo-request\"
action = \"drop\"

[[policy.rule]]
name = \"slow\"
from = [\"198.51.100.8\"]
type = \"echo-request\"
action = \"limit\"
limit = \"1/h\"
burst = 1
";

/// What tshark shows of a frame.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    comment: String,
    /// 1 for one that came in, 2 for one that went out.
    direction: String,
    /// From whom it is.
    source: String,
    icmp_type: String,
    /// Of the whole frame.
    len: String,
    /// Of what was captured.
    captured: String,
    interface: String,
}

const FIELDS: [&str; 7] = [
    "frame.comment",
    "frame.packet_flags_direction",
    "ip.src",
    "icmp.type",
    "frame.len",
    "frame.cap_len",
    "frame.interface_name",
];

/// The options with which tshark prints [`FIELDS`], one frame a line.
fn fields() -> Vec<&'static str> {
    ["-T", "fields", "-E", "separator=|"]
        .into_iter()
        .chain(FIELDS.iter().flat_map(|field| ["-e", field]))
        .collect()
}

fn shown(line: &str) -> Shown {
    let parts: Vec<_> = line.split('|').map(str::to_owned).collect();
    let [comment, direction, source, icmp_type, len, captured, interface] =
        parts.try_into().unwrap_or_else(|parts| panic!("{parts:?}"));
    // 0x00000001, or 1: it goes by the version.
    let direction = direction.trim_start_matches("0x").trim_start_matches('0').to_owned();
    Shown { comment, direction, source, icmp_type, len, captured, interface }
}

fn in_tshark(file: &Path) -> Vec<Shown> {
    let text = process::run(Command::new("tshark").arg("-r").arg(file).args(fields())).expect_success();
    text.lines().map(shown).collect()
}

struct World {
    pair: Pair,
    folder: Folder,
}

impl World {
    fn new() -> Option<Self> {
        can_run(&["tshark"]).then(|| Self { pair: Pair::new(1500), folder: Folder::new() })
    }

    fn attach(&self) -> Attached<'_> {
        Attached::configured(&self.pair.host, HOST_IF, &format!("{UNLIMITED}{RULES}"))
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("captured.pcapng")
    }

    /// A capture that has begun.
    fn capture(&self, options: &str) -> Watch {
        let file = self.file();
        let words = format!("capture -w {} {options}", file.display());
        let mut capture = Watch::start(&mut ctl::command(&self.pair.host, &words));
        let _said = capture.wait_for("capturing", LIMIT);
        capture
    }

    /// Sends pings of these sources and of so many bytes of data, one after the other.
    fn send(&self, sources: &[u8], data: usize) {
        let tap = self.pair.peer.enter(|| Tap::open(PEER_IF));
        for source in sources {
            let ping =
                Echo::new([198, 51, 100, *source].into(), Ipv4Addr::new(192, 0, 2, 2).into(), vec![7; data]);
            tap.send(&ping.frame()).expect("sent");
        }
    }

    /// What a capture says at its end, which it comes to by itself.
    fn ended(&self, capture: &mut Watch) -> Value {
        let line = capture.wait_for("schema", LIMIT);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

#[test]
fn tshark_shows_each_frame_with_its_verdict_its_reason_and_its_rule() {
    let Some(world) = World::new() else { return };
    let attached = world.attach();
    let mut capture = world.capture("-c 4 -j");
    world.send(&[1, 9, 8, 8], 32);
    assert_eq!(world.ended(&mut capture)["captured"], 4);
    let frames = in_tshark(&world.file());
    let expected = [
        ("answer: answered. Answered.", "2", "192.0.2.2", "0"),
        ("drop: rule-drop (rule blocked). A rule drops it.", "1", "198.51.100.9", "8"),
        ("pass: rule-pass (rule slow). A rule passes it.", "1", "198.51.100.8", "8"),
        (
            "limit: limited-rule (rule slow). Over the limit of the rule that it matches.",
            "1",
            "198.51.100.8",
            "8",
        ),
    ];
    for (frame, (comment, direction, source, icmp_type)) in frames.iter().zip(expected) {
        let [comment, direction, source, icmp_type] =
            [comment, direction, source, icmp_type].map(str::to_owned);
        let (len, interface) = ("74".to_owned(), HOST_IF.to_owned());
        let expected = Shown { comment, direction, source, icmp_type, captured: len.clone(), len, interface };
        assert_eq!(*frame, expected);
    }
    assert_eq!(frames.len(), 4);
    // It is a capture for `replay` like any other: what was answered is what the host has sent.
    let config = world.folder.file("config.toml", &format!("{UNLIMITED}{RULES}"));
    let words = format!("replay {} -f {config} --own 192.0.2.2 -j", world.file().display());
    let replayed: Value =
        serde_json::from_str(&ctl::run(&world.pair.host, &words).expect_success()).expect("JSON");
    assert_eq!((replayed["sent"].as_u64(), replayed["received"].as_u64()), (Some(1), Some(3)), "{replayed}");
    drop(attached);
}

#[test]
fn a_capture_to_standard_output_is_read_by_tshark_as_it_comes() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    let script =
        format!("\"$0\" capture -w - -c 2 | tshark -l -i - {}", fields().join(" ").replace('|', "'|'"));
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let mut both = world.pair.host.watch("bash", &["-c", &script, program]);
    let _said = both.wait_for("capturing", LIMIT);
    for (source, said) in [(1, "answer: answered"), (9, "(rule blocked)")] {
        world.send(&[source], 32);
        // It is read before the next one is sent.
        let _line = both.wait_for(said, LIMIT);
    }
}

#[test]
fn a_capture_is_of_the_reasons_the_verdicts_and_the_rule_that_are_named() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    for (options, sources) in [
        ("--reason rule-drop", vec!["198.51.100.9"]),
        ("--verdict drop,limit", vec!["198.51.100.9", "198.51.100.8"]),
        ("--rule slow --reason limited-rule", vec!["198.51.100.8"]),
        ("--rule blocked", vec!["198.51.100.9"]),
        (HOST_IF, vec!["192.0.2.2", "198.51.100.9", "198.51.100.8", "192.0.2.2"]),
    ] {
        // The one packet that the rule has for it is gone.
        world.send(&[8], 32);
        let mut capture = world.capture(&format!("{options} -c {} -j", sources.len()));
        world.send(&[1, 9, 8, 1], 32);
        let said = world.ended(&mut capture);
        let seen: Vec<_> = in_tshark(&world.file()).into_iter().map(|frame| frame.source).collect();
        assert_eq!(seen, sources, "{options}: {said}");
        assert_eq!(said["asked"], sources.len(), "{options}: {said}");
    }
}

#[test]
fn a_flood_is_captured_at_the_rate_that_is_allowed_or_one_in_so_many_and_what_is_not_is_counted() {
    let Some(world) = World::new() else { return };
    let attached = world.attach();
    let mut capture = world.capture("--rate 10/s -j -c 10 --verdict answer");
    let before = attached.counters().answered();
    world.send(&[1; 400], 32);
    let said = world.ended(&mut capture);
    let count = |name: &str| said[name].as_u64().expect("a count");
    let answered = attached.counters().answered() - before;
    assert!(count("over_rate") > 0 && count("lost") == 0, "{said}");
    assert!(count("asked") <= answered && count("captured") == 10, "{said}, {answered} answered");

    let mut capture = world.capture("--every 40 --rate unlimited --time 60s -c 9 -j --verdict answer");
    // Each CPU counts for itself.
    stay_on(0);
    world.send(&[1; 9 * 40], 32);
    let said = world.ended(&mut capture);
    assert!((9 * 40 - 39..=9 * 40).contains(&said["asked"].as_u64().expect("a count")), "{said}");
}

#[test]
fn no_more_of_a_frame_is_captured_than_was_asked_for() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    let mut capture = world.capture("--snapshot-length 60 -c 1 -j");
    world.send(&[1], 1400);
    let _said = world.ended(&mut capture);
    let [frame] = &in_tshark(&world.file())[..] else { panic!("one frame") };
    assert_eq!((frame.len.as_str(), frame.captured.as_str()), ("1442", "60"));
}

#[test]
fn one_process_captures_at_a_time_and_nothing_is_left_of_one_that_was_killed() {
    let Some(world) = World::new() else { return };
    let attached = world.attach();
    let mut first = world.capture("");
    let second = || ctl::run(&world.pair.host, "capture -w /dev/null -c 1 --time 10ms");
    let before = std::fs::read(world.file()).expect("the first one's");
    let refused = ctl::run(&world.pair.host, &format!("capture -w {}", world.file().display()));
    assert_eq!(refused.code, Some(1), "{refused}");
    assert_eq!(std::fs::read(world.file()).expect("still the first one's"), before);
    assert!(refused.stderr.contains("captures already"), "{refused}");
    first.end_by(Signal::SIGKILL);
    let deadline = Instant::now() + LIMIT;
    while second().code != Some(0) {
        assert!(Instant::now() < deadline, "the one that was killed still captures");
    }
    // And one that was ended leaves the place at once, with what it has captured.
    let mut third = world.capture("");
    world.send(&[1], 32);
    third_has_one(&world);
    assert_eq!(third.end_by(Signal::SIGINT), Some(0));
    assert_eq!(in_tshark(&world.file()).len(), 1);
    assert_eq!(second().code, Some(0));
    drop(attached);
}

/// Waits until the frame is in the file.
fn third_has_one(world: &World) {
    let deadline = Instant::now() + LIMIT;
    while in_tshark(&world.file()).is_empty() {
        assert!(Instant::now() < deadline, "no frame is in the file");
    }
}

#[test]
fn a_reader_that_does_not_read_keeps_no_capture_from_its_end() {
    let Some(world) = World::new() else { return };
    let attached = world.attach();
    let fifo = world.folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let fifo = fifo.to_str().expect("a path in UTF-8");
    let program = ctl::program().to_str().expect("a path in UTF-8");
    // Open to be read all the time, by nobody who does.
    let script = "exec 3<>\"$1\"; exec \"$0\" capture -w - --rate unlimited >\"$1\"";
    let mut capture = world.pair.host.watch("bash", &["-c", script, program, fifo]);
    let _said = capture.wait_for("capturing", LIMIT);
    // A pipe takes 64 KiB.
    for _ in 0..4 {
        world.send(&[1; 25], 1400);
    }
    assert_eq!(attached.counters().answered(), 100);
    capture.signal(Signal::SIGTERM);
    let _said = capture.wait_for("frames captured", LIMIT);
    // And one that has gone before anything came.
    let script = "\"$0\" capture -w - --time 100ms | true; exit ${PIPESTATUS[0]}";
    let _said = world.pair.host.run("bash", &["-c", script, program]).expect_success();
}

#[test]
fn a_capture_has_all_of_its_rate_whatever_the_one_before_has_had() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    for rate in ["1k/s", "1/h", "1/h"] {
        let mut capture = world.capture(&format!("--rate {rate} -c 1 -j"));
        world.send(&[1], 32);
        assert_eq!(world.ended(&mut capture)["captured"], 1, "{rate}");
    }
}

#[test]
fn a_capture_of_a_rule_or_an_interface_ends_with_it_and_is_never_of_another() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    let mut capture = world.capture("--rule blocked");
    let _said = ctl::run(&world.pair.host, "rule del blocked").expect_success();
    let _said = capture.wait_for("there is no rule blocked", LIMIT);
    let host = &world.pair.host;
    host.ip("link add also0 type veth peer name also1");
    let _said = ctl::run(host, "attach also0").expect_success();
    let mut capture = world.capture(HOST_IF);
    let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
    let _said = capture.wait_for(HOST_IF, LIMIT);
}

#[test]
fn a_capture_ends_with_what_is_loaded_and_says_so() {
    let Some(world) = World::new() else { return };
    let attached = world.attach();
    let mut capture = world.capture("");
    drop(attached);
    let _said = capture.wait_for("has been removed or replaced", LIMIT);
}

#[test]
fn what_cannot_be_captured_is_said_before_anything_is_done() {
    let Some(world) = World::new() else { return };
    let host = &world.pair.host;
    let run = |options: &str| -> Finished {
        ctl::run(host, &format!("capture -w {} {options}", world.file().display()))
    };
    assert_eq!(run("").code, Some(3), "nothing is loaded");
    let _attached = world.attach();
    for (options, code, said) in [
        ("--rule slwo", 1, "there is no rule slwo; did you mean slow?"),
        ("--reason rule-dorp", 2, "did you mean rule-drop"),
        ("--every 0", 2, "it is 1 or more"),
        ("-c 0", 2, "it is 1 or more"),
        ("--rate 0", 2, "at a rate of 0 no frame is captured"),
        ("-s 0", 2, "1 to 2016 can"),
        ("-s 9000", 2, "1 to 2016 can"),
        ("nothere", 1, "nothere"),
    ] {
        let refused = run(options);
        assert!(refused.code == Some(code) && refused.stderr.contains(said), "{options}: {refused}");
        assert!(!world.file().exists(), "{options}");
    }
}

#[test]
fn a_capture_is_not_written_to_a_terminal() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    let terminal = openpty(None, None).expect("a terminal");
    let terminal_name = ttyname(&terminal.slave).expect("its name");
    let program = ctl::program().to_str().expect("UTF-8");
    let script = "exec \"$0\" capture -w - --time 10ms >\"$1\"";
    let arguments = ["-c", script, program, terminal_name.to_str().expect("UTF-8")];
    let refused = world.pair.host.run("bash", &arguments);
    assert!(refused.code == Some(2) && refused.stderr.contains("that is a terminal"), "{refused}");
    let refused = ctl::run(&world.pair.host, &format!("capture -w {} --time 10ms", terminal_name.display()));
    assert!(refused.code == Some(2) && refused.stderr.contains("that is a terminal"), "{refused}");
}

#[test]
fn an_answer_in_a_capture_is_known_to_have_gone_out() {
    let Some(world) = World::new() else { return };
    let _attached = world.attach();
    let mut capture = world.capture("-c 1 -j");
    world.send(&[1], 8);
    let _said = world.ended(&mut capture);
    let file = world.file();
    let file = file.to_str().expect("UTF-8");
    let config = world.folder.file("config.toml", "");
    let run = |arguments: &[&str]| process::run(Command::new(ctl::program()).args(arguments));
    let said = run(&["explain", "--pcap", file, "-f", &config, "--own", "192.0.2.2"]);
    assert!(said.code == Some(0) && said.stderr.contains("it was going out"), "{said}");
    // A capture of Ethernet frames alone does not say so, but the addresses do.
    let plain = world.folder.path().join("plain.pcap");
    let plain = plain.to_str().expect("UTF-8");
    let _done = process::run(Command::new("tcpdump").args(["-r", file, "-w", plain])).expect_success();
    let said = run(&["explain", "--pcap", plain, "-f", &config, "--own", "192.0.2.2"]);
    assert!(said.code == Some(0) && said.stderr.contains("it was going out"), "{said}");
    let said = ctl::run(&world.pair.host, &format!("explain --pcap {plain}"));
    assert!(said.code == Some(0) && said.stderr.contains("it was going out"), "{said}");
    // Whoever the host is.
    let replayed = run(&["replay", file, "-f", &config, "--own", "203.0.113.1", "-j"]).expect_success();
    let replayed: Value = serde_json::from_str(&replayed).expect("JSON");
    assert_eq!(replayed["sent"], 1, "{replayed}");
}
