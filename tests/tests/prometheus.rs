//! Debian's Prometheus scrapes `icmp-ctl serve`, and returns the counters.
//!
//! Owns the proof that the real scraper reads the exposition; other tests prove the counters.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::http::{answer, get};
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::{self, Watch};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const METRICS: &str = "127.0.0.1:9816";

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
    assert!(text.contains("# TYPE icmp_ctl_check_failures_total counter"), "{text}");
    for target in ["192.0.2.2", "2001:db8::2"] {
        let _said = pair.peer.ping(&["-c", "5", "-i", "0.02", target]);
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
    let _gone = serve.end_by(Signal::SIGTERM);
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn the_page_is_one_that_promtool_has_nothing_to_say_about() {
    if !icmp_tests::can_run(&["ip", "nsenter", "promtool"]) {
        return;
    }
    let pair = Pair::new(1500);
    let (_folder, mut serve) = serve_on(&pair.host);
    let text = get(&pair.host, METRICS, "/metrics");
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is installed");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(done.status.success() && said.is_empty(), "{said}\n{text}");
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn what_is_attached_its_mode_and_its_configuration_are_gauges_and_gone_after_detach() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let (folder, mut serve) = serve_on(host);
    let page = || get(host, METRICS, "/metrics");
    let hash = |page: &str| -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix("icmp_ctl_config_hash "));
        line.unwrap_or_else(|| panic!("no hash in {page}")).parse().expect("a number")
    };
    let first = page();
    let attached = format!("icmp_ctl_interface_attached{{interface=\"{HOST_IF}\",mode=\"native\"}} 1");
    assert!(first.contains(&attached) && first.contains("icmp_ctl_confirmation_pending 0"), "{first}");
    assert_eq!(hash(&page()), hash(&first), "the same configuration");
    let file = folder.file("c.toml", "[policy]\npreset = \"strict\"\n");
    let _said = ctl::run(host, &format!("apply -f {file} --confirm 60s")).expect_success();
    let second = page();
    assert_ne!(hash(&second), hash(&first), "another configuration");
    assert!(second.contains("icmp_ctl_confirmation_pending 1"), "{second}");
    let _said = ctl::run(host, "confirm").expect_success();
    // Only a prefix is another one, and nobody looks between.
    let rule = "--type echo-request --action drop";
    let _said = ctl::run(host, &format!("rule add list --from 10.0.0.0/8 {rule}")).expect_success();
    let third = page();
    let _said = ctl::run(host, "rule del list").expect_success();
    let _said = ctl::run(host, &format!("rule add list --from 10.0.0.0/9 {rule}")).expect_success();
    let fourth = page();
    assert!(hash(&fourth) != hash(&third) && hash(&third) != hash(&second), "another list");
    let _said = ctl::run(host, &format!("apply -f {file} --confirm 1s")).expect_success();
    let deadline = Instant::now() + LIMIT;
    while hash(&page()) != hash(&fourth) {
        assert!(Instant::now() < deadline, "what nobody confirms is over");
    }

    let _done = ctl::run(host, "detach --all").expect_success();
    let last = page();
    let samples: Vec<_> = last.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.len() == 1 && samples[0].starts_with("icmp_ctl_build_info{"), "{last}");
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn head_is_answered_as_get_without_a_body_and_health_is_a_page() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let (_folder, mut serve) = serve_on(&pair.host);
    let ask = |request: &str| answer(&pair.host, METRICS, request);
    for path in ["/", "/metrics", "/healthz"] {
        let (head, body) = ask(&format!("HEAD {path} HTTP/1.0\r\n"));
        assert!(
            head.contains(" 200 ") && head.contains("content-length: ") && body.is_empty(),
            "{head}{body}"
        );
    }
    let (head, body) = ask("GET / HTTP/1.0\r\n");
    let row = format!("<tr><td>{HOST_IF}<td>native\n");
    assert!(
        head.contains("content-type: text/html") && body.contains(&row) && !body.contains("<script"),
        "{head}{body}"
    );
    let (head, body) = ask("GET /healthz HTTP/1.0\r\n");
    assert!(head.contains(" 200 ") && body == "ok\n", "{head}{body}");
    let (head, _) = ask("POST /metrics HTTP/1.0\r\n");
    assert!(head.contains(" 405 ") && head.contains("allow: GET, HEAD"), "{head}");
    let (head, body) =
        ask("GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(head.contains("application/openmetrics-text") && body.ends_with("# EOF\n"), "{head}");
    let (head, _) = ask("GET /metrics HTTP/1.0\r\n");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

#[test]
fn budgets_runs_and_failures_of_the_driver_are_on_the_page() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping", "sysctl"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let (folder, mut serve) = serve_on(host);
    let page = || get(host, METRICS, "/metrics");
    let value = |page: &str, series: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().expect("a number")
    };
    assert_eq!(value(&page(), "icmp_ctl_budget_left_ratio{budget=\"replies\"}"), 1.0);
    let failures = format!("icmp_ctl_driver_tx_failures_total{{interface=\"{HOST_IF}\"}}");
    assert_eq!(value(&page(), &failures), 0.0, "veth counts them");
    // A budget that stays as it is, and is used up.
    let file = folder.file("c.toml", "[limits]\nreplies = { rate = \"1/h\", burst = 2 }\n");
    let _said = ctl::run(host, &format!("apply -f {file}")).expect_success();
    let before = page();
    let counts = "icmp_ctl_program_runs_total{entry=\"xdp\"}";
    let statistics = |on| {
        process::run(Command::new("sysctl").args(["-q", "-w", &format!("kernel.bpf_stats_enabled={on}")]))
    };
    let _said = statistics(1).expect_success();
    let _some = pair.peer.run("ping", &["-c4", "-i0.01", "-W1", "192.0.2.2"]);
    let _said = statistics(0).expect_success();
    let after = page();
    assert!(!before.contains(counts) || value(&after, counts) >= value(&before, counts) + 4.0, "{after}");
    assert!(
        value(&after, counts) >= 4.0
            && value(&after, "icmp_ctl_program_run_seconds_total{entry=\"xdp\"}") > 0.0
    );
    assert!(value(&after, "icmp_ctl_budget_left_ratio{budget=\"replies\"}") < 0.5, "{after}");
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn the_age_of_the_policy_the_use_of_the_limiter_and_what_links_receive_are_on_the_page() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let (host, folder) = (&pair.host, Folder::new());
    let value = |name: &str| -> f64 {
        let page = ctl::run(host, "show metrics").expect_success();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().last());
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    // As many lines as are looked at, and buckets that stay in use.
    let limits = "[limits]\nmemory = \"128KiB\"\nper-source = { rate = \"1/h\", burst = 9 }\n";
    let config = folder.file("c.toml", limits);
    let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let _said = ctl::run(host, &format!("attach {HOST_IF} --mode native -f {config}")).expect_success();
    let sources = "icmp_ctl_limiter_buckets_used_ratio{table=\"sources\"}";
    let received = format!("icmp_ctl_interface_received_frames_total{{interface=\"{HOST_IF}\"}}");
    let (used, frames) = (value(sources), value(&received));
    assert!(used < 1e-3, "who has pinged before it was attached is in none: {used}");
    let _said = pair.peer.ping(&["-c3", "-i0.02", "192.0.2.2"]);
    // Both buckets of one source.
    assert!((value(sources) - used - 2.0 / 8192.0).abs() < 1e-9, "{used} and then {}", value(sources));
    assert!(value(&received) >= frames + 3.0, "{frames} and then {}", value(&received));
    let applied = || value("icmp_ctl_config_applied_timestamp_seconds");
    let mut before = applied();
    // The clock of files goes by ticks.
    assert!(before > began - 0.02, "{before} {began}");
    for change in [
        "limit set errors 900/s",
        "rule add r --type echo-request --action drop",
        "apply -f C --confirm 60s",
        "rollback",
    ] {
        let _said = ctl::run(host, &change.replace('C', &config)).expect_success();
        assert!(applied() > before, "{change}");
        before = applied();
    }
    let _said = ctl::run(host, "status").expect_success();
    assert_eq!(applied().to_bits(), before.to_bits(), "who looks changes nothing");
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn without_serve_the_page_is_printed_or_a_file_for_node_exporter() {
    if !icmp_tests::can_run(&["ip", "nsenter", "ping"]) {
        return;
    }
    let pair = Pair::new(1500);
    let (host, folder) = (&pair.host, Folder::new());
    let path = folder.path().display();
    let _said = ctl::run(host, &format!("attach {HOST_IF}")).expect_success();
    let _said = pair.peer.ping(&["-c3", "-i0.02", "192.0.2.2"]);
    let written = || fs::read_to_string(folder.path().join("icmp-ctl.prom")).expect("a file");
    let said = ctl::run(host, &format!("show metrics --textfile {path}")).expect_success();
    assert_eq!(said, format!("{path}/icmp-ctl.prom written\n"));
    let answered =
        |page: &str| page.lines().any(|line| line.contains("reason=\"answered\"") && line.ends_with("} 3"));
    assert!(
        answered(&written()) && answered(&ctl::run(host, "show metrics").expect_success()),
        "{}",
        written()
    );
    let names = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 1, "nothing else is left there");
    let refused = ctl::run(host, "show metrics --textfile /proc/icmp-ctl");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("writing /proc/icmp-ctl/icmp-ctl.prom"),
        "{refused}"
    );
    let _done = ctl::run(host, "detach --all").expect_success();
    let _said = ctl::run(host, &format!("show metrics --textfile {path}")).expect_success();
    assert!(!written().contains("icmp_ctl_packets_total{"), "no old figure stays: {}", written());
}

#[test]
fn an_address_that_others_reach_is_warned_about() {
    if !icmp_tests::can_run(&["ip", "nsenter"]) {
        return;
    }
    let pair = Pair::new(1500);
    let folder = Folder::new();
    let config = folder.file("c.toml", "[metrics]\nlisten = \"0.0.0.0:9816\"\n");
    let mut serve = Watch::start(&mut ctl::command(&pair.host, &format!("serve -f {config}")));
    serve.wait_for("every client that reaches 0.0.0.0:9816 may read the metrics", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let (_folder, mut serve) = serve_on(&pair.host);
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let heard = serve.heard();
    assert!(heard.iter().all(|line| !line.contains("may read the metrics")), "{heard:?}");
    let _done = ctl::run(&pair.host, "detach --all").expect_success();
}

/// `serve` with the host's interface attached, and the folder with its configuration.
fn serve_on(host: &Namespace) -> (Folder, Watch) {
    let folder = Folder::new();
    let config = folder.file("icmp-ctl.toml", &format!("interfaces = [\"{HOST_IF}\"]\n"));
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for(METRICS, LIMIT);
    (folder, serve)
}
