//! The outputs of `icmp-ctl`, also if they cannot be written.
//!
//! Owns the two outputs: pipes that are closed, devices that are full, and their form with `-j`. Other tests prove the contents.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    for arguments in ["show counters", "show counters -j", "--help"] {
        let done = run_into(&pair.host, arguments, closed_pipe(), Stdio::piped());
        assert_eq!((done.status.code(), text(&done.stderr)), (Some(0), ""), "{arguments}");
    }
}

#[test]
fn a_full_device_is_a_sentence_and_what_was_done_is_said_on_the_other_output() {
    let Some(pair) = pair() else { return };
    for arguments in ["--help", "--version"] {
        let done = run_into(&pair.host, arguments, full_device(), Stdio::piped());
        is_a_sentence(&done, arguments);
    }
    let done = run_into(&pair.host, &format!("attach {HOST_IF}"), full_device(), Stdio::piped());
    is_a_sentence(&done, "attach");
    assert!(text(&done.stderr).contains(&format!("{HOST_IF}: attached")), "{done:?}");
    for arguments in ["status", "status -j", "show policy", "show counters", "show sources", "limit show"] {
        let done = run_into(&pair.host, arguments, full_device(), Stdio::piped());
        is_a_sentence(&done, arguments);
    }
    for (arguments, what) in
        [("limit set redirects 7/min --burst 3", "7/min"), ("detach --all -j", "detached")]
    {
        let done = run_into(&pair.host, arguments, full_device(), Stdio::piped());
        is_a_sentence(&done, arguments);
        assert!(text(&done.stderr).contains(what), "{what} in {done:?}");
    }
    assert!(!pair.host.ip(&format!("link show {HOST_IF}")).contains("xdp"), "it was done");
}

#[test]
fn diagnostics_that_cannot_be_written_stop_nothing() {
    let Some(pair) = pair() else { return };
    // Something to warn about.
    pair.host.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
    for stderr in [closed_pipe(), full_device()] {
        let done = run_into(&pair.host, &format!("attach {HOST_IF}"), Stdio::piped(), stderr);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert!(text(&done.stdout).contains("attached"), "{done:?}");
        let _said = ctl::run(&pair.host, "detach --all").expect_success();
    }
    // A log that may not grow, as a service manager's LimitFSIZE= has it.
    let log = File::create(Folder::new().path().join("log")).expect("our folder");
    let mut command = pair.host.command("prlimit");
    command.args(["--fsize=0", ctl::program().to_str().expect("UTF-8"), "attach", HOST_IF]);
    let done = command.stderr(log).output().expect("it runs");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let _said = ctl::run(&pair.host, "detach --all").expect_success();
    // An error keeps its code.
    let done = run_into(&pair.host, "attach nosuch0", Stdio::piped(), closed_pipe());
    assert_eq!(done.status.code(), Some(1), "{done:?}");
}

#[test]
fn serve_outlives_whoever_read_its_messages() {
    let Some(pair) = pair() else { return };
    let mut command = ctl::command(&pair.host, "serve");
    let mut serve =
        command.stdout(Stdio::null()).stderr(closed_pipe()).spawn().expect("nsenter is there, and icmp-ctl");
    // It accepts connections once it has said that it does.
    let deadline = Instant::now() + LIMIT;
    let answer = loop {
        match pair.host.enter(|| scrape("127.0.0.1:9816")) {
            Ok(answer) => break answer,
            Err(error) => {
                assert_eq!(serve.try_wait().expect("our child"), None, "it has ended");
                assert!(Instant::now() < deadline, "{error}");
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
    };
    assert!(answer.contains("icmp_ctl_build_info"), "{answer}");
    serve.kill().expect("it is still there");
    let _status = serve.wait().expect("our child");
}

#[test]
fn with_j_an_error_is_json_on_stderr_too() {
    let Some(pair) = pair() else { return };
    for (arguments, code, why) in [
        ("attach nosuch0 -j", 1, "nosuch0"),
        ("-j attach nosuch0", 1, "nosuch0"),
        ("no-such-verb --json", 2, "no-such-verb"),
        ("status -j", 3, "nothing is loaded"),
    ] {
        let done = ctl::run(&pair.host, arguments);
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{done}");
        let error: Value = serde_json::from_str(&done.stderr).unwrap_or_else(|e| panic!("{e}: {done}"));
        assert_eq!((&error["schema"], &error["exit_code"]), (&1.into(), &code.into()), "{done}");
        assert!(error["error"].as_str().is_some_and(|text| text.contains(why)), "{done}");
    }
    pair.host.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF} -j"));
    let said: Vec<Value> =
        done.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect();
    assert!(
        said.iter()
            .any(|line| line["warning"].as_str().is_some_and(|text| text.contains("icmp_echo_ignore_all"))),
        "{done}"
    );
    let _said = ctl::run(&pair.host, "detach --all").expect_success();
}

fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter", "prlimit"]).then(|| Pair::new(1500))
}

fn is_a_sentence(done: &Output, what: &str) {
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{what}: {said}");
    assert!(said.contains("No space left on device") && !said.contains("panicked"), "{what}: {said}");
    assert_eq!(said.matches("standard output").count(), 1, "{what}: {said}");
}

fn run_into(
    namespace: &Namespace,
    arguments: &str,
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
) -> Output {
    ctl::command(namespace, arguments).stdout(stdout).stderr(stderr).output().expect("it runs")
}

fn full_device() -> Stdio {
    fs::OpenOptions::new().write(true).open("/dev/full").map(File::into).expect("every Linux has it")
}

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}
