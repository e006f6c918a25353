//! Reading captures: of several interfaces, and compressed ones that are cut off. `replay.rs` has the messages about them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use icmp_tests::can_run;
use icmp_tests::capture::{HEADER, Order};
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::packet::Echo;
use icmp_tests::process::{self, Finished};
use serde_json::{Value, json};

const FIRST: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 0x11], Ipv4Addr::new(192, 0, 2, 2));
const SECOND: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 1, 0x11], Ipv4Addr::new(198, 51, 100, 2));

fn replay(file: &Path, arguments: &[&str]) -> Finished {
    process::run(Command::new(ctl::program()).arg("replay").arg(file).args(arguments))
}

fn ping((mac, address): ([u8; 6], Ipv4Addr), number: u8) -> Echo {
    let from = Ipv4Addr::new(203, 0, 113, number);
    Echo { to_mac: mac, ..Echo::new(from.into(), address.into(), vec![7; 32]) }
}

#[test]
fn a_host_has_a_mac_address_on_each_interface_of_a_capture() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let mut frames = Vec::new();
    for i in 0..12_u8 {
        let (interface, host) = if i % 3 == 0 { (1, SECOND) } else { (0, FIRST) };
        let time = u64::from(i) * 100_000_000;
        let request = ping(host, i);
        let mut reply = Echo::new(request.to, request.from, request.data.clone());
        (reply.to_mac, reply.from_mac, reply.kind) = (request.from_mac, request.to_mac, Some(0));
        frames.extend([(interface, time, request.frame()), (interface, time + 1, reply.frame())]);
    }
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcapng_of(9, &[1, 1], &frames)).expect("written");
    for own in [&[][..], &["--own", "192.0.2.2,198.51.100.2"]] {
        let said = replay(&file, &[&["-f", &config, "-j"], own].concat());
        let said: Value = serde_json::from_str(&said.expect_success()).expect("JSON");
        assert_eq!((&said["received"], &said["sent"]), (&json!(12), &json!(12)), "{own:?}: {said}");
        assert_eq!(said["reasons"]["answered"]["packets"], 12, "{own:?}: {said}");
        let links = json!([
            { "mac": "02:00:00:00:00:11", "addresses": ["192.0.2.2"] },
            { "mac": "02:00:00:00:01:11", "addresses": ["198.51.100.2"] },
        ]);
        assert_eq!(said["own"]["interfaces"], links, "{own:?}: {said}");
    }
}

#[test]
fn frames_of_links_without_mac_addresses_are_for_the_host_beside_others() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let frames: Vec<_> = (0..12_u8)
        .map(|i| {
            let frame = ping(FIRST, i).frame();
            let time = u64::from(i) * 100_000_000;
            if i % 2 == 0 { (0, time, frame) } else { (1, time, frame[14..].to_vec()) }
        })
        .collect();
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: true }.pcapng_of(6, &[1, 101], &frames)).expect("written");
    let said = replay(&file, &["-f", &config, "-j"]);
    let said: Value = serde_json::from_str(&said.expect_success()).expect("JSON");
    assert_eq!(said["reasons"]["answered"]["packets"], 12, "{said}");
}

#[test]
fn of_a_compressed_capture_that_is_cut_off_the_frames_before_that_are_told_and_then_the_offset() {
    if !can_run(&["zstd", "gzip"]) {
        return;
    }
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let frames: Vec<_> =
        (0..30_000_u64).map(|i| (i * 1_000_000, ping(FIRST, (i % 251) as u8).frame())).collect();
    let record = 16 + frames[0].1.len();
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &frames)).expect("written");
    for (program, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let _packed = process::run(Command::new(program).arg("-kf").arg(&file)).expect_success();
        let packed = folder.path().join(format!("capture.{ending}"));
        let whole = fs::read(&packed).expect("read");
        fs::write(&packed, &whole[..whole.len() * 2 / 3]).expect("written");
        let done = replay(&packed, &["-f", &config, "-j"]);
        assert_eq!(done.code, Some(1), "{program}: {done}");
        let said: Value = serde_json::from_str(&done.stdout).expect("what came before is told");
        let received = said["received"].as_u64().expect("a number");
        assert!(received > 10_000, "{program}: {received} frames");
        let at = HEADER as u64 + received * record as u64;
        for words in [format!("byte {at}"), format!("{received} frames"), "cut off".to_owned()] {
            let is_said = done.stderr.contains(&words) || program == "gzip" && words == "cut off";
            assert!(is_said, "{program}: {words}: {}", done.stderr);
        }
    }
}

#[test]
fn outputs_that_cannot_be_written_keep_nothing_of_a_replay_back() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let frames: Vec<_> =
        (0..3000_u64).map(|i| (i * 1_000_000, ping(FIRST, (i % 251) as u8).frame())).collect();
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &frames)).expect("written");
    for option in ["--plot", "--write-answers"] {
        let done = replay(&file, &["-f", &config, option, "/dev/full"]);
        assert_eq!(done.code, Some(1), "{option}: {done}");
        assert!(done.stdout.contains("received 3000 in"), "{option}: {done}");
        assert!(done.stderr.contains("writing") && done.stderr.contains("No space left"), "{option}: {done}");
    }
    let done = replay(&file, &["-f", &config, "--plot", folder.path().to_str().expect("UTF-8")]);
    assert!(done.code == Some(1) && done.stderr.contains("Is a directory"), "{done}");
}

#[test]
fn a_clock_that_is_set_by_decades_empties_no_bucket() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let gap = 70 * 365 * 86_400 * 1_000_000_000;
    let frames: Vec<_> = (0..40_u64)
        .map(|i| (i * 1_000_000 + if i < 20 { 0 } else { gap }, ping(FIRST, (i % 4) as u8).frame()))
        .collect();
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(false, 1, &frames)).expect("written");
    let said = replay(&file, &["-f", &config, "-j"]);
    let said: Value = serde_json::from_str(&said.expect_success()).expect("JSON");
    assert_eq!(said["reasons"]["answered"]["packets"], 40, "{said}");
}

#[test]
fn why_nothing_is_known_of_the_host_is_said_with_what_helps() {
    let folder = Folder::new();
    let config = folder.file("config.toml", "");
    let file = folder.path().join("capture");
    let empty = Order { big: false }.pcap(false, 1, &[]);
    let cooked =
        [&[0, 4, 0, 1, 0, 6, 2, 9, 9, 9, 9, 9, 0, 0, 8, 0][..], &ping(FIRST, 1).frame()[14..]].concat();
    let going_out = Order { big: false }.pcap(false, 113, &[(0, cooked)]);
    let other_link = Order { big: false }.pcap(false, 105, &[(0, vec![0; 60])]);
    for (bytes, code, hint) in [
        (empty, 0, "the capture has no frames"),
        (going_out, 0, "among the first 1 frame, but 1 frame that was going out"),
        (other_link, 1, "link type 105"),
    ] {
        fs::write(&file, bytes).expect("written");
        let done = replay(&file, &["-f", &config]);
        assert!(done.code == Some(code) && done.stderr.contains(hint), "{hint}: {done}");
        assert!(!done.stderr.contains("--own"), "{hint}: {done}");
    }
}
