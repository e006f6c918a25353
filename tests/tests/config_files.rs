//! The files that a configuration consists of: where and when they are read, and which files are refused.
//!
//! Owns nothing of their contents.

use std::fs;
use std::path::Path;
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::Watch;
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn files_are_read_where_the_user_sees_them_though_pins_are_made_elsewhere() {
    let Some(pair) = pair(&["unshare", "mount"]) else { return };
    let host = &pair.host;
    // What is in the one folder is seen in the other, by the commands alone: as below /etc/netns, or in a container.
    let (seen, elsewhere) = (Folder::new(), Folder::new());
    let config = configuration("file:list");
    for (folder, prefix) in [(&seen, "203.0.113.0/24"), (&elsewhere, "198.51.100.0/24")] {
        let _list = folder.file("list", prefix);
        let _config = folder.file("c.toml", &config);
    }
    let script = "while umount /sys/fs/bpf 2>/dev/null; do :; done; mount --bind \"$1\" \"$2\"; cd \"$2\"; shift 2; exec \"$@\"";
    let (program, from, to) = (ctl::program(), text(seen.path()), text(elsewhere.path()));
    let there = ["--mount", "sh", "-ec", script, "sh", from, to, text(program)];
    let run = |arguments: &[&str]| {
        let done = host.run("unshare", &[&there[..], arguments].concat());
        assert_eq!(done.code, DONE, "{done}");
    };
    run(&["attach", HOST_IF, "-f", "c.toml"]);
    run(&["rule", "add", "two", "--from", "file:list", "--type", "echo-request", "--action", "drop"]);
    assert_eq!(lists(host), ["203.0.113.0/24", "203.0.113.0/24"]);

    let mut serve = host.watch("unshare", &[&there[..], &["serve", "-f", "c.toml"]].concat());
    serve.wait_for("serving metrics", LIMIT);
    let _list = seen.file("list", "192.0.2.0/24");
    serve.signal(Signal::SIGHUP);
    serve.wait_for("is in force", LIMIT);
    assert_eq!(lists(host), ["192.0.2.0/24"]);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let _done = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn a_command_goes_where_pins_are_kept_however_soon_it_has_asked_for_rules() {
    let Some(pair) = pair(&["unshare", "nft"]) else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = folder.file("c.toml", "[responder]\nttl = 63\n");
    let _attached = Attached::new(host, HOST_IF);
    // The thread that reads what `nft` says ends at about the time at which the command goes.
    for _ in 0..30 {
        let script = "umount -l /sys/fs/bpf; mount -t bpf bpf /sys/fs/bpf; exec \"$@\"";
        let arguments =
            ["--mount", "sh", "-ec", script, "sh", text(ctl::program()), "apply", "--check", "-f", &config];
        let done = host.run("unshare", &arguments);
        assert_eq!(done.code, DONE, "{done}");
    }
}

#[test]
fn a_list_that_became_a_fifo_changes_nothing_and_stops_no_following() {
    let Some(pair) = pair(&["mkfifo"]) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let list = folder.file("list", "203.0.113.0/24");
    let config = folder.file("c.toml", &configuration("file:list"));
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {config}")));
    serve.wait_for("serving metrics", LIMIT);
    fs::remove_file(&list).expect("it is ours");
    assert_eq!(host.run("mkfifo", &[&list]).code, DONE);
    serve.signal(Signal::SIGHUP);
    let said = serve.wait_for("no regular file", LIMIT);
    assert!(said.contains("what was in force stays"), "{said}");
    assert_eq!(lists(host), ["203.0.113.0/24"]);
    host.ip(&format!("address del 192.0.2.77/24 dev {HOST_IF}"));
    serve.wait_for("removed", LIMIT);
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let _done = ctl::run(host, "detach --all").expect_success();
}

fn pair(programs: &[&str]) -> Option<Pair> {
    can_run(&[&["ip", "nsenter"], programs].concat()).then(|| Pair::new(1500))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn configuration(from: &str) -> String {
    format!(
        "interfaces = [\"{HOST_IF}\"]\n[[policy.rule]]\nname = \"one\"\nfrom = \"{from}\"\ntype = \"echo-request\"\naction = \"drop\"\n"
    )
}

/// Whom the rules in force are about, one prefix each.
fn lists(host: &Namespace) -> Vec<String> {
    let text = ctl::run(host, "rule list -j").expect_success();
    let rules: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let rules = rules["rules"].as_array().expect("a list").iter();
    rules.map(|rule| rule["from"][0].as_str().expect("a prefix").to_owned()).collect()
}
