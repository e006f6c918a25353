//! VIPs that are answered while a check reports their service as healthy.
//!
//! Owns the results of echo requests to them, by their leases; the leases; and how such VIPs are configured, shown and changed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use icmp_common::abi::{GATE_UNTIL, Gate, UNHEALTHY_DROP, UNHEALTHY_PASS};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::instance::compiled::{Compiled, Vip};
use icmp_ctl::instance::program::Entry;
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::layout::{assemble, compile};
use icmp_tests::can_run;
use icmp_tests::ctl::{self, UNLIMITED};
use icmp_tests::folder::Folder;
use icmp_tests::generate::{self, Random, seed};
use icmp_tests::host::{self, as_action};
use icmp_tests::http;
use icmp_tests::netns::{HOST_IF, Pair};
use icmp_tests::process::Watch;
use icmp_tests::vectors::to_hex;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(40);
const VIP: &str = "198.51.100.7";
const OTHER: &str = "198.51.100.8";
const PAGE: &str = "http://127.0.0.1:8001/healthz";
const METRICS: &str = "127.0.0.1:9816";

/// A policy with these VIPs, each with a check of its own.
fn gated(vips: &[(&str, u32)]) -> Compiled {
    let policy = host::policy_of(&format!("[responder]\nwide-vips = true\n{UNLIMITED}"));
    let vips: Vec<_> = vips
        .iter()
        .map(|(net, unhealthy)| {
            let mut gate = Gate { interval: 1000, unhealthy: *unhealthy, ..Gate::NONE };
            gate.check[..net.len()].copy_from_slice(net.as_bytes());
            Vip { net: net.parse().expect("a prefix"), gate: Some(gate) }
        })
        .collect();
    let tick = Tick::of_this_kernel().expect("a clock");
    let rules = compile(&[]).expect("no rules");
    assemble(policy.settings, rules, policy.rules.routers, &vips, tick, 1).expect("few prefixes")
}

#[test]
fn kernel_and_host_agree_about_vips_of_any_health() {
    if !can_run(&[]) {
        return;
    }
    let mut random = Random::new(seed());
    let vips = [
        ("0.0.0.0/2", UNHEALTHY_PASS),
        ("64.0.0.0/2", UNHEALTHY_DROP),
        ("128.0.0.0/2", UNHEALTHY_PASS),
        ("192.0.0.0/2", UNHEALTHY_DROP),
        ("2000::/3", UNHEALTHY_DROP),
        ("::/1", UNHEALTHY_PASS),
    ];
    let policy = gated(&vips);
    let mut ended = BTreeSet::new();
    for healthy in [0, 0b10_1010, 0b01_0101, 0b11_1111] {
        // Anew each time: the host in memory has not seen what path MTU messages of earlier rounds reported.
        let mut kernel = host::unconfigured();
        let host = kernel.policy(&policy, &[]);
        for (number, gate) in policy.rules.gates.iter().enumerate().take(vips.len()) {
            let until = if healthy >> number & 1 == 1 { GATE_UNTIL } else { 0 };
            kernel.maps().gates.renew(&[(gate.id(), until)]).expect("the map can be written");
            host.tables().set_gate(number, gate.state(until).word);
        }
        for _ in 0..3000 {
            let frame = generate::frame(&mut random);
            let (verdict, after) = kernel.run(Entry::Xdp, &frame);
            let mut on_host = frame.clone();
            let outcome = host.run(&mut on_host);
            let told =
                format!("healthy {healthy:b}, {} on the host: {}", outcome.reason.name(), to_hex(&frame));
            assert_eq!(verdict, as_action(outcome.verdict()), "{told}");
            assert_eq!(to_hex(&after), to_hex(&on_host), "{told}");
            assert!(verdict == Verdict::Answer || after == frame, "{told}");
            ended.insert(outcome.reason.name());
        }
        assert_eq!(kernel.counters(), host.counters(), "healthy {healthy:b}");
        // What is as it was keeps its lease, whichever buffer it is written to.
        let leases = |kernel: &mut host::InKernel| {
            policy.rules.gates.map(|gate| kernel.maps().gates.lease(&gate).ok())
        };
        let before = leases(&mut kernel);
        let _same = kernel.policy(&gated(&vips[..3]), &[]);
        let _same = kernel.policy(&policy, &[]);
        assert_eq!(leases(&mut kernel)[..3], before[..3]);
    }
    for reason in [Reason::Answered, Reason::UnhealthyVip, Reason::UnhealthyVipDrop] {
        assert!(ended.contains(reason.name()), "no frame ended for {}", reason.name());
    }
}

