//! The picture of the dashboard for Grafana in the documentation.
//!
//! Owns the scene: two hosts with `icmp-ctl serve`, a client that pings and floods them, and a Prometheus that scrapes both. Grafana's own
//! components draw it (`xtask/src/dashboard`), because no registry has a Grafana.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::netns::{self, IcmpCtl, Namespace};
use crate::{build, interrupt, run, setup};

const DASHBOARD: &str = "deploy/grafana/icmp-ctl.json";
const PICTURE: &str = "docs/dashboard.png";
/// The page, and what the programs beside it say and leave behind.
const FOLDER: &str = "target/dashboard";

/// The picture's width, and the height of a row of the dashboard, in pixels.
const WIDTH: u64 = 1200;
const ROW: u64 = 38;

/// Where Prometheus listens, beside the client.
const PROMETHEUS: &str = "127.0.0.1:9090";

/// The interface of each host.
const INTERFACE: &str = "lan0";

/// The hosts: each with its addresses, and those of the client on the same cable.
const HOSTS: [(&str, [&str; 2], [&str; 2]); 2] = [
    ("edge-1", ["192.0.2.1", "2001:db8:1::1"], ["192.0.2.2", "2001:db8:1::2"]),
    ("edge-2", ["198.51.100.1", "2001:db8:2::1"], ["198.51.100.2", "2001:db8:2::2"]),
];

/// A second address of the client, on the first host's cable.
const MONITOR: &str = "192.0.2.10";

/// The hosts' configuration; limits are small, so that a small flood shows what a large one does.
const CONFIGURATION: &str = r#"
[limits]
per-source = { rate = "500/s", burst = 500 }
replies = { rate = "1k/s", burst = 1000 }

[policy.checks]
quote = "drop"

[[policy.rule]]
name = "monitors"
from = ["192.0.2.10/32"]
type = "echo-request"
action = "answer"
limit = "1k/s"

[[policy.rule]]
name = "no-timestamps"
type = "timestamp-request"
action = "drop"
audit = true
"#;

/// What changes on the second host in the end, and awaits confirmation.
const CHANGE: (&str, &str) = ("per-source = { rate = \"500/s\"", "per-source = { rate = \"400/s\"");

/// From which second until which one the client sends what. Each command also ends by itself.
const STORY: [(u64, u64, &str, &[&str]); 5] = [
    (
        0,
        SECONDS,
        "pings, a monitor, and somebody who asks for the time",
        &[
            "ping -q -i 0.01 -c 16000 192.0.2.1",
            "ping -q -i 0.01 -c 16000 2001:db8:1::1",
            "ping -q -i 0.02 -c 8000 198.51.100.1",
            "ping -q -i 0.02 -c 8000 2001:db8:2::1",
            "ping -q -i 0.02 -c 8000 -I 192.0.2.10 192.0.2.1",
            "hping3 -q --icmp -C 13 -i u50000 -c 3000 198.51.100.1",
        ],
    ),
    (30, 65, "a flood from one source", &["hping3 -q --icmp -i u20 -c 1000000 192.0.2.1"]),
    (
        65,
        85,
        "path MTU messages about packets that nobody sent",
        &["hping3 -q --icmp -C 3 -K 4 -i u100000 -c 200 192.0.2.1"],
    ),
    (
        95,
        SECONDS,
        "a flood with forged sources",
        &["hping3 -q --icmp --rand-source -i u20 -c 2000000 198.51.100.1"],
    ),
    (125, SECONDS, "another configuration, which awaits confirmation", &[]),
];
const SECONDS: u64 = 150;

pub(crate) fn picture() -> Result<()> {
    setup::ready(setup::Purpose::Dashboard)?;
    run::heading("Build icmp-ctl");
    let icmp_ctl = build::icmp_ctl(&[])?.program;
    let folder = run::root()?.join(FOLDER);
    let _not_there = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let asked = live(&icmp_ctl, &folder)?;
    write(&folder.join("asked.json"), &asked)?;
    draw(&folder, &serde_json::from_str(&asked).context("understanding what ask.mjs prints")?)
}

