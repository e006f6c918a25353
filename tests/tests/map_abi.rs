//! The page of the maps, made from the object that the program is loaded from, and from the comments of its source.
//!
//! Owns that docs/reference/maps.md has every map, layout, size and offset. docs/map-abi.md owns how they work together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icmp_common::abi::{Captured, CapturedAbout, VERSION};
use icmp_ctl::instance::program::{MAPS, OBJECT, name_in_object};
use icmp_tests::folder::Folder;
use icmp_tests::process::run;
use icmp_tests::{can_run, made};
use serde_json::Value;

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The types that the object says it has (BTF), by their numbers.
struct Types(BTreeMap<u64, Value>);

impl Types {
    fn read() -> Self {
        let folder = Folder::new();
        let object = folder.path().join("object");
        fs::write(&object, OBJECT).expect("a file");
        let dump = run(Command::new("bpftool").args(["-j", "btf", "dump", "file"]).arg(object));
        let dump: Value = serde_json::from_str(&dump.expect_success()).expect("JSON");
        let types = dump["types"].as_array().expect("types").iter();
        Self(types.map(|each| (each["id"].as_u64().expect("a number"), each.clone())).collect())
    }

    /// The type that a field of a type leads to.
    fn of(&self, each: &Value) -> &Value {
        &self.0[&each["type_id"].as_u64().expect("a type")]
    }

    fn named(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.values().find(|each| each["kind"] == kind && each["name"] == name)
    }

    fn size(&self, each: &Value) -> u64 {
        match each["nr_elems"].as_u64() {
            Some(elements) => elements * self.size(self.of(each)),
            None => each["size"].as_u64().expect("a size"),
        }
    }

    fn name(&self, each: &Value) -> String {
        match each["nr_elems"].as_u64() {
            Some(elements) => format!("[{}; {elements}]", self.name(self.of(each))),
            None => each["name"].as_str().expect("a name").to_owned(),
        }
    }

    /// What is said of a map: its kind, entries, the type of its values, and the bytes of one.
    fn map(&self, name: &str) -> [String; 4] {
        let name = name_in_object(name);
        if let Some(section) = self.named("DATASEC", name) {
            // `Fixed<T>`, which is an `UnsafeCell<T>`.
            let value =
                (0..2).fold(self.of(self.of(&section["vars"][0])), |of, _| self.of(&of["members"][0]));
            return [
                "section".into(),
                "1".into(),
                format!("`{}`", self.name(value)),
                thousands(self.size(value)),
            ];
        }
        let variable = self.named("VAR", name).unwrap_or_else(|| panic!("no map {name}"));
        let parts = self.of(variable)["members"].as_array().expect("members");
        let part =
            |name: &str| parts.iter().find(|part| part["name"] == name).map(|part| self.of(self.of(part)));
        let number = |name: &str| part(name).map_or(0, |part| part["nr_elems"].as_u64().expect("a number"));
        let value = part("value").expect("a value");
        let entries = thousands(number("max_entries"));
        match (number("type"), number("map_flags") & 1 << 10) {
            (2, 0) => {
                ["array".into(), entries, format!("`{}`", self.name(value)), thousands(self.size(value))]
            }
            (2, _) => [
                "array, mappable".into(),
                entries,
                format!("`{}`", self.name(value)),
                thousands(self.size(value)),
            ],
            (6, _) => [
                "per-CPU array".into(),
                entries,
                format!("`{}`", self.name(value)),
                thousands(self.size(value)),
            ],
            (3, _) => ["program array".into(), entries, "a program".into(), String::new()],
            (27, _) => [
                "ring buffer".into(),
                format!("{entries} bytes"),
                "`Captured`".into(),
                thousands(size_of::<Captured>() as u64),
            ],
            (other, _) => panic!("{name} is of type {other}"),
        }
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> =
        digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group)).collect();
    if digits.len() > 4 { groups.join(",") } else { digits }
}

