//! `cargo xtask demo`: the purpose of the program, in a minute.
//!
//! Owns the story: build, two namespaces, real pings, which of the two answered, a flood, the counters, and nothing left behind. And its
//! recording, the picture in the README: the same on a terminal, slowed down so that it can be read.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::netns::{HOST_V4, HOST_V6, INTERFACE, IcmpCtl, Namespace, Pair};
use crate::{build, interrupt, run, setup};

/// Echo requests of the flood: all sent at once, whatever comes back, so that it ends within two seconds.
const FLOOD: &str = "5000";

/// Where the story begins: what is before it depends on the machine.
const BEGIN: &str = "Two network namespaces joined by a cable, and no program yet";

/// How a heading begins on a terminal; before each, the recording stands still for so many seconds.
const HEADING: &str = "\x1b[1m== ";
const PAUSE: f64 = 3.0;

/// Records it as docs/demo.svg.
pub(crate) fn record() -> Result<()> {
    setup::ready(setup::Purpose::Record)?;
    run::heading("Record");
    let root = run::root()?;
    let (cast, picture) = (root.join("target/demo.cast"), root.join("docs/demo.svg"));
    let termtosvg = || run::command(&setup::python(&root, "termtosvg").to_string_lossy());
    let this = std::env::current_exe().context("finding this program")?;
    // Nobody types; but where its input ends, the recording does.
    let (input, _not_ended) = io::pipe().context("making a pipe")?;
    run::capture(
        termtosvg()
            .stdin(input)
            .arg("record")
            .arg(&cast)
            .args(["--screen-geometry", "116x34", "--command", &format!("{} demo", this.display())])
            .env_remove("NO_COLOR"),
    )?;
    let recorded = fs::read_to_string(&cast).with_context(|| format!("reading {}", cast.display()))?;
    fs::write(&cast, readable(&recorded)?).with_context(|| format!("writing {}", cast.display()))?;
    run::capture(termtosvg().arg("render").arg(&cast).arg(&picture).args([
        "--template",
        "window_frame",
        "--loop-delay",
        "8000",
    ]))?;
    println!("  {}", picture.display());
    Ok(())
}

/// A recording (asciicast, version 2: a line about it, then `[seconds, "o", text]` for each output) from where the story
/// begins, with pauses.
fn readable(recorded: &str) -> Result<String> {
    let (about, outputs) = recorded.split_once('\n').context("the recording is empty")?;
    let mut lines = vec![about.to_owned(), json!([0.0, "o", "# cargo xtask demo\r\n\r\n"]).to_string()];
    let (mut begun, mut paused) = (None, 0.0);
    for output in outputs.lines() {
        let (time, _, text): (f64, String, String) =
            serde_json::from_str(output).context("understanding the recording")?;
        for (number, part) in text.split(HEADING).enumerate() {
            let heading = if number > 0 { HEADING } else { "" };
            if part.starts_with(BEGIN) {
                begun = Some(time);
            }
            let Some(begun) = begun else { continue };
            if !heading.is_empty() {
                paused += PAUSE;
            }
            lines.push(json!([time - begun + paused, "o", format!("{heading}{part}")]).to_string());
        }
    }
    ensure!(begun.is_some(), "the recording has no \"{BEGIN}\"");
    Ok(lines.join("\n") + "\n")
}

pub(crate) fn verb() -> Result<()> {
    run::require_root("the demo makes network namespaces and loads a program into the kernel, and")?;
    setup::ready(setup::Purpose::Demo)?;

    run::heading("Build icmp-ctl, with the XDP program inside it");
    let icmp_ctl = build::icmp_ctl(&[])?.program;

    run::heading(BEGIN);
    let pair = Pair::make()?;
    println!("  host    {HOST_V4}  {HOST_V6}   will run the XDP program");
    println!("  client  192.0.2.2  2001:db8::2   will send the pings");

    run::heading("Attach to the host's interface");
    // Detached before the namespaces go, in every way out of here.
    // A frame that XDP sends over veth arrives only where the other end has a program as well; this one passes
    // everything the client asked for to the client.
    let client = attach(&pair.client, &icmp_ctl, false)?;
    println!("  The client's end has one as well, so that the replies arrive.");
    let host = attach(&pair.host, &icmp_ctl, true)?;

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
    run::stream(&mut host.command(&["show", "counters"]))?;

    run::heading("Clean up");
    drop(host);
    drop(client);
    drop(pair);
    println!("  detached; the namespaces are gone. On a real machine:\n");
    println!("      icmp-ctl attach eth0\n      icmp-ctl show counters\n      icmp-ctl detach eth0\n");
    Ok(())
}

/// icmp-ctl, attached in a namespace.
fn attach<'a>(namespace: &'a Namespace, program: &'a Path, shown: bool) -> Result<IcmpCtl<'a>> {
    let icmp_ctl = IcmpCtl { namespace, program };
    let mut attach = icmp_ctl.command(&["attach", INTERFACE]);
    if shown {
        show("icmp-ctl", &["attach", INTERFACE]);
        run::stream(&mut attach)?;
    } else {
        run::capture(&mut attach)?;
    }
    Ok(icmp_ctl)
}

/// Who answered how many so far.
struct Answers {
    answered: u64,
    limited: u64,
    stack_v4: u64,
    stack_v6: u64,
}

impl Answers {
    fn read(host: &IcmpCtl<'_>) -> Result<Self> {
        let text = run::capture(&mut host.command(&["show", "counters", "-j"]))?;
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
    let _closed = io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_begins_with_the_story_and_waits_before_each_heading() {
        let output = |time: f64, text: &str| json!([time, "o", text]).to_string();
        let [begin, next] = [BEGIN, "Next"].map(|heading| format!("{HEADING}{heading}"));
        let recorded =
            ["{}".to_owned(), output(1.0, "Setup"), output(2.0, &begin), output(2.5, &format!("ok {next}"))];
        let first = output(0.0, "# cargo xtask demo\r\n\r\n");
        let expected = ["{}".to_owned(), first, output(3.0, &begin), output(3.5, "ok "), output(6.5, &next)];
        assert_eq!(readable(&recorded.join("\n")).unwrap(), expected.join("\n") + "\n");
        assert!(readable("{}\n[0.1, \"o\", \"no root\"]\n").is_err());
    }

    #[test]
    fn packets_are_summed_over_the_reasons_of_a_verdict() {
        let counters = json!({"schema": 1, "interfaces": [{"name": "veth0", "received": 12, "reasons": {
            "answered": {"verdict": "answer", "packets": 6, "bytes": 588},
            "limited-source": {"verdict": "limit", "packets": 3, "bytes": 294},
            "limited-prefix": {"verdict": "limit", "packets": 2, "bytes": 196},
            "not-icmp": {"verdict": "pass", "packets": 1, "bytes": 60},
        }}]});
        assert_eq!(packets(&counters, "answer"), 6);
        assert_eq!(packets(&counters, "limit"), 5);
    }
}
