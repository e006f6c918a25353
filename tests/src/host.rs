//! Owns the host of the vectors as the packet path sees it: its addresses, its interface and its settings, filled alike into the
//! kernel's maps and into the stand-in for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use icmp_common::abi::{AddressKind, Counter, Interface, Scope, Settings};
use icmp_common::frame::SliceFrame;
use icmp_common::pipeline::{self, Outcome};
use icmp_common::reason::Verdict;
use icmp_ctl::addresses::{AddressTable, OwnAddress};
use icmp_ctl::config::Config;
use icmp_ctl::datapath::Datapath;
use icmp_ctl::maps::InstanceMaps;
use icmp_ctl::program::{Entry, LoadOptions};
use icmp_ctl::replay::HostTables;
use icmp_ctl::settings::{HostDefaults, Tick, compile};
use ipnet::IpNet;

use crate::netns::{HOST_IPV4, HOST_IPV6, HOST_MAC};

/// The interface that frames of `BPF_PROG_TEST_RUN` come in on: loopback.
const IFINDEX: u32 = 1;
/// Its slot in the counters.
const SLOT: u32 = 1;
/// XDP actions.
const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
const XDP_PASS: u32 = 2;
/// See [`XDP_DROP`].
const XDP_TX: u32 = 3;

/// What is counted, by slot, row and reason; entries of zero are left out.
pub type Counters = BTreeMap<(u32, u8, u8), (u64, u64)>;

/// The packet path in the kernel.
pub struct InKernel {
    datapath: Datapath,
}

/// The packet path in this process.
pub struct OnHost {
    tables: HostTables,
}

/// One host, twice; on each of `vlans` it owns the first address of each family.
///
/// # Panics
/// If the configuration is none, or the kernel refuses the program.
#[must_use]
pub fn both(config: &str, vlans: &[u16]) -> (InKernel, OnHost) {
    let config = Config::parse(config, "test").expect("a configuration");
    let options = LoadOptions::new(config.limits.memory.cells_per_row()).expect("random numbers");
    let tick = Tick::of_this_kernel().expect("a clock");
    let settings = compile(&config, tick, HostDefaults { ttl: 64, hop_limit: 64 }, 1)
        .expect("a configuration that works");
    let addresses = addresses(vlans);
    let vips = &config.responder.vips;
    (in_kernel(&options, &settings, &addresses, vips), on_host(&options, settings, addresses, vips))
}

fn in_kernel(
    options: &LoadOptions,
    settings: &Settings,
    addresses: &AddressTable,
    vips: &[IpNet],
) -> InKernel {
    let mut datapath = Datapath::load(options).unwrap_or_else(|e| panic!("{e:#}"));
    datapath.configure(settings, addresses, interface()).unwrap_or_else(|e| panic!("{e:#}"));
    datapath.maps().set_vips(vips).unwrap_or_else(|e| panic!("{e:#}"));
    InKernel { datapath }
}

fn on_host(options: &LoadOptions, settings: Settings, addresses: AddressTable, vips: &[IpNet]) -> OnHost {
    let mut tables = HostTables::new(settings, addresses, options);
    tables.set_vips(vips);
    tables.add_interface(interface());
    OnHost { tables }
}

/// The packet path in this process, of a host with these addresses.
///
/// # Panics
/// If they do not fit the table.
#[must_use]
pub fn on_host_with(addresses: &[OwnAddress]) -> OnHost {
    let options = LoadOptions { cells: LoadOptions::DEFAULT_CELLS, secret: [1, 2, 3, 4] };
    let tick = Tick { per_second: 250.0 };
    let settings = compile(&Config::default(), tick, HostDefaults { ttl: 64, hop_limit: 64 }, 1)
        .expect("the default works");
    let (table, left_out) = AddressTable::build(addresses);
    assert!(left_out.is_empty(), "{left_out:?}");
    on_host(&options, settings, table, &[])
}

