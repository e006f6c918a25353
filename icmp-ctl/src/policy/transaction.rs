//! The one way to change the policy in force: read, change, validate, guards, derive, difference, warnings, write, publish.
//!
//! Owns that order, and which steps are done under the instance's lock: only the write and the publishing. A file, a verb, the daemon and the
//! roll-back differ only in their change, a [`Proposal`]. `start.rs` owns attaching, after which a change may have to be undone.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use icmp_common::abi::Settings;

use crate::config::file::Config;
use crate::config::limits::Memory;
use crate::config::peers::Peers;
use crate::diagnostics::{note, warn};
use crate::failure::sentence;
use crate::finding::{Finding, State};
use crate::host::conflicts;
use crate::host::defaults::HostDefaults;
use crate::host::netlink::Network;
use crate::instance::addresses::refresh;
use crate::instance::changed::Became;
use crate::instance::compiled::Compiled;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{Instance, Pins, View, nothing_loaded};
use crate::kernel::clock::{Tick, monotonic_ns};
use crate::policy::difference::Difference;
use crate::policy::limits::cpus;
use crate::policy::of_file::{compiled, first_attached};
use crate::policy::rules::Rule;
use crate::policy::saved::{Save, Saving, say_if_unsaved};
use crate::policy::{contradictions, gates, guards, peers};

/// What somebody has said by name to be meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed<'a> {
    /// Guards that may be broken.
    pub breaks: &'a [String],
    /// Rules whose lists may have become empty.
    pub empty: &'a [String],
}

/// What is to be in force, validated as far as that goes without knowing what is in force now.
#[derive(Clone)]
pub struct Proposal {
    policy: Compiled,
    rules: Vec<Rule>,
    warnings: Vec<String>,
    /// What only a file says.
    file: Option<OfFile>,
}

#[derive(Clone)]
struct OfFile {
    memory: Memory,
    allow_empty: Vec<String>,
    /// The file leaves the hop limit to the host, and does not say which interface's is meant.
    hop_limit_of_attached: bool,
}

/// What a change may touch of what is in force.
pub struct Draft {
    /// Limits, responder, types and checks. What follows from them is computed later.
    pub settings: Settings,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
}

impl Proposal {
    /// A whole configuration; needs no privilege and touches nothing. What it leaves to the host is that of the interface.
    ///
    /// # Errors
    /// A value that cannot be, or a guard that refuses ([`crate::failure::Exit::Guarded`]).
    pub fn of_file(config: &Config, allowed: Allowed<'_>, interface: Option<&String>) -> Result<Self> {
        let tick = Tick::of_this_kernel()?;
        let policy = compiled(config, interface)?;
        let rules = policy.rules();
        let breaks = [allowed.breaks, &config.policy.allow_break].concat();
        guards::check(&policy.settings, &rules, tick, &breaks)?;
        let mut warnings = standing_warnings(&policy, &rules);
        warnings.extend(peers::warnings(&config.peers, &policy.settings));
        let file = Some(OfFile {
            memory: config.limits.memory,
            allow_empty: allowed.empty.to_vec(),
            hop_limit_of_attached: config.responder.hop_limit.is_none() && interface.is_none(),
        });
        Ok(Self { policy, rules, warnings, file })
    }

    /// A change of what is in force. What was overridden by name before stays so.
    ///
    /// # Errors
    /// `change` refuses, a value cannot be, or a guard refuses what the change would break.
    fn of_change(
        in_force: &Compiled,
        allow_break: &[String],
        change: impl Fn(&mut Draft) -> Result<()>,
    ) -> Result<Self> {
        let tick = Tick::of_this_kernel()?;
        let before = in_force.rules();
        let mut draft = Draft { settings: in_force.settings, rules: before.clone() };
        change(&mut draft)?;
        let Draft { settings, rules } = draft;
        let policy = in_force.with(settings, &rules, tick, cpus()?)?;
        let broken = guards::broken(&in_force.settings, &before, tick).map(|(name, _)| name.to_owned());
        let breaks: Vec<_> = allow_break.iter().cloned().chain(broken).collect();
        guards::check(&policy.settings, &rules, tick, &breaks)?;
        let warnings = contradictions::warnings(&rules, |rule| !before.contains(rule));
        Ok(Self { policy, rules, warnings, file: None })
    }

