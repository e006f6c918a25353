//! `icmp-ctl replay`: its result for a capture is that of the program for the same packets.
//!
//! Owns the kinds of capture that are read, and the messages about damaged ones. Other tests prove the reasons of frames.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use icmp_ctl::kernel::clock::Tick;
use icmp_tests::can_run;
use icmp_tests::capture::{BEGAN, ENHANCED, HEADER, OBSOLETE, Order, SIMPLE};
use icmp_tests::ctl::{self, Attached, UNLIMITED};
use icmp_tests::folder::Folder;
use icmp_tests::generate::{self, Random};
use icmp_tests::netns::{HOST_IF, HOST_IPV4, HOST_IPV6, HOST_MAC, PEER_IF, PEER_MAC, Pair};
use icmp_tests::packet::{ETHERTYPE_EXPERIMENT, Echo, Layers};
use icmp_tests::process::{self, Finished};
use icmp_tests::wire::Tap;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::unistd::ttyname;
use serde_json::{Value, json};

const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn replay(file: &Path, arguments: &[&str]) -> Finished {
    process::run(Command::new(ctl::program()).arg("replay").arg(file).args(arguments))
}

fn replayed(file: &Path, arguments: &[&str]) -> Value {
    let text = replay(file, &[arguments, &["-j"]].concat()).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn own() -> String {
    [&HOST_IPV4[..], &HOST_IPV6].concat().join(",")
}

fn ping(from: [u8; 4], data: usize) -> Vec<u8> {
    Echo::new(from.into(), HOST4.into(), vec![7; data]).frame()
}

/// Twelve pings of four sources, a tenth of a second from each other.
fn pings() -> Vec<(u64, Vec<u8>)> {
    (0..12_u8).map(|i| (u64::from(i) * 100_000_000, ping([198, 51, 100, i % 4], 32))).collect()
}

#[test]
fn a_capture_that_is_a_folder_ends_as_one_that_is_not_there() {
    let folder = Folder::new();
    let config = folder.file("config.toml", UNLIMITED);
    for capture in [folder.path().to_owned(), folder.path().join("nothere")] {
        let done = replay(&capture, &["-f", &config]);
        assert_eq!(done.code, Some(1), "{done}");
    }
}

#[test]
fn what_a_replay_says_of_packets_is_what_the_program_does_with_them() {
    if !can_run(&["tcpdump"]) {
        return;
    }
    let mut random = Random::new(generate::seed());
    let folder = Folder::new();
    let pair = Pair::new(1500);
    let config = folder.file("config.toml", UNLIMITED);
    let attached = Attached::with(&pair.host, HOST_IF, &format!("--mode native -f {config}"));
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    let (file, before) = recorded(&pair, &folder, &attached, || {
        for i in 0..3000 {
            if i % 50 == 0 {
                // Slow enough for tcpdump to record all of it.
                std::thread::sleep(Duration::from_millis(2));
            }
            let frame = generate::frame(&mut random);
            // A replay leaves out what the host sends itself, and takes it to be on each VLAN on which it is pinged.
            let layers = Layers::of(&frame);
            let is_alike = |layers: Layers<'_>| {
                layers.source != HOST_MAC && layers.tags.iter().all(|tag| tag.tci & 0xfff == 0)
            };
            if frame.len() <= 1514 && layers.is_some_and(is_alike) {
                tap.send(&frame).expect("sent");
            }
        }
    });
    let now = attached.counters();
    let document = replayed(&file, &["-f", &config, "--own", &own()]);
    for (reason, there) in &now.reasons {
        let real = there.packets - before.packets(reason);
        let said = document["reasons"][reason]["packets"].as_u64().expect("a number");
        assert_eq!(said, real, "{reason}: replayed {said}, real {real}: {document}");
    }
    assert!(now.answered() > before.answered() + 100, "{now:?}");
}

