//! A copy of everything that decides about a frame: of an instance's maps, or of a configuration.
//!
//! Owns making it, and filling tables in host memory or the maps of a private program with it. It does not copy counters, because they decide
//! nothing. In the copy the first buffers are active.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, MapData, PerCpuValues};
use icmp_common::abi::{Cpu, GATES, Interface, Line, OwnFirst, SCOPE_SLOTS, SWITCH_SETTINGS, Settings};
use icmp_common::budget::BUCKETS;
use icmp_common::host_tables::{HostTables, Memory};
use icmp_common::known_sources::LAST_SERVED_ENTRIES;

use crate::host::address_table::AddressTable;
use crate::instance::compiled::{Compiled, assign_slots};
use crate::instance::host_tables::layouts;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::instance::program::LoadOptions;
use crate::kernel::bpf::{read_batch, write_batch};
use crate::kernel::pod::Pod;

/// Lines that are written at once: enough that the calls cost nothing, and a few megabytes in memory a second time.
const AT_ONCE: usize = 1 << 16;

/// What decides about a frame.
pub struct Snapshot {
    /// The policy, each of its rules with its slot.
    pub policy: Compiled,
    /// The address table.
    pub addresses: AddressTable,
    /// What is remembered of earlier frames, but for `cpu`: see `cpus`.
    pub memory: Memory,
    /// What belongs to each CPU.
    pub cpus: Vec<Cpu>,
    /// Sizes and secret.
    pub options: LoadOptions,
    own_first: Vec<OwnFirst>,
    gates: [u64; GATES],
}

