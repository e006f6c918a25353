//! Scenes for the screen, for its tests and for the pictures in the documentation.
//!
//! Owns their figures, which are of the size that real hosts have, with the default limits.

use std::time::Duration;

use icmp_common::types::{Budget as Of, row_labels};

use crate::observe::rates::{Rows, Totals};
use crate::observe::sources::{Number, Row, Sources};
use crate::top::model::{Budget, Interface, Model, Seen};

/// The second in which a flood begins, of two minutes.
const BEGINS: u64 = 100;

fn two_minutes(second: impl Fn(u64) -> Seen) -> Model {
    let mut model = Model::new(Duration::from_secs(1));
    for at in 0..120 {
        model.take(Ok(second(at)));
    }
    model
}

fn totals(packets: [u64; 4]) -> Totals {
    Totals { packets, bytes: 98 * packets.iter().sum::<u64>() }
}

/// Row of a type's counters; without a type, of what is no ICMP.
fn row(family: &str, icmp_type: &str) -> u8 {
    (0..=u8::MAX).find(|row| row_labels(usize::from(*row)) == (family, icmp_type)).expect("a type")
}

/// A second of two interfaces.
pub(super) fn seen(flood: u64, left: f64, sources: Vec<Row>) -> Seen {
    let rows = |part: u64| {
        Rows(
            [
                (row("ipv4", "echo-request"), totals([1200 / part, 0, 0, flood / part])),
                (row("ipv6", "nd-neighbor-solicit"), totals([0, 7, 0, 0])),
                (row("ipv4", "timestamp-request"), totals([0, 0, 3, 0])),
                (row("ipv4", ""), totals([0, 51_000 / part, 0, 0])),
            ]
            .into(),
        )
    };
    let interface = |name: &str, mode: &str, part| Interface {
        name: name.to_owned(),
        mode: mode.to_owned(),
        rows: rows(part),
    };
    Seen {
        span: Duration::from_secs(1),
        interfaces: vec![interface("eth0", "native", 1), interface("eth1", "generic", 4)],
        budgets: budgets(left, None),
        sources: Some(few(sources)),
        under_pressure: Some(left == 0.0),
        pending: None,
    }
}

fn source(name: &str, requests: f64, limited: f64) -> Row {
    Row { source: name.to_owned(), requests, standard_error: 1.0, limited }
}

/// Two minutes, of which the last ten seconds are a flood from one source.
pub(super) fn flood() -> Model {
    two_minutes(|second| {
        let flood = if second < 110 { second % 7 } else { 1_234_000 };
        let left = if flood > 1000 { 0.0 } else { 0.98 };
        let mut sources = vec![
            source("192.0.2.10", 1000.0, 0.0),
            source("2001:db8:1234:5678::/64", 412.5, 1.0),
            source("2001:db8:1234:5678:9abc:def0:1234:5678/128", 3.25, 0.0),
        ];
        if flood > 1000 {
            sources.push(source("198.51.100.66", 1_234_000.0, 1_233_000.0));
        }
        seen(flood, left, sources)
    })
}

fn budgets(replies: f64, queries: Option<f64>) -> Vec<Budget> {
    let budgets = Of::ALL.iter().filter(|budget| **budget != Of::KnownSources);
    let left = |budget: &Of| match budget {
        Of::Replies => Some(replies),
        Of::Queries => queries,
        _ => Some(1.0),
    };
    budgets.map(|budget| Budget { name: budget.name().to_owned(), left: left(budget) }).collect()
}

/// Sources that all have a line.
fn few(rows: Vec<Row>) -> Sources {
    let most = rows.iter().map(|row| row.requests).fold(0.0, f64::max);
    let requests = rows.iter().map(|row| row.requests).sum::<f64>();
    Sources {
        seconds: 4.0,
        requests,
        standard_error: 1.0,
        number: Number::About(rows.len() as u64),
        largest: most / requests.max(1.0),
        rows,
    }
}

