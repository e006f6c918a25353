//! Sockets of `serve` in the file system: made for a group, and removed at the end.
//!
//! Owns their folder, whose group may connect. It does not know the protocol.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::{Gid, Group, User, getuid};

use crate::diagnostics::warn;
use crate::failure::{Exit, Failure};
use crate::kernel::user_namespace::Owner;

/// Their folder. It has the set-group-ID bit, so that what is made in it belongs to its group.
pub const FOLDER: &str = "/run/icmp-ctl";
const MODE: u32 = 0o660;
/// How long whoever listens may take to be known as that.
const TAKEN: Duration = Duration::from_secs(1);

/// What is behind the number of a network namespace in the name of the socket where its `serve` is asked by who looks without root.
const READERS: &str = ".sock";

/// The socket where the `serve` of the network namespace of this number is asked.
pub fn for_readers(namespace: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{namespace}{READERS}"))
}

/// Whether a socket in the folder is one of those, of whatever network namespace.
pub fn is_for_readers(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.strip_suffix(READERS));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// A socket that is listened on; it is removed with this value.
#[derive(Debug)]
pub struct Socket {
    /// What is listened with, which blocks nobody.
    pub listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens on a path, which is in the folder, for the folder's group.
    ///
    /// # Errors
    /// The folder is not there, or not only root may make something in it; or somebody listens there already.
    pub fn bind(path: &Path) -> Result<Self> {
        let group = group()?.with_context(|| {
            format!(
                "there is no {FOLDER}; its group is who may connect: install -d -m 2750 -g icmp-ctl {FOLDER}"
            )
        })?;
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_over(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        let listener =
            listener.with_context(|| format!("listening on {}, for group {group}", path.display()))?;
        let socket = Self { listener, path: path.to_owned() };
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever listens here next removes what is left.
        let _ = fs::remove_file(&self.path);
    }
}

/// It is a socket that nobody listens on: its process was killed. Whatever else may be there refuses connections, too.
fn is_left_over(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
        && connected(path, TAKEN).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// The process that listens on a socket; `None` where nobody does, or where it cannot be seen from here.
pub fn listener(path: &Path) -> Option<i32> {
    let stream = connected(path, TAKEN).ok()?;
    let process = getsockopt(&stream, sockopt::PeerCredentials).ok()?.pid();
    (process != 0).then_some(process)
}

/// The folder, whose group may come to it.
struct Folder {
    group: String,
    owner: Owner,
}

/// The group of the folder; `None` where the folder is not there.
///
/// # Errors
/// Others than root may put sockets there, its group may not come there, or what is made there does not belong to its group.
pub fn group() -> Result<Option<String>> {
    Ok(folder()?.map(|folder| folder.group))
}

fn folder() -> Result<Option<Folder>> {
    let there = match fs::symlink_metadata(FOLDER) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        there => there.with_context(|| format!("looking at {FOLDER}"))?,
    };
    let owner = Owner::of(&there);
    if !there.is_dir() || matches!(owner, Owner::Other(_)) || there.mode() & 0o2032 != 0o2010 {
        bail!(
            "{FOLDER} is owned by {owner} with mode {:04o}, and has to be root's, with the set-group-ID bit, entered by its group, and written to by root alone: \
             chown root {FOLDER} && chmod 2750 {FOLDER}",
            there.mode() & 0o7777
        );
    }
    let name = Group::from_gid(Gid::from_raw(there.gid())).ok().flatten();
    let group = name.map_or_else(|| there.gid().to_string(), |group| group.name);
    Ok(Some(Folder { group, owner }))
}

/// Connects to a socket in the folder, and waits so long for a place among those that wait to be taken.
///
/// # Errors
/// This user may not, or `serve` does not listen there; the error says what helps. As [`silent`], where there was no place.
pub fn connect(path: &Path, deadline: Duration) -> Result<UnixStream> {
    static SAID: Once = Once::new();
    let Some(Folder { group, owner }) = folder()? else {
        bail!("there is no {FOLDER}, whose group may ask `serve`; root makes it (docs/service.md)");
    };
    let stream = connected(path, deadline).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => silent(deadline),
        _ => refused(&error, &group, owner, path),
    })?;
    if let Owner::Hidden(namespace) = owner {
        SAID.call_once(|| {
            warn(&format!(
                "from user namespace {namespace} it cannot be seen whether {FOLDER} is root's: what is shown here is told by whoever made that \
                 folder"
            ));
        });
    }
    Ok(stream)
}

/// That `serve`, which may be asked, has not answered within this time.
pub fn silent(deadline: Duration) -> anyhow::Error {
    let deadline = deadline.as_secs();
    Failure::error(
        Exit::Failed,
        format!(
            "`serve` has not answered within {deadline} s: it is stopped, or busy with what others ask; ask again"
        ),
    )
}

/// Connects within this time, or would block (unix(7)): where many wait to be taken already, the standard library's own waits for ever.
fn connected(path: &Path, deadline: Duration) -> io::Result<UnixStream> {
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let whole = TimeVal::new(deadline.as_secs().cast_signed(), i64::from(deadline.subsec_micros()));
    setsockopt(&socket, sockopt::SendTimeout, &whole)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

fn refused(error: &io::Error, group: &str, owner: Owner, path: &Path) -> anyhow::Error {
    match (error.kind(), owner) {
        (ErrorKind::PermissionDenied, Owner::Hidden(namespace)) => anyhow::anyhow!(
            "members of the group of {FOLDER} may ask `serve`, and this process is not one; in user namespace {namespace} its name cannot be seen"
        ),
        (ErrorKind::PermissionDenied, _) => {
            let user = User::from_uid(getuid()).ok().flatten();
            let user = user.map_or_else(|| getuid().to_string(), |user| user.name);
            anyhow::anyhow!(
                "members of group {group} may ask `serve`, and this process is not one: usermod -aG {group} {user}, then log in again"
            )
        }
        (ErrorKind::NotFound | ErrorKind::ConnectionRefused, _) => {
            anyhow::anyhow!("`serve`, which would be asked, does not run in this network namespace")
        }
        _ => anyhow::anyhow!("asking `serve` over {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::Backlog;

    use super::*;

    #[test]
    fn where_too_many_wait_to_be_taken_nobody_waits_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        socket::listen(&listener, Backlog::new(0).expect("a length")).expect("it listens");
        let short = Duration::from_millis(10);
        let mut waiting = Vec::new();
        let error = loop {
            match connected(&path, short) {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), waiting.len()), (ErrorKind::WouldBlock, 1));
        assert!(!is_left_over(&path), "somebody listens");
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_taken_for_one_that_was_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let [socket, file] = ["socket", "file"].map(|name| folder.path().join(name));
        fs::write(&file, "a configuration").expect("written");
        let listener = UnixListener::bind(&socket).expect("bound");
        assert!(!is_left_over(&socket), "somebody listens");
        drop(listener);
        assert!(is_left_over(&socket));
        assert!(!is_left_over(&file));
    }
}
