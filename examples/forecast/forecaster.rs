//! The model: built, trained, saved, loaded and asked.

use super::arguments::Arguments;
use super::distinct::distinct;
use super::series::Series;
use anyhow::{Context, Result, ensure};
use chrono::NaiveDateTime;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};
use std::ops::Range;
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
/// Windows of a batch.
const BATCH: usize = 32;

/// Times through the training rows of one column, and of several, from which a model learns by heart sooner. Chosen as above.
const EPOCHS: [usize; 2] = [20, 12];

/// The quantiles of a forecast with intervals: the lower edge of the band, the median, the upper edge.
pub const QUANTILES: [f64; 3] = [0.1, 0.5, 0.9];

/// Settings that are saved with the model, so that it can be used again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForecastSettings {
    pub column: String,
    /// The columns that it sees beside that one.
    #[serde(default)]
    pub others: Vec<String>,
    /// Quantiles that it forecasts of each row; if there are none, the value that minimises the squared error.
    #[serde(default)]
    pub quantiles: Vec<f32>,
    pub lookback: usize,
    pub horizon: usize,
    /// Rows from the start of the series that it was trained on.
    trained_rows: usize,
    /// Dates and checksum of these rows; older files have none.
    #[serde(default)]
    trained: Option<Trained>,
    /// For the column, then for the others.
    scaler: Scaler,
}

/// The rows that a model was trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trained {
    /// Dates of the first and the last, where they have dates.
    dates: Option<[String; 2]>,
    /// CRC-32C of the column's values, f64 in little-endian order.
    checksum: u32,
}

/// Knowledge of the rows that a model may have been trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// It was trained on these.
    Rows(Range<usize>),
    /// It cannot be told, for this reason.
    Unknown(&'static str),
}

/// Forecasts in the series' own unit, each [N][horizon].
pub struct Forecasts {
    /// The expected value, or the median where there is a band.
    pub middle: Vec<Vec<f64>>,
    /// The lower and the upper edge.
    pub band: Option<[Vec<Vec<f64>>; 2]>,
}

/// A model with what it needs to read a series.
pub struct Forecaster {
    model: Model,
    pub settings: ForecastSettings,
}

