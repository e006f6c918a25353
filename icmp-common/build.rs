//! Turns data/icmp-types.tsv into the tables of `types.rs`, so that the program, the CLI, the metrics and the documentation
//! name and justify every ICMP type from one file. A malformed file fails the build with its line.

use std::fmt::Write as _;
use std::{env, fs, path::Path};

const DATA: &str = "data/icmp-types.tsv";
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
        let action = match action {
            "answer" => "Answer",
            "pass" => "Pass",
            "limit" => "Limit",
            "drop" => "Drop",
            _ => bad("action is answer, pass, limit or drop"),
        };
        let budget = match budget {
            "-" | "replies" => "Replies",
            "errors" => "Errors",
            "path-mtu" => "PathMtu",
            "neighbour-discovery" => "NeighbourDiscovery",
            "multicast-listener" => "MulticastListener",
            "queries" => "Queries",
            "redirects" => "Redirects",
            _ => bad("no such budget"),
        };
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
}
