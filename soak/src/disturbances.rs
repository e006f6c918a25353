//! Changes of the host while it is under load.
//!
//! Owns the list of disturbances, and the state of the host that they change. Each ends when its effect has been seen: a command has ended, an
//! address is answered or is not, `serve` has said that it is ready.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::generate::Random;
use icmp_tests::netns::{self, HOST_IF, Namespace, PEER_IF, Pair};
use icmp_tests::process::{Finished, Watch};
use icmp_tests::xdp::{Counting, Kind, PassLink};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::{GUESTS, Load, MONITORS, STRANGERS};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Disturbance {
    /// Another configuration is put in force.
    Apply,
    /// `serve` reads another configuration.
    Reload,
    /// A limit is changed by verb.
    Limit,
    /// A rule comes or goes by verb.
    Rule,
    /// Addresses come or go.
    Address,
    /// The link goes down and up.
    Link,
    /// `serve` is killed and started again.
    Kill,
    /// The program is loaded anew and takes the place of the one that runs, whose limits and counters stay.
    Upgrade,
    /// Another's program comes on an interface, ours goes in front of it, and one of the two or both go.
    Chain,
}

impl Disturbance {
    pub(crate) const ALL: [Self; 9] = [
        Self::Apply,
        Self::Reload,
        Self::Limit,
        Self::Rule,
        Self::Address,
        Self::Link,
        Self::Kill,
        Self::Upgrade,
        Self::Chain,
    ];
}

/// Rates of the limit per source that are in force in turn, per second.
const RATES: [u32; 3] = [300, 600, 1200];
/// The burst beside each of them, in requests.
pub(crate) const BURST: u32 = 500;
const LIMIT: Duration = Duration::from_secs(20);
/// The interface that others have programs on, which no configuration names, and its address; and the other end.
const CHAINED_IF: &str = "chained0";
const CHAINED: &str = "100.64.9.2";
const CHAINED_PEER_IF: &str = "chained1";
const CHAINED_PEER: &str = "100.64.9.1";

/// The host under test, with `serve` running.
pub(crate) struct Host<'a> {
    pub(crate) namespace: &'a Namespace,
    peer: &'a Namespace,
    folder: Folder,
    pub(crate) serve: Watch,
    /// How often `serve` was started.
    pub(crate) lives: u32,
    has_rule: bool,
    has_guests: bool,
    allowance: Allowance,
    _pass: PassLink,
}

impl<'a> Host<'a> {
    pub(crate) fn start(pair: &'a Pair) -> Result<Self> {
        let folder = Folder::new();
        let (namespace, peer) = (&pair.host, &pair.peer);
        // Or the addresses are gone when the link has been down once.
        namespace.sysctl(&format!("net/ipv6/conf/{HOST_IF}/keep_addr_on_down"), "1");
        // Or requests to an address that is gone never leave.
        for guest in GUESTS {
            peer.ip(&format!("neighbour add {guest} lladdr 02:00:00:00:00:02 dev {PEER_IF}"));
        }
        let (mac, peer_mac) = ([2, 0, 0, 0, 9, 2], [2, 0, 0, 0, 9, 1]);
        netns::join(namespace, CHAINED_IF, mac, peer, CHAINED_PEER_IF, peer_mac, 1500);
        namespace.ip(&format!("address add {CHAINED}/24 dev {CHAINED_IF}"));
        peer.ip(&format!("address add {CHAINED_PEER}/24 dev {CHAINED_PEER_IF}"));
        let _pass = peer.enter(|| PassLink::attach(CHAINED_PEER_IF));
        let file = folder.file(FILE, &configuration(RATES[0]));
        let serve = serve(namespace, &file);
        let allowance = Allowance::new(RATES[0]);
        let (has_rule, has_guests) = (false, false);
        Ok(Self { namespace, peer, folder, serve, lives: 1, has_rule, has_guests, allowance, _pass })
    }

    /// The most that one source can have been answered.
    pub(crate) fn allowed(&self) -> u64 {
        self.allowance.until(Instant::now())
    }

