//! Debian's Prometheus scrapes `icmp-ctl serve`, and returns what was counted.
//!
//! Owns the proof that the exposition is one that the real scraper reads; what is counted is proven elsewhere.

use std::time::{Duration, Instant};

use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::http::get;
use icmp_tests::netns::{HOST_IF, Pair};
use icmp_tests::process::Watch;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn prometheus_scrapes_serve_and_returns_the_counters_that_were_sent() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping", "prometheus"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let folder = Folder::new();
    let audited =
        "[[policy.rule]]\nname = \"audited\"\ntype = \"echo-request\"\naction = \"drop\"\naudit = true\n";
    let config_text = format!("interfaces = [\"{HOST_IF}\"]\n{audited}");
    let config = folder.file("icmp-ctl.toml", &config_text);
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for("127.0.0.1:9816", LIMIT);

    let text = get(host, "127.0.0.1:9816", "/metrics");
    assert!(text.contains("# TYPE icmp_ctl_packets counter"), "{text}");
    for target in ["192.0.2.2", "2001:db8::2"] {
        let _said = pair.peer.run("ping", &["-c", "5", "-i", "0.02", "-W", "2", target]).expect_success();
    }

    let scrape = "
global: { scrape_interval: 500ms }
scrape_configs:
  - job_name: icmp-ctl
    static_configs: [ { targets: ['127.0.0.1:9816'] } ]
";
    let scrape = folder.file("prometheus.yml", scrape);
    let data = folder.path().join("data");
    let mut prometheus = host.watch(
        "prometheus",
        &[
            &format!("--config.file={scrape}"),
            &format!("--storage.tsdb.path={}", data.display()),
            "--web.listen-address=127.0.0.1:9090",
        ],
    );
    prometheus.wait_for("Server is ready to receive web requests", LIMIT);

    // Prometheus says nothing when it has scraped: it is asked until it has, one question per scrape at most.
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = get(
            host,
            "127.0.0.1:9090",
            "/api/v1/query?query=icmp_ctl_packets_total%7Breason%3D%22answered%22%7D",
        );
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        assert_eq!(answer["status"], "success");
        let series = answer["data"]["result"].as_array().expect("a vector").clone();
        let answered: Vec<_> = series.iter().filter(|s| s["value"][1] == "5").map(|s| &s["metric"]).collect();
        if answered.len() == 2 {
            for (metric, family) in answered.iter().zip(["ipv4", "ipv6"]) {
                assert_eq!(metric["interface"], HOST_IF);
                assert_eq!(metric["verdict"], "answer");
                assert_eq!(metric["type"], "echo-request");
                assert_eq!(metric["family"], family);
            }
            break;
        }
        assert!(
            Instant::now() < deadline,
            "not in {LIMIT:?}; the last answer: {answer}\nand now: {}",
            get(host, "127.0.0.1:9816", "/metrics")
        );
        std::thread::park_timeout(Duration::from_millis(250));
    }
    let text = get(host, "127.0.0.1:9816", "/metrics");
    for line in [
        "icmp_ctl_rule_packets_total{rule=\"audited\",outcome=\"would-hit\"} 10",
        "icmp_ctl_rule_packets_total{rule=\"audited\",outcome=\"hit\"} 0",
        "icmp_ctl_check_failures_total{check=\"quote\"} 0",
        "icmp_ctl_pressure 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let _gone = serve.end_by(nix::sys::signal::Signal::SIGTERM);
    let _done = ctl::run(host, "detach --all").expect_success();
}
