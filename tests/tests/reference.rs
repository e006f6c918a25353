//! The reference in docs/reference, made from the program.
//!
//! Owns that it agrees with the program; `map_abi.rs` has the page of the maps. `ICMP_TESTS_BLESS=1` writes the pages anew.

use std::fmt::Write as _;
use std::process::Command;

use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::config::schema::schema;
use icmp_ctl::failure::Exit;
use icmp_ctl::observe::events::Event;
use icmp_ctl::observe::metrics::families::{FAMILIES, Kind};
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::made;
use icmp_tests::process::run;
use serde_json::Value;

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
    made::holds("docs/reference/commands.md", &page);
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
    made::holds("docs/reference/configuration.md", &page);
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
    assert!(!schema.contains("\"description\": \"`["), "a table is described, and not by its name alone");
    made::holds("deploy/icmp-ctl.schema.json", &(schema + "\n"));
}

#[test]
fn the_page_of_reasons_and_exit_codes_is_that_of_the_code() {
    let mut page = "# Reasons and exit codes\n\nEach frame ends in one reason, and each reason has one verdict. These are the names in \
                    `show counters`, JSON, metrics, captures and events. In what order they come up is in \
                    [packet-path.md](../packet-path.md#stages).\n"
        .to_owned();
    for verdict in Verdict::ALL {
        write!(page, "\n## {}\n\n| number | reason | why |\n|---|---|---|\n", verdict.name())
            .expect("a string takes everything");
        for reason in Reason::ALL.iter().filter(|reason| reason.verdict() == verdict) {
            let why = reason.description().trim().replace('|', "\\|");
            writeln!(page, "| {} | `{}` | {why} |", *reason as usize, reason.name())
                .expect("a string takes everything");
        }
    }
    page += "\n## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | done |\n";
    for exit in Exit::ALL {
        writeln!(page, "| {} | {} |", exit as u8, exit.meaning()).expect("a string takes everything");
    }
    made::holds("docs/reference/reasons.md", &page);
}

#[test]
fn the_page_of_metrics_is_their_table() {
    let mut page = "# Metrics\n\nWhat `serve` has at `/metrics`, and `icmp-ctl show metrics` prints ([cli.md](../cli.md#metrics)). A metric that has \
                    nothing to say is left out.\n\n| metric | type | labels | what it says |\n|---|---|---|---|\n"
        .to_owned();
    for family in &FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{}` | {kind} | {} | {} |", family.name(), labels.join(", "), family.help)
            .expect("a string takes everything");
    }
    made::holds("docs/reference/metrics.md", &page);
}

#[test]
fn the_page_and_the_schema_of_events_are_those_of_the_code() {
    let schema = Event::json_schema();
    let text = serde_json::to_string_pretty(&schema).expect("JSON");
    made::holds("deploy/icmp-ctl-event.schema.json", &(text + "\n"));

    let mut page =
        "# Events\n\nWhat `icmp-ctl monitor -j`, the webhook and the command of `[events]` are told \
                    ([monitor.md](../monitor.md)): one flat object for each event.\n"
            .to_owned();
    add_fields(&mut page, &schema["properties"]);
    let events = schema["oneOf"].as_array().expect("the events");
    // Those that follow one another with the same fields are described together.
    for alike in events.chunk_by(|one, other| fields(one) == fields(other)) {
        page += "\n| event | when |\n|---|---|\n";
        for event in alike {
            let name = event["properties"]["event"]["const"].as_str().expect("a name");
            writeln!(page, "| `{name}` | {} |", event["description"].as_str().expect("a text"))
                .expect("a string takes everything");
        }
        add_fields(&mut page, &fields(&alike[0]));
    }
    made::holds("docs/reference/events.md", &page);
}

/// What an event has beside its name.
fn fields(event: &Value) -> Value {
    let mut fields = event["properties"].clone();
    fields.as_object_mut().expect("the fields").shift_remove("event");
    fields
}

/// Adds a table of fields, where there are any.
fn add_fields(page: &mut String, fields: &Value) {
    let fields = fields.as_object().expect("the fields");
    if !fields.is_empty() {
        *page += "\n| field | type | what it is |\n|---|---|---|\n";
    }
    for (name, field) in fields {
        let kind = match (&field["type"], &field["const"]) {
            (Value::String(kind), _) => kind.clone(),
            (Value::Array(kinds), _) => {
                kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
            }
            (_, value) => value.to_string(),
        };
        writeln!(page, "| `{name}` | {kind} | {} |", field["description"].as_str().expect("a text"))
            .expect("a string takes everything");
    }
}
