//! `doctor` finds problems, says how bad they are, and names the command that solves each.
//!
//! Owns the findings that can be provoked in a namespace, each with its cure. Findings about drivers, queues and control groups are tested
//! beside the checks.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use icmp_ctl::host::netlink::Network;
use icmp_ctl::instance::pins::Instance;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::filters::refuse_bpf;
use icmp_tests::netns::{HOST_IF, Namespace, PEER_IF, Pair};
use icmp_tests::process::{self, Finished};
use icmp_tests::xdp::PassLink;
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const LIMIT: Duration = Duration::from_secs(40);

/// Makes something wrong in a namespace.
type Provoke = fn(&Namespace);

/// What `doctor -j` has found, and its exit code.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    fn of(done: &Finished) -> Self {
        let document: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("doctor -j: {e}\n{done}"));
        assert_eq!(document["schema"], 1, "{done}");
        let findings = document["findings"].as_array().expect("a list").clone();
        for finding in &findings {
            for key in ["check", "state", "what", "why"] {
                assert!(finding[key].is_string(), "{key} in {finding}");
            }
            assert!(
                finding["why"] != "" || finding["state"] == "fine" || finding["state"] == "broken",
                "{finding}"
            );
        }
        let is_broken = findings.iter().any(|finding| finding["state"] == "broken");
        assert_eq!(done.code, if is_broken { FAILED } else { DONE }, "{done}");
        Self { code: done.code, findings }
    }

    /// The worst finding of a check.
    fn worst(&self, check: &str) -> &Value {
        let rank = |finding: &Value| {
            ["fine", "unknown", "slow", "broken"].iter().position(|state| finding["state"] == *state)
        };
        let of_check = self.findings.iter().filter(|finding| finding["check"] == check);
        of_check
            .max_by_key(|finding| rank(finding))
            .unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings))
    }

    fn state(&self, check: &str) -> &str {
        self.worst(check)["state"].as_str().expect("a word")
    }
}

fn doctor(namespace: &Namespace, interface: &str) -> Found {
    Found::of(&ctl::run(namespace, &format!("doctor {interface} -j")))
}

/// Runs a command line of a finding, as whoever reads it would.
fn cure(namespace: &Namespace, finding: &Value) {
    let command = finding["fix"].as_str().unwrap_or_else(|| panic!("no command in {finding}"));
    let folder = ctl::program().parent().expect("a program is in a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let done = process::run(namespace.command("sh").args(["-c", command]).env("PATH", path));
    assert_eq!(done.code, DONE, "{done}");
}

/// A host with a peer whose end has the program that answers need.
fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

#[test]
fn a_pattern_means_what_it_means_for_attach() {
    let Some(pair) = pair(&[]) else { return };
    let examined = |pattern: &str| {
        let found = doctor(&pair.host, pattern).findings.into_iter();
        let of: BTreeSet<_> =
            found.filter_map(|finding| Some(finding["interface"].as_str()?.to_owned())).collect();
        of.into_iter().collect::<Vec<_>>()
    };
    pair.host.ip("link add hosting type veth peer name other0");
    assert_eq!(examined("host?"), [HOST_IF]);
    assert_eq!(examined("host*"), [HOST_IF, "hosting"]);
    let none = doctor(&pair.host, "eth*");
    assert!(none.worst("link")["what"].as_str().is_some_and(|what| what.contains("no interface eth*")));
}

#[test]
fn a_healthy_host_is_fine_line_by_line() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let done = ctl::run(&pair.host, "doctor");
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stderr.is_empty(), "{done}");
    // What comes in meanwhile is the peer's to say.
    let (done_before, frames) = done.stdout.rsplit_once("fine    frames ").expect("it is the last check");
    assert_eq!(frames.lines().count(), 1, "{done}");
    let (host, interface) =
        done_before.split_once(&format!("{HOST_IF}\n")).expect("the interface is named above");
    assert_eq!(
        interface,
        "\
fine    programs        no other XDP program is on it
fine    native-mode     runs in native mode, driver veth
fine    merging         no frames are merged in the way of native mode
fine    link            is up
fine    addresses       pings are for it, or for a VLAN device on it
fine    vlan-tags       in the frame, or no VLANs to tell apart
fine    mtu             1500, every frame fits one buffer
fine    traffic-control nothing at ingress and egress
fine    peer            its other end has an XDP program
",
        "{done}"
    );
    for line in host.lines() {
        assert!(line.starts_with("fine    ") && line.chars().count() <= 80, "{line}");
    }
    let checks: Vec<_> = host.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let expected = "kernel capabilities bpffs btf jit memory clock pins instance configuration sysctl sysctl packet-filter";
    assert_eq!(checks.join(" "), expected);
}

