//! A screen as a picture, for the documentation.
//!
//! Owns how it is drawn: blocks as rectangles, so that they join in every font, and all else as text, each word at its place. It is a dark
//! terminal with a line around it, which stands out from a light page and from a dark one.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Width and height of a character, and the margin, in the picture's units.
const CHARACTER: (f32, f32) = (8.4, 18.0);
const MARGIN: f32 = 12.0;

/// SVG of a screen.
pub(super) fn picture(screen: &Buffer) -> String {
    let (columns, rows) = (screen.area.width, screen.area.height);
    let width = f32::from(columns) * CHARACTER.0 + 2.0 * MARGIN;
    let height = f32::from(rows) * CHARACTER.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\">\n\
         <style>text {{ font: 14px monospace; fill: #ddd }} .bold {{ font-weight: bold; fill: #fff }} .alarm {{ fill: #f66 }} \
         rect {{ fill: #8bd }}</style>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\" style=\"fill: #1c1f24; stroke: #5a626e\"/>\n",
        width - 1.0,
        height - 1.0
    );
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let first = &screen[(x, y)];
            if first.symbol() == " " {
                x += 1;
                continue;
            }
            let end = (x..columns).find(|at| !is_alike(first, &screen[(*at, y)])).unwrap_or(columns);
            let at = (MARGIN + f32::from(x) * CHARACTER.0, MARGIN + f32::from(y) * CHARACTER.1);
            let length = f32::from(end - x) * CHARACTER.0;
            match eighths(first) {
                Some(eighths) => {
                    // A little less than the line is high, so that each line's bars are told from those of the next one.
                    let tall = (CHARACTER.1 - 2.0) * eighths / 8.0;
                    let top = at.1 + CHARACTER.1 - tall;
                    write!(svg, "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{tall:.1}\"/>", at.0)
                }
                None => {
                    let text: String = (x..end).map(|at| screen[(at, y)].symbol()).collect();
                    let text = text.replace('&', "&amp;").replace('<', "&lt;");
                    let baseline = at.1 + CHARACTER.1 * 0.75;
                    write!(
                        svg,
                        "<text x=\"{:.1}\" y=\"{baseline:.1}\" textLength=\"{length:.1}\" class=\"{}\">{text}</text>",
                        at.0,
                        class(first)
                    )
                }
            }
            .expect("a string takes everything");
            x = end;
        }
        svg.push('\n');
    }
    svg + "</svg>\n"
}

/// Whether two characters are one piece of the picture.
fn is_alike(a: &Cell, b: &Cell) -> bool {
    b.symbol() != " " && eighths(a) == eighths(b) && (eighths(a).is_some() || class(a) == class(b))
}

/// How much of its height a block fills.
fn eighths(cell: &Cell) -> Option<f32> {
    let character = cell.symbol().chars().next().filter(|character| ('▁'..='█').contains(character))?;
    Some((u32::from(character) - u32::from('▁') + 1) as f32)
}

fn class(cell: &Cell) -> &'static str {
    match (cell.fg, cell.modifier.contains(Modifier::BOLD)) {
        (Color::Reset, false) => "plain",
        (Color::Reset, true) => "bold",
        _ => "bold alarm",
    }
}