    /// What would be in force.
    pub fn settings(&self) -> &Settings {
        &self.policy.settings
    }

    /// What is probably not meant.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What there is to say about a whole policy, whenever it is looked at.
fn standing_warnings(policy: &Compiled, rules: &[Rule]) -> Vec<String> {
    let mut warnings = contradictions::warnings(rules, |_| true);
    let mut findings = conflicts::findings(&policy.settings);
    if !policy.gated().is_empty() {
        match Network::read_once() {
            Ok(network) => findings.extend(gates::findings(&policy.vips(), &network)),
            Err(error) => {
                warnings.push(format!("whether checks of VIPs decide is not known: {}", sentence(&error)));
            }
        }
    }
    warnings.extend(findings.iter().filter(|finding| finding.state != State::Fine).map(Finding::text));
    warnings
}

/// Says what there is to say about the policy in force.
///
/// # Errors
/// It cannot be read.
pub fn warn_about_policy_in_force(pins: &Pins) -> Result<()> {
    if let Some(policy) = pins.maps.policy()? {
        warn_all(&standing_warnings(&policy, &policy.rules()));
    }
    Ok(())
}

/// Says what is probably not meant.
pub fn warn_all(warnings: &[String]) {
    for warning in warnings {
        warn(warning);
    }
}

/// For how long a policy is put in force.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// Until another one is.
    Always,
    /// Until another one is or this time is over, unless it is confirmed.
    IfConfirmedWithin(Duration),
    /// For as long as what it changes.
    AsBefore,
}

/// A change that nothing speaks against.
pub struct Transaction {
    policy: Compiled,
    /// It is in force already.
    is_as_before: bool,
    /// What it changes.
    pub difference: Difference,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

impl Transaction {
    /// Holds a proposal against what is in force; changes nothing.
    ///
    /// # Errors
    /// The instance cannot be read, or a list has become empty and no `--allow-empty` is given.
    pub fn plan(pins: &Pins, in_force: Option<&Compiled>, proposal: Proposal) -> Result<Self> {
        let Proposal { mut policy, rules, mut warnings, file } = proposal;
        let tick = Tick::of_this_kernel()?;
        let mut difference = Difference::default();
        if let Some(OfFile { memory, allow_empty, hop_limit_of_attached }) = file {
            if hop_limit_of_attached {
                let host = HostDefaults::read(first_attached(pins)?.as_ref())?;
                policy.settings.hop_limit = u32::from(host.hop_limit);
            }
            let before = in_force.map(Compiled::rules).unwrap_or_default();
            guards::check_lists(&before, &rules, &allow_empty)?;
            let (loaded, wanted) = (pins.maps.limiter_bytes(), memory.bytes_used());
            if loaded != wanted {
                difference.add_memory(loaded, wanted);
                warnings.push(format!(
                    "limits.memory: the limiter has {} KiB, and {} KiB only when the program is loaded again: `icmp-ctl detach --all`, then \
                     `icmp-ctl attach` with this file; counters and buckets start anew with that",
                    loaded >> 10,
                    wanted >> 10
                ));
            }
            let (loaded, wanted) = (pins.maps.peer_buckets(), Peers::buckets(policy.settings.peers));
            if loaded < wanted {
                // What is in force may want as many already.
                let before = in_force.map_or(0, |policy| policy.settings.peers);
                if Peers::buckets(before) < wanted {
                    difference.add_peers(loaded, wanted);
                }
                warnings.push(format!(
                    "peers.track: the table has room for {} peers, and for more only when the program is loaded again: `icmp-ctl detach --all`, \
                     then `icmp-ctl attach` with this file; counters and buckets start anew with that",
                    2 * loaded
                ));
            }
        }
        difference.add(in_force, &policy, tick);
        let is_as_before = in_force.is_some_and(|in_force| in_force.says_the_same_as(&policy));
        Ok(Self { policy, is_as_before, difference, warnings })
    }

