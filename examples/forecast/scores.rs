//! How far forecasts are from the truth, as a table and as JSON.

use super::numbers::Numbers;
use ndarray::Array2;
use serde::Serialize;

/// Errors of one forecast.
#[derive(Clone, Debug, Serialize)]
pub struct Scores {
    /// Who made it.
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
    pub fn new(name: &str, forecast: &[Vec<f32>], truth: &Array2<f32>) -> Scores {
        let mean = |ahead: usize, of: fn(f64) -> f64| {
            let errors = forecast.iter().enumerate().map(|(n, row)| of(row[ahead] as f64 - truth[[n, ahead]] as f64));
            errors.sum::<f64>() / forecast.len() as f64
        };
        let horizon = truth.ncols();
        let rmse: Vec<f64> = (0..horizon).map(|ahead| mean(ahead, |error| error * error).sqrt()).collect();
        let mae: Vec<f64> = (0..horizon).map(|ahead| mean(ahead, f64::abs)).collect();
        let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Scores { name: name.into(), rmse_average: average(&rmse), mae_average: average(&mae), rmse, mae }
    }
}

/// The smallest average error above 0: what sets how many digits are worth showing.
pub fn scale(all: &[Scores]) -> f64 {
    let averages = all.iter().flat_map(|scores| [scores.rmse_average, scores.mae_average]);
    let smallest = averages.filter(|&average| average > 0.0).fold(f64::INFINITY, f64::min);
    if smallest.is_finite() { smallest } else { 0.0 }
}

/// A table: a line for each forecast, a column for each row ahead (some of them, where there are many).
pub fn table(all: &[Scores]) -> String {
    let horizon = all.first().map_or(0, |scores| scores.rmse.len());
    let mut shown: Vec<usize> = (0..horizon).collect();
    if horizon > 12 {
        shown.retain(|ahead| *ahead == 0 || *ahead + 1 == horizon || (ahead + 1) % horizon.div_ceil(8) == 0);
    }
    let width = all.iter().map(|scores| scores.name.len()).max().unwrap_or(0);
    type Part = fn(&Scores) -> (&Vec<f64>, f64);
    let parts: [(&str, Part); 2] =
        [("RMSE", |scores| (&scores.rmse, scores.rmse_average)), ("MAE", |scores| (&scores.mae, scores.mae_average))];
    let (errors, averages) = (Numbers::new(scale(all), 3), Numbers::new(scale(all), 4));
    let longest = |numbers: Numbers, values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| numbers.show(value).len()).max().unwrap_or(0) + 2
    };
    let cell = longest(errors, &mut all.iter().flat_map(|s| s.rmse.iter().chain(&s.mae)).copied()).max(8);
    let last = longest(averages, &mut all.iter().flat_map(|s| [s.rmse_average, s.mae_average])).max(10);
    let mut lines = Vec::new();
    for (title, of) in parts {
        let heads: String = shown.iter().map(|ahead| format!("{:>cell$}", format!("+{}", ahead + 1))).collect();
        lines.push(format!("{title:<width$}{heads}{:>last$}", "average"));
        for scores in all {
            let (values, average) = of(scores);
            let cells: String = shown.iter().map(|&ahead| format!("{:>cell$}", errors.show(values[ahead]))).collect();
            lines.push(format!("{:<width$}{cells}{:>last$}", scores.name, averages.show(average)));
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
        let scores = Scores::new("a", &[vec![1.0, 5.0], vec![5.0, 5.0]], &truth);
        assert_eq!(scores.rmse, [2f64.sqrt(), 5f64.sqrt()]);
        assert_eq!(scores.mae, [1.0, 2.0]);
        assert_eq!(scores.mae_average, 1.5);
        assert!(table(&[scores]).contains("1.500"));
    }

    #[test]
    fn columns_stay_apart_whatever_the_size() {
        for size in [1e-5f32, 1.0, 1e7, 1e38] {
            let truth = ndarray::array![[-size, -size]];
            let table = table(&[Scores::new("a", &[vec![size, 2.0 * size]], &truth)]);
            let line: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
            assert_eq!(line.len(), 4, "{table}");
            assert!(line[1].parse::<f64>().unwrap() > 1.9 * size as f64, "{table}");
        }
    }
}
