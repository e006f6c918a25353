//! The parts of an instance: pins that only root may touch, a lock that strangers cannot have, links that follow their interfaces.
//!
//! Owns who may do what with an instance, and what stays of it when interfaces, mounts and processes go away.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};
use std::{fs, path::PathBuf};

use icmp_common::abi::{MAX_INTERFACES, VERSION};
use icmp_ctl::host::netlink::Network;
use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::netns::{HOST_IF, Namespace, Pair, join};
use icmp_tests::process::{Finished, Watch};
use icmp_tests::xdp::PassLink;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const NOTHING_LOADED: Option<i32> = Some(3);

const LIMIT: Duration = Duration::from_secs(60);
const ROOT: &str = "/sys/fs/bpf/icmp-ctl";

/// Runs a script in the namespace with a BPF file system, processes and mounts of its own, as in a container; `$ctl` is icmp-ctl.
fn in_a_container(namespace: &Namespace, script: &str) -> Finished {
    let script = format!("ctl=$0; while umount /sys/fs/bpf 2>/dev/null; do :; done; {script}");
    let program = ctl::program().to_str().expect("a path in UTF-8");
    namespace.run("unshare", &["--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", &script, program])
}

#[test]
fn pins_below_a_directory_that_another_user_made_are_not_believed() {
    let Some(pair) = pair(&["unshare", "setpriv"]) else { return };
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
    for make in ["mkdir /sys/fs/bpf/icmp-ctl", "ln -s /tmp /sys/fs/bpf/icmp-ctl"] {
        let done = in_a_container(
            &pair.host,
            &format!(
                "mount -t bpf bpf /sys/fs/bpf; {nobody} {make}
                 for verb in 'attach {HOST_IF}' status 'detach --all'; do
                     if $ctl $verb; then exit 9; else test $? = 1; fi
                 done
                 rm -r /sys/fs/bpf/icmp-ctl; $ctl attach {HOST_IF}; stat -c %a:%u /sys/fs/bpf/icmp-ctl; $ctl detach --all"
            ),
        );
        assert_eq!(done.code, DONE, "{done}");
        let refusals =
            done.stderr.lines().filter(|line| line.contains("`rm -r /sys/fs/bpf/icmp-ctl`")).count();
        assert_eq!(refusals, 3, "each says what ends it: {done}");
        assert!(done.stdout.contains("700:0"), "{done}");
    }
}

#[test]
fn a_pin_directory_that_others_may_enter_or_replace_is_refused_with_the_command_that_ends_it() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let done = in_a_container(
        &pair.host,
        &format!(
            "mount -t bpf bpf /sys/fs/bpf; mkdir /sys/fs/bpf/icmp-ctl; chmod 755 /sys/fs/bpf/icmp-ctl
             if $ctl attach {HOST_IF}; then exit 9; fi
             chmod 700 /sys/fs/bpf/icmp-ctl; chmod 777 /sys/fs/bpf
             if $ctl attach {HOST_IF}; then exit 9; fi
             chmod 1777 /sys/fs/bpf; $ctl attach {HOST_IF}; $ctl detach --all"
        ),
    );
    assert_eq!(done.code, DONE, "{done}");
    for part in ["`chmod 700 /sys/fs/bpf/icmp-ctl`", "chmod 1777 /sys/fs/bpf`"] {
        assert!(done.stderr.contains(part), "{part} in {done}");
    }
}

#[test]
fn nothing_is_pinned_in_a_file_system_that_is_another_users() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let done = in_a_container(
        &pair.host,
        &format!(
            "mount -t bpf -o uid=65534 bpf /sys/fs/bpf
             if $ctl attach {HOST_IF}; then exit 9; fi
             test ! -e /sys/fs/bpf/icmp-ctl
             chown root /sys/fs/bpf; $ctl attach {HOST_IF}; $ctl detach --all"
        ),
    );
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stderr.contains("`chown root /sys/fs/bpf"), "{done}");
}

