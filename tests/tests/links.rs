//! The pages of the documentation as one whole.
//!
//! Owns that links between them lead somewhere and that the book has all of them. Other tests hold their contents.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

/// All pages below a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| if path.is_dir() { pages(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()))
}

/// What the links of a page lead to; what is in blocks of code is none.
fn targets(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let lines = text.lines().filter(move |line| {
        is_code ^= line.starts_with("```");
        !is_code
    });
    lines.flat_map(|line| line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))).collect()
}

/// The name by which a heading is linked to, as GitHub and mdbook make it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let root = root();
    let mut wrong = Vec::new();
    let top = std::fs::read_dir(&root).expect("the workspace").map(|entry| entry.expect("an entry").path());
    let top = top.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for page in pages(&root.join("docs")).into_iter().chain(top) {
        for target in targets(&read(&page)) {
            if target.starts_with("http") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { page.clone() } else { page.with_file_name("").join(path) };
            let is_there = path.exists()
                && (heading.is_empty()
                    || read(&path).lines().any(|line| line.starts_with('#') && anchor(line) == heading));
            if !is_there {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_book_has_every_page_and_links_to_no_file_beyond_it() {
    let docs = root().join("docs");
    let summary = read(&docs.join("SUMMARY.md"));
    let listed = targets(&summary);
    for page in pages(&docs) {
        let name = page.strip_prefix(&docs).expect("below it").to_str().expect("in UTF-8").to_owned();
        assert!(name == "SUMMARY.md" || listed.contains(&&*name), "{name} is not in docs/SUMMARY.md");
        for target in targets(&read(&page)) {
            let up = page.with_file_name("").join(target.split('#').next().expect("a part"));
            let is_within =
                target.starts_with("http") || up.canonicalize().is_ok_and(|up| up.starts_with(&docs));
            assert!(is_within, "{name} links to {target}, which the book does not have");
        }
    }
}

#[test]
fn each_answer_to_a_threat_names_a_test_that_there_is() {
    let root = root();
    let entries = std::fs::read_dir(root.join("tests/tests")).expect("the tests");
    let tests: String = entries.map(|entry| read(&entry.expect("an entry").path())).collect();
    let text = read(&root.join("SECURITY.md"));
    // What is in backticks and has a name's underscores, but for paths and commands.
    let named: Vec<_> = text.split('`').filter(|word| word.matches('_').count() > 2).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}
