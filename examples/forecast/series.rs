//! Reading a series from a CSV file.

use anyhow::{Context, Result, bail, ensure};
use chrono::{Days, NaiveDate, NaiveDateTime, TimeDelta};
use std::collections::HashMap;
use std::path::Path;

/// A column of numbers, oldest first, and their dates where the file has them.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name of the column.
    pub column: String,
    /// The values.
    pub values: Vec<f32>,
    /// When each was taken.
    pub times: Option<Vec<NaiveDateTime>>,
    /// Time between two rows, where it is always the same.
    pub step: Option<TimeDelta>,
}

impl Series {
    /// Reads one column of a CSV file, and the one with the dates.
    ///
    /// # Errors
    /// A file that cannot be read, a column that does not exist, a cell that is no finite number or no date, dates that do
    /// not grow, a gap between them: each with its line and column.
    pub fn read(path: &Path, column: &str, date: Option<&str>) -> Result<Series> {
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
        let (mut values, mut times, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {}", file()))?;
            let line = record.position().map_or(0, |position| position.line());
            let place = |at: usize| format!("{}, line {line}, column \"{}\"", file(), names[at]);
            let cell = record.get(value_at).unwrap_or("").trim();
            ensure!(!cell.is_empty(), "{}: the cell is empty; fill gaps in the data first", place(value_at));
            match cell.parse::<f32>() {
                Ok(value) if value.is_finite() => values.push(value),
                _ => bail!("{}: \"{cell}\" is not a finite number", place(value_at)),
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
        let times = date_at.map(|_| times);
        let step = match (&times, date_at) {
            (Some(times), Some(at)) => even_steps(times).map_err(|(row, what)| {
                anyhow::anyhow!("{}, line {}, column \"{}\": {what}", file(), lines[row], names[at])
            })?,
            _ => None,
        };
        Ok(Series { column: column.into(), values, times, step })
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
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Series::read(file.path(), column, date)
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
    fn a_leap_day_looks_back_to_the_day_before() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        assert_eq!(a_year_before(day("2016-02-29")), Some(day("2015-02-28")));
        assert_eq!(a_year_before(day("2016-03-01")), Some(day("2015-03-01")));
    }
}
