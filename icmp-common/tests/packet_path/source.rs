//! Each check is where docs/packet-path.md says, and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checks;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_check_in_the_documentation_is_one_line_of_the_source() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let files: Vec<_> =
        files.into_iter().map(|path| (fs::read_to_string(&path).expect("source"), path)).collect();
    let mut wrong = Vec::new();
    for check in checks() {
        let lines = |text: &str| text.lines().filter(|line| line.contains(&check.expression)).count();
        let found: Vec<_> =
            files.iter().map(|(text, path)| (lines(text), path)).filter(|f| f.0 != 0).collect();
        if !matches!(&found[..], [(1, path)] if path.ends_with(&check.file)) {
            wrong.push(format!("{} {:?} is in {found:?}", check.file, check.expression));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
