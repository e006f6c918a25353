//! Files of packages besides the program: manual pages, and completions of shells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::run;
use serde_json::Value;

/// The page names that a folder has.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder of the pages");
    entries.map(|entry| entry.expect("a page").file_name().into_string().expect("a name")).collect()
}

#[test]
fn each_verb_and_the_configuration_have_a_page_that_the_readers_of_pages_do_not_complain_about() {
    if !can_run(&["mandoc"]) {
        return;
    }
    let folder = Folder::new();
    let pages = folder.path().join("man");
    let done = run(Command::new(ctl::program()).arg("man").arg(&pages));
    assert_eq!(done.code, Some(0), "{done}");
    let names = names(&pages);
    for page in
        ["icmp-ctl.8", "icmp-ctl-attach.8", "icmp-ctl-show-policy.8", "icmp-ctl-man.8", "icmp-ctl.toml.5"]
    {
        assert!(names.contains(page), "{page} of {names:?}");
    }
    let help = run(Command::new(ctl::program()).arg("--help")).expect_success();
    let verbs = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("verbs");
    // What a line goes on with stands further to the right.
    let verbs = verbs.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for verb in verbs.filter(|verb| !["", "help"].contains(verb)) {
        assert!(names.contains(&format!("icmp-ctl-{verb}.8")), "{verb} of {names:?}");
    }
    let files: Vec<_> = names.iter().map(|name| pages.join(name)).collect();
    let said = run(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(files)).output();
    // What clap_mangen writes between the values of an option is one line break too many.
    let wrong: Vec<_> = said.lines().filter(|line| !line.contains("skipping paragraph macro")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_configuration_that_packages_bring_is_valid_as_it_is_and_with_all_that_is_commented_out() {
    let text = include_str!("../../deploy/config.toml");
    let with_all: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c == '[' || c.is_alphanumeric()) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(with_all.contains("\ninterfaces = ") && with_all.contains("\n[[policy.rule]]\n"), "{with_all}");
    let folder = Folder::new();
    for text in [text, &with_all] {
        let file = folder.file("config.toml", text);
        let done = run(Command::new(ctl::program()).args(["apply", "--check", "-f", &file]));
        assert_eq!(done.code, Some(0), "{done}");
    }
}

/// What bash completes a command line to, in a namespace.
fn completed(namespace: &Namespace, line: &str) -> Vec<String> {
    let program = ctl::program().parent().expect("a folder").display();
    let asked = format!(
        r#"PATH="{program}:$PATH"; source <(icmp-ctl completions bash) || exit 1
        COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_KEY=9
        read -ra COMP_WORDS <<< "$COMP_LINE"; [[ $COMP_LINE = *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        asked=$(complete -p icmp-ctl) || exit 1
        asked=${{asked##*-F }}; ${{asked%% *}} icmp-ctl "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\n' "${{COMPREPLY[@]}}""#
    );
    let said = namespace.run("bash", &["--norc", "-c", &asked]).expect_success();
    said.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_shell_completes_verbs_interfaces_limits_rules_and_types_as_they_are_here() {
    if !can_run(&["bash"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let _attached = Attached::configured(
        host,
        HOST_IF,
        "[[policy.rule]]\nname = \"scanners\"\nfrom = [\"198.51.100.0/24\"]\ntype = \"echo-request\"\naction = \"drop\"\n",
    );
    assert_eq!(completed(host, "icmp-ctl det"), ["detach"]);
    assert_eq!(completed(host, &format!("icmp-ctl attach {}", &HOST_IF[..2])), [HOST_IF]);
    assert_eq!(completed(host, "icmp-ctl limit set per-s"), ["per-source"]);
    assert_eq!(completed(host, "icmp-ctl rule del sc"), ["scanners"]);
    assert_eq!(completed(host, "icmp-ctl show policy echo-req"), ["echo-request"]);
    assert_eq!(completed(host, "icmp-ctl apply --allow-break neigh"), ["neighbour-discovery"]);
    assert_eq!(completed(host, "icmp-ctl capture --verdict answer,dr"), ["answer,drop"]);
}

#[test]
fn the_scripts_of_shells_begin_with_their_first_line_and_are_the_same_as_json() {
    for shell in ["bash", "zsh", "fish"] {
        let run = |json: &[&str]| {
            run(Command::new(ctl::program()).args(["completions", shell]).args(json)).expect_success()
        };
        let (text, json) = (run(&[]), run(&["-j"]));
        assert!(
            text.starts_with(|first: char| !first.is_whitespace()) && !text.ends_with("\n\n"),
            "{shell}: {text}"
        );
        let json: Value =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{shell}: {error}: {json}"));
        assert_eq!((&json["schema"], json["script"].as_str()), (&1.into(), Some(&*text)), "{shell}");
    }
}

#[test]
fn what_a_shell_would_split_or_expand_is_completed_with_escapes_and_what_is_never_attached_not_at_all() {
    if !can_run(&["bash", "ip"]) {
        return;
    }
    let host = Namespace::new("odd");
    host.ip("link add a$;b type veth peer name ab*");
    assert_eq!(completed(&host, "icmp-ctl attach a"), ["a\\$\\;b", "ab\\*"]);
    assert_eq!(completed(&host, "icmp-ctl attach l"), [] as [&str; 0]);
    let folder = Folder::new();
    let _file = folder.file("my rules.toml", "");
    let path = folder.path().join("my\\ rules.toml");
    let line = format!("icmp-ctl apply -f {}/my", folder.path().display());
    assert_eq!(completed(&host, &line), [path.to_str().expect("UTF-8")]);
}

#[test]
fn no_rule_is_completed_and_nothing_is_said_where_nothing_is_loaded() {
    if !can_run(&["bash"]) {
        return;
    }
    let host = Namespace::new("empty");
    assert_eq!(completed(&host, "icmp-ctl rule del sc"), [] as [&str; 0]);
}
