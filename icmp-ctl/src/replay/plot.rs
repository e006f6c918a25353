//! Verdicts over time as a picture.
//!
//! Owns what is drawn; plotters makes SVG of it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use icmp_common::reason::Verdict;
use plotters::coord::Shift;
use plotters::prelude::{
    AreaSeries, BLACK, ChartBuilder, Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _, RGBColor,
    Rectangle, SVGBackend, Text, WHITE,
};

use crate::replay::timeline::{Counts, Timeline};

const SIZE: (u32, u32) = (1000, 400);
/// What the legend takes of the width.
const LEGEND: u32 = 130;
/// Units of time, each in seconds, and how many seconds are told in it at most.
const UNITS: [(&str, u64, u64); 4] =
    [("seconds", 1, 600), ("minutes", 60, 3 * 3600), ("hours", 3600, 4 * 86_400), ("days", 86_400, u64::MAX)];

/// The darker the worse, so that it is told without colours too.
const fn color(verdict: Verdict) -> RGBColor {
    match verdict {
        Verdict::Answer => RGBColor(178, 223, 138),
        Verdict::Pass => RGBColor(74, 144, 194),
        Verdict::Drop => RGBColor(85, 85, 85),
        Verdict::Limit => RGBColor(120, 0, 0),
    }
}

/// A file that is to be drawn to.
pub struct Plot {
    file: File,
    name: String,
}

impl Plot {
    /// Creates the file, or empties it: what cannot be written is told before a capture is read for it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| format!("writing {name}"))?;
        Ok(Self { file, name })
    }

    /// Draws packets a second by verdict, one verdict on top of the other.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn draw(mut self, timeline: &Timeline) -> Result<()> {
        let mut svg = String::new();
        picture(timeline, &mut svg).map_err(|error| anyhow!("drawing {}: {error}", self.name))?;
        self.file.write_all(svg.as_bytes()).with_context(|| format!("writing {}", self.name))
    }
}

fn picture(timeline: &Timeline, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let end = timeline.end();
    let (unit, in_seconds) = unit(end);
    let of_unit = |seconds: u64| seconds as f64 / in_seconds as f64;
    // Each bin's beginning, its end and its packets a second, by verdict. The last one may be shorter than the others.
    let bins: Vec<_> = timeline
        .bins
        .iter()
        .zip(0..)
        .map(|(counts, number)| {
            let begin = number * timeline.seconds;
            let until = (begin + timeline.seconds).min(end);
            (of_unit(begin), of_unit(until), counts.map(|packets| packets as f64 / (until - begin) as f64))
        })
        .collect();
    let most = bins.iter().map(|(.., rates)| rates.iter().sum()).fold(1.0, f64::max);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..of_unit(end), 0.0..most * 1.05)?;
    let rate = match timeline.seconds {
        1 => "packets/s".to_owned(),
        seconds => format!("packets/s, mean of {seconds} s"),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc(format!("{unit} since the capture began"))
        .y_desc(rate)
        .x_label_formatter(&short)
        .y_label_formatter(&short)
        .draw()?;
    // The highest sum first, so that each lower one covers its part of it.
    for (i, verdict) in Verdict::ALL.iter().enumerate().rev() {
        let sums = bins.iter().flat_map(|(begin, until, rates)| {
            let sum = rates[..=i].iter().sum();
            [(*begin, sum), (*until, sum)]
        });
        chart.draw_series(AreaSeries::new(sums, 0.0, color(*verdict).filled()))?;
    }
    legend(timeline, &right)?;
    area.present()?;
    Ok(())
}

/// What each color is, in the order in which they lie on each other, and how many packets that are.
fn legend(
    timeline: &Timeline,
    area: &DrawingArea<SVGBackend<'_>, Shift>,
) -> Result<(), Box<dyn std::error::Error>> {
    let all =
        timeline.bins.iter().fold(Counts::default(), |sum, bin| std::array::from_fn(|i| sum[i] + bin[i]));
    let font = ("sans-serif", 13).into_font();
    for (row, (verdict, packets)) in Verdict::ALL.iter().zip(all).rev().enumerate() {
        let top = 40 + 40 * row as i32;
        let square = [(0, top), (14, top + 14)];
        area.draw(&Rectangle::new(square, color(*verdict).filled()))?;
        area.draw(&Rectangle::new(square, BLACK))?;
        area.draw(&Text::new(verdict.name(), (22, top), font.clone()))?;
        area.draw(&Text::new(packets.to_string(), (22, top + 15), font.clone()))?;
    }
    Ok(())
}

/// In which unit so many seconds are told, and how many seconds that has.
fn unit(seconds: u64) -> (&'static str, u64) {
    let unit = UNITS.iter().find(|(.., most)| seconds <= *most);
    unit.map_or(("seconds", 1), |(name, in_seconds, _)| (name, *in_seconds))
}

/// A number without digits that say nothing.
fn short(number: &f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_digits_that_say_nothing_and_times_a_unit_that_fits() {
        assert_eq!([0.0, 2500.0, 0.5, 0.1 + 0.2].map(|number| short(&number)), ["0", "2500", "0.5", "0.3"]);
        assert_eq!(
            [1, 600, 601, 86_400, 1_000_000].map(|seconds| unit(seconds).0),
            ["seconds", "seconds", "minutes", "hours", "days"]
        );
    }
}