    /// The settings that it puts in force.
    pub fn settings(&self) -> &Settings {
        &self.policy.settings
    }

    /// Puts the change in force at one instant; what there is to say where another one awaited confirmation.
    ///
    /// # Errors
    /// As [`crate::instance::maps::InstanceMaps::publish`].
    pub fn commit(&self, instance: &mut Instance, keep: Keep) -> Result<Option<&'static str>> {
        let pending = instance.maps.rollback_at()?;
        let rollback_at = match keep {
            Keep::Always => None,
            Keep::IfConfirmedWithin(time) => {
                let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                Some(monotonic_ns()?.saturating_add(time))
            }
            Keep::AsBefore => pending,
        };
        instance.maps.publish(&self.policy, rollback_at)?;
        instance.note_applied();
        // What is read again and says the same is no event, but that it stays, or may not stay, is.
        if !self.is_as_before || pending.is_some() != rollback_at.is_some() {
            instance.note_change(Became::Applied);
        }
        Ok(match keep {
            _ if pending.is_none() => None,
            Keep::Always => Some(
                "this stays in force: what awaited confirmation is replaced, and nothing comes back by itself any more",
            ),
            Keep::IfConfirmedWithin(_) => Some("what awaited confirmation is replaced"),
            Keep::AsBefore => Some("this is part of what awaits confirmation, and is kept or goes with it"),
        })
    }
}

/// A change that was planned while others could make theirs.
pub struct Planned<P> {
    plan: P,
    /// What was in force then.
    in_force: Option<Compiled>,
    transaction: Transaction,
}

impl<P: Fn(&Pins, Option<&Compiled>) -> Result<Transaction>> Planned<P> {
    /// Plans a change of what is in force now.
    ///
    /// # Errors
    /// What is in force cannot be read, or `plan` refuses.
    pub fn new(view: &View, plan: P) -> Result<Self> {
        let in_force = view.read(InstanceMaps::policy)?;
        let transaction = plan(view, in_force.as_ref())?;
        Ok(Self { plan, in_force, transaction })
    }

    /// The change, to be committed under the same lock. Where something else has come in force since it was planned, it is planned again,
    /// and this time nobody can come in between.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn under_lock(self, instance: &Instance) -> Result<Transaction> {
        if instance.maps.is_in_force(self.in_force.as_ref())? {
            return Ok(self.transaction);
        }
        (self.plan)(instance, instance.maps.policy()?.as_ref())
    }
}

/// Puts in force what `plan` makes of what is in force, and says its warnings.
///
/// # Errors
/// Nothing is loaded ([`crate::failure::Exit::NothingLoaded`]), `plan` refuses, or it cannot be written.
pub fn put_in_force(
    keep: Keep,
    save: Option<Save<'_>>,
    plan: impl Fn(&Pins, Option<&Compiled>) -> Result<Transaction>,
) -> Result<Transaction> {
    let planned = View::look(|view| Planned::new(view, &plan))?.ok_or_else(nothing_loaded)?;
    let mut instance = Instance::open()?;
    let transaction = planned.under_lock(&instance)?;
    let saving = save.map(|save| {
        // What is only changed goes when what it changes does.
        let pending = matches!(keep, Keep::AsBefore) && instance.maps.rollback_at()?.is_some();
        ensure!(
            !pending,
            "the policy in force awaits confirmation; `icmp-ctl confirm --save` keeps and saves it"
        );
        save.prepare(&instance, &transaction.policy)
    });
    let saving = saving.transpose()?;
    let replaced = transaction.commit(&mut instance, keep)?;
    let (may_be_unsaved, saved) = (saving.is_none(), saving.map_or(Ok(()), Saving::finish));
    let of_host = follow_host(&mut instance);
    let pending = !instance.maps.rollback_at().is_ok_and(|at| at.is_none());
    // Whoever reads the warnings may be slow, and is not waited for under the lock.
    let pins = instance.unlock();
    warn_all(&of_host);
    warn_all(&transaction.warnings);
    replaced.into_iter().for_each(note);
    if may_be_unsaved && !pending && !transaction.difference.is_empty() {
        say_if_unsaved(&pins, &transaction.policy);
    }
    saved.map(|()| transaction)
}

