//! Files as the caller of the command sees them, also after the command has entered another mount namespace.
//!
//! Owns the file descriptors that are kept of the first one, telling files apart, reading what may have to be read again, and that a refused
//! write is an error. `ip netns exec` shows the command that network namespace's own files (`/etc/netns/NAME/` over `/etc/`), and the command
//! leaves that view to reach the pins.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

/// The longest file that is read: several times what there is room for.
const LONGEST: u64 = 64 << 20;

/// What a command sees.
static FIRST: OnceLock<View> = OnceLock::new();

struct View {
    root: File,
    /// The current folder; whoever enters another mount namespace is in its root.
    folder: File,
    /// The mount namespace, without which what is mounted in it would be gone.
    _mounts: File,
}

/// Keeps what this process sees now.
pub(super) fn keep() -> std::io::Result<()> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(".")?;
    let seen = View { root: File::open("/")?, folder, _mounts: File::open("/proc/self/ns/mnt")? };
    // The first one is the caller's.
    let _ = FIRST.set(seen);
    Ok(())
}

/// Has a write beyond the longest file that this process may make (setrlimit(2), `RLIMIT_FSIZE`) fail, as one to a full device does, and not end
/// the process in the middle of a change.
///
/// # Errors
/// None that the kernel knows for this signal.
pub fn outlive_size_limit() -> Result<()> {
    // SAFETY: a signal that is ignored runs nothing.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.context("ignoring SIGXFSZ")?;
    Ok(())
}

/// The path by which to open what the caller calls so.
pub fn seen_by_caller(path: &Path) -> PathBuf {
    let Some(View { root, folder, .. }) = FIRST.get() else { return path.to_owned() };
    let (top, below) = path.strip_prefix("/").map_or((folder, path), |below| (root, below));
    Path::new(&format!("/proc/self/fd/{}", top.as_raw_fd())).join(below)
}

/// Whether a path stands for standard input or output.
pub fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether a path means the same file to others and later: no FIFO, and none that a process calls so because it has it open, as `<(…)` of a
/// shell does.
pub fn is_there_for_others(path: &Path) -> bool {
    let is_of_one_process = ["/dev/fd", "/dev/stdin", "/proc"].iter().any(|own| path.starts_with(own));
    !is_of_one_process && seen_by_caller(path).is_file()
}

/// What tells a file from others.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// Device and number.
    There(u64, u64),
    /// Device and number of its folder, and its name.
    NotYet(u64, u64, OsString),
}

/// What tells the file from others that the caller calls so, which need not exist; `None` of one that is no regular file, as nothing is lost by
/// writing to it.
pub fn identity(path: &Path) -> Option<Identity> {
    let seen = seen_by_caller(path);
    match fs::metadata(&seen) {
        Ok(there) if there.is_file() => Some(Identity::There(there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = seen.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = fs::metadata(folder.unwrap_or(Path::new("."))).ok()?;
            Some(Identity::NotYet(folder.dev(), folder.ino(), seen.file_name()?.to_owned()))
        }
        _ => None,
    }
}

/// Reads what the caller calls so, as text, where that may have to be done again by somebody who has other things to do.
///
/// # Errors
/// It cannot be read; it is no regular file, so that it may keep whoever reads it waiting, or be another one the next time; it is longer
/// than anything there is room for.
pub fn read_again(path: &Path) -> Result<String> {
    // Opening a FIFO would wait for somebody who writes.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(seen_by_caller(path))?;
    if !file.metadata()?.is_file() {
        bail!("it is no regular file, and only such a one can be read again");
    }
    to_the_end(file)
}

/// Reads what the caller calls so, as text, once: it may be a FIFO, whose other end is waited for.
///
/// # Errors
/// It cannot be read, or is longer than anything there is room for.
pub fn read_once(path: &Path) -> Result<String> {
    to_the_end(File::open(seen_by_caller(path))?)
}

/// Reads the rest of a text; some that can be read have no end.
///
/// # Errors
/// It cannot be read, or is longer than anything there is room for.
pub fn to_the_end(from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        bail!("it is longer than {} MiB", LONGEST >> 20);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("it is no text: the bytes from {at} on are no UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_read_for_ever() {
        let error = read_once(Path::new("/dev/zero")).expect_err("it has no end");
        assert!(error.to_string().contains("longer than 64 MiB"), "{error}");
        let _refused = to_the_end(std::io::repeat(b'#')).expect_err("it has no end");
        assert_eq!(read_once(Path::new("/dev/null")).expect("it is empty"), "");
    }

    #[test]
    fn what_is_no_text_is_called_that_and_where() {
        let error = to_the_end(&b"echo = \xfftrue"[..]).expect_err("it is no text");
        assert_eq!(error.to_string(), "it is no text: the bytes from 7 on are no UTF-8");
    }

    #[test]
    fn what_is_no_regular_file_is_not_read_again_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        // Nobody writes into it, so whoever waited would wait for ever.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let (fifo, device) = (read_again(&path), read_again(Path::new("/dev/zero")));
        for refused in [fifo, device] {
            let error = refused.expect_err("it is none");
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
    }
}