/// One limit each, of which the sources ask for so much more than they get that it has nothing left at the end.
#[test]
fn a_replay_limits_as_many_as_the_program_within_one_ticks_worth() {
    const SOURCES: u8 = 5;
    if !can_run(&["tcpdump"]) {
        return;
    }
    let folder = Folder::new();
    let pair = Pair::new(1500);
    let tick = 1.0 / Tick::of_this_kernel().expect("a tick").per_second;
    for (limit, rate, reason, buckets) in [
        ("per-source", 200, "limited-source", SOURCES),
        ("per-prefix", 700, "limited-prefix", 1),
        ("replies", 700, "limited-total", 1),
    ] {
        let of = |name: &str| {
            let limit = if name == limit {
                format!("\"{rate}/s\", burst = {}", rate / 2)
            } else {
                "\"unlimited\"".to_owned()
            };
            format!("{name} = {{ rate = {limit} }}\n")
        };
        let limits = ["per-source", "per-prefix", "replies"].map(of).concat();
        let config = folder.file("config.toml", &format!("[limits]\n{limits}"));
        let differ = (1..=TRIES).find_map(|_| {
            let (real, said) = limited(&pair, &folder, &config, (SOURCES, tick), reason)?;
            assert!(real > 100, "{limit}: {real}");
            Some((said, real))
        });
        let (said, real) =
            differ.unwrap_or_else(|| panic!("the kernel's ticks never kept up in {TRIES} tries"));
        // A bucket ends with less than a packet in it.
        let worth = u64::from(buckets) * (f64::from(rate) * tick).ceil() as u64;
        assert!(
            said.abs_diff(real) <= worth,
            "{limit}: replayed {said}, real {real}, a tick is worth {worth}"
        );
    }
}

/// A machine that others use takes its ticks late now and then, and what it limits then says nothing about the replay.
const TRIES: usize = 20;

/// How many frames the program and then the replay count under a reason; `None` where the ticks that the kernel counted meanwhile are not those of
/// the time that has passed by the capture.
fn limited(
    pair: &Pair,
    folder: &Folder,
    config: &str,
    (sources, tick): (u8, f64),
    reason: &str,
) -> Option<(u64, u64)> {
    let attached = Attached::with(&pair.host, HOST_IF, &format!("--mode native -f {config}"));
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    let host = pair.host.enter(|| Tap::open_for_incoming(HOST_IF));
    let round = || {
        for source in 1..=sources {
            tap.send(&ping([198, 51, 100, source], 32)).expect("sent");
        }
    };
    // What is passed comes behind all that was sent before.
    let settled = || {
        let marker = [&HOST_MAC[..], &PEER_MAC, &ETHERTYPE_EXPERIMENT.to_be_bytes(), &[0; 50]].concat();
        tap.send(&marker).expect("sent");
        let seen = host.find(Instant::now() + process::LIMIT, |seen| seen.frame == marker);
        assert!(seen.is_some(), "the host has not received what is passed");
    };
    let mut ticks = [0; 4];
    let (file, before) = recorded(pair, folder, &attached, || {
        ticks[0] = jiffies();
        round();
        settled();
        ticks[1] = jiffies();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(600) {
            // Slow enough for tcpdump to record all of it.
            std::thread::sleep(Duration::from_millis(2));
            (0..3).for_each(|_| round());
        }
        // So many that nothing is left.
        (0..20).for_each(|_| round());
        settled();
        ticks[2] = jiffies();
        round();
        settled();
        ticks[3] = jiffies();
    });
    let real = attached.counters().packets(reason) - before.packets(reason);
    let said = replayed(&file, &["-f", config, "--own", &own()]);
    let replayed = (said["seconds"].as_f64().expect("a number") / tick) as u64;
    let [start, first, last, end] = ticks;
    if last - first + 1 < replayed || end - start > replayed + 1 {
        eprintln!("{reason}: {ticks:?}, and {replayed} by the capture; again");
        return None;
    }
    Some((real, said["reasons"][reason]["packets"].as_u64().expect("a number")))
}

/// The kernel's tick counter as it lists it with the timers of its first CPU (kernel/time/timer_list.c).
fn jiffies() -> u64 {
    let list = fs::read_to_string("/proc/timer_list").expect("root may read it");
    let ticks = list.lines().find_map(|line| line.strip_prefix("jiffies: ")?.trim().parse().ok());
    ticks.expect("the kernel lists its ticks")
}