#[test]
fn what_is_broken_or_slow_is_found_and_its_command_ends_it() {
    let Some(pair) = pair(&["sysctl"]) else { return };
    let host = &pair.host;
    let provoked: [(&str, &str, Provoke); 5] = [
        ("link", "broken", |host| drop(host.ip("link set host0 down"))),
        ("mtu", "broken", |host| drop(host.ip("link set host0 mtu 1200"))),
        ("sysctl", "broken", |host| host.sysctl("net/ipv4/icmp_echo_ignore_all", "1")),
        ("sysctl", "broken", |host| host.sysctl("net/ipv6/icmp/echo_ignore_all", "1")),
        ("addresses", "slow", |host| {
            host.ip("link add br0 type bridge");
            host.ip("link set host0 master br0");
            host.ip("link set br0 up");
            let _blocked =
                host.run("bridge", &["link", "set", "dev", HOST_IF, "state", "0"]).expect_success();
        }),
    ];
    for (check, state, provoke) in provoked {
        assert_eq!(doctor(host, HOST_IF).state(check), "fine", "{check} before");
        provoke(host);
        let found = doctor(host, HOST_IF);
        assert_eq!(found.state(check), state, "{:#?}", found.findings);
        cure(host, found.worst(check));
        assert_eq!(doctor(host, HOST_IF).state(check), "fine", "{check} after {}", found.worst(check)["fix"]);
    }
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn the_command_that_helps_has_an_interface_as_one_word_whatever_it_is_called() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    const NAME: &str = "a;b'$(id)&";
    for name in [NAME, "plain.7"] {
        let _made =
            host.run("ip", &["link", "add", name, "type", "veth", "peer", "name", "other"]).expect_success();
        let found = doctor(host, name);
        assert_eq!(found.state("link"), "broken", "{:#?}", found.findings);
        cure(host, found.worst("link"));
        assert_eq!(doctor(host, name).state("link"), "fine");
        let found = doctor(host, name);
        cure(host, found.worst("peer"));
        assert_eq!(doctor(host, name).state("peer"), "fine");
        let plain = found.worst("peer")["fix"].as_str().is_some_and(|fix| !fix.contains('\''));
        assert_eq!(plain, name != NAME);
        let _done = ctl::run(host, &format!("detach {name}")).expect_success();
        let _gone = host.run("ip", &["link", "del", "other"]).expect_success();
    }
}

#[test]
fn a_veth_whose_other_end_has_no_program_is_broken_and_generic_mode_ends_it() {
    if !can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::without_program(1500);
    let found = doctor(&pair.host, HOST_IF);
    assert_eq!(found.state("peer"), "broken", "{:#?}", found.findings);
    // Whoever attaches is told the same, with the command for one that is attached.
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF}"));
    assert!(done.code == DONE && done.stderr.contains("WARNING: host0: is a veth"), "{done}");
    let found = doctor(&pair.host, HOST_IF);
    cure(&pair.host, found.worst("peer"));
    let found = doctor(&pair.host, HOST_IF);
    assert_eq!((found.state("peer"), found.state("native-mode"), found.code), ("fine", "fine", DONE));
    let _text = pair.peer.ping(&["-c1", "192.0.2.2"]);
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
    // A program there ends it as well.
    let _pass = pair.peer.enter(|| PassLink::attach(PEER_IF));
    assert_eq!(doctor(&pair.host, HOST_IF).state("peer"), "fine");
}

#[test]
fn another_xdp_program_is_broken_and_the_command_takes_it_off() {
    let Some(pair) = pair(&["bpftool"]) else { return };
    let _other = pair.host.enter(|| PassLink::attach(HOST_IF));
    let found = doctor(&pair.host, HOST_IF);
    let worst = found.worst("programs");
    assert!(
        worst["state"] == "broken" && worst["what"].as_str().expect("text").contains("test_pass"),
        "{worst}"
    );
    cure(&pair.host, worst);
    assert_eq!(doctor(&pair.host, HOST_IF).state("programs"), "fine");
}

