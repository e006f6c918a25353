//! Failures of commands: the documented exit codes, attached to errors.

use std::fmt;

use aya::programs::ProgramError;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::diagnostics::without_numbers;

/// Exit codes other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[repr(u8)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// There is nothing loaded in this network namespace.
    NothingLoaded = 3,
    /// The kernel wants privileges that the caller does not have.
    Permission = 4,
    /// The kernel or the driver refused.
    Refused = 5,
    /// A guard refused what would cut the host off.
    Guarded = 6,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Failed, Self::Usage, Self::NothingLoaded, Self::Permission, Self::Refused, Self::Guarded];

    /// What it means, for the manual and docs/reference/reasons.md.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Failed => {
                "tried, and failed; also a configuration that is refused, an interface that does not exist, another XDP program; \
                 `doctor` has found something broken"
            }
            Self::Usage => "usage: an unknown verb or option, a missing argument",
            Self::NothingLoaded => "nothing is loaded in this network namespace",
            Self::Permission => "a permission is missing",
            Self::Refused => "the kernel or the driver refused; also a kernel older than 6.1",
            Self::Guarded => {
                "the policy would break what hosts need, or a list has become empty, and no `--allow-break` or `--allow-empty` is given"
            }
        }
    }
}

/// An error with an exit code of its own; every other error exits with [`Exit::Failed`].
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What happened and what to do about it.
    pub message: String,
}

impl Failure {
    /// As an error to be returned; add context to it as to any other.
    pub fn error(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { exit, message: message.into() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error: its own, or that of a missing permission anywhere in its chain.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let own = error.downcast_ref::<Failure>().map(|failure| failure.exit);
    let denied = has_errno(error, &[nix::libc::EPERM, nix::libc::EACCES]);
    own.unwrap_or(if denied { Exit::Permission } else { Exit::Failed })
}

/// An error and its causes as one sentence. What a library says twice is said once, and the kernel's numbers for its errors are left out
/// beside its words for them. The verifier's log, which is many sentences, is left out.
pub fn sentence(error: &anyhow::Error) -> String {
    text(error, false)
}

/// As [`sentence`], with the verifier's log.
pub fn in_full(error: &anyhow::Error) -> String {
    text(error, true)
}

fn text(error: &anyhow::Error, verbose: bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref::<ProgramError>() {
            Some(ProgramError::LoadError { io_error, .. }) if !verbose => {
                format!("{io_error} (`-v` prints the verifier's log)")
            }
            _ => cause.to_string(),
        };
        let text = without_numbers(&text);
        // An error that quotes its own cause has said that already.
        if !parts.iter().any(|said| said.contains(&text)) {
            parts.push(text);
        }
    }
    let said = parts.join(": ");
    // The limit of the whole system (ENFILE) has the same beginning, in the C library's words.
    if said.contains("Too many open files") && !said.contains("Too many open files in system") {
        return format!("{said}; `ulimit -n 1024` raises how many this process may have");
    }
    said
}

/// True where the kernel's error is one of these.
pub fn has_errno(error: &anyhow::Error, errnos: &[i32]) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let errno = cause.downcast_ref::<Errno>().map(|errno| *errno as i32);
        io.or(errno).is_some_and(|errno| errnos.contains(&errno))
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_sentence_that_says_nothing_twice() {
        let full = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
        let error = Err::<(), _>(full).context("writing x").expect_err("it is one");
        assert_eq!(sentence(&error), "writing x: No space left on device");
        let too_many =
            anyhow::Error::new(std::io::Error::from_raw_os_error(nix::libc::EMFILE)).context("reading x");
        assert_eq!(
            sentence(&too_many),
            "reading x: Too many open files; `ulimit -n 1024` raises how many this process may have"
        );
        let in_system = anyhow::Error::new(std::io::Error::from_raw_os_error(nix::libc::ENFILE));
        assert_eq!(sentence(&in_system), "Too many open files in system");
        let error = anyhow::anyhow!("failed").context("it failed").context("failed to try: it failed");
        assert_eq!(sentence(&error), "failed to try: it failed");
    }

    #[test]
    fn the_verifiers_log_is_for_who_asks_for_it() {
        let error = anyhow::Error::new(ProgramError::LoadError {
            io_error: std::io::Error::from_raw_os_error(nix::libc::EACCES),
            verifier_log: aya_obj::VerifierLog::new("0: (b7) r0 = 1\nR0 !read_ok".to_owned()),
        });
        let error = error.context("loading the program icmp_ctl");
        let short = "loading the program icmp_ctl: Permission denied (`-v` prints the verifier's log)";
        assert_eq!(sentence(&error), short);
        assert!(in_full(&error).contains("R0 !read_ok"), "{}", in_full(&error));
    }
}