/// What tcpdump records of what the peer sends meanwhile, and the counters before.
fn recorded(
    pair: &Pair,
    folder: &Folder,
    attached: &Attached<'_>,
    send: impl FnOnce(),
) -> (std::path::PathBuf, ctl::Counters) {
    let file = folder.path().join("sent.pcap");
    let path = file.to_str().expect("a path in UTF-8");
    let arguments = ["-n", "-i", PEER_IF, "-Q", "out", "-U", "-s", "2048", "-B", "32768", "-w", path];
    let mut tcpdump = pair.peer.watch("tcpdump", &arguments);
    let _line = tcpdump.wait_for("listening on", Duration::from_secs(20));
    let before = attached.counters();
    send();
    // Nothing comes in any more, and tcpdump takes a while to write it.
    let received = attached.counters().received - before.received;
    let deadline = Instant::now() + Duration::from_secs(20);
    while records(&file) < received {
        assert!(Instant::now() < deadline, "{} of {received} frames are recorded", records(&file));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(tcpdump.end_by(Signal::SIGINT), Some(0));
    (file, before)
}

/// Records of a pcap file.
fn records(file: &Path) -> u64 {
    let text = fs::read(file).expect("the capture");
    let (mut at, mut records) = (HEADER, 0);
    while let Some(length) = text.get(at + 8..at + 12) {
        at += 16 + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        records += u64::from(at <= text.len());
    }
    records
}

#[test]
fn captures_in_every_format_and_byte_order_compressed_or_not_are_read_alike() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let frames = pings();
    let mut files = Vec::new();
    for big in [false, true] {
        let order = Order { big };
        files.push((format!("pcap-{big}"), order.pcap(false, 1, &frames)));
        files.push((format!("pcap-ns-{big}"), order.pcap(true, 1, &frames)));
        files.push((format!("pcapng-{big}"), order.pcapng(6, &frames)));
        files.push((format!("pcapng-ns-{big}"), order.pcapng(9, &frames)));
    }
    let expected =
        json!({ "frames": 12, "began": u64::from(BEGAN) * 1_000_000_000, "seconds": 1.1, "answered": 12 });
    let check = |name: &str, file: &Path| {
        let said = replayed(file, &["-f", &config]);
        let short = json!({
            "frames": said["received"], "began": said["began_ns"], "seconds": said["seconds"],
            "answered": said["reasons"]["answered"]["packets"],
        });
        assert_eq!(short, expected, "{name}: {said}");
        assert_eq!(said["own"]["addresses"], json!(["192.0.2.2"]), "{name}");
    };
    for (name, bytes) in files {
        let file = folder.path().join(&name);
        fs::write(&file, bytes).expect("written");
        check(&name, &file);
        for (program, ending) in [("gzip", "gz"), ("zstd", "zst")] {
            if !process::is_installed(program) {
                continue;
            }
            let packed = process::run(Command::new(program).arg("-kf").arg(&file));
            let _nothing = packed.expect_success();
            let packed = folder.path().join(format!("{name}.{ending}"));
            check(&format!("{name} with {program}"), &packed);
            // Both allow one stream behind the other.
            let whole = fs::read(&packed).expect("read");
            fs::write(&packed, [&whole[..], &whole].concat()).expect("written");
            let refused = replay(&packed, &["-f", &config, "-j"]);
            assert!(
                refused.code == Some(1) || name.starts_with("pcapng"),
                "a header in the middle of {name}"
            );
        }
    }
}

