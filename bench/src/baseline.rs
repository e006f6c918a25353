//! The committed ratios, and those that have changed since.
//!
//! Owns the comparison. Ratios only: times depend on the machine and the day. Whether a ratio has changed depends on the spread of the rounds
//! of this run: noise is no change, and a doubling is never taken for noise.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::figures::{Bound, Figures, Summary};

/// A document as `--json` writes it, of which only the ratios are kept.
#[derive(serde::Deserialize)]
struct Document {
    ratios: BTreeMap<String, f64>,
}

const BASELINE: &str = include_str!("../baseline.json");

/// What two runs of the same program differ by at least, as a share.
const LEAST: f64 = 0.25;
/// However far apart the rounds are, more than this has moved: less than a doubling.
const MOST: f64 = 0.9;
/// As a share of a bound: what is far below it may do as it likes, for near nothing every change is a multiple.
const OF_BOUND: f64 = 0.1;

/// Prints what has moved.
///
/// # Errors
/// Something has become worse.
pub(crate) fn check(figures: &Figures) -> Result<()> {
    let baseline: Document = serde_json::from_str(BASELINE).context("understanding bench/baseline.json")?;
    let worse = compare(&baseline.ratios, &figures.judged());
    ensure!(
        worse.is_empty(),
        "worse than in bench/baseline.json: {}; if that is meant, put the ratios of a full run's --json there",
        worse.join(", ")
    );
    Ok(())
}

/// Prints what has moved, and returns what has become worse.
fn compare(baseline: &BTreeMap<String, f64>, now: &BTreeMap<&str, (Summary, Bound)>) -> Vec<String> {
    println!(
        "\n{:<44} {:>10} {:>10} {:>10}  moved",
        "compared with bench/baseline.json", "was", "is", "noise"
    );
    let mut worse = Vec::new();
    let mut moved = 0;
    for (name, was) in baseline {
        let Some((is, bound)) = now.get(name.as_str()) else { continue };
        let noise = noise(*was, is, *bound);
        let rise = cost(is.median, *bound) - cost(*was, *bound);
        if rise.abs() <= noise {
            continue;
        }
        moved += 1;
        let direction = match bound {
            Bound::None => "",
            _ if rise > 0.0 => "worse",
            _ => "better",
        };
        let share = 100.0 * noise / cost(*was, *bound).abs();
        println!("  {name:<42} {was:>10.3} {:>10.3} {share:>8.0} %  {direction}", is.median);
        if direction == "worse" {
            worse.push(name.clone());
        }
    }
    if moved == 0 {
        println!("  nothing");
    }
    worse
}

/// A ratio as something of which less is better, so that one half of a speed is one doubling of a cost.
fn cost(ratio: f64, bound: Bound) -> f64 {
    match bound {
        Bound::AtLeast(_) => 1.0 / ratio,
        Bound::AtMost(_) | Bound::None => ratio,
    }
}

/// What measuring alone may change a cost by: half of what the rounds differ by, within limits.
fn noise(was: f64, is: &Summary, bound: Bound) -> f64 {
    let of = |ratio| cost(ratio, bound);
    let was = of(was).abs();
    let spread = (of(is.max) - of(is.min)).abs() / 2.0;
    let floor = match bound {
        Bound::AtMost(bound) => OF_BOUND * bound,
        Bound::AtLeast(_) | Bound::None => 0.0,
    };
    spread.clamp(LEAST * was, MOST * was).max(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOWER: Bound = Bound::AtMost(1.0);
    const HIGHER: Bound = Bound::AtLeast(9.0);

    /// What has become worse when this ratio has become that, in rounds that differ so much.
    fn worse(was: f64, [min, median, max]: [f64; 3], bound: Bound) -> bool {
        let baseline = BTreeMap::from([("x".to_owned(), was)]);
        !compare(&baseline, &BTreeMap::from([("x", (Summary { median, min, max }, bound))])).is_empty()
    }

    #[test]
    fn only_what_moves_the_wrong_way_is_worse() {
        assert!(worse(1.0, [1.4, 1.5, 1.6], LOWER) && !worse(1.0, [0.4, 0.5, 0.6], LOWER));
        assert!(worse(9.0, [5.9, 6.0, 6.1], HIGHER) && !worse(9.0, [17.0, 18.0, 19.0], HIGHER));
        assert!(!worse(1.0, [8.0, 9.0, 10.0], Bound::None));
    }

    #[test]
    fn a_change_within_what_rounds_differ_by_is_noise() {
        assert!(!worse(1.0, [1.1, 1.2, 1.3], LOWER) && !worse(9.0, [7.4, 7.5, 7.6], HIGHER));
        assert!(worse(1.0, [1.4, 1.5, 1.6], LOWER) && !worse(1.0, [0.9, 1.5, 2.1], LOWER));
    }

    #[test]
    fn a_doubling_is_seen_however_far_apart_the_rounds_are() {
        assert!(worse(1.0, [0.1, 2.0, 50.0], LOWER));
        assert!(worse(9.0, [0.1, 4.5, 50.0], HIGHER));
    }

    #[test]
    fn near_nothing_is_not_compared_by_multiples() {
        assert!(!worse(0.01, [0.04, 0.05, 0.06], LOWER) && !worse(-0.01, [0.01, 0.02, 0.03], LOWER));
        assert!(worse(0.01, [0.14, 0.15, 0.16], LOWER));
    }

    #[test]
    fn the_committed_baseline_is_one() {
        let baseline: Document = serde_json::from_str(BASELINE).expect("a document");
        assert!(!baseline.ratios.is_empty());
    }
}
