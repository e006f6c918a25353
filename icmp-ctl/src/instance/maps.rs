//! The maps of one instance, read and written in the right order.
//!
//! Owns the two buffers of settings and addresses and which of them is active: a change is written to the idle one, published by one byte, and
//! only overwritten at the next change, after waiting until no CPU can still be reading it. `counters.rs` reads what the program counts;
//! `program.rs` (a fresh load) and `pins.rs` open the maps.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::programs::ProgramFd;
use icmp_common::abi::{
    AddressBucket4, AddressBucket6, Capture, CaptureCpu, Counter, Cpu, HeavyHitter, INTERFACE_ENTRIES,
    Interface, Line, OwnFirst, PREFIX_BUCKETS4, PREFIX_BUCKETS6, PeerBucket, PrefixBucket4, PrefixBucket6,
    RuleCounter, Rules, SCOPE_SLOTS, SETTINGS_PRESENT, SWITCH_ADDRESSES, SWITCH_AWAITS, SWITCH_BITS,
    SWITCH_CHANGE, SWITCH_ROLLBACK_AT, SWITCH_SETTINGS, Settings, Tap,
};
use icmp_common::budget::rule_bucket;
use icmp_common::tables::interface_position;
use nix::libc;

use crate::host::address_table::AddressTable;
use crate::instance::compiled::{Compiled, Vip, assign_slots};
use crate::instance::gates::Gates;
use crate::instance::prefixes::{self, Buckets};
use crate::instance::program::{self, Entry};
use crate::kernel::bpf;
use crate::kernel::clock::monotonic_ns;
use crate::kernel::membarrier::wait_for_readers;
use crate::kernel::pod::Pod;

/// Entries of both buffers of `OWN_FIRST`.
const OWN_FIRST: usize = 2 * SCOPE_SLOTS as usize;

