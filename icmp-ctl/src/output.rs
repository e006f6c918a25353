//! Standard output: the output of a verb, and the one place where it is written.
//!
//! Owns the handling of a failed write. Only data goes to standard output; `diagnostics.rs` owns everything else.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::diagnostics::{LAYOUT, note, visible, warn};

/// What a verb tells, for people and for programs.
#[derive(Debug, Deserialize, Serialize)]
pub struct Output {
    json: Value,
    lines: Vec<String>,
    /// Something was changed, so that whoever cannot read the lines has to hear of it elsewhere.
    done: bool,
    /// Why the command fails although there is something to tell.
    failure: Option<String>,
    /// What is said beside it that is probably not as it should be, and what is worth knowing.
    warnings: Vec<String>,
    notes: Vec<String>,
}

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody, or nobody was written to.
    There,
    /// Somebody who has seen enough, and has closed the pipe.
    Gone,
}

/// What SIGINT, SIGTERM and SIGHUP set from now on, for a command that goes on until one of them comes. The first process of a container is ended by
/// no signal that it does not ask for.
///
/// # Errors
/// They cannot be watched for.
pub fn set_by_signals() -> Result<Arc<AtomicBool>> {
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ends)).context("watching for signals")?;
    }
    Ok(ends)
}

/// Who reads standard output after this time, or when that changes or a signal comes.
///
/// # Errors
/// It cannot be asked.
pub fn reader_after(time: Duration) -> Result<Reader> {
    let stdout = io::stdout();
    // An error is told whether it is asked for or not (poll(2)).
    let mut asked = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut asked, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context("looking whether standard output is read"),
    }
    let is_gone = asked[0].revents().is_some_and(|told| told.contains(PollFlags::POLLERR));
    Ok(if is_gone { Reader::Gone } else { Reader::There })
}

impl Output {
    /// What there is to see; `json` is what `-j` prints.
    pub fn shown(json: Value, lines: Vec<String>) -> Self {
        Self { json, lines, done: false, failure: None, warnings: Vec::new(), notes: Vec::new() }
    }

    /// What was done.
    pub fn done(json: Value, lines: Vec<String>) -> Self {
        Self { done: true, ..Self::shown(json, lines) }
    }

    /// Text that has no other form.
    pub fn text(text: &str) -> Self {
        Self::shown(Value::Null, vec![text.trim_end().to_owned()])
    }

    /// Nothing at all.
    pub fn nothing() -> Self {
        Self::shown(Value::Null, Vec::new())
    }

    /// What the command fails with once it is told.
    pub fn failing(self, why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..self }
    }

    /// What is to be said beside it that is probably not as it should be.
    pub fn warning(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    /// What is to be said beside it that is worth knowing.
    pub fn noting(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// Writes it to standard output, and what is said beside it where that is said.
    ///
    /// # Errors
    /// As [`Self::write`]; and what it was to fail with.
    pub fn print(&self, json: bool) -> Result<Reader> {
        self.warnings.iter().for_each(|text| warn(text));
        self.notes.iter().for_each(|text| note(text));
        let reader = self.write(&mut io::stdout().lock(), json)?;
        match &self.failure {
            Some(why) => Err(anyhow!("{why}")),
            None => Ok(reader),
        }
    }

    /// Writes it. A reader that has seen enough and has closed the pipe is no error.
    ///
    /// # Errors
    /// It cannot be written, for example to a full device; what was done is then part of the error.
    fn write(&self, to: &mut impl Write, json: bool) -> Result<Reader> {
        let mut text = match json {
            true if !self.json.is_null() => self.json.to_string(),
            true => return Ok(Reader::There),
            false => visible(&self.lines.join("\n"), LAYOUT),
        };
        if text.is_empty() {
            return Ok(Reader::There);
        }
        text.push('\n');
        match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
            Ok(()) => Ok(Reader::There),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => {
                let what = if self.done {
                    anyhow!("this was done, and could not be written to standard output: {}", text.trim_end())
                } else {
                    anyhow!("what was asked for could not be written to standard output")
                };
                Err(error).context(what)
            }
        }
    }
}

/// Columns of a terminal.
pub const WIDTH: usize = 80;

/// Text behind a head, in lines that fit a terminal; those that follow are indented. A word that is longer stays whole, to be copied.
pub fn folded(head: &str, text: &str, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(std::mem::replace(&mut line, format!("{:indent$}{word}", "")));
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Fails as the kernel does.
    struct Broken(Errno);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(self.0))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_device_is_an_error_that_tells_what_was_done_and_a_closed_pipe_is_none() {
        let done = Output::done(json!({}), vec!["eth0: attached".to_owned()]);
        let error = done.write(&mut Broken(Errno::ENOSPC), false).expect_err("it is full");
        assert!(format!("{error:#}").contains("eth0: attached"), "{error:#}");
        assert!(format!("{error:#}").contains("No space left"), "{error:#}");
        let gone = done.write(&mut Broken(Errno::EPIPE), false).expect("that is no error");
        assert_eq!(gone, Reader::Gone);
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_as_an_escape() {
        let mut written = Vec::new();
        let _reader = Output::shown(Value::Null, vec!["a\u{1b}[31m\tb".to_owned(), "c\u{9b}".to_owned()])
            .write(&mut written, false)
            .expect("there is room");
        assert_eq!(String::from_utf8_lossy(&written), "a\\u{1b}[31m\tb\nc\\u{9b}\n");
    }

    #[test]
    fn what_has_nothing_to_tell_writes_nothing() {
        for json in [true, false] {
            let nothing = Output::nothing().write(&mut Broken(Errno::EIO), json);
            assert_eq!(nothing.expect("nothing is written"), Reader::There);
        }
    }
}
