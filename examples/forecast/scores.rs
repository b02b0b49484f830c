//! How far forecasts are from the truth, as a table and as JSON.

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
            let errors = forecast.iter().enumerate().map(|(n, row)| of((row[ahead] - truth[[n, ahead]]) as f64));
            errors.sum::<f64>() / forecast.len() as f64
        };
        let horizon = truth.ncols();
        let rmse: Vec<f64> = (0..horizon).map(|ahead| mean(ahead, |error| error * error).sqrt()).collect();
        let mae: Vec<f64> = (0..horizon).map(|ahead| mean(ahead, f64::abs)).collect();
        let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Scores { name: name.into(), rmse_average: average(&rmse), mae_average: average(&mae), rmse, mae }
    }
}

/// A table: a line for each forecast, a column for each row ahead (some of them, where there are many).
pub fn table(all: &[Scores]) -> String {
    let horizon = all.first().map_or(0, |scores| scores.rmse.len());
    let mut shown: Vec<usize> = (0..horizon).collect();
    if horizon > 12 {
        shown.retain(|ahead| *ahead == 0 || *ahead + 1 == horizon || (ahead + 1) % horizon.div_ceil(8) == 0);
    }
    let width = all.iter().map(|scores| scores.name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    type Part = fn(&Scores) -> (&Vec<f64>, f64);
    let parts: [(&str, Part); 2] =
        [("RMSE", |scores| (&scores.rmse, scores.rmse_average)), ("MAE", |scores| (&scores.mae, scores.mae_average))];
    for (title, of) in parts {
        let heads: String = shown.iter().map(|ahead| format!("{:>8}", format!("+{}", ahead + 1))).collect();
        lines.push(format!("{title:<width$}{heads}{:>10}", "average"));
        for scores in all {
            let (errors, average) = of(scores);
            let cells: String = shown.iter().map(|&ahead| format!("{:>8.2}", errors[ahead])).collect();
            lines.push(format!("{:<width$}{cells}{average:>10.3}", scores.name));
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
}