/// Typed access to the maps of an instance.
pub struct InstanceMaps {
    pub(super) switch: Array<MapData, [u64; 2]>,
    pub(super) settings: Array<MapData, [Pod<Settings>; 2]>,
    interfaces: Array<MapData, [Pod<Interface>; INTERFACE_ENTRIES as usize]>,
    pub(super) own_first: Array<MapData, [Pod<OwnFirst>; OWN_FIRST]>,
    /// Which VIPs are healthy.
    pub gates: Gates,
    pub(super) addresses4: Array<MapData, Pod<AddressBucket4>>,
    pub(super) addresses6: Array<MapData, Pod<AddressBucket6>>,
    pub(super) rules: Array<MapData, Pod<Rules>>,
    prefixes4: Array<MapData, Pod<PrefixBucket4>>,
    prefixes6: Array<MapData, Pod<PrefixBucket6>>,
    pub(super) rule_counters: PerCpuArray<MapData, Pod<RuleCounter>>,
    pub(super) budgets: Array<MapData, u64>,
    pub(super) sources: Array<MapData, Pod<Line>>,
    pub(super) prefixes: Array<MapData, Pod<Line>>,
    pub(super) reputations: Array<MapData, Pod<Line>>,
    pub(super) last_served: Array<MapData, u64>,
    pub(super) path_mtu: Array<MapData, u64>,
    pub(super) cpus: PerCpuArray<MapData, Pod<Cpu>>,
    pub(super) heavy_hitters: PerCpuArray<MapData, Pod<HeavyHitter>>,
    pub(super) counters: PerCpuArray<MapData, Pod<Counter>>,
    capture: Array<MapData, Pod<Capture>>,
    events: Array<MapData, Pod<Capture>>,
    tap_buckets: Array<MapData, u64>,
    pub(super) tap_cpus: PerCpuArray<MapData, Pod<CaptureCpu>>,
    pub(super) peers: Array<MapData, Pod<PeerBucket>>,
    chain: ProgramArray<MapData>,
    chain_frags: ProgramArray<MapData>,
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
            gates: map!("GATES"),
            addresses4: map!("ADDRESSES4"),
            addresses6: map!("ADDRESSES6"),
            rules: map!("RULES"),
            prefixes4: map!("PREFIXES4"),
            prefixes6: map!("PREFIXES6"),
            rule_counters: map!("RULE_COUNTERS"),
            budgets: map!("BUDGETS"),
            sources: map!("SOURCES"),
            prefixes: map!("PREFIXES"),
            reputations: map!("REPUTATIONS"),
            last_served: map!("LAST_SERVED"),
            path_mtu: map!("PATH_MTU"),
            cpus: map!("CPU"),
            heavy_hitters: map!("HEAVY_HITTERS"),
            counters: map!("COUNTERS"),
            capture: map!("CAPTURE"),
            events: map!("EVENTS"),
            tap_buckets: map!("TAP_BUCKETS"),
            tap_cpus: map!("TAP_CPU"),
            peers: map!("PEERS"),
            chain: map!("CHAIN"),
            chain_frags: map!("CHAIN_FRAGS"),
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
        Ok(self.switch_word(SWITCH_BITS).context("reading which tables are active")? as u32)
    }

    /// Changes bits of the switch, all in its lowest byte, and counts that as another generation.
    fn publish_bits(&mut self, bits: u32) -> Result<()> {
        let switch = (self.switch()? ^ bits).wrapping_add(SWITCH_CHANGE) & 0xff;
        self.set_switch_word(SWITCH_BITS, u64::from(switch)).context("publishing the new tables")
    }

    /// When the program goes back to the settings that were confirmed last, in nanoseconds of CLOCK_MONOTONIC; `None` where those in force
    /// await no confirmation.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rollback_at(&self) -> Result<Option<u64>> {
        if self.switch()? & SWITCH_AWAITS == 0 {
            return Ok(None);
        }
        self.switch_word(SWITCH_ROLLBACK_AT).context("reading the time of the roll-back").map(Some)
    }

    /// How long settings that await confirmation have left; `None` where none do, be it because that is over.
    ///
    /// # Errors
    /// The map or the clock cannot be read.
    pub fn pending(&self) -> Result<Option<Duration>> {
        let Some(at) = self.rollback_at()? else { return Ok(None) };
        let left = at.saturating_sub(monotonic_ns()?);
        Ok((left > 0).then_some(Duration::from_nanos(left)))
    }

    /// Whether the program has gone back by itself, which nobody has made lasting so far.
    fn is_over(&self) -> Result<bool> {
        Ok(self.rollback_at()?.is_some() && self.pending()?.is_none())
    }

    /// Makes lasting what the program has done by itself: settings that nobody confirmed in time are no longer in force. True where
    /// that was so.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn finish_rollback(&mut self) -> Result<bool> {
        Ok(self.is_over()? && self.roll_back()?)
    }

    /// Goes back to the settings that were confirmed last; false where those in force await no confirmation.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn roll_back(&mut self) -> Result<bool> {
        let pending = self.rollback_at()?.is_some();
        if pending {
            self.publish_bits(SWITCH_SETTINGS | SWITCH_AWAITS)?;
        }
        Ok(pending)
    }

    /// Keeps the settings that await confirmation; false where there are none.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn confirm(&mut self) -> Result<bool> {
        let pending = self.rollback_at()?.is_some();
        if pending {
            self.publish_bits(SWITCH_AWAITS)?;
        }
        Ok(pending)
    }

    /// Which buffer of the settings is active.
    pub(super) fn active_settings(&self) -> Result<u32> {
        Ok(self.switch()? & SWITCH_SETTINGS ^ if self.is_over()? { SWITCH_SETTINGS } else { 0 })
    }

    /// The settings in force; `None` where none have been set.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>> {
        self.settings_in(self.active_settings()?)
    }

    fn settings_in(&self, buffer: u32) -> Result<Option<Settings>> {
        let buffers = self.settings.get(&0, 0).context("reading the settings in force")?;
        let settings = buffers[buffer as usize].0;
        Ok((settings.flags & SETTINGS_PRESENT != 0).then_some(settings))
    }

    /// The whole policy in force; `None` where none has been set.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn policy(&self) -> Result<Option<Compiled>> {
        self.settings()?.map(|settings| self.policy_of(settings)).transpose()
    }

    /// The whole policy that was confirmed last, while another one awaits confirmation; `None` where none does.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn confirmed_policy(&self) -> Result<Option<Compiled>> {
        if self.rollback_at()?.is_none() {
            return Ok(None);
        }
        self.settings_in(self.switch()? & SWITCH_SETTINGS ^ SWITCH_SETTINGS)?
            .map(|settings| self.policy_of(settings))
            .transpose()
    }

    fn policy_of(&self, settings: Settings) -> Result<Compiled> {
        let rules = self.rules(settings.rules)?;
        let buckets = self.buckets(settings.rules, &rules)?;
        Ok(Compiled { settings, prefixes: buckets.prefixes(&rules), rules, buckets })
    }

    /// True where this is the whole policy in force, as it was read; of `None`, where none has been set.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn is_in_force(&self, policy: Option<&Compiled>) -> Result<bool> {
        let settings = self.settings()?;
        let (Some(settings), Some(policy)) = (settings, policy) else {
            return Ok(settings.is_none() && policy.is_none());
        };
        if settings != policy.settings {
            return Ok(false);
        }
        let rules = self.rules(settings.rules)?;
        Ok(rules == policy.rules && self.buckets(settings.rules, &rules)? == policy.buckets)
    }

    /// Puts a whole policy in force at one instant: settings, rules and prefixes. With `rollback_at` (nanoseconds of CLOCK_MONOTONIC) the
    /// program goes back at that time to the policy that was confirmed last, unless [`Self::confirm`] was called.
    ///
    /// A policy that awaits confirmation is replaced; for that the one that was confirmed last is in force for a moment, because only two
    /// can be held, and that one is to be kept whole.
    ///
    /// # Errors
    /// CPUs may still be reading what is to be written over, a map cannot be read or written, or the time of the roll-back is over. What was in
    /// force is; where that awaited confirmation and something of it was written over, it is what was confirmed last, and the error says so.
    pub fn publish(&mut self, policy: &Compiled, rollback_at: Option<u64>) -> Result<()> {
        self.finish_rollback()?;
        let awaits = self.rollback_at()?.is_some();
        let pending = self.settings()?.filter(|_| awaits);
        let pending_rules = pending.map(|pending| self.rules(pending.rules)).transpose()?;
        let replaces = self.roll_back()?;
        let prepared = wait_for_readers().and_then(|()| self.prepare(policy, pending_rules.as_deref()));
        let published = match prepared {
            Ok((rules, buffer)) => self.write_over(policy, rules.as_deref(), buffer, rollback_at),
            // Nothing of what awaited confirmation was written over so far.
            Err(error) if replaces => match self.publish_bits(SWITCH_SETTINGS | SWITCH_AWAITS) {
                Ok(()) => return Err(error),
                Err(_) => Err(error),
            },
            Err(error) => Err(error),
        };
        if replaces {
            published.context(
                "the change failed half-way: what was confirmed last is in force, and what awaited confirmation is gone",
            )
        } else {
            published
        }
    }

    /// Gives the rules of a policy that is about to be written their slots; the rules where they are to be written, and to which buffer. Rules
    /// and prefixes that are those in force are not: a buffer may be that of both settings.
    fn prepare(&mut self, policy: &Compiled, pending: Option<&Rules>) -> Result<(Option<Box<Rules>>, u32)> {
        let old = self.settings()?;
        let old_rules = old.map(|old| self.rules(old.rules)).transpose()?;
        let mut rules = policy.rules.clone();
        for slot in assign_slots(&mut rules, old_rules.as_deref().into_iter().chain(pending)) {
            self.clear_counter(slot)?;
            self.budgets.set(rule_bucket(slot), 0, 0).context("filling the bucket of a new rule")?;
        }
        let shared = old.zip(old_rules).filter(|(_, old_rules)| *old_rules == rules);
        match shared {
            Some((old, old_rules)) if self.buckets(old.rules, &old_rules)? == policy.buckets => {
                Ok((None, old.rules))
            }
            _ => Ok((Some(rules), old.map_or(0, |old| old.rules ^ 1))),
        }
    }

    /// Writes a policy over the one that is not in force, its rules where there are any to be written, and switches to it.
    fn write_over(
        &mut self,
        policy: &Compiled,
        rules: Option<&Rules>,
        buffer: u32,
        rollback_at: Option<u64>,
    ) -> Result<()> {
        if let Some(rules) = rules {
            self.write_buckets(buffer, &policy.buckets)?;
            self.gates.fill(buffer, rules)?;
            self.rules.set(buffer, Pod::of(rules), 0).context("writing the new rules")?;
        }
        let idle = self.switch()? & SWITCH_SETTINGS ^ SWITCH_SETTINGS;
        // The active buffer is written as it is.
        let mut buffers = self.settings.get(&0, 0).context("reading the settings in force")?;
        buffers[idle as usize] = Pod(Settings { rules: buffer, ..policy.settings });
        self.settings.set(0, buffers, 0).context("writing the new settings")?;
        let Some(at) = rollback_at else { return self.publish_bits(SWITCH_SETTINGS) };
        ensure!(
            at > monotonic_ns()?,
            "the time for a confirmation was over before the change could be put in force; what was confirmed last is in force, and nothing of \
             the change"
        );
        self.set_switch_word(SWITCH_ROLLBACK_AT, at).context("writing the time of the roll-back")?;
        self.publish_bits(SWITCH_SETTINGS | SWITCH_AWAITS)
    }

    /// A buffer of rules. Read as a batch of one, because aya would have several values of this size on the stack.
    pub(super) fn rules(&self, buffer: u32) -> Result<Box<Rules>> {
        let read = bpf::read_batch(&self.rules, buffer, 1).context("reading the rules in force")?;
        Ok(Box::new(read[0].0))
    }

    /// The buckets that the rules of a buffer look at.
    fn buckets(&self, buffer: u32, rules: &Rules) -> Result<Buckets> {
        let (v4, v6) = prefixes::in_use(&rules.search);
        Ok(Buckets {
            v4: bpf::read_batch(&self.prefixes4, buffer * PREFIX_BUCKETS4, v4)
                .context("reading the IPv4 prefixes")?,
            v6: bpf::read_batch(&self.prefixes6, buffer * PREFIX_BUCKETS6, v6)
                .context("reading the IPv6 prefixes")?,
        })
    }

    /// Writes a buffer that is not active. Buckets that no search will look at keep what they have.
    pub(super) fn write_buckets(&mut self, buffer: u32, buckets: &Buckets) -> Result<()> {
        bpf::write_batch(&mut self.prefixes4, buffer * PREFIX_BUCKETS4, &buckets.v4)
            .context("writing the IPv4 prefixes")?;
        bpf::write_batch(&mut self.prefixes6, buffer * PREFIX_BUCKETS6, &buckets.v6)
            .context("writing the IPv6 prefixes")
    }

    /// Which buffer of the address tables is active.
    pub(super) fn active_addresses(&self) -> Result<u32> {
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
        let (active, buckets) = (self.active_addresses()?, self.address_buckets());
        let buckets4 = bpf::read_batch(&self.addresses4, active * buckets, buckets)
            .context("reading the IPv4 addresses")?;
        let buckets6 = bpf::read_batch(&self.addresses6, active * buckets, buckets)
            .context("reading the IPv6 addresses")?;
        Ok(AddressTable::from_buckets(
            buckets4.iter().map(|bucket| bucket.0).collect(),
            buckets6.iter().map(|bucket| bucket.0).collect(),
        ))
    }

    /// Puts a new address table in force at one instant.
    ///
    /// # Errors
    /// CPUs may still be reading what is to be written over, or a map cannot be written; the old table is still in force.
    pub fn publish_addresses(&mut self, table: &AddressTable) -> Result<()> {
        let (idle, buckets) = (self.active_addresses()? ^ 1, self.address_buckets());
        let buckets4: Vec<_> = table.buckets4().iter().copied().map(Pod).collect();
        let buckets6: Vec<_> = table.buckets6().iter().copied().map(Pod).collect();
        ensure!(
            buckets4.len() == buckets as usize && buckets6.len() == buckets as usize,
            "an address table of {} buckets for one of {buckets}",
            buckets4.len()
        );
        wait_for_readers()?;
        bpf::write_batch(&mut self.addresses4, idle * buckets, &buckets4)
            .context("writing the IPv4 addresses")?;
        bpf::write_batch(&mut self.addresses6, idle * buckets, &buckets6)
            .context("writing the IPv6 addresses")?;
        // The active buffer is written as it is.
        let mut first = self.own_first.get(&0, 0).context("reading the addresses that are compared first")?;
        let of_idle = &mut first[(idle * SCOPE_SLOTS) as usize..][..SCOPE_SLOTS as usize];
        for (entry, new) in of_idle.iter_mut().zip(table.own_first()) {
            *entry = Pod(new);
        }
        self.own_first.set(0, first, 0).context("writing the addresses that are compared first")?;
        self.publish_bits(SWITCH_ADDRESSES)
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

    /// Has the table hold these entries and no others, of several with one index the first. Those that find no place are left out, and
    /// returned.
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn set_interfaces(&mut self, wanted: &[Interface]) -> Result<Vec<Interface>> {
        let before = self.interfaces()?;
        let mut entries = before;
        let is_wanted = |entry: &Interface| wanted.iter().any(|wanted| wanted.ifindex == entry.ifindex);
        entries.iter_mut().filter(|entry| !is_wanted(entry)).for_each(|entry| *entry = Interface::default());
        let mut left_out = Vec::new();
        // From the last one on, so that the first is what stays.
        for interface in wanted.iter().rev() {
            match interface_position(&entries, interface.ifindex) {
                Some(index) => entries[index as usize] = *interface,
                None => left_out.push(*interface),
            }
        }
        if entries != before {
            self.write_interfaces(entries)?;
        }
        Ok(left_out)
    }

    /// Removes an interface's entry, if it has one, and those of its ports.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn remove_interface(&mut self, ifindex: u32) -> Result<()> {
        let mut entries = self.interfaces()?;
        let is_its = |entry: &&Interface| entry.is_attached() && entry.ifindex == ifindex;
        let Some(slot) = entries.iter().find(is_its).map(|entry| entry.slot) else { return Ok(()) };
        entries.iter_mut().filter(|entry| entry.slot == slot).for_each(|entry| *entry = Interface::default());
        self.write_interfaces(entries)
    }

    /// Writes the interface table, in which what does not change keeps its place, and has nothing go by the old one.
    fn write_interfaces(&mut self, entries: [Interface; INTERFACE_ENTRIES as usize]) -> Result<()> {
        self.interfaces.set(0, entries.map(Pod), 0).context("writing the interface table")?;
        self.publish_bits(0)
    }

    /// What is captured for a tap.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn capture(&self, tap: Tap) -> Result<Capture> {
        let told = match tap {
            Tap::Capture => &self.capture,
            Tap::Events => &self.events,
        };
        Ok(told.get(&0, 0).context("reading the settings of a capture")?.0)
    }

    /// Has a capture begin with all that may come at once.
    ///
    /// # Errors
    /// The map cannot be written.
    pub(super) fn fill_tap_bucket(&mut self, tap: Tap) -> Result<()> {
        self.tap_buckets.set(tap as u32, 0, 0).context("filling the bucket of captures")
    }

    /// Has this be captured for a tap from now on.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_capture(&mut self, tap: Tap, capture: Capture) -> Result<()> {
        let told = match tap {
            Tap::Capture => &mut self.capture,
            Tap::Events => &mut self.events,
        };
        told.set(0, Pod(capture), 0).context("writing the settings of a capture")
    }

    /// Has what passes on an interface go to this program, where it is an entry point for that which is attached there.
    ///
    /// # Errors
    /// The program is of another kind than the entry point, or the map cannot be written.
    pub(super) fn set_chain(&mut self, entry: Entry, slot: u32, program: &ProgramFd) -> Result<()> {
        self.chain_of(entry).set(slot, program, 0).context("putting the program behind this one")
    }

    /// Has what passes on an interface go to the kernel's stack.
    ///
    /// # Errors
    /// The map cannot be written.
    pub(super) fn clear_chain(&mut self, entry: Entry, slot: u32) -> Result<()> {
        match self.chain_of(entry).clear_index(&slot) {
            // Nothing was there.
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            cleared => cleared.context("taking away the program behind this one"),
        }
    }

    /// The kernel lets only programs of one kind into an array.
    fn chain_of(&mut self, entry: Entry) -> &mut ProgramArray<MapData> {
        match entry {
            Entry::Xdp | Entry::Chain | Entry::Extension => &mut self.chain,
            Entry::XdpFrags | Entry::ChainFrags => &mut self.chain_frags,
        }
    }

    /// The VIP prefixes in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn vips(&self) -> Result<Vec<Vip>> {
        Ok(self.policy()?.map(|policy| policy.vips()).unwrap_or_default())
    }
}
