//! Attaches interfaces and puts a policy in force with them: for `attach`, and for `serve` when it starts and when it reloads.
//!
//! Owns the order, in which every step that can fail comes before the policy is published, and what is taken back after a failure.

use anyhow::{Context as _, Result};
use icmp_common::abi::Settings;

use crate::config::file::Config;
use crate::config::peers::Peers;
use crate::diagnostics::{note, warn};
use crate::failure::sentence;
use crate::host::netlink::Network;
use crate::host::vlan_stripping::leave_tags;
use crate::instance::addresses::{buckets_for, refresh};
use crate::instance::attach::{AttachMode, Attached, attach, find, refuse_others};
use crate::instance::compiled::Compiled;
use crate::instance::pins::{Instance, Pins, View};
use crate::instance::program::LoadOptions;
use crate::kernel::ethtool::TagOffloads;
use crate::policy::difference::Difference;
use crate::policy::transaction::{
    Allowed, Keep, Planned, Proposal, Transaction, follow_host, warn_about_policy_in_force, warn_all,
};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Interfaces; with none, nothing is loaded either.
    pub interfaces: &'a [String],
    /// How to attach to them.
    pub mode: AttachMode,
    /// Where another program is, ours is to go in front of it.
    pub chain: bool,
    /// Their drivers are to leave VLAN tags in the frame.
    pub keep_tags: bool,
    /// The configuration is also to take the place of a policy that is in force.
    pub reconfigure: bool,
    /// Only to those that had the program and were displaced: a command that took it off meanwhile is not undone.
    pub again: bool,
}

impl<'a> Wanted<'a> {
    /// These interfaces, in the usual way.
    pub const fn on(interfaces: &'a [String]) -> Self {
        let mode = AttachMode::Auto;
        Self { interfaces, mode, chain: false, keep_tags: false, reconfigure: false, again: false }
    }
}

/// What is to be in force where nothing is, or in the place of what is.
pub struct Configured {
    config: Config,
    proposal: Proposal,
}

impl Configured {
    /// What it leaves to the host is that of the interface.
    ///
    /// # Errors
    /// As [`Proposal::of_file`].
    pub fn new(config: Config, allowed: Allowed<'_>, interface: Option<&String>) -> Result<Self> {
        Ok(Self { proposal: Proposal::of_file(&config, allowed, interface)?, config })
    }
}

/// What has come of it.
pub struct Started {
    /// The interfaces, each once.
    pub attached: Vec<Attached>,
    /// What the configuration has changed in a policy that was in force; `None` where it was not put in the place of one.
    pub difference: Option<Difference>,
    /// The program was loaded for it.
    pub loaded: bool,
    /// What is in force now.
    pub settings: Settings,
}

/// Does all that is wanted, or nothing; `None` where there is nothing to do it to. An interface that joins what is in force needs no
/// configuration, so one that cannot be used is then only warned about. It is made only where no interface refuses before: that asks the
/// host's packet filters, and `serve` tries again and again.
///
/// # Errors
/// An interface or the policy is refused, or the kernel refuses something; what was attached is taken off again, and the policy is the one
/// of before.
pub fn start(wanted: Wanted<'_>, configured: impl FnOnce() -> Result<Configured>) -> Result<Option<Started>> {
    let network = Network::read_once()?;
    let links = find(&network, wanted.interfaces)?;
    for link in &links {
        refuse_others(link, wanted.mode, wanted.chain)?;
    }
    let is_loaded = View::find()?.is_some();
    if wanted.again && !is_loaded {
        return Ok(None);
    }
    let configured = match (!wanted.again).then(configured).transpose() {
        Err(error) if is_loaded && !wanted.reconfigure => {
            warn(&format!(
                "{}; not needed now: the policy in force stays, and counts for the new interfaces, too",
                sentence(&error)
            ));
            None
        }
        configured => configured?,
    };
    let needed = || {
        configured.as_ref().context("what was in force was detached meanwhile, and the configuration cannot take its place; try again")
    };
    let plan = |pins: &Pins, in_force: Option<&Compiled>| {
        Transaction::plan(pins, in_force, needed()?.proposal.clone())
    };
    let ahead = if wanted.reconfigure { View::look(|view| Planned::new(view, plan))? } else { None };
    let (mut instance, loaded) = if links.is_empty() || wanted.again {
        let Some(instance) = Instance::find()? else { return Ok(None) };
        (instance, false)
    } else {
        Instance::open_or_load(|| {
            let config = &needed()?.config;
            Ok(LoadOptions {
                address_buckets: buckets_for(&network, &links),
                peer_buckets: Peers::buckets(config.peers.most()),
                ..LoadOptions::new(config.limits.memory.lines())?
            })
        })?
    };
    let mut undo = Undo::default();
    let transaction = match ahead {
        Some(planned) => planned.under_lock(&instance).map(Some),
        None if loaded || wanted.reconfigure => {
            instance.maps.policy().and_then(|in_force| plan(&instance, in_force.as_ref())).map(Some)
        }
        None => Ok(None),
    };
    let done =
        transaction.and_then(|transaction| bring_up(&mut instance, wanted, loaded, transaction, &mut undo));
    match done {
        Ok(started) => {
            if let Some(configured) = configured.as_ref().filter(|_| loaded || wanted.reconfigure)
                && let Err(error) = instance.note_file(configured.config.file())
            {
                warn(&format!("{}; `--save` will take the usual file for it", sentence(&error)));
            }
            Ok(Some(started))
        }
        Err(error) => {
            undo.undo(instance, loaded);
            Err(error)
        }
    }
}

