//! Processes that have a BPF link open.
//!
//! Owns how they are found: in /proc, as far as this process sees others there.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// A process that has a link open.
pub(crate) struct Holder {
    /// Its number.
    pub(crate) pid: Pid,
    path: PathBuf,
}

impl Holder {
    /// What it is called.
    pub(crate) fn name(&self) -> String {
        fs::read_to_string(self.path.join("comm")).unwrap_or_default().trim().to_owned()
    }

    /// Whether it is in the caller's network namespace; `None` where that is not known.
    pub(crate) fn is_here(&self) -> Option<bool> {
        let of = |process: &Path| fs::read_link(process.join("ns/net")).ok();
        Some(of(&self.path)? == of(Path::new("/proc/thread-self"))?)
    }
}

/// The processes that have a link open, of those that can be asked.
pub(crate) fn holders(link_id: u32) -> impl Iterator<Item = Holder> {
    let line = format!("link_id:\t{link_id}");
    let has_it = move |process: &Path| {
        let files = fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|text| text.lines().any(|found| found == line))
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        has_it(&entry.path()).then(|| Holder { pid, path: entry.path() })
    })
}
