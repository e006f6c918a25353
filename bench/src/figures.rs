//! Figures: samples by name, medians with their spread, ratios, the table and the JSON.
//!
//! Owns the arithmetic and the printing. A ratio is made within each round, from samples taken next to each other, and only then is the median
//! taken, because this machine may be slower in one round than in the next.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Samples of one figure, one for each round.
struct Figure {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
}

/// A ratio that has a target.
pub(crate) struct Target {
    /// Its name.
    pub name: &'static str,
    /// The bound.
    pub bound: Bound,
}

/// Which side of a target is good.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Reported beside those that have one.
    None,
}

impl Bound {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(bound) => ratio <= bound,
            Self::AtLeast(bound) => ratio >= bound,
            Self::None => true,
        }
    }
}

/// Everything that was measured, in the order in which it was.
#[derive(Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    ratios: Vec<(Target, Vec<f64>)>,
}

/// A median with its spread.
#[derive(Clone, Copy)]
pub(crate) struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Figures {
    /// Adds a sample.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, sample: f64) {
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.samples.push(sample),
            None => self.figures.push(Figure { name: name.to_owned(), unit, samples: vec![sample] }),
        }
    }

    /// Makes a ratio of the samples of each round; nothing where one of them was not measured.
    pub(crate) fn ratio(&mut self, target: Target, of: impl Fn(&dyn Fn(&str) -> Option<f64>) -> Option<f64>) {
        let rounds = self.figures.iter().map(|figure| figure.samples.len()).max().unwrap_or(0);
        let samples: Vec<f64> = (0..rounds)
            .filter_map(|round| of(&|name| self.samples(name)?.get(round).copied()))
            .filter(|ratio| ratio.is_finite())
            .collect();
        if !samples.is_empty() {
            self.ratios.push((target, samples));
        }
    }

    fn samples(&self, name: &str) -> Option<&[f64]> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.samples.as_slice())
    }

    /// What was measured under this name.
    pub(crate) fn summary(&self, name: &str) -> Option<Summary> {
        self.samples(name).map(summary)
    }

    /// The median of every ratio.
    pub(crate) fn ratios(&self) -> BTreeMap<String, f64> {
        self.ratios
            .iter()
            .map(|(target, samples)| (target.name.to_owned(), rounded(summary(samples).median)))
            .collect()
    }

    /// Every ratio with its spread and what is asked of it.
    pub(crate) fn judged(&self) -> BTreeMap<&str, (Summary, Bound)> {
        self.ratios.iter().map(|(target, samples)| (target.name, (summary(samples), target.bound))).collect()
    }

    /// Of every ratio the spread of its rounds, the target if it has one, and whether it meets that.
    fn verdicts(&self) -> Map<String, Value> {
        let verdict = |(target, samples): &(Target, Vec<f64>)| {
            let Summary { median, min, max } = summary(samples);
            let mut value = json!({
                "median": rounded(median), "min": rounded(min), "max": rounded(max), "rounds": samples.len(),
            });
            let bound = match target.bound {
                Bound::AtMost(bound) => Some(("at_most", bound)),
                Bound::AtLeast(bound) => Some(("at_least", bound)),
                Bound::None => None,
            };
            if let Some((side, bound)) = bound {
                value[side] = bound.into();
                value["met"] = target.bound.is_met(median).into();
            }
            (target.name.to_owned(), value)
        };
        self.ratios.iter().map(verdict).collect()
    }

    /// The document that `--json` writes.
    pub(crate) fn document(&self) -> Value {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|figure| {
                let Summary { median, min, max } = summary(&figure.samples);
                let value = json!({ "median": rounded(median), "min": rounded(min), "max": rounded(max), "unit": figure.unit });
                (figure.name.clone(), value)
            })
            .collect();
        json!({ "schema": 1, "figures": figures, "ratios": self.ratios(), "targets": self.verdicts() })
    }

    /// The same for people.
    pub(crate) fn print(&self) {
        let mut group = "";
        for figure in &self.figures {
            let this = figure.name.split('.').next().unwrap_or_default();
            if this != group {
                group = this;
                println!("\n{:<44} {:>10} {:>10} {:>10}  unit", group, "median", "min", "max");
            }
            let Summary { median, min, max } = summary(&figure.samples);
            println!(
                "  {:<42} {:>10} {:>10} {:>10}  {}",
                figure.name,
                shown(median),
                shown(min),
                shown(max),
                figure.unit
            );
        }
        println!("\n{:<44} {:>10} {:>10} {:>10}  target", "ratios", "median", "min", "max");
        for (target, samples) in &self.ratios {
            let Summary { median, min, max } = summary(samples);
            let judged = match target.bound {
                Bound::AtMost(bound) => format!("at most {bound}"),
                Bound::AtLeast(bound) => format!("at least {bound}"),
                Bound::None => String::new(),
            };
            let missed = if target.bound.is_met(median) { "" } else { ", MISSED" };
            println!(
                "  {:<42} {:>10} {:>10} {:>10}  {judged}{missed}",
                target.name,
                shown(median),
                shown(min),
                shown(max)
            );
        }
    }
}

fn summary(samples: &[f64]) -> Summary {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    Summary { median, min: sorted[0], max: sorted[sorted.len() - 1] }
}

/// Four significant digits are more than a shared machine can tell apart.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn shown(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_made_within_rounds() {
        let mut figures = Figures::default();
        // The machine is ten times slower in the second round; the ratio is the same in each.
        for speed in [1.0, 10.0, 1.0] {
            figures.add("a", "ns", 3.0 * speed);
            figures.add("b", "ns", 4.0 * speed);
        }
        figures.ratio(Target { name: "a_vs_b", bound: Bound::None }, |of| Some(of("a")? / of("b")?));
        figures.ratio(Target { name: "a_vs_c", bound: Bound::None }, |of| Some(of("a")? / of("c")?));
        assert_eq!(figures.ratios(), BTreeMap::from([("a_vs_b".to_owned(), 0.75)]));
    }

    #[test]
    fn the_document_has_the_median_and_its_spread() {
        let mut figures = Figures::default();
        for sample in [5.0, 1.0, 2.0, 8.0] {
            figures.add("x", "us", sample);
        }
        let expected = json!({ "median": 3.5, "min": 1.0, "max": 8.0, "unit": "us" });
        assert_eq!(figures.document()["figures"]["x"], expected);
        assert_eq!(figures.document()["schema"], 1);
    }

    #[test]
    fn the_document_says_of_each_ratio_whether_it_meets_its_target() {
        let mut figures = Figures::default();
        figures.add("x", "ns", 3.0);
        let bounds = [
            ("met", Bound::AtMost(3.0)),
            ("missed", Bound::AtMost(2.9)),
            ("fast", Bound::AtLeast(3.0)),
            ("slow", Bound::AtLeast(3.1)),
            ("asked for nothing", Bound::None),
        ];
        for (name, bound) in bounds {
            figures.ratio(Target { name, bound }, |of| of("x"));
        }
        let met = bounds.map(|(name, _)| figures.document()["targets"][name]["met"].as_bool());
        assert_eq!(met, [Some(true), Some(false), Some(true), Some(false), None]);
        let expected = json!({
            "median": 3.0, "min": 3.0, "max": 3.0, "rounds": 1, "at_most": 2.9, "met": false,
        });
        assert_eq!(figures.document()["targets"]["missed"], expected);
    }
}
