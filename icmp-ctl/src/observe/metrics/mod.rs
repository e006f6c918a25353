//! The Prometheus metrics: the counters of frames, rules and checks, read from the maps at the time of the scrape.
//!
//! Owns when they are read, and the two formats. Names, labels and texts are [`families`]'.

pub mod families;
mod loaded;
mod peers;
mod samples;

use anyhow::{Context as _, Result};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use self::families::FAMILIES;
use self::loaded::Loaded;
use crate::host::netlink::links_once;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;

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
        // With a weight of 0 it is refused (RFC 9110 section 12.4.2).
        let takes = |range: &str| {
            let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
            let weight = |part: String| part.strip_prefix("q=").map(str::parse::<f64>);
            parts.next().is_some_and(|kind| kind == "application/openmetrics-text")
                && parts.filter_map(weight).all(|weight| weight != Ok(0.0))
        };
        if accept.split(',').any(takes) { Self::OpenMetrics } else { Self::Prometheus }
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
    let links = links_once()?;
    let loaded = View::look(|instance| Loaded::read(instance, &links))?;
    loaded.unwrap_or_default().text(format)
}

/// Whether what is loaded can be read; nothing loaded is fine.
///
/// # Errors
/// It cannot.
pub fn check_health() -> Result<()> {
    View::look(|instance| instance.read(InstanceMaps::settings)).map(|_| ())
}

impl Loaded {
    fn text(self, format: Format) -> Result<String> {
        let mut registry = Registry::with_prefix(families::PREFIX);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).context("writing the metrics")?;
        let text = readable(&text);
        Ok(if format == Format::OpenMetrics { text } else { as_prometheus(&text) })
    }
}

/// What a terminal would obey, written as a label has it: the backslash of an escape twice. Names of interfaces may have such characters in them, and
/// a backslash before any other letter makes Prometheus refuse the whole page.
fn readable(page: &str) -> String {
    page.chars().fold(String::with_capacity(page.len()), |mut text, letter| {
        if letter.is_control() && letter != '\n' {
            text.push('\\');
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
        text
    })
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

impl Collector for Loaded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        FAMILIES.iter().try_for_each(|family| family.encode(self, &mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use icmp_common::path::checks::Check;

    use super::*;

    fn page(loaded: Loaded, format: Format) -> String {
        loaded.text(format).expect("a page")
    }

    #[test]
    fn a_figure_that_cannot_be_had_is_left_out_and_the_page_is_not() {
        let page = |under_pressure| page(Loaded { under_pressure, ..Loaded::default() }, Format::Prometheus);
        assert!(page(Some(true)).contains("icmp_ctl_pressure 1"));
        let without = page(None);
        assert!(
            without.contains("icmp_ctl_build_info{") && !without.contains("icmp_ctl_pressure"),
            "{without}"
        );
    }

    #[test]
    fn where_nothing_is_loaded_there_are_no_zeroes_of_it() {
        let text = page(Loaded::default(), Format::Prometheus);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(samples.len() == 1 && samples[0].starts_with("icmp_ctl_build_info{"), "{text}");
    }

    #[test]
    fn each_format_describes_counters_as_it_wants_them() {
        let loaded = || Loaded { checks: vec![(Check::Quote, 7)], config_hash: Some(1), ..Loaded::default() };
        let text = page(loaded(), Format::Prometheus);
        assert!(text.contains("# TYPE icmp_ctl_check_failures_total counter\n"), "{text}");
        assert!(text.contains("# HELP icmp_ctl_check_failures_total ") && !text.contains("# EOF"), "{text}");
        assert!(text.contains("# TYPE icmp_ctl_config_hash gauge\n"), "{text}");
        let text = page(loaded(), Format::OpenMetrics);
        assert!(
            text.contains("# TYPE icmp_ctl_check_failures counter\n") && text.ends_with("# EOF\n"),
            "{text}"
        );
        for text in [text, page(loaded(), Format::Prometheus)] {
            assert!(text.contains("icmp_ctl_check_failures_total{check=\"quote\"} 7\n"), "{text}");
        }
        let scraper =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(
            [scraper, "*/*", "", "text/plain, Application/OpenMetrics-Text"].map(Format::accepted),
            [Format::OpenMetrics, Format::Prometheus, Format::Prometheus, Format::OpenMetrics]
        );
        let refused =
            ["application/openmetrics-text;q=0", "application/openmetrics-text; version=1.0.0; q=0.000, */*"];
        assert_eq!(refused.map(Format::accepted), [Format::Prometheus; 2]);
        assert_eq!(Format::accepted("application/openmetrics-text-2"), Format::Prometheus);
    }

    #[test]
    fn a_name_that_a_terminal_would_obey_is_a_label_that_prometheus_takes() {
        let name = "a\u{1b}[31m\"\\\t".to_owned();
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let attached = vec![(name.clone(), "native")];
            let text = page(Loaded { attached, ..Loaded::default() }, format);
            assert!(text.contains(r#"{interface="a\\u{1b}[31m\"\\\\t",mode="native"} 1"#), "{text}");
        }
    }
}
