//! All launches of a case's recurrent layers and large products: the model of cost beside measurements.

use crate::cases::Case;
use crate::common::say;
use crate::measure::Mode;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wgpu_lstm::tune::{LaunchTime, PassTuning};
use wgpu_lstm::{Device, Loss, Optimiser, Sequential};

/// A pass or a product, and how well the model of cost orders its launches.
#[derive(Serialize)]
pub struct Row {
    version: &'static str,
    device: String,
    case: String,
    /// Spearman's rank correlation of estimates and measurements; `None` for a single launch.
    rank_correlation: Option<f64>,
    /// Time of the model's choice over the least time.
    regret: f64,
    #[serde(flatten)]
    tuning: PassTuning,
}

/// Measures all launches of a case and prints them, fastest first, or each pass as a line of JSON.
pub fn case(device: &Device, case: Case, modes: &[Mode], lines: bool) -> Result<Vec<Row>> {
    ensure!(device.adapter().is_some(), "--sweep is for GPUs; the CPU executor has no launches to choose from");
    let mut model = Sequential::new(case.i).add(case.lstm()).build(device, 1)?;
    if modes.contains(&Mode::Train) {
        model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    }
    let report = model.sweep(case.b, case.t)?;
    let rows = report.passes().iter().map(|pass| row(device, case, pass)).collect::<Result<Vec<Row>>>()?;
    for row in &rows {
        if lines { say!("{}", serde_json::to_string(row)?) } else { print(row) }
    }
    Ok(rows)
}

fn row(device: &Device, case: Case, pass: &PassTuning) -> Result<Row> {
    let of = |time: fn(&LaunchTime) -> f64| pass.measured().iter().map(time).collect::<Vec<f64>>();
    let (chosen, by_model) = (pass.chosen(), pass.by_model());
    let (chosen, by_model) = chosen.zip(by_model).context("the model's choice was not measured")?;
    Ok(Row {
        version: env!("CARGO_PKG_VERSION"),
        device: device.to_string(),
        case: case.to_string(),
        rank_correlation: rank_correlation(&of(|time| time.model_us), &of(|time| time.measured_us)),
        regret: by_model.measured_us / chosen.measured_us,
        tuning: pass.clone(),
    })
}

fn print(row: &Row) {
    let pass = &row.tuning;
    let correlation = row.rank_correlation.map_or("none".into(), |correlation| format!("{correlation:.2}"));
    say!("\n{}", pass.pass());
    say!(
        "{} launches; rank correlation {correlation}; the model's choice takes {:.2} times the least",
        pass.measured().len(),
        row.regret
    );
    say!("{:>10}: model  measured | launch", if pass.is_product() { "µs" } else { "µs a step" });
    let mut sorted: Vec<&LaunchTime> = pass.measured().iter().collect();
    sorted.sort_by(|a, b| a.measured_us.total_cmp(&b.measured_us));
    let steps = f64::from(pass.sample_steps());
    for time in sorted {
        let mark = if pass.by_model() == Some(time) { "  (the model's choice)" } else { "" };
        say!(" {:16.2} {:9.2} | {}{mark}", time.model_us / steps, time.measured_us / steps, time.launch());
    }
}

/// Spearman's rank correlation; `None` where all of one are equal.
fn rank_correlation(one: &[f64], other: &[f64]) -> Option<f64> {
    let [one, other] = [one, other].map(ranks);
    let mean = (one.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (product(&one, &one) * product(&other, &other)).sqrt();
    (scale > 0.0).then(|| product(&one, &other) / scale)
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: &f64| values.iter().filter(|other| *other < value).count() as f64;
    let equal = |value: &f64| values.iter().filter(|other| *other == value).count() as f64;
    values.iter().map(|value| below(value) + (equal(value) + 1.0) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlations_are_spearmans() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 30.0], &[0.1, 0.2, 0.3]), Some(1.0));
        assert_eq!(rank_correlation(&[1.0, 2.0, 30.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(rank_correlation(&[1.0, 1.0], &[3.0, 2.0]), None);
        // scipy.stats.spearmanr([1, 2, 2, 4], [1, 3, 2, 4]).statistic
        let tied = rank_correlation(&[1.0, 2.0, 2.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap();
        assert!((tied - 0.948_683_298_050_513_8).abs() < 1e-15, "{tied}");
    }
}
