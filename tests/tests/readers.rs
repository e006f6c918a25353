//! Looking without root: what members of a group get from `serve`, what others get, and what no user gets that way.
//!
//! Owns the sockets of `serve`. Other tests prove the output of the verbs; here it is the same for root and for a member.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::http;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process;
use icmp_tests::readers::{GROUP, PROGRAM, Readers};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const DONE: Option<i32> = Some(0);
const PERMISSION: Option<i32> = Some(4);
const LIMIT: Duration = Duration::from_secs(40);

const RULE: &str = "
[[policy.rule]]
name = \"a\"
from = [\"10.0.0.0/8\"]
type = \"echo-request\"
action = \"drop\"
";

#[test]
fn a_member_of_the_group_sees_what_root_sees() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, RULE);
    let readers = Readers::start(host, &config, "");
    for verb in [
        "show policy",
        "show policy -v echo-request",
        "show limits",
        "limit show",
        "show addresses",
        "show config",
        "show counters",
        "rule list",
        "peers",
        "peers -j",
        "show policy -j",
        "show config -j",
        "rule list -j",
    ] {
        let (root, member) = (ctl::run(host, verb), readers.member(verb));
        assert_eq!(
            (member.code, &member.stdout, &member.stderr),
            (DONE, &root.stdout, &root.stderr),
            "{verb}"
        );
    }
    // The age of an interface goes on.
    let ageless = |text: String| {
        let mut status: Value = serde_json::from_str(&text).expect("JSON");
        status["interfaces"][0]["age_seconds"] = json!(0);
        status
    };
    let member = readers.member("status -j").expect_success();
    assert_eq!(ageless(member), ageless(ctl::run(host, "status -j").expect_success()));
    assert!(readers.member("show sources").expect_success().contains("no echo request was sampled"));
    assert!(readers.member("show metrics").expect_success().contains("icmp_ctl_build_info"));
    let rates = readers.member("show counters --rate 50ms -j").expect_success();
    let rates: Value = serde_json::from_str(&rates).expect("JSON");
    assert_eq!(rates["interfaces"][0]["name"], HOST_IF);
    // An error is one for both, with its code.
    for verb in ["status nowhere9", "show counters nowhere9 -j", "show policy nonsense"] {
        let (root, member) = (ctl::run(host, verb), readers.member(verb));
        assert_eq!((member.code, &member.stderr), (root.code, &root.stderr), "{verb}");
        assert_eq!(member.code, Some(1), "{member}");
    }
    end(host, readers);
}

#[test]
fn who_may_not_ask_is_told_what_would_let_him() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    let mut readers = Readers::start(host, &config, "");
    let refused = process::run(&mut readers.command(GROUP + 1, "status"));
    assert_eq!(refused.code, PERMISSION, "{refused}");
    assert!(refused.stderr.contains(&format!("usermod -aG {GROUP} ")), "{refused}");
    assert!(refused.stderr.contains("CAP_BPF") && refused.stderr.lines().count() == 1, "{refused}");
    // It has stopped; and it was killed, so that its socket is still there.
    for (signal, is_left) in [(Signal::SIGTERM, false), (Signal::SIGKILL, true)] {
        let namespace = format!("--mount=/proc/{}/ns/mnt", readers.serve.id());
        let mut sleeper = process::Watch::start(std::process::Command::new("nsenter").args([
            &namespace,
            "sh",
            "-c",
            "echo there; exec sleep 60",
        ]));
        sleeper.wait_for("there", LIMIT);
        let _code = readers.serve.end_by(signal);
        readers.serve = sleeper;
        let folder = format!("/proc/{}/root/run/icmp-ctl", readers.serve.id());
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), usize::from(is_left));
        let refused = readers.member("show limits");
        assert_eq!(refused.code, PERMISSION, "{refused}");
        assert!(refused.stderr.contains("`serve`, which would be asked, does not run"), "{refused}");
        let _code = readers.serve.end_by(Signal::SIGKILL);
        readers = Readers::start(host, &config, "");
    }
    end(host, readers);
}

