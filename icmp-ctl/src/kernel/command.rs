//! Runs another program and reads its output, for a limited time.
//!
//! Owns that no such program outlives its time, or this process if that ends by [`end_all`].

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::sentence;
use crate::kernel::threads::start;

/// Bytes that are read of what a command says of its failure.
const SAID: usize = 4096;

/// The groups of processes of the commands that run now; `None` where no more may begin.
static RUNNING: Mutex<Option<BTreeSet<u32>>> = Mutex::new(Some(BTreeSet::new()));

/// Ends the commands that run now, with all that they have started, and has no more begin: for a process that ends.
pub(crate) fn end_all() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).take();
    running.into_iter().flatten().for_each(end);
}

/// Kills a group of processes.
fn end(group: u32) {
    // One that is gone meanwhile is what is wanted.
    let _ = kill(Pid::from_raw(-group.cast_signed()), Signal::SIGKILL);
}

/// Starts a command with its group among those that run.
fn begin(command: &mut Command) -> io::Result<Child> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let running = running.as_mut().ok_or_else(|| io::Error::other("this process is about to end"))?;
    let child = command.spawn()?;
    running.insert(child.id());
    Ok(child)
}

/// What a command prints; `None` where it is not installed. It is waited for no longer than `deadline`, and killed then.
///
/// # Errors
/// It failed, or did not end in time.
pub(crate) fn ask(command: &str, arguments: &[&str], deadline: Duration) -> Result<Option<String>, String> {
    let done = ended(command, arguments, Stdio::piped(), Child::wait_with_output, deadline)?;
    Ok(done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()))
}

/// Runs a command, whatever it leaves running and prints on standard output; `None` where it is not installed. As [`ask`].
///
/// # Errors
/// As [`ask`].
pub(crate) fn run(command: &str, arguments: &[&str], deadline: Duration) -> Result<Option<()>, String> {
    let wait = |mut process: Child| {
        let status = process.wait()?;
        // What it has left running may hold it open, so what is there by now is read.
        let mut stderr = vec![0; SAID];
        let read = process.stderr.take().map_or(Ok(0), |mut said| {
            fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            said.read(&mut stderr)
        });
        stderr.truncate(read.unwrap_or(0));
        Ok(Output { status, stdout: Vec::new(), stderr })
    };
    Ok(ended(command, arguments, Stdio::null(), wait, deadline)?.map(drop))
}

/// How a command has ended that did not fail.
fn ended(
    command: &str,
    arguments: &[&str],
    stdout: Stdio,
    read: impl FnOnce(Child) -> io::Result<Output> + Send + 'static,
    deadline: Duration,
) -> Result<Option<Output>, String> {
    // Where Debian keeps the programs of the administrator, too, which the path of a user lacks.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut asked = Command::new(command);
    asked.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    // A group of its own, so that what it has started is killed with it.
    asked.process_group(0);
    let asked = match begin(asked.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped())) {
        Ok(asked) => asked,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{command}: {}", sentence(&error.into()))),
    };
    let group = asked.id();
    let (ended, waited) = mpsc::channel();
    // What has left its group may hold its output open after it was killed, so the thread that reads is left alone.
    let waiting = start(move || _ = ended.send(read(asked)));
    if let Err(error) = waiting {
        end(group);
        return Err(format!("{command}: {}", sentence(&error)));
    }
    let done = waited.recv_timeout(deadline);
    if done.is_err() {
        // It is not waited for before its output ends, so the number is still its own.
        end(group);
    }
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(|running| running.remove(&group));
    match done {
        Ok(Ok(done)) if done.status.success() => Ok(Some(done)),
        Ok(Ok(Output { status, stderr, .. })) => {
            let said = String::from_utf8_lossy(&stderr);
            let why = said.lines().next().map_or_else(|| format!("it failed ({status})"), str::to_owned);
            Err(format!("{command}: {why}"))
        }
        Ok(Err(error)) => Err(format!("{command}: {}", sentence(&error.into()))),
        Err(_) => Err(format!("{command}: it did not end in {} s, and was killed", deadline.as_secs_f32())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_that_does_not_end_is_killed_and_said_to_be() {
        let said = ask("sh", &["-c", "sleep 1000"], Duration::ZERO);
        assert_eq!(said, Err("sh: it did not end in 0 s, and was killed".to_owned()));
    }

    #[test]
    fn what_a_command_has_started_is_killed_with_it() {
        let (ended, end) = mpsc::channel();
        // What it has started holds its output, so that reading ends when that is gone.
        let read = move |process: Child| {
            let done = process.wait_with_output();
            ended.send(()).map_err(io::Error::other)?;
            done
        };
        let moment = Duration::from_millis(1);
        let said = super::ended("sh", &["-c", "sleep 1000 & wait"], Stdio::piped(), read, moment);
        assert_eq!(said.err().as_deref(), Some("sh: it did not end in 0.001 s, and was killed"));
        assert_eq!(end.recv_timeout(LONG), Ok(()));
    }

    #[test]
    fn a_command_that_is_run_may_print_without_end_and_nothing_of_it_is_kept() {
        assert_eq!(run("sh", &["-c", "head -c 100000000 /dev/zero"], LONG), Ok(Some(())));
        assert_eq!(run("sh", &["-c", "exit 3"], LONG), Err("sh: it failed (exit status: 3)".to_owned()));
        assert_eq!(run("sh", &["-c", "echo no >&2; exit 3"], LONG), Err("sh: no".to_owned()));
        // What it leaves running is its own business.
        assert_eq!(run("sh", &["-c", "sleep 5 & exit 0"], LONG), Ok(Some(())));
    }

    #[test]
    fn what_a_command_prints_is_had_and_why_it_failed_is_told() {
        assert_eq!(ask("sh", &["-c", "echo one; echo two >&2"], LONG), Ok(Some("one\n".to_owned())));
        assert_eq!(ask("sh", &["-c", "echo two >&2; exit 1"], LONG), Err("sh: two".to_owned()));
        assert_eq!(ask("icmp-ctl-is-no-such-command", &[], LONG), Ok(None));
    }
}
