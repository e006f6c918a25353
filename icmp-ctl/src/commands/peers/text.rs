//! The output of `peers`.

use super::super::table::{Column::Left, Column::Right, table};
use crate::observe::peers::{Row, Seen};
use crate::observe::rates::{span, three_digits};

/// Characters of address and name that leave room for the figures in a line of 80.
const ROOM: usize = 30;

pub(super) fn lines(seen: &Seen, rows: &[&Row], all: usize, verbose: bool) -> Vec<String> {
    if !seen.is_tracking {
        return vec![
            "no peer is tracked; `[peers] track = 10000` in the configuration tracks so many".to_owned(),
        ];
    }
    let mut cells = Vec::new();
    for row in rows {
        let (peer, name) = (&row.peer, seen.name(row).unwrap_or_default());
        let mut address = row.address().to_string();
        let is_long = address.len() + name.len() > ROOM;
        if is_long {
            cells.push(Cells::Line(format!("{address} {name}").trim_end().to_owned()));
            address.clear();
        }
        cells.push(Cells::Row([
            address,
            if peer.interval == 0 { "-".to_owned() } else { span(peer.interval) },
            three_digits(f64::from(peer.received)),
            row.loss().map_or_else(|| "-".to_owned(), |loss| format!("{:.1} %", loss * 100.0)),
            three_digits(f64::from(peer.duplicates)),
            three_digits(f64::from(peer.late)),
            span(row.jitter()),
            span(row.silent),
            if is_long { String::new() } else { name.to_owned() },
        ]));
        if verbose {
            cells.push(Cells::Line(format!("  to {}, identifier {}", row.destination(), peer.identifier)));
        }
    }
    let mut lines = laid_out(cells);
    if rows.len() < all {
        lines.push(format!("and {} more; `-n {all}` shows them", all - rows.len()));
    }
    if seen.room.without_place > 0 {
        lines.push(format!(
            "{} answers went to who found no place in the table, which has {}; a higher `track` makes it larger when the program is loaded again",
            seen.room.without_place, seen.room.places
        ));
    }
    lines
}

enum Cells {
    Row([String; 9]),
    Line(String),
}

/// Columns, and between their lines such that have none.
fn laid_out(cells: Vec<Cells>) -> Vec<String> {
    let columns = [
        Left("ADDRESS"),
        Right("EVERY"),
        Right("GOT"),
        Right("LOST"),
        Right("TWICE"),
        Right("LATE"),
        Right("JITTER"),
        Right("SEEN"),
        Left("NAME"),
    ];
    let rows =
        cells.iter().filter_map(|cells| if let Cells::Row(row) = cells { Some(row.clone()) } else { None });
    let mut laid_out = table(columns, rows.collect()).into_iter();
    let mut lines: Vec<_> = laid_out.next().into_iter().collect();
    for cells in cells {
        match cells {
            Cells::Row(_) => lines.extend(laid_out.next()),
            Cells::Line(line) => lines.push(line),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