#[test]
fn a_socket_that_a_killed_serve_has_left_is_taken_over_and_one_in_use_is_not() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "[metrics]\nlisten = \"unix:/run/icmp-ctl/metrics\"\n");
    let left = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/run/icmp-ctl/metrics\")';";
    let readers = Readers::start(host, &config, left);
    let second = format!("--mount=/proc/{}/ns/mnt", readers.serve.id());
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let refused = host.run("nsenter", &[&second, program, "serve", "-f", &config]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(
        refused.stderr.contains("unix:/run/icmp-ctl/metrics") && refused.stderr.contains("in use"),
        "{refused}"
    );
    let folder = format!("/proc/{}/root/run/icmp-ctl", readers.serve.id());
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 2, "that of the first is as it was");
    end(host, readers);
}

#[test]
fn a_second_serve_says_which_process_is_the_first() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let readers = Readers::start(host, &configured(&folder, ""), "");
    let first = readers.serve.id();
    let mounts = format!("--mount=/proc/{first}/ns/mnt");
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let config = folder.file("second.toml", "[metrics]\nlisten = \"127.0.0.1:9817\"\n");
    let mut second = host.watch("nsenter", &[&mounts, program, "serve", "-f", &config]);
    let said = second.wait_for("another `serve` runs in this network namespace", LIMIT);
    assert!(said.contains(&format!("process {first},")), "{said}");
    assert_eq!(second.end_by(Signal::SIGTERM), Some(0));
    end(host, readers);
}

#[test]
fn nothing_can_be_changed_over_the_socket_and_nothing_asked_at_the_metrics_address() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    let readers = Readers::start(host, &config, "");
    for verb in
        ["detach --all", "limit set errors 1/s", "rule del a", "show metrics --textfile /tmp", "confirm"]
    {
        let refused = readers.member(verb);
        assert_eq!(refused.code, PERMISSION, "{refused}");
        // By hand, past what the command asks itself.
        let words: Vec<_> = std::iter::once("icmp-ctl").chain(verb.split_whitespace()).collect();
        let answer = ask(readers.connect(), &json!({ "Verb": words }).to_string());
        assert!(answer.contains("\"Permission\"") && answer.contains("only looks"), "{answer}");
    }
    assert!(host.ip(&format!("link show {HOST_IF}")).contains("xdp"));
    let long = ask(readers.connect(), &format!("\"{}\"", "x".repeat(100_000)));
    assert!(long.starts_with("HTTP/1.1 413 ") && long.contains("has at most 8192 bytes"), "{long}");
    for words in [9_000, 100_000] {
        let refused = readers.member(&format!("show policy {}", "9".repeat(words)));
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused}");
        let part = format!("has at most 8192 bytes, and this one has {}", words + 49);
        assert!(refused.stderr.contains(&part), "{part}: {refused}");
    }
    for question in ["\"Nonsense\"", "{", "{\"Verb\":[]}", "{\"Verb\":[\"icmp-ctl\",\"--help\"]}"] {
        let answer = ask(readers.connect(), question);
        assert!(answer.contains("\"Err\""), "{question}: {answer}");
    }
    let (head, _) = http::answer(host, "127.0.0.1:9816", "POST /ask HTTP/1.0\r\nContent-Length: 0\r\n");
    assert!(head.contains(" 404 "), "{head}");
    end(host, readers);
}

#[test]
fn readers_hold_up_neither_following_nor_one_another() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    let mut readers = Readers::start(host, &config, "");
    // Root's, so the member's connections are another user's.
    let held: Vec<_> = (0..200)
        .map(|i| {
            let mut connection = readers.connect();
            if i % 2 == 0 {
                let begun = b"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Length: 6000\r\n\r\n{";
                // Those that had to go for it take nothing any more.
                let _sent = connection.write_all(begun);
            }
            connection
        })
        .collect();
    host.ip(&format!("address add 192.0.2.99/24 dev {HOST_IF}"));
    readers.serve.wait_for("addresses:", LIMIT);
    assert!(readers.member("show addresses").expect_success().contains("192.0.2.99"));
    drop(held);
    end(host, readers);
}