#[test]
fn a_user_with_the_capabilities_makes_a_pin_directory_that_is_roots() {
    let Some(pair) = pair(&["unshare", "setpriv"]) else { return };
    let caps = "+bpf,+perfmon,+net_admin,+dac_override";
    let user = |more: &str| {
        format!(
            "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps={caps}{more} --ambient-caps={caps}{more} --"
        )
    };
    let done = in_a_container(
        &pair.host,
        &format!(
            "mount -t bpf bpf /sys/fs/bpf
             if {} $ctl attach {HOST_IF}; then exit 9; fi
             test ! -e /sys/fs/bpf/icmp-ctl
             {} $ctl attach {HOST_IF}; stat -c %a:%u /sys/fs/bpf/icmp-ctl; $ctl status; $ctl detach --all",
            user(""),
            user(",+chown")
        ),
    );
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stderr.contains("CAP_CHOWN") && done.stderr.contains("install -d -m 700"), "{done}");
    assert!(done.stdout.contains("700:0"), "{done}");
}

#[test]
fn what_was_read_before_another_was_waited_for_is_read_again() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    host.ip("link add other0 type veth peer name other1");
    let _said = ctl::run(host, "attach other0").expect_success();
    for (verb, address) in
        [(format!("attach {HOST_IF}"), "198.51.100.101"), ("detach other0".to_owned(), "198.51.100.102")]
    {
        let lock = fs::File::open(ctl::lock_of(host)).expect("a lock");
        let held = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
        let mut waiting = Watch::start(&mut ctl::command(host, &verb));
        waiting.wait_for("waiting for process", LIMIT);
        host.ip(&format!("address add {address}/32 dev {HOST_IF}"));
        drop(held);
        waiting.wait_for("tached", LIMIT);
        let shown = ctl::run(host, "show addresses").expect_success();
        assert!(shown.contains(address), "{verb}: {shown}");
    }
}

#[test]
fn without_proc_a_command_says_what_is_missing_and_what_helps() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let program = ctl::program().to_str().expect("a path in UTF-8");
    for verb in [&["status"][..], &["attach", HOST_IF], &["detach", "--all"], &["serve", "-f", "/dev/null"]] {
        let script = "mount -t tmpfs none /proc; exec \"$@\"";
        let arguments = [&["--mount", "sh", "-ec", script, "sh", program], verb].concat();
        let done = pair.host.run("unshare", &arguments);
        assert_eq!(done.code, FAILED, "{done}");
        assert!(
            done.stderr.contains("/proc/thread-self/ns/net") && done.stderr.contains("mount -t proc"),
            "{done}"
        );
    }
}

#[test]
fn a_program_of_ours_that_comes_or_goes_meanwhile_is_not_taken_for_anothers() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let lock = fs::File::open(ctl::lock_of(host)).expect("a lock");
    let held = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
    // As between the two steps of who has the lock.
    let index = host.enter(|| nix::net::if_::if_nametoindex(HOST_IF)).expect("it is there");
    let (pin, aside) = (pins_of(host).join(format!("links/{index}")), pins_of(host).join("aside"));
    fs::rename(&pin, &aside).expect("both are in the BPF file system");
    let mut attach = Watch::start(&mut ctl::command(host, &format!("attach {HOST_IF}")));
    attach.wait_for("waiting for process", LIMIT);
    fs::rename(&aside, &pin).expect("both are in the BPF file system");
    drop(held);
    attach.wait_for("already attached", LIMIT);
}

#[test]
fn counters_and_addresses_of_an_interface_that_is_gone_have_its_name_and_not_that_of_who_has_its_index() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let create = |name: &str| {
        host.ip(&format!("link add {name} index 1000 type veth peer name peer0"));
        host.ip(&format!("address add 198.51.100.1/24 dev {name}"));
    };
    create("before0");
    let _said = ctl::run(host, "attach before0").expect_success();
    host.ip("link delete before0");
    for after in [false, true] {
        if after {
            create("after0");
        }
        for verb in ["status", "show counters", "show addresses"] {
            let shown = ctl::run(host, verb).expect_success();
            let named = ["before0", "after0", "index"].map(|name| shown.contains(name));
            assert_eq!(named, [true, false, false], "{verb}: {shown}");
        }
    }
}

#[test]
fn alternative_names_are_names_for_whoever_looks() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    host.ip(&format!("link property add dev {HOST_IF} altname another-name-for-it"));
    for verb in ["status", "show counters", "show counters --rate 1ms"] {
        let shown = ctl::run(host, &format!("{verb} another-name-for-it")).expect_success();
        assert!(shown.contains(HOST_IF), "{verb}: {shown}");
    }
}

