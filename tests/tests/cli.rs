//! Exit codes, messages and JSON of `icmp-ctl`, and that the program outlives the command that attached it.
//!
//! Owns the contract that scripts rely on. Other tests prove what the program does to frames.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use icmp_common::abi::VERSION;
use icmp_ctl::instance::pins::View;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, HOST_IPV4, HOST_IPV6, Namespace, PEER_IF, Pair};
use icmp_tests::process::{self, Watch};
use icmp_tests::xdp::PassLink;
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const NOTHING_LOADED: Option<i32> = Some(3);
const PERMISSION: Option<i32> = Some(4);
const REFUSED_BY_KERNEL: Option<i32> = Some(5);

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn attach_returns_and_the_program_stays_until_detach() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let done = ctl::run(host, &format!("attach {HOST_IF} --mode native"));
    assert_eq!(done.code, DONE, "{done}");
    assert!(host.ip(&format!("link show {HOST_IF}")).contains("xdp"), "natively attached");
    ping(&pair, "192.0.2.2");
    assert_eq!((ctl::counters(host, HOST_IF).packets("answered"), host.snmp("Icmp", "InEchos")), (1, 0));

    let done = ctl::run(host, &format!("detach {HOST_IF}"));
    assert_eq!(done.code, DONE, "{done}");
    assert!(!host.ip(&format!("link show {HOST_IF}")).contains("xdp"), "nothing is attached");
    assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
    ping(&pair, "192.0.2.2");
    assert_eq!(host.snmp("Icmp", "InEchos"), 1, "the stack answers again");
}

#[test]
fn attaching_twice_is_done_and_says_so() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let before = program_id(&pair.host);
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF}"));
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.output().contains("already attached"), "{done}");
    assert_eq!(program_id(&pair.host), before, "the program is the same");
}

#[test]
fn an_interface_whose_name_is_no_utf_8_is_shown_escaped_and_stays_attached() {
    let Some(pair) = pair(&["ip"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    host.ip(&format!("link set {HOST_IF} down"));
    let mut rename = host.command("ip");
    rename.args(["link", "set", HOST_IF, "name"]).arg(OsStr::from_bytes(b"odd\xff"));
    let _said = process::run(&mut rename).expect_success();
    // A change, which takes the program off what has moved away.
    let done = ctl::run(host, "limit set errors 900/s");
    assert_eq!(done.code, DONE, "{done}");
    assert!(!done.stderr.contains("moved"), "{done}");
    let status = ctl::run(host, "status").expect_success();
    assert!(status.contains("odd\\xff") && status.contains("native"), "{status}");
    // Both a pattern, which leaves it out, and its name are answered with what changes that.
    for name in ["odd*", "odd\\xff"] {
        let refused = ctl::run(host, &format!("attach {name}"));
        assert_eq!(refused.code, FAILED, "{refused}");
        assert!(refused.stderr.contains("no UTF-8"), "{refused}");
        assert!(refused.stderr.contains("`ip link set dev $'odd\\xff' name NAME`"), "{refused}");
    }
    let _said = ctl::run(host, "detach odd\\xff").expect_success();
    assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
    let examined = ctl::run(host, "doctor");
    assert!(examined.stdout.contains("no UTF-8") && examined.stdout.contains("odd\\xff"), "{examined}");
}

#[test]
fn a_description_or_another_name_that_is_no_utf_8_costs_an_interface_nothing() {
    let Some(pair) = pair(&["ip", "ping"]) else { return };
    let host = &pair.host;
    let attached = Attached::new(host, HOST_IF);
    for (words, text) in [
        (vec!["set", HOST_IF, "alias"], &b"B\xfcro"[..]),
        (vec!["property", "add", "dev", HOST_IF, "altname"], b"odd\xff"),
    ] {
        let mut change = host.command("ip");
        change.arg("link").args(&words).arg(OsStr::from_bytes(text));
        let _said = process::run(&mut change).expect_success();
        // A change, which takes the program off what has moved away.
        let done = ctl::run(host, "limit set errors 900/s");
        assert!(done.code == DONE && !done.stderr.contains("moved"), "{words:?}: {done}");
        let status = ctl::run(host, "status").expect_success();
        assert!(status.contains(HOST_IF) && status.contains("native"), "{words:?}: {status}");
        let again = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
        assert!(again.contains("already attached"), "{words:?}: {again}");
    }
    let before = attached.counters().packets("answered");
    let _said = pair.peer.ping(&["-c1", "192.0.2.2"]);
    assert_eq!(attached.counters().packets("answered"), before + 1);
    let again = ctl::run(host, "attach odd\\xff").expect_success();
    assert!(again.contains(&format!("{HOST_IF}: already attached")), "by its other name: {again}");
}

#[test]
fn what_is_removed_while_it_is_looked_at_was_not_there() {
    let Some(pair) = pair(&["ip"]) else { return };
    let host = &pair.host;
    for comes_back in [false, true] {
        let _attached = Attached::new(host, HOST_IF);
        let looks = AtomicU32::new(0);
        let seen = host.enter(|| {
            View::look(|view| {
                if looks.fetch_add(1, Ordering::Relaxed) == 0 {
                    let _said = ctl::run(host, "detach --all").expect_success();
                    if comes_back {
                        let _said =
                            ctl::run(host, &format!("attach {HOST_IF} --mode native")).expect_success();
                    }
                }
                Ok((view.build(), view.links()?.len()))
            })
        });
        let seen = seen.expect("it can be looked at");
        assert_eq!(seen.as_ref().map(|(_, links)| *links), comes_back.then_some(1));
        assert!(seen.is_none_or(|(build, _)| build != "unknown"));
    }
}

#[test]
fn another_program_on_the_interface_is_named_and_left_alone() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _other = host.enter(|| PassLink::attach(HOST_IF));
    let id = xdp_id(host).expect("a program");
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    assert_eq!(done.code, FAILED, "{done}");
    // This test holds it by a link.
    let this = format!("(process {})", std::process::id());
    for part in ["test_pass", id.as_str(), HOST_IF, "bpftool link detach id ", this.as_str()] {
        assert!(done.stderr.contains(part), "{part:?} in: {done}");
    }
    assert_eq!(xdp_id(host), Some(id), "it is still there");
    assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED, "nothing of ours is left behind");
}

