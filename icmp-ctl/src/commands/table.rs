//! Rows: which of them are shown, and as text in columns.

use Column::{Left, Right};
use anyhow::{Result, bail};

use crate::host::netlink::Network;

/// A column by its heading, and at which side what is in it lines up.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Lines of columns that are as wide as the widest of what is in them, below their headings.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: Vec<[String; N]>) -> Vec<String> {
    let heading = columns.map(|column| match column {
        Left(name) | Right(name) => name.to_owned(),
    });
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

/// Names of interfaces, alternative ones among them, as rows have them.
pub(super) fn as_in_rows(names: &[String], network: &Network) -> Vec<String> {
    names.iter().map(|name| network.link(name).map_or(name, |link| &link.name).clone()).collect()
}

/// Of rows with the name of an interface, those of the named interfaces, or all where none are named.
pub(super) fn only<T>(rows: Vec<T>, names: &[String], name_of: impl Fn(&T) -> &str) -> Result<Vec<T>> {
    if let Some(name) = names.iter().find(|name| !rows.iter().any(|row| name_of(row) == **name)) {
        bail!("{name}: nothing of ours is attached; `icmp-ctl status` lists what is");
    }
    Ok(rows
        .into_iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| name == name_of(row)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
