//! The shipped alerts: Prometheus accepts them, each fires and ends when it has to, and the metrics in them exist.
//!
//! Owns `deploy/prometheus`. Other tests prove the values of the metrics.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icmp_tests::can_run;
use icmp_tests::folder::Folder;
use icmp_tests::process;
use icmp_tests::queries::assert_they_ask_for_what_there_is;

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
    let documented = fs::read_to_string(here("../docs/reference/metrics.md")).expect("the metrics");
    assert_they_ask_for_what_there_is(&rules, &documented);
    let [documented, tried] = ["../docs/alerts.md", "data/icmp-ctl.rules.test.yml"]
        .map(|path| fs::read_to_string(here(path)).expect("a text"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(documented.contains(&format!("| `{alert}` |")), "{alert} is not in docs/alerts.md");
        // On a line of its own it comes; in braces, with what else is of that time, it does not.
        assert_eq!(tried.matches(&format!("alertname: {alert}\n")).count(), 1, "{alert} is not tried");
        assert!(tried.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert} never goes");
    }
}
