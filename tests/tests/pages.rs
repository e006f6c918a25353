//! The commands in the documentation, run.
//!
//! Owns the host and the client of the pages, and that no block of a page is left out. `transcript.rs` reads a page.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use icmp_ctl::cli::Cli;
use icmp_ctl::config::file::Config;
use icmp_tests::can_run;
use icmp_tests::netns::{self, HOST_MAC, Namespace, PEER_MAC};
use icmp_tests::transcript::{Block, World, blocks};
use icmp_tests::xdp::PassLink;

/// A host and a client, each with an `eth0` at one wire.
fn run(page: &str) {
    if !can_run(&["ip", "ping", "nsenter", "nft", "tcpdump", "tshark", "hping3", "xdp-loader"]) {
        return;
    }
    let (host, client) = (Namespace::new("host"), Namespace::new("client"));
    for namespace in [&host, &client] {
        netns::quiet(namespace);
    }
    netns::join(&host, "eth0", HOST_MAC, &client, "eth0", PEER_MAC, 1500);
    for (namespace, addresses, other) in [
        (&host, ["192.0.2.2/24", "2001:db8::2/64"], ["192.0.2.1", "2001:db8::1"]),
        (&client, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2", "2001:db8::2"]),
    ] {
        for address in addresses {
            namespace.ip(&format!("address add {address} dev eth0"));
        }
        for gateway in other {
            namespace.ip(&format!("route add default via {gateway}"));
        }
    }
    let _pass = client.enter(|| PassLink::attach("eth0"));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    World { host: &host, client: &client }.run(&page).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// One test for each page, so that they run beside one another.
macro_rules! pages {
    ($($test:ident: $page:literal,)+) => {
        $(
            #[test]
            fn $test() {
                run($page);
            }
        )+

        const PAGES: &[&str] = &[$($page),+];
    };
}

pages! {
    readme_prints_what_it_says: "README.md",
    chain_prints_what_it_says: "docs/chain.md",
    start_prints_what_it_says: "docs/start.md",
    cli_prints_what_it_says: "docs/cli.md",
    monitor_prints_what_it_says: "docs/monitor.md",
    doctor_prints_what_it_says: "docs/doctor.md",
    explain_prints_what_it_says: "docs/explain.md",
    replay_prints_what_it_says: "docs/replay.md",
    capture_prints_what_it_says: "docs/capture.md",
    peers_prints_what_it_says: "docs/peers.md",
    rollout_prints_what_it_says: "docs/handbook/rollout.md",
    sizing_prints_what_it_says: "docs/handbook/sizing.md",
    floods_print_what_they_say: "docs/handbook/floods.md",
    monitors_print_what_they_say: "docs/handbook/monitors.md",
    path_mtu_and_neighbours_print_what_they_say: "docs/handbook/pmtud-and-neighbours.md",
    troubleshooting_prints_what_it_says: "docs/handbook/troubleshooting.md",
}

/// Blocks of text that are neither a command nor what one prints, by page and first words.
const DRAWN: &[(&str, &str)] = &[
    ("docs/architecture.md", "/sys/fs/bpf/icmp-ctl/ "),
    ("docs/packet-path.md", "parse -> own?"),
    ("docs/performance.md", "N = packets per second"),
];

/// Outputs that need more than a test has, and the script that expects them in a virtual machine.
const IN_VM: &[(&str, &str)] = &[("docs/chain.md", "xtask/src/vm_chain.sh")];

/// Commands of other programs, which need what a test has not: a package, systemd, a cluster, a registry.
const OTHERS: &[&str] = &[
    "apt",
    "dnf",
    "editor",
    "helm",
    "install",
    "kubectl",
    "skopeo",
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "tar",
    "usermod",
];

#[test]
fn every_page_with_commands_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    // `reference.rs` makes those below docs/reference.
    let docs = pages_below(&root.join("docs")).filter(|page| !page.starts_with(root.join("docs/reference")));
    for page in docs.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("a page in UTF-8");
        let name = page.strip_prefix(&root).expect("below it").to_str().expect("in UTF-8");
        for block in blocks(&text) {
            if let Err(why) = held(&root, name, &block) {
                wrong.push(format!("{name}:{}: {why}", block.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a test holds a block to what is so; the error says why none does.
fn held(root: &Path, page: &str, block: &Block<'_>) -> Result<(), String> {
    let is_listed = |list: &[(&str, &str)], first: &str| {
        list.iter().any(|(listed, words)| *listed == page && first.starts_with(words))
    };
    match block.kind {
        Some("console") if PAGES.contains(&page) => Ok(()),
        Some("console") => Err("the page is not run".to_owned()),
        Some("toml") => {
            Config::parse(&block.lines.join("\n"), page).map(|_| ()).map_err(|e| format!("{e:#}"))
        }
        // How Prometheus is told of the rules, which `alerts.rs` has it read.
        Some("yaml") => Ok(()),
        Some("text") if is_listed(DRAWN, block.lines.first().unwrap_or(&"")) => Ok(()),
        Some("text") => block.lines.iter().try_for_each(|line| expected_in_vm(root, page, line)),
        Some(kind) => Err(format!("blocks of {kind:?} are not run")),
        None => block.lines.iter().try_for_each(|line| understood(root, line)),
    }
}

/// Whether the script for the page expects just this line, but for the numbers of programs.
fn expected_in_vm(root: &Path, page: &str, line: &str) -> Result<(), String> {
    let (_, script) =
        IN_VM.iter().find(|(listed, _)| *listed == page).ok_or("an output that is not run".to_owned())?;
    let mut parts = line.split("program ");
    let mut pattern = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        pattern += "program [0-9]*";
        pattern += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let script = fs::read_to_string(root.join(script)).expect("a script");
    if script.contains(&pattern) { Ok(()) } else { Err(format!("the script does not expect \"{pattern}\"")) }
}

/// Whether a line of a block of commands is one that its program takes.
fn understood(root: &Path, line: &str) -> Result<(), String> {
    let command = line.split(" #").next().unwrap_or_default();
    for command in command.split(" && ") {
        let words: Vec<_> =
            command.split_whitespace().take_while(|word| !matches!(*word, "|" | ">")).collect();
        let is_there = |word: &&str| root.join(word.split('*').next().unwrap_or_default()).exists();
        if let Some(missing) = words.iter().find(|word| word.starts_with("deploy/") && !is_there(word)) {
            return Err(format!("there is no {missing}"));
        }
        match words[..] {
            ["icmp-ctl", ..] => drop(Cli::try_parse_from(&words).map_err(|e| e.to_string())?),
            ["cargo", "xtask", verb, ..] => {
                let verbs = fs::read_to_string(root.join("xtask/src/main.rs")).expect("the verbs");
                if !verbs.contains(&format!("mod {verb};")) {
                    return Err(format!("cargo xtask has no verb {verb}"));
                }
            }
            ["cargo", "install", .., path] if root.join(path).exists() => {}
            [program, ..] if OTHERS.contains(&program) => {}
            _ => {
                return Err(format!(
                    "{command:?} is not run, and no command of a program that is known here"
                ));
            }
        }
    }
    Ok(())
}

fn pages_below(folder: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    Box::new(entries.flat_map(|path| match path.extension() {
        Some(extension) if extension == "md" => {
            Box::new(std::iter::once(path)) as Box<dyn Iterator<Item = _>>
        }
        _ if path.is_dir() => pages_below(&path),
        _ => Box::new(std::iter::empty()),
    }))
}