/// A host with `serve`, and a neighbour that pings its VIPs.
struct World {
    pair: Pair,
    folder: Folder,
}

impl World {
    fn new(programs: &[&str]) -> Option<Self> {
        can_run(&[&["ip", "ping", "nsenter"], programs].concat()).then(|| {
            let world = Self { pair: Pair::new(1500), folder: Folder::new() };
            world.pair.peer.ip("route add 198.51.100.0/24 via 192.0.2.2");
            world
        })
    }

    /// A file that a check looks at.
    fn sign(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration with these VIPs, each with its check and other keys.
    fn config(&self, vips: &[(&str, &str, &str)]) -> String {
        let vip = |(prefix, check, more): &(&str, &str, &str)| {
            format!(
                "[[responder.vip]]\nprefix = \"{prefix}\"\ncheck = {check:?}\ninterval = \"100ms\"\n{more}\n"
            )
        };
        let vips: String = vips.iter().map(vip).collect();
        self.folder.file("config.toml", &format!("interfaces = [{HOST_IF:?}]\n{vips}"))
    }

    fn serve(&self, config: &str) -> Watch {
        let mut serve = Watch::start(&mut ctl::command(&self.pair.host, &format!("serve -j -f {config}")));
        serve.wait_for("serving metrics", LIMIT);
        serve
    }

    fn is_answered(&self, address: &str) -> bool {
        self.pair.peer.run("ping", &["-c", "1", "-W", "1", address]).code == Some(0)
    }

    /// Pings until an address is answered, or is not.
    fn until_answered(&self, address: &str, wanted: bool) {
        let asked = Instant::now();
        while self.is_answered(address) != wanted {
            assert!(asked.elapsed() < LIMIT, "{address} is answered: {}", !wanted);
        }
    }

    /// Answers who asks for the page, each with the next status, until there is none.
    fn serve_page(&self, mut status: impl FnMut() -> Option<u32> + Send + 'static) {
        let pages = self.pair.host.enter(|| TcpListener::bind("127.0.0.1:8001").expect("a port"));
        // For as long as the test runs.
        std::thread::spawn(move || {
            for connection in pages.incoming() {
                let mut connection = connection.expect("a connection");
                let mut request = [0; 1024];
                let length = connection.read(&mut request).unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let is_right = request.starts_with("get /healthz http/1.1\r\n")
                    && request.contains("host: 127.0.0.1:8001");
                let Some(status) = status() else { return };
                let status = if is_right { status } else { 400 };
                let _gone = write!(connection, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            }
        });
    }

    fn shown(&self, what: &str) -> Value {
        let shown = ctl::run(&self.pair.host, &format!("{what} -j")).expect_success();
        serde_json::from_str(&shown).expect("JSON")
    }

    fn ended(&self, reason: &str) -> u64 {
        ctl::counters(&self.pair.host, HOST_IF).packets(reason)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _where_a_test_failed_there_may_be_none = ctl::run(&self.pair.host, "detach --all");
    }
}

#[test]
fn a_vip_is_answered_while_its_file_is_there_and_otherwise_passed_or_dropped_as_configured() {
    let Some(world) = World::new(&[]) else { return };
    let sign = world.sign("healthy");
    let check = format!("file:{}", sign.display());
    let config = world.config(&[(VIP, &check, ""), (OTHER, &check, "unhealthy = \"drop\"")]);
    let mut serve = world.serve(&config);
    assert!(!world.is_answered(VIP) && !world.is_answered(OTHER), "nothing is healthy before it was checked");
    assert_eq!((world.ended("unhealthy-vip"), world.ended("unhealthy-vip-drop")), (1, 1));
    let unhealthy = json!([format!("{VIP}/32"), format!("{OTHER}/32")]);
    assert_eq!(world.shown("status")["unhealthy_vips"], unhealthy);

    fs::write(&sign, "").expect("written");
    for vip in [VIP, OTHER] {
        world.until_answered(vip, true);
    }
    let said = serve.wait_for("is healthy", LIMIT);
    let fields: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&fields["what"], &fields["state"], &fields["check"]),
        (&json!("health"), &json!("healthy"), &json!(check))
    );
    let checked = &world.shown("show addresses")["checked"];
    assert_eq!(checked[1]["healthy"], true, "{checked}");
    let explained = || world.shown(&format!("explain --from 192.0.2.1 --to {VIP}"));
    let said = explained();
    assert_eq!(
        (&said["verdict"]["reason"], &said["owned"]["as"]),
        (&json!("answered"), &json!("own")),
        "{said}"
    );
    assert!(said["owned"]["check_holds_seconds"].as_f64().is_some_and(|left| left > 0.0), "{said}");
    assert_eq!(world.shown("status")["unhealthy_vips"], json!([]));
    let sample = format!("icmp_ctl_vip_healthy{{prefix=\"{VIP}/32\",check={check:?}}}");
    let page = http::get(&world.pair.host, METRICS, "/metrics");
    assert!(page.contains(&format!("{sample} 1")), "{page}");

