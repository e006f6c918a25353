//! Owns the host of the vectors as the packet path sees it: its addresses, its interface and its settings, filled alike into the
//! kernel's maps and into the stand-in for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use icmp_common::abi::{ADDRESS_BUCKETS, AddressKind, Counter, Interface, RuleCounter, Scope};
use icmp_common::frame::SliceFrame;
use icmp_common::host_tables::HostTables;
use icmp_common::outcome::Outcome;
use icmp_common::path;
use icmp_common::reason::Verdict;
use icmp_ctl::config::file::Config;
use icmp_ctl::host::address_table::{AddressTable, OwnAddress};
use icmp_ctl::host::defaults::HostDefaults;
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::datapath::Datapath;
use icmp_ctl::instance::host_tables::host_tables;
use icmp_ctl::instance::maps::InstanceMaps;
use icmp_ctl::instance::program::{Entry, LoadOptions};
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::compile::compile_policy;

use crate::netns::{ANYCAST, ELSEWHERE, GROUPS_ELSEWHERE, HOST_IPV4, HOST_IPV6, HOST_MAC, SECOND_MAC};

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
    options: LoadOptions,
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
    let memory = Config::parse(config, "test").expect("a configuration").limits.memory;
    let mut kernel = loaded(LoadOptions::new(memory.lines()).expect("random numbers"));
    let host = kernel.configure(config, vlans);
    (kernel, host)
}

/// The program, loaded with these sizes and nothing configured.
///
/// # Panics
/// If the kernel refuses it.
#[must_use]
pub fn loaded(options: LoadOptions) -> InKernel {
    InKernel {
        datapath: Datapath::load(&options, &Entry::ALONE).unwrap_or_else(|e| panic!("{e:#}")),
        options,
    }
}

impl InKernel {
    /// Makes it the host with this configuration, whatever it was before, and the same in memory, which has seen no frame yet: what the
    /// program remembers of frames before, it alone does.
    ///
    /// # Panics
    /// As [`both`].
    pub fn configure(&mut self, config: &str, vlans: &[u16]) -> OnHost {
        self.policy(&policy_of(config), vlans)
    }

    /// The same with a policy.
    ///
    /// # Panics
    /// If the kernel refuses a map.
    pub fn policy(&mut self, policy: &Compiled, vlans: &[u16]) -> OnHost {
        let addresses = addresses(vlans);
        self.datapath.configure(policy, &addresses, interface()).unwrap_or_else(|e| panic!("{e:#}"));
        let mut tables = host_tables(policy, &addresses, &self.options);
        tables.add_interface(interface());
        OnHost { tables }
    }

    /// The rule counters of the rules in force, in their order.
    ///
    /// # Panics
    /// If they can't be read.
    pub fn counters_in_force(&mut self) -> Vec<RuleCounter> {
        let policy = self.datapath.maps().policy().unwrap_or_else(|e| panic!("{e:#}")).expect("a policy");
        let rule_counters = self.rule_counters();
        let rules = &policy.rules.rules[..policy.rules.count as usize];
        rules.iter().map(|rule| rule_counters[rule.slot as usize]).collect()
    }
}

/// The host in memory alone.
///
/// # Panics
/// If the configuration is none.
#[must_use]
pub fn on_host(config: &str, vlans: &[u16]) -> OnHost {
    let options = LoadOptions::reproducible(1 << 12);
    let mut tables = host_tables(&policy_of(config), &addresses(vlans), &options);
    tables.add_interface(interface());
    OnHost { tables }
}

/// A configuration as the packet path reads it.
///
/// # Panics
/// If it is none, or can't be put in force.
#[must_use]
pub fn policy_of(config: &str) -> Compiled {
    let tick = Tick::of_this_kernel().expect("a clock");
    policy_at(config, tick).unwrap_or_else(|e| panic!("{e}"))
}

/// The same where the clock ticks so often.
///
/// # Errors
/// It is no configuration, or can't be put in force.
pub fn policy_at(config: &str, tick: Tick) -> Result<Compiled, String> {
    let config = Config::parse(config, "test").map_err(|e| format!("{e:#}"))?;
    compile_policy(&config, tick, HostDefaults { ttl: 64, hop_limit: 64 }, 1).map_err(|e| format!("{e:#}"))
}

