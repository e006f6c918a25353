//! Following the host: changes go into the tables, and interfaces that appear or come back are attached.
//!
//! Owns these steps, and that every change, and every failure once, is reported. `rest.rs` owns the time in between.

mod rest;
mod rewritten;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, watch};

use crate::config::events::Events;
use crate::config::file::{Config, Kept};
use crate::config::service::{Listen, OnStop};
use crate::diagnostics::{note_about, shell_word, warn_about};
use crate::failure::sentence;
use crate::follow::rest::Rest;
use crate::follow::rewritten::Rewritten;
use crate::host::checks::addresses::taken_in_whole;
use crate::host::netlink::{Link, Network, links_once};
use crate::host::patterns::{is_pattern, means, meant};
use crate::instance::addresses::{prefixes_left_of, refresh};
use crate::instance::links::{LinkPin, Whereabouts};
use crate::instance::pins::{Instance, View};
use crate::kernel::memory::give_back;
use crate::kernel::netlink::Changes;
use crate::kernel::threads::{are_too_many, on_thread};
use crate::policy::difference::Difference;
use crate::policy::start::{Configured, Wanted, start};
use crate::policy::transaction::Allowed;
use crate::service_manager;

/// When the host is looked at again if something did not work.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time until an interface that refuses is tried again although it has not changed. Each trial may load and compile.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// When the host is looked at again without a change: of groups that are joined and left, kernels before 6.15 do not tell.
const UNASKED: Duration = Duration::from_secs(10);

/// The follower, of whom one thread at a time has something done.
#[derive(Clone)]
pub struct Following {
    follower: Arc<Mutex<Follower>>,
    on_stop: watch::Receiver<OnStop>,
    events: watch::Receiver<Events>,
}

/// What is wanted, and what has been said about it.
struct Follower {
    path: Option<PathBuf>,
    /// What is put in force where nothing is.
    config: Kept,
    /// The configuration's file, where a change of it is a reason to read it again.
    rewritten: Option<Rewritten>,
    /// What is attached.
    interfaces: Vec<String>,
    /// Where the metrics are listened for, for as long as this runs.
    listens: Listen,
    /// Who the configuration says is told of events, for whoever tells them.
    events: watch::Sender<Events>,
    /// What the configuration says is done when this ends, for whoever cannot wait for the follower.
    on_stop: watch::Sender<OnStop>,
    /// It has ended, and does nothing any more.
    ended: bool,
    /// Names of the interfaces that have the program.
    attached: Vec<String>,
    /// Indexes of the interfaces that had it, or were displaced, when that was looked at last.
    had: BTreeSet<u32>,
    /// Interfaces that a command has taken it off, by their indexes.
    detached: BTreeMap<u32, String>,
    /// Why the configuration was not read again when that was asked for last.
    not_reloaded: Option<String>,
    /// Interfaces where ours was in front of another program and is displaced by one, and what there is to say about that.
    displaced: BTreeMap<String, String>,
    /// Interfaces and the programs on them where ours is beside another, and of which was said whether it stays when this ends.
    looked_at: BTreeSet<(u32, u32)>,
    /// Interfaces that are waited for.
    missing: BTreeSet<String>,
    /// Interfaces that are there and refuse, by what the configuration calls them.
    refusals: BTreeMap<String, Refusal>,
    /// What does not work, and on which interface.
    failures: BTreeSet<(String, Option<String>)>,
    /// For how many addresses there was no room when that was said last.
    left_out: usize,
    /// Which whole prefixes the kernel takes in, as was said.
    prefixes: Vec<IpNet>,
}

/// An interface that refused to be attached.
struct Refusal {
    /// What it was like.
    link: Link,
    /// Why.
    error: String,
    /// When it was tried.
    tried: Instant,
    /// How long it is left alone if it stays like that.
    pause: Duration,
}

