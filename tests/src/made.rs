//! Owns pages and other files of the repository that are made from the program: how they are compared, and written anew.

use std::fs;
use std::path::Path;

/// Holds a file of the repository to what it is made from. `ICMP_TESTS_BLESS=1` writes it anew instead.
///
/// # Panics
/// The file differs, or cannot be written.
pub fn holds(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
        return fs::write(&path, made).expect("a file of the repository");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(made.lines()).find(|(there, made)| there != made);
    assert!(
        there == made,
        "{file} is not what the program says: {differs:?}; ICMP_TESTS_BLESS=1 writes it anew"
    );
}
