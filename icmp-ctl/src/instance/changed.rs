//! Who has changed the policy last: a note among the pins.
//!
//! Owns the note's form. It is for events only: if it cannot be written, the change is made all the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Uid, User, getuid};
use serde::{Deserialize, Serialize};

use crate::instance::pins::Pins;
use crate::kernel::bpffs::remove_if_there;

/// Symbolic link whose target is the note, as JSON.
const NOTE: &str = "changed";
/// Bytes of a command line that are noted: a link's target has a page at most.
const COMMAND: usize = 512;
/// Whoever has not logged in (credentials(7)).
const NOBODY: u32 = u32::MAX;

/// What has become of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// Another one was put in force.
    Applied,
    /// The one that awaited confirmation is kept.
    Confirmed,
    /// The one that awaited confirmation was taken back.
    RolledBack,
}

/// A change of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Change {
    /// What it was.
    pub became: Became,
    /// The command line, without the program; not all of one that is long.
    pub command: String,
    /// As whom it ran.
    pub uid: u32,
    /// Who has logged in to run it (`/proc/self/loginuid`); `None` where that is not known, as of a service.
    pub login_uid: Option<u32>,
    /// When, in nanoseconds since 1970: no two are alike.
    at: u64,
}

impl Change {
    pub(crate) fn now(became: Became) -> Self {
        let words: Vec<_> =
            std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        let login = fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse().ok());
        Self {
            became,
            command: words.join(" ").chars().take(COMMAND).collect(),
            uid: getuid().as_raw(),
            login_uid: login.filter(|uid| *uid != NOBODY),
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
        }
    }

    /// The name of who did it, or the number of who has none.
    pub fn user(&self) -> String {
        let uid = self.login_uid.unwrap_or(self.uid);
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(|| uid.to_string(), |user| user.name)
    }
}

impl Pins {
    /// Notes what this process has done with the policy just now.
    pub fn note_change(&self, became: Became) {
        let note = self.directory.join(NOTE);
        let text = serde_json::to_string(&Change::now(became));
        // What it is about is done.
        let _ = text.map(|text| remove_if_there(&note).is_ok() && symlink(text, &note).is_ok());
    }

    /// The last change; `None` where none is noted.
    pub fn last_change(&self) -> Option<Change> {
        let text = fs::read_link(self.directory.join(NOTE)).ok()?;
        serde_json::from_str(text.to_str()?).ok()
    }
}