impl Snapshot {
    /// What an instance was loaded with, as in its copy.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn options_of(view: &View) -> Result<LoadOptions> {
        LoadOptions::of(&view.directory)
    }

    /// Copies what is in force in an instance; `None` where it has no policy.
    ///
    /// # Errors
    /// A map cannot be read, or what is in force changes all the time.
    pub fn of(view: &View) -> Result<Option<Self>> {
        let options = Self::options_of(view)?;
        view.read(|maps| Self::read(maps, options))
    }

    fn read(maps: &InstanceMaps, options: LoadOptions) -> Result<Option<Self>> {
        let Some(mut policy) = maps.policy()? else { return Ok(None) };
        let gates = maps.gates.words(policy.settings.rules)?;
        policy.settings.rules = 0;
        let own_first = maps.own_first.get(&0, 0).context("reading the addresses that are compared first")?;
        let active = (maps.active_addresses()? * SCOPE_SLOTS) as usize;
        let lines = |table: &Array<MapData, Pod<Line>>| -> Result<Arc<[Line]>> {
            let lines = read_batch(table, 0, table.len()).context("reading the limiter's tables")?;
            Ok(lines.into_iter().map(|line| line.0).collect())
        };
        let memory = Memory {
            budgets: maps.limit_buckets()?,
            sources: lines(&maps.sources)?,
            prefixes: lines(&maps.prefixes)?,
            reputations: lines(&maps.reputations)?,
            last_served: read_batch(&maps.last_served, 0, LAST_SERVED_ENTRIES)
                .context("reading when sources were served last")?,
            path_mtu: maps.path_mtu.get(&0, 0).context("reading the path MTU")?,
            cpu: Cpu::default(),
        };
        // What a CPU's tokens belong to begins with the switch, which is 0 in the copy.
        let switch = maps.switch()? & !SWITCH_SETTINGS | maps.active_settings()?;
        let mut cpus = maps.cpus()?;
        cpus.iter_mut().for_each(|cpu| cpu.batches.generation ^= u64::from(switch));
        Ok(Some(Self {
            policy,
            addresses: maps.addresses()?,
            memory,
            cpus,
            options,
            own_first: own_first.iter().skip(active).take(SCOPE_SLOTS as usize).map(|own| own.0).collect(),
            gates,
        }))
    }

    /// What would be in force where nothing was before: every bucket is full, and nobody is known. VIPs with a check are healthy.
    #[must_use]
    pub fn fresh(mut policy: Compiled, addresses: AddressTable, options: LoadOptions) -> Self {
        assign_slots(&mut policy.rules, []);
        let options = LoadOptions { address_buckets: addresses.buckets4().len() as u32, ..options };
        let lines = |number: u32| std::iter::repeat_n(Line::default(), number as usize).collect();
        let memory = Memory {
            budgets: vec![0; BUCKETS as usize],
            sources: lines(options.lines),
            prefixes: lines(options.lines / 2),
            reputations: lines(options.lines / 2),
            last_served: vec![0; LAST_SERVED_ENTRIES as usize],
            ..Memory::default()
        };
        let own_first = addresses.own_first();
        Self { policy, addresses, memory, cpus: Vec::new(), options, own_first, gates: [0; GATES] }
    }

    /// What is remembered as a CPU meets it.
    #[must_use]
    pub fn memory_of(&self, cpu: usize) -> Memory {
        Memory { cpu: self.cpus.get(cpu).copied().unwrap_or_default(), ..self.memory.clone() }
    }

    /// Tables in host memory with one interface, which remember this.
    #[must_use]
    pub fn host_tables(&self, interface: Interface, memory: &Memory) -> HostTables {
        let rules = self.policy.rules.clone();
        let layouts = layouts(&self.policy, rules, &self.addresses, self.own_first.clone(), &self.options);
        let mut tables = HostTables::new(layouts);
        self.gates.iter().enumerate().for_each(|(gate, word)| tables.set_gate(gate, *word));
        tables.add_interface(interface);
        tables.remember(memory);
        tables
    }

    /// Fills the maps of a private program with it, whatever they had, and with one interface. The program was loaded with `options`.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn fill(&self, maps: &mut InstanceMaps, interface: Interface) -> Result<()> {
        let filling = "filling the maps of a private copy of the program";
        let Self { policy, addresses, memory, own_first, .. } = self;
        let mut settings = maps.settings.get(&0, 0).context(filling)?;
        settings[0] = Pod(Settings { rules: 0, ..policy.settings });
        maps.settings.set(0, settings, 0).context(filling)?;
        maps.rules.set(0, Pod::of(&*policy.rules), 0).context(filling)?;
        maps.write_buckets(0, &policy.buckets)?;
        maps.gates.set_words(&self.gates)?;
        let buckets4: Vec<_> = addresses.buckets4().iter().copied().map(Pod).collect();
        let buckets6: Vec<_> = addresses.buckets6().iter().copied().map(Pod).collect();
        write_batch(&mut maps.addresses4, 0, &buckets4).context(filling)?;
        write_batch(&mut maps.addresses6, 0, &buckets6).context(filling)?;
        let mut first = maps.own_first.get(&0, 0).context(filling)?;
        first.iter_mut().zip(own_first).for_each(|(entry, own)| *entry = Pod(*own));
        maps.own_first.set(0, first, 0).context(filling)?;
        write_batch(&mut maps.budgets, 0, &memory.budgets).context(filling)?;
        for (map, lines) in [
            (&mut maps.sources, &memory.sources),
            (&mut maps.prefixes, &memory.prefixes),
            (&mut maps.reputations, &memory.reputations),
        ] {
            for (number, chunk) in (0..).step_by(AT_ONCE).zip(lines.chunks(AT_ONCE)) {
                let chunk: Vec<_> = chunk.iter().copied().map(Pod).collect();
                write_batch(map, number, &chunk).context(filling)?;
            }
        }
        write_batch(&mut maps.last_served, 0, &memory.last_served).context(filling)?;
        maps.path_mtu.set(0, memory.path_mtu, 0).context(filling)?;
        let number =
            aya::util::nr_cpus().map_err(|(path, error)| anyhow!("counting the CPUs in {path}: {error}"))?;
        let cpus: Vec<_> =
            (0..number).map(|cpu| Pod(self.cpus.get(cpu).copied().unwrap_or_default())).collect();
        maps.cpus
            .set(0, PerCpuValues::try_from(cpus).context("a value for each CPU")?, 0)
            .context(filling)?;
        maps.set_interfaces(&[interface])?;
        maps.clear_counters(interface.slot)?;
        maps.switch.set(0, [0; 2], 0).context(filling)
    }
}
