//! The model: built, trained, saved, loaded and asked.

use super::arguments::Arguments;
use super::series::Series;
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use wgpu_lstm::data::{Scaler, Windows};
use wgpu_lstm::{
    Callback, Dense, Device, EarlyStopping, EpochEvent, Fit, Flow, Loss, Lstm, Model, Optimiser, Sequential, StepEvent,
};

/// Highest learning rate; it falls to 0 along half a cosine. It, the hidden units and the epochs were chosen on Seattle's
/// year 2014, with a model of the two years before; the year that is held out had no part in it.
const RATE: f64 = 5e-3;

/// What is saved with the model, so that it can be used again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub column: String,
    pub lookback: usize,
    pub horizon: usize,
    /// Rows from the start of the series that it was trained on.
    pub trained_rows: usize,
    scaler: Scaler,
}

/// A model with what it needs to read a series.
pub struct Forecaster {
    model: Model,
    pub settings: Settings,
}

impl Forecaster {
    /// A new model for a series, its scaler fitted on the first `train` rows.
    pub fn new(arguments: &Arguments, series: &Series, train: usize, device: &Device) -> Result<Forecaster> {
        let scaler = Scaler::standard(column(&series.values[..train]))?;
        let (lookback, horizon) = (arguments.lookback.unwrap_or(30), arguments.horizon.unwrap_or(7));
        let settings = Settings { column: series.column.clone(), lookback, horizon, trained_rows: train, scaler };
        let mut model = Sequential::new(1)
            .add(Lstm::new(arguments.hidden).layers(arguments.layers))
            .add(Dense::new(horizon))
            .build(device, arguments.seed)?;
        model.set_extra("forecast", &settings)?;
        Ok(Forecaster { model, settings })
    }

    /// A saved model.
    pub fn load(path: &Path, device: &Device) -> Result<Forecaster> {
        let model = Model::load(path, device)?;
        let settings: Settings = model.extra("forecast")?;
        let (lookback, horizon) = (settings.lookback, settings.horizon);
        let outputs = model.config().output();
        ensure!(
            lookback > 0 && horizon > 0 && settings.scaler.features() == 1 && outputs == horizon,
            "\"{}\" is no forecaster of this example: it has {outputs} outputs, lookback {lookback} and horizon {horizon}",
            path.display()
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
        let scaled = self.settings.scaler.transform(column(&series.values[..train]))?;
        let windows = Windows::new(self.settings.lookback, self.settings.horizon).cut(scaled.view())?;
        self.model.compile(Loss::MeanSquaredError, Optimiser::adam(RATE))?;
        let mut fit = Fit::new().epochs(arguments.epochs).seed(arguments.seed).callback(Progress::new());
        if arguments.validation != 0.0 {
            fit = fit.validation_split(arguments.validation).callback(EarlyStopping::new(10));
        }
        let history = self.model.fit(windows.x.view(), windows.y.view(), fit)?;
        Ok(history.seconds)
    }

    /// Forecasts [N][horizon] of what follows each row of `first`, in the series' own unit.
    pub fn forecast(&mut self, series: &Series, first: &[usize]) -> Result<Vec<Vec<f32>>> {
        let Settings { lookback, ref scaler, .. } = self.settings;
        let scaled = scaler.transform(column(&series.values))?;
        let windows: Vec<ArrayView2<f32>> =
            first.iter().map(|&first| scaled.slice(ndarray::s![first - lookback..first, ..])).collect();
        let y = self.model.predict(ndarray::stack(Axis(0), &windows)?.view())?;
        let rows = y.outer_iter().map(|row| row.iter().map(|&value| scaler.invert(0, value)).collect());
        Ok(rows.collect::<wgpu_lstm::Result<_>>()?)
    }
}

/// Values as a series [time, 1].
fn column(values: &[f32]) -> ArrayView2<'_, f32> {
    ndarray::aview1(values).insert_axis(Axis(1))
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
    fn on_steps(&mut self, event: &StepEvent) {
        let message = format!("epoch {:>3}/{}  loss {:.4}{}", event.epoch, event.epochs, event.loss, self.validation);
        let bar = self.bar(event.epochs * event.steps);
        bar.set_position(((event.epoch - 1) * event.steps + event.step) as u64);
        bar.set_message(message);
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
