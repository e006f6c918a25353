//! The shipped units: systemd accepts them, they leave few privileges to `serve`, and `serve` works with those.
//!
//! Owns the units, the capabilities they name, and the group that is made for them. `service.rs` proves the messages to systemd.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Pair};
use icmp_tests::process;
use icmp_tests::xdp::PassLink;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(40);
/// A unit, and how an instance of it is called.
const UNITS: [(&str, &str); 2] =
    [("icmp-ctl.service", "icmp-ctl.service"), ("icmp-ctl@.service", "icmp-ctl@blue.service")];

#[test]
fn systemd_takes_the_units_and_finds_them_exposed_by_2_5_at_most() {
    if !can_run(&["systemd-analyze"]) {
        return;
    }
    for (unit, instance) in UNITS {
        let folder = Folder::new();
        // It wants the program to be there.
        let program = ctl::program().to_str().expect("a path in UTF-8");
        let text = fs::read_to_string(shipped(unit)).expect("a unit").replace("/usr/bin/icmp-ctl", program);
        let file = folder.file(instance, &text);
        let said = process::run(Command::new("systemd-analyze").args(["verify", "--man=no", &file]));
        assert!(said.code == Some(0) && said.stderr.is_empty(), "{said}");
        let security = ["security", "--offline=true", "--threshold=25", "--no-pager", &file];
        let _said = process::run(Command::new("systemd-analyze").args(security)).expect_success();
    }
}

#[test]
fn the_group_that_may_look_is_made_and_the_folder_of_sockets_is_its_own() {
    if !can_run(&["systemd-sysusers", "systemd-tmpfiles"]) {
        return;
    }
    let folder = Folder::new();
    fs::create_dir(folder.path().join("etc")).expect("a folder");
    let root = format!("--root={}", folder.path().display());
    for (program, options, file) in [
        ("systemd-sysusers", &[][..], "sysusers.d/icmp-ctl.conf"),
        ("systemd-tmpfiles", &["--create"], "tmpfiles.d/icmp-ctl.conf"),
    ] {
        let mut command = Command::new(program);
        let made = process::run(command.arg(&root).args(options).arg(deployed(file)));
        assert!(made.code == Some(0), "{made}");
    }
    let groups = fs::read_to_string(folder.path().join("etc/group")).expect("groups");
    let group = groups.lines().find_map(|line| line.strip_prefix("icmp-ctl:x:")?.strip_suffix(':'));
    let sockets = fs::metadata(folder.path().join("run/icmp-ctl")).expect("a folder");
    assert_eq!((sockets.mode() & 0o7777, sockets.uid()), (0o2750, 0));
    assert_eq!(group, Some(&sockets.gid().to_string()[..]), "{groups}");
}

/// By hand, and with what a unit leaves it: what it keeps, and works with, is the same.
#[test]
fn serve_keeps_four_capabilities_and_works_with_them() {
    if !can_run(&["ip", "nsenter", "setpriv", "nft"]) {
        return;
    }
    let unit = fs::read_to_string(shipped("icmp-ctl.service")).expect("a unit");
    let capabilities = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let bounds: String = capabilities
        .expect("the unit bounds them")
        .split_whitespace()
        .map(|name| name.replace("CAP_", ",+").to_lowercase())
        .collect();
    let bounds = format!("--bounding-set=-all{bounds}");
    keeps_four_capabilities(&[]);
    keeps_four_capabilities(&["setpriv", &bounds, "--no-new-privs"]);
}

/// Of `serve`, run by this.
fn keeps_four_capabilities(run_by: &[&str]) {
    let pair = Pair::new(1500);
    let (host, folder) = (&pair.host, Folder::new());
    let config =
        folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"late0\", \"late9\"]\n"));
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let words = [run_by, &[program, "serve", "-f", &config]].concat();
    let mut serve = host.watch(words[0], &words[1..]);
    serve.wait_for("serving metrics", LIMIT);
    let status = fs::read_to_string(format!("/proc/{}/status", serve.id())).expect("it runs");
    // CAP_PERFMON and CAP_BPF are 38 and 39, CAP_NET_ADMIN and CAP_NET_RAW 12 and 13.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let held = format!("{set}:\t{:016x}\n", 3_u64 << 38 | 3 << 12);
        assert!(status.contains(&held), "{set} of {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    host.ip(&format!("address add 192.0.2.99/24 dev {HOST_IF}"));
    serve.wait_for("addresses:", LIMIT);
    host.ip("link add late0 type veth peer name late1");
    serve.wait_for("late0: attached", LIMIT);
    // A reload asks nftables, which needs one of them.
    let rule = "add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c icmp type echo-request drop";
    let _said = host.run("nft", &[rule]).expect_success();
    serve.signal(Signal::SIGHUP);
    serve.wait_for("`icmp type echo-request drop`", LIMIT);
    serve.wait_for("was read again", LIMIT);
    // Of another's program it cannot know the name, and says so.
    host.ip("link add taken0 type veth peer name taken1");
    let _other = host.enter(|| PassLink::attach("taken0"));
    host.ip("link set taken0 name late9");
    serve.wait_for(
        "late9: another XDP program is attached, one whose name takes CAP_SYS_ADMIN to ask for",
        LIMIT,
    );
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let config = folder.file("low.toml", "[metrics]\nlisten = \"127.0.0.1:99\"\n");
    let refused = host.run(words[0], &[&words[1..words.len() - 1], &[config.as_str()]].concat());
    assert!(refused.stderr.contains("listens on ports from 1024 on: Permission denied"), "{refused}");
    let _done = ctl::run(host, "detach --all").expect_success();
}

fn shipped(unit: &str) -> PathBuf {
    deployed(&format!("systemd/{unit}"))
}

fn deployed(file: &str) -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file))
        .expect("it is shipped")
}
