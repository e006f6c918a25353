//! The commands in the documentation, run.
//!
//! Owns the world that the pages are written about. How a page is read is `transcript.rs`'s.

use std::path::{Path, PathBuf};

use icmp_tests::can_run;
use icmp_tests::netns::{self, HOST_MAC, Namespace, PEER_MAC};
use icmp_tests::transcript::World;
use icmp_tests::xdp::PassLink;

/// A host and a client, each with an `eth0` at one wire.
fn run(page: &str) {
    if !can_run(&["ip", "ping", "nsenter", "nft", "tcpdump", "tshark", "hping3"]) {
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

#[test]
fn every_page_with_commands_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in pages_below(&root.join("docs")).chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&page).expect("a page in UTF-8");
        let name = page.strip_prefix(&root).expect("below it").to_str().expect("in UTF-8");
        assert!(!text.contains("```console") || PAGES.contains(&name), "{name} is not run");
    }
}

fn pages_below(folder: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    Box::new(entries.flat_map(|path| match path.extension() {
        Some(extension) if extension == "md" => {
            Box::new(std::iter::once(path)) as Box<dyn Iterator<Item = _>>
        }
        _ if path.is_dir() => pages_below(&path),
        _ => Box::new(std::iter::empty()),
    }))
}