/// What has been done so far.
#[derive(Default)]
struct Undo {
    /// Indexes of interfaces that were attached.
    attached: Vec<u32>,
    /// Names of interfaces whose drivers were told to leave VLAN tags, and what they did before.
    tagged: Vec<(String, TagOffloads)>,
}

impl Undo {
    /// Takes it back, as far as the kernel lets: one step that fails is no reason to leave out the others. The program is off an interface before
    /// its driver strips tags again, and then the tables are made anew, without what has come in.
    fn undo(self, mut instance: Instance, loaded: bool) {
        let failed = |what: &str, result: Result<()>| {
            if let Err(error) = result {
                warn(&format!("{what} failed while the command was taken back: {}", sentence(&error)));
            }
        };
        for ifindex in self.attached {
            failed("taking the program off an interface", instance.detach(ifindex));
        }
        for (name, before) in &self.tagged {
            failed("switching a VLAN offload back on", before.write(name));
        }
        if loaded {
            failed("removing the program", instance.remove());
        } else {
            let refreshed = Network::read_once().and_then(|network| refresh(&mut instance, &network));
            failed("reading the interfaces again", refreshed.map(|_| ()));
        }
    }
}

fn bring_up(
    instance: &mut Instance,
    wanted: Wanted<'_>,
    loaded: bool,
    transaction: Option<Transaction>,
    undo: &mut Undo,
) -> Result<Started> {
    // Whoever had the lock until now may have taken long, and attached or detached.
    let network = Network::read_once()?;
    let mut links = find(&network, wanted.interfaces)?;
    if wanted.again {
        let pins = instance.links()?;
        links.retain(|link| pins.iter().any(|pin| pin.was_on(link)));
    }
    if let Some(transaction) = &transaction {
        warn_all(&transaction.warnings);
    }
    // A program that was just loaded decides nothing yet, and should know how once it does.
    if let Some(transaction) = transaction.as_ref().filter(|_| loaded) {
        let _nothing_was_there = transaction.commit(instance, Keep::Always)?;
    }
    let mut attached = Vec::new();
    for link in links {
        if wanted.keep_tags {
            undo.tagged.extend(leave_tags(link)?.map(|before| (link.name.clone(), before)));
        }
        let one = attach(instance, &network, link, wanted.mode, wanted.chain)?;
        if !one.already {
            undo.attached.push(link.index);
        }
        attached.push(one);
    }
    if transaction.is_none() {
        // When it has worked: who tries it again and again says it once.
        warn_about_policy_in_force(instance)?;
    }
    let settings = match &transaction {
        Some(transaction) => *transaction.settings(),
        None => instance.maps.settings()?.context("the program has no settings")?,
    };
    let transaction = transaction.filter(|_| !loaded);
    // Nothing that could fail comes behind it.
    if let Some(transaction) = &transaction {
        let replaced = transaction.commit(instance, Keep::Always)?;
        warn_all(&follow_host(instance));
        replaced.into_iter().for_each(note);
    }
    Ok(Started {
        attached,
        difference: transaction.map(|transaction| transaction.difference),
        loaded,
        settings,
    })
}