#[test]
fn frames_that_do_not_fit_the_buffer_of_a_driver_are_slow_and_a_smaller_mtu_ends_it() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let made = host.run("ip", &["tuntap", "add", "tap0", "mode", "tap"]);
    if made.code != DONE {
        println!("skipped: this machine has no taps: {made}");
        return;
    }
    host.ip("link set tap0 mtu 9000 up");
    let found = doctor(host, "tap0");
    assert_eq!(found.state("mtu"), "slow", "{:#?}", found.findings);
    assert_eq!(found.worst("mtu")["what"], "has an MTU of 9000");
    cure(host, found.worst("mtu"));
    assert_eq!(doctor(host, "tap0").state("mtu"), "fine");
    // Without native mode there is no driver's buffer: lo's MTU is 65536, and stays so.
    assert_eq!(doctor(host, "lo").state("mtu"), "fine");
}

#[test]
fn a_packet_filter_is_broken_where_it_refuses_every_ping_and_unknown_where_it_may() {
    let Some(pair) = pair(&["nft"]) else { return };
    let host = &pair.host;
    let filter = |rule: &str| {
        let rules = format!(
            "flush ruleset\ntable inet t {{\nchain c {{\ntype filter hook input priority 0\n{rule}\n}}\n}}\n"
        );
        let folder = icmp_tests::folder::Folder::new();
        let file = folder.file("rules.nft", &rules);
        let _done = host.run("nft", &["-f", &file]).expect_success();
        doctor(host, HOST_IF)
    };
    for (rule, expected) in [
        ("icmp type echo-request drop", "broken"),
        ("ip saddr 10.9.0.0/24 drop", "unknown"),
        ("tcp dport 22 drop", "fine"),
    ] {
        let found = filter(rule);
        assert_eq!(found.state("packet-filter"), expected, "{rule}: {:#?}", found.findings);
        let worst = found.worst("packet-filter");
        assert!(expected == "fine" || worst["what"].as_str().expect("text").contains(rule), "{worst}");
        // Whoever runs every command that is printed must not have lost the firewall.
        assert_eq!(worst["fix"], Value::Null, "{worst}");
    }
}

#[test]
fn filters_of_traffic_control_that_answered_pings_do_not_reach_are_named() {
    let Some(pair) = pair(&["tc"]) else { return };
    let host = &pair.host;
    let _done = host.run("tc", &["qdisc", "add", "dev", HOST_IF, "clsact"]).expect_success();
    assert_eq!(doctor(host, HOST_IF).state("traffic-control"), "fine", "there are none yet");
    let filter =
        ["filter", "add", "dev", HOST_IF, "ingress", "protocol", "ip", "u32", "match", "u32", "0", "0"];
    let made = host.run("tc", &filter);
    if made.code != DONE {
        println!("skipped: this kernel has no u32 filters: {made}");
        return;
    }
    let found = doctor(host, HOST_IF);
    let worst = found.worst("traffic-control");
    assert!(worst["state"] == "unknown" && worst["what"].as_str().expect("text").contains("u32"), "{worst}");
}

