//! The documentation's table of checks: against the source, and as a picture.
//!
//! Owns how the table is read.

mod picture;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the documentation.
fn documentation(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// A check of an echo request, as the table has it.
struct Check {
    stage: String,
    what: String,
    /// Numbers of rules, like `R-9, R-28`; or nothing.
    rules: String,
    file: String,
    expression: String,
}

/// The table.
fn checks() -> Vec<Check> {
    let text = fs::read_to_string(documentation("packet-path.md")).expect("docs/packet-path.md");
    let table = text.split("## Where each check is made").nth(1).expect("the section of the table");
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let checks: Vec<_> = rows.take_while(|line| line.starts_with('|')).map(check).collect();
    assert!(checks.len() > 40, "{} rows", checks.len());
    checks
}

fn check(row: &str) -> Check {
    // In a table a pipe is escaped, in code as anywhere.
    let cells: Vec<_> = row.replace("\\|", "\0").split('|').map(|cell| cell.replace('\0', "|")).collect();
    let [_, stage, what, rules, file, expression, _] = &cells[..] else { panic!("five cells: {row}") };
    let [stage, what, rules, file, expression] =
        [stage, what, rules, file, expression].map(|cell| cell.trim().trim_matches('`').to_owned());
    Check { stage, what, rules, file, expression }
}
