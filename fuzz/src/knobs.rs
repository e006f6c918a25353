//! Tables of every kind, from a few bytes.
//!
//! Owns which settings of the host vary: policy, flags, addresses, VLANs, interface, limits, single types and rules. With all bytes zero it is
//! the host of the vectors, which limits nothing.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use icmp_common::abi::{
    ADDRESS_BUCKETS, AddressKind, INTERFACE_ENTRIES, INTERFACE_MAC_SHARED, INTERFACE_SHARED,
    INTERFACE_STRIPS_TAGS, Interface, Limit, SETTINGS_ECHO, SETTINGS_OBSERVE, SETTINGS_PRESENT,
    SETTINGS_VERIFY_FULL, SETTINGS_VIPS, SWITCH_SETTINGS, Scope, Settings,
};
use icmp_common::host_tables::HostTables;
use icmp_common::limiter::UNITS_PER_TICK;
use icmp_ctl::host::address_table::{AddressTable, OwnAddress};
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::instance::host_tables::host_tables;
use icmp_ctl::instance::program::LoadOptions;
use icmp_ctl::kernel::clock::Tick;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::host::{address_list, interface, policy_at, scope};
use icmp_tests::oracle;

/// VLANs of the host; two more are behind a service tag, one of them inside another tag.
const VLANS: [u16; 2] = [1, 100];
const OTHER_VLANS: [u32; 2] = [100 | Scope::SERVICE_ONLY << 12, 1 | 100 << 12];
/// The kernel's most common one.
pub(crate) const TICK: Tick = Tick { per_second: 1000.0 };

/// What varies, each in its own byte.
#[derive(Arbitrary, Clone, Copy, Debug, Default)]
pub(crate) struct Knobs {
    /// Which of [`POLICIES`].
    policy: u8,
    /// Turned over in `Settings::flags`.
    flags: u8,
    /// Addresses that are not in the table.
    missing: [u8; 2],
    /// Own addresses that are another interface's only.
    elsewhere: u8,
    /// Bit 0: there is no entry; bit 1: its driver strips tags; bit 2: other hosts' frames come in, too; bit 3: another
    /// entry is in its place.
    interface: u8,
    /// Of source, prefix, replies and all other budgets, in other forms than the policy's where not 0.
    limits: [u8; 4],
    /// A type whose action and budget are others; none where the second is 0.
    kind: [u8; 3],
    /// Actions of the first rules, two bits each.
    rules: u8,
    audited: u8,
    checks: u8,
    switch: u8,
    /// Log2 of half of the limiter's lines.
    places: u8,
    /// Frames after the first.
    pub(crate) repeats: u8,
    /// Ticks from frame to frame.
    pub(crate) ticks: u8,
    /// Where frames differ from the first, and by how much each; 0 is not at all.
    pub(crate) change: [u8; 2],
    /// 256ths of the frame that lie in another buffer.
    pub(crate) cut: u8,
}

/// Bytes of an input that are knobs.
pub const KNOBS: usize = size_of::<Knobs>();

const VERIFY_HEADER: &str = "[responder]\nverify = \"header\"\n";
const VIPS: &str = "[responder]\nttl = 3\nwide-vips = true\nvips = [\"192.0.0.0/2\", \"8.0.0.0/5\", \"192.0.2.0/24\", \"2001:db8::/32\", \"::/8\"]\n";
const STRICT: &str = "[policy]\npreset = \"strict\"\n[policy.checks]\nquote = \"drop\"\npath-mtu = \"drop\"\nneighbour-discovery = \"drop\"\n";
const OBSERVE: &str = "[policy]\npreset = \"observe\"\n";
const ROUTER: &str =
    "[policy]\npreset = \"router\"\n[policy.checks]\nrouter-guard = \"drop\"\nrouters = [\"fe80::1\"]\n";
