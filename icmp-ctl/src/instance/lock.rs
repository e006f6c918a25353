//! The lock of an instance: one process at a time changes it.
//!
//! Owns where the lock is, how long a command waits for it, and naming its holder. Verbs that only look take no lock.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use crate::diagnostics::note;

/// Nothing that is done under a lock takes longer, not even a load where the verifier runs on an emulated CPU.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// After which time whoever waits says for whom.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks: flock(2) has no deadline of its own.
const PAUSE: Duration = Duration::from_millis(20);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    held: Flock<File>,
    path: PathBuf,
    /// What the lock is about.
    instance: PathBuf,
}

impl Lock {
    /// Takes the lock at `path`, a directory that is made if need be, whose parents only root may enter: who cannot open it cannot hold it.
    ///
    /// # Errors
    /// It cannot be made, or another process has it until the deadline; the error names that.
    pub(super) fn take(path: &Path, instance: &Path, deadline: Duration) -> Result<Self> {
        let started = Instant::now();
        let mut said = false;
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("making the lock {}", path.display()))?;
            let file = match File::open(path) {
                // Its last holder has removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.with_context(|| format!("opening the lock {}", path.display()))?,
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) if is_at(&held, path) => {
                    return Ok(Self { held, path: path.to_owned(), instance: instance.to_owned() });
                }
                // The one that it waited for was removed with its instance.
                Ok(_) => continue,
                Err((file, Errno::EWOULDBLOCK)) => {
                    let waited = started.elapsed();
                    if waited >= deadline {
                        bail!(
                            "waited {} s for {}, which is changing the instance of this network namespace; try again when it is done, \
                             or end it if it hangs",
                            waited.as_secs(),
                            holder(&file)
                        );
                    }
                    if waited >= PATIENCE && !said {
                        note(&format!("waiting for {}, which is changing the instance", holder(&file)));
                        said = true;
                    }
                    std::thread::sleep(PAUSE);
                }
                Err((_, error)) => {
                    return Err(error).with_context(|| format!("taking the lock {}", path.display()));
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Of an instance that is gone nothing stays, and that includes its lock. Whoever waits for it looks again.
        if !self.instance.exists() && is_at(&self.held, &self.path) {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// True where a path still leads to the file that was opened by it.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

/// Who has the lock on a file, as words.
fn holder(file: &File) -> String {
    let unknown = "a process that cannot be seen from here".to_owned();
    let (Ok(file), Ok(locks)) = (file.metadata(), fs::read_to_string("/proc/locks")) else { return unknown };
    let id = format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino());
    let Some(pid) = holder_in(&locks, &id) else { return unknown };
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    match line.trim_end_matches('\0').replace('\0', " ").as_str() {
        // It has ended, and left the lock to a child.
        "" => format!("process {pid}"),
        line => format!("process {pid} ({line})"),
    }
}

/// The process that has the lock on the file `id` in a listing like that of proc_locks(5).
fn holder_in(locks: &str, id: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // Those that wait have an arrow in front.
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, file, ..] if *file == id => pid.parse().ok().filter(|pid| *pid != 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_not_given_back_is_waited_for_until_the_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let _held = Lock::take(&path, folder.path(), DEADLINE).expect("nobody has it");
        let error = Lock::take(&path, folder.path(), Duration::ZERO).expect_err("it is taken");
        assert!(format!("{error:#}").starts_with("waited 0 s for "), "{error:#}");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_lock_goes_with_its_instance_and_whoever_waited_has_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, instance) = (folder.path().join("lock"), folder.path().join("instance"));
        fs::create_dir(&instance).expect("an instance");
        let held = Lock::take(&path, &instance, DEADLINE).expect("nobody has it");
        let waiting = {
            let (path, instance) = (path.clone(), instance.clone());
            std::thread::spawn(move || {
                Lock::take(&path, &instance, DEADLINE).map(|lock| is_at(&lock.held, &path))
            })
        };
        fs::remove_dir(&instance).expect("it is empty");
        drop(held);
        assert!(waiting.join().expect("it ran").expect("it has the lock"));
    }

    #[test]
    fn the_holder_is_the_process_that_has_the_lock_and_not_one_that_waits() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:27:5 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 00:27:5 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 00:27:5 0 EOF\n3: FLOCK  ADVISORY  WRITE 0 00:27:6 0 EOF\n";
        assert_eq!(holder_in(locks, "00:27:5"), Some(12));
        assert_eq!(holder_in(locks, "00:27:6"), None, "one of another process namespace");
    }
}
