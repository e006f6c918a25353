//! `top` on a terminal: it shows live figures, and leaves the terminal as it was.
//!
//! Owns what needs a terminal and a loaded program. icmp-ctl's own tests have the look of screens.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Pair};
use icmp_tests::readers::{GROUP, Readers};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
/// What a terminal is told so that the screen before comes back (xterm's control sequences, DECSET 1049).
const LEAVE_SCREEN: &str = "\x1b[?1049l";

/// `top` on a terminal of its own.
struct Top {
    child: Child,
    terminal: OwnedFd,
    /// As it was before.
    before: Termios,
    keys: File,
    shown: Receiver<String>,
    text: String,
}

impl Top {
    fn start(command: &mut Command) -> Self {
        let pty = openpty(&SIZE, None).expect("a terminal");
        let before = tcgetattr(&pty.slave).expect("its state");
        let side = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("it starts");
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().expect("a descriptor");
        let (sender, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 14];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..read]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { child, terminal: pty.slave, before, keys, shown, text: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.text.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let more = self.shown.recv_timeout(left);
            self.text.push_str(&more.unwrap_or_else(|e| panic!("{text:?}: {e}: {:?}", self.text)));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it is there");
    }

    /// The end that a key or a signal has brought, and all that was shown; the terminal is as it was.
    fn ends(mut self) -> String {
        self.wait_for(LEAVE_SCREEN);
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0), "{:?}", self.text);
        assert_eq!(tcgetattr(&self.terminal).expect("its state"), self.before);
        std::mem::take(&mut self.text)
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn top_shows_what_comes_and_leaves_the_terminal_as_it_was() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let mut top = Top::start(&mut ctl::command(&pair.host, "top --interval 50ms"));
    top.wait_for("neighbour-discovery");
    let mut ping = pair.peer.watch("ping", &["-i0.002", "192.0.2.2"]);
    top.wait_for("echo-request");
    ping.end_by(Signal::SIGTERM);
    top.press("?");
    top.wait_for("Any key goes on");
    top.press("xq");
    let _shown = top.ends();
}

#[test]
fn a_signal_ends_top_as_its_key_does() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut top = Top::start(&mut ctl::command(&pair.host, "top"));
        top.wait_for("neighbour-discovery");
        top.signal(signal);
        let _shown = top.ends();
    }
}

#[test]
fn a_terminal_that_claims_to_be_larger_than_any_is_refused_and_left_as_it_was() {
    let Some(pair) = pair() else { return };
    if !can_run(&["stty"]) {
        return;
    }
    let _attached = Attached::new(&pair.host, HOST_IF);
    let mut top = Top::start(&mut ctl::command(&pair.host, "top"));
    top.wait_for("neighbour-discovery");
    let side = Stdio::from(top.terminal.try_clone().expect("a descriptor"));
    let status = Command::new("stty").args(["rows", "65535", "columns", "65535"]).stdin(side).status();
    assert!(status.expect("it runs").success());
    top.wait_for("says that it has 65535 columns and 65535 rows");
    assert_eq!(top.child.wait().expect("it ends").code(), Some(1));
    assert_eq!(tcgetattr(&top.terminal).expect("its state"), top.before);
    // One that is so from the beginning is not even taken over.
    let shown = std::mem::take(&mut top.text);
    let side = || Stdio::from(top.terminal.try_clone().expect("a descriptor"));
    let mut again = ctl::command(&pair.host, "top");
    let status = again.stdin(side()).stdout(side()).stderr(side()).status();
    assert_eq!(status.expect("it runs").code(), Some(1));
    top.wait_for("65535 rows");
    assert!(shown.contains(LEAVE_SCREEN) && !top.text.contains(LEAVE_SCREEN), "{:?}", top.text);
}

#[test]
fn top_ends_when_its_terminal_is_gone() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let pty = openpty(&SIZE, None).expect("a terminal");
    // Only this end keeps the terminal there.
    let _flags = fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
    let side = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
    // It is nobody's controlling terminal, so no signal comes.
    let mut top = ctl::command(&pair.host, "top");
    let mut child = top.stdin(side()).stdout(side()).stderr(side()).spawn().expect("it starts");
    let mut screen = File::from(pty.master);
    let (mut shown, mut buffer) = (Vec::new(), [0; 1 << 14]);
    // The last word that it draws before it waits; what is blank is not drawn, so that a word comes whole and two do not.
    while !String::from_utf8_lossy(&shown).contains("help") {
        let read = screen.read(&mut buffer).expect("it draws");
        shown.extend_from_slice(&buffer[..read]);
    }
    drop(screen);
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    let ended = ended.recv_timeout(LIMIT);
    if ended.is_err() {
        kill(pid, Signal::SIGKILL).expect("it is there");
    }
    assert_eq!(ended.expect("it ends").expect("awaited").code(), Some(0));
}

#[test]
fn top_shows_a_member_of_the_group_what_comes() {
    let Some(pair) = pair().filter(|_| can_run(&["unshare", "mount", "install", "setpriv"])) else { return };
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    let mut readers = Readers::start(&pair.host, &config, "");
    let mut top = Top::start(&mut readers.command(GROUP, "top --interval 50ms"));
    top.wait_for("neighbour-discovery");
    let mut ping = pair.peer.watch("ping", &["-i0.002", "192.0.2.2"]);
    top.wait_for("echo-request");
    ping.end_by(Signal::SIGTERM);
    // It says so, and goes on when it can.
    assert_eq!(readers.serve.end_by(Signal::SIGTERM), Some(0));
    top.wait_for("does not run");
    top.press("q");
    let _shown = top.ends();
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn a_member_leaves_top_at_once_while_serve_does_not_answer_and_sees_how_old_the_figures_are() {
    let Some(pair) = pair().filter(|_| can_run(&["unshare", "mount", "install", "setpriv"])) else { return };
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    let mut readers = Readers::start(&pair.host, &config, "");
    let key = |top: &mut Top, key| top.press(key);
    let ends: [&dyn Fn(&mut Top); 5] = [
        &|top| key(top, "q"),
        &|top| key(top, "\x03"),
        &|top| top.signal(Signal::SIGTERM),
        &|top| top.signal(Signal::SIGHUP),
        &|top| top.signal(Signal::SIGINT),
    ];
    for end in ends {
        let mut top = Top::start(&mut readers.command(GROUP, "top --interval 50ms"));
        top.wait_for("neighbour-discovery");
        readers.serve.signal(Signal::SIGSTOP);
        top.wait_for("FIGURES ARE");
        end(&mut top);
        // Its end comes before that of its waiting, which is told.
        assert!(!top.ends().contains("has not answered"));
        readers.serve.signal(Signal::SIGCONT);
    }
    assert_eq!(readers.serve.end_by(Signal::SIGTERM), Some(0));
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn without_a_terminal_top_names_what_writes_lines() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    for arguments in ["top", "top -j"] {
        let done = ctl::run(&pair.host, arguments);
        assert!(done.code == Some(1) && done.stderr.contains("show counters -w"), "{done}");
    }
}

fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter", "ping"]).then(|| Pair::new(1500))
}
