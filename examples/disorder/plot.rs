//! The picture: the disorder along one protein.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const INK: RGBColor = RGBColor(40, 50, 65);
const DISORDER: RGBColor = RGBColor(224, 99, 30);

/// The SVG of a profile, [T] from 0 to 1, and the threshold above which residues count as disordered.
pub fn draw(title: &str, scores: &[f32], threshold: f32) -> Result<String> {
    let mut picture = String::new();
    let area = SVGBackend::with_string(&mut picture, (1000, 380)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw the profile: {error}");
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let end = scores.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22, &INK))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(54)
        .build_cartesian_2d(0.5..end + 0.5, 0.0..1.02)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_labels(10)
        .y_labels(6)
        .x_label_formatter(&|residue| format!("{residue:.0}"))
        .y_label_formatter(&|score| format!("{score:.1}"))
        .x_desc("residue")
        .y_desc("disorder")
        .label_style(("sans-serif", 14, &INK))
        .axis_desc_style(("sans-serif", 16, &INK))
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.5))
        .draw()
        .map_err(|error| failed(&error))?;
    let points = || scores.iter().enumerate().map(|(t, &score)| (t as f64 + 1.0, f64::from(score)));
    let level = f64::from(threshold);
    // Coloured where the profile is above the threshold
    let above = AreaSeries::new(points().map(|(t, score)| (t, score.max(level))), level, DISORDER.mix(0.25));
    chart.draw_series(above).map_err(|error| failed(&error))?;
    let line = LineSeries::new([(0.5, level), (end + 0.5, level)], INK.mix(0.6).stroke_width(1));
    chart.draw_series(line).map_err(|error| failed(&error))?;
    chart.draw_series(LineSeries::new(points(), DISORDER.stroke_width(3))).map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))?;
    drop(chart);
    drop(area);
    Ok(picture)
}
