//! The Prometheus metrics: the counters of frames, rules and checks, read from the maps at the time of the scrape.
//!
//! Owns names, labels and formats. No address of a packet is ever a label; labels come from icmp-common's lists, but for what is configured: names
//! of interfaces and rules, and VIPs that have a check.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use icmp_common::abi::{Counter, RuleCounter, Settings};
use icmp_common::path::checks::Check;
use icmp_common::path::checks::check_counter;
use icmp_common::reason::Reason;
use icmp_common::types::row_labels;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::host::netlink::Network;
use crate::host::received::received_once;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::instance::program::{BUILD, Entry};
use crate::kernel::clock::{Tick, ticks};
use crate::kernel::ethtool::tx_failures;
use crate::observe::levels::{levels, used};
use crate::observe::peer_metrics;
use crate::observe::peers::Seen;
use crate::policy::difference::describe;
use crate::policy::gates::{check_text, gated};

/// How a page of metrics is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What the header `Accept` of a request asks for.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The header `Content-Type` of the page.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything there is to say now.
///
/// # Errors
/// The maps cannot be read. Where nothing is loaded there is only the build.
pub fn render(format: Format) -> Result<String> {
    let network = Network::read_once()?;
    let loaded = View::look(|instance| Loaded::read(instance, &network))?;
    Snapshot { loaded }.text(format)
}

/// Whether what is loaded can be read; nothing loaded is fine.
///
/// # Errors
/// It cannot.
pub fn check_health() -> Result<()> {
    View::look(|instance| instance.read(InstanceMaps::settings)).map(|_| ())
}

/// What there was at the time of the scrape.
#[derive(Debug)]
struct Snapshot {
    /// Nothing of this is shown where there is nothing, not even zeroes.
    loaded: Option<Loaded>,
}

/// What the maps held.
#[derive(Debug, Default)]
struct Loaded {
    build: String,
    /// Interface and mode.
    attached: Vec<(String, &'static str)>,
    /// Interface, and the other program that ours is in front of.
    chained: Vec<(String, String)>,
    counters: Vec<(String, u8, Reason, Counter)>,
    rules: Vec<(String, RuleCounter)>,
    checks: Vec<(Check, u64)>,
    config_hash: u64,
    confirmation_pending: bool,
    /// `None` where it cannot be known, which is no reason to show nothing else.
    under_pressure: Option<bool>,
    /// VIPs with a check, what that is, and whether they are healthy.
    vips: Vec<(String, String, bool)>,
    /// Parts of the budgets that are left.
    levels: Vec<(&'static str, f64)>,
    /// Parts of the limiter's tables that are in use.
    used: Vec<(&'static str, f64)>,
    /// When the policy was put in force, in seconds since 1970.
    applied_at: Option<f64>,
    /// Frames that the links have received.
    received: Vec<(String, u64)>,
    /// How often each entry point ran and for how long, where the kernel counts it.
    runs: Vec<(Entry, u64, Duration)>,
    /// Frames sent back that the driver of an interface dropped, where it counts them.
    tx_failures: Vec<(String, u64)>,
    /// Who pings this host.
    peers: Seen,
}

impl Loaded {
    fn read(instance: &View, network: &Network) -> Result<Self> {
        let rule_counters = instance.maps.rule_counters()?;
        let mut loaded = Self {
            build: instance.build(),
            rules: instance.read(InstanceMaps::named_rule_counters)?,
            checks: Check::ALL
                .iter()
                .map(|check| (*check, rule_counters[check_counter(*check) as usize].hits))
                .collect(),
            config_hash: config_hash(instance)?,
            confirmation_pending: instance.maps.pending()?.is_some(),
            under_pressure: instance.maps.pressure(),
            applied_at: instance
                .applied_at()
                .and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())),
            ..Self::default()
        };
        for vip in instance.read(gated)? {
            loaded.vips.push((vip.net.to_string(), check_text(&vip.gate), vip.is_healthy));
        }
        let entries = instance.maps.interfaces()?;
        let received = received_once()?;
        for pin in instance.links()? {
            // One that is gone has left its counters, and perhaps its index to another.
            let Some(link) = network.links.iter().find(|link| pin.is_of(link)) else { continue };
            loaded.attached.push((link.name.clone(), link.xdp.map_or("none", |xdp| xdp.mode)));
            loaded.chained.extend(pin.behind.map(|behind| (link.name.clone(), behind.name)));
            loaded.received.extend(received.get(&link.index).map(|n| (link.name.clone(), *n)));
            // Most drivers of virtual devices have no counters.
            loaded.tx_failures.extend(tx_failures(&link.name).ok().flatten().map(|n| (link.name.clone(), n)));
            let Some(entry) = entries.iter().find(|entry| entry.ifindex == link.index) else { continue };
            for ((row, reason), counter) in instance.maps.counters_of(entry.slot)? {
                loaded.counters.push((link.name.clone(), row, Reason::ALL[usize::from(reason)], counter));
            }
        }
        if let Some(settings) = instance.maps.settings()? {
            loaded.peers = Seen::now(instance, &settings)?;
            let now = ticks()?;
            let levels = levels(&instance.maps, &settings, now)?;
            loaded.levels =
                levels.into_iter().filter_map(|(name, level)| Some((name.name(), level?))).collect();
            let used = used(&instance.maps, &settings, now)?;
            loaded.used = used.into_iter().filter_map(|(table, part)| Some((table, part?))).collect();
        }
        for entry in Entry::ALL {
            // One that no interface has had a use for is not loaded.
            let Ok(program) = ProgramInfo::from_pin(instance.program_pin(entry)) else { continue };
            if program.run_count() > 0 {
                loaded.runs.push((entry, program.run_count(), program.run_time()));
            }
        }
        Ok(loaded)
    }
}

/// What is in force: when it was put there, what the program goes by, and the settings. The rules and prefixes that belong to settings change
/// only together with one of these.
type InForce = (Option<SystemTime>, u32, Option<Settings>);

/// The hash of the configuration in force, which is found out anew where that has changed: it takes reading all prefixes.
fn config_hash(instance: &View) -> Result<u64> {
    static LAST: Mutex<Option<(InForce, u64)>> = Mutex::new(None);
    let in_force = (instance.applied_at(), instance.maps.switch()?, instance.maps.settings()?);
    // Whoever has panicked with it has left what was there before.
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, hash)) = last.filter(|(known, _)| *known == in_force) {
        return Ok(hash);
    }
    let policy = instance.read(InstanceMaps::policy)?;
    let tick = Tick::of_this_kernel()?;
    let hash = policy.map_or(0, |policy| hash(&describe(&policy, tick)));
    *last = Some((in_force, hash));
    Ok(hash)
}