#[test]
fn packets_in_older_and_in_simple_blocks_are_read_and_those_without_a_time_are_told() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let file = folder.path().join("capture");
    let frames: Vec<_> = pings().into_iter().map(|(time, frame)| (0, time, frame)).collect();
    let simple_at = |first: bool| move |i: usize| if (i == 0) == first { SIMPLE } else { ENHANCED };
    for big in [false, true] {
        for (name, bytes, untimed, seconds) in [
            ("obsolete", Order { big }.pcapng_in(|_| OBSOLETE, 6, &[1], &frames), 0, 1.1),
            ("simple", Order { big }.pcapng_in(|_| SIMPLE, 6, &[1], &frames), 12, 0.0),
            ("one simple first", Order { big }.pcapng_in(simple_at(true), 6, &[1], &frames), 1, 1.0),
            ("one enhanced first", Order { big }.pcapng_in(simple_at(false), 6, &[1], &frames), 11, 0.0),
        ] {
            fs::write(&file, bytes).expect("written");
            let said = replayed(&file, &["-f", &config]);
            assert_eq!(
                (&said["received"], &said["reasons"]["answered"]["packets"]),
                (&json!(12), &json!(12)),
                "{name}"
            );
            assert_eq!(
                (&said["without_time"], &said["seconds"]),
                (&json!(untimed), &json!(seconds)),
                "{name}"
            );
            let done = replay(&file, &["-f", &config]);
            assert_eq!(done.stdout.contains(" no time in the capture"), untimed > 0, "{done}");
        }
    }
}

#[test]
fn a_capture_of_which_no_record_can_be_read_is_a_failure() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 147, &pings())).expect("written");
    let suggested = process::run(Command::new(ctl::program()).arg("suggest").arg(&file));
    for done in [replay(&file, &["-f", &config]), suggested] {
        assert_eq!(done.code, Some(1), "{done}");
        assert!(done.stderr.contains("none of the 12 records of the capture can be read"), "{done}");
    }
}

#[test]
fn captures_by_tcpdump_tshark_and_editcap_are_read() {
    if !can_run(&["tcpdump", "tshark", "editcap"]) {
        return;
    }
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let source = folder.path().join("source");
    fs::write(&source, Order { big: false }.pcap(true, 1, &pings())).expect("written");
    let file = folder.path().join("other");
    let (from, to) = (source.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
    for line in [
        format!("tcpdump -r {from} -w {to}"),
        format!("tshark -r {from} -w {to} -F pcapng"),
        format!("tshark -r {from} -w {to} -F pcap"),
        format!("editcap -F nsecpcap {from} {to}"),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let _said = process::run(Command::new(words[0]).args(&words[1..])).expect_success();
        let said = replayed(&file, &["-f", &config]);
        assert_eq!(said["reasons"]["answered"]["packets"], 12, "{line}: {said}");
    }
}

#[test]
fn links_without_an_ethernet_header_are_read() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let of = |header: &[u8]| -> Vec<_> {
        pings().into_iter().map(|(time, frame)| (time, [header, &frame[14..]].concat())).collect()
    };
    let sll = [0, 0, 0, 1, 0, 6, 2, 9, 9, 9, 9, 9, 0, 0, 8, 0];
    let sll2 = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 9, 9, 9, 9, 9, 0, 0];
    for (link_type, header) in [(101, &[][..]), (228, &[]), (113, &sll), (276, &sll2)] {
        let file = folder.path().join("capture");
        fs::write(&file, Order { big: false }.pcap(false, link_type, &of(header))).expect("written");
        let said = replayed(&file, &["-f", &config]);
        assert_eq!(said["reasons"]["answered"]["packets"], 12, "{link_type}: {said}");
        assert_eq!(said["own"]["addresses"], json!(["192.0.2.2"]), "{link_type}");
    }
}

#[test]
fn of_a_cut_or_damaged_capture_the_frames_before_that_are_told_and_then_the_offset() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let frames = pings();
    let record = 16 + frames[0].1.len();
    let whole = Order { big: false }.pcap(false, 1, &frames);
    let at = HEADER + 5 * record;
    let mut damaged = whole.clone();
    damaged[at + 8..at + 12].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    for (name, bytes) in [("cut", whole[..at + 20].to_vec()), ("damaged", damaged)] {
        let file = folder.path().join(name);
        fs::write(&file, bytes).expect("written");
        let done = replay(&file, &["-f", &config, "-j"]);
        assert_eq!(done.code, Some(1), "{done:?}");
        let said: Value = serde_json::from_str(&done.stdout).expect("what came before is told");
        assert_eq!(said["received"], 5, "{name}: {said}");
        assert!(done.stderr.contains(&format!("byte {at}")), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("5 frames"), "{name}: {}", done.stderr);
    }
    // Wherever it ends: no panic, and all frames that are whole.
    for bytes in [whole, Order { big: true }.pcapng(6, &frames)] {
        for cut in (0..bytes.len()).step_by(37) {
            let file = folder.path().join("cut");
            fs::write(&file, &bytes[..cut]).expect("written");
            let done = replay(&file, &["-f", &config]);
            assert!(matches!(done.code, Some(0 | 1)), "{cut}: {done:?}");
            assert!(!done.stderr.contains("panicked"), "{cut}: {done:?}");
        }
    }
}

