//! Warnings about the host's own packet filters, which answered pings bypass.
//!
//! Owns the warnings about nftables and iptables-legacy as they are in a namespace. The meaning of each expression is tested beside the code.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::netns::Namespace;
use icmp_tests::process::{self, Finished};
use icmp_tests::xdp;

const INPUT: &str = "type filter hook input priority 0;";

#[test]
fn a_ruleset_that_may_refuse_pings_is_warned_about_with_the_rule() {
    if !can_run(&["ip", "nsenter", "nft"]) {
        return;
    }
    let host = Namespace::new("filter");
    for (chains, quoted) in [
        (format!("chain c {{ {INPUT}; ip saddr 10.9.0.0/24 drop; }}"), "ip saddr 10.9.0.0/24 drop"),
        (
            format!(
                "set bl {{ type ipv4_addr; elements = {{ 10.0.0.1 }}; }}; chain c {{ {INPUT}; ip saddr @bl drop; }}"
            ),
            "ip saddr @bl drop",
        ),
        (
            format!("chain c {{ {INPUT} policy drop; ct state established accept; }}"),
            "policy drop of chain c",
        ),
        (format!("chain c {{ {INPUT}; iifname \"h0\" drop; }}"), "iifname \"h0\" drop"),
        (
            format!("chain x {{ drop; }}; chain c {{ {INPUT}; ip protocol icmp jump x; }}"),
            "`drop` in chain x",
        ),
        (
            "chain c { type nat hook prerouting priority -100; ip daddr 192.0.2.2 dnat ip to 192.0.2.77; }"
                .to_owned(),
            "dnat ip to 192.0.2.77",
        ),
        (
            "chain c { type filter hook prerouting priority -300; ip protocol icmp ip daddr set 192.0.2.99; }"
                .to_owned(),
            "ip daddr set 192.0.2.99",
        ),
        (
            "chain c { type filter hook prerouting priority -300; icmp type echo-request icmp type set 0; }"
                .to_owned(),
            "icmp type echo-request",
        ),
        (
            format!("chain c {{ {INPUT}; icmpv6 type echo-request ip6 daddr set 2001:db8::99; }}"),
            "ip6 daddr set 2001:db8::99",
        ),
        (
            "chain c { type filter hook prerouting priority 0; ip saddr 10.9.0.0/24 drop; }".to_owned(),
            "ip saddr 10.9.0.0/24 drop",
        ),
        (
            "chain c { type filter hook output priority 0; icmp type echo-reply drop; }".to_owned(),
            "icmp type echo-reply drop",
        ),
        (
            format!("chain c {{ {INPUT}; icmpv6 type echo-request reject; }}"),
            "icmpv6 type echo-request reject",
        ),
    ] {
        let done = check_under(&host, &chains);
        assert_eq!(done.code, Some(0), "{done}");
        assert!(done.stderr.contains("WARNING") && done.stderr.contains(quoted), "{chains}: {done}");
    }
}

#[test]
fn a_ruleset_that_lets_pings_through_is_no_reason_for_a_warning() {
    if !can_run(&["ip", "nsenter", "nft"]) {
        return;
    }
    let host = Namespace::new("filter");
    for chains in [
        // What distributions ship for a server that may be pinged.
        format!(
            "chain c {{ {INPUT} policy drop; ct state vmap {{ invalid : drop, established : accept, related : accept }}; \
             iifname \"lo\" accept; meta l4proto {{ icmp, ipv6-icmp }} accept; tcp dport 22 accept; }}; \
             chain o {{ type filter hook output priority 0; policy drop; ct state established,related accept; }}"
        ),
        "chain unhooked { icmp type echo-request drop; }".to_owned(),
        format!("flags dormant; chain c {{ {INPUT}; icmp type echo-request drop; }}"),
        format!("chain c {{ {INPUT}; icmp type redirect drop; tcp dport 22 drop; ct state invalid drop; }}"),
        "chain c { type nat hook prerouting priority -100; tcp dport 80 dnat ip to 192.0.2.77; }".to_owned(),
        "chain c { type filter hook forward priority 0; policy drop; }".to_owned(),
        "chain c { type filter hook prerouting priority -300; ip ttl set 64; ip dscp set cs1; ip6 hoplimit set 64; \
         ip6 flowlabel set 7; meta mark set 1; ct mark set 1; meta priority set 1:3; tcp dport set 22; }"
            .to_owned(),
        "chain c { type nat hook output priority -100; ip daddr 10.9.0.0/24 dnat ip to 192.0.2.77; }".to_owned(),
    ] {
        let done = check_under(&host, &chains);
        assert!(done.code == Some(0) && !done.stderr.contains("WARNING"), "{chains}: {done}");
    }
}

