//! Forecasts that a model must beat. Each gives [N][horizon] for the rows that the forecasts start at.

use super::series::{Series, a_year_before};
use chrono::Datelike;
use std::collections::HashMap;

/// What a baseline is given: the series, its first held-out row, the window's sizes, and the row after each window.
pub struct Task<'a> {
    pub series: &'a Series,
    pub train: usize,
    pub lookback: usize,
    pub horizon: usize,
    pub first: &'a [usize],
}

/// A named forecast, or why there is none.
pub type Baseline = (&'static str, Result<Vec<Vec<f32>>, String>);

/// All baselines.
pub fn all(task: &Task) -> Vec<Baseline> {
    vec![
        ("persistence", Ok(persistence(task))),
        ("year ago", year_ago(task)),
        ("climatology", climatology(task)),
        ("linear", linear(task)),
    ]
}

impl Task<'_> {
    /// A forecast for every start and every row ahead of it.
    fn each<T>(&self, of: impl Fn(usize, usize) -> Option<T>) -> Option<Vec<Vec<T>>> {
        self.first.iter().map(|&first| (0..self.horizon).map(|ahead| of(first, first + ahead)).collect()).collect()
    }
}

/// The last value known.
fn persistence(task: &Task) -> Vec<Vec<f32>> {
    let last = |&first: &usize| vec![task.series.values[first - 1]; task.horizon];
    task.first.iter().map(last).collect()
}

/// The value of the same day a year before.
fn year_ago(task: &Task) -> Result<Vec<Vec<f32>>, String> {
    let days = task.series.days().ok_or("the rows are not days")?;
    let rows: HashMap<_, _> = days.iter().zip(0usize..).collect();
    let value = |first: usize, row: usize| {
        let before = *rows.get(&a_year_before(days[row])?)?;
        (before < first).then(|| task.series.values[before])
    };
    task.each(value).ok_or_else(|| "a year before the held-out rows is not in the file".into())
}

/// The mean of that day of the year and the seven on either side, over the training years.
fn climatology(task: &Task) -> Result<Vec<Vec<f32>>, String> {
    const YEAR: i64 = 366;
    let days = task.series.days().ok_or("the rows are not days")?;
    if task.train < 365 {
        return Err("the training rows are less than a year".into());
    }
    let mut sums = vec![(0.0f64, 0u32); YEAR as usize];
    for (day, &value) in days.iter().zip(&task.series.values).take(task.train) {
        for near in -7..=7 {
            let slot = &mut sums[(day.ordinal0() as i64 + near).rem_euclid(YEAR) as usize];
            *slot = (slot.0 + value as f64, slot.1 + 1);
        }
    }
    let mean = |_, row: usize| {
        let (sum, count) = sums[days[row].ordinal0() as usize];
        (count > 0).then(|| (sum / count as f64) as f32)
    };
    task.each(mean).ok_or_else(|| "the training rows miss part of the year".into())
}

/// A linear autoregression on the same window: for each row ahead its own weights and intercept, by ridge regression.
fn linear(task: &Task) -> Result<Vec<Vec<f32>>, String> {
    let values: Vec<f64> = task.series.values.iter().map(|&value| value as f64).collect();
    let known = &values[..task.train];
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let deviation =
        (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / known.len() as f64).sqrt().max(1e-12);
    let scaled: Vec<f64> = values.iter().map(|value| (value - mean) / deviation).collect();
    // The window before a row, and 1 for the intercept
    let features = |first: usize| [&scaled[first - task.lookback..first], &[1.0]].concat();
    let starts: Vec<usize> = (task.lookback..=task.train - task.horizon).collect();
    let rows: Vec<Vec<f64>> = starts.iter().map(|&first| features(first)).collect();
    let weights: Option<Vec<Vec<f64>>> = (0..task.horizon)
        .map(|ahead| ridge(&rows, &starts.iter().map(|&first| scaled[first + ahead]).collect::<Vec<_>>()))
        .collect();
    let weights = weights.ok_or("its equations cannot be solved")?;
    let forecast = |&first: &usize| {
        let x = features(first);
        let dot = |w: &Vec<f64>| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
        weights.iter().map(|w| (dot(w) * deviation + mean) as f32).collect()
    };
    Ok(task.first.iter().map(forecast).collect())
}

