//! The committed ratios, and what has moved since.
//!
//! Owns the comparison. Ratios only: times are this machine's, and another day's.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::figures::{Bound, Figures};

/// A document as `--json` writes it, of which only the ratios are kept.
#[derive(serde::Deserialize)]
struct Document {
    ratios: BTreeMap<String, f64>,
}

const BASELINE: &str = include_str!("../baseline.json");

/// What two runs of the same program on a shared machine differ by; what moves less has not moved.
const NOISE: f64 = 0.25;

/// Prints what has moved.
///
/// # Errors
/// Something has become worse.
pub(crate) fn check(figures: &Figures) -> Result<()> {
    let baseline: Document = serde_json::from_str(BASELINE).context("understanding bench/baseline.json")?;
    let worse = compare(&baseline.ratios, &figures.ratios(), |name| figures.bound(name));
    ensure!(worse.is_empty(), "worse than in bench/baseline.json: {}", worse.join(", "));
    Ok(())
}

/// Prints what has moved, and returns what has become worse.
fn compare(
    baseline: &BTreeMap<String, f64>,
    now: &BTreeMap<String, f64>,
    bound: impl Fn(&str) -> Option<Bound>,
) -> Vec<String> {
    println!("\ncompared with bench/baseline.json, what moved by more than {:.0} %", NOISE * 100.0);
    let mut worse = Vec::new();
    let mut moved = 0;
    for (name, was) in baseline {
        let (Some(is), Some(bound)) = (now.get(name), bound(name)) else { continue };
        let change = is / was - 1.0;
        if change.abs() <= NOISE {
            continue;
        }
        moved += 1;
        let direction = match bound {
            Bound::AtMost(_) if change > 0.0 => "worse",
            Bound::AtLeast(_) if change < 0.0 => "worse",
            Bound::None => "moved",
            _ => "better",
        };
        println!("  {name:<42} {was:>8.3} -> {is:>8.3}  {direction}");
        if direction == "worse" {
            worse.push(name.clone());
        }
    }
    if moved == 0 {
        println!("  nothing");
    }
    worse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved_the_wrong_way_is_worse() {
        let of =
            |values: [f64; 4]| ["a", "b", "c", "d"].map(ToOwned::to_owned).into_iter().zip(values).collect();
        let bound = |name: &str| match name {
            "a" | "b" => Some(Bound::AtMost(1.0)),
            "c" => Some(Bound::AtLeast(9.0)),
            _ => Some(Bound::None),
        };
        assert_eq!(compare(&of([1.0, 1.0, 9.0, 1.0]), &of([1.5, 0.5, 5.0, 9.0]), bound), ["a", "c"]);
        assert!(compare(&of([1.0, 1.0, 9.0, 1.0]), &of([1.1, 0.9, 8.0, 1.0]), bound).is_empty());
    }

    #[test]
    fn the_committed_baseline_is_one() {
        let baseline: Document = serde_json::from_str(BASELINE).expect("a document");
        assert!(!baseline.ratios.is_empty());
    }
}
