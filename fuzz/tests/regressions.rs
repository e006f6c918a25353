//! The inputs that the fuzzer has found, for ever.

use std::path::Path;

use icmp_fuzz::{capture, config, process};
use icmp_tests::vectors::from_hex;

/// The files of a folder and what is in them.
fn kept(target: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    // A folder that nothing has been found for is not in the repository.
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let files = entries.map(|entry| entry.expect("an entry").path());
    files
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            assert!(text.starts_with("# "), "{} says in its first line what was wrong", file.display());
            (file.display().to_string(), text)
        })
        .collect()
}

#[test]
fn frames_that_once_broke_something_hold() {
    for (name, text) in kept("process") {
        println!("{name}");
        let input: String = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).collect();
        process::check(&from_hex(&input).expect("hexadecimal"));
    }
}

#[test]
fn configurations_that_once_broke_something_hold() {
    for (name, text) in kept("config") {
        println!("{name}");
        config::check(text.as_bytes());
    }
}

#[test]
fn captures_that_once_broke_something_hold() {
    for (name, text) in kept("capture") {
        println!("{name}");
        let input: String = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).collect();
        capture::check(&from_hex(&input).expect("hexadecimal"));
    }
}
