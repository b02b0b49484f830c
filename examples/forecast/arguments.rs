//! The command line.

use super::common::DeviceName;
use super::series::Gaps;
use clap::Parser;
use std::path::PathBuf;

/// Trains an LSTM on a time series and shows how well it forecasts the rows held out at the end, beside simple baselines.
///
/// Without arguments: the daily maximum temperature of Seattle, 1 to 7 days ahead, on the last year.
#[derive(Parser, Debug)]
#[command(about, long_about)]
pub struct Arguments {
    /// CSV file with a header line, oldest row first [default: Seattle's weather, 2012 to 2015]
    #[arg(long, value_name = "FILE.csv")]
    pub data: Option<PathBuf>,
    /// Column to forecast [default: temp_max, or the saved model's]
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
    /// Column with the date [default: the one called "date", or else the first that holds dates]
    #[arg(long, value_name = "NAME")]
    pub date: Option<String>,
    /// Treatment of dates that are missing between rows
    #[arg(long, value_enum, default_value_t = Gaps::Refuse)]
    pub gaps: Gaps,
    /// Rows that each forecast sees [default: 30, or the saved model's]
    #[arg(long, value_name = "N")]
    pub lookback: Option<usize>,
    /// Rows that each forecast reaches ahead [default: 7, or the saved model's]
    #[arg(long, value_name = "N")]
    pub horizon: Option<usize>,
    /// Rows held out at the end [default: 365, or a quarter of a series shorter than 1460 rows]
    #[arg(long, value_name = "N")]
    pub test: Option<usize>,
    /// Forecasts a band that holds the truth four times out of five, and the median [default: as the saved model]
    #[arg(long)]
    pub intervals: bool,
    /// Sees all columns of numbers, not only the one to forecast [default: as the saved model]
    #[arg(long)]
    pub multivariate: bool,
    /// Hidden units of a layer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub hidden: usize,
    /// LSTM layers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub layers: usize,
    /// Times through the training rows [default: 20, or 12 with --multivariate]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Share of the training rows, at their end, to judge each epoch on: stops when they are forecast no better
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub validation: f64,
    /// Seed of the first weights and of the order of the batches
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Device to run on
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// Folder for the plot and the saved model
    #[arg(long, value_name = "DIR", default_value = "forecast-out")]
    pub out: PathBuf,
    /// Also write the table as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Forecast with a saved model instead of training one
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["hidden", "layers", "epochs", "validation", "seed"])]
    pub load: Option<PathBuf>,
}
