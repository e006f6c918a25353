//! The reference in docs/reference, made from the program.
//!
//! Owns that it says what the program says. `ICMP_TESTS_BLESS=1` writes it anew instead.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::config::schema::schema;
use icmp_ctl::failure::Exit;
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::process::run;

/// Holds a file of the repository to what the program says.
fn is_as_the_program_says(file: &str, said: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
        return fs::write(&path, said).expect("a file of the repository");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(said.lines()).find(|(there, said)| there != said);
    assert!(
        there == said,
        "{file} is not what the program says: {differs:?}; ICMP_TESTS_BLESS=1 writes it anew"
    );
}

fn icmp_ctl(arguments: &[&str]) -> String {
    // For the width of a page, whoever runs this.
    run(Command::new(ctl::program()).args(arguments).env("COLUMNS", "100")).expect_success()
}

/// Adds the help of a verb, and of those below it.
fn add_help(page: &mut String, verb: &[&str]) {
    let help = icmp_ctl(&[&["help"], verb].concat());
    let name = [&["icmp-ctl"], verb].concat().join(" ");
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim())
        .expect("a string takes everything");
    let verbs =
        help.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for below in verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        if !below.is_empty() && below != "help" {
            add_help(page, &[verb, &[below]].concat());
        }
    }
}

#[test]
fn the_page_of_commands_is_their_help() {
    let mut page = "# Commands\n\nWhat `icmp-ctl help VERB` prints; the manual pages say the same. What the verbs print, and how, is in \
                    [cli.md](../cli.md).\n"
        .to_owned();
    add_help(&mut page, &[]);
    is_as_the_program_says("docs/reference/commands.md", &page);
}

#[test]
fn the_page_of_the_configuration_is_its_manual_page() {
    if !can_run(&["mandoc"]) {
        return;
    }
    let folder = Folder::new();
    let pages = folder.path().join("man");
    let _made = icmp_ctl(&["man", pages.to_str().expect("a path in UTF-8")]);
    let mandoc = ["-T", "utf8", "-O", "width=100"];
    let text = run(Command::new("mandoc").args(mandoc).arg(pages.join("icmp-ctl.toml.5"))).expect_success();
    let mut lines: Vec<String> = text.lines().map(printed).collect();
    // The first and the last one have the date and the version.
    lines.pop();
    lines.remove(0);
    let page = format!(
        "# Configuration\n\nThe manual page icmp-ctl.toml(5). How the parts work is in [cli.md](../cli.md#configuration) and \
         [policy.md](../policy.md). Editors that take a JSON Schema for TOML are told of it by a first line in the \
         file:\n\n```toml\n#:schema /usr/share/icmp-ctl/icmp-ctl.schema.json\n```\n\n```text\n{}\n```\n",
        lines.join("\n").trim()
    );
    is_as_the_program_says("docs/reference/configuration.md", &page);
}

/// A line without what makes it bold on a terminal: each character, a backspace, and the character again.
fn printed(line: &str) -> String {
    let mut printed = String::new();
    for character in line.chars() {
        if character == '\u{8}' {
            printed.pop();
        } else {
            printed.push(character);
        }
    }
    printed.trim_end().to_owned()
}

#[test]
fn the_schema_for_editors_is_that_of_the_keys() {
    let schema = serde_json::to_string_pretty(&schema().expect("a schema")).expect("JSON");
    is_as_the_program_says("deploy/icmp-ctl.schema.json", &(schema + "\n"));
}

#[test]
fn the_page_of_reasons_and_exit_codes_is_that_of_the_code() {
    let mut page = "# Reasons and exit codes\n\nEach frame ends in one reason, and each reason has one verdict. These are the names in \
                    `show counters`, JSON, metrics, captures and events. In what order they come up is in \
                    [packet-path.md](../packet-path.md#stages).\n"
        .to_owned();
    for verdict in Verdict::ALL {
        write!(page, "\n## {}\n\n| reason | why |\n|---|---|\n", verdict.name())
            .expect("a string takes everything");
        for reason in Reason::ALL.iter().filter(|reason| reason.verdict() == verdict) {
            let why = reason.description().trim().replace('|', "\\|");
            writeln!(page, "| `{}` | {why} |", reason.name()).expect("a string takes everything");
        }
    }
    page += "\n## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | done |\n";
    for exit in Exit::ALL {
        writeln!(page, "| {} | {} |", exit as u8, exit.meaning()).expect("a string takes everything");
    }
    is_as_the_program_says("docs/reference/reasons.md", &page);
}
