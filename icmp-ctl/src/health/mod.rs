//! Checks of VIPs, for as long as `serve` runs.
//!
//! Owns when checks run, how many results in a row count, and the lease of a healthy VIP in the program: if `serve` dies, no lease is renewed,
//! and the program does what is configured for an unhealthy VIP (docs/vips.md). `probe.rs` has a single check.

mod probe;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result};
use icmp_common::abi::Gate;
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::config::file::Config;
use crate::config::vip::Check;
use crate::diagnostics::{Health, note_about, say_health, warn_about};
use crate::failure::sentence;
use crate::instance::gates::{Glance, glance, renew};
use crate::instance::pins::View;
use crate::kernel::clock::{Tick, ticks};
use crate::kernel::threads::on_thread;
use crate::policy::gates::{Gated, check_text, gated};

/// How often is looked whether other gates are in force.
const LOOK: Duration = Duration::from_secs(1);
/// Checks that may be missed until a lease ends.
const MISSED: u32 = 3;

/// The ports that checks connect to: those of a configuration, and of what is in force.
pub fn ports(config: &Config) -> Vec<u16> {
    let configured = config.responder.vip.iter().filter_map(|vip| vip.check.port());
    // What cannot be read is not checked either, which is said then.
    let in_force = in_force().unwrap_or_default();
    let in_force = in_force.iter().filter_map(|vip| check_text(&vip.gate).parse::<Check>().ok()?.port());
    configured.chain(in_force).collect()
}

fn in_force() -> Result<Vec<Gated>> {
    Ok(View::look(|view| view.read(gated))?.unwrap_or_default())
}

/// Results of checks, by [`Gate::id`].
type Results = mpsc::UnboundedSender<(u64, Result<(), String>)>;

/// A gate that is checked.
struct Checked {
    gate: Gate,
    /// The prefixes that have it.
    vips: Vec<IpNet>,
    is_healthy: bool,
    /// Results one after the other that speak against that.
    against: u32,
    /// The program has not been told of the last decision.
    is_untold: bool,
    /// When its lease ends, if it is healthy.
    ends: Instant,
    task: JoinHandle<()>,
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checked {
    /// Counts a result; true where it is decided otherwise from now on.
    fn count(&mut self, is_success: bool) -> bool {
        if is_success == self.is_healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if is_success { self.gate.rise } else { self.gate.fall };
        let decided = self.against >= enough;
        if decided {
            (self.is_healthy, self.against) = (is_success, 0);
        }
        decided
    }

    /// Whoever has not renewed its lease in time begins anew.
    fn lapse(&mut self, now: Instant) {
        if self.is_healthy && now >= self.ends {
            (self.is_healthy, self.against) = (false, 0);
            self.say(&Err("its lease ended before it was renewed".to_owned()));
        }
    }

    fn say(&self, result: &Result<(), String>) {
        let vips = self.vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let check = check_text(&self.gate);
        let why = result.as_ref().err().map(|error| format!(": {error}")).unwrap_or_default();
        let state = if self.is_healthy { "healthy" } else { "unhealthy" };
        let text = format!("{vips} is {state}, by {check}{why}");
        say_health(&Health { vips: &vips, check: &check, state, text: &text });
    }
}

/// Checks, for ever.
///
/// # Errors
/// The kernel does not tell how long its ticks are, or a thread has panicked.
pub async fn keep() -> Result<Infallible> {
    let tick = Tick::of_this_kernel()?;
    let (results, mut ended) = mpsc::unbounded_channel();
    let mut checked: BTreeMap<u64, Checked> = BTreeMap::new();
    let mut seen = None;
    let mut failure = None;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            _ = looks.tick() => look(&mut seen, &mut checked, &results).await,
            Some((id, result)) = ended.recv() => match checked.get_mut(&id) {
                Some(gate) => note(id, gate, &result, tick).await,
                None => Ok(()),
            },
        };
        let now = done.err().map(|error| sentence(&error));
        match &now {
            Some(now) if failure.as_ref() != Some(now) => {
                warn_about("failure", None, &format!("checking VIPs: {now}; tried again until it works"));
            }
            None if failure.is_some() => note_about("recovery", None, "VIPs are checked again"),
            _ => {}
        }
        failure = now;
    }
}