/// What a source file documents: a name, the rest of its line, and its comment.
struct Documented<'s> {
    name: &'s str,
    rest: &'s str,
    comment: String,
    within: Vec<Documented<'s>>,
}

/// Everything that has a comment and is declared by one of these words, so far indented, with what is documented within it.
fn documented<'s>(lines: &mut std::str::Lines<'s>, indent: &str, words: &[&str]) -> Vec<Documented<'s>> {
    let (mut found, mut comment) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next() {
        if line == "}" && !indent.is_empty() {
            break;
        }
        let Some(line) = line.strip_prefix(indent).filter(|line| !line.starts_with(' ')) else { continue };
        if let Some(part) = line.strip_prefix("///") {
            comment.push(part.trim());
        } else if !line.starts_with("#[") {
            let declared = words.iter().find_map(|word| line.strip_prefix(word));
            if let Some(declared) = declared.filter(|_| !comment.is_empty()) {
                let end = declared.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(declared.len());
                let (name, rest) = declared.split_at(end);
                let is_open = line.ends_with('{');
                let within = if is_open { documented(lines, "    ", &["pub ", ""]) } else { Vec::new() };
                found.push(Documented { name, rest, comment: plain(&comment.join(" ")), within });
            }
            comment.clear();
        }
    }
    found
}

/// A comment without links, for a table.
fn plain(comment: &str) -> String {
    let parts = comment.replace("[`", "`").replace("`]", "`").replace('|', "\\|");
    let parts = parts.split('`').enumerate().map(|(at, part)| match part.rsplit_once("::") {
        Some((path, name)) if at % 2 == 1 && (path == "Self" || path.starts_with("crate")) => name,
        _ => part,
    });
    parts.collect::<Vec<_>>().join("`")
}

/// Adds a line; a string takes everything.
macro_rules! add {
    ($page:ident, $($text:tt)*) => {
        writeln!($page, $($text)*).expect("a string takes everything")
    };
}

/// Adds the layout of a structure: what the object has of it, or where that has nothing, one field after the other.
fn add_layout(page: &mut String, types: &Types, structure: &Documented<'_>) {
    let known = types.named("STRUCT", structure.name);
    let (size, members) = match known {
        Some(known) => (
            known["size"].as_u64().expect("a size"),
            known["members"].as_array().expect("members").as_slice(),
        ),
        None => (without_btf(structure.name) as u64, &[][..]),
    };
    add!(
        page,
        "\n### {}\n\n{} {} bytes.\n\n| offset | field | type | what it is |\n|---|---|---|---|",
        structure.name,
        structure.comment,
        thousands(size)
    );
    let mut end = 0;
    for field in &structure.within {
        let member = members.iter().find(|member| member["name"] == field.name);
        let written = field.rest.trim_start_matches(": ").trim_end_matches(',');
        let (offset, kind) = match member {
            Some(member) => {
                (member["bits_offset"].as_u64().expect("an offset") / 8, types.name(types.of(member)))
            }
            None => (end, written.to_owned()),
        };
        end = offset
            + match written {
                "u64" => 8,
                "u32" => 4,
                _ => size_of::<CapturedAbout>() as u64,
            };
        add!(page, "| {offset} | `{}` | `{kind}` | {} |", field.name, field.comment);
    }
}

/// The size of a structure that the object says nothing of: libbpf takes no ring buffer whose records are said to have a size.
fn without_btf(name: &str) -> usize {
    match name {
        "Captured" => size_of::<Captured>(),
        "CapturedAbout" => size_of::<CapturedAbout>(),
        other => panic!("the object has no {other}"),
    }
}