impl Refusal {
    /// How long an interface that is tried now is left alone if it refuses; `None` where it is left alone now.
    fn pause(before: Option<&Self>, link: &Link, now: Instant) -> Option<Duration> {
        match before {
            Some(before) if before.link == *link => {
                (now >= before.tried + before.pause).then_some(LONGEST_PAUSE.min(2 * before.pause))
            }
            _ => Some(RETRY),
        }
    }
}

impl Following {
    /// By a configuration, and the file it was read from if one was named; whether it is read again when that has changed.
    pub fn new(path: Option<PathBuf>, config: &Config, reloads_on_change: bool) -> Self {
        let (sender, on_stop) = watch::channel(config.serve.on_stop());
        let (events_sender, events) = watch::channel(config.events.clone());
        let follower = Follower {
            path,
            config: config.keep(),
            rewritten: reloads_on_change.then(|| Rewritten::since(config)),
            interfaces: config.interfaces.clone(),
            listens: config.metrics.listen.clone(),
            events: events_sender,
            on_stop: sender,
            ended: false,
            attached: Vec::new(),
            had: BTreeSet::new(),
            detached: BTreeMap::new(),
            not_reloaded: None,
            displaced: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            missing: BTreeSet::new(),
            refusals: BTreeMap::new(),
            failures: BTreeSet::new(),
            left_out: 0,
            prefixes: Vec::new(),
        };
        Self { follower: Arc::new(Mutex::new(follower)), on_stop, events }
    }

    /// Attaches to the interfaces that are there, and puts the configuration in force where a file was named.
    ///
    /// # Errors
    /// The configuration, an interface or the kernel refuses.
    pub async fn start(&self, config: Config) -> Result<()> {
        self.on_thread(move |follower| {
            let _difference = follower.attach(&config, follower.path.is_some())?;
            // What a command takes off from now on is left so; where this cannot be read, from the first look on.
            let noted = View::look(|view| view.links()).and_then(|pins| Ok((pins, links_once()?)));
            if let Ok((pins, links)) = noted {
                follower.note_attached(&pins.unwrap_or_default(), &links);
            }
            Ok(())
        })
        .await?
    }

    /// Follows the host for ever, and has the service manager know of it: that `serve` is ready after the first look, which attaches
    /// what is there and can be attached.
    ///
    /// # Errors
    /// The kernel does not tell of changes any more.
    pub async fn follow(&self, mut changes: Changes, mut hangups: Signal) -> Result<()> {
        // A look is also the sign of life that the service manager waits for.
        let unasked = service_manager::watchdog().map_or(UNASKED, |time| UNASKED.min(time / 2));
        let (mut reload, mut is_ready, mut was_without_thread) = (false, false, false);
        let mut gave_back = Instant::now();
        let mut rest = Rest::since(Instant::now());
        loop {
            let began = Instant::now();
            let gives_back = began >= gave_back + unasked;
            let looked = self
                .on_thread(move |follower| {
                    let path = follower.path.as_deref();
                    let is_new = follower.rewritten.as_mut().is_some_and(|file| file.look(path));
                    let reloads = reload | is_new;
                    follower.look(reloads);
                    if gives_back {
                        give_back();
                    }
                    service_manager::alive(&follower.status());
                    let is_told = (!reloads && is_ready) || service_manager::ready();
                    (follower.failures.is_empty(), is_told)
                })
                .await;
            let is_looked_at = match &looked {
                Err(error) if are_too_many(error) => {
                    if !was_without_thread {
                        warn_about(
                            "failure",
                            None,
                            &format!("{}; tried again until it works", sentence(error)),
                        );
                    }
                    false
                }
                _ => true,
            };
            was_without_thread = !is_looked_at;
            let works = if is_looked_at {
                let (works, is_told) = looked?;
                is_ready = is_told;
                works && is_told
            } else {
                false
            };
            if gives_back {
                gave_back = began;
            }
            tokio::time::sleep(rest.after(began, Instant::now())).await;
            // What could not be done is still to be.
            let again = reload && !is_looked_at;
            reload = tokio::select! {
                _ = hangups.recv() => true,
                changed = changes.next() => {
                    if changed? {
                        note_about("resync", None, "more has changed than the kernel could keep; everything is read again");
                    }
                    again
                }
                () = tokio::time::sleep(if works { unasked } else { RETRY.min(unasked) }) => again,
            };
        }
    }

