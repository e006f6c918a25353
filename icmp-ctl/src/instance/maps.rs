//! The maps of one instance: what may be read and written, and in which order.
//!
//! Owns the banks and the switch between them: a change is written to the bank that is not in force, made visible by one byte, and the
//! bank that was in force stays untouched until no CPU can still be reading it. Where the maps come from (a fresh load, pins) is
//! `program.rs`'s and `instance.rs`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use icmp_common::abi::{
    ADDRESS_BUCKETS, Bucket4, Bucket6, Cluster, Counter, INTERFACE_ENTRIES, Interface, Leases,
    SETTINGS_PRESENT, SLOTS, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_BITS, SWITCH_CHANGE, SWITCH_ROLLBACK_AT,
    SWITCH_SETTINGS, Settings, TALLIES, counter_index,
};
use icmp_common::budget::rule_cell;
use icmp_common::prefixes::{PREFIX_BUCKETS4, PREFIX_BUCKETS6, PrefixBucket4, PrefixBucket6};
use icmp_common::reason::{REASONS, Reason};
use icmp_common::rules::{Rules, Tally};
use icmp_common::tables::interface_position;
use icmp_common::talkers::{TALKERS, Talker};
use icmp_common::types::COUNTER_ROWS;
use ipnet::IpNet;

use crate::host::address_table::AddressTable;
use crate::instance::prefixes::{self, Buckets};
use crate::instance::program;
use crate::kernel::bpf as sys;
use crate::kernel::jiffies;
use crate::kernel::membarrier::wait_for_readers;
use crate::kernel::plain::Plain;
use crate::policy::rules::{Compiled, assign_slots, name_text};
use crate::policy::settings::Tick;

/// The clock the program asks while a confirmation is awaited.
fn monotonic_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).context("asking for the time")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Buckets of addresses in a bank.
const BANK: usize = ADDRESS_BUCKETS as usize;

/// Typed access to the maps of an instance.
pub struct InstanceMaps {
    switch: Array<MapData, [u64; 2]>,
    settings: Array<MapData, [Plain<Settings>; 2]>,
    interfaces: Array<MapData, [Plain<Interface>; INTERFACE_ENTRIES as usize]>,
    addresses4: [Array<MapData, [Plain<Bucket4>; BANK]>; 2],
    addresses6: [Array<MapData, [Plain<Bucket6>; BANK]>; 2],
    rules: Array<MapData, Plain<Rules>>,
    prefixes4: Array<MapData, Plain<PrefixBucket4>>,
    prefixes6: Array<MapData, Plain<PrefixBucket6>>,
    tallies: PerCpuArray<MapData, Plain<Tally>>,
    budgets: Array<MapData, u64>,
    cells: Array<MapData, Plain<Cluster>>,
    leases: PerCpuArray<MapData, Plain<Leases>>,
    talkers: PerCpuArray<MapData, Plain<Talker>>,
    counters: PerCpuArray<MapData, Plain<Counter>>,
}

impl InstanceMaps {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// The object lacks one: the build is broken.
    pub fn take(object: &mut Ebpf) -> Result<Self> {
        Self::from_source(|name| {
            object
                .take_map(program::name_in_object(name))
                .ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
        })
    }

    /// Opens each map with `open`, which gets its name.
    ///
    /// # Errors
    /// `open` failed, or a map is of another type than expected.
    pub fn from_source(mut open: impl FnMut(&str) -> Result<Map>) -> Result<Self> {
        macro_rules! map {
            ($name:literal) => {
                open($name)?.try_into().with_context(|| format!("the map {} is of another type", $name))?
            };
        }
        Ok(Self {
            switch: map!("SWITCH"),
            settings: map!("SETTINGS"),
            interfaces: map!("INTERFACES"),
            addresses4: [map!("ADDRESSES4_0"), map!("ADDRESSES4_1")],
            addresses6: [map!("ADDRESSES6_0"), map!("ADDRESSES6_1")],
            rules: map!("RULES"),
            prefixes4: map!("PREFIXES4"),
            prefixes6: map!("PREFIXES6"),
            tallies: map!("TALLIES"),
            budgets: map!("BUDGETS"),
            cells: map!("CELLS"),
            leases: map!("LEASES"),
            talkers: map!("TALKERS"),
            counters: map!("COUNTERS"),
        })
    }

