//! Trains an LSTM on a time series and shows how well it forecasts, beside simple baselines.
//!
//! ```text
//! cargo run --release --example forecast
//! cargo run --release --example forecast -- --data my.csv --date day --column sales --lookback 60 --horizon 14
//! cargo run --release --example forecast -- --intervals --multivariate
//! cargo run --release --example forecast -- --load forecast-out/model.safetensors
//! ```

mod arguments;
mod baselines;
#[path = "../common/mod.rs"]
mod common;
mod dates;
#[path = "../common/distinct.rs"]
mod distinct;
mod forecaster;
mod numbers;
mod plot;
mod scores;
mod series;
mod steps;
mod table;

use anyhow::{Context, Result, bail, ensure};
use arguments::Arguments;
use baselines::Task;
use forecaster::{Forecaster, Seen};
use numbers::Numbers;
use scores::{BandScores, Scores};
use serde::Serialize;
use series::{Others, Series};
use std::io::Write;
use std::path::{Path, PathBuf};
use steps::Uneven;
use wgpu_lstm::files;

/// The report of `--json`.
#[derive(Serialize)]
struct Report {
    column: String,
    /// Columns that the forecasts see, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<String>,
    device: String,
    rows: usize,
    /// Between rows, as "one day apart"; absent without dates, or where most steps are uneven.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// Steps that are not like that; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    uneven_steps: Option<Uneven>,
    /// Notes on the data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    test_rows: usize,
    /// Of the rows held out, those that the model was trained on; null where it is not known.
    trained_on: Option<TrainedOn>,
    lookback: usize,
    horizon: usize,
    /// Of training; absent with --load.
    seconds: Option<f64>,
    scores: Vec<Scores>,
    /// Of the 80 % band; absent without --intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    bands: Option<Vec<BandScores>>,
    /// The forecast of what comes after the last row.
    next: Vec<Next>,
}

#[derive(Serialize)]
struct Next {
    when: String,
    value: f64,
    /// Of the 80 % band.
    #[serde(skip_serializing_if = "Option::is_none")]
    band: Option<[f64; 2]>,
}

#[derive(Serialize)]
struct TrainedOn {
    rows: usize,
    /// The first and the last of them; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_to: Option<[String; 2]>,
}

fn main() -> Result<()> {
    env_logger::init();
    run(&mut common::Output)
}

