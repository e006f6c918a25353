//! Running other programs: found, captured, streamed, or behind a progress line.
//!
//! Owns how a command is shown and how its failure reads. An error names the command and its last line of output.

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::interrupt;

/// The repository: cargo says where this package's manifest is when it runs us.
pub(crate) fn root() -> Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(manifest) => PathBuf::from(manifest),
        None => env::current_dir().context("finding the current directory")?,
    };
    start
        .ancestors()
        .find(|dir| dir.join("ebpf-toolchain.toml").is_file())
        .map(Path::to_path_buf)
        .with_context(|| {
            format!("no ebpf-toolchain.toml in or above {}: run this in the repository", start.display())
        })
}

/// Where a program is. Root's tools may be outside an ordinary user's PATH, so their places are looked at too.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A command by name, found as [`find`] does, with no standard input.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command.stdin(Stdio::null());
    command
}

pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Fail with the way out when we are not root.
pub(crate) fn require_root(what: &str) -> Result<()> {
    if !is_root() {
        bail!(
            "{what} needs root: run it again as root, for example `sudo -E env PATH=\"$PATH\" cargo xtask …`"
        );
    }
    Ok(())
}

pub(crate) fn heading(text: &str) {
    if io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
        println!("\n\x1b[1m== {text}\x1b[0m");
    } else {
        println!("\n== {text}");
    }
}

/// Run to the end without showing anything; the caller judges the status.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("starting `{}`", shown(command)))
}

/// Standard output of a command that has to succeed.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    interrupt::check()?;
    if !output.status.success() {
        let said =
            [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Run with its output on ours.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    let mut child = command.spawn().with_context(|| format!("starting `{}`", shown(command)))?;
    match interrupt::wait(&mut child, None, |_| ())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`{}` failed ({status})", shown(command)),
        None => bail!("`{}` was stopped", shown(command)),
    }
}

/// Run behind one progress line: what for, how long so far, and the last line it said.
pub(crate) fn progress(label: &str, command: &mut Command) -> Result<()> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting `{}`", shown(command)))?;
    let tail = Arc::new(Mutex::new(Tail::default()));
    let readers: Vec<_> = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ]
    .into_iter()
    .flatten()
    .map(|pipe| {
        let tail = Arc::clone(&tail);
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                tail.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
            }
        })
    })
    .collect();

    let mut line = ProgressLine::new(label);
    let mut elapsed = Duration::ZERO;
    let waited = interrupt::wait(&mut child, None, |now| {
        elapsed = now;
        line.show(now, tail.lock().unwrap_or_else(PoisonError::into_inner).last());
    });
    line.clear();
    let status = waited?;
    for reader in readers {
        let _panicked = reader.join();
    }
    match status {
        Some(status) if status.success() => {
            println!("  done     {label} ({} s)", elapsed.as_secs());
            Ok(())
        }
        Some(status) => {
            let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            bail!("`{}` failed ({status}); it said last:\n{}", shown(command), tail.text())
        }
        None => bail!("`{}` was stopped", shown(command)),
    }
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _infallible = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

/// The last lines a command said.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    const LINES: usize = 15;

    fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        // Progress bars redraw with a carriage return; only what is visible at the end counts.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
        if line.is_empty() {
            return;
        }
        if self.0.len() == Self::LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    fn last(&self) -> &str {
        self.0.back().map_or("", String::as_str)
    }

    fn text(&self) -> String {
        self.0.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// Redrawn in place on a terminal; in a log one line every ten seconds.
struct ProgressLine<'a> {
    label: &'a str,
    terminal: bool,
    shown: Option<u64>,
}

impl<'a> ProgressLine<'a> {
    const LOG_EVERY_SECONDS: u64 = 10;

    fn new(label: &'a str) -> Self {
        Self { label, terminal: io::stdout().is_terminal(), shown: None }
    }

    fn show(&mut self, elapsed: Duration, last: &str) {
        let seconds = elapsed.as_secs();
        let due = match self.shown {
            None => true,
            Some(before) if self.terminal => seconds > before,
            Some(before) => seconds >= before + Self::LOG_EVERY_SECONDS,
        };
        if !due {
            return;
        }
        self.shown = Some(seconds);
        let last: String = last.chars().take(60).collect();
        if self.terminal {
            print!("\r\x1b[K  …        {} ({seconds} s)  {last}", self.label);
            let _closed = io::stdout().flush();
        } else if seconds == 0 {
            println!("  …        {}", self.label);
        } else {
            println!("  …        {} ({seconds} s)  {last}", self.label);
        }
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[K");
            let _closed = io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_what_a_progress_bar_shows_last() {
        let mut tail = Tail::default();
        tail.push(b"10%\r50%\r100%\n");
        tail.push(b"   ");
        assert_eq!(tail.last(), "100%");
    }

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let error =
            capture(command("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.starts_with("`sh -c"), "{error}");
        assert!(error.ends_with("no such thing"), "{error}");
    }
}
