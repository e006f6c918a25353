//! `serve` over a long life: it follows changes of the host, whichever clients connect, read or do not read, and whatever comes and goes.
//!
//! Owns following, signals and connections. Other tests prove the metrics.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::Watch;
use icmp_tests::xdp::PassLink;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const LIMIT: Duration = Duration::from_secs(40);
const METRICS: &str = "127.0.0.1:9816";
const SERVING: &str = "serving metrics";

#[test]
fn connections_that_say_nothing_end_neither_following_nor_the_metrics() {
    let Some(pair) = pair(&["sh"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    // With more connections than it may have files open.
    let program = ctl::program().display();
    let mut serve = host.watch("sh", &["-c", &format!("ulimit -n 256; exec {program} serve -f {config}")]);
    serve.wait_for(SERVING, LIMIT);
    let idle: Vec<TcpStream> =
        host.enter(|| (0..500).map(|_| TcpStream::connect(METRICS).expect("connected")).collect());
    host.ip(&format!("address del 192.0.2.77/24 dev {HOST_IF}"));
    until_shown(host, "192.0.2.77", false);
    assert!(get(host).contains("icmp_ctl_build_info"));
    drop(idle);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn a_scraper_is_answered_while_another_host_opens_connections_and_holds_them() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "[metrics]\nlisten = \"0.0.0.0:9816\"\n");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    for _ in 0..3 {
        let mut scraper = host.enter(|| TcpStream::connect(METRICS).expect("connected"));
        scraper.set_read_timeout(Some(LIMIT)).expect("a timeout");
        // Several times as many as there may be, all after the scraper and before it asks.
        let held: Vec<TcpStream> = pair
            .peer
            .enter(|| (0..200).map(|_| TcpStream::connect("192.0.2.2:9816").expect("connected")).collect());
        scraper.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        let _length = scraper.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.contains("icmp_ctl_build_info"), "{answer}");
        drop(held);
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn serve_says_the_port_that_it_got_where_any_will_do() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "[metrics]\nlisten = \"0.0.0.0:0\"\n");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    let said = serve.wait_for(SERVING, LIMIT);
    let port = said.split_once("http://0.0.0.0:").and_then(|(_, rest)| rest.split_once("/metrics"));
    let port: u16 = port.expect("an address").0.parse().expect("a port");
    let mut scraper = host.enter(|| TcpStream::connect(("127.0.0.1", port)).expect("it listens there"));
    scraper.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    let _length = scraper.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.contains("icmp_ctl_build_info"), "{answer}");
    serve.wait_for(&format!("every client that reaches 0.0.0.0:{port} may read"), LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn sigterm_ends_serve_while_another_process_keeps_it_from_following() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    let lock = fs::File::open(ctl::lock_of(host)).expect("a lock");
    let held = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
    host.ip(&format!("address del 192.0.2.77/24 dev {HOST_IF}"));
    serve.wait_for("waiting for process", LIMIT);
    assert!(get(host).contains("icmp_ctl_build_info"), "the metrics wait for nobody");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    // Its end comes before that of its waiting, which is told.
    assert!(!serve.heard().iter().any(|line| line.contains("waited")), "{:?}", serve.heard());
    drop(held);
    detach(host);
}