/// Weights w with the least |X·w − y|² + λ|w|², by the normal equations and Cholesky's factors. λ is small: it keeps the
/// equations solvable where columns repeat each other.
fn ridge(x: &[Vec<f64>], y: &[f64]) -> Option<Vec<f64>> {
    const LAMBDA: f64 = 1e-3;
    let n = x.first()?.len();
    let mut a = vec![vec![0.0; n]; n];
    let mut b = vec![0.0; n];
    for (row, &target) in x.iter().zip(y) {
        for i in 0..n {
            b[i] += row[i] * target;
            for j in 0..=i {
                a[i][j] += row[i] * row[j];
            }
        }
    }
    for (i, row) in a.iter_mut().enumerate() {
        row[i] += LAMBDA;
    }
    // a = L·Lᵀ, in place in the lower half
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let rest = a[i][j] - sum;
            a[i][j] = if i == j { if rest > 0.0 { rest.sqrt() } else { return None } } else { rest / a[j][j] };
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i][i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i][i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDate, TimeDelta};

    /// Days from 2012-01-01 (a leap year).
    fn daily(values: Vec<f32>) -> Series {
        let start = NaiveDate::from_ymd_opt(2012, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap();
        let times = (0..values.len()).map(|day| start + TimeDelta::days(day as i64)).collect();
        Series { column: "y".into(), values, times: Some(times), step: Some(TimeDelta::days(1)) }
    }

    fn task<'a>(series: &'a Series, train: usize, first: &'a [usize]) -> Task<'a> {
        Task { series, train, lookback: 4, horizon: 3, first }
    }

    #[test]
    fn persistence_repeats_the_last_value() {
        let series = daily((0..20).map(|day| day as f32).collect());
        assert_eq!(persistence(&task(&series, 10, &[10, 12])), [[9.0; 3], [11.0; 3]]);
    }

    #[test]
    fn a_year_ago_is_the_same_date() {
        let series = daily((0..1000).map(|day| day as f32).collect());
        // Row 731 is 2014-01-01, a year of 365 days after 2013-01-01; row 424 is 2013-02-28
        assert_eq!(year_ago(&task(&series, 700, &[731])).unwrap(), [[366.0, 367.0, 368.0]]);
        assert_eq!(year_ago(&task(&series, 400, &[424])).unwrap()[0], [58.0, 60.0, 61.0]);
        assert!(year_ago(&task(&series, 100, &[200])).is_err());
    }

    #[test]
    fn climatology_is_the_mean_of_fifteen_days_of_the_training_years() {
        let mut values = vec![0.0; 1200];
        values[100] = 15.0; // within seven days of rows 93 to 107
        values[366 + 100] = 45.0; // ordinal 100 of the next year, too
        values[1100] = 1e6; // held out
        let series = daily(values);
        let forecast = climatology(&task(&series, 731, &[731 + 92])).unwrap();
        assert_eq!(forecast, [[0.0, 2.0, 2.0]]); // (15 + 45) / 30
        assert!(climatology(&task(&series, 300, &[400])).is_err());
    }

    #[test]
    fn ridge_finds_known_weights() {
        let rows: Vec<Vec<f64>> =
            (0..200).map(|k| vec![(k as f64 * 0.7).sin() * 9.0, (k as f64 * 0.31).cos() * 9.0, 1.0]).collect();
        let y: Vec<f64> = rows.iter().map(|row| 2.0 * row[0] - 0.5 * row[1] + 3.0).collect();
        for (given, expected) in ridge(&rows, &y).unwrap().iter().zip([2.0, -0.5, 3.0]) {
            assert!((given - expected).abs() < 1e-4, "{given} {expected}");
        }
    }

    #[test]
    fn the_linear_model_follows_a_wave() {
        let series = daily((0..400).map(|day| (day as f32 * 0.3).sin() * 5.0 + 12.0).collect());
        let forecast = linear(&task(&series, 300, &[350])).unwrap();
        for (given, truth) in forecast[0].iter().zip(&series.values[350..]) {
            assert!((given - truth).abs() < 0.05, "{given} {truth}");
        }
    }
}
