//! The contents of the maps, the kernel and the drivers at the time of a scrape.
//!
//! Owns what is read, and the hash of the configuration in force. `families` owns the names.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aya::programs::ProgramInfo;
use icmp_common::abi::{Counter, RuleCounter, Settings};
use icmp_common::path::checks::{Check, check_counter};
use icmp_common::reason::Reason;

use crate::host::netlink::Link;
use crate::host::received::received_once;
use crate::instance::compiled::Vip;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::instance::program::Entry;
use crate::kernel::bpffs::unless_gone;
use crate::kernel::clock::{Tick, ticks};
use crate::kernel::ethtool::tx_failures;
use crate::observe::levels::{levels, used};
use crate::observe::metrics::peers::Peers;
use crate::observe::peers::is_tracking;
use crate::policy::difference::describe;
use crate::policy::gates::{check_text, gated_of};

/// What the maps held; nothing where nothing is loaded.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) build: String,
    /// Interface and mode.
    pub(super) attached: Vec<(String, &'static str)>,
    /// Interface, and the other program that ours is in front of.
    pub(super) chained: Vec<(String, String)>,
    pub(super) counters: Vec<(String, u8, Reason, Counter)>,
    pub(super) rules: Vec<(String, RuleCounter)>,
    pub(super) checks: Vec<(Check, u64)>,
    pub(super) config_hash: Option<u64>,
    pub(super) confirmation_pending: Option<bool>,
    /// `None` where it cannot be known, which is no reason to show nothing else.
    pub(super) under_pressure: Option<bool>,
    /// VIPs with a check, what that is, and whether they are healthy.
    pub(super) vips: Vec<(String, String, bool)>,
    /// Parts of the budgets that are left.
    pub(super) levels: Vec<(&'static str, f64)>,
    /// Parts of the limiter's tables that are in use.
    pub(super) used: Vec<(&'static str, f64)>,
    /// When the policy was put in force, in seconds since 1970.
    pub(super) applied_at: Option<f64>,
    /// Frames that the links have received.
    pub(super) received: Vec<(String, u64)>,
    /// How often each entry point ran and for how long, where the kernel counts it.
    pub(super) runs: Vec<(Entry, u64, Duration)>,
    /// Frames sent back that the driver of an interface dropped, where it counts them.
    pub(super) tx_failures: Vec<(String, u64)>,
    /// Who pings this host, where that is tracked.
    pub(super) peers: Option<Peers>,
}

impl Loaded {
    pub(super) fn read(instance: &View, links: &[Link]) -> Result<Self> {
        let rule_counters = instance.maps.rule_counters()?;
        let OfPolicy { hash, vips } = of_policy(instance)?;
        let mut loaded = Self {
            build: instance.build(),
            rules: instance.read(InstanceMaps::named_rule_counters)?,
            checks: Check::ALL
                .iter()
                .map(|check| (*check, rule_counters[check_counter(*check) as usize].hits))
                .collect(),
            config_hash: Some(hash),
            confirmation_pending: Some(instance.maps.pending()?.is_some()),
            under_pressure: instance.maps.pressure(),
            applied_at: instance
                .applied_at()
                .and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())),
            ..Self::default()
        };
        for vip in instance.read(|maps| gated_of(maps, &vips))? {
            loaded.vips.push((vip.net.to_string(), check_text(&vip.gate), vip.is_healthy));
        }
        let entries = instance.maps.interfaces()?;
        let received = received_once()?;
        for pin in instance.links()? {
            // One that is gone has left its counters, and perhaps its index to another.
            let Some(link) = links.iter().find(|link| pin.is_of(link)) else { continue };
            loaded.attached.push((link.name.clone(), link.xdp.map_or("none", |xdp| xdp.mode)));
            loaded.chained.extend(pin.behind.map(|behind| (link.name.clone(), behind.name)));
            loaded.received.extend(received.get(&link.index).map(|n| (link.name.clone(), *n)));
            // Most drivers of virtual devices have no counters.
            loaded.tx_failures.extend(tx_failures(&link.name).ok().flatten().map(|n| (link.name.clone(), n)));
            let Some(entry) = entries.iter().find(|entry| entry.ifindex == link.index) else { continue };
            for ((row, reason), counter) in instance.maps.counters_of(entry.slot)? {
                loaded.counters.push((link.name.clone(), row, Reason::ALL[usize::from(reason)], counter));
            }
        }
        if let Some(settings) = instance.maps.settings()? {
            if is_tracking(&settings) {
                loaded.peers = Some(Peers::read(instance)?);
            }
            let now = ticks()?;
            let levels = levels(&instance.maps, &settings, now)?;
            loaded.levels =
                levels.into_iter().filter_map(|(name, level)| Some((name.name(), level?))).collect();
            let used = used(&instance.maps, &settings, now)?;
            loaded.used = used.into_iter().filter_map(|(table, part)| Some((table, part?))).collect();
        }
        for entry in Entry::ALL {
            // One that no interface has had a use for is not loaded.
            let pin = instance.program_pin(entry);
            let Some(program) = unless_gone(&pin, || Ok(ProgramInfo::from_pin(&pin)?))? else { continue };
            if program.run_count() > 0 {
                loaded.runs.push((entry, program.run_count(), program.run_time()));
            }
        }
        Ok(loaded)
    }
}

/// What is in force: when it was put there, what the program goes by, and the settings. The rules and prefixes that belong to settings change
/// only together with one of these.
type InForce = (Option<SystemTime>, u32, Option<Settings>);

/// What there is to say of the policy in force that takes reading all its prefixes.
#[derive(Clone, Debug, Default)]
struct OfPolicy {
    /// Of the whole configuration.
    hash: u64,
    vips: Vec<Vip>,
}

/// Finds it out, anew where the policy has changed.
fn of_policy(instance: &View) -> Result<OfPolicy> {
    static LAST: Mutex<Option<(InForce, OfPolicy)>> = Mutex::new(None);
    let in_force = (instance.applied_at(), instance.maps.switch()?, instance.maps.settings()?);
    // Whoever has panicked with it has left what was there before.
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, of_policy)) = last.as_ref().filter(|(known, _)| *known == in_force) {
        return Ok(of_policy.clone());
    }
    let policy = instance.read(InstanceMaps::policy)?;
    let tick = Tick::of_this_kernel()?;
    let of_policy = policy.map_or_else(OfPolicy::default, |policy| OfPolicy {
        hash: hash(&describe(&policy, tick)),
        vips: policy.vips(),
    });
    *last = Some((in_force, of_policy.clone()));
    Ok(of_policy)
}

/// A number that is another one for another configuration, and the same on every host: FNV-1a (draft-eastlake-fnv), of which a sample, a
/// floating-point number, holds 48 bits.
fn hash(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_configuration_has_another_hash() {
        let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(hash(&lines(&["a", "b"])), hash(&lines(&["a", "b"])));
        assert_ne!(hash(&lines(&["a", "b"])), hash(&lines(&["ab"])));
        assert_ne!(hash(&lines(&["a", "b"])), hash(&lines(&["b", "a"])));
    }
}