#[test]
fn an_instance_that_is_not_whole_is_refused_with_the_command_that_removes_it() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let pins = pins_of(host);
    fs::remove_file(pins.join("SETTINGS")).expect("it is pinned");
    let remove = format!("rm -r {}", pins.display());
    for verb in ["status", "detach --all", "limit set errors 2k/s"] {
        let done = ctl::run(host, verb);
        assert_eq!(done.code, FAILED, "{done}");
        assert!(done.stderr.contains(&format!("`{remove}`")), "{done}");
    }
    fs::remove_dir_all(&pins).expect("as that does");
    // The kernel takes its time with links that nobody holds any more.
    host.until("the program is off", LIMIT, || !host.ip(&format!("link show {HOST_IF}")).contains("xdp"));
    let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
}

#[test]
fn an_attachment_is_as_old_as_it_is_also_where_the_clock_was_set_since() {
    let Some(pair) = pair(&["touch"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let network = host.enter(Network::read_once).expect("the kernel tells");
    let index = network.link(HOST_IF).expect("it is there").index;
    let pin = pins_of(host).join(format!("links/{index}"));
    let pin = pin.to_str().expect("a path in UTF-8");
    for clock in ["1970-01-02", "2099-01-01"] {
        let _set = host.run("touch", &["-d", clock, pin]).expect_success();
        let status = ctl::run(host, "status -j").expect_success();
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let interface = &status["interfaces"][0];
        let (age, at) = (interface["age_seconds"].as_u64(), interface["attached_at"].as_u64());
        assert!(age.is_some_and(|age| age < 3600), "{clock}: {interface}");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(at.is_some_and(|at| now - 3600 < at && at <= now), "{clock}: {interface}");
    }
}

#[test]
fn nobody_cannot_hold_the_lock() {
    let Some(pair) = pair(&["flock", "setpriv"]) else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    for path in [PathBuf::from(ROOT), ctl::lock_of(&pair.host)] {
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", "flock"];
        let path = path.to_str().expect("a path in UTF-8");
        let done = pair.host.run("setpriv", &[&nobody[..], &[path, "true"]].concat());
        assert!(done.code != DONE && done.stderr.contains("ermission denied"), "{done}");
    }
}

#[test]
fn who_looks_waits_for_no_lock_and_who_changes_says_for_whom() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let lock = fs::File::open(ctl::lock_of(host)).expect("a lock");
    let held = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
    for verb in [
        "status",
        "show counters",
        "show addresses",
        "show limits",
        "show policy",
        "show sources",
        "rule list",
    ] {
        assert_eq!(ctl::run(host, verb).code, DONE, "{verb}");
    }
    let mut change = Watch::start(&mut ctl::command(host, "limit set replies 5k/s"));
    let said = change.wait_for("waiting for process", LIMIT);
    assert!(said.contains(&format!("process {} (", std::process::id())), "{said}");
    drop(held);
    change.wait_for("5k/s", LIMIT);
}

#[test]
fn of_an_instance_that_is_gone_nothing_is_left() {
    let Some(pair) = pair(&[]) else { return };
    let lock = ctl::lock_of(&pair.host);
    let attached = Attached::new(&pair.host, HOST_IF);
    assert!(lock.exists() && pins_of(&pair.host).exists());
    drop(attached);
    assert!(!lock.exists() && !pins_of(&pair.host).exists());
}

#[test]
fn where_pins_would_be_gone_with_the_container_attach_is_refused_and_names_the_mount() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let done = in_a_container(&pair.host, &format!("$ctl attach {HOST_IF}"));
    assert_eq!(done.code, FAILED, "{done}");
    for part in ["-v /sys/fs/bpf:/sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf"] {
        assert!(done.stderr.contains(part), "{part} in {done}");
    }
    assert!(!pair.host.ip(&format!("link show {HOST_IF}")).contains("xdp"));
}