/// The packet path in this process, of a host with these addresses.
///
/// # Panics
/// If they do not fit the table.
#[must_use]
pub fn on_host_with(addresses: &[OwnAddress]) -> OnHost {
    let options = LoadOptions::reproducible(LoadOptions::DEFAULT_LINES);
    let policy = policy_at("", Tick { per_second: 250.0 }).expect("the default works");
    let (table, left_out) = AddressTable::build(addresses, ADDRESS_BUCKETS);
    assert!(left_out.is_empty(), "{left_out:?}");
    let mut tables = host_tables(&policy, &table, &options);
    tables.add_interface(interface());
    OnHost { tables }
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
    loaded(LoadOptions::new(LoadOptions::DEFAULT_LINES).expect("random numbers"))
}

/// The interface that frames of `BPF_PROG_TEST_RUN` come in on.
#[must_use]
pub fn interface() -> Interface {
    let [a, b, c, d, e, f] = HOST_MAC;
    Interface {
        ifindex: IFINDEX,
        slot: SLOT,
        mac: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
        flags: 0,
        mtu4: 0,
        mtu6: 0,
    }
}

/// The addresses of the vectors, as they are in the table.
///
/// # Panics
/// If they do not fit it.
#[must_use]
pub fn addresses(vlans: &[u16]) -> AddressTable {
    let (table, left_out) = AddressTable::build(&address_list(vlans), ADDRESS_BUCKETS);
    assert!(left_out.is_empty(), "{left_out:?}");
    table
}

/// The addresses of the vectors; on each of `vlans` the host owns its first of each family.
#[must_use]
pub fn address_list(vlans: &[u16]) -> Vec<OwnAddress> {
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
        all.extend(["192.0.2.0", "192.0.2.255"].map(|text| entry(text, *vlan, AddressKind::Group)));
    }
    // The groups that every host belongs to, that of routers, and those of its addresses.
    for group in ["224.0.0.1", "ff02::1", "ff02::2", "ff02::1:ff00:2", ANYCAST] {
        all.push(entry(group, 0, AddressKind::Group));
    }
    all.push(OwnAddress::of_mac(SECOND_MAC, scope(0)));
    for text in ELSEWHERE.into_iter().chain(GROUPS_ELSEWHERE) {
        let address = address(text);
        all.push(OwnAddress { address, scope: Scope::ANYWHERE, kind: AddressKind::Anywhere });
    }
    all
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

    /// The rule counters of rules and checks.
    ///
    /// # Panics
    /// If they can't be read.
    #[must_use]
    pub fn rule_counters(&mut self) -> Vec<RuleCounter> {
        self.datapath.maps().rule_counters().unwrap_or_else(|e| panic!("{e:#}"))
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

impl InKernel {
    /// Has frames come in on an interface with such flags.
    ///
    /// # Panics
    /// If the map can't be written.
    pub fn flag_interface(&mut self, flags: u32) {
        self.datapath.maps().set_interface(flagged_interface(flags)).unwrap_or_else(|e| panic!("{e:#}"));
    }
}

fn flagged_interface(flags: u32) -> Interface {
    Interface { flags, ..interface() }
}

impl OnHost {
    /// As [`InKernel::flag_interface`].
    pub fn flag_interface(&mut self, flags: u32) {
        self.tables.add_interface(flagged_interface(flags));
    }

    /// The maps' stand-ins, and the clock.
    #[must_use]
    pub fn tables(&self) -> &HostTables {
        &self.tables
    }

    /// What the packet path does with a frame, which it changes only if it answers.
    pub fn run(&self, frame: &mut [u8]) -> Outcome {
        path::process(&mut SliceFrame::new(frame), &self.tables, IFINDEX)
    }

    /// The rule counters of rules and checks.
    #[must_use]
    pub fn rule_counters(&self) -> Vec<RuleCounter> {
        self.tables.rule_counters()
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
