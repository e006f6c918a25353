//! Turns data/icmp-types.tsv into the tables of `types.rs` and data/presets.tsv into those of `policy.rs`, so that the program, the
//! CLI, the metrics and the documentation name and justify what is done with every ICMP type from one place. A malformed file fails
//! the build with its line.

use std::fmt::Write as _;
use std::{env, fs, path::Path};

const DATA: &str = "data/icmp-types.tsv";
const PRESETS: &str = "data/presets.tsv";
const TYPES: usize = 256;

fn main() {
    println!("cargo:rerun-if-changed={DATA}");
    let text = fs::read_to_string(DATA).expect("the type table is part of the checkout");
    let mut rows = String::new();
    // Per family and type the row that covers it, and the row that refines one code of it.
    let mut covers = [[None::<usize>; TYPES]; 2];
    let mut refines = [[None::<(u8, usize)>; TYPES]; 2];
    let mut count = 0;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [family, types, code, name, title, status, action, budget, clause] = columns[..] else {
            panic!("{DATA}:{}: nine columns expected, {} found", i + 1, columns.len());
        };
        let bad = |what: &str| -> ! { panic!("{DATA}:{}: {what}", i + 1) };
        let family_index = match family {
            "4" => 0,
            "6" => 1,
            _ => bad("family is 4 or 6"),
        };
        let (first, last) = types.split_once('-').unwrap_or((types, types));
        let first: usize = first.parse().unwrap_or_else(|_| bad("types are numbers from 0 to 255"));
        let last: usize = last.parse().unwrap_or_else(|_| bad("types are numbers from 0 to 255"));
        let code: Option<u8> =
            (code != "*").then(|| code.parse().unwrap_or_else(|_| bad("a code is * or a number")));
        for t in first..=last {
            match code {
                None if covers[family_index][t].is_some() => bad("a type has two rows"),
                None => covers[family_index][t] = Some(count),
                Some(code) => refines[family_index][t] = Some((code, count)),
            }
        }
        let action = action_variant(action).unwrap_or_else(|| bad("action is answer, pass, limit or drop"));
        let budget = budget_variant(budget).unwrap_or_else(|| bad("no such budget"));
        writeln!(
            rows,
            "TypeRow {{ family: Family::V{family}, first: {first}, last: {last}, code: {code:?}, name: {name:?}, \
             title: {title:?}, status: {status:?}, action: Action::{action}, budget: Budget::{budget}, clause: {clause:?} }},"
        )
        .expect("writing to a string");
        count += 1;
    }
    let covered = covers
        .map(|family| family.map(|row| row.unwrap_or_else(|| panic!("{DATA}: a type has no row")) as u8));
    let out = format!(
        "/// Every row of data/icmp-types.tsv, in the file's order.\n\
         pub const ROWS: [TypeRow; {count}] = [\n{rows}];\n\
         /// The row that covers each type, IPv4 first.\n\
         pub(crate) const COVERS: [[u8; {TYPES}]; 2] = {covered:?};\n\
         /// The code that a row of its own refines, with that row, IPv4 first.\n\
         pub(crate) const REFINES: [[Option<(u8, usize)>; {TYPES}]; 2] = {refines:?};\n"
    );
    let path = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("types.rs");
    fs::write(path, out).expect("OUT_DIR is writable");
    presets(&covers);
}

/// What the presets change, each row with the position in `ROWS` of the row it replaces.
fn presets(covers: &[[Option<usize>; TYPES]; 2]) {
    println!("cargo:rerun-if-changed={PRESETS}");
    let text = fs::read_to_string(PRESETS).expect("the presets are part of the checkout");
    let mut rows = String::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let bad = |what: &str| -> ! { panic!("{PRESETS}:{}: {what}", i + 1) };
        let columns: Vec<&str> = line.split('\t').collect();
        let [preset, family, icmp_type, action, budget, clause] = columns[..] else {
            bad("six columns expected")
        };
        let preset = match preset {
            "router" => "Router",
            "strict" => "Strict",
            _ => bad("preset is router or strict"),
        };
        let family = match family {
            "4" => 0,
            "6" => 1,
            _ => bad("family is 4 or 6"),
        };
        let icmp_type: u8 = icmp_type.parse().unwrap_or_else(|_| bad("a type is a number from 0 to 255"));
        let row = covers[family][usize::from(icmp_type)].unwrap_or_else(|| bad("the type has no row"));
        let action = action_variant(action).unwrap_or_else(|| bad("action is answer, pass, limit or drop"));
        let budget = budget_variant(budget).unwrap_or_else(|| bad("no such budget"));
        writeln!(
            rows,
            "PresetRow {{ preset: Preset::{preset}, row: {row}, action: Action::{action}, budget: Budget::{budget}, clause: {clause:?} }},"
        )
        .expect("writing to a string");
    }
    let out = format!(
        "/// Every row of data/presets.tsv, in the file's order.\npub const PRESET_ROWS: &[PresetRow] = &[\n{rows}];\n"
    );
    let path = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("presets.rs");
    fs::write(path, out).expect("OUT_DIR is writable");
}

fn action_variant(name: &str) -> Option<&'static str> {
    match name {
        "answer" => Some("Answer"),
        "pass" => Some("Pass"),
        "limit" => Some("Limit"),
        "drop" => Some("Drop"),
        _ => None,
    }
}

fn budget_variant(name: &str) -> Option<&'static str> {
    match name {
        "-" | "replies" => Some("Replies"),
        "errors" => Some("Errors"),
        "path-mtu" => Some("PathMtu"),
        "neighbour-discovery" => Some("NeighbourDiscovery"),
        "multicast-listener" => Some("MulticastListener"),
        "queries" => Some("Queries"),
        "redirects" => Some("Redirects"),
        _ => None,
    }
}