#[test]
fn a_signal_ends_at_once_who_waits_for_a_serve_that_is_stopped() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    let readers = Readers::start(host, &config, "");
    for (verb, signal) in [
        ("show counters -w --rate 50ms", Signal::SIGINT),
        ("show counters --rate 1h", Signal::SIGTERM),
        ("status", Signal::SIGINT),
        ("show sources", Signal::SIGHUP),
    ] {
        let mut waiting = process::Watch::start(&mut readers.command(GROUP, verb));
        if verb.contains("-w") {
            waiting.wait_for(HOST_IF, LIMIT);
        }
        readers.serve.signal(Signal::SIGSTOP);
        // No code: the signal has ended it, and not that nobody answers.
        assert_eq!(waiting.end_by(signal), None, "{verb}: {:?}", waiting.heard());
        readers.serve.signal(Signal::SIGCONT);
    }
    end(host, readers);
}

#[test]
fn in_a_user_namespace_serve_is_asked_and_what_cannot_be_seen_or_done_there_is_said() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, RULE);
    let readers = Readers::start(host, &config, "");
    for map in ["-U", "-Ur"] {
        let inside = |group, words: &str| {
            let mut command = readers.user(group);
            process::run(command.args(["unshare", map]).args(words.split_whitespace()))
        };
        let able = inside(GROUP, "true");
        if able.code != DONE {
            println!("skipped: no user namespace can be made here: {able}");
            continue;
        }
        let run = |group, verb: &str| inside(group, &format!("{PROGRAM} {verb}"));
        for verb in ["show policy", "show counters --rate 1ms -j"] {
            let told = run(GROUP, verb);
            assert_eq!((told.code, told.stderr.lines().count()), (DONE, 1), "{told}");
            assert!(told.stderr.contains("it cannot be seen whether /run/icmp-ctl is root's"), "{told}");
        }
        assert_eq!(run(GROUP, "show policy").stdout, readers.member("show policy").stdout);
        // What only root has there, and what others than root may do about it.
        let others = [(GROUP + 1, "status"), (GROUP, "detach --all"), (GROUP, "limit set errors 1/s")];
        for (group, verb) in others {
            let refused = run(group, verb);
            assert_eq!((refused.code, refused.stderr.lines().count()), (PERMISSION, 1), "{refused}");
            assert!(
                refused.stderr.contains("user namespace") && refused.stderr.contains("outside"),
                "{refused}"
            );
            assert!(!refused.stderr.contains("chown") && !refused.stderr.contains("usermod"), "{refused}");
        }
        let doctor = run(GROUP, "doctor").stdout;
        assert!(doctor.contains("user namespace") && !doctor.contains("chown"), "{doctor}");
    }
    end(host, readers);
}

#[test]
fn metrics_can_be_had_at_a_socket_of_the_group() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "[metrics]\nlisten = \"unix:/run/icmp-ctl/metrics\"\n");
    let readers = Readers::start(host, &config, "");
    let path = format!("/proc/{}/root/run/icmp-ctl/metrics", readers.serve.id());
    let socket = fs::metadata(&path).expect("a socket");
    assert!(socket.file_type().is_socket());
    assert_eq!((socket.mode() & 0o7777, socket.uid(), socket.gid()), (0o660, 0, GROUP));
    let page = exchange(UnixStream::connect(&path).expect("it listens"), "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(page.contains("icmp_ctl_interface_attached"), "{page}");
    let asked = ask(UnixStream::connect(&path).expect("it listens"), "\"Reading\"");
    assert!(asked.starts_with("HTTP/1.1 404 "), "{asked}");
    end(host, readers);
}

