//! Owns a `serve` that members of a group may ask: in a mount namespace with a `/run` of its own, in which other users than root find the
//! program, too.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::ctl;
use crate::netns::Namespace;
use crate::process::{self, Finished, Watch};

/// Number of the group that may ask; no group of this host is called so.
pub const GROUP: u32 = 414_243;
/// Where others than root find the program.
pub const PROGRAM: &str = "/run/icmp-ctl.exe";
/// What `serve` says when it has started.
const SERVING: &str = "serving metrics";
const LIMIT: Duration = Duration::from_secs(40);

/// The `serve`, and who asks it.
#[derive(Debug)]
pub struct Readers<'a> {
    host: &'a Namespace,
    /// The daemon.
    pub serve: Watch,
}

impl<'a> Readers<'a> {
    /// Starts it with a configuration, once this has been done to its `/run`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(host: &'a Namespace, config: &str, before: &str) -> Self {
        let script = format!(
            "mount -t tmpfs none /run && install -d -m 2750 -g {GROUP} /run/icmp-ctl && touch {PROGRAM} && \
             mount --bind \"$0\" {PROGRAM} && chmod 755 /run && {before} exec \"$0\" serve -f \"$1\""
        );
        let program = ctl::program().to_str().expect("a path in UTF-8");
        let mut serve = host.watch("unshare", &["--mount", "sh", "-ec", &script, program, config]);
        serve.wait_for(SERVING, LIMIT);
        Self { host, serve }
    }

    /// What runs a command line, which is to be added, as a user who is in this group, and may do nothing that root may.
    #[must_use]
    pub fn user(&self, group: u32) -> Command {
        let mut command = self.host.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.serve.id()));
        let group = format!("--groups={group}");
        command.args(["setpriv", "--reuid=65534", "--regid=65534", &group]);
        command
    }

    /// A command line of such a user.
    #[must_use]
    pub fn command(&self, group: u32, arguments: &str) -> Command {
        let mut command = self.user(group);
        command.arg(PROGRAM).args(arguments.split_whitespace());
        command
    }

    /// What it comes to for a member of the group that may ask.
    #[must_use]
    pub fn member(&self, arguments: &str) -> Finished {
        process::run(&mut self.command(GROUP, arguments))
    }

    /// Where this test finds what `serve` has in its `/run/icmp-ctl`.
    ///
    /// # Panics
    /// If there is not exactly one such file.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let folder = format!("/proc/{}/root/run/icmp-ctl", self.serve.id());
        let files: Vec<_> = std::fs::read_dir(&folder).expect("a folder").flatten().collect();
        let [file] = &files[..] else { panic!("one socket and not {files:?}") };
        file.path()
    }

    /// Connects to its socket.
    ///
    /// # Panics
    /// If nobody listens there.
    #[must_use]
    pub fn connect(&self) -> UnixStream {
        let socket = self.socket();
        UnixStream::connect(&socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()))
    }
}
