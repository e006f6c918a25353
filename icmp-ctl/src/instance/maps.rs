//! The maps of one instance: what may be read and written, and in which order.
//!
//! Owns the two buffers of settings and addresses and which of them is active: a change is written to the idle one, published by one byte,
//! and the one that was active stays untouched until no CPU can still be reading it. What the program counts is read in `counters.rs`; where
//! the maps come from (a fresh load, pins) is `program.rs`'s and `pins.rs`'s.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use icmp_common::abi::{
    Bucket4, Bucket6, Counter, Cpu, INTERFACE_ENTRIES, Interface, Line, OwnFirst, SCOPE_SLOTS,
    SETTINGS_PRESENT, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_BITS, SWITCH_CHANGE, SWITCH_ROLLBACK_AT,
    SWITCH_SETTINGS, Settings,
};
use icmp_common::budget::rule_cell;
use icmp_common::prefixes::{PREFIX_BUCKETS4, PREFIX_BUCKETS6, PrefixBucket4, PrefixBucket6};
use icmp_common::rules::{Rules, Tally};
use icmp_common::tables::interface_position;
use icmp_common::talkers::Talker;
use ipnet::IpNet;

use crate::host::address_table::AddressTable;
use crate::instance::compiled::{Compiled, assign_slots};
use crate::instance::prefixes::{self, Buckets};
use crate::instance::program;
use crate::kernel::bpf;
use crate::kernel::clock::monotonic_ns;
use crate::kernel::membarrier::wait_for_readers;
use crate::kernel::pod::Pod;

/// Entries of both buffers of `OWN_FIRST`.
const OWN_FIRST: usize = 2 * SCOPE_SLOTS as usize;

/// Typed access to the maps of an instance.
pub struct InstanceMaps {
    switch: Array<MapData, [u64; 2]>,
    settings: Array<MapData, [Pod<Settings>; 2]>,
    interfaces: Array<MapData, [Pod<Interface>; INTERFACE_ENTRIES as usize]>,
    own_first: Array<MapData, [Pod<OwnFirst>; OWN_FIRST]>,
    addresses4: Array<MapData, Pod<Bucket4>>,
    addresses6: Array<MapData, Pod<Bucket6>>,
    rules: Array<MapData, Pod<Rules>>,
    prefixes4: Array<MapData, Pod<PrefixBucket4>>,
    prefixes6: Array<MapData, Pod<PrefixBucket6>>,
    pub(super) tallies: PerCpuArray<MapData, Pod<Tally>>,
    budgets: Array<MapData, u64>,
    pub(super) sources: Array<MapData, Pod<Line>>,
    pub(super) cpus: PerCpuArray<MapData, Pod<Cpu>>,
    pub(super) talkers: PerCpuArray<MapData, Pod<Talker>>,
    pub(super) counters: PerCpuArray<MapData, Pod<Counter>>,
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
            own_first: map!("OWN_FIRST"),
            addresses4: map!("ADDRESSES4"),
            addresses6: map!("ADDRESSES6"),
            rules: map!("RULES"),
            prefixes4: map!("PREFIXES4"),
            prefixes6: map!("PREFIXES6"),
            tallies: map!("TALLIES"),
            budgets: map!("BUDGETS"),
            sources: map!("SOURCES"),
            cpus: map!("CPU"),
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
        banks[idle as usize] = Pod(*settings);
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
        self.rules.set(bank, Pod::of(&*rules), 0).context("writing the new rules")?;
        self.switch_settings_for(&Settings { rules: bank, ..policy.settings }, confirm_within)
    }

    /// A bank of rules. Read as a batch of one, because aya would have several values of this size on the stack.
    pub(super) fn rules(&self, bank: u32) -> Result<Box<Rules>> {
        let read = bpf::read_batch(&self.rules, bank, 1).context("reading the rules in force")?;
        Ok(Box::new(read[0].0))
    }

    /// The buckets that the rules of a bank look at.
    fn buckets(&self, bank: u32, rules: &Rules) -> Result<Buckets> {
        let (v4, v6) = prefixes::in_use(&rules.search);
        Ok(Buckets {
            v4: bpf::read_batch(&self.prefixes4, bank * PREFIX_BUCKETS4, v4)
                .context("reading the IPv4 prefixes")?,
            v6: bpf::read_batch(&self.prefixes6, bank * PREFIX_BUCKETS6, v6)
                .context("reading the IPv6 prefixes")?,
        })
    }

    /// Writes a bank that is not in force. Buckets that no search will look at keep what they have.
    fn write_buckets(&mut self, bank: u32, buckets: &Buckets) -> Result<()> {
        bpf::write_batch(&mut self.prefixes4, bank * PREFIX_BUCKETS4, &buckets.v4)
            .context("writing the IPv4 prefixes")?;
        bpf::write_batch(&mut self.prefixes6, bank * PREFIX_BUCKETS6, &buckets.v6)
            .context("writing the IPv6 prefixes")
    }

    /// Buffer of addresses in force.
    fn address_buffer(&self) -> Result<u32> {
        Ok(u32::from(self.switch()? & SWITCH_ADDRESSES != 0))
    }

    /// Buckets in one buffer of each address table, fixed at load.
    pub fn address_buckets(&self) -> u32 {
        self.addresses4.len() / 2
    }

    /// The address table in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn addresses(&self) -> Result<AddressTable> {
        let (buffer, buckets) = (self.address_buffer()?, self.address_buckets());
        let buckets4 = bpf::read_batch(&self.addresses4, buffer * buckets, buckets)
            .context("reading the IPv4 addresses")?;
        let buckets6 = bpf::read_batch(&self.addresses6, buffer * buckets, buckets)
            .context("reading the IPv6 addresses")?;
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
        let (idle, buckets) = (self.address_buffer()? ^ 1, self.address_buckets());
        let buckets4: Vec<_> = table.buckets4().iter().copied().map(Pod).collect();
        let buckets6: Vec<_> = table.buckets6().iter().copied().map(Pod).collect();
        ensure!(
            buckets4.len() == buckets as usize && buckets6.len() == buckets as usize,
            "an address table of {} buckets for one of {buckets}",
            buckets4.len()
        );
        bpf::write_batch(&mut self.addresses4, idle * buckets, &buckets4)
            .context("writing the IPv4 addresses")?;
        bpf::write_batch(&mut self.addresses6, idle * buckets, &buckets6)
            .context("writing the IPv6 addresses")?;
        // The buffer in force is written as it is.
        let mut first = self.own_first.get(&0, 0).context("reading what is asked first about addresses")?;
        let of_idle = &mut first[(idle * SCOPE_SLOTS) as usize..][..SCOPE_SLOTS as usize];
        for (entry, new) in of_idle.iter_mut().zip(table.own_first()) {
            *entry = Pod(new);
        }
        self.own_first.set(0, first, 0).context("writing what is asked first about addresses")?;
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
        self.interfaces.set(0, entries.map(Pod), 0).context("writing the interface table")?;
        self.flip(0)
    }

    /// The VIP prefixes in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn vips(&self) -> Result<Vec<IpNet>> {
        Ok(self.policy()?.map(|policy| policy.vips()).unwrap_or_default())
    }
}