/// A number that is another one for another configuration, and the same on every host: FNV-1a (draft-eastlake-fnv), of which a sample, a
/// floating-point number, holds 48 bits.
fn hash(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash >> 16
}

impl Snapshot {
    fn text(self, format: Format) -> Result<String> {
        let mut registry = Registry::with_prefix("icmp_ctl");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).context("writing the metrics")?;
        Ok(if format == Format::OpenMetrics { text } else { as_prometheus(&text) })
    }
}

/// In OpenMetrics a counter is described without the `_total` of its samples, and the page ends with a mark of its own.
fn as_prometheus(open_metrics: &str) -> String {
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::new();
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|kind| {
            let (name, rest) = line.strip_prefix(kind)?.split_once(' ')?;
            counters.contains(&name).then(|| format!("{kind}{name}_total {rest}"))
        });
        text.push_str(described.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = prometheus_client::metrics::MetricType::Gauge;
        let build = self.loaded.as_ref().map_or("", |loaded| loaded.build.as_str());
        let help = "The running builds, of this controller and of what has loaded the program";
        let mut info = encoder.encode_descriptor("build_info", help, None, gauge)?;
        let labels = [("controller", BUILD), ("program", build)];
        ConstGauge::new(1_i64).encode(info.encode_family(&labels)?)?;
        match &self.loaded {
            Some(loaded) => loaded.encode(encoder),
            None => Ok(()),
        }
    }
}

