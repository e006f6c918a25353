//! `show sources`: the sources that send most echo requests, and those that are limited most.

use anyhow::{Context as _, Result};
use icmp_common::heavy_hitters::SAMPLE;
use serde_json::{Value, json};

use super::table::{Column::Left, Column::Right, table};
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::clock::{Tick, ticks};
use crate::observe::sources::{Number, Row, sources};
use crate::output::Output;

/// Standard errors behind a "±": 19 figures in 20 are within two.
const SHOWN_ERRORS: f64 = 2.0;

pub(super) fn show(top: usize) -> Result<Output> {
    let instance = View::open()?;
    let settings = instance.read(InstanceMaps::settings)?.context("the program has no settings")?;
    let tick = Tick::of_this_kernel()?;
    let entries = instance.maps.heavy_hitters()?;
    // Asked last, so that no entry is of a window to come.
    let seen = sources(&entries, &settings, tick, ticks()?);
    let ranked = |key: fn(&Row) -> f64| {
        let mut ranked: Vec<&Row> = seen.rows.iter().filter(|row| key(row) > 0.0).collect();
        ranked.sort_by(|a, b| key(b).total_cmp(&key(a)));
        ranked.truncate(top);
        ranked
    };
    let (heavy_hitters, limited) = (ranked(|row| row.requests), ranked(|row| row.limited));
    let list = |rows: &[&Row]| -> Value {
        rows.iter()
            .map(|row| json!({
                "source": row.source, "requests_per_second": row.requests, "standard_error": row.standard_error,
                "limited_per_second": row.limited,
            }))
            .collect()
    };
    let (Number::About(number) | Number::MoreThan(number)) = seen.number;
    let is_at_least = matches!(seen.number, Number::MoreThan(_));
    let json = json!({
        "schema": 1, "seconds": seen.seconds, "requests_per_second": seen.requests,
        "standard_error": seen.standard_error,
        "sources": number, "sources_at_least": is_at_least, "largest_share": seen.largest,
        "flood_from_everywhere": seen.is_flood_from_everywhere(),
        "heavy_hitters": list(&heavy_hitters), "limited": list(&limited),
    });
    if seen.rows.is_empty() && seen.requests == 0.0 {
        let line =
            format!("no echo request was sampled in the last {:.1} s; one in {SAMPLE} is", seen.seconds);
        return Ok(Output::shown(json, vec![line]));
    }
    let mut lines = vec![format!(
        "{:.0} ± {:.0} requests/s from {}, {:.0} % from the largest; from one request in {SAMPLE} of the last {:.1} s",
        seen.requests,
        SHOWN_ERRORS * seen.standard_error,
        seen.number,
        seen.largest * 100.0,
        seen.seconds
    )];
    if seen.is_flood_from_everywhere() {
        lines.push(
            "A FLOOD FROM EVERYWHERE: no source sends much of it, so that only `per-prefix` and `replies` limit it"
                .to_owned(),
        );
    }
    for (title, rows) in [("SENDS MOST", &heavy_hitters), ("LIMITED MOST", &limited)] {
        let rows = rows.iter().map(|row| {
            [
                row.source.clone(),
                format!("{:.0}", row.requests),
                format!("± {:.0}", SHOWN_ERRORS * row.standard_error),
                format!("{:.0}", row.limited),
            ]
        });
        lines.push(String::new());
        lines
            .extend(table([Left(title), Right("REQUESTS/s"), Right(""), Right("LIMITED/s")], rows.collect()));
    }
    Ok(Output::shown(json, lines))
}
