//! Forecasts that a model must beat. Each gives [N][horizon] for the rows that the forecasts start at.

use super::dates::a_year_before;
use super::forecaster::QUANTILES;
use super::series::Series;
use chrono::{Datelike, NaiveDate};
use ndarray::s;
use std::collections::HashMap;
use wgpu_lstm::data::Scaler;

/// A baseline's inputs: the series, its first held-out row, the window's sizes, and the row after each window.
pub struct Task<'a> {
    pub series: &'a Series,
    pub train: usize,
    pub lookback: usize,
    pub horizon: usize,
    pub first: &'a [usize],
}

/// A named forecast, or why there is none.
pub type Baseline = (&'static str, Result<Vec<Vec<f64>>, String>);

/// All baselines.
pub fn all(task: &Task) -> Vec<Baseline> {
    vec![
        ("persistence", Ok(persistence(task))),
        ("year ago", year_ago(task)),
        ("climatology", climatology(task)),
        ("linear", linear(task)),
    ]
}

/// A named forecast of each of [`QUANTILES`], or why there is none.
pub type Band = (&'static str, Result<[Vec<Vec<f64>>; 3], String>);

/// Baselines of intervals.
pub fn bands(task: &Task) -> Vec<Band> {
    vec![("persistence", Ok(persistence_band(task))), ("climatology", climatology_band(task))]
}

impl Task<'_> {
    /// A forecast for every start and every row ahead of it.
    fn each<T>(&self, of: impl Fn(usize, usize) -> Option<T>) -> Option<Vec<Vec<T>>> {
        self.first.iter().map(|&first| (0..self.horizon).map(|ahead| of(first, first + ahead)).collect()).collect()
    }
}

/// The last value known.
fn persistence(task: &Task) -> Vec<Vec<f64>> {
    let last = |&first: &usize| vec![task.series.values[first - 1]; task.horizon];
    task.first.iter().map(last).collect()
}

/// The value of the same day a year before.
fn year_ago(task: &Task) -> Result<Vec<Vec<f64>>, String> {
    let days = task.series.days().ok_or("rows are not one day apart")?;
    let rows: HashMap<_, _> = days.iter().zip(0usize..).collect();
    let value = |first: usize, row: usize| {
        let before = *rows.get(&a_year_before(days[row])?)?;
        (before < first).then(|| task.series.values[before])
    };
    task.each(value).ok_or_else(|| "a year before the held-out rows is not in the file".into())
}

/// The last value known, and what changes of the training rows add to it.
fn persistence_band(task: &Task) -> [Vec<Vec<f64>>; 3] {
    let values = &task.series.values;
    let changes = (0..task.horizon)
        .map(|ahead| sorted((1..task.train - ahead).map(|first| values[first + ahead] - values[first - 1]).collect()));
    let changes: Vec<Vec<f64>> = changes.collect();
    QUANTILES.map(|quantile| {
        let add = |first: usize| changes.iter().map(|all| values[first - 1] + quantile_of(all, quantile)).collect();
        task.first.iter().map(|&first| add(first)).collect()
    })
}

/// The mean of that day of the year and the seven on either side, over the training years.
fn climatology(task: &Task) -> Result<Vec<Vec<f64>>, String> {
    let (days, like) = days_of_the_year(task)?;
    let mean = |_, row: usize| {
        let known = &like[days[row].ordinal0() as usize];
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    task.each(mean).ok_or_else(|| MISSING.into())
}

/// The quantiles of what climatology is the mean of.
fn climatology_band(task: &Task) -> Result<[Vec<Vec<f64>>; 3], String> {
    let (days, like) = days_of_the_year(task)?;
    let like: Vec<Vec<f64>> = like.into_iter().map(sorted).collect();
    let of = |quantile| {
        task.each(|_, row: usize| {
            let known = &like[days[row].ordinal0() as usize];
            (!known.is_empty()).then(|| quantile_of(known, quantile))
        })
    };
    let [low, middle, high] = QUANTILES.map(of);
    let all = low.zip(middle).zip(high).map(|((low, middle), high)| [low, middle, high]);
    all.ok_or_else(|| MISSING.into())
}

const MISSING: &str = "the training rows miss part of the year";

/// The days, and for each day of a year the values on it and on the seven days on either side in the training years.
fn days_of_the_year(task: &Task) -> Result<(Vec<NaiveDate>, Vec<Vec<f64>>), String> {
    const YEAR: i64 = 366;
    let days = task.series.days().ok_or("rows are not one day apart")?;
    if task.train < 365 {
        return Err("the training rows are less than a year".into());
    }
    let mut like = vec![Vec::new(); YEAR as usize];
    for (day, &value) in days.iter().zip(&task.series.values).take(task.train) {
        for near in -7..=7 {
            like[(day.ordinal0() as i64 + near).rem_euclid(YEAR) as usize].push(value);
        }
    }
    Ok((days, like))
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// A quantile of sorted values, between the two nearest (NumPy's default).
fn quantile_of(sorted: &[f64], quantile: f64) -> f64 {
    let at = quantile * (sorted.len() - 1) as f64;
    let (below, share) = (sorted[at as usize], at.fract());
    let above = sorted[(at as usize + 1).min(sorted.len() - 1)];
    below + share * (above - below)
}

/// A linear regression on the same window, all columns that the model sees: for each row ahead its own weights and intercept,
/// by ridge regression.
fn linear(task: &Task) -> Result<Vec<Vec<f64>>, String> {
    let mut scaled = task.series.features(); // [time, features]
    let scaler = Scaler::standard(scaled.slice(s![..task.train, ..])).map_err(|error| error.to_string())?;
    for ((_, feature), value) in scaled.indexed_iter_mut() {
        *value = (*value - scaler.shift()[feature]) / scaler.scale()[feature];
    }
    let (mean, deviation) = (scaler.shift()[0], scaler.scale()[0]);
    // The window before a row, and 1 for the intercept
    let features = |first: usize| -> Vec<f64> {
        scaled.slice(s![first - task.lookback..first, ..]).iter().copied().chain([1.0]).collect()
    };
    let starts: Vec<usize> = (task.lookback..=task.train - task.horizon).collect();
    let rows: Vec<Vec<f64>> = starts.iter().map(|&first| features(first)).collect();
    let targets: Vec<Vec<f64>> =
        (0..task.horizon).map(|ahead| starts.iter().map(|&first| scaled[[first + ahead, 0]]).collect()).collect();
    let weights = ridge(&rows, &targets).ok_or("its equations cannot be solved")?;
    let forecast = |&first: &usize| {
        let x = features(first);
        let dot = |w: &Vec<f64>| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
        weights.iter().map(|w| dot(w) * deviation + mean).collect()
    };
    Ok(task.first.iter().map(forecast).collect())
}

/// For each target y the weights w with the least |X·w − y|² + λ|w|², by the normal equations and Cholesky's factors. λ is
/// small: it keeps the equations solvable where columns repeat each other.
fn ridge(x: &[Vec<f64>], targets: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    const LAMBDA: f64 = 1e-3;
    let n = x.first()?.len();
    let mut a = vec![vec![0.0; n]; n];
    for row in x {
        for i in 0..n {
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
    let solve = |y: &Vec<f64>| {
        let mut b = vec![0.0; n];
        for (row, &target) in x.iter().zip(y) {
            b.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * target);
        }
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
            b[i] = (b[i] - sum) / a[i][i];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
            b[i] = (b[i] - sum) / a[i][i];
        }
        b
    };
    Some(targets.iter().map(solve).collect())
}

#[cfg(test)]
mod tests {
    use super::super::series::Column;
    use super::super::steps::{Step, Steps};
    use super::*;
    use chrono::TimeDelta;

    /// Days from 2012-01-01 (a leap year).
    fn daily(values: Vec<f64>) -> Series {
        let start = NaiveDate::from_ymd_opt(2012, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap();
        let times = (0..values.len()).map(|day| start + TimeDelta::days(day as i64)).collect();
        let steps = Some(Steps { step: Step::Every(TimeDelta::days(1)), uneven: None });
        Series { column: "y".into(), values, others: Vec::new(), times: Some(times), steps, notes: Vec::new() }
    }

    fn task<'a>(series: &'a Series, train: usize, first: &'a [usize]) -> Task<'a> {
        Task { series, train, lookback: 4, horizon: 3, first }
    }

    #[test]
    fn persistence_repeats_the_last_value() {
        let series = daily((0..20).map(|day| day as f64).collect());
        assert_eq!(persistence(&task(&series, 10, &[10, 12])), [[9.0; 3], [11.0; 3]]);
    }

    #[test]
    fn a_year_ago_is_the_same_date() {
        let series = daily((0..1000).map(|day| day as f64).collect());
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
    fn bands_are_quantiles_of_the_training_rows() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|q| quantile_of(&[1.0, 2.0, 4.0], q)), [1.0, 1.5, 2.0, 4.0]);
        // Changes of one row ahead: 1, 2, 3, ... 9; what is held out has none
        let mut values: Vec<f64> = (0..10).map(|k| (k * (k + 1) / 2) as f64).collect();
        values.extend([1000.0; 4]);
        let series = daily(values);
        let [low, middle, high] = persistence_band(&task(&series, 10, &[10]));
        for (given, expected) in [(&low, 1.8), (&middle, 5.0), (&high, 8.2)] {
            assert!((given[0][0] - 45.0 - expected).abs() < 1e-12, "{given:?}");
        }
        let mut values = vec![0.0; 1200];
        values[93..108].copy_from_slice(&[5.0; 15]); // all that day 100 of the first year is compared with
        values[1100] = 1e6;
        let series = daily(values);
        let [low, middle, high] = climatology_band(&task(&series, 731, &[731 + 100])).unwrap();
        assert_eq!([low[0][0], middle[0][0], high[0][0]], [0.0, 2.5, 5.0]); // 15 zeros of the next year, and these
    }

    #[test]
    fn the_linear_model_sees_the_other_columns() {
        let other: Vec<f64> = (0..400).map(|day| (day as f64 * 0.7).sin() * 5.0 + (day as f64 * 1.9).cos()).collect();
        let mut series = daily((0..400).map(|day: usize| 3.0 + 2.0 * other[day.max(3) - 3]).collect());
        series.others.push(Column { name: "x".into(), values: other });
        let forecast = linear(&task(&series, 300, &[350])).unwrap();
        for (given, truth) in forecast[0].iter().zip(&series.values[350..]) {
            assert!((given - truth).abs() < 0.01, "{given} {truth}");
        }
    }

    #[test]
    fn ridge_finds_known_weights() {
        let rows: Vec<Vec<f64>> =
            (0..200).map(|k| vec![(k as f64 * 0.7).sin() * 9.0, (k as f64 * 0.31).cos() * 9.0, 1.0]).collect();
        let y: Vec<f64> = rows.iter().map(|row| 2.0 * row[0] - 0.5 * row[1] + 3.0).collect();
        for (given, expected) in ridge(&rows, &[y]).unwrap()[0].iter().zip([2.0, -0.5, 3.0]) {
            assert!((given - expected).abs() < 1e-4, "{given} {expected}");
        }
    }

    #[test]
    fn the_linear_model_follows_a_wave() {
        let series = daily((0..400).map(|day| (day as f64 * 0.3).sin() * 5.0 + 12.0).collect());
        let forecast = linear(&task(&series, 300, &[350])).unwrap();
        for (given, truth) in forecast[0].iter().zip(&series.values[350..]) {
            assert!((given - truth).abs() < 0.05, "{given} {truth}");
        }
    }
}
