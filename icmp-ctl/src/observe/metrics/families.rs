//! The families of metrics: their names, kinds, labels and texts, and the samples of each.
//!
//! Owns that a metric is one row, from which pages and docs/reference/metrics.md are made. No address of a packet is ever a label; labels come
//! from icmp-common's lists, and from the configuration: names of interfaces, rules and peers, and VIPs with a check. A family without samples
//! is not on the page.

use std::fmt::Error;

use icmp_common::abi::Counter;
use icmp_common::types::row_labels;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::loaded::Loaded;
use super::peers;
use super::samples::{Number, Sample};
use crate::instance::program::BUILD;

/// What each name begins with.
pub const PREFIX: &str = "icmp_ctl";

/// What kind of number a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It never falls while what it counts is there; its name ends in `_total`.
    Counter,
    /// It is as it is now.
    Gauge,
    /// Numbers by buckets, as they are now.
    Histogram,
}

/// Metrics of one name.
pub struct Family {
    /// Without the prefix, the unit and what the kind adds.
    name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    is_in_seconds: bool,
    /// Names of the labels of each sample.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    samples: fn(&Loaded) -> Vec<Sample<'_>>,
}

impl Family {
    /// The name by which it is asked for.
    pub fn name(&self) -> String {
        let unit = if self.is_in_seconds { "_seconds" } else { "" };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{unit}{total}", self.name)
    }

    pub(super) fn encode(&self, loaded: &Loaded, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let samples = (self.samples)(loaded);
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let unit = self.is_in_seconds.then_some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor(self.name, self.help, unit, kind)?;
        for (values, number) in samples {
            debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
            if values.is_empty() {
                // As a family it would have empty braces.
                return number.encode(family);
            }
            let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(values).collect();
            number.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// One sample without labels, where there is a value.
fn alone(number: Option<Number>) -> Vec<Sample<'static>> {
    number.map(|number| (Vec::new(), number)).into_iter().collect()
}

fn yes(is_so: bool) -> Number {
    Number::Whole(i64::from(is_so))
}

fn each<'a, T>(items: &'a [T], sample: fn(&'a T) -> Sample<'a>) -> Vec<Sample<'a>> {
    items.iter().map(sample).collect()
}

fn by_interface(counts: &[(String, u64)]) -> Vec<Sample<'_>> {
    each(counts, |(interface, frames)| (vec![interface], Number::Count(*frames)))
}

fn frames(loaded: &Loaded, value: fn(&Counter) -> u64) -> Vec<Sample<'_>> {
    let samples = loaded.counters.iter().map(|(interface, row, reason, counter)| {
        let (family, icmp_type) = row_labels(usize::from(*row));
        let labels = vec![interface.as_str(), family, icmp_type, reason.verdict().name(), reason.name()];
        (labels, Number::Count(value(counter)))
    });
    samples.collect()
}

fn rules(loaded: &Loaded) -> Vec<Sample<'_>> {
    let samples = loaded.rules.iter().flat_map(|(rule, counter)| {
        [
            ("hit", counter.hits),
            ("limited", counter.limited),
            ("would-hit", counter.would_hit),
            ("would-limit", counter.would_limit),
        ]
        .map(|(outcome, packets)| (vec![rule.as_str(), outcome], Number::Count(packets)))
    });
    samples.collect()
}

