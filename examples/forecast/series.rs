//! Reading a series from a CSV file.

use anyhow::{Context, Result, bail, ensure};
use chrono::{Days, NaiveDate, NaiveDateTime, TimeDelta};
use ndarray::Array2;
use std::collections::HashMap;
use std::path::Path;

/// A column of numbers, oldest first, others beside it, and their dates where the file has them.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name of the column to forecast.
    pub column: String,
    /// Its values.
    pub values: Vec<f32>,
    /// Columns that a forecast sees, too.
    pub others: Vec<Column>,
    /// When each was taken.
    pub times: Option<Vec<NaiveDateTime>>,
    /// Time between two rows, where it is always the same.
    pub step: Option<TimeDelta>,
}

/// A column that is not forecast.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub values: Vec<f32>,
}

/// The columns to read beside the one to forecast.
#[derive(Clone, Copy, Debug)]
pub enum Others<'a> {
    /// All that hold numbers. One that holds no number at all is text and left out.
    Numeric,
    /// These, in this order.
    Named(&'a [String]),
}

impl Series {
    /// Reads a column of a CSV file, others beside it, and the one with the dates.
    ///
    /// # Errors
    /// A file that cannot be read, a column that does not exist, a cell that is no finite number or no date, dates that do
    /// not grow, a gap between them: each with its line and column. For [`Others::Numeric`], two columns of one name or
    /// no other column of numbers.
    pub fn read(path: &Path, column: &str, date: Option<&str>, others: Others) -> Result<Series> {
        let file = || format!("\"{}\"", path.display());
        let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", file()))?;
        let names: Vec<String> = reader
            .headers()
            .with_context(|| format!("cannot read {}", file()))?
            .iter()
            .map(|name| name.trim().into())
            .collect();
        let find = |wanted: &str| {
            names
                .iter()
                .position(|name| name == wanted)
                .with_context(|| format!("{} has no column \"{wanted}\"; its columns are {}", file(), names.join(", ")))
        };
        let value_at = find(column)?;
        let date_at = match date {
            Some(name) => Some(find(name)?),
            None => names.iter().position(|name| name.eq_ignore_ascii_case("date")),
        };
        let wanted: Vec<usize> = match others {
            Others::Named(wanted) => wanted.iter().map(|name| find(name)).collect::<Result<_>>()?,
            Others::Numeric => {
                if let Some(twice) =
                    names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name))
                {
                    bail!("{} has two columns \"{twice}\"; give each its own name", file());
                }
                (0..names.len()).filter(|&at| at != value_at && Some(at) != date_at).collect()
            }
        };
        let mut others_read: Vec<Column> =
            wanted.iter().map(|&at| Column { name: names[at].clone(), values: Vec::new() }).collect();
        // For each of them the first cell that is no number
        let mut faults: Vec<Option<String>> = vec![None; wanted.len()];
        let (mut values, mut times, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {}", file()))?;
            let line = record.position().map_or(0, |position| position.line());
            let place = |at: usize| format!("{}, line {line}, column \"{}\"", file(), names[at]);
            let number = |at: usize| match record.get(at).unwrap_or("").trim() {
                "" => Err(format!("{}: the cell is empty; fill gaps in the data first", place(at))),
                cell => match cell.parse::<f32>() {
                    Ok(value) if value.is_finite() => Ok(value),
                    _ => Err(format!("{}: \"{cell}\" is not a finite number", place(at))),
                },
            };
            values.push(number(value_at).map_err(anyhow::Error::msg)?);
            for ((&at, column), fault) in wanted.iter().zip(&mut others_read).zip(&mut faults) {
                match number(at) {
                    Ok(value) => column.values.push(value),
                    Err(reason) => {
                        fault.get_or_insert(reason);
                    }
                }
            }
            if let Some(at) = date_at {
                let cell = record.get(at).unwrap_or("").trim();
                let time = parse_time(cell).with_context(|| {
                    format!("{}: \"{cell}\" is no date like 2015-12-31, 2015/12/31 or 2015-12-31 18:00", place(at))
                })?;
                times.push(time);
                lines.push(line);
            }
        }
        ensure!(!values.is_empty(), "{} has no rows below its header", file());
        let text = |column: &Column| matches!(others, Others::Numeric) && column.values.is_empty();
        if let Some((_, Some(reason))) =
            others_read.iter().zip(faults).find(|(column, fault)| fault.is_some() && !text(column))
        {
            bail!("{reason}");
        }
        others_read.retain(|column| !text(column));
        ensure!(
            matches!(others, Others::Named(_)) || !others_read.is_empty(),
            "{} has no column of numbers beside \"{column}\", so there is nothing for --multivariate to see; its columns are {}",
            file(),
            names.join(", ")
        );
        let times = date_at.map(|_| times);
        let step = match (&times, date_at) {
            (Some(times), Some(at)) => even_steps(times).map_err(|(row, what)| {
                anyhow::anyhow!("{}, line {}, column \"{}\": {what}", file(), lines[row], names[at])
            })?,
            _ => None,
        };
        Ok(Series { column: column.into(), values, others: others_read, times, step })
    }

    /// What a forecast sees, [time, features]: the column to forecast, then the others.
    pub fn features(&self) -> Array2<f32> {
        Array2::from_shape_fn((self.values.len(), 1 + self.others.len()), |(row, feature)| match feature {
            0 => self.values[row],
            _ => self.others[feature - 1].values[row],
        })
    }

    /// Takes out the other columns that never change in the first `train` rows, since nothing can be learnt from them;
    /// returns their names.
    pub fn without_constants(&mut self, train: usize) -> Vec<String> {
        let constant = |column: &mut Column| column.values[..train].iter().all(|&value| value == column.values[0]);
        self.others.extract_if(.., constant).map(|column| column.name).collect()
    }

    /// The dates, where there is one for each day.
    pub fn days(&self) -> Option<Vec<NaiveDate>> {
        let daily = self.step == Some(TimeDelta::days(1));
        self.times.as_ref().filter(|_| daily).map(|times| times.iter().map(|time| time.date()).collect())
    }

    /// How to call a row: its date, or its number. Rows past the end are named, too, where the steps are even.
    pub fn name(&self, row: usize) -> String {
        let Some(times) = &self.times else { return format!("row {}", row + 1) };
        let time = match (times.get(row), self.step) {
            (Some(&time), _) => time,
            (None, Some(step)) => times[times.len() - 1] + step * (row + 1 - times.len()) as i32,
            (None, None) => return format!("row {}", row + 1),
        };
        if self.step.is_none_or(|step| step < TimeDelta::days(1)) {
            time.format("%Y-%m-%d %H:%M").to_string()
        } else {
            time.date().to_string()
        }
    }
}

