//! Owns the order of icmp-ctl's layers: each imports from those below it only, and no two files import one another in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files of `src`, lowest first.
const LAYERS: &[&str] = &[
    "diagnostics",
    "failure",
    "service_manager",
    "output",
    "finding",
    "kernel",
    "capture",
    "host",
    "instance",
    "config",
    "policy",
    "doctor",
    "follow",
    "health",
    "observe",
    "replay",
    "explain",
    "top",
    "cli",
    "commands",
];

/// What a file is called in paths, and which others it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}

/// `kernel::bpf` for `src/kernel/bpf.rs`, `cli` for `src/cli/mod.rs`.
fn module(source: &Path, file: &Path) -> String {
    let path = file.strip_prefix(source).expect("a file of src").with_extension("");
    let parts: Vec<_> = path.iter().map(|part| part.to_str().expect("a name in UTF-8")).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
}

/// The files that a text names, in `use` lines and elsewhere. Its unit tests may use what they like.
fn imports_of(text: &str, all: &BTreeSet<String>) -> BTreeSet<String> {
    let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let layer = word(path);
        let rest = path[layer.len()..].strip_prefix("::").unwrap_or_default();
        let names: Vec<String> = match rest.strip_prefix('{') {
            Some(list) => list.split(['}', ';']).next().unwrap_or_default().split(',').map(word).collect(),
            None => vec![word(rest)],
        };
        for name in names {
            let file = format!("{layer}::{name}");
            found.insert(if all.contains(&file) { file } else { layer.clone() });
        }
    }
    found
}

fn imports() -> Imports {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let paths = files(&source);
    let all: BTreeSet<String> = paths.iter().map(|path| module(&source, path)).collect();
    paths
        .iter()
        .map(|path| (module(&source, path), path))
        .filter(|(module, _)| module != "lib" && module != "main")
        .map(|(module, path)| {
            let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let mut imports = imports_of(&text, &all);
            imports.remove(&module);
            (module, imports)
        })
        .collect()
}

fn layer(module: &str) -> usize {
    let first = module.split("::").next().unwrap_or_default();
    LAYERS
        .iter()
        .position(|layer| *layer == first)
        .unwrap_or_else(|| panic!("{module} is in no layer; LAYERS has the order"))
}

#[test]
fn a_layer_imports_from_those_below_it_only() {
    let imports = imports();
    assert!(imports.contains_key("policy::rules"), "the files were found: {imports:?}");
    let upwards: Vec<_> = imports
        .iter()
        .flat_map(|(module, imports)| imports.iter().map(move |import| (module, import)))
        .filter(|(module, import)| layer(import) > layer(module))
        .collect();
    assert!(upwards.is_empty(), "these import from above: {upwards:#?}");
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let mut left = imports();
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, imports| imports.iter().any(|import| names.contains(import)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these are in a circle, or import from one: {left:#?}");
}

#[test]
fn a_verb_is_at_most_a_hundred_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands");
    let long: Vec<_> = files(&folder)
        .into_iter()
        .map(|file| (fs::read_to_string(&file).expect("a text").lines().count(), file))
        .filter(|(lines, _)| *lines > 100)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
