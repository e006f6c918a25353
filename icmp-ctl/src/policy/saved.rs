//! The policy in force and the file that it is loaded from again: whether they agree, and saving it.
//!
//! Owns which file that is, and what of it is kept. The maps are the only truth about the policy in force; the file has the spelling, and the
//! keys that the program does not know. `config/edit.rs` makes the text, `config/on_disk.rs` replaces the file.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::config::edit::edit;
use crate::config::file::{Config, DEFAULT_PATH, Rule};
use crate::config::limits::Memory;
use crate::config::on_disk::{OnDisk, Replacement};
use crate::config::peers::NamedPeer;
use crate::diagnostics::{note, shell_word};
use crate::failure::sentence;
use crate::host::defaults::HostDefaults;
use crate::host::netlink::{Link, Network, links_once};
use crate::host::patterns::{is_pattern, meant};
use crate::instance::compiled::Compiled;
use crate::instance::pins::Pins;
use crate::kernel::clock::Tick;
use crate::kernel::files::{identity, seen_by_caller};
use crate::policy::decompile::configuration;
use crate::policy::of_file::compiled_for;

/// That a change is to be saved.
#[derive(Clone, Copy, Debug)]
pub struct Save<'a> {
    /// The file; the one that comes back by itself where none is named.
    pub file: Option<&'a Path>,
    /// Whose words are used.
    pub like: Words<'a>,
}

/// Who has said what is put in force in words of his own.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// Nobody but the file that it is saved to.
    OfFile,
    /// A whole configuration.
    Of(&'a Config),
    /// One rule; the file for all else. Lists that it names are in the current folder.
    OfRule(&'a Rule),
}

impl Words<'_> {
    fn beside(self, there: &Config) -> Result<Config> {
        Ok(match self {
            Self::OfFile => there.clone(),
            Self::Of(config) => config.clone().with_whole_paths()?,
            Self::OfRule(rule) => {
                let mut like = there.clone();
                like.policy.rule.retain(|other| other.name != rule.name);
                like.policy.rule.push(rule.clone());
                like.with_whole_paths_in(Path::new(""))?
            }
        })
    }
}

/// A file that is about to say what is going to be in force.
#[derive(Debug)]
pub struct Saving {
    file: PathBuf,
    /// Nothing where it says so already.
    replacement: Option<Replacement>,
    changed: Vec<String>,
}

impl Save<'_> {
    /// Does all that can fail of it: nothing but to put the new file in the place of the old one is left.
    ///
    /// # Errors
    /// The file is no configuration, or cannot be written.
    pub fn prepare(self, pins: &Pins, policy: &Compiled) -> Result<Saving> {
        let file = self.file.map_or_else(|| comes_from(pins), Path::to_owned);
        let on_disk = OnDisk::read(&file)?;
        let text = on_disk.text.clone().unwrap_or_default();
        let parsed = |text: &str| Config::parse(text, &file.display().to_string());
        let there =
            parsed(&text).context("the file that is there cannot be changed; mend it, or move it away")?;
        let there = there.with_whole_paths()?;
        let wanted = in_words_of(&self.like.beside(&there)?, pins, policy)?;
        let own = identity(&file);
        ensure!(
            own.is_none() || wanted.lists().all(|list| identity(&list) != own),
            "{} is a list of prefixes that the configuration names, and would be overwritten; save to another file",
            file.display()
        );
        let edited = edit(&text, &there, &wanted)?;
        let again = parsed(&edited.text).and_then(|config| compiled_for(&config, pins));
        ensure!(
            again.context("reading what would be written")?.says_the_same_as(policy),
            "{} is left as it is: the new text would not mean the policy in force",
            file.display()
        );
        let replacement = if edited.changed.is_empty() { None } else { Some(on_disk.replace(&edited.text)?) };
        Ok(Saving { file, replacement, changed: edited.changed })
    }
}

impl Saving {
    /// Saves it, and says what of the file has changed.
    ///
    /// # Errors
    /// Somebody has changed the file meanwhile, or it cannot be replaced; it is as it was.
    pub fn finish(self) -> Result<()> {
        let file = self.file.display();
        let Some(replacement) = self.replacement else {
            note(&format!("{file} says so already"));
            return Ok(());
        };
        replacement.finish().with_context(|| format!("the policy in force was not saved to {file}"))?;
        note(&format!("saved to {file}: {}", self.changed.join(", ")));
        Ok(())
    }
}

/// Says it where what is in force does not come back when the program is loaded again.
pub fn say_if_unsaved(pins: &Pins, policy: &Compiled) {
    let file = comes_from(pins);
    let name = file.display();
    let comes_back = in_file(&file).and_then(|config| compiled_for(&config.unwrap_or_default(), pins));
    let then = match comes_back {
        Ok(saved) if saved.says_the_same_as(policy) => return,
        Ok(_) if seen_by_caller(&file).exists() => format!("what {name} says will be in force"),
        Ok(_) => format!("the defaults will be in force, because there is no {name}"),
        Err(error) => format!("nothing will be in force: {}", sentence(&error)),
    };
    note(&format!(
        "not saved: when the program is loaded again, {then}; with `--save` a change is written to {name}"
    ));
}

/// What is in force, as a configuration: that of the file where it means the same.
///
/// # Errors
/// The links or the host cannot be read.
pub fn shown(pins: &Pins, policy: &Compiled) -> Result<Config> {
    let mut config = in_words_of(&lent(pins).with_whole_paths()?, pins, policy)?;
    let loaded = pins.maps.limiter_bytes();
    if config.limits.memory.bytes_used() != loaded {
        config.limits.memory = Memory(loaded);
    }
    Ok(config)
}

