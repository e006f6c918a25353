//! The words that `icmp-ctl` understands and prints: names, aliases, suggestions, and text that fits a terminal.
//!
//! Owns the words. `cli.rs` proves exit codes, `output.rs` outputs that cannot be written.

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process;
use serde_json::Value;
use std::process::Command;

#[test]
fn help_is_a_verb_too() {
    let Some(pair) = pair() else { return };
    for (verb, option) in [("help", "--help"), ("help attach", "attach --help")] {
        let said = ctl::run(&pair.host, verb).expect_success();
        assert_eq!(said, ctl::run(&pair.host, option).expect_success(), "{verb}");
    }
}

#[test]
fn a_misspelt_verb_is_answered_with_the_one_that_was_meant_and_another_word_with_none() {
    let Some(pair) = pair() else { return };
    for (typed, meant) in [("atach x", "'attach'"), ("show polciy", "'policy'"), ("stauts", "'status'")] {
        let done = ctl::run(&pair.host, typed);
        assert!(done.code == Some(2) && done.stderr.contains(meant), "{done}");
    }
    for typed in ["frobnicate", "show everything"] {
        let done = ctl::run(&pair.host, typed);
        assert!(done.code == Some(2) && !done.stderr.contains("similar"), "{done}");
    }
}

#[test]
fn an_option_for_interfaces_is_answered_with_how_they_are_named_and_no_option_is_taken_for_a_value() {
    for typed in
        ["capture -w f -i eth0", "attach -i eth0", "show counters --interface eth0", "doctor -i eth0"]
    {
        let done = process::run(Command::new(ctl::program()).args(typed.split(' ')));
        assert!(done.code == Some(2) && done.stderr.contains("named without an option"), "{done}");
    }
    let done = process::run(Command::new(ctl::program()).args(["apply", "-i", "eth0"]));
    assert!(done.code == Some(2) && !done.stderr.contains("tip:"), "{done}");
}

#[test]
fn what_is_no_whole_number_is_called_that() {
    let Some(pair) = pair() else { return };
    for typed in
        ["limit set errors 5/s --burst 1k", "rule add x --action pass --burst 1.5", "show sources -n x"]
    {
        let done = ctl::run(&pair.host, typed);
        assert!(done.code == Some(2) && done.stderr.contains("is no whole number"), "{done}");
    }
    let done = ctl::run(&pair.host, "explain --from 192.0.2.1 --to 192.0.2.2 --hop-limit 300");
    assert!(done.stderr.contains("\"300\" is no whole number from 0 to 255"), "{done}");
}

#[test]
fn what_a_terminal_would_obey_is_not_said_to_it() {
    let Some(pair) = pair() else { return };
    for typed in ["attach \u{1b}[31m", "apply -f \u{7}", "replay \u{9b}x -f y"] {
        let done = ctl::run(&pair.host, typed);
        let is_obeyed = |letter: char| letter.is_control() && letter != '\n';
        assert!(done.code != Some(0) && !done.output().contains(is_obeyed), "{typed:?}: {done:?}");
    }
}

#[test]
fn a_type_that_there_cannot_be_is_called_that_whatever_the_family() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    for (typed, said) in [("999", "is no ICMP type"), ("8/999", "a number from 0 to 255, not \"999\"")] {
        let rule = format!("[[policy.rule]]\nname = \"a\"\ntype = \"{typed}\"\naction = \"drop\"\n");
        let done = ctl::run(&pair.host, &format!("apply --check -f {}", folder.file("config.toml", &rule)));
        assert!(done.code == Some(1) && done.stderr.contains(said), "{done}");
    }
}

#[test]
fn the_names_of_limits_are_in_the_help_and_suggested() {
    let Some(pair) = pair() else { return };
    let help = ctl::run(&pair.host, "limit set --help").expect_success();
    for name in ["per-source", "replies", "neighbour-discovery"] {
        assert!(help.contains(name), "{name}: {help}");
    }
    let done = ctl::run(&pair.host, "limit set per-sorce 5/s");
    assert!(done.code == Some(2) && done.stderr.contains("'per-source'"), "{done}");
}

#[test]
fn modes_have_the_names_that_other_tools_give_them() {
    let Some(pair) = pair() else { return };
    for (alias, mode) in [("skb", "generic"), ("drv", "native")] {
        let _attached = Attached::with(&pair.host, HOST_IF, &format!("--mode {alias}"));
        assert_eq!(json(&pair.host, "status -j")["interfaces"][0]["mode"], mode);
    }
    let done = ctl::run(&pair.host, &format!("attach {HOST_IF} --mode hw"));
    assert!(done.code == Some(5) && done.stderr.contains("offload mode"), "{done}");
}

