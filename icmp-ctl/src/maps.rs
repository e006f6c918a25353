//! The maps of one instance: what may be read and written, and in which order.
//!
//! Owns the banks and the switch between them: a change is written to the bank that is not in force, made visible by one byte, and the
//! bank that was in force stays untouched until no CPU can still be reading it. Where the maps come from (a fresh load, pins) is
//! `program.rs`'s and `instance.rs`'s.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use icmp_common::abi::{
    ADDRESS_BUCKETS, Bucket4, Bucket6, Counter, INTERFACE_ENTRIES, Interface, Leases, SLOTS,
    SWITCH_ADDRESSES, SWITCH_SETTINGS, Settings, counter_index,
};
use icmp_common::reason::REASONS;
use icmp_common::talkers::{TALKERS, Talker};
use icmp_common::types::COUNTER_ROWS;
use ipnet::IpNet;

use crate::abi::Plain;
use crate::addresses::{AddressTable, interface_position};
use crate::membarrier::wait_for_readers;

/// Typed access to the maps of an instance.
pub struct InstanceMaps {
    switch: Array<MapData, u32>,
    settings: Array<MapData, Plain<Settings>>,
    interfaces: Array<MapData, Plain<Interface>>,
    addresses4: Array<MapData, Plain<Bucket4>>,
    addresses6: Array<MapData, Plain<Bucket6>>,
    vips4: LpmTrie<MapData, [u8; 4], u32>,
    vips6: LpmTrie<MapData, [u8; 16], u32>,
    cells: Array<MapData, u64>,
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
            object.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
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
            addresses4: map!("ADDRESSES4"),
            addresses6: map!("ADDRESSES6"),
            vips4: map!("VIPS4"),
            vips6: map!("VIPS6"),
            cells: map!("CELLS"),
            leases: map!("LEASES"),
            talkers: map!("TALKERS"),
            counters: map!("COUNTERS"),
        })
    }

    fn switch(&self) -> Result<u32> {
        self.switch.get(&0, 0).context("reading which bank is in force")
    }

    /// Makes the other bank of one kind the one in force, then waits until nobody reads the old one.
    fn flip(&mut self, which: u32) -> Result<()> {
        let switch = self.switch()? ^ which;
        self.switch.set(0, switch, 0).context("switching to the new bank")?;
        wait_for_readers()
    }

    /// The settings in force; `None` where none have been set.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let settings = self
            .settings
            .get(&(self.switch()? & SWITCH_SETTINGS), 0)
            .context("reading the settings in force")?
            .0;
        Ok((settings.flags & icmp_common::abi::SETTINGS_PRESENT != 0).then_some(settings))
    }

    /// Puts new settings in force at one instant.
    ///
    /// # Errors
    /// A map cannot be written; the old settings are still in force.
    pub fn switch_settings(&mut self, settings: &Settings) -> Result<()> {
        let idle = self.switch()? & SWITCH_SETTINGS ^ SWITCH_SETTINGS;
        self.settings.set(idle, Plain(*settings), 0).context("writing the new settings")?;
        self.flip(SWITCH_SETTINGS)
    }

    /// First bucket of the bank of addresses that is in force, and of the other one.
    fn address_banks(&self) -> Result<(u32, u32)> {
        let second = self.switch()? & SWITCH_ADDRESSES != 0;
        Ok(if second { (ADDRESS_BUCKETS, 0) } else { (0, ADDRESS_BUCKETS) })
    }

    /// The address table in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn addresses(&self) -> Result<AddressTable> {
        let (current, _) = self.address_banks()?;
        let mut buckets4 = Vec::with_capacity(ADDRESS_BUCKETS as usize);
        let mut buckets6 = Vec::with_capacity(ADDRESS_BUCKETS as usize);
        for index in current..current + ADDRESS_BUCKETS {
            buckets4.push(self.addresses4.get(&index, 0).context("reading the IPv4 addresses")?.0);
            buckets6.push(self.addresses6.get(&index, 0).context("reading the IPv6 addresses")?.0);
        }
        Ok(AddressTable::from_buckets(buckets4, buckets6))
    }

    /// Puts a new address table in force at one instant.
    ///
    /// # Errors
    /// A map cannot be written; the old table is still in force.
    pub fn switch_addresses(&mut self, table: &AddressTable) -> Result<()> {
        let (_, idle) = self.address_banks()?;
        for (index, (bucket4, bucket6)) in (idle..).zip(table.buckets4().iter().zip(table.buckets6())) {
            self.addresses4.set(index, Plain(*bucket4), 0).context("writing the IPv4 addresses")?;
            self.addresses6.set(index, Plain(*bucket6), 0).context("writing the IPv6 addresses")?;
        }
        self.flip(SWITCH_ADDRESSES)
    }

    /// The interface table.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn interfaces(&self) -> Result<[Interface; INTERFACE_ENTRIES as usize]> {
        let mut entries = [Interface::default(); INTERFACE_ENTRIES as usize];
        for (index, entry) in (0..).zip(&mut entries) {
            *entry = self.interfaces.get(&index, 0).context("reading the interface table")?.0;
        }
        Ok(entries)
    }

    /// Enters an interface, or changes its entry.
    ///
    /// # Errors
    /// All places of its index are taken, or the map cannot be written.
    pub fn set_interface(&mut self, interface: Interface) -> Result<()> {
        let index = interface_position(&self.interfaces()?, interface.ifindex).with_context(|| {
            format!("the interface table has no place left for index {}", interface.ifindex)
        })?;
        self.interfaces.set(index, Plain(interface), 0).context("writing the interface table")
    }

    /// Removes an interface's entry, if it has one.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn remove_interface(&mut self, ifindex: u32) -> Result<()> {
        let entries = self.interfaces()?;
        match interface_position(&entries, ifindex) {
            Some(index) if entries[index as usize].ifindex == ifindex => self
                .interfaces
                .set(index, Plain(Interface::default()), 0)
                .context("writing the interface table"),
            _ => Ok(()),
        }
    }

    /// Makes the VIP prefixes those given.
    ///
    /// # Errors
    /// A map is full or cannot be written; the prefixes may then be a mix, each of them one of the old or the new.
    pub fn set_vips(&mut self, vips: &[IpNet]) -> Result<()> {
        let old4: Vec<_> = self.vips4.keys().collect::<Result<_, _>>().context("reading the VIP prefixes")?;
        let old6: Vec<_> = self.vips6.keys().collect::<Result<_, _>>().context("reading the VIP prefixes")?;
        let mut new4 = Vec::new();
        let mut new6 = Vec::new();
        for vip in vips {
            match vip.trunc() {
                IpNet::V4(net) => new4.push((u32::from(net.prefix_len()), net.addr().octets())),
                IpNet::V6(net) => new6.push((u32::from(net.prefix_len()), net.addr().octets())),
            }
        }
        for (prefix_len, octets) in &new4 {
            self.vips4.insert(&Key::new(*prefix_len, *octets), 1, 0).context("writing the VIP prefixes")?;
        }
        for (prefix_len, octets) in &new6 {
            self.vips6.insert(&Key::new(*prefix_len, *octets), 1, 0).context("writing the VIP prefixes")?;
        }
        for key in old4.iter().filter(|key| !new4.contains(&(key.prefix_len(), key.data()))) {
            self.vips4.remove(key).context("removing old VIP prefixes")?;
        }
        for key in old6.iter().filter(|key| !new6.contains(&(key.prefix_len(), key.data()))) {
            self.vips6.remove(key).context("removing old VIP prefixes")?;
        }
        Ok(())
    }

    /// The VIP prefixes in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn vips(&self) -> Result<Vec<IpNet>> {
        let mut vips = Vec::new();
        for key in self.vips4.keys() {
            let key = key.context("reading the VIP prefixes")?;
            vips.push(IpNet::new(key.data().into(), key.prefix_len() as u8)?);
        }
        for key in self.vips6.keys() {
            let key = key.context("reading the VIP prefixes")?;
            vips.push(IpNet::new(key.data().into(), key.prefix_len() as u8)?);
        }
        Ok(vips)
    }

    /// Cells of the limiter, over all rows and budgets.
    ///
    /// # Errors
    /// The map cannot be asked.
    pub fn cells(&self) -> u32 {
        self.cells.len()
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
                let sum = per_cpu.iter().fold(Counter::default(), |sum, cpu| Counter {
                    packets: sum.packets + cpu.0.packets,
                    bytes: sum.bytes + cpu.0.bytes,
                });
                if sum.packets != 0 {
                    counters.insert((row as u8, reason as u8), sum);
                }
            }
        }
        Ok(counters)
    }

    /// Sets the counters of a slot to zero, for the interface that gets it next.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn clear_counters(&mut self, slot: u32) -> Result<()> {
        for ((row, reason), _) in self.counters_of(slot)? {
            let index = counter_index(slot, u32::from(row), u32::from(reason));
            let cpus = aya::util::nr_cpus()
                .map_err(|(path, error)| anyhow!("counting the CPUs in {path}: {error}"))?;
            let zeroes = PerCpuValues::try_from(vec![Plain(Counter::default()); cpus])
                .context("a value for each CPU")?;
            self.counters.set(index, zeroes, 0).context("clearing the counters")?;
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