/// Peers that have a name, which the program does not know. They are found out anew where the text of the file has changed: a scrape asks for them, and
/// a long configuration takes many times as long to understand as to read.
pub fn named_peers(pins: &Pins) -> Vec<NamedPeer> {
    static LAST: Mutex<Option<(String, Vec<NamedPeer>)>> = Mutex::new(None);
    let file = comes_from(pins);
    let Some(text) = OnDisk::read(&file).ok().and_then(|file| file.text) else { return Vec::new() };
    // Whoever has panicked with it has left what was there before.
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, named)) = last.as_ref().filter(|(known, _)| *known == text) {
        return named.clone();
    }
    let config = Config::parse(&text, &file.display().to_string()).unwrap_or_default();
    *last = Some((text, config.peers.named.clone()));
    config.peers.named
}

/// What of a configuration is not put in force with it, because it is taken from the file that comes back, which says something else; nothing
/// where it is saved there.
pub fn not_taken(pins: &Pins, config: &Config, save: Option<Save<'_>>) -> Option<String> {
    let file = comes_from(pins);
    let saved_to = save.map(|save| save.file.unwrap_or(&file));
    if saved_to.is_some_and(|saved_to| {
        saved_to == file || identity(saved_to).is_some_and(|it| identity(&file) == Some(it))
    }) {
        return None;
    }
    let (there, default) = (lent(pins), Config::default());
    fn says<T: PartialEq>(one: &T, others: [&T; 2]) -> bool {
        !others.contains(&one)
    }
    let parts = [
        ("[[peers.named]]", says(&config.peers.named, [&there.peers.named, &default.peers.named])),
        ("[metrics]", says(&config.metrics, [&there.metrics, &default.metrics])),
        ("[serve]", says(&config.serve, [&there.serve, &default.serve])),
        ("[events]", says(&config.events, [&there.events, &default.events])),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(_, is_said)| *is_said).map(|(part, _)| part).collect();
    let there = if file.exists() { "and something else is there" } else { "which is not there" };
    (!parts.is_empty()).then(|| {
        format!(
            "{}: not put in force: it is taken from {}, the file that the program comes back from, {there}; `--save` writes it there",
            parts.join(", "),
            file.display()
        )
    })
}

/// That a configuration names other interfaces than those that are attached, as no `apply` attaches or detaches; nothing where it names none.
///
/// # Errors
/// The links cannot be read.
pub fn other_interfaces(pins: &Pins, config: &Config) -> Result<Option<String>> {
    if config.interfaces.is_empty() {
        return Ok(None);
    }
    let (links, pins) = (links_once()?, pins.links()?);
    let is_attached = |link: &Link| pins.iter().any(|pin| pin.is_of(link) || pin.was_on(link));
    let (mut named, mut missing) = (Vec::new(), Vec::new());
    for name in &config.interfaces {
        let meant = meant(&links, name);
        if meant.is_empty() && !is_pattern(name) {
            missing.push(shell_word(name));
        }
        missing.extend(meant.iter().filter(|link| !is_attached(link)).map(|link| shell_word(&link.name)));
        named.extend(meant.iter().map(|link| link.index));
    }
    let others = links.iter().filter(|link| is_attached(link) && !named.contains(&link.index));
    let others: Vec<_> = others.map(|link| shell_word(&link.name)).collect();
    let parts = [("attach", "named and not attached", missing), ("detach", "attached and not named", others)];
    let parts: Vec<_> = parts.into_iter().filter(|(_, _, names)| !names.is_empty()).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let which: Vec<_> =
        parts.iter().map(|(_, which, names)| format!("{which}: {}", names.join(", "))).collect();
    let helps: Vec<_> =
        parts.iter().map(|(verb, _, names)| format!("`icmp-ctl {verb} {}`", names.join(" "))).collect();
    Ok(Some(format!(
        "interfaces: not put in force: `apply` attaches and detaches nothing; {}; {} changes that",
        which.join("; "),
        helps.join(" with ")
    )))
}

/// What the file says. One that cannot be used has no words to lend.
fn lent(pins: &Pins) -> Config {
    in_file(&comes_from(pins)).ok().flatten().unwrap_or_default()
}

/// The file that what is in force comes from, and comes back from.
fn comes_from(pins: &Pins) -> PathBuf {
    pins.file().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH))
}

/// The configuration in a file; `None` where it is not there.
fn in_file(file: &Path) -> Result<Option<Config>> {
    let text = OnDisk::read(file)?.text;
    text.map(|text| Config::parse(&text, &file.display().to_string())).transpose()
}

fn in_words_of(like: &Config, pins: &Pins, policy: &Compiled) -> Result<Config> {
    let network = Network::read_once()?;
    let mut like = like.clone();
    for pin in pins.links()?.iter() {
        let Some(link) = network.links.iter().find(|link| pin.is_of(link) || pin.was_on(link)) else {
            continue;
        };
        let is_meant = |name: &String| meant(&network.links, name).iter().any(|one| one.index == link.index);
        if !like.interfaces.iter().any(is_meant) {
            like.interfaces.push(link.name.clone());
        }
    }
    Ok(configuration(policy, &like, HostDefaults::read(like.interfaces.first())?, Tick::of_this_kernel()?))
}
