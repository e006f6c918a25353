//! `show counters --rate`, `--watch`: frames a second by verdict.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use icmp_common::reason::Verdict;
use serde_json::{Value, json};

use super::table::only;
use crate::cli::look::ShowCounters;
use crate::host::netlink::Network;
use crate::observe::rates::{Totals, three_digits};
use crate::observe::readers::Source;
use crate::output::{Output, Reader, reader_after, set_by_signals};

/// Lines after which the heading is written again: a screen of 24 has one.
const HEADING_EVERY: usize = 20;
const DEFAULT: Duration = Duration::from_secs(1);

/// One span of time, or with `--watch` one after the other for as long as somebody reads, or until a signal comes.
pub(super) fn show(args: &ShowCounters, json: bool, source: Source) -> Result<Output> {
    let interval = args.rate.map_or(DEFAULT, |span| span.0);
    // Any other than the first process of a container is ended by the signal itself, also while it waits for `serve`.
    let ends = (std::process::id() == 1).then(set_by_signals).transpose()?.unwrap_or_default();
    let network = Network::read_once()?;
    let mut before = source.reading()?;
    let mut written = 0;
    loop {
        if reader_after(interval)? == Reader::Gone || ends.load(Ordering::Relaxed) {
            return Ok(Output::nothing());
        }
        let now = source.reading()?;
        let (span, counted) = now.since(&before);
        let counted = counted.into_iter().map(|(name, rows)| (name, rows.total())).collect();
        let counted = only(counted, &args.interfaces, &network, |(name, _)| name)?;
        let mut lines = Vec::new();
        for (name, totals) in &counted {
            if written % HEADING_EVERY == 0 {
                lines.push(line([
                    "INTERFACE",
                    "RECEIVED/s",
                    "ANSWER/s",
                    "PASS/s",
                    "DROP/s",
                    "LIMIT/s",
                    "BIT/s",
                ]));
            }
            lines.push(row(name, totals, span));
            written += 1;
        }
        let output = Output::shown(in_json(&counted, span), lines);
        if !args.watch {
            return Ok(output);
        }
        let _looked_at_next = output.print(json)?;
        before = now;
    }
}

fn row(name: &str, totals: &Totals, span: Duration) -> String {
    let rate = |count: u64| three_digits(count as f64 / span.as_secs_f64());
    let [answer, pass, drop, limit] = totals.packets.map(rate);
    let [received, bits] = [totals.received(), 8 * totals.bytes].map(rate);
    line([name, &received, &answer, &pass, &drop, &limit, &bits])
}

/// Columns of one width, because the lines to come are not known; an interface's name has up to 15 letters.
fn line([name, cells @ ..]: [&str; 7]) -> String {
    let cells = cells.map(|cell| format!("{cell:>10}")).concat();
    format!("{name:<15}{cells}")
}

fn in_json(counted: &[(&str, Totals)], span: Duration) -> Value {
    let interfaces: Vec<Value> = counted
        .iter()
        .map(|(name, totals)| {
            let mut interface = json!({ "name": name, "received": totals.received(), "bytes": totals.bytes });
            for (verdict, packets) in Verdict::ALL.iter().zip(totals.packets) {
                interface[verdict.name()] = packets.into();
            }
            interface
        })
        .collect();
    json!({ "schema": 1, "seconds": span.as_secs_f64(), "interfaces": interfaces })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_figures_below_their_headings_and_fits_80_columns() {
        let totals = Totals { packets: [1_000_000, 0, 12, 250_500], bytes: 98_000_000 };
        let row = row("enp193s0f1np1vf", &totals, Duration::from_secs(1));
        assert_eq!(row, "enp193s0f1np1vf     1.25M     1.00M         0        12      250k      784M");
        assert!(row.len() <= 80);
    }
}
