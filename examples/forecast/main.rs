//! Trains an LSTM on a time series and shows how well it forecasts, beside simple baselines.
//!
//! ```text
//! cargo run --release --example forecast
//! cargo run --release --example forecast -- --data my.csv --date day --column sales --lookback 60 --horizon 14
//! cargo run --release --example forecast -- --load forecast-out/model.safetensors
//! ```

mod arguments;
mod baselines;
#[path = "../common/mod.rs"]
mod common;
mod forecaster;
mod numbers;
mod plot;
mod scores;
mod series;

use anyhow::{Context, Result, bail, ensure};
use arguments::Arguments;
use baselines::Task;
use clap::Parser;
use forecaster::Forecaster;
use numbers::Numbers;
use scores::Scores;
use serde::Serialize;
use series::Series;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `--json` writes.
#[derive(Serialize)]
struct Report {
    column: String,
    device: String,
    rows: usize,
    test_rows: usize,
    lookback: usize,
    horizon: usize,
    /// Of training; absent with --load.
    seconds: Option<f64>,
    scores: Vec<Scores>,
    /// The forecast of what comes after the last row.
    next: Vec<Next>,
}

#[derive(Serialize)]
struct Next {
    when: String,
    value: f32,
}

fn main() -> Result<()> {
    env_logger::init();
    let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    match run(&mut std::io::stdout()) {
        // A reader that has seen enough, as `head` does, is no failure.
        Err(error) if error.downcast_ref().is_some_and(closed) => Ok(()),
        result => result,
    }
}

fn run(out: &mut impl Write) -> Result<()> {
    let arguments = Arguments::parse();
    check(&arguments)?;
    let device = arguments.device.open()?;
    writeln!(out, "running on {device}")?;

    let loaded = arguments.load.as_deref().map(|path| Forecaster::load(path, &device)).transpose()?;
    let series = read(&arguments, loaded.as_ref())?;
    let rows = series.values.len();
    let test = arguments.test.unwrap_or(if rows < 4 * 365 { rows / 4 } else { 365 });
    let (lookback, horizon) = match &loaded {
        Some(forecaster) => (forecaster.settings.lookback, forecaster.settings.horizon),
        None => (arguments.lookback.unwrap_or(30), arguments.horizon.unwrap_or(7)),
    };
    let train = split(rows, test, lookback, horizon)?;
    // Before the training, so that it is not lost on a folder that cannot be written
    let folder = &arguments.out;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder \"{}\"", folder.display()))?;

    let mut seconds = None;
    let mut forecaster = match loaded {
        Some(forecaster) => forecaster,
        None => {
            let mut forecaster = Forecaster::new(&arguments, &series, train, &device)?;
            writeln!(out, "\n{}\n", forecaster.summary())?;
            writeln!(out, "training on {} rows ({} to {})", train, series.name(0), series.name(train - 1))?;
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
    let mut all = vec![Scores::new("LSTM", &forecasts, &truth)];
    let mut missing = Vec::new();
    for (name, forecast) in baselines::all(&Task { series: &series, train, lookback, horizon, first: &first }) {
        match forecast {
            Ok(forecast) => all.push(Scores::new(name, &forecast, &truth)),
            Err(reason) => missing.push(format!("without the baseline \"{name}\": {reason}")),
        }
    }
    let unseen = train >= forecaster.settings.trained_rows;
    writeln!(
        out,
        "\nerrors of {} forecasts of {}, {} to {}, {}; columns: rows ahead\n",
        first.len(),
        series.column,
        series.name(train),
        series.name(rows - 1),
        if unseen { "none of it trained on" } else { "of which the model was trained on a part" }
    )?;
    writeln!(out, "{}", scores::table(&all))?;
    for line in &missing {
        writeln!(out, "{line}")?;
    }

    let next = forecaster.forecast(&series, &[rows])?.remove(0);
    let numbers = Numbers::new(scores::scale(&all), 2);
    writeln!(out, "what comes next:")?;
    let next: Vec<Next> =
        next.into_iter().enumerate().map(|(ahead, value)| Next { when: series.name(rows + ahead), value }).collect();
    for next in &next {
        writeln!(out, "  {}  {}", next.when, numbers.show(next.value as f64))?;
    }

    let title =
        format!("{} and its forecasts{}", series.column, if unseen { ", made without seeing these rows" } else { "" });
    let picture = folder.join("forecast.svg");
    let values: Vec<f32> = next.iter().map(|next| next.value).collect();
    if arguments.load.is_none() {
        forecaster.save(&model_path(folder))?;
    }
    plot::draw(&picture, &series, &first, &forecasts, &values, &title)?;
    writeln!(out, "\nplot:  {}", picture.display())?;
    if arguments.load.is_none() {
        writeln!(out, "model: {}", model_path(folder).display())?;
    }
    if let Some(path) = &arguments.json {
        let column = series.column.clone();
        let device = device.to_string();
        let report = Report { column, device, rows, test_rows: test, lookback, horizon, seconds, scores: all, next };
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write \"{}\"", path.display()))?;
        writeln!(out, "table: {}", path.display())?;
    }
    Ok(())
}

/// Refuses sizes of 0 before anything is read.
fn check(arguments: &Arguments) -> Result<()> {
    let sizes = [
        ("lookback", arguments.lookback),
        ("horizon", arguments.horizon),
        ("test", arguments.test),
        ("hidden", Some(arguments.hidden)),
        ("layers", Some(arguments.layers)),
        ("epochs", Some(arguments.epochs)),
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
    }
    let path = match &arguments.data {
        Some(path) => path.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/seattle-weather.csv"),
    };
    let saved = loaded.map(|forecaster| forecaster.settings.column.as_str());
    let column = arguments.column.as_deref().or(saved).unwrap_or("temp_max");
    Series::read(&path, column, arguments.date.as_deref())
}

/// Rows to train on, if there are enough of both kinds.
fn split(rows: usize, test: usize, lookback: usize, horizon: usize) -> Result<usize> {
    ensure!(
        test >= horizon,
        "{test} rows are held out, but a forecast reaches {horizon} rows ahead; raise --test or lower --horizon"
    );
    let needed = lookback.saturating_add(horizon).saturating_add(test);
    ensure!(
        rows > needed,
        "the series has {rows} rows; lookback {lookback} + horizon {horizon} + {test} held out need more than {needed}"
    );
    Ok(rows - test)
}

fn model_path(folder: &Path) -> PathBuf {
    folder.join("model.safetensors")
}