    /// Who the configuration says is told of events.
    pub fn events(&self) -> watch::Receiver<Events> {
        self.events.clone()
    }

    /// What the configuration says is done when this ends.
    pub fn on_stop(&self) -> OnStop {
        *self.on_stop.borrow()
    }

    /// Ends it, after what it does just now, and does something else in its place.
    ///
    /// # Errors
    /// It panicked.
    pub async fn end<T: Send + 'static>(&self, then: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.on_thread(|follower| {
            follower.ended = true;
            then()
        })
        .await
    }

    /// Runs what blocks on a thread of its own.
    async fn on_thread<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Follower) -> T + Send + 'static,
    ) -> Result<T> {
        let follower = Arc::clone(&self.follower);
        on_thread(move || run(&mut follower.blocking_lock())).await.context("following the host's addresses")
    }
}

impl Follower {
    fn look(&mut self, reload: bool) {
        // One that was already on its way.
        if self.ended {
            return;
        }
        if reload {
            service_manager::reloading();
            let reloaded = self.reload().context("reading the configuration again");
            self.not_reloaded = match reloaded {
                Ok(difference) => {
                    let same = if difference.is_some_and(|difference| difference.is_empty()) {
                        "; it changes nothing of the policy"
                    } else {
                        ""
                    };
                    note_about(
                        "reload",
                        None,
                        &format!("the configuration was read again, and is in force{same}"),
                    );
                    None
                }
                Err(error) => {
                    let why = format!("{}; what was in force stays", sentence(&error));
                    warn_about("reload", None, &why);
                    Some(why)
                }
            };
        }
        let attached = self.attach_each().context("attaching");
        let refreshed = self.refresh().context("following the host's addresses");
        let failures =
            [attached, refreshed].into_iter().filter_map(Result::err).map(|error| sentence(&error));
        let refusals =
            self.refusals.iter().map(|(name, refusal)| (refusal.error.clone(), Some(name.clone())));
        let failures: BTreeSet<_> = failures.map(|failure| (failure, None)).chain(refusals).collect();
        for (failure, interface) in failures.difference(&self.failures) {
            warn_about("failure", interface.as_deref(), &format!("{failure}; tried again until it works"));
        }
        if failures.is_empty() && !self.failures.is_empty() {
            note_about("recovery", None, "what did not work works again");
        }
        self.failures = failures;
    }

    /// How it is, as a line.
    fn status(&self) -> String {
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let mut status = format!("attached: {}", list(self.attached.iter().map(String::as_str).collect()));
        if !self.missing.is_empty() {
            status += &format!("; waited for: {}", list(self.missing.iter().map(String::as_str).collect()));
        }
        if !self.detached.is_empty() {
            status += &format!("; detached: {}", list(self.detached.values().map(String::as_str).collect()));
        }
        let failures = self.failures.iter().map(|(failure, _)| failure);
        let unread = self.rewritten.as_ref().and_then(|file| file.unread.as_ref());
        for failure in failures.chain(self.displaced.values()).chain(&self.not_reloaded).chain(unread) {
            status += &format!("; {failure}");
        }
        status
    }