/// Scope of the host's one interface, for a VLAN as [`Scope`] counts it.
#[must_use]
pub fn scope(vlan: u32) -> Scope {
    Scope::new(SLOT, vlan)
}

/// The program with nothing configured at all.
///
/// # Panics
/// If the kernel refuses the program.
#[must_use]
pub fn unconfigured() -> InKernel {
    let options = LoadOptions::new(LoadOptions::DEFAULT_CELLS).expect("random numbers");
    InKernel { datapath: Datapath::load(&options).unwrap_or_else(|e| panic!("{e:#}")) }
}

/// The interface that frames of `BPF_PROG_TEST_RUN` come in on.
#[must_use]
pub fn interface() -> Interface {
    let [a, b, c, d, e, f] = HOST_MAC;
    Interface {
        ifindex: IFINDEX,
        slot: SLOT,
        mac: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        flags: 0,
        reserved: 0,
    }
}

/// The addresses of the vectors.
///
/// # Panics
/// If they do not fit the table.
#[must_use]
pub fn addresses(vlans: &[u16]) -> AddressTable {
    let entry = |text: &str, vlan: u16, kind| {
        let scope = Scope::new(SLOT, u32::from(vlan));
        OwnAddress { address: address(text), scope, kind }
    };
    let own = |text: &&str| entry(text, 0, AddressKind::Own);
    let mut all: Vec<_> = HOST_IPV4.iter().chain(&HOST_IPV6).map(own).collect();
    for vlan in vlans {
        all.push(entry("0.0.0.0", *vlan, AddressKind::Present));
        all.extend([HOST_IPV4[0], HOST_IPV6[0]].map(|text| entry(text, *vlan, AddressKind::Own)));
    }
    for vlan in vlans.iter().chain(&[0]) {
        all.extend(["192.0.2.0", "192.0.2.255"].map(|text| entry(text, *vlan, AddressKind::Broadcast)));
    }
    let (table, left_out) = AddressTable::build(&all);
    assert!(left_out.is_empty(), "{left_out:?}");
    table
}

fn address(text: &str) -> IpAddr {
    let address = text.split('/').next().expect("before the slash");
    address.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

impl InKernel {
    /// What the program does with a frame, and the frame as it leaves it.
    ///
    /// # Panics
    /// If the kernel refuses the run, or the program returns an action it should not know.
    pub fn run(&self, entry: Entry, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let result = self.datapath.run(entry, frame).unwrap_or_else(|e| panic!("{e:#}"));
        let verdict = match result.action {
            XDP_DROP => Verdict::Drop,
            XDP_PASS => Verdict::Pass,
            XDP_TX => Verdict::Answer,
            other => panic!("the program returned {other}"),
        };
        (verdict, result.frame)
    }

    /// The maps behind it.
    pub fn maps(&mut self) -> &mut InstanceMaps {
        self.datapath.maps()
    }

    /// What has been counted.
    ///
    /// # Panics
    /// If the counters can't be read.
    #[must_use]
    pub fn counters(&self) -> Counters {
        plain(&self.datapath.counters().unwrap_or_else(|e| panic!("{e:#}")))
    }
}

impl OnHost {
    /// The maps' stand-ins, and the clock.
    #[must_use]
    pub fn tables(&self) -> &HostTables {
        &self.tables
    }

    /// What the packet path does with a frame, which it changes only if it answers.
    pub fn run(&self, frame: &mut [u8]) -> Outcome {
        pipeline::process(&mut SliceFrame::new(frame), &self.tables, IFINDEX)
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        plain(&self.tables.counters())
    }
}

fn plain(counters: &BTreeMap<(u32, u8, u8), Counter>) -> Counters {
    counters.iter().filter(|(_, c)| c.packets > 0).map(|(at, c)| (*at, (c.packets, c.bytes))).collect()
}

/// A verdict as the kernel knows it: a frame over a limit is dropped like any other.
#[must_use]
pub fn as_action(verdict: Verdict) -> Verdict {
    if verdict == Verdict::Limit { Verdict::Drop } else { verdict }
}