    pub(crate) fn disturb(&mut self, what: Disturbance, load: &Load, random: &mut Random) -> Result<()> {
        match what {
            Disturbance::Apply => {
                let (rate, file) = self.configured(random);
                self.change_rate(rate, |host| host.ctl(&format!("apply -f {file}")))?;
                self.has_rule = false;
            }
            Disturbance::Reload => {
                let (rate, _) = self.configured(random);
                self.change_rate(rate, |host| {
                    let process = Pid::from_raw(host.serve.id().cast_signed());
                    kill(process, Signal::SIGHUP).context("SIGHUP to serve")?;
                    host.serve.wait_for("was read again, and is in force", LIMIT);
                    Ok(())
                })?;
                self.has_rule = false;
            }
            Disturbance::Limit => {
                let rate = random.pick(&RATES);
                self.change_rate(rate, |host| {
                    host.ctl(&format!("limit set per-source {rate}/s --burst {BURST}"))
                })?;
            }
            Disturbance::Rule => {
                let add = format!("rule add strangers --from {STRANGERS} --type echo-request --action drop");
                self.ctl(if self.has_rule { "rule del strangers" } else { &add })?;
                self.has_rule = !self.has_rule;
            }
            Disturbance::Address => self.move_guests()?,
            Disturbance::Link => load.without_link(|| {
                self.namespace.ip(&format!("link set {HOST_IF} down"));
                self.namespace.ip(&format!("link set {HOST_IF} up"));
                Ok(())
            })?,
            Disturbance::Kill => {
                let _killed = self.serve.end_by(Signal::SIGKILL);
                let (rate, file) = self.configured(random);
                self.change_rate(rate, |host| {
                    host.serve = serve(host.namespace, &file);
                    Ok(())
                })?;
                self.has_rule = false;
                self.lives += 1;
            }
            Disturbance::Upgrade => self.ctl("upgrade")?,
            Disturbance::Chain => self.chain(random.pick(&Gone::ALL))?,
        }
        Ok(())
    }

    /// Ends `serve`, and takes the program off.
    pub(crate) fn end(mut self) -> Result<()> {
        ensure!(
            self.serve.end_by(Signal::SIGTERM) == Some(0),
            "serve does not end well: {:?}",
            self.serve.heard()
        );
        self.ctl("detach --all")
    }

    fn ctl(&mut self, arguments: &str) -> Result<()> {
        succeeded(&ctl::run(self.namespace, arguments))
    }

    /// Another rate, in the file.
    fn configured(&self, random: &mut Random) -> (u32, String) {
        let rate = random.pick(&RATES);
        (rate, self.folder.file(FILE, &configuration(rate)))
    }

    fn change_rate(&mut self, rate: u32, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        // Between the two moments it is one or the other.
        self.allowance.change(self.allowance.rate.max(rate));
        change(self)?;
        self.allowance.change(rate);
        Ok(())
    }

    fn chain(&mut self, gone: Gone) -> Result<()> {
        let (first, second) = (Counting::new(Kind::USUAL), Counting::new(Kind::USUAL));
        let host = self.namespace;
        host.ip(&format!("link set dev {CHAINED_IF} xdpdrv pinned {}", first.pin()));
        self.ctl(&format!("attach {CHAINED_IF} --chain"))?;
        self.shares(&first)?;
        match gone {
            Gone::Detached => {}
            Gone::Upgraded => {
                self.ctl("upgrade")?;
                self.shares(&first)?;
            }
            Gone::Replaced => {
                host.ip(&format!("-force link set dev {CHAINED_IF} xdpdrv pinned {}", second.pin()));
                self.ctl(&format!("attach {CHAINED_IF}"))?;
                self.shares(&second)?;
            }
            Gone::Displaced => {
                host.ip(&format!("link set dev {CHAINED_IF} xdpdrv off"));
                // Not what `serve` says, which has said the same of the attachment before.
                let deadline = Instant::now() + LIMIT;
                while !host.ip(&format!("link show {CHAINED_IF}")).contains("prog/xdp") {
                    ensure!(Instant::now() < deadline, "{CHAINED_IF} is not attached again");
                }
            }
        }
        self.ctl(&format!("detach {CHAINED_IF}"))?;
        host.ip(&format!("link set dev {CHAINED_IF} xdpdrv off"));
        Ok(())
    }

