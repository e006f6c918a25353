//! `icmp-ctl suggest`: limits made from a capture, under which none of its packets is limited.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use icmp_tests::capture::{HEADER, Order};
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::packet::Echo;
use icmp_tests::process::{self, Finished};
use serde_json::{Value, json};

const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SECOND: u64 = 1_000_000_000;

fn suggest(file: &Path) -> Finished {
    process::run(Command::new(ctl::program()).arg("suggest").arg(file))
}

fn ping(from: [u8; 4], data: usize) -> Vec<u8> {
    Echo::new(from.into(), HOST4.into(), vec![7; data]).frame()
}

/// An error that quotes a UDP packet of this host.
fn time_exceeded(quoted: [u8; 4]) -> Echo {
    let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    let data = [&head[..], &quoted, &[203, 0, 113, 8, 0, 1, 0, 2, 0, 8, 0, 0]].concat();
    let error = Echo::new(IpAddr::from([198, 51, 100, 1]), HOST4.into(), data);
    Echo { kind: Some(11), second_word: 0, ..error }
}

fn written(folder: &Folder, frames: &[(u64, Vec<u8>)]) -> std::path::PathBuf {
    let file = folder.path().join("capture");
    fs::write(&file, Order { big: false }.pcap(true, 1, frames)).expect("written");
    file
}

#[test]
fn what_is_suggested_leaves_the_capture_alone_and_apply_accepts_it() {
    let folder = Folder::new();
    let file = folder.path().join("capture");
    // Monitors that ping each second, one that sends a hundred at once now and then, and errors.
    let mut frames = Vec::new();
    for second in 0..50_u64 {
        for source in 0..30_u8 {
            frames.push((second * 1_000_000_000 + u64::from(source), ping([203, 0, 113, source], 32)));
        }
        for i in 0..if second % 10 == 0 { 100 } else { 0 } {
            frames.push((second * 1_000_000_000 + 100 + i, ping([198, 51, 100, 9], 32)));
        }
        let mut error = time_exceeded(HOST4.octets());
        frames.push((second * 1_000_000_000 + 500, error.frame()));
        // Longer than a timestamp request is (RFC 792), which is no reason not to count it.
        error.kind = Some(13);
        (0..15).for_each(|i| frames.push((second * 1_000_000_000 + 600 + i, error.frame())));
    }
    fs::write(&file, Order { big: false }.pcap(true, 1, &frames)).expect("written");
    let done = suggest(&file);
    assert!(done.stderr.contains("the capture is 49 s long"), "{}", done.stderr);
    let config = done.expect_success();
    for line in [
        "Under these limits 0 of these packets would",
        "errors = { rate = \"20/s\", burst = 20 }",
        "queries = { rate = \"30/s\", burst = 30 }",
        "per-source = { rate = \"200/s\", burst = 200 }",
        "per-prefix = { rate = \"200/s\", burst = 200 }",
        "replies = { rate = \"260/s\", burst = 260 }",
        "# neighbour-discovery = …",
    ] {
        assert!(config.contains(line), "{line} is not in {config}");
    }
    let config = folder.file("suggested.toml", &config);
    let replayed =
        process::run(Command::new(ctl::program()).arg("replay").arg(&file).args(["-f", &config, "-j"]));
    let said: Value = serde_json::from_str(&replayed.expect_success()).expect("JSON");
    assert_eq!(said["limited"], json!([]), "{said}");
    let check = process::run(Command::new(ctl::program()).args(["apply", "-f", &config, "--check"]));
    let _accepted = check.expect_success();
}

/// All but one in a thousand of the seconds have one ping; the burst of two busiest seconds is not what fifteen of them ask for.
#[test]
fn a_limit_is_raised_until_what_runs_once_in_the_capture_is_not_limited() {
    let folder = Folder::new();
    let mut frames = Vec::new();
    for second in 0..16_000_u64 {
        let pings = if (1000..1015).contains(&second) { 100 } else { 1 };
        let times = (0..pings).map(|i| second * SECOND + i * SECOND / 100);
        frames.extend(times.map(|time| (time, ping([198, 51, 100, 1], 8))));
    }
    let done = suggest(&written(&folder, &frames));
    let config = done.expect_success();
    assert!(config.contains("Under these limits 0 of these packets would"), "{config}");
    for limit in ["per-source", "per-prefix", "replies"] {
        let line = format!("{limit} = {{ rate = \"160/s\", burst = 200 }}");
        let raised = config.lines().find(|line| line.contains("raised from 20/s, which would have limited"));
        assert!(raised.is_some() && config.contains(&line), "{line} is not in {config}");
    }
}

#[test]
fn what_fails_a_check_is_measured_for_the_limit_that_it_is_held_against() {
    let folder = Folder::new();
    let mut frames = Vec::new();
    for second in 0..20_u64 {
        frames.push((second * SECOND, ping([198, 51, 100, 1], 8)));
        for i in 0..300 {
            let error = time_exceeded([203, 0, 113, 9]);
            frames.push((second * SECOND + 1 + i * 3_000_000, error.frame()));
        }
    }
    let config = suggest(&written(&folder, &frames)).expect_success();
    for line in [
        "unverified = { rate = \"600/s\", burst = 600 }",
        "# errors = …",
        "Under these limits 0 of these packets would",
    ] {
        assert!(config.contains(line), "{line} is not in {config}");
    }
}

#[test]
fn of_a_capture_that_is_cut_off_what_was_read_is_made_limits_from() {
    let folder = Folder::new();
    let frames: Vec<_> = (0..9).map(|i| (i * SECOND, ping([198, 51, 100, 1], 8))).collect();
    let file = written(&folder, &frames);
    let whole = fs::read(&file).expect("read");
    let record = (whole.len() - HEADER) / frames.len();
    fs::write(&file, &whole[..whole.len() - 3]).expect("written");
    let done = suggest(&file);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.stdout.contains("from 8 packets") && done.stdout.contains("per-source = {"), "{done}");
    assert!(done.stderr.contains(&format!("byte {}", HEADER + 8 * record)), "{done}");
}