#[test]
fn a_program_that_is_attached_without_a_link_is_taken_off_by_the_command_that_is_told() {
    let Some(pair) = pair(&["bpftool"]) else { return };
    let host = &pair.host;
    host.ip("link add other0 type veth peer name other1");
    let other = host.enter(|| PassLink::attach("other0"));
    let id = host
        .ip("link show other0")
        .split("prog/xdp id ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    let id = id.expect("a program");
    let _done =
        host.run("bpftool", &["net", "attach", "xdpgeneric", "id", &id, "dev", HOST_IF]).expect_success();
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    let command = format!("ip link set dev {HOST_IF} xdpgeneric off");
    assert!(done.code == FAILED && done.stderr.contains(&command), "{done}");
    host.ip(command.strip_prefix("ip ").expect("it is ip's"));
    let _attached = Attached::new(host, HOST_IF);
    drop(other);
}

#[test]
fn an_attach_that_can_do_nothing_says_so_and_what_helps() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    host.ip("link add idle0 type veth peer name idle1");
    let done = ctl::run(host, "attach idle0 --mode generic");
    for part in ["idle0: is down", "idle0: has no address"] {
        assert!(done.code == DONE && done.stderr.contains(part), "{part:?} in: {done}");
    }
    host.ip("link set idle0 up");
    host.ip("address add 203.0.113.1/24 dev idle0");
    let done = ctl::run(host, "attach idle0");
    assert!(done.code == DONE && !done.stderr.contains("idle0: "), "{done}");

    host.ip("link add br0 type bridge");
    host.ip(&format!("link set {HOST_IF} master br0"));
    host.ip("address add 192.0.2.3/24 dev br0");
    host.ip("link set br0 up");
    let state = |state| host.run("bridge", &["link", "set", "dev", HOST_IF, "state", state]).expect_success();
    let _blocked = state("0");
    let done = ctl::run(host, &format!("attach {HOST_IF}"));
    let command = "icmp-ctl attach br0 --mode generic";
    assert!(done.code == DONE && done.stderr.contains(command), "{done}");
    let _said = ctl::run(host, command.strip_prefix("icmp-ctl ").expect("it is ours")).expect_success();
    let _forwards = state("3");
    host.ip(&format!("address flush dev {HOST_IF}"));
    ping(&pair, "192.0.2.3");
    assert_eq!(ctl::counters(host, "br0").answered(), 1, "it helps");
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn attaching_to_a_veth_in_native_mode_says_what_its_other_end_needs() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    host.ip("link add veth9 type veth peer name peer9");
    for (mode, is_said) in [("native", true), ("generic", false)] {
        let done = ctl::run(host, &format!("attach veth9 --mode {mode}"));
        assert_eq!((done.code, done.stderr.contains("its other end")), (DONE, is_said), "{done}");
        let _done = ctl::run(host, "detach veth9").expect_success();
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let Some(pair) = pair(&[]) else { return };
    let done = ctl::run(&pair.host, "attach nosuch0");
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains("nosuch0"), "{done}");
    assert_eq!(ctl::run(&pair.host, "status").code, NOTHING_LOADED, "nothing of ours is left behind");
}

