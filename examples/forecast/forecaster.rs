//! The model: built, trained, saved, loaded and asked.

use super::arguments::Arguments;
use super::series::Series;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use wgpu_lstm::data::{Scaler, Windows};
use wgpu_lstm::format::{FileType, identify};
use wgpu_lstm::{
    Callback, Dense, Device, EarlyStopping, EpochEvent, Fit, Flow, Loss, Lstm, Model, Optimiser, Sequential, StepEvent,
};

/// Highest learning rate; it falls to 0 along half a cosine. It, the hidden units and the epochs were chosen on Seattle's
/// year 2014, with a model of the two years before; the year that is held out had no part in it.
const RATE: f64 = 5e-3;

/// Times through the training rows of one column, and of several, from which a model learns by heart sooner. Chosen as above.
const EPOCHS: [usize; 2] = [20, 12];

/// The quantiles of a forecast with intervals: the lower edge of the band, the median, the upper edge.
pub const QUANTILES: [f32; 3] = [0.1, 0.5, 0.9];

/// What is saved with the model, so that it can be used again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub column: String,
    /// The columns that it sees beside that one.
    #[serde(default)]
    pub others: Vec<String>,
    /// What it forecasts of each row: these quantiles, or where there are none, the value that makes squared errors least.
    #[serde(default)]
    pub quantiles: Vec<f32>,
    pub lookback: usize,
    pub horizon: usize,
    /// Rows from the start of the series that it was trained on.
    pub trained_rows: usize,
    /// For the column, then for the others.
    scaler: Scaler,
}

/// Forecasts in the series' own unit, each [N][horizon].
pub struct Forecasts {
    /// The expected value, or the median where there is a band.
    pub middle: Vec<Vec<f32>>,
    /// The lower and the upper edge.
    pub band: Option<[Vec<Vec<f32>>; 2]>,
}

/// A model with what it needs to read a series.
pub struct Forecaster {
    model: Model,
    pub settings: Settings,
}

impl Forecaster {
    /// A new model for a series, its scaler fitted on the first `train` rows.
    pub fn new(arguments: &Arguments, series: &Series, train: usize, device: &Device) -> Result<Forecaster> {
        let features = series.features();
        let (lookback, horizon) = (arguments.lookback.unwrap_or(30), arguments.horizon.unwrap_or(7));
        let settings = Settings {
            column: series.column.clone(),
            others: series.others.iter().map(|column| column.name.clone()).collect(),
            quantiles: if arguments.intervals { QUANTILES.to_vec() } else { Vec::new() },
            lookback,
            horizon,
            trained_rows: train,
            scaler: Scaler::standard(features.slice(s![..train, ..]))?,
        };
        let mut model = Sequential::new(features.ncols())
            .add(Lstm::new(arguments.hidden).layers(arguments.layers))
            .add(Dense::new(settings.outputs()))
            .build(device, arguments.seed)?;
        model.set_extra("forecast", &settings)?;
        Ok(Forecaster { model, settings })
    }