/// How long a gate stays healthy without another word.
fn lease(gate: &Gate) -> Duration {
    Duration::from_millis(u64::from(gate.interval) + u64::from(gate.timeout)) * MISSED
}

/// Takes up the checks that are in force now, and gives up the others.
async fn look(
    seen: &mut Option<Glance>,
    checked: &mut BTreeMap<u64, Checked>,
    results: &Results,
) -> Result<()> {
    let before = seen.take();
    let looked = on_thread(move || {
        let now = glance(before.as_ref())?;
        let vips = if now == before {
            None
        } else {
            Some(now.as_ref().map_or_else(|| Ok(Vec::new()), |_| in_force())?)
        };
        Ok::<_, anyhow::Error>((now, vips))
    });
    let (now, vips) = looked.await.context("looking which VIPs have a check")??;
    *seen = now;
    let Some(vips) = vips else { return Ok(()) };
    checked.retain(|id, _| vips.iter().any(|vip| vip.gate.id() == *id));
    for gate in checked.values_mut() {
        gate.vips.clear();
    }
    for Gated { net, gate, is_healthy } in vips {
        let id = gate.id();
        let of_gate = checked.entry(id).or_insert_with(|| Checked {
            gate,
            vips: Vec::new(),
            is_healthy,
            against: 0,
            is_untold: false,
            ends: Instant::now() + lease(&gate),
            task: tokio::spawn(check(gate, id, results.clone())),
        });
        of_gate.vips.push(net);
    }
    Ok(())
}

/// Checks a gate again and again. One that has a thread, and is not at its end when its time is over, is waited for before the next one begins.
async fn check(gate: Gate, id: u64, results: Results) {
    let span = |milliseconds: u32| Duration::from_millis(milliseconds.into());
    let within = span(gate.timeout);
    // It was checked before it was put in force.
    let Ok(what) = check_text(&gate).parse::<Check>() else { return };
    loop {
        let began = Instant::now();
        let mut probe = probe::begin(&what, within);
        let (result, is_late) = match timeout(within, &mut probe).await {
            Ok(ended) => (ended, false),
            Err(_) => (Err(format!("it took longer than {} ms", gate.timeout)), true),
        };
        if results.send((id, result)).is_err() {
            return;
        }
        if is_late && what.blocks() {
            let _whatever_it_was = probe.await;
        }
        sleep_until(began + span(gate.interval)).await;
    }
}

/// Counts a result, and renews the lease of what is healthy.
async fn note(id: u64, checked: &mut Checked, result: &Result<(), String>, tick: Tick) -> Result<()> {
    checked.lapse(Instant::now());
    if checked.count(result.is_ok()) {
        checked.say(result);
        checked.is_untold = true;
    }
    if !checked.is_healthy && !checked.is_untold {
        return Ok(());
    }
    // From now on, however long the lock is waited for.
    let (ends, lease) = (Instant::now() + lease(&checked.gate), lease(&checked.gate));
    let until =
        if checked.is_healthy { ticks()? + (lease.as_secs_f64() * tick.per_second) as u64 } else { 0 };
    let renewed = on_thread(move || renew(&[(id, until)]));
    renewed.await.context("renewing the lease of a VIP")??;
    (checked.is_untold, checked.ends) = (false, ends);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_results_one_after_the_other_decide_and_one_in_between_begins_anew() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _entered = runtime.enter();
        let gate = Gate { rise: 2, fall: 3, unhealthy: 1, ..Gate::NONE };
        let (ends, task) = (Instant::now(), tokio::spawn(async {}));
        let mut checked =
            Checked { gate, vips: Vec::new(), is_healthy: false, against: 0, is_untold: false, ends, task };
        let mut states = String::new();
        for result in "+-+ ++-- +---- - +-++".chars().filter(|result| *result != ' ') {
            let _changed = checked.count(result == '+');
            states.push(if checked.is_healthy { 'H' } else { 'u' });
        }
        assert_eq!(states, "uuuHHHHHHHuuuuuuH");
        checked.lapse(checked.ends);
        assert!(
            !checked.is_healthy && !checked.count(true),
            "after a lease has ended one success is not enough"
        );
    }
}