/// The story, and what Prometheus knows of it in the end.
fn live(icmp_ctl: &Path, folder: &Path) -> Result<String> {
    run::heading(&format!("Two hosts, a client and Prometheus, for {SECONDS} s"));
    netns::remove_leftovers();
    let client = Namespace::make("client")?;
    let hosts = HOSTS.iter().map(|(name, ..)| Namespace::make(name)).collect::<Result<Vec<_>>>()?;
    for (host, (name, addresses, clients)) in hosts.iter().zip(HOSTS) {
        netns::cable([(host, INTERFACE, addresses), (&client, name, clients)])?;
    }
    client.ip(&["address", "add", &format!("{MONITOR}/24"), "dev", HOSTS[0].0])?;
    // Answers that XDP sends over veth arrive only where the other end has a program as well.
    let at_client = IcmpCtl { namespace: &client, program: icmp_ctl };
    run::capture(&mut at_client.command(&["attach", HOSTS[0].0, HOSTS[1].0]))?;

    let _statistics = Statistics::on()?;
    let mut beside = Vec::new();
    let mut targets = String::new();
    let at_hosts: Vec<_> = hosts.iter().map(|namespace| IcmpCtl { namespace, program: icmp_ctl }).collect();
    for (host, (name, [address, _], _)) in at_hosts.iter().zip(HOSTS) {
        let file = folder.join(format!("{name}.toml"));
        let metrics = format!("{address}:9816");
        write(
            &file,
            &format!("interfaces = [\"{INTERFACE}\"]\nmetrics.listen = \"{metrics}\"\n{CONFIGURATION}"),
        )?;
        let log = folder.join(format!("{name}.log"));
        beside.push(Beside::start(host.command(&["serve", "-f"]).arg(&file), &log)?);
        wait_for(&log, &metrics)?;
        targets += &format!("      - {{ targets: ['{metrics}'], labels: {{ instance: {name} }} }}\n");
    }
    beside.push(prometheus(&client, folder, &targets)?);

    let begin = Instant::now();
    let mut load = Vec::new();
    for (from, until, what, commands) in STORY {
        wait_until(begin, from)?;
        load.retain(|(until, _)| *until > from);
        println!("  {from:>3} s    {what}");
        for line in commands {
            let mut command = client.command("nice");
            let sends = Beside::start(command.args(line.split(' ')), &folder.join("load.log"))?;
            load.push((until, sends));
        }
    }
    let changed = folder.join("changed.toml");
    let file = folder.join(format!("{}.toml", HOSTS[1].0));
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    write(&changed, &text.replace(CHANGE.0, CHANGE.1))?;
    run::capture(at_hosts[1].command(&["apply", "--confirm", "10m", "-f"]).arg(&changed))?;
    wait_until(begin, SECONDS)?;
    let root = run::root()?;
    run::capture(
        client
            .command("node")
            .arg(root.join("xtask/src/dashboard/ask.mjs"))
            .arg(root.join(DASHBOARD))
            .args([format!("http://{PROMETHEUS}"), SECONDS.to_string()]),
    )
}

/// A Prometheus that scrapes the targets each second.
fn prometheus(client: &Namespace, folder: &Path, targets: &str) -> Result<Beside> {
    let [file, data, log] = ["yml", "data", "log"].map(|end| folder.join(format!("prometheus.{end}")));
    let jobs = format!("scrape_configs:\n  - job_name: icmp-ctl\n    static_configs:\n{targets}");
    write(&file, &format!("global: {{ scrape_interval: 1s }}\n{jobs}"))?;
    let mut command = client.command("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={PROMETHEUS}"));
    let prometheus = Beside::start(&mut command, &log)?;
    wait_for(&log, "Server is ready to receive web requests")?;
    Ok(prometheus)
}

/// The picture of what has been asked, which is in the folder.
fn draw(folder: &Path, asked: &Value) -> Result<()> {
    run::heading("Draw");
    let root = run::root()?;
    let sources = root.join("xtask/src/dashboard");
    let modules = setup::npm(&root).join("node_modules");
    run::capture(
        Command::new(modules.join(".bin/esbuild"))
            .arg(sources.join("draw.jsx"))
            .args(["--bundle", "--minify", "--jsx=automatic", "--loader:.ttf=empty"])
            .args(["--loader:.woff=dataurl", "--loader:.woff2=dataurl"])
            .arg("--define:process.env.NODE_ENV=\"production\"")
            .arg(format!("--define:ROW={ROW}"))
            .arg(format!("--alias:asked={}", folder.join("asked.json").display()))
            .arg(format!("--outdir={}", folder.display()))
            .env("NODE_PATH", &modules),
    )?;
    fs::copy(sources.join("page.html"), folder.join("page.html")).context("copying page.html")?;
    let panels = asked["dashboard"]["panels"].as_array().context("the dashboard has no panels")?;
    let places = panels.iter().map(|panel| &panel["gridPos"]);
    let rows = places.filter_map(|place| Some(place["y"].as_u64()? + place["h"].as_u64()?)).max();
    let whole = folder.join("page.png");
    run::capture(
        run::command("chromium")
            // Root has no sandbox; the page is ours.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            // What the page does after a moment is done at once.
            .arg("--virtual-time-budget=20000")
            .arg(format!("--user-data-dir={}", folder.join("chromium").display()))
            .arg(format!("--window-size={WIDTH},{}", rows.unwrap_or_default() * ROW))
            .arg(format!("--screenshot={}", whole.display()))
            .arg(format!("file://{}", folder.join("page.html").display())),
    )?;
    let picture = root.join(PICTURE);
    // A third of the bytes, and no difference to be seen.
    run::capture(
        run::command("pngquant")
            .args(["--quality", "80-95", "--strip", "--force", "--output"])
            .arg(&picture)
            .arg(&whole),
    )?;
    println!("  {}", picture.display());
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// Wait until so many seconds after the beginning.
fn wait_until(begin: Instant, second: u64) -> Result<()> {
    while begin.elapsed() < Duration::from_secs(second) {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Wait until a program has said so.
fn wait_for(log: &Path, text: &str) -> Result<()> {
    let begin = Instant::now();
    for second in 0..30 {
        let said = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
        if said.contains(text) {
            return Ok(());
        }
        wait_until(begin, second)?;
    }
    bail!("{} has no \"{text}\" after half a minute", log.display())
}

/// A program that runs beside us, until this value goes; what it says is in a file.
struct Beside(Child);

impl Beside {
    fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("writing {}", log.display()))?;
        command.stdout(file.try_clone().context("its output")?).stderr(file);
        Ok(Self(command.spawn().with_context(|| format!("starting {command:?}"))?))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The kernel's counting of runs of programs and of their time, as it was before when this value goes.
struct Statistics(String);

impl Statistics {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn on() -> Result<Self> {
        let before = fs::read_to_string(Self::SWITCH).with_context(|| format!("reading {}", Self::SWITCH))?;
        write(Path::new(Self::SWITCH), "1")?;
        Ok(Self(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _stays_on = fs::write(Self::SWITCH, &self.0);
    }
}
