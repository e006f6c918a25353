//! The alerts that are shipped: Prometheus takes them, each comes when it has to and goes when it has to, and what they ask for exists.
//!
//! Owns `deploy/prometheus`. What the metrics say is proven elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icmp_common::reason::Reason;
use icmp_common::types::{COUNTER_ROWS, row_labels};
use icmp_tests::can_run;
use icmp_tests::folder::Folder;
use icmp_tests::process;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rules() -> String {
    fs::read_to_string(here("../deploy/prometheus/icmp-ctl.rules.yml")).expect("the rules")
}

#[test]
fn each_alert_comes_when_it_has_to_and_goes_when_it_has_to() {
    if !can_run(&["promtool"]) {
        return;
    }
    let folder = Folder::new();
    let rules = folder.file("icmp-ctl.rules.yml", &rules());
    let cases = fs::read_to_string(here("data/icmp-ctl.rules.test.yml")).expect("the cases");
    let cases = folder.file("cases.yml", &cases);
    for words in [["check", "rules", &rules], ["test", "rules", &cases]] {
        let _said = process::run(Command::new("promtool").args(words)).expect_success();
    }
}

#[test]
fn alerts_ask_for_metrics_and_labels_that_there_are_and_each_is_documented_and_tried() {
    let rules = rules();
    let documented = fs::read_to_string(here("../docs/cli.md")).expect("the metrics");
    let words: BTreeSet<&str> = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let metrics: Vec<_> = words.iter().filter(|word| word.starts_with("icmp_ctl_")).collect();
    assert!(metrics.len() >= 4, "the rules were read: {metrics:?}");
    for metric in metrics {
        assert!(documented.contains(&format!("`{metric}`")), "{metric} is none of docs/cli.md");
    }
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let verdicts: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.verdict().name()).collect();
    let types: BTreeSet<&str> = (0..COUNTER_ROWS).map(|row| row_labels(row).1).collect();
    for (label, known) in [("reason", &reasons), ("verdict", &verdicts), ("type", &types)] {
        let values: Vec<_> = [format!("{label}=\""), format!("{label}=~\"")]
            .iter()
            .flat_map(|start| rules.split(start.as_str()).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .flat_map(|values| values.split('|'))
            .collect();
        assert!(!values.is_empty(), "the rules ask for a {label}");
        for value in values {
            assert!(known.contains(value), "{value} is no {label}");
        }
    }
    let [documented, tried] = ["../docs/alerts.md", "data/icmp-ctl.rules.test.yml"]
        .map(|path| fs::read_to_string(here(path)).expect("a text"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(documented.contains(&format!("| `{alert}` |")), "{alert} is not in docs/alerts.md");
        // On a line of its own it comes; in braces, with what else is of that time, it does not.
        assert_eq!(tried.matches(&format!("alertname: {alert}\n")).count(), 1, "{alert} is not tried");
        assert!(tried.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert} never goes");
    }
}