#[test]
fn a_second_configuration_is_compared_frame_by_frame() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let other = folder.file("other.toml", "[limits]\nper-source = { rate = \"1/min\", burst = 1 }\n");
    let file = folder.path().join("capture");
    let frames: Vec<_> = (0..30).map(|i| (i * 1000, ping([198, 51, 100, 1], 8))).collect();
    fs::write(&file, Order { big: false }.pcap(true, 1, &frames)).expect("written");
    let said = replayed(&file, &["-f", &config, "--against", &other]);
    let against = &said["against"];
    assert_eq!(against["totals"], json!([{ "reasons": ["answered", "limited-source"], "packets": 29 }]));
    assert_eq!(against["first"].as_array().expect("a list").len(), 20);
    let first = json!({ "frame": 2, "seconds": 1e-6, "packet": "198.51.100.1 to 192.0.2.2, ipv4 type 8/0", "reasons": ["answered", "limited-source"] });
    assert_eq!(against["first"][0], first);
    let text = replay(&file, &["-f", &other]).expect_success();
    assert!(text.contains("LIMITED MOST  PACKETS\n198.51.100.1       29"), "{text}");
}

#[test]
fn answers_are_written_as_a_capture_that_others_read() {
    if !can_run(&["tshark"]) {
        return;
    }
    let folder = Folder::new();
    let config = folder.file("config.toml", "[responder]\nttl = 77\n");
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(true, 1, &pings())).expect("written");
    let answers = folder.path().join("answers.pcapng");
    let path = answers.to_str().expect("UTF-8");
    let _said = replayed(&file, &["-f", &config, "--write-answers", path]);
    let fields = [
        "-T",
        "fields",
        "-e",
        "frame.time_epoch",
        "-e",
        "ip.dst",
        "-e",
        "ip.ttl",
        "-e",
        "icmp.type",
        "-e",
        "icmp.checksum.status",
    ];
    let shown = process::run(Command::new("tshark").args(["-r", path]).args(fields)).expect_success();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 12, "{shown}");
    let cells: Vec<_> = lines[5].split('\t').collect();
    assert!(cells[0].ends_with(".500000000"), "{shown}");
    assert_eq!(cells[1..], ["198.51.100.1", "77", "0", "1"], "{shown}");
}

/// Nor are two of them written to one file.
#[test]
fn what_a_replay_reads_is_never_written_to() {
    let folder = Folder::new();
    let rule =
        "[[policy.rule]]\nname = \"a\"\nfrom = [\"file:list\"]\ntype = \"echo-request\"\naction = \"drop\"\n";
    let _list = folder.file("list", "198.51.100.0/24\n");
    let _configs = [folder.file("c.toml", rule), folder.file("against.toml", "")];
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (file, link) = (folder.path().join("capture"), folder.path().join("link"));
    fs::write(&file, Order { big: false }.pcap(true, 1, &pings())).expect("written");
    std::os::unix::fs::symlink("capture", &link).expect("a link");
    let all = || ["capture", "c.toml", "against.toml", "list"].map(|name| fs::read(at(name)).expect("there"));
    let before = all();
    let (first, second) = (at("c.toml"), at("against.toml"));
    for option in ["--plot", "--write-answers"] {
        for own in ["capture", "link", "c.toml", "against.toml", "list"] {
            let refused = replay(&file, &["-f", &first, "--against", &second, option, &at(own)]);
            assert_eq!(refused.code, Some(2), "{option} {own}: {refused}");
            assert!(refused.stderr.contains("would be overwritten"), "{option} {own}: {refused}");
        }
    }
    let refused = replay(&file, &["-f", &first, "--plot", &at("new"), "--write-answers", &at("new")]);
    assert!(refused.code == Some(2) && refused.stderr.contains("also --write-answers"), "{refused}");
    assert!(!folder.path().join("new").exists());
    assert_eq!(all(), before);
    let refused = replay(&file, &["-f", "-", "--against", "-"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("can be read once"), "{refused}");
}

#[test]
fn what_the_host_sent_itself_is_left_out_and_addresses_can_be_said() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let mut frames = pings();
    let reply = {
        let mut echo = Echo::new(HOST4.into(), IpAddr::from([198, 51, 100, 1]), vec![7; 32]);
        std::mem::swap(&mut echo.to_mac, &mut echo.from_mac);
        echo.kind = Some(0);
        echo.frame()
    };
    frames.push((2_000_000_000, reply));
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &frames)).expect("written");
    let said = replayed(&file, &["-f", &config, "--own", "192.0.2.0/24"]);
    assert_eq!((&said["received"], &said["sent"]), (&json!(13), &json!(0)), "no frame is for 192.0.2.0");
    let said = replayed(&file, &["-f", &config, "--own", "192.0.2.2/24"]);
    assert_eq!((&said["received"], &said["sent"]), (&json!(12), &json!(1)));
    assert_eq!(said["own"]["guessed"], json!(false));
}