fn run(out: &mut impl Write) -> Result<()> {
    let arguments: Arguments = common::arguments();
    check(&arguments)?;
    let load = |path| Forecaster::load(path, &arguments.device.open()?);
    let loaded = arguments.load.as_deref().map(load).transpose()?;
    let mut series = read(&arguments, loaded.as_ref())?;
    let rows = series.values.len();
    let test = arguments.test.unwrap_or(if rows < 4 * 365 { rows / 4 } else { 365 });
    let (lookback, horizon) = match &loaded {
        Some(forecaster) => (forecaster.settings.lookback, forecaster.settings.horizon),
        None => (arguments.lookback.unwrap_or(30), arguments.horizon.unwrap_or(7)),
    };
    let train = split(rows, test, lookback, horizon)?;
    let step = series.steps.as_ref().and_then(|steps| steps.known()).map(|step| step.to_string());
    match &step {
        Some(step) => writeln!(out, "{rows} rows {step}: {} to {}", series.name(0), series.name(rows - 1))?,
        None => writeln!(out, "{rows} rows")?,
    }
    if loaded.is_none() {
        for name in series.without_constants(train) {
            writeln!(out, "without the column \"{name}\": it never changes in the rows to train on")?;
        }
        ensure!(
            !arguments.multivariate || !series.others.is_empty(),
            "no column beside \"{}\" changes in the rows to train on, so there is nothing for --multivariate to see",
            series.column
        );
    }
    // Before the training, so that it is not lost on a folder that cannot be written
    let folder = &arguments.out;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder \"{}\"", folder.display()))?;
    let picture = folder.join("forecast.svg");
    let model = arguments.load.is_none().then(|| model_path(folder));
    for path in [Some(&picture), model.as_ref(), arguments.json.as_ref()].into_iter().flatten() {
        files::check(path)?;
        let inputs = [arguments.data.as_ref(), arguments.load.as_ref()];
        let input = inputs.into_iter().flatten().find(|input| files::same(input, path));
        ensure!(input.is_none(), "\"{}\" would be written over an input, which is the same file", path.display());
    }

    let mut notes = std::mem::take(&mut series.notes);
    let mut seconds = None;
    let mut forecaster = match loaded {
        Some(forecaster) => {
            say(out, &mut notes, forecaster.lost_to_rounding(&series)?)?;
            writeln!(out, "running on {}", forecaster.device())?;
            forecaster
        }
        None => {
            let mut forecaster = Forecaster::new(&arguments, &series, train)?;
            say(out, &mut notes, forecaster.lost_to_rounding(&series)?)?;
            writeln!(out, "running on {}", forecaster.device())?;
            writeln!(out, "\n{}\n", forecaster.summary())?;
            writeln!(out, "training on {} rows ({} to {})", train, series.name(0), series.name(train - 1))?;
            if !series.others.is_empty() {
                let names: Vec<&str> = series.others.iter().map(|column| column.name.as_str()).collect();
                writeln!(out, "seeing {} and {}", series.column, names.join(", "))?;
            }
            let spent = forecaster.train(&arguments, &series, train)?;
            writeln!(out, "trained in {spent:.1} s")?;
            seconds = Some(spent);
            forecaster
        }
    };

    // Every forecast whose rows are all held out
    let first: Vec<usize> = (train..=rows - horizon).collect();
    let forecasts = forecaster.forecast(&series, &first)?;
    let truth = forecaster::truth(&series, &first, horizon);
    let mut all = vec![Scores::new("LSTM", &forecasts.middle, &truth)?];
    let mut missing = Vec::new();
    let task = Task { series: &series, train, lookback, horizon, first: &first };
    for (name, forecast) in baselines::all(&task) {
        match forecast {
            Ok(forecast) => all.push(Scores::new(name, &forecast, &truth)?),
            Err(reason) => missing.push(format!("without the baseline \"{name}\": {reason}")),
        }
    }
    let seen = forecaster.seen(&series, train);
    let unseen = matches!(&seen, Seen::Rows(rows) if rows.is_empty());
    writeln!(
        out,
        "\nerrors of {} forecasts of {}, {} to {}, {}; columns: rows ahead\n",
        first.len(),
        series.column,
        series.name(train),
        series.name(rows - 1),
        match &seen {
            Seen::Rows(rows) if rows.is_empty() => "none of it trained on".into(),
            Seen::Rows(rows) => format!(
                "of which the model was trained on {}, {} to {}",
                if rows.len() == test { "all".into() } else { dates::count(rows.len(), "row") },
                series.name(rows.start),
                series.name(rows.end - 1)
            ),
            Seen::Unknown(why) => format!("and whether the model was trained on any of it is not known: {why}"),
        }
    )?;
    writeln!(out, "{}", scores::table(&all))?;
    for line in &missing {
        writeln!(out, "{line}")?;
    }

    let mut bands = None;
    if let Some([low, high]) = &forecasts.band {
        let mut all = vec![BandScores::new("LSTM", [low, &forecasts.middle, high], &truth)?];
        for (name, forecast) in baselines::bands(&task) {
            if let Ok(forecast) = forecast {
                all.push(BandScores::new(name, forecast.each_ref().map(Vec::as_slice), &truth)?);
            }
        }
        writeln!(
            out,
            "the 80 % band: share of the truth inside, mean width, and pinball loss (mean over the quantiles 0.1, 0.5 and 0.9)\n"
        )?;
        writeln!(out, "{}", scores::band_table(&all))?;
        bands = Some(all);
    }

    let ahead = forecaster.forecast(&series, &[rows])?;
    let numbers = Numbers::new(scores::scale(&all), 2);
    writeln!(out, "what comes next:")?;
    let mut next = Vec::new();
    for (at, &value) in ahead.middle[0].iter().enumerate() {
        let band = ahead.band.as_ref().map(|edges| edges.each_ref().map(|edge| edge[0][at]));
        let shown = band.map(|edges| edges.map(|edge| numbers.show(edge)));
        let shown = shown.map_or(String::new(), |[low, high]| format!("  ({low} to {high})"));
        let when = series.name(rows + at);
        writeln!(out, "  {when}  {}{shown}", numbers.show(value))?;
        next.push(Next { when, value, band });
    }

    let title =
        format!("{} and its forecasts{}", series.column, if unseen { ", made without seeing these rows" } else { "" });
    if arguments.load.is_none() {
        forecaster.save(&model_path(folder))?;
    }
    files::replace(&picture, plot::draw(&series, &first, &forecasts, &ahead, &title)?)?;
    writeln!(out, "\nplot:  {}", picture.display())?;
    if arguments.load.is_none() {
        writeln!(out, "model: {}", model_path(folder).display())?;
    }
    if let Some(path) = &arguments.json {
        let column = series.column.clone();
        let device = forecaster.device().to_string();
        let others = series.others.iter().map(|column| column.name.clone()).collect();
        let report = Report {
            column,
            others,
            device,
            rows,
            step,
            uneven_steps: series.steps.as_ref().and_then(|steps| steps.uneven.clone()),
            notes,
            test_rows: test,
            trained_on: match seen {
                Seen::Unknown(_) => None,
                Seen::Rows(rows) => Some(TrainedOn {
                    rows: rows.len(),
                    from_to: (!rows.is_empty()).then(|| [rows.start, rows.end - 1].map(|row| series.name(row))),
                }),
            },
            lookback,
            horizon,
            seconds,
            scores: all,
            bands,
            next,
        };
        let text = serde_json::to_string_pretty(&report)? + "\n";
        files::replace(path, text)?;
        writeln!(out, "table: {}", path.display())?;
    }
    Ok(())
}