#[test]
fn metrics_have_no_socket_where_readers_ask_and_none_elsewhere() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    let mut readers = Readers::start(host, &config, "");
    let own = readers.socket();
    let own = own.file_name().expect("a name").to_str().expect("UTF-8");
    for (path, why) in [
        (format!("/run/icmp-ctl/{own}"), "who look without root"),
        // That of another namespace, whose `serve` would not have it.
        ("/run//icmp-ctl/./1.sock".to_owned(), "who look without root"),
        ("/tmp/metrics".to_owned(), "sockets are in /run/icmp-ctl"),
    ] {
        let _config = configured(&folder, &format!("[metrics]\nlisten = \"unix:{path}\"\n"));
        for verb in ["apply --check", "apply", "serve", "attach"] {
            let refused = ctl::run(host, &format!("{verb} -f {config}"));
            assert_eq!(refused.code, Some(1), "{verb} {path}: {refused}");
            for part in [why, "line 3", "unix:/run/icmp-ctl/metrics"] {
                assert!(refused.stderr.contains(part), "{part} for {verb} {path}: {refused}");
            }
        }
        readers.serve.signal(Signal::SIGHUP);
        readers.serve.wait_for(why, LIMIT);
        assert!(readers.member("status").expect_success().contains(HOST_IF));
    }
    end(host, readers);
}

#[test]
fn a_folder_that_is_not_for_its_group_and_root_alone_is_refused_and_the_host_followed_all_the_same() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    for (change, shown) in [
        ("chmod 2770", "mode 2770"),
        ("chmod 2700", "mode 2700"),
        ("chmod g-s", "mode 0750"),
        ("chown 65534", "uid 65534"),
    ] {
        let mut readers = Readers::start(host, &config, &format!("{change} /run/icmp-ctl;"));
        assert!(readers.serve.heard().iter().any(|line| line.contains(shown)), "{:?}", readers.serve.heard());
        let refused = readers.member("status");
        assert!(refused.code == PERMISSION && refused.stderr.contains(shown), "{refused}");
        assert_eq!(readers.serve.end_by(Signal::SIGTERM), DONE);
    }
    let _done = ctl::run(host, "detach --all").expect_success();
}

/// Neither open files nor threads.
#[test]
fn a_member_who_may_have_little_is_told_what_he_lacks_in_a_sentence() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "");
    let readers = Readers::start(host, &config, "");
    for verb in ["status", "show counters --rate 10ms"] {
        let mut refusals = 0;
        for files in 4..16 {
            let mut command = host.command("prlimit");
            command.arg(format!("--nofile={files}"));
            let member = readers.command(GROUP, verb);
            let done = process::run(command.arg(member.get_program()).args(member.get_args()));
            if done.stderr.contains("error while loading") || done.code == DONE {
                continue;
            }
            refusals += 1;
            assert_eq!((done.code, done.stderr.lines().count()), (Some(1), 1), "{verb} with {files}: {done}");
            assert!(done.stderr.contains("ulimit -n"), "{verb} with {files}: {done}");
        }
        assert!(refusals > 0);
    }
    end(host, readers);
}

fn ask(stream: UnixStream, question: &str) -> String {
    let length = question.len();
    exchange(stream, &format!("POST /ask HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{question}"))
}

fn exchange(mut stream: UnixStream, request: &str) -> String {
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // It may be refused before all of it is read.
    let _sent = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _length = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter", "unshare", "mount", "install", "setpriv", "python3"]).then(|| Pair::new(1500))
}

fn configured(folder: &Folder, more: &str) -> String {
    folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{more}\n"))
}

fn end(host: &Namespace, mut readers: Readers<'_>) {
    assert_eq!(readers.serve.end_by(Signal::SIGTERM), DONE);
    let _done = ctl::run(host, "detach --all").expect_success();
}
