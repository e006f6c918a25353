//! The initramfs of a test VM, as a `newc` cpio archive.
//!
//! Owns the format and none of the contents: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel. Written here because it
//! is some sixty lines, and a cpio program is one more thing to install.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive in the making. Directories have to come before what is in them.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o755, (0, 0), content);
    }

    pub(crate) fn character_device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | 0o600, number, &[]);
    }

    /// All that is in a folder below `root`: folders, files with their modes, and links. Everything is root's there; what else there is, is left out.
    pub(crate) fn folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let reading = |path: &Path| format!("reading {}", path.display());
        let path = root.join(folder);
        for entry in fs::read_dir(&path).with_context(|| reading(&path))? {
            let name = folder.join(entry.with_context(|| reading(&path))?.file_name());
            let path = root.join(&name);
            let found = fs::symlink_metadata(&path).with_context(|| reading(&path))?;
            let mode = found.mode() & 0o7777;
            let text = name.to_str().with_context(|| format!("{} is no UTF-8", name.display()))?;
            if found.is_dir() {
                self.entry(text, DIRECTORY | mode, (0, 0), &[]);
                self.folder(root, &name)?;
            } else if found.is_file() {
                self.entry(text, FILE | mode, (0, 0), &fs::read(&path).with_context(|| reading(&path))?);
            } else if found.is_symlink() {
                let to = fs::read_link(&path).with_context(|| reading(&path))?;
                self.entry(text, LINK | 0o777, (0, 0), to.as_os_str().as_bytes());
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let name_size = path.len() + 1;
        let mut header = String::from("070701");
        let size = content.len();
        // ino, mode, uid, gid, nlink, mtime
        for field in [self.entries, mode, 0, 0, 1, 0] {
            let _infallible = write!(header, "{field:08x}");
        }
        // filesize, the filesystem's own device, rdev, namesize, check
        let _infallible =
            write!(header, "{size:08x}{:08x}{:08x}{major:08x}{minor:08x}{name_size:08x}{:08x}", 0, 0, 0);
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_starts_with_the_magic_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.program("init", b"#!/bin/sh\n");
        let bytes = archive.finish();
        let magics: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, window)| window == b"070701")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(magics.len(), 3, "two entries and the trailer");
        assert!(magics.iter().all(|at| at % 4 == 0), "{magics:?}");
    }

    #[test]
    fn the_size_fields_are_where_the_format_has_them() {
        let mut archive = Archive::default();
        archive.program("init", b"0123456789");
        let header = String::from_utf8(archive.bytes[..110].to_vec()).unwrap();
        assert_eq!(&header[54..62], "0000000a", "filesize");
        assert_eq!(&header[94..102], "00000005", "namesize counts the final zero");
    }
}