#[test]
fn sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    let rate = || shown(host, "limit show -j")["limits"]["per-source"]["rate"].clone();
    for (limits, says) in [
        ("[limits]\nper-source = { rate = \"7/min\", burst = 9 }\n", "is in force"),
        ("[limits]\nper-source = { rate = \"8/min\", bust = 9 }\n", "bust"),
        ("[limits]\nneighbour-discovery = { rate = \"0\" }\n", "stays"),
    ] {
        let _same = configured(&folder, limits);
        serve.signal(Signal::SIGHUP);
        serve.wait_for(says, LIMIT);
        assert_eq!(rate(), "7/min");
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn with_reload_on_change_what_is_written_into_the_file_is_read_by_itself_and_once() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config} --reload-on-change")));
    serve.wait_for(SERVING, LIMIT);
    let rate = || shown(host, "limit show -j")["limits"]["per-source"]["rate"].clone();
    // A change of the host has it looked at at once; without one the file is read within ten seconds.
    let look = |address: &str| {
        host.ip(&format!("address add {address}/24 dev {HOST_IF}"));
        until_shown(host, address, true);
    };
    let _same = configured(&folder, "[limits]\nper-source = { rate = \"7/min\", burst = 9 }\n");
    look("192.0.2.101");
    serve.wait_for("is in force", LIMIT);
    assert_eq!(rate(), "7/min");
    let _same = configured(&folder, "[limits]\nper-source = { rate = \"8/min\", bust = 9 }\n");
    look("192.0.2.102");
    serve.wait_for("bust", LIMIT);
    look("192.0.2.103");
    fs::remove_file(&config).expect("the file is there");
    look("192.0.2.104");
    let gone = serve.wait_for("No such file", LIMIT);
    assert!(gone.contains(&config) && gone.contains("what was in force stays"), "{gone}");
    look("192.0.2.105");
    assert_eq!(rate(), "7/min");
    let _same = configured(&folder, "[limits]\nper-source = { rate = \"8/min\", bust = 9 }\n");
    look("192.0.2.106");
    serve.wait_for("can be read again", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let said = serve.heard().concat();
    assert_eq!(said.matches("bust").count(), 1, "{said}");
    assert!(!said.contains("No such file"), "once: {said}");
    detach(host);
}

