//! How costs grow with sources, prefixes, CPUs and the size of frames; and the drawing of it.
//!
//! Owns the steps that are measured beyond the program's usual cases, and the picture. docs/performance.md explains it.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Result;
use icmp_common::reason::Reason;

use crate::figures::{Figures, Summary};
use crate::object::{START, Sources, XDP_TX, policy};
use crate::program::{Case, IpVersion, MANY, THOUSAND, echo, full, listed, listing};

const SOURCES: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const PREFIXES: [usize; 7] = [0, 1, 10, 100, 1_000, 10_000, MANY];
const BYTES: [usize; 6] = [64, 256, 512, 768, 1024, 1472];

/// What is measured beyond the usual.
pub(crate) fn cases() -> Result<Vec<Case>> {
    let generous = policy(&full(""))?;
    let header = policy(&full("verify = \"header\""))?;
    let mut cases = Vec::new();
    let mut case = |name: String, program, version: IpVersion, frame, sources, policy: &Arc<_>| {
        let reason = (program == "full").then_some(Reason::Answered);
        let (undo, policy) = (version.pings(), Arc::clone(policy));
        cases.push(Case {
            name,
            program,
            undo,
            frame,
            sources,
            policy,
            action: XDP_TX,
            reason,
            is_watched: false,
        });
    };
    for sources in SOURCES {
        for program in ["full", "conventional"] {
            let name = format!("growth.{program}.sources.{sources}");
            let sources = Sources::adjacent(sources);
            case(name, program, IpVersion::V4, echo(IpVersion::V4, START), sources, &generous);
        }
    }
    for bytes in BYTES {
        for (label, version, policy) in [
            ("full.v4", IpVersion::V4, &generous),
            ("full.v6", IpVersion::V6, &generous),
            ("header.v4", IpVersion::V4, &header),
        ] {
            let name = format!("growth.{label}.bytes.{bytes}");
            case(name, "full", version, echo(version, bytes), THOUSAND, policy);
        }
    }
    for prefixes in PREFIXES {
        let policy = match prefixes {
            0 => Arc::clone(&generous),
            _ => policy(&format!("{}{}", full(""), listing(IpVersion::V4, prefixes)))?,
        };
        for (label, sources) in [("one", Sources::ONE), ("random", Sources::RANDOM)] {
            let name = format!("growth.{label}.prefixes.{prefixes}");
            case(name, "full", IpVersion::V4, listed(IpVersion::V4), sources, &policy);
        }
    }
    Ok(cases)
}

/// One of the pictures: what is on the horizontal axis, and a line for each series.
struct Panel {
    title: &'static str,
    /// Names of the series, and of their figures up to the step.
    series: &'static [(&'static str, &'static str)],
    steps: Vec<Step>,
}

struct Step {
    label: String,
    /// The end of the figures' names.
    figure: String,
    /// Where it is on the axis, in any unit.
    at: f64,
}

impl Step {
    fn new(number: impl ToString, at: f64) -> Self {
        Self { label: number.to_string(), figure: number.to_string(), at }
    }
}

