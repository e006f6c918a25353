//! `peers`: the hosts that ping this one, and the loss, reordering and jitter of the path from there.

mod text;

use std::cmp::Reverse;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::cli::look::Peers;
use crate::config::prefix::Prefix;
use crate::config::suggestions::did_you_mean;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{View, nothing_loaded};
use crate::observe::peers::{Row, Seen};
use crate::output::Output;

pub(super) fn show(args: &Peers, verbose: bool) -> Result<Output> {
    let seen = View::look(see)?.ok_or_else(nothing_loaded)?;
    let who = args.who.iter().map(|word| Who::read(word, &seen)).collect::<Result<Vec<_>>>()?;
    let is_meant = |row: &&Row| who.is_empty() || who.iter().any(|who| who.is(row, seen.name(row)));
    let mut rows: Vec<&Row> = seen.rows.iter().filter(is_meant).collect();
    let loss = |row: &Row| row.loss().map_or(-1, |loss| (loss * 1e9) as i64);
    rows.sort_by_key(|row| (Reverse(loss(row)), row.address(), row.destination(), row.peer.identifier));
    let all = rows.len();
    rows.truncate(args.top);
    let json: Vec<_> = rows.iter().map(|row| in_json(row, seen.name(row))).collect();
    let json = json!({
        "schema": 1, "tracking": seen.is_tracking, "places": seen.room.places, "answers_without_place": seen.room.without_place,
        "peers": json,
    });
    let silent =
        args.who.iter().zip(&who).filter(|(_, who)| !seen.rows.iter().any(|row| who.is(row, seen.name(row))));
    let silent =
        silent.map(|(word, _)| format!("{word}: no ping from there was answered since it is tracked"));
    let notes = if seen.is_tracking { silent.collect() } else { Vec::new() };
    Ok(Output::shown(json, text::lines(&seen, &rows, all, verbose)).noting(notes))
}

fn see(instance: &View) -> Result<Seen> {
    let settings = instance.read(InstanceMaps::settings)?.context("the program has no settings")?;
    Seen::now(instance, &settings)
}

/// Whom somebody means.
enum Who<'a> {
    Named(&'a str),
    /// An address is a prefix that it is alone in.
    Within(Prefix),
}

impl<'a> Who<'a> {
    fn read(word: &'a str, seen: &Seen) -> Result<Self> {
        let names = || seen.named.iter().map(|peer| peer.name.as_str());
        if names().any(|name| name == word) {
            return Ok(Self::Named(word));
        }
        let is_name = word.parse::<IpAddr>().is_err() && !word.contains('/');
        match word.parse() {
            Ok(prefix) => Ok(Self::Within(prefix)),
            // Without the table, nobody knows the names.
            Err(_) if is_name && !seen.is_tracking => Ok(Self::Named(word)),
            Err(_) if is_name => {
                bail!("no peer is called {word:?} by `[[peers.named]]`{}", did_you_mean(word, names()))
            }
            Err(why) => bail!("{why}"),
        }
    }

    fn is(&self, row: &Row, called: Option<&str>) -> bool {
        match self {
            Self::Named(name) => called == Some(name),
            Self::Within(prefix) => prefix.0.contains(&row.address()),
        }
    }
}

fn in_json(row: &Row, name: Option<&str>) -> serde_json::Value {
    let peer = &row.peer;
    let recently = row.recently_lost();
    json!({
        "address": row.address(), "destination": row.destination(), "identifier": peer.identifier, "name": name,
        "regular": peer.is_regular(), "interval_ns": peer.interval, "jitter_ns": row.jitter(),
        "received": peer.received, "expected": peer.expected, "lost": row.loss().map(|_| peer.lost()), "loss": row.loss(),
        "recently_lost": recently.map(|(lost, _)| lost), "recently_expected": recently.map(|(_, of)| of),
        "duplicates": peer.duplicates, "reordered": peer.late,
        "last_seen_ns_ago": row.silent, "first_seen_ns_ago": row.since,
    })
}