    /// Of a ping ours answers the request, and the other program gets what it does not answer.
    fn shares(&self, other: &Counting) -> Result<()> {
        let had = other.count();
        self.peer.ip(&format!("neighbour flush dev {CHAINED_PEER_IF}"));
        let pinged = self.peer.run("ping", &["-c1", "-W2", CHAINED]);
        let answered = ctl::counters(self.namespace, CHAINED_IF).answered();
        ensure!(pinged.code == Some(0) && answered > 0, "{answered} answered, in front of another: {pinged}");
        // The question for the MAC address.
        ensure!(other.count() > had, "what ours passes does not reach the program behind it");
        Ok(())
    }

    /// Addresses that come are answered, and those that have gone are not.
    fn move_guests(&mut self) -> Result<()> {
        self.has_guests = !self.has_guests;
        for (guest, length) in GUESTS.iter().zip([24, 64]) {
            let verb = if self.has_guests { "add" } else { "del" };
            let without_check = if self.has_guests { "nodad" } else { "" };
            self.namespace.ip(&format!("address {verb} {guest}/{length} dev {HOST_IF} {without_check}"));
        }
        let deadline = Instant::now() + LIMIT;
        for guest in GUESTS {
            let entry = format!("\"{guest}\"");
            loop {
                let shown = ctl::run(self.namespace, "show addresses -j");
                succeeded(&shown)?;
                if shown.stdout.contains(&entry) == self.has_guests {
                    break;
                }
                ensure!(Instant::now() < deadline, "{guest} is not followed: {shown}");
            }
            let pinged = self.peer.run("ping", &["-c1", "-W1", guest]);
            ensure!((pinged.code == Some(0)) == self.has_guests, "has it: {}: {pinged}", self.has_guests);
        }
        Ok(())
    }
}

/// What becomes of ours in front of another's program.
#[derive(Clone, Copy, Debug)]
enum Gone {
    /// It is taken off.
    Detached,
    /// It is exchanged by an upgrade, and taken off.
    Upgraded,
    /// Another program takes its place, it goes in front of that, and is taken off.
    Replaced,
    /// Somebody takes off both, `serve` attaches it alone, and it is taken off.
    Displaced,
}

impl Gone {
    const ALL: [Self; 4] = [Self::Detached, Self::Upgraded, Self::Replaced, Self::Displaced];
}

const FILE: &str = "config.toml";

fn configuration(rate: u32) -> String {
    let monitors = MONITORS.map(|(from, _)| format!("\"{from}\"")).join(", ");
    format!(
        "interfaces = [\"{HOST_IF}\"]

[limits]
per-source = {{ rate = \"{rate}/s\", burst = {BURST} }}

[[policy.rule]]
name = \"monitors\"
from = [{monitors}]
type = [\"echo-request\"]
action = \"answer\"
limit = \"unlimited\"
"
    )
}

fn serve(namespace: &Namespace, file: &str) -> Watch {
    let mut serve = Watch::start(&mut ctl::command(namespace, &format!("serve -f {file}")));
    serve.wait_for("serving metrics", LIMIT);
    serve
}

fn succeeded(done: &Finished) -> Result<()> {
    match done.code {
        Some(0) => Ok(()),
        _ => bail!("{done}"),
    }
}

/// How many requests of one source a limit that changes has admitted at most.
struct Allowance {
    rate: u32,
    since: Instant,
    before: u64,
}

impl Allowance {
    fn new(rate: u32) -> Self {
        Self { rate, since: Instant::now(), before: u64::from(BURST) }
    }

    /// A limit that is put in force anew grants at most one burst.
    fn change(&mut self, rate: u32) {
        let now = Instant::now();
        *self = Self { rate, since: now, before: self.until(now) + u64::from(BURST) };
    }

    fn until(&self, now: Instant) -> u64 {
        let milliseconds = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.before + (u64::from(self.rate) * milliseconds).div_ceil(1000)
    }
}