#[test]
fn the_rules_of_iptables_legacy_are_warned_about_too() {
    if !can_run(&["ip", "nsenter", "iptables-legacy", "iptables-legacy-save"]) {
        return;
    }
    let host = Namespace::new("filter");
    assert!(!check(&host).stderr.contains("WARNING"), "there are no tables yet");
    let rule = ["-A", "INPUT", "-s", "10.9.0.0/24", "-p", "icmp", "-j", "DROP"];
    let done = host.run("iptables-legacy", &rule);
    if done.code != Some(0) {
        println!("skipped: this kernel has no tables of iptables-legacy: {done}");
        return;
    }
    let done = check(&host);
    assert!(done.stderr.contains("-A INPUT -s 10.9.0.0/24 -p icmp -j DROP"), "{done}");
}

#[test]
fn what_is_in_sets_is_not_listed_and_of_maps_only_what_decides_about_a_ping() {
    if !can_run(&["ip", "nsenter", "nft", "install"]) {
        return;
    }
    let host = Namespace::new("filter");
    let folder = Folder::new();
    let rules = format!(
        "table inet t {{\nset bl {{ type ipv4_addr; elements = {{ 10.0.0.1, 10.0.0.2 }}; }}\n\
         map by_device {{ type ifname : verdict; elements = {{ \"h0\" : drop }}; }}\n\
         map by_port {{ type inet_service : verdict; elements = {{ 22 : drop }}; }}\n\
         map unused {{ type ifname : verdict; elements = {{ \"h0\" : drop }}; }}\n\
         chain c {{ {INPUT}\nip saddr @bl accept\niifname vmap @by_device\ntcp dport vmap @by_port\n}}\n}}\n"
    );
    let file = folder.file("rules.nft", &rules);
    let _done = process::run(host.command("nft").args(["-f", &file])).expect_success();
    let config = folder.file("c.toml", "");
    let (path, asked) = (folder.path().display(), folder.file("asked", ""));
    let program = ctl::program().display();
    let check = |maps: &str| {
        let nft = format!("#!/bin/sh\necho \"$@\" >>{asked}\n{maps}\nexec /usr/sbin/nft \"$@\"\n");
        folder.script("nft", &nft);
        let script = format!("PATH={path}:$PATH; exec {program} apply -f {config} --check");
        host.run("sh", &["-c", &script])
    };
    let done = check("");
    assert!(done.stderr.contains("may refuse") && done.stderr.contains("iifname vmap @by_device"), "{done}");
    let listed: BTreeSet<_> =
        fs::read_to_string(&asked).expect("a text").lines().map(str::to_owned).collect();
    assert!(listed.contains("-j list map inet t by_device"), "{listed:?}");
    let others: Vec<_> = listed.iter().filter(|line| !line.contains("by_device")).collect();
    assert!(!others.is_empty() && others.iter().all(|line| line.contains("-t list ruleset")), "{others:?}");
    // As of a map that is too large to be listed in time.
    let done = check("case \"$*\" in *map*) exit 1;; esac");
    assert!(done.stderr.contains("may refuse") && done.stderr.contains("iifname vmap @by_device"), "{done}");
}

#[test]
fn a_bpf_program_of_the_packet_filter_is_warned_about_where_it_is_and_nowhere_else() {
    if !can_run(&["ip", "nsenter", "sleep"]) {
        return;
    }
    let (host, other) = (Namespace::new("filter"), Namespace::new("filter-other"));
    let link = host.enter(xdp::drop_before_routing);
    // The process has the link alone, and is where its program is.
    let mut holder = host.command("sh");
    let holder = holder.args(["-c", "echo there; exec sleep 1000"]).stdin(link).stdout(Stdio::piped());
    let mut holder = holder.spawn().expect("it is started");
    let said = holder.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 6]);
    said.expect("it is in the namespace");
    let warning = |namespace: &Namespace| {
        let done = check(namespace);
        done.stderr.lines().find(|line| line.contains("may refuse")).map(str::to_owned)
    };
    let (here, elsewhere) = (warning(&host), warning(&other));
    holder.kill().and_then(|()| holder.wait()).expect("it ends");
    assert!(
        here.as_ref()
            .is_some_and(|line| line.contains("BPF program") && line.contains("at prerouting of ipv4")),
        "{here:?}"
    );
    assert_eq!((elsewhere, warning(&host)), (None, None));
}

fn check_under(host: &Namespace, chains: &str) -> Finished {
    let folder = Folder::new();
    // A statement ends with its line.
    let chains = chains.replace(';', "\n");
    let file = folder.file("rules.nft", &format!("flush ruleset\ntable inet t {{\n{chains}\n}}\n"));
    let _done = process::run(host.command("nft").args(["-f", &file])).expect_success();
    check(host)
}

fn check(host: &Namespace) -> Finished {
    let folder = Folder::new();
    let file = folder.file("c.toml", "");
    ctl::run(host, &format!("apply -f {file} --check"))
}