impl Loaded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let help = "1 for each interface that has the program, with the mode it has it in";
        let mut family = encoder.encode_descriptor("interface_attached", help, None, kind)?;
        for (interface, mode) in &self.attached {
            let labels = [("interface", interface.as_str()), ("mode", mode)];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        let help =
            "1 for each interface where the program is in front of another one, with what that is called";
        let mut family = encoder.encode_descriptor("interface_chained", help, None, kind)?;
        for (interface, program) in &self.chained {
            let labels = [("interface", interface.as_str()), ("program", program.as_str())];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        let help = "A number that is another one for another configuration in force";
        let hash = encoder.encode_descriptor("config_hash", help, None, kind)?;
        ConstGauge::new(self.config_hash as i64).encode(hash)?;
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
        for (rule, rule_counter) in &self.rules {
            let outcomes = [
                ("hit", rule_counter.hits),
                ("limited", rule_counter.limited),
                ("would-hit", rule_counter.would_hit),
                ("would-limit", rule_counter.would_limit),
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
        let help = "1 where a VIP with a check is healthy, by its prefix and its check, both of which are configured";
        let mut family = encoder.encode_descriptor("vip_healthy", help, None, kind)?;
        for (prefix, check, is_healthy) in &self.vips {
            let labels = [("prefix", prefix.as_str()), ("check", check)];
            ConstGauge::new(i64::from(*is_healthy)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Part of a budget that is left, from 0 to 1";
        let mut family = encoder.encode_descriptor("budget_left_ratio", help, None, kind)?;
        for (budget, left) in &self.levels {
            ConstGauge::new(*left).encode(family.encode_family(&[("budget", *budget)])?)?;
        }
        let help = "Part of the limiter's buckets that is in use, from 0 to 1, as found in a sample of them";
        let mut family = encoder.encode_descriptor("limiter_buckets_used_ratio", help, None, kind)?;
        for (table, part) in &self.used {
            ConstGauge::new(*part).encode(family.encode_family(&[("table", *table)])?)?;
        }
        let help = "When a policy was put in force last, in seconds since 1970";
        if let Some(at) = self.applied_at {
            let applied =
                encoder.encode_descriptor("config_applied_timestamp", help, Some(&Unit::Seconds), kind)?;
            ConstGauge::new(at).encode(applied)?;
        }
        self.encode_what_others_count(encoder)
    }

    /// What the kernel and the drivers count, as far as they do.
    fn encode_what_others_count(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = prometheus_client::metrics::MetricType::Counter;
        let help = "Runs of the program, where the kernel counts them (kernel.bpf_stats_enabled)";
        let mut family = encoder.encode_descriptor("program_runs", help, None, kind)?;
        for (entry, runs, _) in &self.runs {
            ConstCounter::new(*runs).encode(family.encode_family(&[("entry", entry.section())])?)?;
        }
        let help = "Time that those took";
        let seconds = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor("program_run", help, seconds, kind)?;
        for (entry, _, time) in &self.runs {
            ConstCounter::new(time.as_secs_f64())
                .encode(family.encode_family(&[("entry", entry.section())])?)?;
        }
        let help = "Frames that the interface has received, as its driver counts them, whether the program has seen them or not";
        let mut family = encoder.encode_descriptor("interface_received_frames", help, None, kind)?;
        for (interface, frames) in &self.received {
            ConstCounter::new(*frames).encode(family.encode_family(&[("interface", interface.as_str())])?)?;
        }
        let help = "Answers that the driver dropped instead of sending them, where it counts them; they are counted as answered";
        let mut family = encoder.encode_descriptor("driver_tx_failures", help, None, kind)?;
        for (interface, failures) in &self.tx_failures {
            ConstCounter::new(*failures)
                .encode(family.encode_family(&[("interface", interface.as_str())])?)?;
        }
        peer_metrics::encode(&self.peers, &mut encoder)
    }
}

/// The page of an instance that nothing is known of but its peers.
#[cfg(test)]
pub(super) fn page_of_peers(peers: Seen) -> String {
    let loaded = Some(Loaded { peers, ..Loaded::default() });
    Snapshot { loaded }.text(Format::Prometheus).expect("a page")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(loaded: Option<Loaded>, format: Format) -> String {
        Snapshot { loaded }.text(format).expect("a page")
    }

    #[test]
    fn a_figure_that_cannot_be_had_is_left_out_and_the_page_is_not() {
        let page =
            |under_pressure| page(Some(Loaded { under_pressure, ..Loaded::default() }), Format::Prometheus);
        assert!(page(Some(true)).contains("icmp_ctl_pressure 1"));
        let without = page(None);
        assert!(
            without.contains("icmp_ctl_build_info{") && !without.contains("icmp_ctl_pressure"),
            "{without}"
        );
    }

    #[test]
    fn where_nothing_is_loaded_there_are_no_zeroes_of_it() {
        let text = page(None, Format::Prometheus);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(samples.len() == 1 && samples[0].starts_with("icmp_ctl_build_info{"), "{text}");
    }

    #[test]
    fn each_format_describes_counters_as_it_wants_them() {
        let loaded = || Loaded { checks: vec![(Check::Quote, 7)], ..Loaded::default() };
        let text = page(Some(loaded()), Format::Prometheus);
        assert!(text.contains("# TYPE icmp_ctl_check_failures_total counter\n"), "{text}");
        assert!(text.contains("# HELP icmp_ctl_check_failures_total ") && !text.contains("# EOF"), "{text}");
        assert!(text.contains("# TYPE icmp_ctl_config_hash gauge\n"), "{text}");
        let text = page(Some(loaded()), Format::OpenMetrics);
        assert!(
            text.contains("# TYPE icmp_ctl_check_failures counter\n") && text.ends_with("# EOF\n"),
            "{text}"
        );
        for text in [text, page(Some(loaded()), Format::Prometheus)] {
            assert!(text.contains("icmp_ctl_check_failures_total{check=\"quote\"} 7\n"), "{text}");
        }
        let scraper =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(
            [scraper, "*/*", ""].map(Format::accepted),
            [Format::OpenMetrics, Format::Prometheus, Format::Prometheus]
        );
    }

    #[test]
    fn another_configuration_has_another_hash() {
        let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(hash(&lines(&["a", "b"])), hash(&lines(&["a", "b"])));
        assert_ne!(hash(&lines(&["a", "b"])), hash(&lines(&["ab"])));
        assert_ne!(hash(&lines(&["a", "b"])), hash(&lines(&["b", "a"])));
    }
}
