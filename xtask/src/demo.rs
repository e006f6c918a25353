//! `cargo xtask demo`: what this is for, seen in a minute.
//!
//! Owns the story: build, two namespaces, real pings, who answered, a flood, the counters, and nothing left behind.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::netns::{HOST_V4, HOST_V6, INTERFACE, Namespace, Pair};
use crate::{build, interrupt, run, setup};

/// Echo requests of the flood: all sent at once, whatever comes back, so that it ends within two seconds.
const FLOOD: &str = "5000";

pub(crate) fn verb() -> Result<()> {
    run::require_root("the demo makes network namespaces and loads a program into the kernel, and")?;
    setup::ready(setup::Purpose::Demo)?;

    run::heading("Build icmp-ctl, with the XDP program inside it");
    let icmp_ctl = build::icmp_ctl(&[])?.program;

    run::heading("Two network namespaces joined by a cable, and no program yet");
    let pair = Pair::make()?;
    println!("  host    {HOST_V4}  {HOST_V6}   will run the XDP program");
    println!("  client  192.0.2.2  2001:db8::2   will send the pings");

    run::heading("Attach to the host's interface");
    // Detached before the namespaces go, in every way out of here.
    let host = Attached::new(&pair.host, &icmp_ctl, true)?;
    // A frame that XDP sends over veth arrives only where the other end has a program as well; this one passes
    // everything the client asked for to the client.
    let client = Attached::new(&pair.client, &icmp_ctl, false)?;
    println!("  The client's end has one now, too, so the replies arrive.");

    run::heading("Real pings, IPv4 and IPv6");
    let before = Answers::read(&host)?;
    for address in [HOST_V4, HOST_V6] {
        show("ping", &["-c", "3", "-i", "0.2", address]);
        run::stream(pair.client.command("ping").args(["-c", "3", "-i", "0.2", address]))
            .with_context(|| format!("{address} did not answer"))?;
    }

    run::heading("Who answered?");
    let after = Answers::read(&host)?;
    let answered = after.answered - before.answered;
    println!("  XDP program                    {answered} of 6");
    println!("  the kernel's stack, IPv4       {} (IcmpInEchos)", after.stack_v4 - before.stack_v4);
    println!("  the kernel's stack, IPv6       {} (Icmp6InEchos)", after.stack_v6 - before.stack_v6);
    ensure!(answered == 6, "the XDP program should have answered all 6 pings");
    ensure!(
        (after.stack_v4, after.stack_v6) == (before.stack_v4, before.stack_v6),
        "the kernel's own counters moved, so that the stack saw pings that XDP should have answered"
    );
    println!("  The stack never saw an echo request: the driver's receive path had answered it.");

    run::heading("A flood from one source");
    let before = after;
    show("ping", &["-q", "-c", FLOOD, "-l", FLOOD, "-W", "1", HOST_V4]);
    // The status tells whether all were answered, which is just what must not be.
    let flood =
        run::output(pair.client.command("ping").args(["-q", "-c", FLOOD, "-l", FLOOD, "-W", "1", HOST_V4]))?;
    interrupt::check()?;
    for line in String::from_utf8_lossy(&flood.stdout).lines().filter(|line| line.contains("transmitted")) {
        println!("  ping says  {line}");
    }
    let after = Answers::read(&host)?;
    println!("  answered   {}", after.answered - before.answered);
    println!("  limited    {}", after.limited - before.limited);
    if after.limited == before.limited {
        println!("  No limit was reached.");
    } else {
        println!(
            "  One source gets its rate and its burst, and no more; the rest is dropped before it costs anything."
        );
    }

    run::heading("The counters, as an operator sees them");
    show("icmp-ctl", &["show", "counters"]);
    run::stream(host.icmp_ctl().args(["show", "counters"]))?;

    run::heading("Clean up");
    drop(host);
    drop(client);
    drop(pair);
    println!("  detached; the namespaces are gone. On a real machine:\n");
    println!("      icmp-ctl attach eth0\n      icmp-ctl show counters\n      icmp-ctl detach eth0\n");
    Ok(())
}

/// icmp-ctl attached in a namespace, until this value goes.
struct Attached<'a> {
    namespace: &'a Namespace,
    program: &'a Path,
}

impl<'a> Attached<'a> {
    fn new(namespace: &'a Namespace, program: &'a Path, shown: bool) -> Result<Self> {
        let attached = Self { namespace, program };
        let mut attach = attached.icmp_ctl();
        attach.args(["attach", INTERFACE]);
        if shown {
            show("icmp-ctl", &["attach", INTERFACE]);
            run::stream(&mut attach)?;
        } else {
            run::capture(&mut attach)?;
        }
        Ok(attached)
    }

    fn icmp_ctl(&self) -> Command {
        self.namespace.command(self.program)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // In a process group of its own: the next Ctrl-C must not stop the tidying.
        let _nothing_attached = run::output(self.icmp_ctl().args(["detach", "--all"]).process_group(0));
    }
}

/// Who answered how many so far.
struct Answers {
    answered: u64,
    limited: u64,
    stack_v4: u64,
    stack_v6: u64,
}

impl Answers {
    fn read(host: &Attached<'_>) -> Result<Self> {
        let text = run::capture(host.icmp_ctl().args(["show", "counters", "-j"]))?;
        let counters: Value =
            serde_json::from_str(&text).context("understanding `icmp-ctl show counters -j`")?;
        Ok(Self {
            answered: packets(&counters, "answer"),
            limited: packets(&counters, "limit"),
            stack_v4: host.namespace.stack_counter("IcmpInEchos")?,
            stack_v6: host.namespace.stack_counter("Icmp6InEchos")?,
        })
    }
}

/// Packets of every reason that ends in this verdict.
fn packets(counters: &Value, verdict: &str) -> u64 {
    let interfaces = counters["interfaces"].as_array().into_iter().flatten();
    let reasons =
        interfaces.filter_map(|interface| interface["reasons"].as_object()).flat_map(|all| all.values());
    reasons
        .filter(|reason| reason["verdict"] == verdict)
        .filter_map(|reason| reason["packets"].as_u64())
        .sum()
}

/// The command that follows, as one would type it.
fn show(program: &str, arguments: &[&str]) {
    println!("  $ {program} {}", arguments.join(" "));
    let _closed = std::io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_summed_over_the_reasons_of_a_verdict() {
        let counters = serde_json::json!({"schema": 1, "interfaces": [{"name": "veth0", "received": 12, "reasons": {
            "answered": {"verdict": "answer", "packets": 6, "bytes": 588},
            "limited-source": {"verdict": "limit", "packets": 3, "bytes": 294},
            "limited-prefix": {"verdict": "limit", "packets": 2, "bytes": 196},
            "not-icmp": {"verdict": "pass", "packets": 1, "bytes": 60},
        }}]});
        assert_eq!(packets(&counters, "answer"), 6);
        assert_eq!(packets(&counters, "limit"), 5);
    }
}
