//! Owns folders for what a test writes; each is gone with its guard.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process;

/// A fresh, empty folder that lives as long as this value.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one below the system's folder for temporary files.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("icmp-tests-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it, and returns its path as programs take it.
    ///
    /// # Panics
    /// If it can't be written.
    #[must_use]
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path.into_os_string().into_string().expect("a path in UTF-8")
    }

    /// Puts a script into it that can be run. Another process writes it: what this one has open to write, a child of another thread may
    /// have for a moment, and the kernel runs no file that is open to write.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn script(&self, name: &str, content: &str) {
        let source = self.file(&format!("{name}.source"), content);
        let target = self.path.join(name);
        let _nothing =
            process::run(Command::new("install").args(["-m", "755", &source]).arg(target)).expect_success();
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} stays: {e}", self.path.display());
        }
    }
}