    /// What it changes of a policy that was in force.
    fn reload(&mut self) -> Result<Option<Difference>> {
        let config = Config::load_again(self.path.as_deref())?;
        let difference = self.attach(&config, true)?;
        if config.metrics.listen != self.listens {
            let text = "`listen` of [metrics] has changed; that takes effect when `serve` is started again";
            warn_about("reload", None, text);
        }
        self.events.send_replace(config.events.clone());
        self.on_stop.send_replace(config.serve.on_stop());
        self.missing.retain(|name| config.interfaces.contains(name));
        self.detached.clear();
        self.config = config.keep();
        let before = std::mem::replace(&mut self.interfaces, config.interfaces);
        if let Err(error) = self.say_what_is_named_no_more(&before) {
            let text = format!("which interfaces are not named any more is not known: {}", sentence(&error));
            warn_about("reload", None, &text);
        }
        Ok(difference)
    }

    /// Says which interfaces the configuration of before names, and this one does not: they keep the program, as those that somebody has attached
    /// by a command do.
    fn say_what_is_named_no_more(&self, before: &[String]) -> Result<()> {
        let links = Network::read_once()?.links;
        let pins = View::look(|view| view.links())?.unwrap_or_default();
        let is_named = |interfaces: &[String], pin: &LinkPin| {
            interfaces.iter().any(|name| means(&links, name, &pin.name))
        };
        let is_here = |pin: &&LinkPin| pin.whereabouts == Whereabouts::Here;
        let are_named = |pin: &&LinkPin| is_named(before, pin) && !is_named(&self.interfaces, pin);
        for pin in pins.iter().filter(is_here).filter(are_named) {
            let text = format!(
                "{0}: is not named in the configuration any more, and stays attached; `icmp-ctl detach {1}` takes the program off",
                pin.name,
                shell_word(&pin.name)
            );
            note_about("unnamed", Some(&pin.name), &text);
        }
        Ok(())
    }

    /// Attaches to those interfaces of a configuration that are there, and puts it in force where nothing is or where it is to take the
    /// place of what is; what it changes of that.
    fn attach(&mut self, config: &Config, reconfigure: bool) -> Result<Option<Difference>> {
        let (wanted, is_loaded) = self.wanted(&config.interfaces, reconfigure)?;
        if wanted.is_empty() && !(reconfigure && is_loaded) {
            return Ok(None);
        }
        // Those that were displaced get it back at the next look.
        let names: Vec<_> = wanted.into_iter().filter(|one| !one.again).map(|one| one.name).collect();
        attach_to(|| Ok(config.clone()), &names, reconfigure, false)
    }

    /// Attaches to what has come or come back, to each interface by itself: none waits for another that refuses. One that refused is left
    /// alone until it has changed, or for a while.
    fn attach_each(&mut self) -> Result<()> {
        let (wanted, _) = self.wanted(&self.interfaces.clone(), false)?;
        self.refusals.retain(|name, _| wanted.iter().any(|one| one.name == *name));
        for Meant { name, link, again } in wanted {
            let now = Instant::now();
            let Some(pause) = Refusal::pause(self.refusals.get(&name), &link, now) else { continue };
            let attached = attach_to(|| self.config.parse(), std::slice::from_ref(&name), false, again);
            match attached.context("attaching") {
                Ok(_) => _ = self.refusals.remove(&name),
                Err(error) => {
                    let refusal = Refusal { link, error: sentence(&error), tried: now, pause };
                    self.refusals.insert(name, refusal);
                }
            }
        }
        Ok(())
    }