#[test]
fn an_interface_in_another_namespace_is_not_here_and_the_message_says_where_to_look() {
    let Some(pair) = pair(&[]) else { return };
    let done = ctl::run(&pair.host, &format!("attach {PEER_IF}"));
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains(PEER_IF) && done.stderr.contains("namespace"), "{done}");
}

#[test]
fn without_root_the_code_is_that_of_missing_permission() {
    let Some(pair) = pair(&["setpriv"]) else { return };
    // Where the other user may go.
    let folder = Folder::new();
    let program = folder.path().join("icmp-ctl");
    fs::copy(ctl::program(), &program).expect("a copy");
    for arguments in [&["attach", HOST_IF][..], &["detach", HOST_IF], &["status"], &["show", "counters"]] {
        let mut command = pair.host.command("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&program)
            .args(arguments);
        let done = process::run(&mut command);
        assert_eq!(done.code, PERMISSION, "{done}");
        assert!(done.stderr.contains("root") || done.stderr.contains("CAP_"), "what is missing: {done}");
    }
}

#[test]
fn a_missing_capability_is_one_sentence_and_others_than_root_may_have_them() {
    let Some(pair) = pair(&["setpriv"]) else { return };
    let folder = Folder::new();
    let program = folder.path().join("icmp-ctl");
    fs::copy(ctl::program(), &program).expect("a copy");
    let as_user = |options: &[&str], arguments: &[&str]| {
        let mut command = pair.host.command("setpriv");
        process::run(command.args(options).arg("--").arg(&program).args(arguments))
    };
    let done = as_user(&["--bounding-set=-perfmon,-sys_admin"], &["attach", HOST_IF]);
    assert_eq!((done.code, done.stderr.lines().count()), (PERMISSION, 1), "{done}");
    assert!(done.stderr.contains("CAP_PERFMON, for the verifier"), "{done}");

    let _attached = Attached::new(&pair.host, HOST_IF);
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let reader =
        [&user[..], &["--inh-caps=+bpf,+dac_override", "--ambient-caps=+bpf,+dac_override"]].concat();
    let done = as_user(&reader, &["show", "limits"]);
    assert!(done.code == DONE && done.stdout.contains("per-source"), "{done}");
    let done = as_user(&reader, &["attach", HOST_IF]);
    assert_eq!(done.code, PERMISSION, "{done}");
    assert!(done.stderr.contains("CAP_NET_ADMIN") && !done.stderr.contains("CAP_BPF"), "{done}");
}

#[test]
fn with_nothing_loaded_there_is_nothing_to_show() {
    let Some(pair) = pair(&[]) else { return };
    for arguments in
        ["status", "status -j", "show counters", "show counters -j", "show addresses", "detach --all"]
    {
        let done = ctl::run(&pair.host, arguments);
        assert_eq!(done.code, NOTHING_LOADED, "{done}");
        assert!(!done.stderr.is_empty(), "a message: {done}");
        assert!(
            !arguments.ends_with("-j") || done.stdout.is_empty() || is_json(&done.stdout),
            "stdout is data: {done}"
        );
    }
}

#[test]
fn what_cannot_be_understood_is_a_usage_error() {
    let Some(pair) = pair(&[]) else { return };
    for arguments in ["", "attach", "attach host0 --mode sideways", "no-such-verb", "show nonsense", "detach"]
    {
        let done = ctl::run(&pair.host, arguments);
        assert_eq!(done.code, USAGE, "{done}");
        assert!(done.stderr.contains("--help"), "how to find out: {done}");
    }
    assert_eq!(ctl::run(&pair.host, "--help").code, DONE);
    let program = ctl::program().to_str().expect("a path in UTF-8");
    for arguments in
        [&["detach", ""][..], &["attach", ""], &["status", ""], &["show", "counters", ""], &["doctor", ""]]
    {
        let done = pair.host.run(program, arguments);
        assert!(done.code == USAGE && done.stderr.contains("a value is required for '[IFACE]...'"), "{done}");
    }
}

#[test]
fn a_refusal_of_the_driver_carries_the_kernels_own_words() {
    if !can_run(&["ip", "nsenter", "ethtool"]) {
        return;
    }
    let (host, peer) = two_queues();
    let done = ctl::run(&host, &format!("attach {HOST_IF} --mode native"));
    assert_eq!(done.code, REFUSED_BY_KERNEL, "{done}");
    assert!(done.stderr.contains("XDP expects number of rx queues"), "veth's message: {done}");
    assert!(done.stderr.contains("generic"), "the way out: {done}");
    assert_eq!(ctl::run(&host, "status").code, NOTHING_LOADED, "nothing of ours is left behind");
    drop(peer);
}

#[test]
fn auto_falls_back_to_generic_and_says_so_loudly() {
    if !can_run(&["ip", "nsenter", "ethtool"]) {
        return;
    }
    let (host, peer) = two_queues();
    let done = ctl::run(&host, &format!("attach {HOST_IF} --mode auto"));
    assert_eq!(done.code, DONE, "{done}");
    for part in ["WARNING", "generic", "XDP expects number of rx queues"] {
        assert!(done.stderr.contains(part), "{part:?} in: {done}");
    }
    assert!(!done.stderr.contains("os error"), "those are the kernel's words: {done}");
    let status = json(&host, "status -j");
    assert_eq!(status["interfaces"][0]["mode"], "generic");
    let _done = ctl::run(&host, "detach --all").expect_success();
    drop(peer);
}

#[test]
fn generic_mode_answers_as_native_does() {
    let Some(pair) = pair(&["ping"]) else { return };
    let attached = Attached::with(&pair.host, HOST_IF, "--mode generic");
    assert!(pair.host.ip(&format!("link show {HOST_IF}")).contains("xdpgeneric"));
    for target in ["192.0.2.2", "2001:db8::2"] {
        ping(&pair, target);
    }
    assert_eq!(attached.counters().packets("answered"), 2);
    assert_eq!(pair.host.snmp("Icmp", "InEchos") + pair.host.snmp("Icmp6", "InEchos"), 0);
}

#[test]
fn a_jumbo_mtu_is_attached_natively() {
    if !can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(9000);
    let attached = Attached::new(&pair.host, HOST_IF);
    for size in ["56", "1472", "8000"] {
        let _said = pair.peer.ping(&["-c1", "-s", size, "192.0.2.2"]);
    }
    let by_program = attached.counters().packets("answered");
    assert_eq!(by_program + pair.host.snmp("Icmp", "InEchos"), 3, "each is answered by one of them");
    assert!(by_program >= 2, "what fits one buffer is answered by the program");
}

#[test]
fn status_tells_what_is_attached_where() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let status = json(&pair.host, "status -j");
    assert_eq!(status["schema"], 1);
    let interface = &status["interfaces"][0];
    assert_eq!((interface["name"].as_str(), interface["mode"].as_str()), (Some(HOST_IF), Some("native")));
    assert_eq!(interface["program_id"].as_u64().map(|id| id.to_string()), xdp_id(&pair.host));
    assert!(interface["tag"].as_str().is_some_and(|tag| tag.len() == 16), "{interface}");
    assert!(!interface["attached_at"].is_null(), "{interface}");
    let text = ctl::run(&pair.host, "status").expect_success();
    assert!(text.contains(HOST_IF) && text.contains("native"), "{text}");
}

