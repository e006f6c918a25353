//! How a command ends when it does not succeed: the documented exit codes, attached to errors.

use std::fmt;
use std::process::ExitCode;

/// Exit codes other than 0, as docs/cli.md documents them. Usage errors (2) are clap's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// There is nothing loaded in this network namespace.
    NothingLoaded = 3,
    /// The kernel wants privileges that the caller does not have.
    Permission = 4,
    /// The kernel or the driver refused.
    Refused = 5,
    /// A guard refused what would cut the host off.
    Guarded = 6,
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
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let own = error.downcast_ref::<Failure>().map(|failure| failure.exit);
    let denied = has_errno(error, &[nix::libc::EPERM, nix::libc::EACCES]);
    ExitCode::from(own.unwrap_or(if denied { Exit::Permission } else { Exit::Failed }) as u8)
}

/// True where the kernel's error is one of these.
pub fn has_errno(error: &anyhow::Error, errnos: &[i32]) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let errno = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
        io.or(errno).is_some_and(|errno| errnos.contains(&errno))
    })
}