    /// A saved model.
    pub fn load(path: &Path, device: &Device) -> Result<Forecaster> {
        let file_type = identify(path)?;
        let known = matches!(file_type, FileType::Own | FileType::Unknown | FileType::Safetensors);
        let advice = "--load takes what this example saved, model.safetensors";
        ensure!(known, "\"{}\" is {file_type}, no forecaster; {advice}", path.display());
        let model = Model::load(path, device)?;
        let settings: Settings = model
            .extra("forecast")
            .with_context(|| format!("\"{}\" holds a model that is no forecaster; {advice}", path.display()))?;
        let Settings { lookback, horizon, ref others, ref quantiles, ref scaler, .. } = settings;
        let outputs = model.config().output();
        ensure!(
            quantiles.is_empty() || quantiles == &QUANTILES,
            "\"{}\" forecasts the quantiles {quantiles:?}; this example knows {QUANTILES:?}",
            path.display()
        );
        ensure!(
            lookback > 0
                && horizon > 0
                && scaler.features() == 1 + others.len()
                && horizon.checked_mul(quantiles.len().max(1)) == Some(outputs),
            "\"{}\" is no forecaster of this example: it has {outputs} outputs, lookback {lookback}, horizon {horizon}, {} \
             quantiles and {} further columns, and a scaler of {} columns",
            path.display(),
            quantiles.len(),
            others.len(),
            scaler.features()
        );
        Ok(Forecaster { model, settings })
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.model.save(path)?)
    }

    pub fn summary(&self) -> String {
        self.model.summary()
    }

    /// Trains on the first `train` rows; returns the seconds it took.
    pub fn train(&mut self, arguments: &Arguments, series: &Series, train: usize) -> Result<f64> {
        let Settings { lookback, horizon, ref quantiles, ref scaler, .. } = self.settings;
        let scaled = scaler.transform(series.features().slice(s![..train, ..]))?;
        let windows = Windows::new(lookback, horizon).target(&[0]).cut(scaled.view())?;
        let loss = match quantiles.is_empty() {
            true => Loss::MeanSquaredError,
            false => Loss::Quantile { quantiles: quantiles.clone() },
        };
        self.model.compile(loss, Optimiser::adam(RATE))?;
        let epochs = arguments.epochs.unwrap_or(EPOCHS[arguments.multivariate as usize]);
        let mut fit = Fit::new().epochs(epochs).seed(arguments.seed).callback(Progress::new());
        if arguments.validation != 0.0 {
            fit = fit.validation_split(arguments.validation).callback(EarlyStopping::new(10));
        }
        let history = self.model.fit(windows.x.view(), windows.y.view(), fit)?;
        Ok(history.seconds)
    }

    /// Forecasts of what follows each row of `first`.
    pub fn forecast(&mut self, series: &Series, first: &[usize]) -> Result<Forecasts> {
        let Settings { lookback, ref quantiles, ref scaler, .. } = self.settings;
        let scaled = scaler.transform(series.features().view())?;
        let windows: Vec<ArrayView2<f32>> =
            first.iter().map(|&first| scaled.slice(s![first - lookback..first, ..])).collect();
        let y = self.model.predict(ndarray::stack(Axis(0), &windows)?.view())?;
        let mut y = y.mapv(|scaled| scaler.invert(0, scaled)).into_iter().collect::<wgpu_lstm::Result<Vec<f32>>>()?;
        let count = quantiles.len().max(1);
        order(&mut y, count);
        // y is [N, horizon, quantiles]
        let of = |quantile: usize| -> Vec<Vec<f32>> {
            let rows = y.chunks_exact(self.settings.outputs());
            rows.map(|row| row.iter().skip(quantile).step_by(count).copied().collect()).collect()
        };
        Ok(match count {
            1 => Forecasts { middle: of(0), band: None },
            _ => Forecasts { middle: of(1), band: Some([of(0), of(2)]) },
        })
    }
}

impl Settings {
    /// Numbers that the model gives for a window: for each row ahead its quantiles.
    fn outputs(&self) -> usize {
        self.horizon * self.quantiles.len().max(1)
    }
}

/// Puts each `count` quantiles that belong together in order. Nothing in the loss keeps a model from giving a lower quantile
/// above a higher one; put in order, their loss is never larger (Chernozhukov, Fernández-Val and Galichon 2010).
fn order(y: &mut [f32], count: usize) {
    y.chunks_exact_mut(count).for_each(|quantiles| quantiles.sort_by(f32::total_cmp));
}

/// Shows a bar with the losses, and lets the learning rate fall.
struct Progress {
    start: Instant,
    /// There is none before the first steps are done.
    bar: Option<ProgressBar>,
    validation: String,
}

impl Progress {
    fn new() -> Progress {
        Progress { start: Instant::now(), bar: None, validation: String::new() }
    }

    fn bar(&mut self, steps: usize) -> &ProgressBar {
        let start = self.start;
        self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}  {bar:30}  {rate}  {eta} left");
            // The template is a constant that indicatif accepts.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // Writing to the bar's own text cannot fail.
                let _ = write!(out, "{:.0} steps/s", state.pos() as f64 / start.elapsed().as_secs_f64());
            };
            ProgressBar::new(steps as u64).with_style(style.with_key("rate", rate))
        })
    }
}

impl Callback for Progress {
    fn on_steps(&mut self, event: &StepEvent, _: &mut Model) -> wgpu_lstm::Result<Flow> {
        let message = format!("epoch {:>3}/{}  loss {:.4}{}", event.epoch, event.epochs, event.loss, self.validation);
        let bar = self.bar(event.epochs * event.steps);
        bar.set_position(((event.epoch - 1) * event.steps + event.step) as u64);
        bar.set_message(message);
        Ok(Flow::Continue)
    }

    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> wgpu_lstm::Result<Flow> {
        self.validation = event.validation_loss.map_or(String::new(), |loss| format!("  validation {loss:.4}"));
        let share = event.epoch as f64 / event.epochs as f64;
        model.set_learning_rate(RATE * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()))?;
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, _: &mut Model) -> wgpu_lstm::Result<()> {
        if let Some(bar) = &self.bar {
            bar.abandon(); // stays where it is: a fit may stop early
        }
        Ok(())
    }
}

/// Truth [N][horizon] for the rows that follow each of `first`.
pub fn truth(series: &Series, first: &[usize], horizon: usize) -> Array2<f32> {
    Array2::from_shape_fn((first.len(), horizon), |(n, ahead)| series.values[first[n] + ahead])
}

#[cfg(test)]
mod tests {
    #[test]
    fn quantiles_that_cross_are_put_in_order() {
        let mut y = [1.0, 2.0, 3.0, 3.0, 1.0, 2.0];
        super::order(&mut y, 3);
        assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }
}
