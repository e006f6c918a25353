//! The files of a replay: input can be read twice, and no output file is an input or the other output, because it would be emptied first.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::file::Config;
use crate::failure::{Exit, Failure};
use crate::kernel::files::{identity, is_standard_stream};

/// What is read, each with what it is: a capture, configurations and the lists that these name.
pub fn read_by<'a>(
    capture: &Path,
    configurations: impl Iterator<Item = &'a Config>,
) -> Vec<(&'static str, PathBuf)> {
    let mut read = vec![("the capture", capture.to_owned())];
    for config in configurations {
        read.extend(config.file().map(|file| ("a configuration", file.to_owned())));
        read.extend(config.lists().map(|list| ("a list of a configuration", list)));
    }
    read
}

/// Refuses a capture that can be read once: it is read a first time for whose it is.
///
/// # Errors
/// It is standard input or another stream, with [`Exit::Usage`].
pub fn refuse_streams(capture: &Path) -> Result<()> {
    // What is not there, or a folder, is said by whoever reads it.
    let is_stream = capture.metadata().is_ok_and(|file| !file.is_file() && !file.is_dir());
    if is_standard_stream(capture) || is_stream {
        let text = format!(
            "the capture {}: it is no file, and is read twice; write it to a file and name that",
            capture.display()
        );
        return Err(Failure::error(Exit::Usage, text));
    }
    Ok(())
}

/// Refuses files that are to be written, each by its option, where one of them is another of them, or one that is read.
///
/// # Errors
/// One is, with [`Exit::Usage`].
pub fn refuse_overwriting(read: &[(&str, PathBuf)], written: [(&str, Option<&Path>); 2]) -> Result<()> {
    let mut taken = read.to_vec();
    for (option, path) in written {
        if path.is_some_and(is_standard_stream) {
            let text = format!("{option} -: standard output is for what was found; name a file");
            return Err(Failure::error(Exit::Usage, text));
        }
        let Some((path, own)) = path.and_then(|path| Some((path, identity(path)?))) else { continue };
        if let Some((what, _)) = taken.iter().find(|(_, other)| identity(other).as_ref() == Some(&own)) {
            return Err(Failure::error(
                Exit::Usage,
                format!(
                    "{option} {}: that is also {what}, which would be overwritten; name another file",
                    path.display()
                ),
            ));
        }
        taken.push((option, path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_known_by_whatever_path_and_also_before_it_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("capture"), "frames").expect("written");
        std::fs::hard_link(at("capture"), at("hard")).expect("linked");
        std::os::unix::fs::symlink("capture", at("soft")).expect("linked");
        let read = [("the capture", at("capture"))];
        let to = |one: &str, other: &str| {
            let (one, other) = (at(one), at(other));
            refuse_overwriting(&read, [("--write-answers", Some(&one)), ("--plot", Some(&other))])
        };
        for own in ["capture", "./capture", "hard", "soft"] {
            let error = to("new", own).expect_err("it is read").to_string();
            assert!(error.contains("also the capture"), "{error}");
        }
        let error = to("new", "./new").expect_err("they are one").to_string();
        assert!(error.contains("also --write-answers"), "{error}");
        to("new", "newer").expect("they are two");
        let null = Path::new("/dev/null");
        refuse_overwriting(&[], [("--plot", Some(null)), ("--write-answers", Some(null))])
            .expect("nothing is lost there");
    }
}
