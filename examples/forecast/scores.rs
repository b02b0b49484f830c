//! Errors of forecasts, as a table and as JSON.

use super::forecaster::QUANTILES;
use super::numbers::Numbers;
use anyhow::Result;
use ndarray::{Array1, Array2};
use serde::Serialize;
use wgpu_lstm::metrics;

/// Errors of one forecast.
#[derive(Clone, Debug, Serialize)]
pub struct Scores {
    /// Name of the forecaster.
    pub name: String,
    /// Root of the mean squared error, for each row ahead.
    pub rmse: Vec<f64>,
    /// Mean absolute error, for each row ahead.
    pub mae: Vec<f64>,
    /// Mean of `rmse`.
    pub rmse_average: f64,
    /// Mean of `mae`.
    pub mae_average: f64,
}

impl Scores {
    /// Compares forecasts [N][horizon] with the truth.
    pub fn new(name: &str, forecast: &[Vec<f64>], truth: &Array2<f64>) -> Result<Scores> {
        let (mut rmse, mut mae) = (Vec::new(), Vec::new());
        for (ahead, truth) in truth.columns().into_iter().enumerate() {
            let forecast: Array1<f64> = forecast.iter().map(|row| row[ahead]).collect();
            rmse.push(metrics::rmse(forecast.view(), truth)?);
            mae.push(metrics::mae(forecast.view(), truth)?);
        }
        Ok(Scores { name: name.into(), rmse_average: average(&rmse), mae_average: average(&mae), rmse, mae })
    }
}

/// Scores of a prediction interval.
#[derive(Clone, Debug, Serialize)]
pub struct BandScores {
    /// Name of the forecaster.
    pub name: String,
    /// Share of the truth inside the band or on its edge, for each row ahead.
    pub inside: Vec<f64>,
    /// Mean width, for each row ahead.
    pub width: Vec<f64>,
    /// Pinball loss, mean over the quantiles, for each row ahead.
    pub pinball: Vec<f64>,
    /// Mean of `inside`.
    pub inside_average: f64,
    /// Mean of `width`.
    pub width_average: f64,
    /// Mean of `pinball`.
    pub pinball_average: f64,
}