/// All of them, in the order of the page.
pub static FAMILIES: [Family; 26] = [
    Family {
        name: "build_info",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["controller", "program"],
        help: "1, with the builds of this controller and of the one that has loaded the program; empty if nothing is loaded",
        samples: |loaded| vec![(vec![BUILD, &loaded.build], yes(true))],
    },
    Family {
        name: "interface_attached",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["interface", "mode"],
        help: "1 for each interface that has the program, with its mode as status shows it, so an alert can report a fall-back to generic",
        samples: |loaded| each(&loaded.attached, |(interface, mode)| (vec![interface, mode], yes(true))),
    },
    Family {
        name: "interface_chained",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["interface", "program"],
        help: "1 for each interface on which the program is in front of another XDP program, with the name of that program",
        samples: |loaded| each(&loaded.chained, |(interface, program)| (vec![interface, program], yes(true))),
    },
    Family {
        name: "config_hash",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &[],
        help: "A hash of the configuration in force: it changes when the configuration does, and is the same on every host with that configuration",
        samples: |loaded| alone(loaded.config_hash.map(|hash| Number::Whole(hash as i64))),
    },
    Family {
        name: "packets",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["interface", "family", "type", "verdict", "reason"],
        help: "Frames by interface, IP version (ipv4, ipv6 or other), ICMP type (its name, empty if there is none), verdict and reason; a series begins with its first frame, and again from zero when an interface is detached and attached",
        samples: |loaded| frames(loaded, |counter| counter.packets),
    },
    Family {
        name: "bytes",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["interface", "family", "type", "verdict", "reason"],
        help: "Bytes of the frames that icmp_ctl_packets_total counts, from the Ethernet header on",
        samples: |loaded| frames(loaded, |counter| counter.bytes),
    },
    Family {
        name: "rule_packets",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["rule", "outcome"],
        help: "Messages that a rule has decided (hit) or limited (limited), or would have if it were not in audit (would-hit, would-limit)",
        samples: rules,
    },
    Family {
        name: "check_failures",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["check"],
        help: "Messages that have failed a check",
        samples: |loaded| {
            each(&loaded.checks, |(check, failures)| (vec![check.name()], Number::Count(*failures)))
        },
    },
    Family {
        name: "pressure",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &[],
        help: "1 if the reply budget was exhausted within the last second; not known on every host",
        samples: |loaded| alone(loaded.under_pressure.map(yes)),
    },
    Family {
        name: "confirmation_pending",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &[],
        help: "1 while the policy in force awaits confirmation",
        samples: |loaded| alone(loaded.confirmation_pending.map(yes)),
    },
    Family {
        name: "vip_healthy",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["prefix", "check"],
        help: "1 if a VIP with a check is healthy, by its prefix and its check as configured",
        samples: |loaded| {
            each(&loaded.vips, |(prefix, check, is_healthy)| (vec![prefix, check], yes(*is_healthy)))
        },
    },
    Family {
        name: "budget_left_ratio",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["budget"],
        help: "Part of a budget that is left, from 0 to 1, for each budget with a limit",
        samples: |loaded| each(&loaded.levels, |(budget, left)| (vec![budget], Number::Real(*left))),
    },
    Family {
        name: "limiter_buckets_used_ratio",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["table"],
        help: "Part of the limiter's buckets that is in use (not full again), from 0 to 1, by table (sources, prefixes), for each table with a limit; estimated from 8,192 buckets, within two percentage points",
        samples: |loaded| each(&loaded.used, |(table, part)| (vec![table], Number::Real(*part))),
    },
    Family {
        name: "config_applied_timestamp",
        kind: Kind::Gauge,
        is_in_seconds: true,
        labels: &[],
        help: "When a policy was put in force last, in seconds since 1970: its age is time() less this; after a confirmation that did not come in time, from when icmp-ctl next notices",
        samples: |loaded| alone(loaded.applied_at.map(Number::Real)),
    },
    Family {
        name: "program_runs",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["entry"],
        help: "Runs of the program by entry point (xdp, xdp.frags), if the kernel counts them (sysctl kernel.bpf_stats_enabled=1, which makes each run slower)",
        samples: |loaded| {
            each(&loaded.runs, |(entry, runs, _)| (vec![entry.section()], Number::Count(*runs)))
        },
    },
    Family {
        name: "program_run",
        kind: Kind::Counter,
        is_in_seconds: true,
        labels: &["entry"],
        help: "Time that the runs of the program took, if the kernel counts it",
        samples: |loaded| each(&loaded.runs, |(entry, _, time)| (vec![entry.section()], Number::Time(*time))),
    },
    Family {
        name: "interface_received_frames",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["interface"],
        help: "Frames that the interface has received since it was made, as its driver counts them, whether the program has seen them or not; some drivers do not count what the program answers or drops",
        samples: |loaded| by_interface(&loaded.received),
    },
    Family {
        name: "driver_tx_failures",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &["interface"],
        help: "Answers that the driver dropped instead of sending them, if it counts them; icmp_ctl_packets_total has them as answered",
        samples: |loaded| by_interface(&loaded.tx_failures),
    },
    Family {
        name: "peers",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &[],
        help: "Peers that ping this host now; like all metrics of peers, only if peers are tracked",
        samples: |loaded| peers::current(loaded.peers.as_ref()),
    },
    Family {
        name: "peers_without_place",
        kind: Kind::Counter,
        is_in_seconds: false,
        labels: &[],
        help: "Answers to peers that found no place in the table of peers",
        samples: |loaded| peers::without_place(loaded.peers.as_ref()),
    },
    Family {
        name: "peers_loss_ratio",
        kind: Kind::Histogram,
        is_in_seconds: false,
        labels: &[],
        help: "Peers that ping now, by the part of their last 64 requests that was lost on the way here; of the moment, so without rate()",
        samples: |loaded| peers::losses(loaded.peers.as_ref()),
    },
    Family {
        name: "peers_jitter",
        kind: Kind::Histogram,
        is_in_seconds: true,
        labels: &[],
        help: "Peers that ping regularly now, by the jitter of their requests; of the moment",
        samples: |loaded| peers::jitters(loaded.peers.as_ref()),
    },
    Family {
        name: "peers_interval",
        kind: Kind::Histogram,
        is_in_seconds: true,
        labels: &[],
        help: "Peers that ping now, by the mean time between their requests; of the moment",
        samples: |loaded| peers::intervals(loaded.peers.as_ref()),
    },
    Family {
        name: "peer_loss_ratio",
        kind: Kind::Gauge,
        is_in_seconds: false,
        labels: &["peer"],
        help: "Part of the last 64 requests of a peer with a name that was lost on the way here, if it pings regularly",
        samples: |loaded| peers::named_loss(loaded.peers.as_ref()),
    },
    Family {
        name: "peer_jitter",
        kind: Kind::Gauge,
        is_in_seconds: true,
        labels: &["peer"],
        help: "Jitter of the requests of a peer with a name; the largest if it has several pings",
        samples: |loaded| peers::named_jitter(loaded.peers.as_ref()),
    },
    Family {
        name: "peer_silent",
        kind: Kind::Gauge,
        is_in_seconds: true,
        labels: &["peer"],
        help: "Time since the last answered request of a peer with a name, if there was one",
        samples: |loaded| peers::named_silence(loaded.peers.as_ref()),
    },
];