#[test]
fn vips_with_a_check_are_taken_for_healthy_and_that_is_said() {
    let folder = Folder::new();
    let vip = "[[responder.vip]]\nprefix = \"192.0.2.2\"\ncheck = \"file:/nowhere\"\n";
    let [config, none] = [folder.file("config.toml", vip), folder.file("none.toml", "")];
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &pings())).expect("written");
    for (arguments, said) in [
        (vec!["-f", &config], true),
        (vec!["-f", &none, "--against", &config], true),
        (vec!["-f", &none], false),
    ] {
        let done = replay(&file, &[&arguments[..], &["-j"]].concat());
        assert_eq!(done.stderr.contains("taken for healthy"), said, "{arguments:?}: {}", done.stderr);
        let document: Value = serde_json::from_str(&done.expect_success()).expect("JSON");
        assert_eq!(document["reasons"]["answered"]["packets"], 12, "{document}");
    }
}

#[test]
fn verdicts_over_time_are_drawn() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "[limits]\nper-source = { rate = \"1/min\", burst = 1 }\n");
    let file = folder.path().join("capture");
    let frames: Vec<_> = (0..50).map(|i| (i * 200_000_000, ping([198, 51, 100, 1], 8))).collect();
    fs::write(&file, Order { big: false }.pcap(true, 1, &frames)).expect("written");
    let svg = folder.path().join("plot.svg");
    let _said = replayed(&file, &["-f", &config, "--plot", svg.to_str().expect("UTF-8")]);
    let text = fs::read_to_string(&svg).expect("drawn");
    assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
    // The number of each beside its name.
    for word in ["answer", "pass", "drop", "limit", "49", "packets/s", "seconds since the capture began"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn what_can_be_read_once_is_no_capture_to_replay_and_standard_output_no_file_for_answers() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(true, 1, &pings())).expect("written");
    let own = ["-f", &config, "--own", "192.0.2.2"];
    for once in ["-", "/dev/stdin"] {
        let refused = replay(Path::new(once), &own);
        assert!(refused.code == Some(2) && refused.stderr.contains("is read twice"), "{refused}");
        let refused = process::run(Command::new(ctl::program()).args(["suggest", once]));
        assert!(refused.code == Some(2) && refused.stderr.contains("is read twice"), "{refused}");
    }
    for option in ["--plot", "--write-answers"] {
        let refused = replay(&file, &[&own[..], &[option, "-"]].concat());
        assert!(refused.code == Some(2) && refused.stderr.contains("name a file"), "{refused}");
    }
    let terminal = openpty(None, None).expect("a terminal");
    let terminal = ttyname(&terminal.slave).expect("its name");
    let refused =
        replay(&file, &[&own[..], &["--write-answers", terminal.to_str().expect("UTF-8")]].concat());
    assert!(refused.code == Some(2) && refused.stderr.contains("that is a terminal"), "{refused}");
}
