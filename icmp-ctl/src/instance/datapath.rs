//! A loaded program that is attached to nothing: BPF_PROG_TEST_RUN for `explain`, tests and the bench.
//!
//! Owns loading a private copy of the object, filling its maps and running frames through it. Nothing is pinned, and nothing survives the
//! process.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use icmp_common::abi::{Counter, Interface};

use crate::host::address_table::AddressTable;
use crate::instance::compiled::Compiled;
use crate::instance::maps::InstanceMaps;
use crate::instance::program::{self, Entry, LoadOptions};

/// A private copy of the program and its maps.
pub struct Datapath {
    object: Ebpf,
    maps: InstanceMaps,
}

/// What the program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The XDP action: 1 drop, 2 pass, 3 back out of the same interface.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

impl Datapath {
    /// Loads these entry points of the object; the maps start empty, so that everything is passed.
    ///
    /// # Errors
    /// Not root, or the kernel refuses the object.
    pub fn load(options: &LoadOptions, entries: &[Entry]) -> Result<Self> {
        let mut object = program::load(options, entries)?;
        let maps = InstanceMaps::take(&mut object)?;
        Ok(Self { object, maps })
    }

    /// The maps, to be filled and read.
    pub fn maps(&mut self) -> &mut InstanceMaps {
        &mut self.maps
    }

    /// Puts a policy, addresses and one interface in force.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn configure(
        &mut self,
        policy: &Compiled,
        addresses: &AddressTable,
        interface: Interface,
    ) -> Result<()> {
        self.maps.set_interface(interface)?;
        self.maps.publish_addresses(addresses)?;
        self.maps.publish(policy, None)
    }

    /// Runs one frame through an entry point; it comes in on the loopback interface (index 1) of the caller's namespace.
    ///
    /// # Errors
    /// The kernel refuses the run, for example for a frame shorter than an Ethernet header.
    pub fn run(&self, entry: Entry, frame: &[u8]) -> Result<TestResult> {
        let mut out = vec![0; frame.len() + 256];
        let result = self
            .program(entry)?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .with_context(|| {
                format!("running a frame of {} bytes through {}", frame.len(), entry.program())
            })?;
        out.truncate(result.data_size_out as usize);
        Ok(TestResult { action: result.return_value, frame: out })
    }

    /// What the kernel calls the instructions of an entry point: programs with one tag do the same.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn tag(&self, entry: Entry) -> Result<u64> {
        let info = self.program(entry)?.info();
        Ok(info.with_context(|| format!("asking about the program {}", entry.program()))?.tag())
    }

    fn program(&self, entry: Entry) -> Result<&Xdp> {
        self.object
            .program(entry.program())
            .with_context(|| format!("the eBPF object has no program {}", entry.program()))?
            .try_into()
            .with_context(|| format!("{} is no XDP program", entry.program()))
    }

    /// What was counted, by slot, row and reason, over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<(u32, u8, u8), Counter>> {
        self.maps.counters()
    }
}