#[test]
fn show_addresses_lists_what_the_host_owns() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let document = json(&pair.host, "show addresses -j");
    assert_eq!(document["schema"], 1);
    let (json, text) = (document.to_string(), ctl::run(&pair.host, "show addresses").expect_success());
    for address in HOST_IPV4.iter().chain(&HOST_IPV6) {
        let address = address.split('/').next().expect("before the slash");
        assert!(json.contains(&format!("\"{address}")), "{address} in {json}");
        assert!(text.contains(address), "{address} in {text}");
    }
}

#[test]
fn two_namespaces_with_an_interface_of_the_same_name_never_meet() {
    let (Some(one), Some(other)) = (pair(&["ping"]), pair(&[])) else { return };
    let first = Attached::new(&one.host, HOST_IF);
    let second = Attached::new(&other.host, HOST_IF);
    ping(&one, "192.0.2.2");
    assert_eq!((first.counters().answered(), second.counters().answered()), (1, 0));
    drop(first);
    ping(&other, "192.0.2.2");
    assert_eq!(second.counters().answered(), 1, "detaching in one leaves the other alone");
    assert_eq!(ctl::run(&one.host, "status").code, NOTHING_LOADED);
}

#[test]
fn when_serve_is_killed_the_program_goes_on_answering() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    for (signal, answered) in [(Signal::SIGKILL, 1), (Signal::SIGTERM, 2)] {
        let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
        serve.wait_for("127.0.0.1:9816", LIMIT);
        let code = serve.end_by(signal);
        assert_eq!(code, if signal == Signal::SIGTERM { DONE } else { None });
        ping(&pair, "192.0.2.2");
        assert_eq!(ctl::counters(host, HOST_IF).packets("answered"), answered, "after {signal}");
    }
    assert_eq!(host.snmp("Icmp", "InEchos"), 0);
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused_with_the_line() {
    let Some(pair) = pair(&[]) else { return };
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", "[responder]\necho = true\nehco = true\n");
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF} -f {config}"));
    assert_eq!(done.code, FAILED, "{done}");
    assert!(done.stderr.contains("ehco") && done.stderr.contains("line 3"), "{done}");
    assert_eq!(ctl::run(&pair.host, "status").code, NOTHING_LOADED, "nothing of ours is left behind");
}

