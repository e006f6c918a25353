//! Limits that are suggested for measured traffic.
//!
//! Owns which limits these are, how a limit is raised that is too low for the same traffic, and the comment on each.

use std::collections::BTreeMap;

use icmp_common::types::Budget;

use crate::config::units::Rate;
use crate::replay::survey::{HEADROOM, Kind, Seconds, Survey};

/// A limit is raised to so many times what the busiest second has of its kind, and no further: one sender of neighbour discovery has an eighth
/// of its budget, so that anything beyond that is not a matter of the limit.
const RAISED_TO: u64 = 16 * HEADROOM;

/// What is suggested.
pub struct Suggestion {
    limits: Vec<Suggested>,
}

struct Suggested {
    kind: Kind,
    name: &'static str,
    what: String,
    seconds: Seconds,
    /// Rate a second, and burst; `None` where there was nothing.
    limit: Option<(u64, u64)>,
    /// Packets that the first limit would have limited.
    raised_for: Option<u64>,
}

impl Suggestion {
    /// What fits traffic second by second.
    pub fn of(survey: &Survey) -> Self {
        let levels = [
            (Kind::Source, "per-source", "echo requests of one source".to_owned()),
            (Kind::Prefix, "per-prefix", "echo requests of one network".to_owned()),
        ];
        let budgets = Budget::ALL.iter().filter(|budget| **budget != Budget::KnownSources).map(|budget| {
            let what = match budget {
                Budget::Replies => "all echo requests".to_owned(),
                Budget::Unverified => "all that fail a check".to_owned(),
                budget => format!("all {}", budget.name()),
            };
            (Kind::Budget(*budget as u8), budget.name(), what)
        });
        let suggested = |(kind, name, what)| {
            let seconds = survey.seconds(kind);
            Suggested { kind, name, what, limit: seconds.limit(), seconds, raised_for: None }
        };
        Self { limits: levels.into_iter().chain(budgets).map(suggested).collect() }
    }

    /// Raises what would have limited so many packets; false where nothing is left that can be.
    pub fn raise(&mut self, limited: &BTreeMap<Kind, u64>) -> bool {
        let mut is_raised = false;
        for suggested in &mut self.limits {
            if let Some(packets) = limited.get(&suggested.kind)
                && let Some((rate, burst)) = &mut suggested.limit
                && *rate < RAISED_TO * suggested.seconds.most()
            {
                *rate *= 2;
                *burst = (*burst).max(*rate);
                suggested.raised_for.get_or_insert(*packets);
                is_raised = true;
            }
        }
        is_raised
    }

    /// What stays limited by which limit, in one line; `None` where nothing is.
    pub fn left(&self, limited: &BTreeMap<Kind, u64>) -> Option<String> {
        let of = |suggested: &Suggested| {
            let packets = limited.get(&suggested.kind)?;
            Some(format!("{packets} by {}", suggested.name))
        };
        let left: Vec<_> = self.limits.iter().filter_map(of).collect();
        (!left.is_empty()).then(|| {
            format!(
                "of these packets there would have been limited: {}; more senders than the limiter's memory tells apart share a bucket, whatever the limit is",
                left.join(", ")
            )
        })
    }

    /// `[limits]`, with what each was made from.
    pub fn text(&self) -> String {
        let lines = self.limits.iter().map(Suggested::text);
        ["[limits]\n".to_owned()].into_iter().chain(lines).collect()
    }
}

impl Suggested {
    fn text(&self) -> String {
        let Self { name, what, seconds, .. } = self;
        let Some((rate, burst)) = self.limit else {
            return format!("# {what}: none in this capture, so that the default stays\n# {name} = …\n");
        };
        let raised = self.raised_for.map_or_else(String::new, |packets| {
            let first = seconds.limit().map_or(0, |(rate, _)| rate);
            format!("; raised from {first}/s, which would have limited {packets}")
        });
        let rate = Rate::PerSecond(rate as f64);
        format!(
            "# {what}: at most {} in a second as a rule, {} in the busiest{raised}\n{name} = {{ rate = \"{rate}\", burst = {burst} }}\n",
            seconds.usual(),
            seconds.most()
        )
    }
}