#[test]
fn a_reload_attaches_what_is_named_now_and_leaves_attached_what_is_not_any_more() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let named = |names: &[&str]| folder.file("icmp-ctl.toml", &format!("interfaces = {names:?}\n"));
    host.ip("link add other0 type veth peer name other1");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {}", named(&[HOST_IF]))));
    serve.wait_for(SERVING, LIMIT);
    let attached = || {
        let status = shown(host, "status -j");
        let rows = status["interfaces"].as_array().cloned().unwrap_or_default();
        rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(attached(), [HOST_IF]);
    let _same = named(&[HOST_IF, "other0", "late0"]);
    serve.signal(Signal::SIGHUP);
    serve.wait_for("other0: attached", LIMIT);
    serve.wait_for("is in force", LIMIT);
    assert_eq!(attached(), [HOST_IF, "other0"]);
    host.ip("link add late0 type veth peer name late1");
    serve.wait_for("late0: attached", LIMIT);
    let _same = named(&[HOST_IF]);
    serve.signal(Signal::SIGHUP);
    for name in ["other0", "late0"] {
        let said = serve.wait_for(&format!("{name}: is not named"), LIMIT);
        assert!(said.contains(&format!("`icmp-ctl detach {name}`")), "{said}");
    }
    serve.wait_for("is in force", LIMIT);
    assert_eq!(attached(), [HOST_IF, "other0", "late0"]);
    let _off = ctl::run(host, "detach late0").expect_success();
    // Nobody has it attached again: neither the next reload, which has nothing to say of either, nor that it comes anew.
    host.ip("link delete late0");
    host.ip("link add late0 type veth peer name late1");
    serve.signal(Signal::SIGHUP);
    let said = serve.says(&["is not named", "is in force"], LIMIT).expect("it runs");
    assert!(said.contains("is in force"), "{said}");
    assert_eq!(attached(), [HOST_IF, "other0"]);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn an_interface_is_attached_when_it_comes_and_again_when_it_comes_back() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"late0\"]\n"));
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for("late0: is not there", LIMIT);
    serve.wait_for(SERVING, LIMIT);
    for _ in 0..2 {
        host.ip("link add late0 type veth peer name late1");
        serve.wait_for("late0: attached", LIMIT);
        assert!(host.ip("link show late0").contains("xdp"));
        host.ip("link delete late0");
        serve.wait_for("late0: is gone", LIMIT);
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

/// Also where it was the last one, and with it all is gone that is pinned.
#[test]
fn what_a_command_detaches_is_left_so_until_a_command_a_reload_or_a_new_interface() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"late*\"]\n"));
    host.ip("link add late0 type veth peer name late1");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    let has_program = |name: &str| host.ip(&format!("link show {name}")).contains("xdp");
    let last = Cell::new(100);
    // After a change the host is looked at.
    let change = |interface: &str| {
        last.set(last.get() + 1);
        let address = format!("192.0.2.{}", last.get());
        host.ip(&format!("address add {address}/24 dev {interface}"));
        address
    };
    // The table has an address in the middle of a look; with the second one the first look has ended.
    let look = |interface: &str| {
        for _ in 0..2 {
            until_shown(host, &change(interface), true);
        }
    };
    let _said = ctl::run(host, "detach late0").expect_success();
    look(HOST_IF);
    serve.wait_for("late0: was detached, and is left alone", LIMIT);
    look(HOST_IF);
    assert!(!has_program("late0") && has_program(HOST_IF));
    // In another mode, which takes the one and then the other.
    let _said = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
    assert!(!has_program("late0"));
    let _address = change(HOST_IF);
    serve.wait_for(&format!("{HOST_IF}: was detached"), LIMIT);
    let _said = ctl::run(host, &format!("attach {HOST_IF} --mode generic")).expect_success();
    look(HOST_IF);
    assert!(host.ip(&format!("link show {HOST_IF}")).contains("xdpgeneric"));
    // One that is new is attached, and nothing else with it.
    let _said = ctl::run(host, "detach --all").expect_success();
    let _address = change(HOST_IF);
    serve.wait_for(&format!("{HOST_IF}: was detached"), LIMIT);
    host.ip("link delete late0");
    host.ip("link add late0 type veth peer name late1");
    serve.wait_for("late0: attached", LIMIT);
    host.ip("link set late0 up");
    look("late0");
    assert!(!has_program(HOST_IF));
    serve.signal(Signal::SIGHUP);
    serve.wait_for(&format!("{HOST_IF}: attached"), LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

/// By a control group; root's are not limited otherwise.
#[test]
fn without_a_thread_serve_goes_on_as_soon_as_there_is_one_and_a_command_says_so() {
    let Some(pair) = pair(&["sh"]) else { return };
    let Some(group) = Group::new() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let program = ctl::program().display();
    let enter = format!("echo $$ > {}; exec {program}", group.file("cgroup.procs").display());
    let mut serve = host.watch("sh", &["-c", &format!("{enter} serve -f {config}")]);
    serve.wait_for(SERVING, LIMIT);
    group.allow("1");
    host.ip(&format!("address add 192.0.2.99/24 dev {HOST_IF}"));
    serve.wait_for("starting a thread", LIMIT);
    group.allow("max");
    until_shown(host, "192.0.2.99", true);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    group.allow("1");
    let refused = host.run("sh", &["-c", &format!("{enter} serve -f {config}")]);
    assert!(refused.code == Some(1) && !refused.stderr.contains("panicked"), "{refused}");
    assert!(
        refused.stderr.contains("starting a thread") && refused.stderr.contains("TasksMax="),
        "{refused}"
    );
    // One to ask another command, and none to wait for it.
    group.allow("2");
    let examined = host.run("sh", &["-c", &format!("{enter} doctor")]);
    assert!(!examined.stderr.contains("panicked") && examined.code != Some(101), "{examined}");
    detach(host);
}

#[test]
fn what_fits_a_pattern_is_attached_as_it_comes_and_stays_so_under_another_name() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", "interfaces = [\"late*\"]\n");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for("late*: is not there", LIMIT);
    serve.wait_for(SERVING, LIMIT);
    for (name, peer) in [("late0", "end0"), ("late1", "end1")] {
        host.ip(&format!("link add {name} type veth peer name {peer}"));
        serve.wait_for(&format!("{name}: attached"), LIMIT);
    }
    host.ip("link set late0 name other0");
    serve.wait_for("late0: is called other0 now", LIMIT);
    let status = shown(host, "status -j");
    let names: Vec<_> = status["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert_eq!(names, ["other0", "late1"]);
    host.ip("link delete other0");
    serve.wait_for("other0: is gone", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn without_serve_a_changed_address_counts_when_a_command_changes_something() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", "interfaces = [\"nothing*\", \"host?\"]\n");
    let done = ctl::run(host, &format!("attach -f {config}"));
    assert!(done.code == DONE && done.stdout.contains(&format!("{HOST_IF}: attached")), "{done}");
    assert!(done.stderr.contains("followed while `icmp-ctl serve` runs"), "{done}");
    for command in [format!("apply -f {config}"), format!("attach {HOST_IF}")] {
        host.ip(&format!("address add 192.0.2.99/24 dev {HOST_IF}"));
        assert!(!shown(host, "show addresses -j").to_string().contains("192.0.2.99"));
        let _done = ctl::run(host, &command).expect_success();
        assert!(shown(host, "show addresses -j").to_string().contains("192.0.2.99"), "{command}");
        host.ip(&format!("address del 192.0.2.99/24 dev {HOST_IF}"));
        let _done = ctl::run(host, &command).expect_success();
        assert!(!shown(host, "show addresses -j").to_string().contains("192.0.2.99"), "{command}");
    }
    detach(host);
    let nothing = folder.file("nothing.toml", "interfaces = [\"nothing*\"]\n");
    let refused = ctl::run(host, &format!("attach -f {nothing}"));
    assert!(refused.code == Some(1) && refused.stderr.contains("no interface nothing*"), "{refused}");
    let empty = folder.file("empty.toml", "");
    assert_eq!(ctl::run(host, &format!("attach -f {empty}")).code, Some(2));
}

#[test]
fn an_interface_that_comes_is_attached_while_another_one_has_another_program() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", "interfaces = [\"taken0\", \"late0\"]\n");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    // It has its program before it has the name that is waited for.
    host.ip("link add other0 type veth peer name other1");
    let _other = host.enter(|| PassLink::attach("other0"));
    host.ip("link set other0 name taken0");
    serve.wait_for("taken0: another XDP program", LIMIT);
    host.ip("link add late0 type veth peer name late1");
    serve.wait_for("late0: attached", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn an_interface_that_refuses_costs_no_compilation_at_each_look() {
    let Some(pair) = pair(&["nft"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    // Each compilation asks nftables what it would do with pings. What serve runs may open no file to write: it has one that is open.
    let asked = folder.file("asked", "");
    folder.script("nft", "#!/bin/sh\necho asked >&9\nexec /usr/sbin/nft \"$@\"\n");
    let compilations = || fs::read_to_string(&asked).expect("a text").lines().count();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"taken0\"]\n"));
    let (path, program) = (folder.path().display(), ctl::program().display());
    let script = format!("PATH={path}:$PATH; exec {program} serve -f {config} 9>>{asked}");
    let mut serve = host.watch("sh", &["-c", &script]);
    serve.wait_for(SERVING, LIMIT);
    host.ip("link add other0 type veth peer name other1");
    let _other = host.enter(|| PassLink::attach("other0"));
    host.ip("link set other0 name taken0");
    serve.wait_for("taken0: another XDP program", LIMIT);
    let before = compilations();
    assert!(before > 0, "it was compiled at start");
    for looks in 0..5 {
        host.ip(&format!(
            "address {} 192.0.2.77/24 dev {HOST_IF}",
            if looks % 2 == 0 { "del" } else { "add" }
        ));
        serve.wait_for("addresses:", LIMIT);
    }
    assert_eq!(compilations(), before, "five looks later");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn a_changed_mac_address_is_followed_and_said() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    host.ip(&format!("link set {HOST_IF} address 02:00:00:00:00:77"));
    serve.wait_for(&format!("{HOST_IF}: its MAC address"), LIMIT);
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    assert_eq!(ctl::counters(host, HOST_IF).answered(), 1);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn with_no_interface_at_all_serve_waits_for_one() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", "interfaces = [\"late0\"]\n");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    host.ip("link add late0 type veth peer name late1");
    serve.wait_for("late0: attached", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn the_program_is_off_an_interface_that_is_moved_while_serve_runs() {
    let Some(pair) = pair(&[]) else { return };
    let (host, other) = (&pair.host, Namespace::new("other"));
    host.ip("link add other0 type veth peer name other1");
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"other0\"]\n"));
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    host.ip(&format!("link set {HOST_IF} netns {}", other.name()));
    serve.wait_for(&format!("{HOST_IF}: was moved"), LIMIT);
    assert!(!other.ip(&format!("link show {HOST_IF}")).contains("xdp"));
    other.ip(&format!("link set {HOST_IF} netns {}", host.name()));
    serve.wait_for(&format!("{HOST_IF}: attached"), LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn a_flood_of_changes_is_followed_in_a_few_looks() {
    const ADDRESSES: u32 = 3_000;
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("link add other0 type veth peer name other1");
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    add_addresses(host, &folder, ADDRESSES);
    host.ip(&format!("address del 192.0.2.77/24 dev {HOST_IF}"));
    let mut looks = 0;
    let mut line = String::new();
    while !line.contains("removed") || line.contains(" 0 removed") {
        line = serve.wait_for("addresses:", LIMIT);
        looks += 1;
    }
    assert!(looks < ADDRESSES / 20, "{looks} looks at {ADDRESSES} changes");
    // Two minutes, when each change was a look of its own.
    let cpu = cpu_seconds(serve.id());
    assert!(cpu < 20.0, "{cpu} s of CPU time for {looks} looks");
    eprintln!("{ADDRESSES} changes: {looks} looks, {cpu} s of CPU time");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn local_routes_are_followed_and_those_of_prefixes_said_once() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    // A route alone wakes nobody up, an address does.
    let wake = |number: u8| host.ip(&format!("address add 198.51.100.{number}/32 dev lo"));
    host.ip("route add local 203.0.113.5/32 dev lo");
    host.ip("route add local 203.0.113.64/26 dev lo");
    wake(1);
    serve.wait_for("takes in all of 203.0.113.64/26, because", LIMIT);
    until_shown(host, "203.0.113.5", true);
    host.ip("route add local 2001:db8:2::/64 dev lo");
    wake(2);
    serve.wait_for("takes in all of 2001:db8:2::/64, because", LIMIT);
    host.ip("route del local 203.0.113.5/32 dev lo");
    wake(3);
    until_shown(host, "203.0.113.5", false);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    while serve.says(&[""], LIMIT).is_some() {}
    assert!(!serve.heard().iter().any(|line| line.contains("takes in all")), "{:?}", serve.heard());
    detach(host);
}

#[test]
fn what_finds_no_place_in_the_tables_is_said_once() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(SERVING, LIMIT);
    host.ip("link add other0 type veth peer name other1");
    // Made for a host with a few.
    add_addresses(host, &folder, 8_000);
    serve.wait_for("do not fit", LIMIT);
    // Whoever has too many is followed like everybody else.
    for _ in 0..5 {
        host.ip(&format!("address del 192.0.2.77/24 dev {HOST_IF}"));
        until_shown(host, "192.0.2.77", false);
        host.ip(&format!("address add 192.0.2.77/24 dev {HOST_IF}"));
        until_shown(host, "192.0.2.77", true);
    }
    let again = serve.heard().iter().filter(|line| line.contains("do not fit")).count();
    // Once more while they were still coming.
    assert!(again <= 1, "{again} times more:\n{}", serve.heard().join("\n"));
    assert!(shown(host, "show addresses -j").to_string().contains("192.0.2.2\""), "its own come first");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

#[test]
fn serve_goes_on_when_nobody_reads_what_it_says() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let mut command = ctl::command(host, &format!("serve -f {config}"));
    let mut serve = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let mut stderr = BufReader::new(serve.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(SERVING) {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("a line") > 0, "it has ended");
    }
    drop(stderr);
    host.ip(&format!("address del 192.0.2.77/24 dev {HOST_IF}"));
    until_shown(host, "192.0.2.77", false);
    assert_eq!(serve.try_wait().expect("it is ours"), None, "it goes on");
    kill(Pid::from_raw(serve.id().cast_signed()), Signal::SIGTERM).expect("it is there");
    assert!(serve.wait().expect("it ends").success());
    detach(host);
}

#[test]
fn status_and_metrics_need_no_list_of_timers() {
    let Some(pair) = pair(&["unshare", "mount", "ping"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "[limits]\nreplies = { rate = \"2/s\", burst = 2 }\n");
    let _said = ctl::run(host, &format!("attach {HOST_IF} -f {config}")).expect_success();
    let _lost = pair.peer.run("ping", &["-c", "20", "-i", "0.01", "-W", "1", "192.0.2.2"]);
    let hidden = "mount --bind /dev/null /proc/timer_list && \"$0\" status -j && \"$0\" show sources -j";
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let done = host.run("unshare", &["--mount", "sh", "-ec", hidden, program]);
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stdout.contains("\"under_pressure\":true"), "{done}");
    detach(host);
}

/// A control group that limits how many processes and threads are in it; gone with this value.
struct Group(PathBuf);

impl Group {
    /// `None`, with the reason, where this machine has no such groups.
    fn new() -> Option<Self> {
        for parent in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let group = Self(Path::new(parent).join(format!("icmp-ctl-test-{}", std::process::id())));
            if fs::create_dir(&group.0).is_ok() && group.file("pids.max").exists() {
                return Some(group);
            }
        }
        println!("skipped: no control group that limits processes can be made below /sys/fs/cgroup");
        None
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn allow(&self, tasks: &str) {
        fs::write(self.file("pids.max"), tasks).expect("it takes that");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

/// Waits until an address is in the table, or is not any more.
fn until_shown(host: &Namespace, address: &str, is_there: bool) {
    let deadline = Instant::now() + LIMIT;
    while shown(host, "show addresses -j").to_string().contains(&format!("\"{address}\"")) != is_there {
        assert!(
            Instant::now() < deadline,
            "{address} is {} the table",
            if is_there { "not in" } else { "still in" }
        );
    }
}

/// A configuration file for the host's interface with these limits.
fn configured(folder: &Folder, limits: &str) -> String {
    folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{limits}"))
}

fn detach(host: &Namespace) {
    let _done = ctl::run(host, "detach --all").expect_success();
}

/// Gives an interface that is not attached so many addresses.
fn add_addresses(host: &Namespace, folder: &Folder, addresses: u32) {
    let lines: String = (0..addresses)
        .map(|i| format!("address add {}/32 dev other0\n", std::net::Ipv4Addr::from(0x0a00_0000 + i)))
        .collect();
    let file = folder.file("addresses", &lines);
    host.ip(&format!("-batch {file}"));
}

fn shown(host: &Namespace, arguments: &str) -> Value {
    let text = ctl::run(host, arguments).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {text}"))
}

fn get(host: &Namespace) -> String {
    host.enter(|| {
        let mut stream = TcpStream::connect(METRICS).unwrap_or_else(|e| panic!("{METRICS}: {e}"));
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {METRICS}\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|e| panic!("{METRICS}: {e}"));
        answer
    })
}

fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // utime and stime are the 14th and 15th of all, and the first two are in front of the bracket (proc_pid_stat(5)).
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number")).sum();
    ticks / 100.0
}
