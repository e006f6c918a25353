//! Rules of routing (`ip rule`) that come before the kernel looks into the local table.
//!
//! Owns which of them may decide about packets that come in on an interface. `interfaces.rs` knows its names, `addresses.rs` decides what follows, `idle.rs`
//! reports it.

use anyhow::Result;
use nix::libc;

use crate::kernel::netlink::{attributes, routing_rules};

/// Length of struct fib_rule_hdr, and where its members are.
const HEADER: usize = 12;
const DESTINATION_LEN: usize = 1;
const SOURCE_LEN: usize = 2;
const TOS: usize = 3;
const ACTION: usize = 7;
const FLAGS: usize = 8;
/// Attributes, actions and flags (include/uapi/linux/fib_rules.h).
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_L3MDEV: u16 = 19;
const FRA_PROTOCOL: u16 = 21;
const TO_TABLE: u8 = 1;
const NOP: u8 = 3;
const INVERT: u32 = 2;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// The interface that packets come in on which it is about, without the zero behind its name.
    interface: Option<Vec<u8>>,
    /// It looks into the local table.
    is_local: bool,
    /// It is for all packets that come in on its interface.
    is_for_all: bool,
}

/// Those of a family in their order, without what no packet that comes in and has no mark is decided by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingRules {
    v4: Vec<Rule>,
    v6: Vec<Rule>,
}

impl RoutingRules {
    /// Reads them.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn read() -> Result<Self> {
        let of = |family| {
            Ok::<_, anyhow::Error>(routing_rules(family)?.iter().filter_map(|body| rule(body)).collect())
        };
        Ok(Self { v4: of(libc::AF_INET)?, v6: of(libc::AF_INET6)? })
    }

    /// One of IPv4 about an interface.
    #[cfg(test)]
    pub(super) fn refusing(interface: &str) -> Self {
        let interface = Some(interface.as_bytes().to_vec());
        Self {
            v4: vec![
                Rule { interface, is_local: false, is_for_all: true },
                Rule { interface: None, is_local: true, is_for_all: true },
            ],
            v6: Vec::new(),
        }
    }

    /// Whether one may decide about what comes in on an interface of one of these names, before the local table is looked into.
    pub(super) fn come_first(&self, is_v6: bool, interfaces: &[&str]) -> bool {
        let rules = if is_v6 { &self.v6 } else { &self.v4 };
        let is_about = |rule: &&Rule| {
            rule.interface.as_ref().is_none_or(|of| interfaces.iter().any(|name| name.as_bytes() == of))
        };
        let first = rules.iter().filter(is_about).find(|rule| !rule.is_local || rule.is_for_all);
        // A kernel without such rules always looks there.
        first.map_or(!rules.is_empty(), |first| !first.is_local)
    }
}

fn rule(body: &[u8]) -> Option<Rule> {
    let header = body.get(..HEADER)?;
    let is_inverted = u32::from_ne_bytes(header[FLAGS..].try_into().ok()?) & INVERT != 0;
    let (mut interface, mut table) = (None, 0);
    let mut is_for_all = [DESTINATION_LEN, SOURCE_LEN, TOS].iter().all(|at| header[*at] == 0);
    for (kind, value) in attributes(&body[HEADER..]) {
        let number = value.try_into().ok().map(u32::from_ne_bytes);
        match kind {
            FRA_IIFNAME => interface = Some(value.strip_suffix(&[0]).unwrap_or(value).to_vec()),
            FRA_TABLE => table = number.unwrap_or_default(),
            FRA_PRIORITY | FRA_FLOW | FRA_PAD | FRA_PROTOCOL => {}
            FRA_SUPPRESS_PREFIXLEN => is_for_all &= number == Some(u32::MAX),
            // What comes in has no interface that it goes out on yet, and no mark but by a packet filter; and of a VRF the table is known.
            FRA_OIFNAME | FRA_L3MDEV if !is_inverted => return None,
            FRA_FWMARK if number != Some(0) && !is_inverted => return None,
            _ => is_for_all = false,
        }
    }
    if is_inverted {
        (interface, is_for_all) = (None, false);
    }
    let is_local = header[ACTION] == TO_TABLE && table == u32::from(libc::RT_TABLE_LOCAL);
    Some(Rule { interface, is_local, is_for_all }).filter(|_| header[ACTION] != NOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::attribute;

    const PROHIBIT: u8 = 8;
    const LOCAL: u32 = 255;

    /// As the kernel tells of one.
    fn body(action: u8, table: u32, more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0, table as u8, 0, 0, action, 0, 0, 0, 0];
        for (kind, value) in [(FRA_TABLE, &table.to_ne_bytes()[..]), (FRA_SUPPRESS_PREFIXLEN, &[0xff; 4])] {
            body.extend(attribute(kind, value));
        }
        more.iter().for_each(|(kind, value)| body.extend(attribute(*kind, value)));
        body
    }

    #[test]
    fn a_rule_comes_first_where_it_may_be_about_what_comes_in_and_is_before_the_lookup_in_the_local_table() {
        let local = || body(TO_TABLE, LOCAL, &[]);
        let of = |name: &'static [u8]| (FRA_IIFNAME, name);
        let with = |at: usize, value: u8, mut body: Vec<u8>| {
            body[at] = value;
            body
        };
        let refusing = |more: &[(u16, &[u8])]| body(PROHIBIT, 0, more);
        for (what, rules, expected) in [
            ("none", vec![], false),
            ("as they are made", vec![local(), body(TO_TABLE, 254, &[])], false),
            ("no local table", vec![body(TO_TABLE, 254, &[])], true),
            ("behind", vec![local(), refusing(&[])], false),
            ("of the interface", vec![refusing(&[of(b"eth0\0")]), local()], true),
            ("of its VRF", vec![refusing(&[of(b"red\0")]), local()], true),
            ("of another one", vec![refusing(&[of(b"eth1\0")]), local()], false),
            ("of all", vec![refusing(&[]), local()], true),
            ("of some packets", vec![with(SOURCE_LEN, 24, refusing(&[])), local()], true),
            ("of all but another one", vec![with(FLAGS, 2, refusing(&[of(b"eth1\0")])), local()], true),
            ("of what goes out", vec![refusing(&[(FRA_OIFNAME, b"eth0\0")]), local()], false),
            ("of VRFs", vec![body(TO_TABLE, 0, &[(FRA_L3MDEV, &[1])]), local()], false),
            ("of a mark", vec![refusing(&[(FRA_FWMARK, &[1, 0, 0, 0])]), local()], false),
            ("of none", vec![refusing(&[(FRA_FWMARK, &[0; 4])]), local()], true),
            ("another table", vec![body(TO_TABLE, 100, &[]), local()], true),
            ("nothing done", vec![body(NOP, 0, &[]), local()], false),
            (
                "the interface's own lookup before",
                vec![body(TO_TABLE, LOCAL, &[of(b"eth0\0")]), refusing(&[])],
                false,
            ),
            ("another one's before", vec![body(TO_TABLE, LOCAL, &[of(b"eth1\0")]), refusing(&[])], true),
            ("one for some packets before", vec![with(TOS, 16, local()), refusing(&[])], true),
        ] {
            let v4 = rules.iter().filter_map(|body| rule(body)).collect();
            let rules = RoutingRules { v4, v6: Vec::new() };
            let found = [false, true].map(|is_v6| rules.come_first(is_v6, &["eth0", "red"]));
            assert_eq!(found, [expected, false], "{what}");
        }
    }
}