#[test]
fn pins_are_made_where_they_last_and_not_in_a_mount_that_is_gone_with_the_command() {
    let Some(pair) = pair(&["unshare"]) else { return };
    let script = "mount -t bpf bpf /sys/fs/bpf && \"$0\" attach host0";
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let done = pair.host.run("unshare", &["--mount", "sh", "-c", script, program]);
    assert_eq!(done.code, DONE, "{done}");
    assert!(pair.host.ip(&format!("link show {HOST_IF}")).contains("xdp"), "it stays");
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn an_interface_that_was_moved_is_named_and_detached_from_where_it_is() {
    let Some(pair) = pair(&[]) else { return };
    let (host, other) = (&pair.host, Namespace::new("other"));
    let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
    move_to(host, &other);

    let status = ctl::run(host, "status -j");
    let rows: Value = serde_json::from_str(&status.stdout).unwrap_or_else(|e| panic!("{e}: {status}"));
    let row = &rows["interfaces"][0];
    assert_eq!((row["name"].as_str(), row["mode"].as_str()), (Some(HOST_IF), Some("moved")), "{row}");
    assert!(status.stderr.contains(&format!("icmp-ctl detach {HOST_IF}")), "{status}");

    let attach = ctl::run(&other, &format!("attach {HOST_IF}"));
    assert_eq!(attach.code, FAILED, "{attach}");
    assert!(attach.stderr.contains(&format!("`icmp-ctl detach {HOST_IF}`")), "{attach}");
    let detach = ctl::run(&other, &format!("detach {HOST_IF}"));
    assert_eq!(detach.code, DONE, "{detach}");
    assert!(!has_program(&other), "the command that was named takes it off");
    assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
    assert!(!pins_of(host).exists());
    let _attached = Attached::new(&other, HOST_IF);
}

#[test]
fn an_interface_that_was_moved_is_detached_from_where_it_was() {
    let Some(pair) = pair(&[]) else { return };
    let (host, other) = (&pair.host, Namespace::new("other"));
    for verb in [&format!("detach {HOST_IF}"), "detach --all"] {
        let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
        move_to(host, &other);
        let done = ctl::run(host, verb);
        assert_eq!(done.code, DONE, "{done}");
        assert!(done.stdout.contains(HOST_IF), "{done}");
        assert!(!has_program(&other), "{verb}");
        assert_eq!(ctl::run(host, "status").code, NOTHING_LOADED);
        move_to(&other, host);
    }
}

#[test]
fn whoever_changes_an_instance_takes_it_off_what_was_moved_away() {
    let Some(pair) = pair(&[]) else { return };
    let (host, other) = (&pair.host, Namespace::new("other"));
    host.ip("link add other0 type veth peer name other1");
    let _said = ctl::run(host, &format!("attach {HOST_IF} other0")).expect_success();
    move_to(host, &other);
    let done = ctl::run(host, "limit set replies 5k/s");
    assert_eq!(done.code, DONE, "{done}");
    assert!(done.stderr.contains(HOST_IF), "which one: {done}");
    assert!(!has_program(&other));
    let status: Value = serde_json::from_str(&ctl::run(host, "status -j").expect_success()).expect("JSON");
    assert_eq!(status["interfaces"].as_array().map(Vec::len), Some(1), "{status}");
    let _said = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn an_interface_that_outlives_its_namespace_is_detached_where_it_is_now() {
    let Some(pair) = pair(&[]) else { return };
    let Pair { host, peer, .. } = pair;
    let other = Namespace::new("other");
    let _said = ctl::run(&host, &format!("attach {HOST_IF}")).expect_success();
    move_to(&host, &other);
    drop(host);
    let done = ctl::run(&other, "detach --all");
    assert_eq!(done.code, DONE, "{done}");
    assert!(!has_program(&other), "{done}");
    drop(peer);
}

#[test]
fn an_attach_that_is_killed_before_its_link_is_pinned_leaves_no_slot_taken() {
    let Some(pair) = pair(&[]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    for _ in 0..=MAX_INTERFACES {
        host.ip("link add killed0 type veth peer name killed1");
        let done = ctl::run(host, "attach killed0");
        assert_eq!(done.code, DONE, "{done}");
        // As if it had not come to that.
        let link = host.ip("-o link show killed0");
        let index = link.split(':').next().expect("an index");
        fs::remove_file(pins_of(host).join("links").join(index)).expect("a pin of a link");
        host.ip("link delete killed0");
    }
}

/// The verifier is what an attach waits for, so a program that nobody needs is not verified. The one that is loaded later shares the maps,
/// whose content stays.
#[test]
fn an_entry_point_is_loaded_when_an_interface_needs_it_and_changes_nothing_that_is_in_force() {
    let Some(pair) = pair(&["ping"]) else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let loaded = |program: &str| pins_of(host).join(program).exists();
    assert_eq!([loaded("icmp_ctl"), loaded("icmp_ctl_frags")], [true, false]);
    let _said = ctl::run(host, "limit set per-source 7/h --burst 7").expect_success();
    let limits = ctl::run(host, "limit show -j").expect_success();

    let (jumbo, other) = ("jumbo0", "jumbo1");
    join(host, jumbo, [2, 0, 0, 0, 9, 1], &pair.peer, other, [2, 0, 0, 0, 9, 2], 9000);
    let _xdp = pair.peer.enter(|| PassLink::attach(other));
    host.ip(&format!("address add 198.18.9.1/24 dev {jumbo}"));
    pair.peer.ip(&format!("address add 198.18.9.2/24 dev {other}"));
    let said = ctl::run(host, &format!("attach {jumbo}")).expect_success();
    assert!(said.contains("xdp.frags"), "{said}");
    assert!(loaded("icmp_ctl_frags"));
    assert_eq!(ctl::run(host, "limit show -j").expect_success(), limits);
    // Both programs answer, and out of the same buckets' limit each source gets its seven.
    for target in ["192.0.2.2", "198.18.9.1"] {
        let said = pair.peer.run("ping", &["-q", "-c", "20", "-l", "20", "-W", "1", target]);
        assert!(said.stdout.contains(" 7 received"), "{target}: {said}");
    }
}

#[test]
fn too_few_file_descriptors_are_told_as_that_and_once() {
    let Some(pair) = pair(&["sh"]) else { return };
    let program = ctl::program().display();
    for files in (5..).step_by(3) {
        let attach = format!("ulimit -n {files}; exec {program} attach {HOST_IF}");
        let done = pair.host.run("sh", &["-c", &attach]);
        if done.code == DONE {
            break;
        }
        assert_eq!(done.code, FAILED, "{files}: {done}");
        assert!(!done.stderr.contains("refused the program"), "{files}: {done}");
        assert_eq!(done.stderr.matches("open files").count(), 1, "{files}: {done}");
        assert_eq!(done.stderr.matches("`ulimit -n 1024`").count(), 1, "{files}: {done}");
        assert!(done.stderr.matches("failed to create map").count() <= 1, "{files}: {done}");
        assert_eq!(ctl::run(&pair.host, "status").code, NOTHING_LOADED, "{files}: nothing is left behind");
    }
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn too_few_file_descriptors_are_told_with_what_raises_them_whatever_is_done() {
    let Some(pair) = pair(&["sh"]) else { return };
    let program = ctl::program().display();
    let _attached = Attached::new(&pair.host, HOST_IF);
    for verb in ["status", "show counters", "limit set errors 99/s", "doctor -j"] {
        for files in (5..).step_by(4) {
            let done = pair.host.run("sh", &["-c", &format!("ulimit -n {files}; exec {program} {verb}")]);
            if !done.output().contains("open files") {
                assert_eq!(done.code, DONE, "{verb}, {files}: {done}");
                break;
            }
            assert!(done.output().contains("`ulimit -n 1024`"), "{verb}, {files}: {done}");
            assert!(!done.output().contains("another XDP program"), "{verb}, {files}: {done}");
        }
    }
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

fn move_to(from: &Namespace, to: &Namespace) {
    from.ip(&format!("link set {HOST_IF} netns {}", to.name()));
}

fn has_program(namespace: &Namespace) -> bool {
    namespace.ip(&format!("link show {HOST_IF}")).contains("xdp")
}

fn number(namespace: &Namespace) -> u64 {
    namespace.enter(|| fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino())
}

fn pins_of(namespace: &Namespace) -> PathBuf {
    PathBuf::from(format!("{ROOT}/v{VERSION}/{}", number(namespace)))
}