const RULES: &str = "
[[policy.rule]]
name = \"watched\"
action = \"drop\"
length = \"100-\"
audit = true
[[policy.rule]]
name = \"few\"
type = \"echo-request\"
from = [\"0.0.0.0/1\", \"192.0.2.0/25\", \"2001:db8::/32\"]
action = \"answer\"
limit = \"10/s\"
[[policy.rule]]
name = \"tagged\"
vlan = [1, 100]
hop-limit = \"2-\"
action = \"pass\"
[[policy.rule]]
name = \"codes\"
family = \"ipv4\"
type = [\"3/1\", \"8/9\", \"8\"]
to = \"192.0.2.64/26\"
action = \"limit\"
limit = \"1/s\"
";

/// What the host may be configured to: the first limits nothing.
static POLICIES: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    let all = configurations();
    all.iter().map(|text| policy_at(text, TICK).unwrap_or_else(|e| panic!("{e}"))).collect()
});

/// The configurations of [`POLICIES`].
pub(crate) fn configurations() -> Vec<String> {
    let texts = ["", VERIFY_HEADER, VIPS, STRICT, OBSERVE, ROUTER, RULES];
    let unlimited = texts.map(|text| format!("{text}{UNLIMITED}"));
    unlimited.into_iter().chain([String::new(), VIPS.to_owned()]).collect()
}

/// A host: what it is in the packet path's eyes, and in the oracle's.
pub(crate) struct Host {
    pub(crate) tables: HostTables,
    pub(crate) settings: Settings,
    /// Its one interface; the zeroth slot where it is not entered.
    pub(crate) slot: u32,
    /// It answers nothing, whatever the oracle's rules say.
    pub(crate) silent: bool,
    /// Nothing but the oracle's rules forbids one.
    pub(crate) has_to_answer: bool,
    addresses: Vec<OwnAddress>,
    vips: Vec<ipnet::IpNet>,
}

impl Host {
    pub(crate) fn for_oracle(&self) -> oracle::Host<'_> {
        let verifies = self.settings.flags & SETTINGS_VERIFY_FULL != 0;
        oracle::Host { addresses: &self.addresses, vips: &self.vips, verifies }
    }
}

impl Knobs {
    /// Those an input begins with, and what is behind them; `None` of too short a one.
    pub(crate) fn split(input: &[u8]) -> Option<(Self, &[u8])> {
        let (knobs, rest) = input.split_at_checked(KNOBS)?;
        Some((Self::arbitrary(&mut Unstructured::new(knobs)).ok()?, rest))
    }

    pub(crate) fn host(&self) -> Host {
        let mut policy = POLICIES[usize::from(self.policy) % POLICIES.len()].clone();
        self.vary_settings(&mut policy.settings);
        self.vary_rules(&mut policy);
        let addresses = self.addresses();
        let (table, left_out) = AddressTable::build(&addresses, ADDRESS_BUCKETS);
        assert!(left_out.is_empty(), "{left_out:?}");
        let lines = 2 << (self.places % 12);
        let options = LoadOptions::reproducible(lines);
        let mut tables = host_tables(&policy, &table, &options);
        tables.set_switch(self.switch.into());
        let is_entered = self.interface & 1 == 0;
        let strips_tags = self.interface & 2 != 0;
        let is_shared = self.interface & 4 != 0;
        let flags = if strips_tags { INTERFACE_STRIPS_TAGS } else { 0 };
        let is_mac_shared = self.interface & 32 != 0;
        let flags = flags | if is_shared { INTERFACE_SHARED } else { 0 };
        let flags = flags | if is_mac_shared { INTERFACE_MAC_SHARED } else { 0 };
        let is_narrow = self.interface & 16 != 0;
        let (mtu4, mtu6) = if is_narrow { (60, 80) } else { (0, 0) };
        let entry = Interface { flags, mtu4, mtu6, ..interface() };
        if self.interface & 8 != 0 {
            tables.add_interface(Interface {
                ifindex: entry.ifindex + INTERFACE_ENTRIES,
                slot: entry.slot + 1,
                ..entry
            });
        }
        if is_entered {
            tables.add_interface(entry);
        }
        let settings = policy.settings;
        let answers = settings.flags & (SETTINGS_PRESENT | SETTINGS_ECHO | SETTINGS_OBSERVE)
            == SETTINGS_PRESENT | SETTINGS_ECHO;
        let vips = if settings.flags & SETTINGS_VIPS == 0 {
            Vec::new()
        } else {
            policy.vips().iter().map(|vip| vip.net).collect()
        };
        Host {
            slot: if is_entered { entry.slot } else { 0 },
            silent: !is_entered || strips_tags || !answers || u32::from(self.switch) & SWITCH_SETTINGS != 0,
            has_to_answer: self.limits_nothing()
                && is_entered
                && !strips_tags
                && !is_narrow
                && self.cut == 0
                && self.switch == 0,
            tables,
            settings,
            addresses,
            vips,
        }
    }