    fn switch_word(&self, index: u32) -> Result<u64, MapError> {
        Ok(self.switch.get(&0, 0)?[index as usize])
    }

    /// Writes the switch, of which only the one word changes.
    fn set_switch_word(&mut self, index: u32, value: u64) -> Result<(), MapError> {
        let mut words = self.switch.get(&0, 0)?;
        words[index as usize] = value;
        self.switch.set(0, words, 0)
    }

    /// What the program goes by (`icmp_common::abi::SWITCH_BITS`); another value after every change.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn switch(&self) -> Result<u32> {
        Ok(self.switch_word(SWITCH_BITS).context("reading which bank is in force")? as u32)
    }

    /// Changes bits of the switch, all in its lowest byte, and counts that, then waits until nobody reads the old banks.
    fn flip(&mut self, bits: u32) -> Result<()> {
        let switch = (self.switch()? ^ bits).wrapping_add(SWITCH_CHANGE) & 0xff;
        self.set_switch_word(SWITCH_BITS, u64::from(switch)).context("switching to the new bank")?;
        wait_for_readers()
    }

    /// How long settings that await confirmation have left; `None` where none do.
    ///
    /// # Errors
    /// The map or the clock cannot be read.
    pub fn awaited(&self) -> Result<Option<Duration>> {
        if self.switch()? & SWITCH_AWAITS == 0 {
            return Ok(None);
        }
        let at = self.switch_word(SWITCH_ROLLBACK_AT).context("reading the time of the rollback")?;
        Ok(Some(Duration::from_nanos(at.saturating_sub(monotonic_ns()?))))
    }

    /// Makes lasting what the program has done by itself: settings that nobody confirmed in time are no longer in force. True where
    /// that was so.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn settle(&mut self) -> Result<bool> {
        let late = self.awaited()? == Some(Duration::ZERO);
        if late {
            self.flip(SWITCH_SETTINGS | SWITCH_AWAITS)?;
        }
        Ok(late)
    }

    /// Keeps the settings that await confirmation; false where there are none.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn confirm(&mut self) -> Result<bool> {
        let awaits = self.switch()? & SWITCH_AWAITS != 0;
        if awaits {
            self.flip(SWITCH_AWAITS)?;
        }
        Ok(awaits)
    }

    /// Bank of the settings in force.
    fn settings_bank(&self) -> Result<u32> {
        let late = self.awaited()? == Some(Duration::ZERO);
        Ok(self.switch()? & SWITCH_SETTINGS ^ if late { SWITCH_SETTINGS } else { 0 })
    }

    /// The settings in force; `None` where none have been set.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let banks = self.settings.get(&0, 0).context("reading the settings in force")?;
        let settings = banks[self.settings_bank()? as usize].0;
        Ok((settings.flags & SETTINGS_PRESENT != 0).then_some(settings))
    }

    /// Puts new settings in force at one instant, with the rules that they name.
    ///
    /// # Errors
    /// A map cannot be written; the old settings are still in force.
    pub fn switch_settings(&mut self, settings: &Settings) -> Result<()> {
        self.switch_settings_for(settings, None)
    }

    fn switch_settings_for(&mut self, settings: &Settings, confirm_within: Option<Duration>) -> Result<()> {
        self.settle()?;
        if let Some(left) = self.awaited()? {
            bail!(
                "the last apply awaits confirmation, and the settings before it are kept for {} s more; `icmp-ctl confirm` keeps the \
                 new ones, then this can be done",
                left.as_secs() + 1
            );
        }
        let idle = self.switch()? & SWITCH_SETTINGS ^ SWITCH_SETTINGS;
        // The bank in force is written as it is.
        let mut banks = self.settings.get(&0, 0).context("reading the settings in force")?;
        banks[idle as usize] = Plain(*settings);
        self.settings.set(0, banks, 0).context("writing the new settings")?;
        let Some(within) = confirm_within else { return self.flip(SWITCH_SETTINGS) };
        let at = monotonic_ns()?.saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
        self.set_switch_word(SWITCH_ROLLBACK_AT, at).context("writing the time of the rollback")?;
        self.flip(SWITCH_SETTINGS | SWITCH_AWAITS)
    }

    /// The whole policy in force; `None` where none has been set.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn policy(&self) -> Result<Option<Compiled>> {
        let Some(settings) = self.settings()? else { return Ok(None) };
        let rules = self.rules(settings.rules)?;
        let buckets = self.buckets(settings.rules, &rules)?;
        Ok(Some(Compiled { settings, prefixes: buckets.prefixes(&rules), rules, buckets }))
    }

    /// Puts a whole policy in force at one instant: settings, rules and prefixes. With `confirm_within`, the program goes back to the one
    /// before after that time, unless [`Self::confirm`] was called.
    ///
    /// # Errors
    /// A map cannot be written, or another policy awaits confirmation; the old policy is still in force, whole.
    pub fn switch_policy(&mut self, policy: &Compiled, confirm_within: Option<Duration>) -> Result<()> {
        self.settle()?;
        let old = self.settings()?;
        if let Some(left) = self.awaited()? {
            bail!(
                "the last apply awaits confirmation for {} s more; `icmp-ctl confirm` keeps it, then this can be done",
                left.as_secs() + 1
            );
        }
        let old_rules = old.as_ref().map(|old| self.rules(old.rules)).transpose()?;
        let bank = old.map_or(0, |old| old.rules ^ 1);
        let mut rules = policy.rules.clone();
        for slot in assign_slots(&mut rules, old_rules.as_deref()) {
            self.clear_tally(slot)?;
            self.budgets.set(rule_cell(slot), 0, 0).context("filling the bucket of a new rule")?;
        }
        self.write_buckets(bank, &policy.buckets)?;
        self.rules.set(bank, Plain::of(&*rules), 0).context("writing the new rules")?;
        self.switch_settings_for(&Settings { rules: bank, ..policy.settings }, confirm_within)
    }

    /// What each rule in force is called, and how often it decided; cheaper than [`Self::policy`], which reads all prefixes.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn rule_tallies(&self) -> Result<Vec<(String, Tally)>> {
        let Some(settings) = self.settings()? else { return Ok(Vec::new()) };
        let (rules, tallies) = (self.rules(settings.rules)?, self.tallies()?);
        let named = rules.names.iter().zip(&rules.rules).take(rules.count as usize);
        Ok(named.map(|(name, rule)| (name_text(name), tallies[rule.slot as usize])).collect())
    }

    /// A bank of rules. Read as a batch of one, because aya would have several values of this size on the stack.
    fn rules(&self, bank: u32) -> Result<Box<Rules>> {
        let read = sys::read_batch(&self.rules, bank, 1).context("reading the rules in force")?;
        Ok(Box::new(read[0].0))
    }

    /// The buckets that the rules of a bank look at.
    fn buckets(&self, bank: u32, rules: &Rules) -> Result<Buckets> {
        let (v4, v6) = prefixes::in_use(&rules.search);
        Ok(Buckets {
            v4: sys::read_batch(&self.prefixes4, bank * PREFIX_BUCKETS4, v4)
                .context("reading the IPv4 prefixes")?,
            v6: sys::read_batch(&self.prefixes6, bank * PREFIX_BUCKETS6, v6)
                .context("reading the IPv6 prefixes")?,
        })
    }

    /// Writes a bank that is not in force. Buckets that no search will look at keep what they have.
    fn write_buckets(&mut self, bank: u32, buckets: &Buckets) -> Result<()> {
        sys::write_batch(&mut self.prefixes4, bank * PREFIX_BUCKETS4, &buckets.v4)
            .context("writing the IPv4 prefixes")?;
        sys::write_batch(&mut self.prefixes6, bank * PREFIX_BUCKETS6, &buckets.v6)
            .context("writing the IPv6 prefixes")
    }

    fn clear_tally(&mut self, index: u32) -> Result<()> {
        let cpus =
            aya::util::nr_cpus().map_err(|(path, error)| anyhow!("counting the CPUs in {path}: {error}"))?;
        let zeroes =
            PerCpuValues::try_from(vec![Plain(Tally::default()); cpus]).context("a value for each CPU")?;
        self.tallies.set(index, zeroes, 0).context("clearing the tally of a new rule")
    }

    /// The tallies of rules' slots and of checks, over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn tallies(&self) -> Result<Vec<Tally>> {
        (0..TALLIES)
            .map(|index| {
                let cpus = self.tallies.get(&index, 0).context("reading the tallies of rules")?;
                Ok(cpus.iter().fold(Tally::default(), |sum, cpu| Tally {
                    hits: sum.hits + cpu.0.hits,
                    limited: sum.limited + cpu.0.limited,
                    would_hit: sum.would_hit + cpu.0.would_hit,
                    would_limit: sum.would_limit + cpu.0.would_limit,
                }))
            })
            .collect()
    }

    /// Bank of addresses in force.
    fn address_bank(&self) -> Result<usize> {
        Ok(usize::from(self.switch()? & SWITCH_ADDRESSES != 0))
    }

    /// The address table in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn addresses(&self) -> Result<AddressTable> {
        let bank = self.address_bank()?;
        let buckets4 = self.addresses4[bank].get(&0, 0).context("reading the IPv4 addresses")?;
        let buckets6 = self.addresses6[bank].get(&0, 0).context("reading the IPv6 addresses")?;
        Ok(AddressTable::from_buckets(
            buckets4.iter().map(|bucket| bucket.0).collect(),
            buckets6.iter().map(|bucket| bucket.0).collect(),
        ))
    }

    /// Puts a new address table in force at one instant.
    ///
    /// # Errors
    /// A map cannot be written; the old table is still in force.
    pub fn switch_addresses(&mut self, table: &AddressTable) -> Result<()> {
        let idle = self.address_bank()? ^ 1;
        let buckets4: Vec<_> = table.buckets4().iter().copied().map(Plain).collect();
        let buckets6: Vec<_> = table.buckets6().iter().copied().map(Plain).collect();
        let whole4: &[_; BANK] = buckets4.as_slice().try_into().context("a whole bank of IPv4 addresses")?;
        let whole6: &[_; BANK] = buckets6.as_slice().try_into().context("a whole bank of IPv6 addresses")?;
        self.addresses4[idle].set(0, whole4, 0).context("writing the IPv4 addresses")?;
        self.addresses6[idle].set(0, whole6, 0).context("writing the IPv6 addresses")?;
        self.flip(SWITCH_ADDRESSES)
    }

    /// The interface table.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn interfaces(&self) -> Result<[Interface; INTERFACE_ENTRIES as usize]> {
        let entries = self.interfaces.get(&0, 0).context("reading the interface table")?;
        Ok(entries.map(|entry| entry.0))
    }

    /// Enters an interface, or changes its entry.
    ///
    /// # Errors
    /// All places of its index are taken, or the map cannot be written.
    pub fn set_interface(&mut self, interface: Interface) -> Result<()> {
        let mut entries = self.interfaces()?;
        let index = interface_position(&entries, interface.ifindex).with_context(|| {
            format!("the interface table has no place left for index {}", interface.ifindex)
        })?;
        entries[index as usize] = interface;
        self.write_interfaces(entries)
    }

    /// Removes an interface's entry, if it has one.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn remove_interface(&mut self, ifindex: u32) -> Result<()> {
        let mut entries = self.interfaces()?;
        match interface_position(&entries, ifindex) {
            Some(index) if entries[index as usize].ifindex == ifindex => {
                entries[index as usize] = Interface::default();
                self.write_interfaces(entries)
            }
            _ => Ok(()),
        }
    }

    /// Writes the interface table, of which one entry changes, and has nothing go by the old one.
    fn write_interfaces(&mut self, entries: [Interface; INTERFACE_ENTRIES as usize]) -> Result<()> {
        self.interfaces.set(0, entries.map(Plain), 0).context("writing the interface table")?;
        self.flip(0)
    }

    /// The VIP prefixes in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn vips(&self) -> Result<Vec<IpNet>> {
        Ok(self.policy()?.map(|policy| policy.vips()).unwrap_or_default())
    }

    /// Bytes of the limiter's table.
    pub fn limiter_bytes(&self) -> u64 {
        u64::from(self.cells.len()) * size_of::<Cluster>() as u64
    }

    /// True where a CPU has found the replies' budget exhausted within the last second.
    ///
    /// # Errors
    /// The map or the clock cannot be read.
    pub fn under_pressure(&self) -> Result<bool> {
        let latest = self.leases()?.iter().map(|leases| leases.exhausted_at).max().unwrap_or(0);
        // Most hosts never were under pressure; they need no clock.
        Ok(latest != 0
            && (jiffies::now()?.saturating_sub(latest) as f64) < Tick::of_this_kernel()?.per_second)
    }

    /// What each CPU has taken from the budgets.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn leases(&self) -> Result<Vec<Leases>> {
        Ok(self.leases.get(&0, 0).context("reading the leases")?.iter().map(|plain| plain.0).collect())
    }

    /// The entries of all CPUs that have a source.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn talkers(&self) -> Result<Vec<Talker>> {
        let mut talkers = Vec::new();
        for index in 0..TALKERS {
            let per_cpu = self.talkers.get(&index, 0).context("reading the talkers")?;
            talkers.extend(per_cpu.iter().map(|cpu| cpu.0).filter(|talker| talker.source.ip_version != 0));
        }
        Ok(talkers)
    }

    /// What was counted in one slot, by row and reason, over all CPUs; counters that are zero are left out.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters_of(&self, slot: u32) -> Result<BTreeMap<(u8, u8), Counter>> {
        let mut counters = BTreeMap::new();
        for row in 0..COUNTER_ROWS as u32 {
            for reason in 0..REASONS as u32 {
                let per_cpu = self
                    .counters
                    .get(&counter_index(slot, row, reason), 0)
                    .context("reading the counters")?;
                let sum = per_cpu.iter().fold(Counter::default(), |sum, cpu| sum.plus(cpu.0));
                counters.insert((row as u8, reason as u8), sum);
            }
        }
        for leases in self.leases()? {
            for (row, answered) in leases.answered_in(slot) {
                let counter: &mut Counter = counters.entry((row, Reason::Answered as u8)).or_default();
                *counter = counter.plus(answered);
            }
        }
        counters.retain(|_, counter| counter.packets != 0);
        Ok(counters)
    }

    /// Sets the counters of a slot to zero, for the interface that gets it next.
    ///
    /// What flows have counted is in an element that CPUs are writing at other places, so that is left as it is, and what is added to it
    /// becomes its negative.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn clear_counters(&mut self, slot: u32) -> Result<()> {
        let leases = self.leases()?;
        for ((row, reason), _) in self.counters_of(slot)? {
            let cleared = leases.iter().map(|leases| {
                let by_flows = leases
                    .answered_in(slot)
                    .into_iter()
                    .find(|(of, _)| *of == row && reason == Reason::Answered as u8);
                let counter = by_flows.map_or_else(Counter::default, |(_, counter)| counter);
                Plain(Counter {
                    packets: counter.packets.wrapping_neg(),
                    bytes: counter.bytes.wrapping_neg(),
                })
            });
            let index = counter_index(slot, u32::from(row), u32::from(reason));
            let cleared =
                PerCpuValues::try_from(cleared.collect::<Vec<_>>()).context("a value for each CPU")?;
            self.counters.set(index, cleared, 0).context("clearing the counters")?;
        }
        Ok(())
    }

    /// What was counted in all slots, by slot, row and reason.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<(u32, u8, u8), Counter>> {
        let mut counters = BTreeMap::new();
        for slot in 0..SLOTS {
            counters.extend(
                self.counters_of(slot)?.into_iter().map(|((row, reason), c)| ((slot, row, reason), c)),
            );
        }
        Ok(counters)
    }
}
