//! The file of a configuration: reading it, and replacing its text.
//!
//! Owns that at any time the file has the old text or the new one, whichever process is killed and whichever disk is full; that links to it,
//! its owner, mode, access control list and extended attributes stay; and that text which another process wrote meanwhile is not lost.
//! `file.rs` owns the meaning of the text.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, StatxAttributes, StatxFlags, XattrFlags, fremovexattr, fsetxattr, getxattr, listxattr,
    statx,
};
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile};

use crate::kernel::files::{read_again, seen_by_caller};

/// Mode of a file that is new.
const MODE: u32 = 0o644;

/// The attribute that is an access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// Bytes of the longest list of attributes, and of the longest attribute (xattr(7)).
const LONGEST: usize = 1 << 16;

/// A file as it was read.
#[derive(Debug)]
pub struct OnDisk {
    path: PathBuf,
    /// Its text; `None` where it is not there.
    pub text: Option<String>,
}

/// A text that waits to take the place of a file's.
#[derive(Debug)]
pub struct Replacement {
    file: OnDisk,
    temporary: NamedTempFile,
    to: PathBuf,
}

impl OnDisk {
    /// Reads a file, which need not exist.
    ///
    /// # Errors
    /// It exists and cannot be read, or is no regular file: to put one in the place of a device would break whoever uses that.
    pub fn read(path: &Path) -> Result<Self> {
        let is_absent = |error: &io::Error| error.kind() == ErrorKind::NotFound;
        let text = match read_again(path) {
            Ok(text) => Some(text),
            Err(error) if error.downcast_ref().is_some_and(is_absent) => None,
            Err(error) => {
                return Err(error.context(format!("reading the configuration {}", path.display())));
            }
        };
        Ok(Self { path: path.to_owned(), text })
    }

    /// Writes another text beside it, which takes no effect before [`Replacement::finish`].
    ///
    /// # Errors
    /// It cannot be written there with the owner, the mode and the attributes of the file; nothing is left of it.
    pub fn replace(self, text: &str) -> Result<Replacement> {
        let what = format!("writing the configuration {}", self.path.display());
        let written = self.write_beside(text).context(what)?;
        Ok(Replacement { to: written.1, temporary: written.0, file: self })
    }

    fn write_beside(&self, text: &str) -> Result<(NamedTempFile, PathBuf)> {
        let to = seen_by_caller(&behind_links(&self.path)?);
        let folder = to.parent().unwrap_or_else(|| Path::new("/"));
        if self.text.is_none() {
            fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        }
        if self.text.is_some() {
            refuse_fixed(&to, FIXED_FILE)?;
        }
        refuse_fixed(folder, FIXED_FOLDER)?;
        let mut temporary = Builder::new().prefix(".icmp-ctl-").tempfile_in(folder)?;
        let mut mode = MODE;
        if self.text.is_some() {
            let (old, new) = (fs::metadata(&to)?, temporary.as_file().metadata()?);
            mode = old.mode() & 0o7777;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(temporary.as_file(), Some(old.uid()), Some(old.gid())).context("keeping its owner")?;
            }
        }
        temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
        temporary.write_all(text.as_bytes())?;
        if self.text.is_some() {
            // Writing takes some of them away.
            keep_attributes(&to, temporary.as_file())?;
        }
        temporary.as_file().sync_all()?;
        Ok((temporary, to))
    }
}