    /// The interfaces of a configuration that are there, by what it calls them; without those that are attached unless `all` are asked for,
    /// or that a command has taken it off, and those that ours has been taken off together with the program that it was in front of; and whether
    /// the program is loaded. Where another program is in their place nothing is done but to say so: it may not be opened with what `serve` may do.
    fn wanted(&mut self, interfaces: &[String], all: bool) -> Result<(Vec<Meant>, bool)> {
        let network = Network::read_once()?;
        let pins = View::look(|view| view.links())?;
        if network.links.iter().any(|link| self.is_off(link, pins.as_deref().unwrap_or_default())) {
            // So does one look that is attached in another way meanwhile. Under the lock none does.
            let pins = Instance::find()?.map(|instance| instance.links()).transpose()?;
            self.note_attached(&pins.unwrap_or_default(), &links_once()?);
        }
        let mut wanted: Vec<Meant> = Vec::new();
        let mut displaced = BTreeMap::new();
        for pin in pins.iter().flatten() {
            let Some(link) = network.links.iter().find(|link| pin.was_on(link)) else { continue };
            if link.xdp.is_none() {
                wanted.push(Meant { name: link.name.clone(), link: link.clone(), again: true });
            } else if let Some(finding) = pin.finding() {
                displaced.insert(link.name.clone(), finding.text());
            }
        }
        for (name, text) in displaced.iter().filter(|(name, _)| !self.displaced.contains_key(*name)) {
            warn_about("displaced", Some(name), text);
        }
        self.displaced = displaced;
        for name in interfaces {
            let links = meant(&network.links, name);
            if !links.is_empty() {
                self.missing.remove(name);
            } else if self.missing.insert(name.clone()) {
                let text = format!("{name}: is not there, and is attached when it comes");
                note_about("missing", Some(name), &text);
            }
            let is_attached = |link: &Link| pins.iter().flatten().any(|pin| pin.is_of(link));
            let is_displaced = |link: &Link| self.displaced.contains_key(&link.name);
            let is_left_off = |link: &Link| self.detached.contains_key(&link.index);
            let is_meant =
                |link: &&Link| !is_displaced(link) && (all || !is_attached(link) && !is_left_off(link));
            for link in links.into_iter().filter(is_meant) {
                let name = if is_pattern(name) { &link.name } else { name };
                // Several patterns may fit one.
                match wanted.iter_mut().find(|other| other.link.index == link.index) {
                    Some(other) => other.again &= !all,
                    None => wanted.push(Meant { name: name.clone(), link: link.clone(), again: false }),
                }
            }
        }
        Ok((wanted, pins.is_some()))
    }

    /// Whether an interface had the program and has it no more, by these pins.
    fn is_off(&self, link: &Link, pins: &[LinkPin]) -> bool {
        self.had.contains(&link.index) && !is_pinned(link, pins)
    }

    /// Notes which interfaces have the program, and says of those that are meant to have it where a command has taken it off: that was meant, too.
    fn note_attached(&mut self, pins: &[LinkPin], links: &[Link]) {
        let is_wanted = |link: &Link| self.interfaces.iter().any(|name| means(links, name, &link.name));
        let off: Vec<_> = links.iter().filter(|link| self.is_off(link, pins) && is_wanted(link)).collect();
        for Link { index, name, .. } in off {
            let text = format!(
                "{name}: was detached, and is left alone; `icmp-ctl attach {}` attaches it again, and so does `serve` when it reads its \
                 configuration again or is started again",
                shell_word(name)
            );
            note_about("detached", Some(name), &text);
            self.detached.insert(*index, name.clone());
        }
        self.detached
            .retain(|index, _| links.iter().any(|link| link.index == *index && !is_pinned(link, pins)));
        self.had = links.iter().filter(|link| is_pinned(link, pins)).map(|link| link.index).collect();
    }

    /// Says of each interface once where the program stays when this ends, although the configuration wants it taken off.
    fn say_what_stays(&mut self, instance: &Instance, pins: &[LinkPin]) {
        let mut looked_at = BTreeSet::new();
        for pin in pins.iter().filter(|_| *self.on_stop.borrow() == OnStop::Detach) {
            let Some(behind) = &pin.behind else { continue };
            let (name, it) = (&pin.name, (pin.ifindex, behind.program_id));
            looked_at.insert(it);
            if !self.looked_at.contains(&it)
                && let Err(error) = instance.may_put_back(pin.ifindex)
            {
                let text = format!(
                    "{name}: stays attached when `serve` is stopped, although `on-stop` of [serve] says `detach`: {}; `icmp-ctl detach {}` takes \
                     it off",
                    sentence(&error),
                    shell_word(name)
                );
                warn_about("stays", Some(name), &text);
            }
        }
        self.looked_at = looked_at;
    }