/// A second of a server that two dozen monitors ping, and to which others send echo requests too.
fn second(at: u64, [answered, limited]: [u64; 2], replies: f64, sources: Sources) -> Seen {
    // A rate is never quite what it was, and each goes its own way.
    let about = |rate: u64| rate - rate * (at * (at + rate) % 47) / 100;
    let every = |seconds: u64| u64::from(at.is_multiple_of(seconds));
    let rows = [
        (row("ipv4", "echo-request"), totals([about(240) + answered, 0, 0, about(limited)])),
        (row("ipv6", "echo-request"), totals([about(60), 0, 0, 0])),
        (row("ipv6", "nd-neighbor-solicit"), totals([0, every(5), 0, 0])),
        (row("ipv4", "timestamp-request"), totals([0, 0, every(20), 0])),
        (row("ipv4", ""), totals([0, about(3200), 0, 0])),
        (row("ipv6", ""), totals([0, about(410), 0, 0])),
    ];
    Seen {
        span: Duration::from_secs(1),
        interfaces: vec![Interface {
            name: "eth0".to_owned(),
            mode: "native".to_owned(),
            rows: Rows(rows.into()),
        }],
        budgets: budgets(replies, Some(1.0)),
        sources: Some(sources),
        under_pressure: Some(replies == 0.0),
        pending: None,
    }
}

/// Monitors, of which some have a line.
fn monitors() -> Sources {
    let names = [10, 11, 12, 14].map(|host| format!("192.0.2.{host}"));
    let mut rows: Vec<_> =
        names.iter().zip([31.2, 23.4, 15.6, 15.6]).map(|(name, rate)| source(name, rate, 0.0)).collect();
    rows.push(source("2001:db8:1:2::/64", 23.4, 0.0));
    Sources { number: Number::About(24), requests: 280.0, largest: 0.11, ..few(rows) }
}

/// Nothing but monitors.
pub(super) fn idle() -> Model {
    two_minutes(|at| second(at, [0, 0], 1.0, monitors()))
}

/// So few requests that none was looked at.
pub(super) fn quiet() -> Model {
    two_minutes(|at| second(at, [0, 0], 1.0, few(Vec::new())))
}

/// One source sends much.
pub(super) fn one_source() -> Model {
    two_minutes(|at| {
        if at < BEGINS {
            return second(at, [0, 0], 1.0, monitors());
        }
        let mut rows = monitors().rows;
        rows.push(source("198.51.100.66", 87_400.0, 86_400.0));
        second(at, [1000, 87_000], 0.99, Sources { number: Number::About(25), ..few(rows) })
    })
}

/// Each of many sources sends a little.
fn spoofed(answered: u64, limited: u64, replies: f64) -> Model {
    two_minutes(|at| {
        if at < BEGINS {
            return second(at, [0, 0], 1.0, monitors());
        }
        let chance =
            |host: u8| Row { standard_error: 64.0, ..source(&format!("203.0.113.{host}"), 26.0, 26.0) };
        let mut rows = monitors().rows;
        rows.extend((1..40).map(chance));
        let sources =
            Sources { number: Number::MoreThan(15_000), requests: 82_000.0, largest: 0.001, ..few(rows) };
        second(at, [answered, limited], replies, sources)
    })
}

/// The same, and the total admits it.
pub(super) fn everywhere() -> Model {
    spoofed(81_700, 0, 0.97)
}

/// The same, and the total is exhausted.
pub(super) fn exhausted() -> Model {
    spoofed(1700, 79_900, 0.0)
}

/// A policy awaits confirmation.
pub(super) fn pending() -> Model {
    let mut model = idle();
    model.seen.pending = Some(Duration::from_secs(26));
    model
}

/// All at once that needs attention, and it is old.
pub(super) fn everything() -> Model {
    let mut model = exhausted();
    model.seen.pending = Some(Duration::from_secs(26));
    model.pass(Duration::from_secs(13));
    model
}