fn panels() -> [Panel; 4] {
    // Equal factors, not equal differences, are equal distances; below one prefix there is none.
    let factors = |numbers: &[u64]| {
        numbers
            .iter()
            .map(|n| Step::new(n, ((*n).max(1) as f64).log10() + f64::from(u8::from(*n > 0))))
            .collect()
    };
    let mut sources: Vec<Step> = factors(&SOURCES);
    for (exponent, step) in sources.iter_mut().enumerate() {
        step.label = format!("1e{exponent}");
    }
    let cpu = |label: &str, figure: &str, at| Step { label: label.into(), figure: figure.into(), at };
    [
        Panel {
            title: "sources",
            series: &[("icmp-ctl", "growth.full.sources."), ("conventional", "growth.conventional.sources.")],
            steps: sources,
        },
        Panel {
            title: "prefixes in a rule",
            series: &[("one source", "growth.one.prefixes."), ("random sources", "growth.random.prefixes.")],
            steps: factors(&PREFIXES.map(|n| n as u64)),
        },
        Panel {
            title: "bytes of a frame",
            series: &[
                ("v4, verify = full", "growth.full.v4.bytes."),
                ("v6, verify = full", "growth.full.v6.bytes."),
                ("v4, verify = header", "growth.header.v4.bytes."),
            ],
            steps: BYTES.iter().map(|bytes| Step::new(bytes, *bytes as f64)).collect(),
        },
        Panel {
            title: "CPUs at once",
            series: &[("1,000 sources each", "scale.sources_1000."), ("random sources", "scale.random.")],
            steps: vec![cpu("1", "one_cpu", 1.0), cpu("2", "two_cpus", 2.0)],
        },
    ]
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 40.0;
const INNER_WIDTH: f64 = WIDTH - LEFT - 25.0;
const INNER_HEIGHT: f64 = HEIGHT - TOP - 40.0;
/// Told apart also by those who see few colours (Okabe and Ito).
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// The picture, as far as its figures were measured.
pub(crate) fn svg(figures: &Figures) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        2.0 * WIDTH,
        2.0 * HEIGHT
    );
    for (i, panel) in panels().iter().enumerate() {
        let (column, row) = ((i % 2) as f64, (i / 2) as f64);
        let _ = writeln!(svg, "<g transform=\"translate({} {})\">", column * WIDTH, row * HEIGHT);
        draw(&mut svg, panel, figures);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Panel, figures: &Figures) {
    let lines: Vec<Vec<(f64, Summary)>> = panel
        .series
        .iter()
        .map(|(_, figure)| {
            let of = |step: &Step| Some((step.at, figures.summary(&format!("{figure}{}", step.figure))?));
            panel.steps.iter().filter_map(of).collect()
        })
        .collect();
    let first = panel.steps.first().map_or(0.0, |step| step.at);
    let last = panel.steps.last().map_or(1.0, |step| step.at);
    let x = |at: f64| LEFT + (at - first) / (last - first) * INNER_WIDTH;
    let most = lines.iter().flatten().map(|(_, summary)| summary.median).fold(1.0, f64::max);
    let tick = tick(most);
    let ticks = (most / tick).ceil();
    let y = |ns: f64| TOP + INNER_HEIGHT * (1.0 - (ns / (tick * ticks)).clamp(0.0, 1.0));

    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">ns per packet, by {}</text>",
        panel.title
    );
    for number in 0..=ticks as u32 {
        let ns = f64::from(number) * tick;
        let (at, right) = (y(ns), LEFT + INNER_WIDTH);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ns}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for step in &panel.steps {
        let (at, bottom) = (x(step.at), TOP + INNER_HEIGHT + 16.0);
        let _ =
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{bottom}\" text-anchor=\"middle\">{}</text>", step.label);
    }
    for (i, (line, (name, _))) in lines.iter().zip(panel.series).enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let points: Vec<_> =
            line.iter().map(|(at, ns)| format!("{:.1},{:.1}", x(*at), y(ns.median))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        for (at, ns) in line {
            // The spread of the rounds.
            let _ = writeln!(
                svg,
                "<path d=\"M{0:.1} {1:.1}V{2:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.4\"/><circle cx=\"{0:.1}\" cy=\"{3:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*at),
                y(ns.min),
                y(ns.max),
                y(ns.median)
            );
        }
        let legend = LEFT + 130.0 * i as f64;
        let _ = writeln!(svg, "<text x=\"{legend}\" y=\"32\" fill=\"{colour}\">{name}</text>");
    }
}

/// A round distance between lines, four to ten of them up to this.
fn tick(most: f64) -> f64 {
    let decade = 10_f64.powf((most / 4.0).log10().floor());
    [5.0, 2.0].into_iter().map(|factor| factor * decade).find(|tick| most / tick >= 4.0).unwrap_or(decade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_at_round_distances() {
        for (most, expected) in [(8.0, 2.0), (40.0, 10.0), (99.0, 20.0), (630.0, 100.0), (1075.0, 200.0)] {
            assert!((tick(most) - expected).abs() < 1e-9, "{most}: {}", tick(most));
        }
    }

    #[test]
    fn every_figure_of_the_picture_is_measured_and_the_other_way_round() {
        let drawn: Vec<String> = panels()
            .iter()
            .flat_map(|panel| {
                let names = |(_, figure): &(&str, &str)| -> Vec<String> {
                    panel.steps.iter().map(|step| format!("{figure}{}", step.figure)).collect()
                };
                panel.series.iter().flat_map(names).collect::<Vec<_>>()
            })
            .filter(|name| name.starts_with("growth."))
            .collect();
        let mut measured: Vec<String> =
            cases().expect("they can be made").into_iter().map(|c| c.name).collect();
        measured.sort();
        let mut sorted = drawn;
        sorted.sort();
        assert_eq!(sorted, measured);
    }
}