impl BandScores {
    /// Compares forecasts [N][horizon] of each of [`QUANTILES`] with the truth.
    pub fn new(name: &str, quantiles: [&[Vec<f64>]; 3], truth: &Array2<f64>) -> Result<BandScores> {
        let [low, _, high] = quantiles;
        let count = low.len() as f64;
        let (mut inside, mut width, mut pinball) = (Vec::new(), Vec::new(), Vec::new());
        for (ahead, truth) in truth.columns().into_iter().enumerate() {
            let band = || low.iter().zip(high).map(|(low, high)| (low[ahead], high[ahead]));
            let hits = band().zip(truth).filter(|((low, high), value)| (low..=high).contains(value)).count();
            inside.push(hits as f64 / count);
            width.push(band().map(|(low, high)| high - low).sum::<f64>() / count);
            let mut sum = 0.0;
            for (forecast, quantile) in quantiles.iter().zip(QUANTILES) {
                let forecast: Array1<f64> = forecast.iter().map(|row| row[ahead]).collect();
                sum += metrics::pinball(forecast.view(), truth, quantile)?;
            }
            pinball.push(sum / QUANTILES.len() as f64);
        }
        let [inside_average, width_average, pinball_average] = [&inside, &width, &pinball].map(|all| average(all));
        Ok(BandScores { name: name.into(), inside, width, pinball, inside_average, width_average, pinball_average })
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The smallest average error above 0: what sets how many digits are worth showing.
pub fn scale(all: &[Scores]) -> f64 {
    smallest(all.iter().flat_map(|scores| [scores.rmse_average, scores.mae_average]))
}

/// The smallest of those above 0; 0 where there is none.
fn smallest(values: impl Iterator<Item = f64>) -> f64 {
    let smallest = values.filter(|&value| value > 0.0).fold(f64::INFINITY, f64::min);
    if smallest.is_finite() { smallest } else { 0.0 }
}

/// A section of a table: its title, and for each forecast its name, its values for each row ahead and their average.
type TableSection<'a> = (&'a str, Vec<(&'a str, &'a [f64], f64)>);

/// A table of errors.
pub fn table(all: &[Scores]) -> String {
    let rmse = all.iter().map(|s| (s.name.as_str(), s.rmse.as_slice(), s.rmse_average)).collect();
    let mae = all.iter().map(|s| (s.name.as_str(), s.mae.as_slice(), s.mae_average)).collect();
    lines(&[("RMSE", rmse), ("MAE", mae)], scale(all))
}

/// A table of bands.
pub fn band_table(all: &[BandScores]) -> String {
    let inside = all.iter().map(|s| (s.name.as_str(), s.inside.as_slice(), s.inside_average)).collect();
    let width = all.iter().map(|s| (s.name.as_str(), s.width.as_slice(), s.width_average)).collect();
    let pinball = all.iter().map(|s| (s.name.as_str(), s.pinball.as_slice(), s.pinball_average)).collect();
    // Shares have three digits, whatever the series' size.
    let errors = smallest(all.iter().flat_map(|s| [s.width_average, s.pinball_average]));
    [lines(&[("inside", inside)], 1.0), lines(&[("width", width), ("pinball", pinball)], errors)].join("\n")
}

/// A line for each forecast, a column for each row ahead (some of them, where there are many). Numbers as large as `scale`
/// have three digits, averages four.
fn lines(parts: &[TableSection], scale: f64) -> String {
    let values = || parts.iter().flat_map(|(_, forecasts)| forecasts);
    let horizon = values().next().map_or(0, |(_, values, _)| values.len());
    let mut shown: Vec<usize> = (0..horizon).collect();
    if horizon > 12 {
        shown.retain(|ahead| *ahead == 0 || *ahead + 1 == horizon || (ahead + 1) % horizon.div_ceil(8) == 0);
    }
    let width =
        values().map(|(name, ..)| name.len()).chain(parts.iter().map(|(title, _)| title.len())).max().unwrap_or(0);
    let (each, averages) = (Numbers::new(scale, 3), Numbers::new(scale, 4));
    let longest = |numbers: Numbers, values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| numbers.show(value).len()).max().unwrap_or(0) + 2
    };
    let cell = longest(each, &mut values().flat_map(|(_, values, _)| *values).copied()).max(8);
    let last = longest(averages, &mut values().map(|(.., average)| *average)).max(10);
    let mut lines = Vec::new();
    for (title, forecasts) in parts {
        let heads: String = shown.iter().map(|ahead| format!("{:>cell$}", format!("+{}", ahead + 1))).collect();
        lines.push(format!("{title:<width$}{heads}{:>last$}", "average"));
        for (name, values, average) in forecasts {
            let cells: String = shown.iter().map(|&ahead| format!("{:>cell$}", each.show(values[ahead]))).collect();
            lines.push(format!("{name:<width$}{cells}{:>last$}", averages.show(*average)));
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_taken_for_each_row_ahead() {
        let truth = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
        let scores = Scores::new("a", &[vec![1.0, 5.0], vec![5.0, 5.0]], &truth).unwrap();
        assert_eq!(scores.rmse, [2f64.sqrt(), 5f64.sqrt()]);
        assert_eq!(scores.mae, [1.0, 2.0]);
        assert_eq!(scores.mae_average, 1.5);
        assert!(table(&[scores]).contains("1.500"));
    }

    /// Integers near 10⁸ and 10¹² that are not all different in f32, from their text to the scores, against NumPy.
    #[test]
    fn scores_of_large_values_are_numpys() {
        use super::super::baselines::{self, Task};
        use super::super::series::{Gaps, Others, Series};
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/series");
        let right = std::fs::read_to_string(folder.join("right.json")).unwrap();
        let right: serde_json::Value = serde_json::from_str(&right).unwrap();
        for name in ["big_ints", "meter"] {
            let path = folder.join(name).with_extension("csv");
            let series = Series::read(&path, "sales", None, Others::Named(&[]), Gaps::Refuse).unwrap();
            let first: Vec<usize> = (225..=300 - 7).collect();
            let task = Task { series: &series, train: 225, lookback: 30, horizon: 7, first: &first };
            let truth = super::super::forecaster::truth(&series, &first, 7);
            let (_, forecast) = baselines::all(&task).into_iter().find(|(name, _)| *name == "persistence").unwrap();
            let scores = Scores::new("persistence", &forecast.unwrap(), &truth).unwrap();
            for (what, given) in [("rmse", &scores.rmse), ("mae", &scores.mae)] {
                for (ahead, given) in given.iter().enumerate() {
                    let expected = right[name][what][ahead].as_f64().unwrap();
                    assert!(
                        (given / expected - 1.0).abs() < 1e-12,
                        "{name}, {what} +{}: {given}, not {expected}",
                        ahead + 1
                    );
                }
            }
        }
    }

    #[test]
    fn a_band_is_judged_for_each_row_ahead() {
        let truth = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
        let rows = |a: [f64; 2], b: [f64; 2]| vec![a.to_vec(), b.to_vec()];
        let (low, middle) = (rows([1.0, 3.0], [0.0, 0.0]), rows([2.0, 4.0], [2.0, 4.0]));
        let high = rows([2.0, 5.0], [2.0, 6.0]);
        let scores = BandScores::new("a", [&low, &middle, &high], &truth).unwrap();
        assert_eq!(scores.inside, [0.5, 0.5]); // 1 lies on an edge, 3 above, 2 below, 4 within
        assert_eq!((scores.inside_average, scores.width_average), (0.5, (1.0 + 2.0 + 2.0 + 6.0) / 4.0));
        // Of row 1 ahead: (0 + 0.1·3)/2, (0.5·1 + 0.5·1)/2, (0.1·1 + 0.9·1)/2
        assert!((scores.pinball[0] - (0.15 + 0.5 + 0.5) / 3.0).abs() < 1e-12, "{scores:?}");
        assert!(band_table(&[scores]).contains("0.500"));
    }

    #[test]
    fn columns_stay_apart_whatever_the_size() {
        for size in [1e-5f64, 1.0, 1e7, 1e38, 1e150] {
            let truth = ndarray::array![[-size, -size]];
            let table = table(&[Scores::new("a", &[vec![size, 2.0 * size]], &truth).unwrap()]);
            let line: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
            assert_eq!(line.len(), 4, "{table}");
            assert!(line[1].parse::<f64>().unwrap() > 1.9 * size, "{table}");
        }
    }
}
