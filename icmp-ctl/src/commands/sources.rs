//! `show sources`: who sends most echo requests, and who is limited most.

use anyhow::{Context as _, Result};
use icmp_common::talkers::SAMPLE;
use serde_json::{Value, json};

use super::table::{Column::Left, Column::Right, table};
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::clock::{Tick, ticks};
use crate::observe::sources::{Row, rates};
use crate::output::Output;

pub(super) fn show(top: usize) -> Result<Output> {
    let instance = View::open()?;
    let settings = instance.read(InstanceMaps::settings)?.context("the program has no settings")?;
    let tick = Tick::of_this_kernel()?;
    let now = ticks()?;
    let (rows, seconds) = rates(&instance.maps.talkers()?, &settings, tick, now);
    let ranked = |key: fn(&Row) -> f64| {
        let mut ranked: Vec<&Row> = rows.iter().filter(|row| key(row) > 0.0).collect();
        ranked.sort_by(|a, b| key(b).total_cmp(&key(a)));
        ranked.truncate(top);
        ranked
    };
    let (talkers, limited) = (ranked(|row| row.requests), ranked(|row| row.limited));
    let list = |rows: &[&Row]| -> Value {
        rows.iter()
            .map(|row| json!({ "source": row.source, "requests_per_second": row.requests, "limited_per_second": row.limited }))
            .collect()
    };
    let json =
        json!({ "schema": 1, "seconds": seconds, "talkers": list(&talkers), "limited": list(&limited) });
    let mut lines = vec![format!("estimated from one request in {SAMPLE} of the last {seconds:.0} s")];
    for (title, rows) in [("SENDS MOST", &talkers), ("LIMITED MOST", &limited)] {
        let rows = rows
            .iter()
            .map(|row| [row.source.clone(), format!("{:.1}", row.requests), format!("{:.1}", row.limited)]);
        lines.push(String::new());
        lines.extend(table([Left(title), Right("REQUESTS/s"), Right("LIMITED/s")], rows.collect()));
    }
    Ok(Output::shown(json, lines))
}