impl Forecaster {
    /// A new model for a series, its scaler fitted on the first `train` rows.
    pub fn new(arguments: &Arguments, series: &Series, train: usize) -> Result<Forecaster> {
        let features = series.features();
        let (lookback, horizon) = (arguments.lookback.unwrap_or(30), arguments.horizon.unwrap_or(7));
        let settings = ForecastSettings {
            column: series.column.clone(),
            others: series.others.iter().map(|column| column.name.clone()).collect(),
            quantiles: if arguments.intervals { quantiles().to_vec() } else { Vec::new() },
            lookback,
            horizon,
            trained_rows: train,
            trained: Some(Trained {
                dates: series
                    .times
                    .as_ref()
                    .map(|times| [0, train - 1].map(|row| times[row].format(STAMP).to_string())),
                checksum: checksum(&series.values[..train]),
            }),
            scaler: Scaler::standard(features.slice(s![..train, ..]))?,
        };
        let layers = Sequential::new(features.ncols())
            .add(Lstm::new(arguments.hidden).layers(arguments.layers))
            .add(Dense::new(settings.outputs()));
        let device = arguments.device.open_for_training(&layers, BATCH, lookback)?;
        let mut model = layers.build(&device, arguments.seed)?;
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
        let settings: ForecastSettings = model
            .extra("forecast")
            .with_context(|| format!("\"{}\" holds a model that is no forecaster; {advice}", path.display()))?;
        let ForecastSettings { lookback, horizon, ref others, quantiles: ref given, ref scaler, .. } = settings;
        let outputs = model.config()?.output();
        ensure!(
            given.is_empty() || *given == quantiles(),
            "\"{}\" forecasts the quantiles {given:?}; this example knows {QUANTILES:?}",
            path.display()
        );
        ensure!(
            lookback > 0
                && horizon > 0
                && scaler.features() == 1 + others.len()
                && horizon.checked_mul(given.len().max(1)) == Some(outputs),
            "\"{}\" is no forecaster of this example: it has {outputs} outputs, lookback {lookback}, horizon {horizon}, {} \
             quantiles and {} further columns, and a scaler of {} columns",
            path.display(),
            given.len(),
            others.len(),
            scaler.features()
        );
        if let Some([first, last]) = settings.trained.as_ref().and_then(|trained| trained.dates.as_ref()) {
            ensure!(
                [first, last].iter().all(|date| stamp(date).is_some()),
                "\"{}\" is no forecaster of this example: it says that it was trained on rows from \"{first}\" to \"{last}\"",
                path.display()
            );
        }
        Ok(Forecaster { model, settings })
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.model.save(path)?)
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.model.device()
    }

    pub fn summary(&self) -> String {
        self.model.summary()
    }

    /// A note where f32 loses precision of the series: numbers that are different in f64 and, scaled,
    /// the same in f32.
    pub fn lost_to_rounding(&self, series: &Series) -> Result<Vec<String>> {
        let features = series.features();
        let scaled = self.settings.scaler.transform(features.view())?;
        let names = std::iter::once(&series.column).chain(series.others.iter().map(|column| &column.name));
        let counts =
            features.columns().into_iter().zip(scaled.columns()).map(|(all, scaled)| {
                (distinct(all.iter().copied()), distinct(scaled.iter().map(|&value| value.into())))
            });
        let lost = names.zip(counts).filter(|(_, (all, scaled))| scaled < all);
        Ok(lost
            .map(|(name, (all, scaled))| {
                format!("column \"{name}\": of {all} different values the network sees {scaled}; scaled to f32 the others are the same")
            })
            .collect())
    }

    /// Rows from `start` on that the model was trained on.
    pub fn seen(&self, series: &Series, start: usize) -> Seen {
        let ForecastSettings { ref trained, trained_rows, .. } = self.settings;
        let Some(Trained { dates, checksum: sum }) = trained else {
            return Seen::Unknown("the model's file does not say which rows it was trained on");
        };
        let end = match (&series.times, dates) {
            (Some(times), Some([first, last])) => {
                let (Some(first), Some(last)) = (stamp(first), stamp(last)) else {
                    return Seen::Unknown("the model's file has no such dates");
                };
                let start = start.max(times.partition_point(|&time| time < first));
                return Seen::Rows(start..times.partition_point(|&time| time <= last).max(start));
            }
            _ if series.values.get(..trained_rows).is_some_and(|values| checksum(values) == *sum) => trained_rows,
            (None, Some(_)) => return Seen::Unknown("the model was trained on rows with dates, and these have none"),
            _ => {
                return Seen::Unknown(
                    "the file does not begin with the rows that the model was trained on, and dates do not tell",
                );
            }
        };
        Seen::Rows(start..end.max(start))
    }

    /// Trains on the first `train` rows; returns the seconds it took.
    pub fn train(&mut self, arguments: &Arguments, series: &Series, train: usize) -> Result<f64> {
        let ForecastSettings { lookback, horizon, ref quantiles, ref scaler, .. } = self.settings;
        let scaled = scaler.transform(series.features().slice(s![..train, ..]))?;
        let windows = Windows::new(lookback, horizon).target(&[0]).cut(scaled.view())?;
        let loss = match quantiles.is_empty() {
            true => Loss::MeanSquaredError,
            false => Loss::Quantile { quantiles: quantiles.clone() },
        };
        self.model.compile(loss, Optimiser::adam(RATE))?;
        let epochs = arguments.epochs.unwrap_or(EPOCHS[arguments.multivariate as usize]);
        let mut fit = Fit::new().epochs(epochs).batch_size(BATCH).seed(arguments.seed).callback(Progress::new());
        if arguments.validation != 0.0 {
            fit = fit.validation_split(arguments.validation).callback(EarlyStopping::new(10));
        }
        let history = self.model.fit(windows.x.view(), windows.y.view(), fit)?;
        Ok(history.seconds)
    }

    /// Forecasts of what follows each row of `first`.
    pub fn forecast(&mut self, series: &Series, first: &[usize]) -> Result<Forecasts> {
        let ForecastSettings { lookback, ref quantiles, ref scaler, .. } = self.settings;
        let scaled = scaler.transform(series.features().view())?;
        let windows: Vec<ArrayView2<f32>> =
            first.iter().map(|&first| scaled.slice(s![first - lookback..first, ..])).collect();
        let y = self.model.predict(ndarray::stack(Axis(0), &windows)?.view())?;
        let mut y = y.mapv(|scaled| scaler.invert(0, scaled)).into_iter().collect::<wgpu_lstm::Result<Vec<f64>>>()?;
        let count = quantiles.len().max(1);
        order(&mut y, count);
        // y is [N, horizon, quantiles]
        let of = |quantile: usize| -> Vec<Vec<f64>> {
            let rows = y.chunks_exact(self.settings.outputs());
            rows.map(|row| row.iter().skip(quantile).step_by(count).copied().collect()).collect()
        };
        Ok(match count {
            1 => Forecasts { middle: of(0), band: None },
            _ => Forecasts { middle: of(1), band: Some([of(0), of(2)]) },
        })
    }
}