#[test]
fn status_and_counters_show_the_interfaces_that_are_named() {
    let Some(pair) = pair() else { return };
    pair.host.ip("link add other0 type veth peer name other1");
    pair.host.ip("link set other0 up");
    let _attached = Attached::with(&pair.host, HOST_IF, "other0 --mode native");
    for verb in ["status", "show counters"] {
        let names = |arguments: &str| -> Vec<String> {
            let document = json(&pair.host, &format!("{arguments} -j"));
            let rows = document["interfaces"].as_array().expect("a list").iter();
            rows.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
        };
        assert_eq!(names(verb).len(), 2, "{verb}");
        assert_eq!(names(&format!("{verb} other0")), ["other0"], "{verb}");
        assert_eq!(names(&format!("{verb} other*")), ["other0"], "{verb}: what is attached of what fits");
        assert_eq!(names(&format!("{verb} *")).len(), 2, "{verb}");
        for unattached in ["other1", "no*"] {
            let done = ctl::run(&pair.host, &format!("{verb} {unattached}"));
            assert!(
                done.code == Some(1) && done.stderr.contains(&format!("{unattached}: nothing of ours")),
                "{done}"
            );
        }
    }
    let done = ctl::run(&pair.host, "detach no*");
    assert!(done.code == Some(1) && done.stderr.contains("no*: nothing of ours"), "{done}");
    assert_eq!(ctl::run(&pair.host, "detach oth* other0").expect_success(), "other0: detached\n");
    assert_eq!(ctl::run(&pair.host, "detach *").expect_success(), format!("{HOST_IF}: detached\n"));
}

#[test]
fn columns_line_up_and_the_policy_fits_eighty_columns() {
    let Some(pair) = pair() else { return };
    pair.host.ip("link add an-other-name-0 type veth peer name other1");
    pair.host.ip("link set an-other-name-0 up");
    let _attached = Attached::with(&pair.host, HOST_IF, "an-other-name-0 --mode native");
    let status = ctl::run(&pair.host, "status").expect_success();
    let ends: Vec<_> = status.lines().take(3).map(|line| line.chars().count()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "AGE is at the end of each line:\n{status}");
    let id = json(&pair.host, "status -j")["interfaces"][0]["program_id"].to_string();
    let heading = status.find("PROGRAM").expect("a heading") + "PROGRAM".len();
    for line in status.lines().skip(1).take(2) {
        assert_eq!(line.find(&format!(" {id} ")).map(|at| at + 1 + id.len()), Some(heading), "{status}");
    }

    for arguments in ["show policy", "show policy -6", "show policy 3/4"] {
        let policy = ctl::run(&pair.host, arguments).expect_success();
        let long = policy.lines().find(|line| line.chars().count() > 80);
        assert!(long.is_none() && !policy.contains("RFC"), "{arguments}: {long:?}");
    }
    assert!(ctl::run(&pair.host, "show policy -v").expect_success().contains("RFC"), "the clauses");
}

#[test]
fn a_vip_with_bits_behind_its_prefix_or_a_very_wide_one_is_refused() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    let check = |vip: &str, more: &str| {
        let file = folder.file("c.toml", &format!("[responder]\nvips = [\"192.0.2.9\", \"{vip}\"]\n{more}"));
        ctl::run(&pair.host, &format!("apply -f {file} --check"))
    };
    for (vip, why) in [
        ("192.0.2.10/24", "the prefix is 192.0.2.0/24"),
        ("2001:db8::1/64", "the prefix is 2001:db8::/64"),
        ("0.0.0.0/0", "wide-vips = true"),
        ("::/0", "wide-vips = true"),
        ("10.0.0.0/7", "wide-vips = true"),
    ] {
        let done = check(vip, "");
        assert_eq!(done.code, Some(1), "{done}");
        assert!(done.stderr.contains(why) && done.stderr.contains("line 2"), "{done}");
    }
    for (vip, more) in [("10.0.0.0/8", ""), ("2001:db8::/32", ""), ("::/0", "wide-vips = true\n")] {
        assert_eq!(check(vip, more).code, Some(0), "{vip}");
    }
}

fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter"]).then(|| Pair::new(1500))
}

fn json(namespace: &Namespace, arguments: &str) -> Value {
    let text = ctl::run(namespace, arguments).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {text}"))
}