    /// The first policy, with nothing in it changed that is about echo requests.
    fn limits_nothing(&self) -> bool {
        usize::from(self.policy) % POLICIES.len() == 0
            && self.flags == 0
            && self.limits == [0; 4]
            && self.kind[1] == 0
    }

    fn vary_settings(&self, settings: &mut Settings) {
        settings.flags ^= u32::from(self.flags);
        settings.checks ^= u32::from(self.checks);
        for (limit, knob) in
            [(&mut settings.source.limit, self.limits[0]), (&mut settings.prefix.limit, self.limits[1])]
        {
            vary_limit(limit, knob);
        }
        let (replies, others) = settings.budgets.split_at_mut(2);
        for limit in replies {
            vary_limit(limit, self.limits[2]);
        }
        for limit in others {
            vary_limit(limit, self.limits[3]);
        }
        let [kind, action, budget] = self.kind;
        if action != 0 {
            // Mostly an echo request.
            let at = match kind {
                0..=99 => 8,
                100..=199 => 256 + 128,
                _ => usize::from(kind) * 3 % settings.types.len(),
            };
            settings.types[at].main.action = action - 1;
            settings.types[at].main.budget = budget;
        }
    }

    fn vary_rules(&self, policy: &mut Compiled) {
        for (i, rule) in policy.rules.rules.iter_mut().take(4).enumerate() {
            rule.action ^= u32::from(self.rules >> (2 * i) & 3);
        }
        policy.rules.audited ^= u64::from(self.audited);
    }

    fn addresses(&self) -> Vec<OwnAddress> {
        let mut all = address_list(&VLANS);
        let untagged = all.clone();
        for vlan in OTHER_VLANS {
            let present = OwnAddress {
                address: std::net::Ipv4Addr::UNSPECIFIED.into(),
                scope: scope(vlan),
                kind: AddressKind::Present,
            };
            let of_vlan = untagged.iter().filter(|own| own.scope == scope(0)).step_by(3);
            all.push(present);
            all.extend(of_vlan.map(|own| OwnAddress { scope: scope(vlan), ..*own }));
        }
        let is = |bits: &[u8], i: usize| bits[i / 8 % bits.len()] >> (i % 8) & 1 != 0;
        let anywhere: Vec<_> = all.iter().filter(|own| own.kind == AddressKind::Own).copied().collect();
        let mut i = 0;
        all.retain(|own| {
            i += 1;
            let is_elsewhere = own.kind == AddressKind::Own && is(&[self.elsewhere], i - 1);
            !is_elsewhere && !is(&self.missing, i - 1)
        });
        // Whatever is own somewhere is no other host's.
        all.extend(anywhere.iter().map(|own| OwnAddress {
            scope: Scope::ANYWHERE,
            kind: AddressKind::Anywhere,
            ..*own
        }));
        all
    }
}

/// Limits of all sizes, those too that no configuration gives.
fn vary_limit(limit: &mut Limit, knob: u8) {
    let (kind, size) = (knob >> 5, u32::from(knob & 31));
    let interval = UNITS_PER_TICK << size >> 8;
    *limit = match (kind, size) {
        (0, 0) => return,
        (0, _) => Limit::NOTHING,
        (1, _) => Limit { interval: u64::MAX >> size, capacity: u64::MAX >> (size / 2) },
        (kind, _) => Limit { interval, capacity: interval << (kind - 2) },
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_as_long_as_they_say() {
        assert_eq!(Knobs::size_hint(0), (KNOBS, Some(KNOBS)));
        assert!(Knobs::split(&[0; KNOBS - 1]).is_none());
    }

    #[test]
    fn zeroes_are_a_host_that_has_to_answer() {
        let host = Knobs::default().host();
        assert!(host.has_to_answer && !host.silent);
        assert_eq!(host.settings.source.limit, Limit::UNLIMITED);
    }
}
