//! The result of a replay as text.

use super::left_out;
use crate::commands::reasons;
use crate::commands::table::{Column, Column::Left, Column::Right, table};
use crate::replay::differences::Differences;
use crate::replay::run::Replay;
use crate::replay::timeline::Peak;
use crate::replay::top::Top;
use icmp_common::reason::Verdict;

/// Entries of each list.
pub(super) const SHOWN: usize = 10;
pub(super) const NS: f64 = 1e9;

pub(super) fn lines(replay: &Replay) -> Vec<String> {
    let mut lines =
        vec![format!("received {} in {:.3} s", replay.frames.seen, replay.frames.time().1 as f64 / NS)];
    lines.extend(left_out::lines(&replay.frames));
    lines.extend(reasons::lines(&replay.totals()));
    let rows = peaks(replay).into_iter().filter(|(_, peak)| peak.frames > 0);
    let rows =
        rows.map(|(name, peak)| [name.to_owned(), peak.frames.to_string(), format!("+{} s", peak.second)]);
    lines.push(String::new());
    lines.extend(table([Left("BUSIEST SECOND OF"), Right("PACKETS/s"), Right("AT")], rows.collect()));
    lines.extend(list([Left("LIMITED MOST"), Right("PACKETS")], replay.limited()));
    lines.extend(list([Left("REPLIES IN THE BUSIEST SECOND, TO"), Right("PACKETS/s")], replay.replies().0));
    if let Some((totals, differences)) = replay.against() {
        lines.extend([String::new(), "under the second configuration:".to_owned()]);
        lines.extend(reasons::lines(&totals));
        lines.extend(different(differences));
    }
    lines
}

/// The busiest second of all packets, and of each verdict.
pub(super) fn peaks(replay: &Replay) -> Vec<(&'static str, Peak)> {
    let of_verdicts = Verdict::ALL.iter().map(|verdict| (verdict.name(), replay.timeline().peak(*verdict)));
    [("received", replay.timeline().received())].into_iter().chain(of_verdicts).collect()
}

fn list<K: Copy + Eq + std::hash::Hash + Ord + ToString>(columns: [Column; 2], top: &Top<K>) -> Vec<String> {
    if top.total == 0 {
        return Vec::new();
    }
    let rows = top.most(SHOWN).into_iter().map(|(key, count)| [key.to_string(), count.to_string()]);
    let mut lines = vec![String::new()];
    lines.extend(table(columns, rows.collect()));
    if top.missed() > 0 {
        lines.push(format!("each may be {} more: there were too many to count each of them", top.missed()));
    }
    lines
}

fn different(differences: &Differences) -> Vec<String> {
    let totals = differences.totals();
    let mut lines = vec![String::new()];
    if totals.is_empty() {
        lines.push("no packet ends otherwise".to_owned());
        return lines;
    }
    let rows = differences.first.iter().map(|difference| {
        let [first, second] = difference.reasons.map(|reason| reason.name().to_owned());
        let at = format!("+{:.6} s", difference.time as f64 / NS);
        [difference.number.to_string(), at, first, second, difference.frame.clone()]
    });
    lines.extend(table(
        [Right("FRAME"), Right("AT"), Left("FIRST"), Left("SECOND"), Left("PACKET")],
        rows.collect(),
    ));
    lines.push(String::new());
    let rows = totals.iter().map(|([first, second], frames)| {
        [frames.to_string(), first.name().to_owned(), second.name().to_owned()]
    });
    lines.extend(table([Right("PACKETS"), Left("FIRST"), Left("SECOND")], rows.collect()));
    lines
}
