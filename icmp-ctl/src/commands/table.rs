//! Tables: which rows are shown, and text in columns.

use Column::{Left, Right};
use anyhow::Result;

use crate::diagnostics::visible;
use crate::host::netlink::Network;
use crate::host::patterns::means;
use crate::instance::links::nothing_attached;

/// A column by its heading, and at which side what is in it lines up.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Lines of columns that are as wide as the widest of what is in them, as it will be written, below their headings.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: Vec<[String; N]>) -> Vec<String> {
    let heading = columns.map(|column| match column {
        Left(name) | Right(name) => name.to_owned(),
    });
    let rows = rows.into_iter().map(|row| row.map(|text| visible(&text, &[])));
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| -> String {
        let cells = row.iter().zip(columns).zip(widths).map(|((text, column), width)| match column {
            Left(_) => format!("{text:<width$}"),
            Right(_) => format!("{text:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Of rows with the name of an interface, those that names and patterns mean, or all where there are none of these.
pub(super) fn only<T>(
    rows: Vec<T>,
    names: &[String],
    network: &Network,
    name_of: impl Fn(&T) -> &str,
) -> Result<Vec<T>> {
    let is_of = |row: &T, name: &String| means(&network.links, name, name_of(row));
    if let Some(name) = names.iter().find(|name| !rows.iter().any(|row| is_of(row, name))) {
        return Err(nothing_attached(name));
    }
    let is_shown = |row: &T| names.is_empty() || names.iter().any(|name| is_of(row, name));
    Ok(rows.into_iter().filter(is_shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_an_escape_is_as_wide_as_that() {
        let rows = ["a\u{1b}b", "eth0"].map(|name| [name.to_owned(), "up".to_owned()]);
        let lines = table([Left("NAME"), Left("LINK")], rows.to_vec());
        assert_eq!(lines, ["NAME      LINK", "a\\u{1b}b  up", "eth0      up"]);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let row = |name: &str, number: &str, last: &str| [name, number, last].map(str::to_owned);
        let lines = table(
            [Left("NAME"), Right("N"), Left("WHY")],
            vec![row("a", "1234567", "because"), row("longer", "1", "")],
        );
        assert_eq!(lines, ["NAME          N  WHY", "a       1234567  because", "longer        1"]);
    }
}
