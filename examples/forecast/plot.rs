//! The picture: what was known, what came, and what was forecast.

use super::forecaster::Forecasts;
use super::numbers::Numbers;
use super::series::Series;
use anyhow::{Result, anyhow};
use plotters::prelude::*;

const INK: RGBColor = RGBColor(40, 50, 65);
const HISTORY: RGBColor = RGBColor(150, 158, 170);
const FORECAST: RGBColor = RGBColor(224, 99, 30);
const NEXT: RGBColor = RGBColor(20, 120, 190);

/// The SVG of the end of the series: the rows before the first forecast shown, the truth, forecasts one horizon apart, and
/// the one that reaches past the end (`next`, a single one).
pub fn draw(series: &Series, first: &[usize], forecasts: &Forecasts, next: &Forecasts, title: &str) -> Result<String> {
    let (rows, horizon) = (series.values.len(), next.middle[0].len());
    let shown = rows - (rows - first[0]).min((horizon * 14).max(60));
    let begin = shown - (horizon * 3).min(shown);
    // Every horizon-th forecast, the last one ending with the data
    let starts: Vec<usize> = (0..first.len()).rev().step_by(horizon).filter(|&n| first[n] >= shown).collect();
    // All that is drawn of each forecast: the middle, and the edges of the band
    let drawn = |of: &'_ Forecasts, n: usize| -> Vec<f32> {
        let edges = of.band.iter().flatten().flat_map(|edge| &edge[n]);
        of.middle[n].iter().chain(edges).copied().collect()
    };
    let values = series.values[begin..].iter().copied().chain(drawn(next, 0));
    let values = values.chain(starts.iter().flat_map(|&n| drawn(forecasts, n)));
    let (low, high) = values
        .map(|value| value as f64)
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    // A series that never changes is drawn in a range of its own size.
    let range = if high > low { high - low } else { high.abs().max(1e-3) };
    let margin = range * 0.08;
    let numbers = Numbers::new(range, 3);
    let longest = numbers.show(low - margin).len().max(numbers.show(high + margin).len());

    let mut picture = String::new();
    let area = SVGBackend::with_string(&mut picture, (1000, 460)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw the forecasts: {error}");
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22, &INK))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(38)
        .y_label_area_size(24 + 7 * longest as u32)
        .build_cartesian_2d(begin as f64..(rows + horizon) as f64, low - margin..high + margin * 3.0)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_labels(8)
        .x_label_formatter(&|row| series.name(*row as usize))
        .y_label_formatter(&|&value| numbers.show(value))
        .y_desc(&series.column)
        .label_style(("sans-serif", 14, &INK))
        .axis_desc_style(("sans-serif", 16, &INK))
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.5))
        .draw()
        .map_err(|error| failed(&error))?;

    // From the last value known, so that it can be seen where each forecast was made
    let from_known = |start: usize, values: &[f32]| -> Vec<(f64, f64)> {
        let known = (start as f64 - 1.0, series.values[start - 1] as f64);
        std::iter::once(known)
            .chain(values.iter().zip(start..).map(|(&value, row)| (row as f64, value as f64)))
            .collect()
    };
    let mut bands = vec![(rows, next, 0, NEXT)];
    bands.extend(starts.iter().map(|&n| (first[n], forecasts, n, FORECAST)));
    for (index, (start, of, n, colour)) in bands.into_iter().rev().enumerate() {
        let Some([low, high]) = &of.band else { continue };
        let edge = from_known(start, &low[n]).into_iter().chain(from_known(start, &high[n]).into_iter().skip(1).rev());
        let area = Polygon::new(edge.collect::<Vec<_>>(), colour.mix(0.2));
        let drawn = chart.draw_series([area]).map_err(|error| failed(&error))?;
        if index == 0 {
            let key = move |(x, y)| Rectangle::new([(x, y - 5), (x + 22, y + 5)], colour.mix(0.2).filled());
            drawn.label("80 % band").legend(key);
        }
    }

    let truth = |range: std::ops::Range<usize>| range.map(|row| (row as f64, series.values[row] as f64));
    let key = |colour: RGBColor| move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3));
    let mut line = |points: Vec<(f64, f64)>, colour: RGBColor, width: u32, label: Option<&str>| -> Result<()> {
        let drawn =
            chart.draw_series(LineSeries::new(points, colour.stroke_width(width))).map_err(|error| failed(&error))?;
        if let Some(label) = label {
            drawn.label(label).legend(key(colour));
        }
        Ok(())
    };
    line(truth(begin..shown + 1).collect(), HISTORY, 2, Some("history"))?;
    line(truth(shown..rows).collect(), INK, 2, Some("truth"))?;
    let what = if forecasts.band.is_some() { "median" } else { "forecast" };
    for (index, &n) in starts.iter().enumerate() {
        let label = format!("{what}, {horizon} rows at a time");
        let points = from_known(first[n], &forecasts.middle[n]);
        line(points, FORECAST, 3, (index == 0).then_some(label.as_str()))?;
    }
    line(from_known(rows, &next.middle[0]), NEXT, 3, Some("what comes next"))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(INK.mix(0.3))
        .label_font(("sans-serif", 15, &INK))
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))?;
    drop(chart);
    drop(area);
    Ok(picture)
}
