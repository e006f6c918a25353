//! The Prometheus metrics: the counters of frames, rules and checks, read from the maps at the time of the scrape.
//!
//! Owns names and labels. No address is ever a label; labels come from icmp-common's lists, but for the names of interfaces and rules.

use anyhow::{Context as _, Result};
use icmp_common::abi::{Counter, check_tally};
use icmp_common::path::checks::Check;
use icmp_common::reason::Reason;
use icmp_common::rules::Tally;
use icmp_common::types::row_labels;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::host::netlink::Network;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::instance::program::BUILD;

/// Everything there is to say now, as OpenMetrics text.
///
/// # Errors
/// The maps cannot be read. Where nothing is loaded there is only the build.
pub fn render() -> Result<String> {
    let network = Network::read_once()?;
    let mut snapshot = Snapshot::default();
    if let Some(instance) = View::find()? {
        snapshot.build = instance.build();
        snapshot.rules = instance.read(InstanceMaps::rule_tallies)?;
        let tallies = instance.maps.tallies()?;
        snapshot.checks =
            Check::ALL.iter().map(|check| (*check, tallies[check_tally(*check) as usize].hits)).collect();
        snapshot.confirmation_pending = instance.maps.pending()?.is_some();
        snapshot.under_pressure = instance.maps.pressure();
        for entry in instance.maps.interfaces()?.iter().filter(|entry| entry.ifindex != 0) {
            let Some(link) = network.links.iter().find(|link| link.index == entry.ifindex) else { continue };
            for ((row, reason), counter) in instance.maps.counters_of(entry.slot)? {
                snapshot.counters.push((link.name.clone(), row, Reason::ALL[usize::from(reason)], counter));
            }
        }
    }
    snapshot.text()
}

/// What the maps held at the time of the scrape.
#[derive(Debug, Default)]
struct Snapshot {
    build: String,
    counters: Vec<(String, u8, Reason, Counter)>,
    rules: Vec<(String, Tally)>,
    checks: Vec<(Check, u64)>,
    confirmation_pending: bool,
    /// `None` where it cannot be known, which is no reason to show nothing else.
    under_pressure: Option<bool>,
}

impl Snapshot {
    fn text(self) -> Result<String> {
        let mut registry = Registry::with_prefix("icmp_ctl");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).context("writing the metrics")?;
        Ok(text)
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        type Value = fn(&Counter) -> u64;
        let families: [(&str, &str, Value); 2] = [
            ("packets", "Frames by interface, IP version, ICMP type, verdict and reason", |counter| {
                counter.packets
            }),
            ("bytes", "Bytes of those frames, from the Ethernet header on", |counter| counter.bytes),
        ];
        for (name, help, value) in families {
            let kind = prometheus_client::metrics::MetricType::Counter;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (interface, row, reason, counter) in &self.counters {
                let (ip_version, icmp_type) = row_labels(usize::from(*row));
                let labels = [
                    ("interface", interface.as_str()),
                    ("family", ip_version),
                    ("type", icmp_type),
                    ("verdict", reason.verdict().name()),
                    ("reason", reason.name()),
                ];
                ConstCounter::new(value(counter)).encode(family.encode_family(&labels)?)?;
            }
        }
        let kind = prometheus_client::metrics::MetricType::Counter;
        let help = "Messages that rules have decided, and would have, were they not audited";
        let mut family = encoder.encode_descriptor("rule_packets", help, None, kind)?;
        for (rule, tally) in &self.rules {
            let outcomes = [
                ("hit", tally.hits),
                ("limited", tally.limited),
                ("would-hit", tally.would_hit),
                ("would-limit", tally.would_limit),
            ];
            for (outcome, packets) in outcomes {
                let labels = [("rule", rule.as_str()), ("outcome", outcome)];
                ConstCounter::new(packets).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Messages that have failed a check";
        let mut family = encoder.encode_descriptor("check_failures", help, None, kind)?;
        for (check, failures) in &self.checks {
            ConstCounter::new(*failures).encode(family.encode_family(&[("check", check.name())])?)?;
        }
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let help = "1 where the replies' budget was exhausted within the last second";
        if let Some(under_pressure) = self.under_pressure {
            let pressure = encoder.encode_descriptor("pressure", help, None, kind)?;
            ConstGauge::new(i64::from(under_pressure)).encode(pressure)?;
        }
        let help = "1 while the policy in force awaits confirmation";
        let pending = encoder.encode_descriptor("confirmation_pending", help, None, kind)?;
        ConstGauge::new(i64::from(self.confirmation_pending)).encode(pending)?;
        let mut info = encoder.encode_descriptor("build_info", "The running builds", None, kind)?;
        let labels = [("controller", BUILD), ("program", self.build.as_str())];
        ConstGauge::new(1_i64).encode(info.encode_family(&labels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_cannot_be_had_is_left_out_and_the_page_is_not() {
        let page =
            |under_pressure| Snapshot { under_pressure, ..Snapshot::default() }.text().expect("a page");
        assert!(page(Some(true)).contains("icmp_ctl_pressure 1"));
        let without = page(None);
        assert!(
            without.contains("icmp_ctl_build_info{") && !without.contains("icmp_ctl_pressure"),
            "{without}"
        );
    }
}