#[test]
fn filters_at_the_egress_and_on_the_bridge_above_are_named_with_their_device_and_hook() {
    let Some(pair) = pair(&["tc"]) else { return };
    let host = &pair.host;
    let tc = |words: &str| host.run("tc", &words.split(' ').collect::<Vec<_>>());
    let filter = |place: &str| tc(&format!("filter add {place} protocol ip u32 match u32 0 0"));
    host.ip("link add br0 type bridge");
    host.ip("link set br0 up");
    host.ip(&format!("link set {HOST_IF} master br0"));
    for (device, qdisc, place, said) in [
        (HOST_IF, "clsact", "dev host0 egress", "egress of host0"),
        (HOST_IF, "clsact", "dev host0 ingress chain 5", "ingress of host0"),
        (HOST_IF, "egress_block 5 clsact", "block 5", "egress of host0"),
        // A qdisc of the ingress alone lists its filters at whatever hook it is asked about.
        (HOST_IF, "handle ffff: ingress", "dev host0 parent ffff:", "ingress of host0"),
        (HOST_IF, "root handle 1: htb", "dev host0 parent 1:", "egress of host0"),
        (HOST_IF, "root handle 1: htb", "dev host0 parent 1:7", "egress of host0"),
        (HOST_IF, "root handle 1: htb", "dev host0 parent 1:7 chain 5", "egress of host0"),
        ("br0", "clsact", "dev br0 ingress", "ingress of br0"),
        ("br0", "clsact", "dev br0 egress", "egress of br0"),
        ("br0", "root handle 1: htb", "dev br0 parent 1:7", "egress of br0"),
    ] {
        let mut made = vec![tc(&format!("qdisc add dev {device} {qdisc}"))];
        if place.contains("1:7") {
            made.push(tc(&format!("class add dev {device} parent 1: classid 1:7 htb rate 1gbit")));
        }
        made.push(filter(place));
        if let Some(failed) = made.iter().find(|made| made.code != DONE) {
            println!("skipped: this kernel has none of these: {failed}");
        } else {
            let found = doctor(host, HOST_IF);
            let there = found.findings.iter().filter(|finding| finding["check"] == "traffic-control");
            let there: Vec<_> =
                there.map(|finding| (finding["state"].as_str(), finding["what"].as_str())).collect();
            let [(Some("unknown"), Some(what))] = there[..] else {
                panic!("{device} {qdisc} {place}: {there:?}");
            };
            let said = format!("at the {said} is a u32 filter");
            assert!(what.starts_with(&said), "{device} {qdisc} {place}: {what}");
            let attached = ctl::run(host, &format!("attach {HOST_IF}"));
            assert!(attached.stderr.contains(&said), "{attached}");
            let _done = ctl::run(host, &format!("detach {HOST_IF}")).expect_success();
        }
        let kind = qdisc.split(' ').find(|word| ["root", "ingress"].contains(word)).unwrap_or("clsact");
        let _undone = tc(&format!("qdisc del dev {device} {kind}"));
    }
}

#[test]
fn an_address_that_may_not_be_used_yet_is_named() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    // For as long as this test takes, the kernel asks whether another host has it.
    host.sysctl("net/ipv6/conf/host0/accept_dad", "1");
    host.sysctl("net/ipv6/conf/host0/dad_transmits", "100");
    host.ip("address add 2001:db8::99/64 dev host0");
    let found = doctor(host, HOST_IF);
    let worst = found.worst("addresses");
    assert!(worst["state"] == "unknown" && worst["what"] == "2001:db8::99 is not answered", "{worst}");
    host.ip("address del 2001:db8::99/64 dev host0");
    assert_eq!(doctor(host, HOST_IF).state("addresses"), "fine");
}

#[test]
fn vlans_whose_tags_are_not_seen_are_slow() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    // As an ethernet interface of its own it may be a VLAN device, for what is seen of it from here.
    let container = Namespace::new("container");
    host.ip(&format!("link add link {HOST_IF} name above type macvlan mode passthru"));
    host.ip(&format!("link set above netns {}", container.name()));
    container.ip("link set above up");
    let found = doctor(host, HOST_IF);
    assert_eq!(found.state("vlan-tags"), "slow", "{:#?}", found.findings);
}