impl Replacement {
    /// Puts the text in the place of the file's.
    ///
    /// # Errors
    /// The file is not as it was read, or cannot be replaced; it is as it was.
    pub fn finish(self) -> Result<()> {
        let Self { file, temporary, to } = self;
        let name = file.path.display();
        ensure!(
            OnDisk::read(&file.path)?.text == file.text,
            "{name} was changed by another process meanwhile, and is left as it is now"
        );
        let folder = to.parent().map(File::open);
        temporary.persist(&to).with_context(|| format!("replacing the configuration {name}"))?;
        // The text is in place. Without this a loss of power may bring back the old one, whole.
        if let Some(Ok(folder)) = folder {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Why another file cannot take the place of this one, although one can be written beside it.
const FIXED_FILE: &[(StatxAttributes, &str)] = &[
    (
        StatxAttributes::MOUNT_ROOT,
        "the file is a mount of its own, as in containers, and cannot be replaced; mount its folder, or save to another file",
    ),
    (StatxAttributes::IMMUTABLE, "the file is immutable (lsattr(1)), and cannot be replaced"),
    (StatxAttributes::APPEND, "the file is append-only (lsattr(1)), and cannot be replaced"),
];
/// As [`FIXED_FILE`], of its folder.
const FIXED_FOLDER: &[(StatxAttributes, &str)] =
    &[(StatxAttributes::APPEND, "its folder is append-only (lsattr(1)), and no file in it can be replaced")];

/// Refuses what would fail only when the file is replaced, and the change is made.
fn refuse_fixed(path: &Path, attributes: &[(StatxAttributes, &'static str)]) -> Result<()> {
    let has = statx(CWD, path, AtFlags::empty(), StatxFlags::empty())?.stx_attributes;
    let why = attributes.iter().find(|(attribute, _)| has.contains(*attribute));
    why.map_or(Ok(()), |(_, why)| bail!("{why}"))
}

/// Gives a new file the access control list of another one and the attributes that are not of its content, and no list where that has none: a new
/// one may have its folder's.
fn keep_attributes(old: &Path, new: &File) -> Result<()> {
    let mut names = Vec::with_capacity(LONGEST);
    match listxattr(old, spare_capacity(&mut names)) {
        Err(Errno::NOTSUP) => return Ok(()),
        listed => listed.context("reading its attributes")?,
    };
    let names = || names.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    if names().all(|name| name != ACL) {
        match fremovexattr(new, ACL) {
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            removed => removed.context("taking its folder's access control list off")?,
        }
    }
    let is_kept = |name: &&str| *name == ACL || name.starts_with("user.") || is_label(name);
    for name in names().filter(is_kept) {
        let mut value = Vec::with_capacity(LONGEST);
        let kept = getxattr(old, name, spare_capacity(&mut value))
            .and_then(|_| fsetxattr(new, name, &value, XattrFlags::empty()));
        match kept {
            Err(Errno::NOTSUP) => {}
            kept => kept.with_context(|| format!("keeping its attribute {name}"))?,
        }
    }
    Ok(())
}

/// Whether an attribute is a security module's, and no measure of the content (`security.ima`) or of that and the other attributes (`security.evm`),
/// which the kernel makes again.
fn is_label(name: &str) -> bool {
    name.starts_with("security.") && name != "security.ima" && name != "security.evm"
}

/// The file that a path leads to, by however many symbolic links.
fn behind_links(path: &Path) -> Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    // As many as the kernel follows.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(seen_by_caller(&path)) else { break };
        path = path.parent().unwrap_or_else(|| Path::new("/")).join(target);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use caps::{CapSet, Capability};
    use rustix::fs::{removexattr, setxattr};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_keeps_its_mode_and_the_links_to_it() {
        let folder = folder();
        let (real, link) = (folder.path().join("real.toml"), folder.path().join("link.toml"));
        fs::write(&real, "old").expect("written");
        fs::set_permissions(&real, Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink("real.toml", &link).expect("a link");
        OnDisk::read(&link).expect("there").replace("new").expect("written").finish().expect("replaced");
        assert_eq!(fs::read_to_string(&real).expect("there"), "new");
        assert_eq!(fs::read_link(&link).expect("a link"), Path::new("real.toml"));
        assert_eq!(fs::metadata(&real).expect("there").mode() & 0o7777, 0o640);
        assert_eq!(names(folder.path()), ["link.toml", "real.toml"]);
    }

    /// An access control list by which a user may do so much, and the mask allows all.
    fn acl(user: u32, may: u16) -> Vec<u8> {
        let entry = |tag: u16, may: u16, id: u32| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let nobody = u32::MAX;
        let entries = [(1, 6, nobody), (2, may, user), (4, 4, nobody), (0x10, 7, nobody), (0x20, 4, nobody)];
        let entries = entries.map(|(tag, may, id)| entry(tag, may, id)).concat();
        [&2_u32.to_le_bytes()[..], &entries].concat()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a skip says why")]
    fn a_file_keeps_its_attributes_and_gets_no_access_control_list_of_its_folder() {
        let folder = folder();
        let path = folder.path().join("c.toml");
        let attribute = |name: &str| {
            let mut value = Vec::with_capacity(LONGEST);
            getxattr(&path, name, spare_capacity(&mut value)).map(|_| value)
        };
        let set = |of: &Path, name: &str, value: &[u8]| setxattr(of, name, value, XattrFlags::empty());
        let labels = ["user.note", "security.icmp-test", "security.selinux"];
        fs::write(&path, "old").expect("written");
        if let Err(error) = set(folder.path(), "system.posix_acl_default", &acl(1234, 4)) {
            println!("skipped: no access control lists here: {error}");
            return;
        }
        for (name, own) in labels.iter().map(|name| (*name, b"of it".to_vec())).chain([(ACL, acl(5678, 6))]) {
            let is_set = set(&path, name, &own).is_ok();
            assert!(is_set || name.starts_with("security."), "{name} belongs to root");
        }
        let before = [labels[0], labels[1], labels[2], ACL].map(attribute);
        let put =
            |text| OnDisk::read(&path).and_then(|file| file.replace(text)).and_then(Replacement::finish);
        put("new").expect("replaced");
        assert_eq!([labels[0], labels[1], labels[2], ACL].map(attribute), before);
        removexattr(&path, ACL).expect("it has one");
        put("newer").expect("replaced");
        assert_eq!(attribute(ACL), Err(Errno::NODATA), "the folder's would let another one read it");
        assert_eq!(attribute(labels[0]), before[0]);
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a skip says why")]
    fn a_file_with_an_attribute_that_cannot_be_kept_is_left_as_it_is() {
        let folder = folder();
        let path = folder.path().join("c.toml");
        fs::write(&path, "old").expect("written");
        if let Err(error) = setxattr(&path, "security.icmp-test", b"of it", XattrFlags::empty()) {
            println!("skipped: no such attribute here: {error}");
            return;
        }
        // Of this thread, which ends with the test.
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).expect("it may");
        let error = OnDisk::read(&path).expect("there").replace("new").expect_err("only root may set it");
        assert!(format!("{error:#}").contains("keeping its attribute security.icmp-test"), "{error:#}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "old");
        assert_eq!(names(folder.path()), ["c.toml"]);
    }

    #[test]
    fn a_file_that_somebody_has_changed_meanwhile_is_left_as_it_is() {
        let folder = folder();
        let path = folder.path().join("c.toml");
        for before in [None, Some("old")] {
            if let Some(text) = before {
                fs::write(&path, text).expect("written");
            }
            let replacement = OnDisk::read(&path).expect("readable").replace("ours").expect("written");
            fs::write(&path, "theirs").expect("written");
            let error = replacement.finish().expect_err("it is another one").to_string();
            assert!(error.contains("another process"), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("there"), "theirs");
            assert_eq!(names(folder.path()), ["c.toml"]);
        }
    }

    #[test]
    fn nothing_but_a_regular_file_is_read_or_replaced() {
        let folder = folder();
        let fifo = folder.path().join("fifo");
        // Nobody writes into it, so whoever read it would wait for ever; of /dev/zero there is no end.
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
        for path in [&fifo, &link, Path::new("/dev/null"), Path::new("/dev/zero")] {
            let error = format!("{:#}", OnDisk::read(path).expect_err("it is none"));
            assert!(error.contains(&format!("{}: it is no regular file", path.display())), "{error}");
        }
    }

    #[test]
    fn what_is_not_finished_leaves_the_old_text_and_nothing_else() {
        let folder = folder();
        let path = folder.path().join("c.toml");
        fs::write(&path, "old").expect("written");
        drop(OnDisk::read(&path).expect("there").replace("new").expect("written"));
        assert_eq!(
            (fs::read_to_string(&path).expect("there").as_str(), names(folder.path())),
            ("old", vec!["c.toml".to_owned()])
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_made_with_its_folder() {
        let folder = folder();
        let path = folder.path().join("etc/icmp-ctl/c.toml");
        OnDisk::read(&path).expect("none").replace("new").expect("written").finish().expect("made");
        assert_eq!(fs::read_to_string(&path).expect("there"), "new");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, MODE);
    }
}