/// Prints what was said of the data, with more of it.
fn say(out: &mut impl Write, notes: &mut Vec<String>, more: Vec<String>) -> Result<()> {
    notes.extend(more);
    Ok(notes.iter().try_for_each(|note| writeln!(out, "{note}"))?)
}

/// Refuses sizes of 0 before anything is read.
fn check(arguments: &Arguments) -> Result<()> {
    let sizes = [
        ("lookback", arguments.lookback),
        ("horizon", arguments.horizon),
        ("test", arguments.test),
        ("hidden", Some(arguments.hidden)),
        ("layers", Some(arguments.layers)),
        ("epochs", arguments.epochs),
    ];
    match sizes.iter().find(|(_, size)| *size == Some(0)) {
        Some((name, _)) => bail!("--{name} is 0; it must be at least 1"),
        None => Ok(()),
    }
}

/// Reads the series that is asked for, or that the saved model was made for.
fn read(arguments: &Arguments, loaded: Option<&Forecaster>) -> Result<Series> {
    if let Some(Forecaster { settings, .. }) = loaded {
        let sizes =
            [("lookback", arguments.lookback, settings.lookback), ("horizon", arguments.horizon, settings.horizon)];
        for (name, asked, saved) in sizes {
            ensure!(
                asked.is_none_or(|asked| asked == saved),
                "the saved model has {name} {saved}, --{name} asks for {}",
                asked.unwrap_or(0)
            );
        }
        if let Some(asked) = &arguments.column {
            ensure!(
                *asked == settings.column,
                "the saved model forecasts \"{}\", --column asks for \"{asked}\"",
                settings.column
            );
        }
        ensure!(
            !arguments.intervals || !settings.quantiles.is_empty(),
            "the saved model has no intervals, --intervals asks for them; train one with --intervals"
        );
        ensure!(
            !arguments.multivariate || !settings.others.is_empty(),
            "the saved model sees \"{}\" alone, --multivariate asks for all columns; train one with --multivariate",
            settings.column
        );
    }
    let path = match &arguments.data {
        Some(path) => path.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/seattle-weather.csv"),
    };
    let saved = loaded.map(|forecaster| forecaster.settings.column.as_str());
    let column = arguments.column.as_deref().or(saved).unwrap_or("temp_max");
    let others = match loaded {
        Some(forecaster) => Others::Named(&forecaster.settings.others),
        None if arguments.multivariate => Others::Numeric,
        None => Others::Named(&[]),
    };
    Series::read(&path, column, arguments.date.as_deref(), others, arguments.gaps)
}

/// Rows to train on, if there are enough of both kinds.
fn split(rows: usize, test: usize, lookback: usize, horizon: usize) -> Result<usize> {
    let needed = lookback.saturating_add(horizon).saturating_add(test.max(horizon));
    ensure!(
        rows > needed,
        "the series has {rows} rows; lookback {lookback} + horizon {horizon} + {} held out need more than {needed}: lower --lookback, \
         --horizon or --test",
        test.max(horizon)
    );
    ensure!(
        test >= horizon,
        "{test} rows are held out, but a forecast reaches {horizon} rows ahead; raise --test or lower --horizon"
    );
    Ok(rows - test)
}

fn model_path(folder: &Path) -> PathBuf {
    folder.join("model.safetensors")
}