#[test]
fn pins_that_others_could_touch_are_broken_and_the_command_ends_it() {
    let Some(pair) = pair(&["unshare"]) else { return };
    // Mounts of its own, so that the system's pins stay as they are.
    let script = format!(
        "while umount /sys/fs/bpf 2>/dev/null; do :; done; mount -t bpf bpf /sys/fs/bpf; mkdir /sys/fs/bpf/icmp-ctl
         chmod 755 /sys/fs/bpf/icmp-ctl; $0 doctor {HOST_IF} -j || true
         chmod 700 /sys/fs/bpf/icmp-ctl; chmod 777 /sys/fs/bpf; $0 doctor {HOST_IF} -j || true
         chown root /sys/fs/bpf && chmod 1777 /sys/fs/bpf; $0 doctor {HOST_IF} -j"
    );
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let arguments = ["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script, program];
    let done = pair.host.run("unshare", &arguments);
    let pins = |line: &str| -> (String, Value) {
        let document: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {done}"));
        let findings = document["findings"].as_array().expect("a list");
        let pins = findings.iter().find(|finding| finding["check"] == "pins").expect("a finding");
        (pins["state"].as_str().expect("a word").to_owned(), pins["fix"].clone())
    };
    let found: Vec<_> = done.stdout.lines().map(pins).collect();
    let expected = [
        ("broken".to_owned(), Value::from("chmod 700 /sys/fs/bpf/icmp-ctl")),
        ("broken".to_owned(), Value::from("chown root /sys/fs/bpf && chmod 1777 /sys/fs/bpf")),
        ("fine".to_owned(), Value::Null),
    ];
    assert_eq!(found, expected, "{done}");
    assert_eq!(done.code, DONE, "{done}");
}

#[test]
fn who_lacks_a_capability_is_told_which_and_sees_the_rest() {
    let Some(pair) = pair(&["setpriv"]) else { return };
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let as_user = |options: &[&str]| {
        let arguments = [options, &["--", program, "doctor", HOST_IF, "-j"]].concat();
        Found::of(&pair.host.run("setpriv", &arguments))
    };
    let found = as_user(&["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"]);
    let worst = found.worst("capabilities");
    let what = worst["what"].as_str().expect("text");
    assert!(
        worst["state"] == "broken" && what.contains("CAP_BPF") && !what.contains("CAP_NET_ADMIN"),
        "{worst}"
    );

    let _attached = Attached::new(&pair.host, HOST_IF);
    let found = as_user(&["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    assert_eq!(found.state("capabilities"), "broken", "{:#?}", found.findings);
    for not_seen in ["instance", "traffic-control"] {
        assert_eq!(found.state(not_seen), "unknown", "what it could not look at: {:#?}", found.findings);
    }
    for seen in ["kernel", "link", "mtu"] {
        assert_eq!(found.state(seen), "fine", "{:#?}", found.findings);
    }
}

#[test]
fn an_interface_that_is_not_there_is_broken_and_the_others_are_named() {
    let Some(pair) = pair(&[]) else { return };
    let found = doctor(&pair.host, "eth9");
    let worst = found.worst("link");
    assert!(worst["what"].as_str().expect("text").contains(HOST_IF), "{worst}");
}

#[test]
fn every_check_is_in_the_documentation() {
    let Some(pair) = pair(&[]) else { return };
    let documented = include_str!("../../docs/doctor.md");
    for finding in doctor(&pair.host, HOST_IF).findings {
        let check = finding["check"].as_str().expect("a name");
        assert!(documented.contains(&format!("\n| `{check}` |")), "{check} in docs/doctor.md");
    }
}

/// As a bond's port does that the program knows nothing of: it runs there, and takes no frame for its own.
#[test]
fn frames_that_the_link_counts_and_the_program_does_not_are_said_by_doctor_and_status() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let status = || ctl::run(host, "status").stderr;
    assert_eq!(doctor(host, HOST_IF).state("frames"), "fine");
    host.enter(|| {
        let network = Network::read_once().expect("it tells");
        let index = network.link(HOST_IF).expect("it is there").index;
        let mut instance = Instance::open().expect("it is loaded");
        instance.maps.remove_interface(index).expect("written");
    });
    assert_eq!(status(), "", "an interface on which nothing comes in is none that frames go past");
    let mut ping = pair.peer.watch("ping", &["-i0.05", "-q", "-c2000", "192.0.2.2"]);
    // Each look takes a second.
    let deadline = Instant::now() + LIMIT;
    while !status().contains("the program has seen none of them") {
        assert!(Instant::now() < deadline, "frames come in");
    }
    let found = doctor(host, HOST_IF);
    let finding = found.worst("frames");
    assert_eq!((&finding["state"], found.code), (&Value::from("broken"), FAILED), "{finding}");
    cure(host, finding);
    assert_eq!(doctor(host, HOST_IF).worst("frames")["what"], "the program sees what comes in");
    assert_eq!(status(), "");
    ping.end_by(Signal::SIGTERM);
}

#[test]
fn a_filter_that_refuses_bpf_is_no_missing_capability_and_no_fault_of_the_kernel() {
    let Some(pair) = pair(&[]) else { return };
    for verb in ["attach", "status", "doctor"] {
        let arguments = if verb == "attach" { format!("attach {HOST_IF}") } else { verb.to_owned() };
        let mut command = ctl::command(&pair.host, &arguments);
        // SAFETY: what is called before exec only makes two system calls.
        unsafe { command.pre_exec(refuse_bpf) };
        let done = process::run(&mut command);
        assert_ne!(done.code, DONE, "{done}");
        let said = format!("{}{}", done.stdout, done.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["by a filter of system calls (seccomp)", "a profile that allows bpf(2) with CAP_BPF"] {
            assert!(said.contains(words), "{words}: {done}");
        }
    }
}
