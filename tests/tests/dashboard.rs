//! The shipped dashboard for Grafana: Prometheus accepts its queries, the metrics in them exist, and its panels fit.
//!
//! Owns `deploy/grafana`. How Grafana draws it is not tested.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icmp_tests::can_run;
use icmp_tests::folder::Folder;
use icmp_tests::process;
use icmp_tests::queries::assert_they_ask_for_what_there_is;
use serde_json::Value;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(here("../deploy/grafana/icmp-ctl.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// Each text in `value` under a key named `name`, however deep.
fn all_under<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == name => found.push(text),
                    value => all_under(value, name, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| all_under(value, name, found)),
        _ => {}
    }
}

#[test]
fn its_queries_are_taken_by_prometheus_and_ask_for_what_there_is() {
    if !can_run(&["promtool"]) {
        return;
    }
    let dashboard = dashboard();
    let mut queries = Vec::new();
    all_under(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (i, query) in queries.iter().enumerate() {
        let filled = query.replace("$__rate_interval", "2m");
        writeln!(rules, "      - record: query{i}\n        expr: {}", Value::from(filled))
            .expect("a String takes all");
    }
    let folder = Folder::new();
    let rules = folder.file("queries.yml", &rules);
    let _said = process::run(Command::new("promtool").args(["check", "rules", &rules])).expect_success();

    let variables = &dashboard["templating"]["list"];
    let mut values = Vec::new();
    all_under(variables, "query", &mut values);
    let documented = fs::read_to_string(here("../docs/reference/metrics.md")).expect("the metrics");
    assert_they_ask_for_what_there_is(&[queries, values].concat().join("\n"), &documented);
}

#[test]
fn its_panels_of_messages_leave_out_frames_that_are_not_icmp() {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    all_under(&dashboard["panels"], "expr", &mut queries);
    let queries = queries.join("\n");
    let selectors: Vec<_> = ["icmp_ctl_packets_total{", "icmp_ctl_bytes_total{"]
        .into_iter()
        .flat_map(|metric| queries.split(metric).skip(1))
        .filter_map(|rest| rest.split('}').next())
        .collect();
    assert!(selectors.len() > 5, "{selectors:?}");
    for labels in selectors {
        let is_icmp =
            ["verdict=", "type", "reason!~\"not-icmp|not-ip\""].iter().any(|label| labels.contains(label));
        assert!(is_icmp, "{labels}");
    }
}

#[test]
fn its_queries_look_back_over_more_than_one_scrape() {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    all_under(&dashboard, "expr", &mut queries);
    // In the interval between two points there may be one scrape, and nothing changes within one.
    let too_short: Vec<_> = queries.iter().filter(|query| query.contains("[$__interval]")).collect();
    assert!(too_short.is_empty(), "{too_short:?}");
}

#[test]
fn its_graphs_filter_by_more_than_the_value_of_the_moment_so_that_the_legend_shows_a_last_value_that_is_the_last()
 {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    all_under(&dashboard["panels"], "expr", &mut queries);
    let wrong: Vec<_> =
        queries.iter().filter(|query| query.ends_with("> 0") && !query.contains(" and ")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn its_panels_have_an_own_number_and_place_a_description_and_a_unit() {
    const COLUMNS: u64 = 24;
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut numbers, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = &panel["title"];
        assert!(numbers.insert(panel["id"].as_u64()), "{title} has another one's number");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place"));
        assert!(x + w <= COLUMNS, "{title} is wider than the page");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} is drawn over another");
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        }
    }
}