/// Brings the tables in line with the host as it is now, and with the VIPs that have a check now; the policy is in force whatever becomes of
/// that. What there is to say about it.
pub(super) fn follow_host(instance: &mut Instance) -> Vec<String> {
    match Network::read_once().and_then(|network| refresh(instance, &network)) {
        Ok(refreshed) => refreshed.left_out().map(|(_, text)| text).into_iter().collect(),
        Err(error) => vec![format!(
            "the host's addresses could not be read again, and those of before count: {}",
            sentence(&error)
        )],
    }
}

/// Changes what is in force, for as long as that is.
///
/// # Errors
/// Nothing is in force, the change is refused, or it cannot be written.
pub fn change(
    allow_break: &[String],
    save: Option<Save<'_>>,
    change: impl Fn(&mut Draft) -> Result<()>,
) -> Result<Transaction> {
    put_in_force(Keep::AsBefore, save, |pins, in_force| {
        let in_force =
            in_force.context("no policy is in force; `icmp-ctl apply -f FILE` puts one in force")?;
        let proposal = Proposal::of_change(in_force, allow_break, &change)?;
        Transaction::plan(pins, Some(in_force), proposal)
    })
}

/// Keeps what awaits confirmation.
///
/// # Errors
/// Nothing does, or it cannot be written or saved.
pub fn confirm(mut instance: Instance, save: Option<Save<'_>>) -> Result<()> {
    let pending = instance.maps.rollback_at()?.is_some();
    let policy = instance.maps.policy()?.filter(|_| pending);
    let policy = policy.context(NOTHING_PENDING)?;
    let saving = save.map(|save| save.prepare(&instance, &policy)).transpose()?;
    if !instance.maps.confirm()? {
        bail!("{NOTHING_PENDING}");
    }
    instance.note_change(Became::Confirmed);
    warn_all(&follow_host(&mut instance));
    match saving {
        Some(saving) => saving.finish(),
        None => {
            say_if_unsaved(&instance.unlock(), &policy);
            Ok(())
        }
    }
}

/// Goes back to what was confirmed last; what that changes.
///
/// # Errors
/// Nothing awaits confirmation, or it cannot be read or written; what was in force is.
pub fn roll_back(mut instance: Instance) -> Result<Difference> {
    let before = instance.maps.policy()?;
    let confirmed = instance.maps.confirmed_policy()?.context(NOTHING_PENDING)?;
    let mut difference = Difference::default();
    difference.add(before.as_ref(), &confirmed, Tick::of_this_kernel()?);
    // Nothing that could fail comes behind it.
    if !instance.maps.roll_back()? {
        bail!("{NOTHING_PENDING}");
    }
    instance.note_applied();
    instance.note_change(Became::RolledBack);
    warn_all(&follow_host(&mut instance));
    say_if_unsaved(&instance.unlock(), &confirmed);
    Ok(difference)
}

const NOTHING_PENDING: &str = "nothing awaits confirmation: it was confirmed, replaced, or not confirmed in time and rolled back; `icmp-ctl show \
                               policy` tells what is in force";
