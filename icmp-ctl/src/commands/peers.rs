//! `peers`: who pings this host, and the loss, reordering and jitter of the path from there.

mod text;

use std::cmp::Reverse;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::cli::Peers;
use crate::config::prefix::Prefix;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{View, nothing_loaded};
use crate::observe::peers::{Row, Seen};
use crate::output::Output;

pub(super) fn show(args: &Peers, verbose: bool) -> Result<Output> {
    let seen = View::look(see)?.ok_or_else(nothing_loaded)?;
    let mut rows: Vec<&Row> = seen.rows.iter().filter(|row| is_meant(args, row)).collect();
    let loss = |row: &Row| row.loss().map_or(-1, |loss| (loss * 1e9) as i64);
    rows.sort_by_key(|row| (Reverse(loss(row)), row.address, row.destination, row.peer.identifier));
    let all = rows.len();
    rows.truncate(args.top);
    let json: Vec<_> = rows.iter().map(|row| in_json(row)).collect();
    let json = json!({
        "schema": 1, "tracking": seen.is_tracking, "places": seen.places, "answers_without_place": seen.without_place,
        "peers": json,
    });
    Ok(Output::shown(json, text::lines(&seen, &rows, all, verbose)))
}

fn see(instance: &View) -> Result<Seen> {
    let settings = instance.read(InstanceMaps::settings)?.context("the program has no settings")?;
    Seen::now(instance, &settings)
}

/// By its name, its address, or a prefix that it is in.
fn is_meant(args: &Peers, row: &Row) -> bool {
    let means = |word: &String| {
        row.name.as_ref() == Some(word)
            || word.parse::<Prefix>().is_ok_and(|prefix| prefix.0.contains(&row.address))
    };
    args.who.is_empty() || args.who.iter().any(means)
}

fn in_json(row: &Row) -> serde_json::Value {
    let peer = &row.peer;
    let recently = row.recently_lost();
    json!({
        "address": row.address, "destination": row.destination, "identifier": peer.identifier, "name": row.name,
        "regular": peer.is_regular(), "interval_ns": peer.interval, "jitter_ns": row.jitter(),
        "received": peer.received, "expected": peer.expected, "lost": row.loss().map(|_| peer.lost()), "loss": row.loss(),
        "recently_lost": recently.map(|(lost, _)| lost), "recently_expected": recently.map(|(_, of)| of),
        "duplicates": peer.duplicates, "reordered": peer.late,
        "last_seen_ns_ago": row.silent, "first_seen_ns_ago": row.since,
    })
}