    /// Brings the tables in line with the host.
    fn refresh(&mut self) -> Result<()> {
        self.attached.clear();
        let instance = Instance::find()?;
        let mut pins = instance.as_ref().map(|instance| instance.links()).transpose()?.unwrap_or_default();
        self.note_attached(&pins, &links_once()?);
        let Some(mut instance) = instance else { return Ok(()) };
        pins.retain(|pin| pin.whereabouts == Whereabouts::Here);
        self.say_what_stays(&instance, &pins);
        self.attached.extend(pins.into_iter().map(|pin| pin.name));
        let network = Network::read_once()?;
        let refreshed = refresh(&mut instance, &network)?;
        for interface in &refreshed.interfaces {
            note_about(
                "changed",
                Some(interface),
                &format!(
                    "{interface}: its MAC address, its VLANs, or who else takes in its frames has changed"
                ),
            );
        }
        if refreshed.entered + refreshed.removed > 0 {
            note_about(
                "addresses",
                None,
                &format!("addresses: {} entered, {} removed", refreshed.entered, refreshed.removed),
            );
        }
        // Said again when it is twice as many, and not at every change of a host that has too many.
        match refreshed.left_out() {
            None => self.left_out = 0,
            Some((number, text)) if number >= 2 * self.left_out => {
                warn_about("addresses", None, &text);
                self.left_out = number;
            }
            Some(_) => {}
        }
        let left = prefixes_left_of(&instance, &network)?;
        let new: Vec<_> = left.iter().filter(|net| !self.prefixes.contains(net)).copied().collect();
        if let Some(finding) = taken_in_whole(&new) {
            warn_about("addresses", None, &finding.text());
        }
        self.prefixes = left;
        Ok(())
    }
}

/// Whether an interface has the program, or is displaced, by these pins.
fn is_pinned(link: &Link, pins: &[LinkPin]) -> bool {
    pins.iter().any(|pin| pin.is_of(link) || pin.was_on(link))
}

/// An interface that is to have the program.
struct Meant {
    /// As the configuration calls it, or its own name.
    name: String,
    link: Link,
    /// It had the program, and is to have it again.
    again: bool,
}

/// Attaches to all of these interfaces or to none; what the configuration changes of a policy that was in force.
fn attach_to(
    config: impl FnOnce() -> Result<Config>,
    interfaces: &[String],
    reconfigure: bool,
    again: bool,
) -> Result<Option<Difference>> {
    let configured = || Configured::new(config()?, Allowed::default(), interfaces.first());
    let wanted = Wanted { reconfigure, again, ..Wanted::on(interfaces) };
    let started = start(wanted, configured)?;
    for attached in started.iter().flat_map(|started| &started.attached).filter(|attached| !attached.already)
    {
        note_about("attached", Some(&attached.name), &attached.text());
    }
    Ok(started.and_then(|started| started.difference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_refuses_is_tried_again_when_it_has_changed_and_ever_more_seldom_when_not() {
        let link = Link { mtu: 1500, ..Link::default() };
        let refused =
            |link: &Link, tried, pause| Refusal { link: link.clone(), error: String::new(), tried, pause };
        let mut now = Instant::now();
        let mut pause = Refusal::pause(None, &link, now).expect("it was not tried so far");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let before = refused(&link, now, pause);
            let changed = Link { mtu: 9000, ..link.clone() };
            assert_eq!(Refusal::pause(Some(&before), &changed, now), Some(RETRY));
            assert_eq!(Refusal::pause(Some(&before), &link, now + pause - Duration::from_millis(1)), None);
            pauses.push(pause.as_secs());
            now += pause;
            pause = Refusal::pause(Some(&before), &link, now).expect("its time has come");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