    fs::remove_file(&sign).expect("it is there");
    for vip in [VIP, OTHER] {
        world.until_answered(vip, false);
    }
    let before = (world.ended("unhealthy-vip"), world.ended("unhealthy-vip-drop"));
    assert!(!world.is_answered(VIP) && !world.is_answered(OTHER));
    assert_eq!(
        (world.ended("unhealthy-vip"), world.ended("unhealthy-vip-drop")),
        (before.0 + 1, before.1 + 1)
    );
    serve.wait_for("is unhealthy", LIMIT);
    let said = explained();
    assert_eq!(said["verdict"]["reason"], "unhealthy-vip", "{said}");
    assert!(said["owned"]["check_holds_seconds"].as_f64().is_none_or(|left| left == 0.0), "{said}");
    assert!(http::get(&world.pair.host, METRICS, "/metrics").contains(&format!("{sample} 0")));
    let doctor = ctl::run(&world.pair.host, "doctor").stdout;
    assert!(doctor.contains(&format!("{VIP}/32 is unhealthy by")), "{doctor}");
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn a_vip_is_unhealthy_when_the_lease_of_a_serve_that_was_killed_has_ended() {
    let Some(world) = World::new(&[]) else { return };
    let sign = world.sign("healthy");
    fs::write(&sign, "").expect("written");
    let check = format!("file:{}", sign.display());
    let config = world.config(&[(VIP, &check, "")]);
    let mut serve = world.serve(&config);
    world.until_answered(VIP, true);
    let _by_a_signal = serve.end_by(Signal::SIGKILL);
    world.until_answered(VIP, false);
    assert!(world.ended("unhealthy-vip") > 0);
    // Whoever attaches or applies without `serve` is told.
    let said = ctl::run(&world.pair.host, &format!("apply -f {config}"));
    assert!(
        said.stderr.contains(&format!(
            "until `icmp-ctl serve` finds them healthy, and for as long as it does: {VIP}/32"
        )),
        "{said}"
    );
    let _again = world.serve(&config);
    world.until_answered(VIP, true);
}

#[test]
fn a_vip_that_could_not_be_made_unhealthy_is_made_so_before_its_lease_ends() {
    let Some(world) = World::new(&["strace"]) else { return };
    let (sign, log) = (world.sign("healthy"), world.folder.file("trace", ""));
    fs::write(&sign, "").expect("written");
    // With a lease of three minutes.
    let config = world.config(&[(VIP, &format!("file:{}", sign.display()), "timeout = \"1min\"")]);
    let mut serve = world.serve(&config);
    world.until_answered(VIP, true);
    let pid = serve.id().to_string();
    let mut strace = Watch::start(Command::new("strace").args([
        "-f",
        "-o",
        &log,
        "-e",
        "trace=bpf",
        "-e",
        "inject=bpf:error=ENOMEM",
        "-p",
        &pid,
    ]));
    strace.wait_for("attached", LIMIT);
    fs::remove_file(&sign).expect("it is there");
    serve.wait_for("is unhealthy", LIMIT);
    let refused = || {
        let trace = fs::read_to_string(&log).expect("a trace");
        trace.lines().filter(|line| line.contains("/GATES") && line.contains("(INJECTED)")).count()
    };
    let (before, asked) = (refused(), Instant::now());
    while refused() < before + 2 {
        assert!(asked.elapsed() < LIMIT, "it tries again");
    }
    let _code = strace.end_by(Signal::SIGTERM);
    world.until_answered(VIP, false);
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn a_lease_that_lasts_is_taken_over_by_the_next_serve_and_by_a_policy_that_has_the_same_check() {
    let Some(world) = World::new(&[]) else { return };
    let sign = world.sign("healthy");
    fs::write(&sign, "").expect("written");
    let check = format!("file:{}", sign.display());
    // An hour that may be missed three times.
    let long = |name: &str, more: &str| {
        let config = world.config(&[(VIP, &check, more)]);
        let text = fs::read_to_string(&config).expect("it is there").replace("100ms", "1h");
        world.folder.file(name, &text)
    };
    let config = long("long.toml", "rise = 1");
    let mut serve = world.serve(&config);
    world.until_answered(VIP, true);
    let _by_a_signal = serve.end_by(Signal::SIGKILL);
    let apply = |config: &str| ctl::run(&world.pair.host, &format!("apply -f {config}")).expect_success();
    let text = fs::read_to_string(&config).expect("it is there");
    apply(&world.folder.file("limits.toml", &format!("{text}[policy]\npreset = \"router\"\n")));
    assert!(world.is_answered(VIP), "the same check");
    apply(&long("another.toml", "rise = 1\nfall = 7"));
    assert!(!world.is_answered(VIP), "another check");
    let _said = ctl::run(&world.pair.host, &format!("apply -f {config} --confirm 60s")).expect_success();
    assert!(world.is_answered(VIP), "the buffer of before knew it");
    let _said = ctl::run(&world.pair.host, "rollback").expect_success();
    assert!(!world.is_answered(VIP), "what was confirmed last");
}

#[test]
fn a_port_a_page_and_a_unit_are_checked() {
    let Some(world) = World::new(&["sh"]) else { return };
    let host = &world.pair.host;
    // `systemctl` is what the search path leads to.
    let systemctl = world.sign("systemctl");
    fs::write(&systemctl, format!("#!/bin/sh\ncat {}\n", world.sign("state").display())).expect("written");
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::write(world.sign("state"), "inactive\n").expect("written");
    let status = Arc::new(AtomicU32::new(503));
    let of_page = Arc::clone(&status);
    world.serve_page(move || Some(of_page.load(Ordering::Relaxed)));
    let config = world.config(&[
        ("198.51.100.101", "tcp:127.0.0.1:8000", ""),
        ("198.51.100.102", PAGE, ""),
        ("198.51.100.103", "systemd:x.service", ""),
    ]);
    let path = format!("{}:{}", world.folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut serve = Watch::start(ctl::command(host, &format!("serve -f {config}")).env("PATH", path));
    serve.wait_for("serving metrics", LIMIT);
    for vip in 1..=3 {
        assert!(!world.is_answered(&format!("198.51.100.10{vip}")), "{vip}");
    }
    let listener = host.enter(|| TcpListener::bind("127.0.0.1:8000").expect("a port"));
    status.store(204, Ordering::Relaxed);
    fs::write(world.sign("state"), "active\n").expect("written");
    for vip in 1..=3 {
        world.until_answered(&format!("198.51.100.10{vip}"), true);
    }
    drop(listener);
    status.store(301, Ordering::Relaxed);
    fs::write(world.sign("state"), "failed\n").expect("written");
    for vip in 1..=3 {
        world.until_answered(&format!("198.51.100.10{vip}"), false);
    }
    let said: Vec<_> = (0..3).map(|_| serve.wait_for("is unhealthy", LIMIT)).collect();
    for part in ["tcp:127.0.0.1:8000: Connection refused", "answered by 301", "x.service is failed"] {
        assert!(said.iter().any(|line| line.contains(part)), "{part} in {said:?}");
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
}

/// Each check is answered when the test says so, and until then the next one is not made.
#[test]
fn a_vip_falls_and_rises_with_so_many_results_one_after_the_other_and_not_before() {
    let Some(world) = World::new(&[]) else { return };
    let (results, next) = mpsc::channel();
    let (asking, asked) = mpsc::channel();
    world.serve_page(move || {
        asking.send(()).ok()?;
        next.recv().ok()
    });
    // When the next check asks, all results of before are in.
    let check = |statuses: &[u32]| {
        for status in statuses {
            asked.recv_timeout(LIMIT).expect("the check asks");
            results.send(*status).expect("it is waited for");
        }
    };
    let config = world.config(&[(VIP, PAGE, "timeout = \"60s\"\nrise = 3\nfall = 2")]);
    let mut serve = world.serve(&config);
    let mut said = |state: &str| {
        let line = serve.says(&["is healthy", "is unhealthy"], LIMIT).expect("it goes on");
        assert!(line.contains(&format!("is {state}")), "{line}");
    };
    check(&[204, 204, 503, 204, 204, 503]);
    assert!(!world.is_answered(VIP), "two of three one after the other");
    check(&[204, 204, 204]);
    said("healthy");
    world.until_answered(VIP, true);
    check(&[503, 204, 503, 204, 503, 204]);
    assert!(world.is_answered(VIP), "one of two");
    check(&[503, 503]);
    said("unhealthy");
    world.until_answered(VIP, false);
    check(&[204, 204, 503, 204, 204, 204]);
    said("healthy");
    world.until_answered(VIP, true);
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let said_more = |line: &&String| line.contains("is healthy") || line.contains("is unhealthy");
    let more = serve.heard().iter().filter(said_more).count();
    assert_eq!(more, 0, "{:?}", serve.heard());
}

#[test]
fn a_check_decides_about_an_address_that_the_host_has_wherever_that_is() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let sign = world.sign("healthy");
    let check = format!("file:{}", sign.display());
    // As keepalived and as anycast set them up, and the interface's first address.
    let (of_interface, late, on_lo) = ("192.0.2.2", "192.0.2.10", VIP);
    let prefixes = [of_interface, late, on_lo, "2001:db8::2"];
    host.ip(&format!("address add {on_lo}/32 dev lo"));
    host.ip(&format!("address add {late}/24 dev {HOST_IF}"));
    for own in ["interface", "host"] {
        let vips = world.config(&prefixes.map(|prefix| (prefix, check.as_str(), "unhealthy = \"drop\"")));
        let vips = fs::read_to_string(&vips).expect("it is there");
        let (interfaces, vips) = vips.split_once('\n').expect("lines");
        let config =
            world.folder.file("own.toml", &format!("{interfaces}\n[responder]\nown = {own:?}\n{vips}"));
        let mut serve = world.serve(&config);
        for address in prefixes {
            assert!(!world.is_answered(address), "{address} is not healthy, own = {own}");
        }
        assert_eq!(world.ended("unhealthy-vip-drop"), 4, "own = {own}");
        fs::write(&sign, "").expect("written");
        for address in prefixes {
            world.until_answered(address, true);
        }
        // The kernel would answer the same.
        let before = world.ended("answered");
        for address in prefixes {
            assert!(world.is_answered(address), "{address} is healthy, own = {own}");
        }
        assert_eq!(world.ended("answered") - before, 4, "by the program, own = {own}");
        // It goes and comes back.
        host.ip(&format!("address del {late}/24 dev {HOST_IF}"));
        host.ip(&format!("address add {late}/24 dev {HOST_IF}"));
        fs::remove_file(&sign).expect("it is there");
        for address in prefixes {
            world.until_answered(address, false);
        }
        assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
        let _off = ctl::run(host, "detach --all").expect_success();
    }
}

#[test]
fn an_own_address_is_never_answered_past_a_check_that_comes_goes_or_comes_back() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let address = "192.0.2.2";
    let gated = world.config(&[(address, "file:/nowhere/healthy", "unhealthy = \"drop\"")]);
    let gated = world.folder.file("gated.toml", &fs::read_to_string(gated).expect("it is there"));
    let plain = world.folder.file("plain.toml", &format!("interfaces = [{HOST_IF:?}]\n"));
    let run = |command: &str| ctl::run(host, command).expect_success();
    let by_the_program = || {
        let before = world.ended("answered");
        (world.is_answered(address), world.ended("answered") - before)
    };
    let _said = run(&format!("attach {HOST_IF} -f {plain}"));
    assert_eq!(by_the_program(), (true, 1));
    let _said = run(&format!("apply -f {gated}"));
    assert_eq!(by_the_program(), (false, 0), "a check");
    let _said = run(&format!("apply -f {plain} --confirm 60s"));
    assert_eq!(by_the_program(), (true, 0), "while the check may come back, by the kernel");
    let _said = run("rollback");
    assert_eq!(by_the_program(), (false, 0), "it was taken back");
    let _said = run(&format!("apply -f {plain} --confirm 1s"));
    // The program goes back by itself, and nobody makes its tables anew.
    world.until_answered(address, false);
    assert_eq!(by_the_program(), (false, 0), "nobody confirmed");
    let _said = run(&format!("apply -f {plain} --confirm 60s"));
    let _said = run("confirm");
    assert_eq!(by_the_program(), (true, 1), "it was confirmed");
}

#[test]
fn a_check_that_means_nothing_here_is_said_by_whoever_puts_it_in_force_and_by_doctor() {
    let Some(world) = World::new(&["unshare", "sh"]) else { return };
    let host = &world.pair.host;
    let config = world.config(&[
        ("192.0.2.2", "file:/run/healthy", ""),
        (OTHER, "systemd:nginx.service", "unhealthy = \"drop\""),
    ]);
    let _said = ctl::run(host, &format!("attach {HOST_IF} -f {config}")).expect_success();
    // Where systemd runs, it is hidden.
    let hidden = |command: &str| {
        let program = ctl::program().display();
        let script =
            format!("[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd; exec {program} {command}");
        host.run("unshare", &["--mount", "sh", "-c", &script])
    };
    let said = |text: &str| {
        for part in [
            "192.0.2.2/32 has a check, and 192.0.2.2 is an address of host0; the kernel answers pings to it while the check fails",
            "198.51.100.8/32 is checked by systemd:nginx.service, and systemd does not run here",
        ] {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(part), "{part} in {text}");
        }
    };
    said(&hidden(&format!("apply -f {config} --check")).stderr);
    said(&hidden("doctor").stdout);
}

#[test]
fn a_unit_cannot_be_asked_about_where_systemd_does_not_run_and_the_log_says_why() {
    let Some(world) = World::new(&["sh"]) else { return };
    let host = &world.pair.host;
    let systemctl = world.sign("systemctl");
    let sign = world.sign("runs");
    // As it is in a container, after it was once there.
    let script = format!(
        "#!/bin/sh\n[ -e {} ] && exec echo active\necho 'System has not been booted with systemd as init system (PID 1). Can'\\''t operate.' >&2\nexit 1\n",
        sign.display()
    );
    fs::write(&systemctl, script).expect("written");
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::write(&sign, "").expect("written");
    let config = world.config(&[(VIP, "systemd:x.service", "")]);
    let path = format!("{}:{}", world.folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut serve = Watch::start(ctl::command(host, &format!("serve -f {config}")).env("PATH", path));
    world.until_answered(VIP, true);
    fs::remove_file(&sign).expect("it is there");
    let said = serve.wait_for("is unhealthy", LIMIT);
    assert!(said.contains("systemctl: System has not been booted with systemd"), "{said}");
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn a_reload_takes_up_new_checks_and_gives_up_others() {
    let Some(world) = World::new(&[]) else { return };
    let sign = world.sign("healthy");
    fs::write(&sign, "").expect("written");
    let check = format!("file:{}", sign.display());
    let config = world.config(&[(VIP, &check, "")]);
    let serve = world.serve(&config);
    world.until_answered(VIP, true);
    let _same = world.config(&[(OTHER, &check, "rise = 1")]);
    serve.signal(Signal::SIGHUP);
    world.until_answered(OTHER, true);
    world.until_answered(VIP, false);
    // Another check of the same VIP begins anew.
    let gone = format!("file:{}", world.sign("gone").display());
    let _same = world.config(&[(OTHER, &gone, "")]);
    serve.signal(Signal::SIGHUP);
    world.until_answered(OTHER, false);
}

#[test]
fn checks_are_shown_as_the_configuration_that_apply_takes_and_saved_where_they_stand() {
    let Some(world) = World::new(&[]) else { return };
    let host = &world.pair.host;
    let config = world.config(&[
        (
            VIP,
            "file:/run/healthy",
            "timeout = \"250ms\"\nrise = 1\nfall = 9\nunhealthy = \"drop\"   # hidden",
        ),
        ("2001:db8:7::/64", "tcp:[::1]:443", ""),
    ]);
    let attached = ctl::run(host, &format!("attach {HOST_IF} -f {config}"));
    assert!(attached.stderr.contains("until `icmp-ctl serve` finds them healthy"), "{attached}");
    for keeps_file in [true, false] {
        if !keeps_file {
            fs::remove_file(&config).expect("it was there");
        }
        let shown = ctl::run(host, "show config").expect_success();
        let done = ctl::run(host, &format!("apply -f {} --check", world.folder.file("shown.toml", &shown)));
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "no change\n"), "{done}\n{shown}");
    }
    let config = world.config(&[
        ("2001:db8:7::/64", "tcp:[::1]:443", "# of the web"),
        (VIP, "file:/run/healthy", "fall = 9"),
    ]);
    let done = ctl::run(host, &format!("apply -f {config}")).expect_success();
    assert!(done.contains("+ responder.vip: 198.51.100.7/32 while file:/run/healthy every 100ms within 1s, rise 2 fall 9, otherwise pass"), "{done}");
    let saved = world.folder.file(
        "saved.toml",
        &fs::read_to_string(&config).expect("it is there").replace("fall = 9", "fall = 4"),
    );
    let done = ctl::run(host, &format!("limit set errors 70/s --save={saved}"));
    let text = fs::read_to_string(&saved).expect("it is there");
    assert!(text.contains("fall = 9") && text.contains("# of the web"), "{done}\n{text}");
}

#[test]
fn a_check_that_cannot_be_and_one_vip_too_many_are_refused_where_they_stand() {
    let Some(world) = World::new(&[]) else { return };
    let refused = |vips: &str, why: &[&str]| {
        let config = world.folder.file("wrong.toml", vips);
        let done = ctl::run(&world.pair.host, &format!("apply -f {config} --check"));
        assert_eq!(done.code, Some(1), "{done}");
        for part in why {
            assert!(done.stderr.contains(part), "{part} in {done}");
        }
    };
    let vip = |number: u32, more: &str| {
        format!(
            "[[responder.vip]]\nprefix = \"198.51.100.{number}\"\ncheck = \"file:/run/{number}\"\n{more}\n"
        )
    };
    let many: String = (0..33).map(|number| vip(number, "")).collect();
    refused(&many, &["error at line 129,", "there is room for 32 VIPs with a check, and there are more"]);
    refused(
        &vip(1, "interval = \"10ms\""),
        &["error at line 4, column 12", "10ms is not between 100ms and 3600s"],
    );
    refused(&vip(1, "fall = 0"), &["error at line 4, column 8", "at least 1"]);
    refused(
        &vip(1, "unhealthy = \"dropp\""),
        &["error at line 4, column 13", "there are pass, drop; did you mean drop?"],
    );
    refused(&vip(1, "up = 1"), &["no key is called \"up\" here"]);
    refused(&(vip(1, "") + &vip(1, "")), &["error at line 6, column 10", "has a check already"]);
    refused("[[responder.vip]]\nprefix = \"198.51.100.1\"\n", &["the key \"check\" is missing"]);
    refused(
        "[[responder.vip]]\nprefix = \"198.51.100.1\"\ncheck = \"tcp:localhost:80\"\n",
        &["error at line 3, column 9", "names are not looked up"],
    );
}
