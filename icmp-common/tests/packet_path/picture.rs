//! The picture of the packet path, docs/packet-path.svg, drawn from the table.

use std::fmt::Write as _;
use std::fs;

use crate::{Check, checks, documentation};

const WIDTH: u32 = 780;
const MARGIN: u32 = 16;
/// Left and right edge of the stages; between the right one and the picture's, frames leave.
const LEFT: u32 = 24;
const RIGHT: u32 = 600;
/// Where frames that leave go down.
const WAY_OUT: u32 = 660;
const LINE: u32 = 19;
const TITLE: u32 = 26;
/// Between two stages.
const GAP: u32 = 24;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('`', "")
}

fn text(svg: &mut String, (x, y): (u32, u32), class: &str, text: &str) {
    let text = escaped(text);
    writeln!(svg, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{text}</text>")
        .expect("a string takes everything");
}

fn arrow(svg: &mut String, from: (u32, u32), to: (u32, u32)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(svg, "<path d=\"M{x1} {y1} L{x2} {y2}\" marker-end=\"url(#head)\"/>")
        .expect("a string takes everything");
}

/// A stage with its checks; returns where it ends.
fn stage(svg: &mut String, top: u32, checks: &[Check]) -> u32 {
    let height = TITLE + LINE * checks.len() as u32 + 8;
    let width = RIGHT - LEFT;
    writeln!(svg, "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>")
        .expect("a string takes everything");
    text(svg, (LEFT + 12, top + 19), "stage", &checks[0].stage);
    for (number, check) in (0..).zip(checks) {
        let line = top + TITLE + LINE * number + 13;
        text(svg, (LEFT + 24, line), "check", &check.what);
        text(svg, (RIGHT - 12, line), "rules", &check.rules);
    }
    let middle = top + height / 2;
    arrow(svg, (RIGHT, middle), (WAY_OUT - 3, middle));
    top + height
}

/// The stages in the order in which a frame comes to them.
fn picture(checks: &[Check]) -> String {
    let mut stages = String::new();
    let mut bottom = MARGIN + 16;
    text(&mut stages, (LEFT + 12, bottom), "end", "a frame from the network");
    let first = bottom + 8 + GAP;
    for of_stage in checks.chunk_by(|one, other| one.stage == other.stage) {
        let top = bottom + 8 + GAP;
        arrow(&mut stages, (LEFT + 40, bottom + 8), (LEFT + 40, top - 3));
        bottom = stage(&mut stages, top, of_stage);
    }
    let end = bottom + 8 + GAP;
    arrow(&mut stages, (LEFT + 40, bottom + 8), (LEFT + 40, end - 3));
    text(
        &mut stages,
        (LEFT + 12, end + 16),
        "end",
        "answered: the frame is turned into its reply and sent back",
    );
    arrow(&mut stages, (WAY_OUT, first), (WAY_OUT, end - 3));
    for (line, words) in
        (1..).zip(["passed to the kernel,", "unmodified, or discarded:", "each reason has one verdict"])
    {
        text(&mut stages, (WAY_OUT, end + 16 * line), "out", words);
    }
    let height = end + 3 * 16 + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>text {{ font: 13px sans-serif; fill: #222 }} .stage, .end {{ font-weight: bold }} .rules {{ text-anchor: end; fill: #667 }} \
         .out {{ text-anchor: middle }} rect {{ fill: #eef3f8; stroke: #89a }} path {{ stroke: #456; stroke-width: 1.5; fill: none }}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"6\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0 L8 4 L0 8 z\" style=\"fill: #456; stroke: none\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" style=\"fill: #fff; stroke: none\"/>\n\
         {stages}</svg>\n"
    )
}

/// `ICMP_TESTS_BLESS=1` draws it anew instead.
#[test]
fn the_picture_of_the_packet_path_is_that_of_the_table() {
    let (file, drawn) = (documentation("packet-path.svg"), picture(&checks()));
    if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
        return fs::write(&file, drawn).expect("docs/packet-path.svg");
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(there == drawn, "docs/packet-path.svg shows another table; ICMP_TESTS_BLESS=1 draws it anew");
}
