//! `serve` under a service manager: its messages to the manager, and the program when it is stopped.
//!
//! Owns the words of sd_notify(3), sent to a socket of the test. Other tests prove following.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::Watch;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

const DONE: Option<i32> = Some(0);
const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn serve_is_ready_with_what_is_there_and_names_what_it_waits_for() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let manager = Manager::new(&folder);
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"late0\"]\n"));
    let mut serve = manager.start(host, &config, None);
    let status = manager.wait_for("STATUS=");
    assert!(status.contains(&format!("STATUS=attached: {HOST_IF}; waited for: late0\n")), "{status}");
    manager.wait_for("READY=1");
    assert!(host.ip(&format!("link show {HOST_IF}")).contains("xdp"));
    host.ip("link add late0 type veth peer name late1");
    manager.wait_for(&format!("STATUS=attached: {HOST_IF}, late0\n"));
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    manager.wait_for("STOPPING=1");
    assert!(host.ip(&format!("link show {HOST_IF}")).contains("xdp"), "the program goes on");
    detach(host);
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end_whatever_comes_of_it() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let manager = Manager::new(&folder);
    let config = configured(&folder, "");
    let mut serve = manager.start(host, &config, None);
    manager.wait_for("READY=1");
    let attached = format!("STATUS=attached: {HOST_IF}");
    for (on_stop, ends) in [("detahc", "what was in force stays"), ("detach", &attached)] {
        let _same = configured(&folder, &format!("on-stop = \"{on_stop}\""));
        serve.signal(Signal::SIGHUP);
        let reloading = manager.wait_for("RELOADING=1");
        let began = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(began.is_some_and(|time| time.parse::<u64>().is_ok()), "{reloading}");
        let status = manager.wait_for("STATUS=");
        assert!(status.contains(&attached) && status.trim_end().ends_with(ends), "{status}");
        manager.wait_for("READY=1");
    }
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    assert!(
        !host.ip(&format!("link show {HOST_IF}")).contains("xdp"),
        "as the file says since it was read again"
    );
    assert_eq!(ctl::run(host, "status").code, Some(3));
}

#[test]
fn a_configuration_from_standard_input_is_not_read_again_as_an_empty_one() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let config = configured(&folder, "");
    let program = ctl::program().display();
    let mut serve = host.watch("sh", &["-c", &format!("exec {program} serve -f - < {config}")]);
    serve.wait_for("serving metrics", LIMIT);
    serve.signal(Signal::SIGHUP);
    serve.wait_for("came from standard input", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
    let refused = ctl::run(host, "serve -f - --reload-on-change");
    assert!(refused.code == Some(1) && refused.stderr.contains("came from standard input"), "{refused}");
}

#[test]
fn signs_of_life_come_while_the_host_is_followed_and_not_while_that_is_stuck() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let manager = Manager::new(&folder);
    let config = configured(&folder, "");
    // Nothing changes, so these are the following's own.
    let mut serve = manager.start(host, &config, Some(Duration::from_millis(200)));
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let lock = std::fs::File::open(ctl::lock_of(host)).expect("a lock");
    let held = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
    let _before = manager.told();
    // It says so after two seconds, in which twenty signs would be due. One may have been on its way.
    serve.wait_for("waiting for process", LIMIT);
    let told = manager.told();
    assert!(told.len() <= 1, "{told:?}");
    drop(held);
    manager.wait_for("WATCHDOG=1");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

/// 20 MiB are promised, with the program's file. A build for tests has a little more of its own than the one that is shipped.
#[test]
fn serve_gives_back_the_memory_that_reading_a_long_list_again_and_again_takes() {
    const PROMISED_KIB: u64 = 8 << 10;
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let manager = Manager::new(&folder);
    let listed = |last: u32| {
        let prefixes: Vec<_> = (0..8_000).map(|i| format!("\"10.{}.{}.{last}\"", i >> 8, i & 255)).collect();
        let rule = "name = \"listed\"\ntype = \"echo-request\"\naction = \"drop\"";
        let rule = format!("[[policy.rule]]\n{rule}\nfrom = [{}]\n", prefixes.join(","));
        folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{rule}"))
    };
    let mut serve = manager.start(host, &listed(0), Some(Duration::from_secs(1)));
    manager.wait_for("READY=1");
    for last in 1..=3 {
        let _same = listed(last);
        serve.signal(Signal::SIGHUP);
        manager.wait_for("READY=1");
    }
    let anonymous = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", serve.id())).expect("it is there");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a number");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let (asked, mut found) = (Instant::now(), anonymous());
    while found > PROMISED_KIB && asked.elapsed() < LIMIT {
        manager.wait_for("WATCHDOG=1");
        found = anonymous();
    }
    assert!(found <= PROMISED_KIB, "{found} KiB");
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    assert!(
        serve.heard().iter().all(|line| !line.contains("what was in force stays")),
        "{:?}",
        serve.heard()
    );
    detach(host);
}