#[test]
fn the_page_of_the_maps_is_that_of_the_object() {
    if !can_run(&["bpftool"]) {
        return;
    }
    let types = Types::read();
    let maps = text(&source("icmp-ebpf/src/maps.rs"));
    let maps = documented(&mut maps.lines(), "", &["static "]);
    let comment = |name: &str| {
        let map = maps.iter().find(|map| map.name == name);
        &map.unwrap_or_else(|| panic!("{name} is not documented in maps.rs")).comment
    };
    let mut page = format!(
        "# Maps\n\nVersion {VERSION} of the map ABI: all maps, and the layouts of their values, as the program has them. How they work together is in \
         [map-abi.md](../map-abi.md).\n\n| map | kind | entries | value | bytes | what it is |\n|---|---|---|---|---|---|\n"
    );
    for name in MAPS {
        let [kind, entries, value, bytes] = types.map(name);
        add!(page, "| `{name}` | {kind} | {entries} | {value} | {bytes} | {} |", comment(name));
    }
    page +=
        "\nValues that are set at load, and constant from then on:\n\n| value | what it is |\n|---|---|\n";
    for value in maps.iter().filter(|value| value.rest.starts_with(": Global")) {
        add!(page, "| `{}` | {} |", value.name, value.comment);
    }
    let parts = text(&source("icmp-common/src/abi/mod.rs"));
    for part in parts.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
        add_part(&mut page, &types, &text(&source(&format!("icmp-common/src/abi/{part}.rs"))));
    }
    made::holds("docs/reference/maps.md", &page);
}

/// Adds what one file of the ABI has.
fn add_part(page: &mut String, types: &Types, part: &str) {
    let heading = part.lines().find_map(|line| line.strip_prefix("//! ")).expect("what the file is about");
    add!(page, "\n## {}", heading.trim_end_matches('.'));
    for structure in documented(&mut part.lines(), "", &["pub struct "]) {
        if structure.within.is_empty() {
            add!(page, "\n### {}\n\n{}", structure.name, structure.comment);
        } else {
            add_layout(page, types, &structure);
        }
    }
    for choice in documented(&mut part.lines(), "", &["pub enum "]) {
        add!(
            page,
            "\n### {}\n\n{}\n\n| number | name | what it is |\n|---|---|---|",
            choice.name,
            choice.comment
        );
        for (at, one) in choice.within.iter().enumerate() {
            let number = one.rest.trim_start_matches(" = ").trim_end_matches(',');
            let number = if number.is_empty() { at.to_string() } else { number.to_owned() };
            add!(page, "| {number} | {} | {} |", one.name, one.comment);
        }
    }
    let constants = documented(&mut part.lines(), "", &["pub const "]);
    let value = |rest: &str| {
        let value = rest.split_once(" = ")?.1.trim_end_matches(';').to_owned();
        value.chars().all(|c| c.is_ascii_hexdigit() || "x_ <".contains(c)).then_some(value)
    };
    let numbers: Vec<_> = constants.iter().filter_map(|each| Some((each, value(each.rest)?))).collect();
    if !numbers.is_empty() {
        add!(page, "\n| constant | value | what it is |\n|---|---|---|");
    }
    for (each, value) in numbers {
        add!(page, "| `{}` | {value} | {} |", each.name, each.comment);
    }
}

#[test]
fn the_page_on_the_maps_says_what_this_version_changed() {
    let page = text(&source("docs/map-abi.md"));
    assert!(page.contains(&format!("| {VERSION} | ")), "docs/map-abi.md has no row for version {VERSION}");
}

/// Loading another entry point writes the sections anew: what the program had written meanwhile would be lost.
#[test]
fn no_map_that_the_program_writes_is_a_section() {
    let maps = text(&source("icmp-ebpf/src/maps.rs"));
    let sections: Vec<_> = documented(&mut maps.lines(), "", &["static "]);
    let sections: Vec<_> = sections.iter().filter(|map| map.rest.starts_with(": Fixed")).collect();
    assert_eq!(sections.len(), maps.matches("link_section = \".data.").count(), "each section is documented");
    for section in sections {
        assert!(
            section.comment.contains("Written by the controller"),
            "{}: {}",
            section.name,
            section.comment
        );
    }
}
