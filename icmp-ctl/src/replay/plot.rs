//! Verdicts over time as a picture.
//!
//! Owns what is drawn; how lines become SVG is plotters'.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use icmp_common::reason::Verdict;
use plotters::prelude::{
    AreaSeries, ChartBuilder, Color as _, IntoDrawingArea as _, RGBColor, Rectangle, SVGBackend, WHITE,
};

use crate::replay::timeline::Timeline;

const SIZE: (u32, u32) = (1000, 400);

const fn color(verdict: Verdict) -> RGBColor {
    match verdict {
        Verdict::Answer => RGBColor(34, 139, 34),
        Verdict::Pass => RGBColor(70, 130, 180),
        Verdict::Drop => RGBColor(128, 128, 128),
        Verdict::Limit => RGBColor(200, 40, 40),
    }
}

/// Draws packets a second by verdict, one verdict on top of the other.
///
/// # Errors
/// The file cannot be written.
pub fn draw(timeline: &Timeline, path: &Path) -> Result<()> {
    let mut svg = String::new();
    picture(timeline, &mut svg).map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
    std::fs::write(path, svg).with_context(|| format!("writing {}", path.display()))
}

fn picture(timeline: &Timeline, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let seconds = timeline.seconds as f64;
    let rate = |packets: u64| packets as f64 / seconds;
    let most = timeline.bins.iter().map(|bin| bin.iter().sum()).max().unwrap_or_default();
    let end = (timeline.bins.len().max(1)) as f64 * seconds;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..rate(most).max(1.0) * 1.05)?;
    chart.configure_mesh().x_desc("seconds since the capture began").y_desc("packets/s").draw()?;
    // The highest sum first, so that each lower one covers its part of it.
    for (i, verdict) in Verdict::ALL.iter().enumerate().rev() {
        let sums = timeline.bins.iter().enumerate().flat_map(|(at, bin)| {
            let sum = rate(bin[..=i].iter().sum());
            [(at as f64 * seconds, sum), ((at + 1) as f64 * seconds, sum)]
        });
        let color = color(*verdict);
        chart
            .draw_series(AreaSeries::new(sums, 0.0, color.filled()))?
            .label(verdict.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(RGBColor(0, 0, 0)).draw()?;
    area.present()?;
    Ok(())
}