#[test]
fn in_the_journal_each_line_has_its_priority_and_fields_and_with_j_its_fields() {
    if !can_run(&["unshare", "mount", "stat"]) {
        return;
    }
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let journal = Manager::at(&folder, "socket");
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\", \"late0\"]\n"));
    // Where the journal is, and standard error as one of its streams.
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind \"$1\" /run/systemd/journal && \
                  exec 2> \"$1/stderr\" && JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr) exec \"$0\" serve -f \"$2\"";
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let mut serve = host.watch("unshare", &["--mount", "sh", "-ec", script, program, path, &config]);
    let missing = journal.wait_for("late0: is not there");
    for (field, value) in
        [("PRIORITY", "5"), ("SYSLOG_IDENTIFIER", "icmp-ctl"), ("WHAT", "missing"), ("INTERFACE", "late0")]
    {
        assert_eq!(field_of(&missing, field), Some(value), "{missing:?}");
    }
    journal.wait_for("serving metrics");
    let _broken = folder.file("icmp-ctl.toml", "interfaces = 1\n");
    serve.signal(Signal::SIGHUP);
    let refused = journal.wait_for("what was in force stays");
    assert_eq!((field_of(&refused, "PRIORITY"), field_of(&refused, "WHAT")), (Some("4"), Some("reload")));
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    assert_eq!(
        std::fs::read_to_string(folder.path().join("stderr")).expect("a text"),
        "",
        "all of it is there"
    );
    let config = configured(&folder, "");
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -j -f {config}")));
    let line = serve.wait_for("serving metrics", LIMIT);
    assert!(
        line.starts_with("{\"schema\":1,\"note\":\"serving") && line.contains("\"what\":\"metrics\""),
        "{line}"
    );
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    detach(host);
}

/// A field of an entry in the journal's own protocol: `NAME=value`, or the name, a line feed, eight bytes of length, and the value.
fn field_of<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let rest = entry.match_indices(name).map(|(at, _)| &entry[at + name.len()..]);
    rest.filter_map(|rest| {
        rest.strip_prefix('=').or_else(|| rest.strip_prefix('\n').and_then(|rest| rest.get(8..)))
    })
    .find_map(|value| value.lines().next())
}

#[test]
fn a_service_manager_that_does_not_read_stops_nothing_and_hears_that_serve_is_ready_when_it_does() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = configured(&folder, "on-stop = \"detach\"");
    let manager = Manager::new(&folder);
    let fill = || {
        // Each may have so many on their way; the socket is full when another one finds no room.
        let from_another = || {
            let other = UnixDatagram::unbound().expect("a socket");
            other.set_nonblocking(true).expect("it waits for nobody");
            std::iter::repeat_with(|| other.send_to(b"X=1", &manager.path)).take_while(Result::is_ok).count()
        };
        while from_another() > 0 {}
    };
    fill();
    let mut serve = manager.start(host, &config, None);
    let _said = serve.wait_for(&format!("{HOST_IF}: attached"), LIMIT);
    // It follows the host all the same.
    host.ip(&format!("address add 192.0.2.77/32 dev {HOST_IF}"));
    let deadline = Instant::now() + LIMIT;
    while !ctl::run(host, "show addresses").stdout.contains("192.0.2.77") {
        assert!(Instant::now() < deadline, "it is not followed: {}", serve.heard().join("\n"));
    }
    let _ready = manager.wait_for("READY=1");
    fill();
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0), "it ends as it would");
}

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(folder: &Folder) -> Self {
        Self::at(folder, "notify")
    }

    fn at(folder: &Folder, name: &str) -> Self {
        let path = folder.path().join(name);
        let socket = UnixDatagram::bind(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { socket, path: path.to_str().expect("a path in UTF-8").to_owned() }
    }

    /// Starts `serve` under this manager.
    fn start(&self, host: &Namespace, config: &str, watchdog: Option<Duration>) -> Watch {
        let mut command: Command = ctl::command(host, &format!("serve -f {config}"));
        command.stdin(Stdio::null()).env("NOTIFY_SOCKET", &self.path);
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        Watch::start(&mut command)
    }

    /// The next message within this time.
    fn next(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("a timeout");
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.next(limit),
            Err(error) => panic!("{}: {error}", self.path),
        }
    }

    /// The next message that has this in it.
    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut heard = String::new();
        while let Some(message) =
            self.next(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
        {
            if message.contains(text) {
                return message;
            }
            heard += &message;
        }
        panic!("no {text:?} was told, but:\n{heard}");
    }

    /// What was told so far, and not heard yet.
    fn told(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next(Duration::from_millis(1))).collect()
    }
}

fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter", "sh"]).then(|| Pair::new(1500))
}

/// A configuration file for the host's interface with this in `[serve]`.
fn configured(folder: &Folder, serve: &str) -> String {
    folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n[serve]\n{serve}\n"))
}

fn detach(host: &Namespace) {
    let _done = ctl::run(host, "detach --all").expect_success();
}