#[test]
fn pins_stay_also_where_the_command_itself_sees_no_bpffs() {
    let Some(pair) = pair(&["unshare"]) else { return };
    // As below `ip netns exec`, which mounts a fresh /sys: a mount namespace that ends with the command.
    let script = "while umount /sys/fs/bpf 2>/dev/null; do :; done; \"$0\" attach host0 && \"$0\" status";
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let done = pair.host.run("unshare", &["--mount", "sh", "-c", script, program]);
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stdout.contains(HOST_IF), "{done}");
    assert!(json(&pair.host, "status -j").to_string().contains(HOST_IF), "from outside as well");
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn what_is_detached_can_be_attached_again_at_once() {
    let Some(pair) = pair(&[]) else { return };
    for mode in ["native", "generic"].iter().cycle().take(8) {
        let _said = ctl::run(&pair.host, &format!("attach {HOST_IF} --mode {mode}")).expect_success();
        let _said = ctl::run(&pair.host, &format!("detach {HOST_IF}")).expect_success();
    }
}

#[test]
fn an_interface_named_twice_is_detached_once() {
    let Some(pair) = pair(&[]) else { return };
    let _said = ctl::run(&pair.host, &format!("attach {HOST_IF}")).expect_success();
    let done = ctl::run(&pair.host, &format!("detach {HOST_IF} {HOST_IF}"));
    assert_eq!(done.code, DONE, "{done}");
    assert_eq!(ctl::run(&pair.host, "status").code, NOTHING_LOADED, "nothing is left behind");
}