impl ForecastSettings {
    /// Numbers that the model gives for a window: for each row ahead its quantiles.
    fn outputs(&self) -> usize {
        self.horizon * self.quantiles.len().max(1)
    }
}

/// Puts each `count` quantiles that belong together in order. Nothing in the loss keeps a model from giving a lower quantile
/// above a higher one; put in order, their loss is never larger (Chernozhukov, Fernández-Val and Galichon 2010).
fn order(y: &mut [f64], count: usize) {
    y.chunks_exact_mut(count).for_each(|quantiles| quantiles.sort_by(f64::total_cmp));
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
        let bar = self.bar(event.epochs.saturating_mul(event.steps));
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
pub fn truth(series: &Series, first: &[usize], horizon: usize) -> Array2<f64> {
    Array2::from_shape_fn((first.len(), horizon), |(n, ahead)| series.values[first[n] + ahead])
}

/// [`QUANTILES`] as the loss and the saved settings have them.
fn quantiles() -> [f32; 3] {
    QUANTILES.map(|quantile| quantile as f32)
}

/// Format of saved dates.
const STAMP: &str = "%Y-%m-%dT%H:%M:%S%.f";

fn stamp(date: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(date, STAMP).ok()
}

fn checksum(values: &[f64]) -> u32 {
    values.iter().fold(0, |sum, value| crc32c::crc32c_append(sum, &value.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dates::parse;
    use chrono::TimeDelta;
    use clap::Parser;

    #[test]
    fn quantiles_that_cross_are_put_in_order() {
        let mut y = [1.0, 2.0, 3.0, 3.0, 1.0, 2.0];
        super::order(&mut y, 3);
        assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }

    /// A series of `rows` days from a date on, or without dates.
    fn series(start: Option<&str>, rows: usize, offset: f64) -> Series {
        let date = |row: usize| parse(start.unwrap()).unwrap() + TimeDelta::days(row as i64);
        Series {
            column: "y".into(),
            values: (0..rows).map(|row| offset + (row as f64 * 0.3).sin() * 20.0).collect(),
            others: Vec::new(),
            times: start.map(|_| (0..rows).map(date).collect()),
            steps: None,
            notes: Vec::new(),
        }
    }

    fn arguments() -> Arguments {
        Arguments::parse_from([
            "forecast",
            "--hidden",
            "4",
            "--lookback",
            "5",
            "--horizon",
            "2",
            "--epochs",
            "1",
            "--device",
            "cpu",
        ])
    }

    /// Saved and loaded.
    fn again(forecaster: &Forecaster) -> Forecaster {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        forecaster.save(&path).unwrap();
        Forecaster::load(&path, &Device::cpu()).unwrap()
    }

    #[test]
    fn a_saved_model_knows_the_dates_that_it_was_trained_on() {
        let model = Forecaster::new(&arguments(), &series(Some("2022-01-01"), 300, 0.0), 225).unwrap();
        let model = again(&model);
        assert_eq!(model.seen(&series(Some("2022-01-01"), 300, 0.0), 225), Seen::Rows(225..225));
        // A hundred older rows in front, and 100 rows held out: 2022-07-20 to 2022-10-27
        let longer = series(Some("2021-09-23"), 400, 0.0);
        assert_eq!(model.seen(&longer, 300), Seen::Rows(300..325));
        assert_eq!(longer.name(324), "2022-08-13");
        // Older than all that it was trained on
        assert_eq!(model.seen(&series(Some("2019-01-01"), 300, 0.0), 225), Seen::Rows(300..300));
        assert!(matches!(model.seen(&series(None, 300, 7.0), 225), Seen::Unknown(_)));
    }

    #[test]
    fn without_dates_rows_are_known_by_their_values() {
        let model = Forecaster::new(&arguments(), &series(None, 300, 0.0), 225).unwrap();
        let model = again(&model);
        assert_eq!(model.seen(&series(None, 300, 0.0), 225), Seen::Rows(225..225));
        assert_eq!(model.seen(&series(None, 300, 0.0), 200), Seen::Rows(200..225));
        assert!(matches!(model.seen(&series(None, 300, 7.0), 225), Seen::Unknown(_)));
        assert!(matches!(model.seen(&series(None, 100, 0.0), 50), Seen::Unknown(_)));
    }

    /// Files of before: scalers in f32, and no word of the rows trained on.
    #[test]
    fn older_files_are_read() {
        let mut model = Sequential::new(1).add(Lstm::new(4)).add(Dense::new(2)).build(&Device::cpu(), 1).unwrap();
        let old = r#"{"column":"y","lookback":5,"horizon":2,"trained_rows":225,"scaler":{"shift":[16.437239],"scale":[7.3516197]}}"#;
        model.set_extra("forecast", &serde_json::from_str::<serde_json::Value>(old).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        let mut old = Forecaster::load(&path, &Device::cpu()).unwrap();
        let series = series(Some("2022-01-01"), 300, 0.0);
        assert!(matches!(old.seen(&series, 225), Seen::Unknown(_)));
        assert_eq!(old.forecast(&series, &[225]).unwrap().middle[0].len(), 2);
    }

    #[test]
    fn forecasts_of_large_values_keep_their_differences() {
        let near = Forecaster::new(&arguments(), &series(None, 100, 0.0), 75).unwrap();
        let far = Forecaster::new(&arguments(), &series(None, 100, 1e12), 75).unwrap();
        let of = |mut model: Forecaster, offset| model.forecast(&series(None, 100, offset), &[75, 80]).unwrap().middle;
        for (near, far) in of(near, 0.0).iter().flatten().zip(of(far, 1e12).iter().flatten()) {
            // f64 holds 1e12 to 1e-4
            assert!((near - (far - 1e12)).abs() < 1e-3, "{near} {far}");
        }
        let mut outlier = series(None, 100, 0.0);
        outlier.values[3] = 1e12;
        let model = Forecaster::new(&arguments(), &outlier, 75).unwrap();
        let said = model.lost_to_rounding(&outlier).unwrap();
        assert!(said.len() == 1 && said[0].contains("of 100 different values the network sees"), "{said:?}");
        let model = Forecaster::new(&arguments(), &series(None, 100, 1e12), 75).unwrap();
        assert!(model.lost_to_rounding(&series(None, 100, 1e12)).unwrap().is_empty());
    }
}
