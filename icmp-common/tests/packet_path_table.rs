//! The documentation's table of checks against the source.
//!
//! Owns that each check of an echo request is where docs/packet-path.md says, and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

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

/// File and expression of each row of the table.
fn rows(text: &str) -> Vec<(String, String)> {
    let table = text.split("## Where each check is made").nth(1).expect("the section of the table");
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            // In a table a pipe is escaped, in code as anywhere.
            let buckets: Vec<_> =
                line.replace("\\|", "\0").split('|').map(|bucket| bucket.replace('\0', "|")).collect();
            let code = |n: usize| buckets[n].trim().trim_matches('`').to_owned();
            (code(3), code(4))
        })
        .collect()
}

#[test]
fn each_check_in_the_documentation_is_one_line_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("../docs/packet-path.md")).expect("docs/packet-path.md");
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let files: Vec<_> =
        files.into_iter().map(|path| (fs::read_to_string(&path).expect("source"), path)).collect();
    let rows = rows(&text);
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for (file, expression) in rows {
        let lines = |text: &str| text.lines().filter(|line| line.contains(&expression)).count();
        let found: Vec<_> =
            files.iter().map(|(text, path)| (lines(text), path)).filter(|f| f.0 != 0).collect();
        if !matches!(&found[..], [(1, path)] if path.ends_with(&file)) {
            wrong.push(format!("{file} {expression:?} is in {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
