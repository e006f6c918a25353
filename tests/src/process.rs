//! Owns child processes: run to the end within a time limit, or watched line by line until they say something.
//!
//! Nothing here waits for a fixed time: the end of a process is the end of its output, readiness is a line it prints.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// No program a test runs takes longer; one that does hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a process left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Its data.
    pub stdout: String,
    /// Its diagnostics.
    pub stderr: String,
}

impl Finished {
    /// The data of a process that has to succeed.
    ///
    /// # Panics
    /// With everything the process said, if it did not succeed.
    #[must_use]
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// Both outputs, for programs that do not keep them apart.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit code {code:?}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

/// True if `program` is on the search path, or where Debian keeps the programs of the administrator.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}

/// Runs a command to its end.
///
/// # Panics
/// If it can't be started or exceeds [`LIMIT`].
#[must_use]
pub fn run(command: &mut Command) -> Finished {
    let text = line_of(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + LIMIT;
    let mut collect = |output: Receiver<Vec<u8>>| {
        let bytes =
            output.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
                let _gone_meanwhile = child.kill();
                panic!("{text}: not done after {LIMIT:?}")
            });
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let stdout = collect(stdout);
    let stderr = collect(stderr);
    let status = child.wait().unwrap_or_else(|e| panic!("{text}: {e}"));
    Finished { command: text, code: status.code(), stdout, stderr }
}

/// A process that runs beside the test, and ends with this value at the latest.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    command: String,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Watch {
    /// Starts the command; both its outputs are read from now on.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let text = line_of(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        let (sender, lines) = mpsc::channel();
        read_lines(child.stdout.take().expect("piped"), sender.clone());
        read_lines(child.stderr.take().expect("piped"), sender);
        Self { child, command: text, lines, heard: Vec::new() }
    }

    /// The first line from now on that contains `text`.
    ///
    /// # Panics
    /// With everything heard so far, if there is none within `limit` or the process has ended without one.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> String {
        self.says(&[text], limit).unwrap_or_else(|| {
            panic!(
                "{}: waiting for {text:?}: it has ended. It said:\n{}",
                self.command,
                self.heard.join("\n")
            )
        })
    }

    /// The first line from now on that contains one of these; `None` if the process ends without one.
    ///
    /// # Panics
    /// With everything heard so far, if there is none within `limit`.
    pub fn says(&mut self, texts: &[&str], limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if texts.iter().any(|text| line.contains(text)) => return Some(line),
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!(
                    "{}: waiting for {texts:?}: no such line in time. It said:\n{}",
                    self.command,
                    self.heard.join("\n")
                ),
            }
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is not there any more.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        signal::kill(pid, signal).unwrap_or_else(|e| panic!("{}: {e}", self.command));
    }

    /// Sends a signal and waits for the end, which the signal is expected to bring.
    ///
    /// # Panics
    /// If the process survives for [`LIMIT`].
    pub fn end_by(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        let deadline = Instant::now() + LIMIT;
        // Its outputs close when it is gone.
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.heard.push(line);
        }
        assert!(Instant::now() < deadline, "{} survives {signal}", self.command);
        self.child.wait().expect("it is our child").code()
    }

    /// Everything that it has said and that was not waited for.
    #[must_use]
    pub fn heard(&self) -> &[String] {
        &self.heard
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An error means that it has ended, which is what is wanted.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _what_came = from.read_to_end(&mut bytes);
        let _nobody_waits = sender.send(bytes);
    });
    receiver
}

fn read_lines(from: impl Read + Send + 'static, to: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if to.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Keeps this thread on a CPU, modulo those there are: what the program counts for each CPU is then counted on one.
pub fn stay_on(cpu: usize) {
    let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN);
    let cpus = cpus.expect("it can be asked").expect("it is known");
    let mut set = CpuSet::new();
    set.set(cpu % usize::try_from(cpus).expect("there are some")).expect("it exists");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a thread may choose its CPU");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_process_has_both_outputs_and_its_code() {
        let done = run(Command::new("sh").args(["-c", "echo data; echo trouble >&2; exit 3"]));
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(3), "data\n", "trouble\n"));
    }

    #[test]
    fn a_watched_process_is_heard_line_by_line() {
        let mut watch =
            Watch::start(Command::new("sh").args(["-c", "echo one; echo two >&2; exec cat /dev/zero"]));
        watch.wait_for("two", LIMIT);
        assert_eq!(watch.end_by(Signal::SIGKILL), None);
    }

    #[test]
    fn what_is_not_installed_is_not_found() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
