//! What another program says, of which nobody knows when it will.

use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::sentence;
use crate::kernel::threads::start;

/// What a command prints; `None` where it is not installed. It is waited for no longer than `deadline`, and killed then.
///
/// # Errors
/// It failed, or did not end in time.
pub(crate) fn ask(command: &str, arguments: &[&str], deadline: Duration) -> Result<Option<String>, String> {
    // Where Debian keeps the programs of the administrator, too, which the path of a user lacks.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut asked = Command::new(command);
    asked.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let asked = match asked.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(asked) => asked,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{command}: {}", sentence(&error.into()))),
    };
    let process = Pid::from_raw(asked.id().cast_signed());
    let (ended, end) = mpsc::channel();
    // What it has started may hold its output open after it was killed, so the thread that reads is left alone.
    let waiting = start(move || _ = ended.send(asked.wait_with_output()));
    if let Err(error) = waiting {
        let _ = kill(process, Signal::SIGKILL);
        return Err(format!("{command}: {}", sentence(&error)));
    }
    match end.recv_timeout(deadline) {
        Ok(Ok(Output { status, stdout, .. })) if status.success() => {
            Ok(Some(String::from_utf8_lossy(&stdout).into_owned()))
        }
        Ok(Ok(Output { stderr, .. })) => {
            let said = String::from_utf8_lossy(&stderr);
            Err(format!("{command}: {}", said.lines().next().unwrap_or("it failed and said nothing")))
        }
        Ok(Err(error)) => Err(format!("{command}: {}", sentence(&error.into()))),
        Err(_) => {
            // It is not waited for before its output ends, so the number is still its own.
            let _ = kill(process, Signal::SIGKILL);
            Err(format!("{command}: it did not end in {} s, and was killed", deadline.as_secs()))
        }
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
    fn what_a_command_prints_is_had_and_why_it_failed_is_told() {
        assert_eq!(ask("sh", &["-c", "echo one; echo two >&2"], LONG), Ok(Some("one\n".to_owned())));
        assert_eq!(ask("sh", &["-c", "echo two >&2; exit 1"], LONG), Err("sh: two".to_owned()));
        assert_eq!(ask("icmp-ctl-is-no-such-command", &[], LONG), Ok(None));
    }
}