#[test]
fn serve_puts_the_configuration_it_is_given_in_force() {
    let Some(pair) = pair(&[]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let folder = Folder::new();
    let text =
        format!("interfaces = [\"{HOST_IF}\"]\n[limits]\nper-source = {{ rate = \"7/min\", burst = 9 }}\n");
    let config = folder.file("icmp-ctl.toml", &text);
    let mut serve = Watch::start(&mut ctl::command(&pair.host, &format!("serve -f {config}")));
    serve.wait_for("127.0.0.1:9816", LIMIT);
    assert_eq!(json(&pair.host, "limit show -j")["limits"]["per-source"]["rate"], "7/min");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
}

#[test]
fn an_attach_that_fails_leaves_the_settings_as_they_were() {
    if !can_run(&["ip", "nsenter", "ethtool"]) {
        return;
    }
    let (host, _peer) = two_queues();
    host.ip("link add other0 type veth peer name other1");
    let _attached = Attached::new(&host, "other0");
    let before = ctl::run(&host, "limit show -j").expect_success();
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", "[limits]\nper-source = { rate = \"7/min\", burst = 9 }\n");
    let done =
        ctl::run(&host, &format!("attach {HOST_IF} --mode native -f {config} --disable-rx-vlan-offload"));
    assert_eq!(done.code, REFUSED_BY_KERNEL, "{done}");
    assert_eq!(ctl::run(&host, "limit show -j").expect_success(), before);
    let offloads = host.run("ethtool", &["-k", HOST_IF]).expect_success();
    assert!(offloads.contains("rx-vlan-offload: on"), "{offloads}");
}

#[test]
fn an_attach_that_is_killed_is_no_obstacle_to_the_next() {
    let Some(pair) = pair(&[]) else { return };
    let pins = pair.host.enter(|| fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino());
    let pins = PathBuf::from(format!("/sys/fs/bpf/icmp-ctl/v{VERSION}/{pins}"));
    let _said = ctl::run(&pair.host, &format!("attach {HOST_IF}")).expect_success();
    // Maps are pinned first, then come the programs, and links last.
    let links: Vec<_> = fs::read_dir(pins.join("links")).expect("links").collect();
    for pin in links.into_iter().map(|pin| pin.expect("a link").path()) {
        fs::remove_file(pin).expect("a pin of a link");
    }
    for pin in ["build", "icmp_ctl"] {
        fs::remove_file(pins.join(pin)).expect("a pin");
    }
    // The kernel takes a link without a pin off some time later, and tells nobody.
    let deadline = Instant::now() + LIMIT;
    while xdp_id(&pair.host).is_some() {
        assert!(Instant::now() < deadline, "it is off in {LIMIT:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }

    assert_eq!(ctl::run(&pair.host, "status").code, NOTHING_LOADED);
    let attached = Attached::new(&pair.host, HOST_IF);
    assert_eq!(attached.counters().received, 0);
}

#[test]
fn many_at_once_attach_one_program() {
    let Some(pair) = pair(&[]) else { return };
    let mut started: Vec<_> = (0..4)
        .map(|_| {
            let mut command = ctl::command(&pair.host, &format!("attach {HOST_IF}"));
            std::thread::spawn(move || process::run(&mut command))
        })
        .collect();
    for done in started.drain(..).map(|thread| thread.join().expect("it ran")) {
        assert_eq!(done.code, DONE, "{done}");
    }
    let status = json(&pair.host, "status -j");
    assert_eq!(status["interfaces"].as_array().map(Vec::len), Some(1), "{status}");
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
    assert_eq!(xdp_id(&pair.host), None);
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

fn ping(pair: &Pair, target: &str) {
    let _said = pair.peer.ping(&["-c1", target]);
}

/// A pair whose peer sends on two queues, for which veth wants two receive queues here before it takes a native program.
fn two_queues() -> (Namespace, Namespace) {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    let peer_name = peer.name();
    host.ip(&format!("link add {HOST_IF} type veth peer name {PEER_IF} numtxqueues 2 netns {peer_name}"));
    host.ip(&format!("address add 192.0.2.2/24 dev {HOST_IF}"));
    host.ip(&format!("link set {HOST_IF} up"));
    peer.ip(&format!("link set {PEER_IF} up"));
    // Kernels differ in how many of the queues they open by themselves.
    let _done = peer.run("ethtool", &["-L", PEER_IF, "tx", "2"]).expect_success();
    (host, peer)
}

/// Number of the XDP program on the host's interface, as `ip` tells it.
fn xdp_id(host: &Namespace) -> Option<String> {
    let link = host.ip(&format!("link show {HOST_IF}"));
    let behind = link.split("prog/xdp id ").nth(1)?;
    behind.split_whitespace().next().map(str::to_owned)
}

fn program_id(host: &Namespace) -> String {
    xdp_id(host).expect("a program is attached")
}

fn json(namespace: &Namespace, arguments: &str) -> Value {
    let text = ctl::run(namespace, arguments).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {text}"))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

#[test]
fn the_version_is_told_without_root_or_kernel() {
    let mut command = Command::new(ctl::program());
    let done = process::run(command.arg("--version"));
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stdout.contains(env!("CARGO_PKG_VERSION")), "{done}");
}