fn parse_time(cell: &str) -> Option<NaiveDateTime> {
    let cell = cell.replace('/', "-").replace('T', " ");
    let with_time = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let date = || NaiveDate::parse_from_str(&cell, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    with_time.iter().find_map(|format| NaiveDateTime::parse_from_str(&cell, format).ok()).or_else(date)
}

/// The time between rows, where it is the same for nearly all: then any other is a gap. Months and working days differ by
/// their nature and are only asked to grow.
fn even_steps(times: &[NaiveDateTime]) -> Result<Option<TimeDelta>, (usize, String)> {
    let steps: Vec<TimeDelta> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if let Some(at) = steps.iter().position(|&step| step <= TimeDelta::zero()) {
        return Err((at + 1, format!("{} follows {}; dates must grow", show(times[at + 1]), show(times[at]))));
    }
    let mut counts: HashMap<TimeDelta, usize> = HashMap::new();
    steps.iter().for_each(|&step| *counts.entry(step).or_default() += 1);
    let Some((&usual, &count)) = counts.iter().max_by_key(|&(_, &count)| count) else { return Ok(None) };
    if count * 20 < steps.len() * 19 {
        return Ok(None);
    }
    match steps.iter().position(|&step| step != usual) {
        None => Ok(Some(usual)),
        Some(at) => {
            let (before, after) = (show(times[at]), show(times[at + 1]));
            Err((
                at + 1,
                format!("{after} follows {before}; rows are {} apart elsewhere, so there is a gap", apart(usual)),
            ))
        }
    }
}

/// A time without its hours at midnight.
fn show(time: NaiveDateTime) -> String {
    if time.time() == chrono::NaiveTime::MIN { time.date().to_string() } else { time.to_string() }
}

fn apart(step: TimeDelta) -> String {
    match step.num_days() {
        0 => format!("{} minutes", step.num_minutes()),
        1 => "one day".into(),
        days => format!("{days} days"),
    }
}

/// The same day of the year before; 28 February for 29 February.
pub fn a_year_before(day: NaiveDate) -> Option<NaiveDate> {
    use chrono::Datelike;
    day.with_year(day.year() - 1).or_else(|| day.checked_sub_days(Days::new(1))?.with_year(day.year() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, column: &str, date: Option<&str>) -> Result<Series> {
        read_with(text, column, date, Others::Named(&[]))
    }

    fn read_with(text: &str, column: &str, date: Option<&str>, others: Others) -> Result<Series> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Series::read(file.path(), column, date, others)
    }

    #[track_caller]
    fn refused(text: &str, date: Option<&str>, parts: &[&str]) {
        let error = format!("{:#}", read(text, "y", date).expect_err("must be refused"));
        for part in parts {
            assert!(error.contains(part), "\"{part}\" is missing in: {error}");
        }
    }

    #[test]
    fn good_files_are_read() {
        let series = read("date,y\n2015-02-27,1\n2015-02-28, 2.5 \n2015-03-01,-3e1\n", "y", None).unwrap();
        assert_eq!(series.values, [1.0, 2.5, -30.0]);
        assert_eq!(series.days().unwrap()[2].to_string(), "2015-03-01");
        assert_eq!((series.name(0), series.name(4)), ("2015-02-27".into(), "2015-03-03".into()));
        let hourly = read("t,y\n2015/01/01 00:00,1\n2015/01/01 01:00,2\n", "y", Some("t")).unwrap();
        assert!(hourly.days().is_none());
        assert_eq!(hourly.name(2), "2015-01-01 02:00");
        let plain = read("y\n1\n2\n", "y", None).unwrap();
        assert_eq!((plain.times.is_none(), plain.name(1)), (true, "row 2".into()));
        let months = read("date,y\n2015-01-01,1\n2015-02-01,2\n2015-03-01,3\n", "y", None).unwrap();
        assert_eq!(months.step, None);
    }

    #[test]
    fn bad_files_are_refused_with_line_and_column() {
        refused("date,z\n", None, &["no column \"y\"", "date, z"]);
        refused("y\n1\n", Some("when"), &["no column \"when\""]);
        refused("y\n", None, &["no rows"]);
        refused("date,y\n2015-01-01,1\n2015-01-02,rain\n", None, &["line 3", "column \"y\"", "\"rain\""]);
        refused("date,y\n2015-01-01,1\n2015-01-02,\n", None, &["line 3", "column \"y\"", "empty"]);
        refused("y\nNaN\n", None, &["line 2", "\"NaN\" is not a finite number"]);
        refused("y\n1e99\n", None, &["1e99"]);
        refused("date,y\nyesterday,1\n", None, &["line 2", "column \"date\"", "\"yesterday\""]);
        refused("date,y\n2015-01-02,1\n2015-01-01,1\n", None, &["line 3", "must grow"]);
        refused("date,y\n2015-01-02,1,7\n", None, &["cannot read"]);
        let mut gap = String::from("date,y\n");
        for day in (1..=31).filter(|&day| day != 17) {
            gap += &format!("2015-01-{day:02},1\n");
        }
        refused(&gap, None, &["line 18", "2015-01-18", "2015-01-16", "gap"]);
    }

    #[test]
    fn columns_of_numbers_are_found_and_others_left_out() {
        let text = "a,date,y,sky,b\n1,2015-01-01,2,rain,3\n4,2015-01-02,5,,6\n";
        let series = read_with(text, "y", None, Others::Numeric).unwrap();
        assert_eq!(series.features(), ndarray::array![[2.0, 1.0, 3.0], [5.0, 4.0, 6.0]]);
        let named = ["b".to_string()];
        assert_eq!(read_with(text, "a", None, Others::Named(&named)).unwrap().features().row(1).to_vec(), [4.0, 6.0]);
        assert_eq!(read(text, "y", None).unwrap().features().dim(), (2, 1));
    }

    #[test]
    fn columns_that_do_not_change_where_a_model_learns_are_taken_out() {
        let mut series = read_with("y,a,b\n1,2,3\n1,2,4\n1,5,4\n", "y", None, Others::Numeric).unwrap();
        assert_eq!(series.without_constants(2), ["a"]);
        assert_eq!(series.others[0].name, "b");
    }

    #[test]
    fn columns_that_cannot_be_seen_are_refused() {
        let refused = |text: &str, others: Others, part: &str| {
            let error = format!("{:#}", read_with(text, "y", None, others).unwrap_err());
            assert!(error.contains(part), "\"{part}\" is missing in: {error}");
        };
        refused("date,y,sky\n2015-01-01,1,rain\n", Others::Numeric, "no column of numbers beside \"y\"");
        refused("y,a\n1,2\n3,\n", Others::Numeric, "line 3, column \"a\": the cell is empty");
        refused("y,a\n1,fog\n3,4\n", Others::Numeric, "line 2, column \"a\": \"fog\" is not a finite number");
        refused("y,a,a\n1,2,3\n", Others::Numeric, "two columns \"a\"");
        refused("y,a\n1,2\n", Others::Named(&["b".into()]), "no column \"b\"");
        refused("y,a\n1,fog\n", Others::Named(&["a".into()]), "line 2, column \"a\"");
    }

    #[test]
    fn a_leap_day_looks_back_to_the_day_before() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        assert_eq!(a_year_before(day("2016-02-29")), Some(day("2015-02-28")));
        assert_eq!(a_year_before(day("2016-03-01")), Some(day("2015-03-01")));
    }
}
