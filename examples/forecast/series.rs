//! Reading a series from a CSV file.

use super::dates::{self, Precision, show};
use super::steps::{Step, Steps};
use super::table::Table;
use anyhow::{Result, anyhow, bail, ensure};
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use ndarray::Array2;
use std::path::Path;

/// A column of numbers, oldest first, others beside it, and their dates where the file has them.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name of the column to forecast.
    pub column: String,
    /// Its values.
    pub values: Vec<f64>,
    /// Columns that a forecast sees, too.
    pub others: Vec<Column>,
    /// Time stamp of each row.
    pub times: Option<Vec<NaiveDateTime>>,
    /// Time between the rows; `None` without dates, or of a single row.
    pub steps: Option<Steps>,
    /// Notes for the user on how the file was read.
    pub notes: Vec<String>,
}

/// A column that is not forecast.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub values: Vec<f64>,
}

/// The columns to read beside the one to forecast.
#[derive(Clone, Copy, Debug)]
pub enum Others<'a> {
    /// All that hold numbers. One that holds no number at all is text and left out.
    Numeric,
    /// These, in this order.
    Named(&'a [String]),
}

/// Treatment of missing rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Gaps {
    /// Stop, and say where
    Refuse,
    /// Take the rows as they stand, one after another
    Ignore,
}

impl Series {
    /// Reads a column of a CSV file, others beside it, and the one with the dates.
    ///
    /// # Errors
    /// A file that cannot be read, a column that does not exist, a cell that is no finite number or no date, dates that do
    /// not grow, uneven steps between them under [`Gaps::Refuse`]: each with its line and column. For [`Others::Numeric`], two
    /// columns of one name or no other column of numbers.
    pub fn read(path: &Path, column: &str, date: Option<&str>, others: Others, gaps: Gaps) -> Result<Series> {
        let table = Table::read(path)?;
        let mut notes = Vec::new();
        let value_at = table.find(column)?;
        let dates = match date {
            Some(name) => Some((table.find(name)?, times(&table, table.find(name)?)?)),
            None => dates(&table, value_at, &mut notes)?,
        };
        let date_at = dates.as_ref().map(|(at, _)| *at);
        let values = numbers(&table, value_at).map_err(anyhow::Error::msg)?;
        let others = beside(&table, value_at, date_at, others)?;
        let steps = match &dates {
            Some((at, times)) => steps(&table, *at, times, gaps, &mut notes)?,
            None => None,
        };
        for at in std::iter::once(value_at).chain(others.iter().filter_map(|column| table.find(&column.name).ok())) {
            if let (written, kept) = table.distinct(at)
                && kept < written
            {
                let name = &table.names[at];
                notes.push(format!(
                    "column \"{name}\": {written} different numbers are written, {kept} are different in f64"
                ));
            }
        }
        Ok(Series { column: column.into(), values, others, times: dates.map(|(_, times)| times), steps, notes })
    }

    /// Features of a forecast, [time, features]: the column to forecast, then the others.
    pub fn features(&self) -> Array2<f64> {
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
        let daily = self.steps.as_ref()?.even() == Some(&Step::Every(TimeDelta::days(1)));
        self.times.as_ref().filter(|_| daily).map(|times| times.iter().map(|time| time.date()).collect())
    }

    /// Name of a row: its date, or its number. Rows past the end are named, too, where the step is known. Dates are written as
    /// finely as they differ.
    pub fn name(&self, row: usize) -> String {
        let number = || format!("row {}", row + 1);
        let Some(times) = &self.times else { return number() };
        let precision = match self.steps.as_ref().map(|steps| &steps.step) {
            // Two rows tell a step that is finer than they are.
            Some(&Step::Every(step)) => Precision::of(times.iter().chain(times[0].checked_add_signed(step).iter())),
            _ => Precision::of(times.iter()),
        };
        if let Some(&time) = times.get(row) {
            return precision.show(time);
        }
        let due = self.steps.as_ref().and_then(|steps| steps.due(times[times.len() - 1], row + 1 - times.len()));
        match (due, self.steps.as_ref().map(|steps| &steps.step)) {
            (Some(time), Some(Step::Months { day: None, .. })) => time.format("%Y-%m").to_string(),
            (Some(time), _) => precision.show(time),
            (None, _) => number(),
        }
    }
}

/// A column as numbers, or the first cell that is none.
fn numbers(table: &Table, column: usize) -> Result<Vec<f64>, String> {
    (0..table.rows.len()).map(|row| table.number(row, column)).collect()
}

/// The columns beside the one to forecast.
fn beside(table: &Table, value_at: usize, date_at: Option<usize>, others: Others) -> Result<Vec<Column>> {
    let (file, names) = (&table.file, &table.names);
    let read = |at: usize| numbers(table, at).map(|values| Column { name: names[at].clone(), values });
    let mut columns = Vec::new();
    match others {
        Others::Named(wanted) => {
            for name in wanted {
                columns.push(read(table.find(name)?).map_err(anyhow::Error::msg)?);
            }
        }
        Others::Numeric => {
            if let Some(twice) =
                names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name))
            {
                bail!("{file} has two columns \"{twice}\"; give each its own name");
            }
            for at in (0..names.len()).filter(|&at| at != value_at && Some(at) != date_at) {
                match read(at) {
                    Ok(column) => columns.push(column),
                    Err(reason) if (0..table.rows.len()).any(|row| table.number(row, at).is_ok()) => bail!("{reason}"),
                    Err(_) => {}
                }
            }
            ensure!(
                !columns.is_empty(),
                "{file} has no column of numbers beside \"{}\", so there is nothing for --multivariate to see; its columns are {}",
                names[value_at],
                names.join(", ")
            );
        }
    }
    Ok(columns)
}

/// A column as dates that grow.
fn times(table: &Table, at: usize) -> Result<Vec<NaiveDateTime>> {
    let mut times = Vec::with_capacity(table.rows.len());
    for (row, cells) in table.rows.iter().enumerate() {
        let cell = cells.cell(at);
        let time = dates::parse(cell).map_err(|cause| match cell {
            "" => anyhow!("{}: the cell is empty; each row needs its date", table.place(row, at)),
            _ => anyhow!("{}: \"{cell}\" is no date that is read: {cause}", table.place(row, at)),
        })?;
        times.push(time);
    }
    let line = |row: usize| table.rows[row].line;
    if let Some(row) = (1..times.len()).find(|&row| times[row] <= times[row - 1]) {
        let (before, after) = (show(times[row - 1]), show(times[row]));
        let what = if times.windows(2).all(|pair| pair[1] < pair[0]) {
            "the file is newest first; sort it oldest first".into()
        } else if times[row] == times[row - 1] {
            format!(
                "{after} stands here and in line {}; each date must stand once (a file of several series must be split, and where \
                 clocks go back, write times in UTC)",
                line(row - 1)
            )
        } else {
            format!("{after} follows {before}; dates must grow, so sort the file oldest first")
        };
        bail!("{}: {what}", table.place(row, at));
    }
    Ok(times)
}

/// The column called "date", or else the first that is all dates and in order.
fn dates(table: &Table, value_at: usize, notes: &mut Vec<String>) -> Result<Option<(usize, Vec<NaiveDateTime>)>> {
    let mut named = (0..table.names.len()).filter(|&at| table.names[at].eq_ignore_ascii_case("date"));
    if let Some(at) = named.next() {
        if let Some(second) = named.next() {
            bail!(
                "{} has the columns \"{}\" and \"{}\"; choose one by --date",
                table.file,
                table.names[at],
                table.names[second]
            );
        }
        return Ok(Some((at, times(table, at)?)));
    }
    for at in (0..table.names.len()).filter(|&at| at != value_at) {
        let name = &table.names[at];
        let read: Result<Vec<_>, String> = table.rows.iter().map(|row| dates::parse(row.cell(at))).collect();
        match read {
            Ok(read) if read.windows(2).all(|pair| pair[0] < pair[1]) => {
                notes.push(format!("dates are those of the column \"{name}\""));
                return Ok(Some((at, read)));
            }
            // Newest first
            Ok(read) if read.windows(2).all(|pair| pair[0] > pair[1]) => return times(table, at).map(|_| None),
            Ok(_) => notes.push(format!(
                "the dates of the column \"{name}\" do not grow; rows are taken in the order of the file, without dates"
            )),
            Err(_) if names_a_time(name) => {
                falling(table, at)?;
                let cell = table.rows[0].cell(at);
                let cause = dates::parse(cell).err().unwrap_or_else(|| "some of its cells are no dates".into());
                notes.push(format!(
                    "the column \"{name}\" is not read as dates (\"{cell}\": {cause}); rows are taken in the order of the file"
                ));
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

fn names_a_time(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["date", "time", "stamp", "epoch"].iter().any(|part| name.contains(part))
        || ["ds", "t", "ts", "day", "week", "month", "quarter", "year", "period"].contains(&name.as_str())
}

/// Refuses times that are numbers and always fall.
fn falling(table: &Table, at: usize) -> Result<()> {
    let numbers = numbers(table, at).unwrap_or_default();
    ensure!(
        numbers.len() < 3 || numbers.windows(2).any(|pair| pair[0] <= pair[1]),
        "{}: the file is newest first; sort it oldest first",
        table.place(1, at)
    );
    Ok(())
}

/// The steps between dates; uneven ones are refused, or said.
fn steps(
    table: &Table,
    at: usize,
    times: &[NaiveDateTime],
    gaps: Gaps,
    notes: &mut Vec<String>,
) -> Result<Option<Steps>> {
    let steps = Steps::new(times);
    if let Some(known @ Steps { step, uneven: Some(uneven) }) = &steps {
        let usual = match known.known() {
            Some(step) => format!("rows are {step}, but"),
            None => format!("rows have no common step, most often they are {step};"),
        };
        let what = format!("{usual} {uneven} (line {})", table.rows[uneven.row].line);
        match gaps {
            Gaps::Refuse => bail!(
                "{}: {what}; add the missing rows, or take the rows as they stand, one after another, by --gaps ignore",
                table.place(uneven.row, at)
            ),
            Gaps::Ignore => {
                notes.push(format!("{what}: they are taken as they stand, one after another (--gaps ignore)"))
            }
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, column: &str, date: Option<&str>) -> Result<Series> {
        read_with(text, column, date, Others::Named(&[]))
    }

    fn read_with(text: &str, column: &str, date: Option<&str>, others: Others) -> Result<Series> {
        read_gaps(text, column, date, others, Gaps::Refuse)
    }

    fn read_gaps(text: &str, column: &str, date: Option<&str>, others: Others, gaps: Gaps) -> Result<Series> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Series::read(file.path(), column, date, others, gaps)
    }

    /// A file of these dates.
    fn dated(dates: &[&str]) -> String {
        dates.iter().fold("date,y\n".into(), |text, date| text + date + ",1\n")
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
        let months = read(&dated(&["2015-01-01", "2015-02-01", "2015-03-01"]), "y", None).unwrap();
        assert_eq!((months.name(2), months.name(3)), ("2015-03-01".into(), "2015-04-01".into()));
        let seconds = read(&dated(&["2024-01-01 00:00:57", "2024-01-01 00:00:58"]), "y", None).unwrap();
        assert_eq!((seconds.name(1), seconds.name(3)), ("2024-01-01 00:00:58".into(), "2024-01-01 00:01:00".into()));
        let fine = read(&dated(&["2024-01-01 00:00:00", "2024-01-01 00:00:00.005"]), "y", None).unwrap();
        assert_eq!(
            (fine.name(0), fine.name(100)),
            ("2024-01-01 00:00:00.000".into(), "2024-01-01 00:00:00.500".into())
        );
    }

    #[test]
    fn bad_files_are_refused_with_line_and_column() {
        refused("date,z\n2015-01-01,1\n", None, &["no column \"y\"", "date, z"]);
        refused("y\n1\n", Some("when"), &["no column \"when\""]);
        refused("date,y\n2015-01-01,1\n2015-01-02,rain\n", None, &["line 3", "column \"y\"", "\"rain\""]);
        refused("date,y\r\n2015-01-01,1\r\n2015-01-02,\r\n", None, &["line 3", "column \"y\"", "empty"]);
        refused("date,y\nyesterday,1\n", None, &["line 2", "column \"date\"", "\"yesterday\""]);
        refused("date,y\n31/12/01,1\n", None, &["line 2", "\"31/12/01\"", "two digits"]);
        refused("date,y\n,1\n", None, &["line 2", "each row needs its date"]);
        refused("date,Date,y\n2015-01-02,2015-01-02,1\n", None, &["\"date\" and \"Date\"", "--date"]);
    }

    #[test]
    fn dates_that_do_not_grow_are_refused() {
        refused(
            &dated(&["2015-01-02", "2015-01-03", "2015-01-01"]),
            None,
            &["line 4", "2015-01-01 follows 2015-01-03", "must grow"],
        );
        refused(
            &dated(&["2015-01-02", "2015-01-03", "2015-01-03"]),
            None,
            &["line 4", "2015-01-03 stands here and in line 3"],
        );
        refused(&dated(&["2015-01-03", "2015-01-02", "2015-01-01"]), None, &["newest first"]);
        // Without a column called "date", too
        refused("y,day\n1,2015-01-03\n2,2015-01-02\n", None, &["newest first", "column \"day\""]);
        refused(
            "timestamp,y\n1700000002,1\n1700000001,2\n1700000000,3\n",
            None,
            &["newest first", "column \"timestamp\""],
        );
    }

    #[test]
    fn a_column_of_dates_is_found_by_its_cells() {
        let series = read("y,when,z\n1,2015-01-01,a\n2,2015-01-02,b\n", "y", None).unwrap();
        assert_eq!((series.name(2), series.notes.len()), ("2015-01-03".into(), 1));
        let series = read("y,born\n1,2015-01-03\n2,2014-01-02\n3,2015-01-02\n", "y", None).unwrap();
        assert_eq!(series.name(2), "row 3");
        assert!(series.notes[0].contains("\"born\" do not grow"), "{:?}", series.notes);
        let series = read("timestamp,y\n1700000000,1\n1700003600,2\n", "y", None).unwrap();
        assert!(
            series.notes[0].contains("\"timestamp\" is not read as dates") && series.notes[0].contains("since 1970")
        );
        assert!(read("a,y\n1,1\n2,2\n", "y", None).unwrap().notes.is_empty());
    }

    #[test]
    fn uneven_steps_are_refused_or_said() {
        let days: Vec<String> = (1..=31).filter(|&day| day != 17).map(|day| format!("2015-01-{day:02}")).collect();
        let text = dated(&days.iter().map(String::as_str).collect::<Vec<_>>());
        refused(
            &text,
            None,
            &["line 18", "1 of 29 steps is uneven", "2 days, from 2015-01-16 to 2015-01-18", "--gaps ignore"],
        );
        let series = read_gaps(&text, "y", None, Others::Named(&[]), Gaps::Ignore).unwrap();
        assert!(series.notes[0].contains("one day apart, but 1 of 29 steps is uneven"), "{:?}", series.notes);
        assert_eq!((series.name(30), series.days()), ("2015-02-01".into(), None));
        refused(
            &dated(&["2015-01-01", "2015-01-02", "2015-01-09", "2015-02-01"]),
            None,
            &["2 of 3 steps are uneven", "23 days"],
        );
    }

    #[test]
    fn numbers_keep_all_that_f64_holds() {
        let series = read("y\n1000000050103\n1000000058168\n", "y", None).unwrap();
        assert_eq!((series.values[1] - series.values[0], series.notes.len()), (8065.0, 0));
        let series = read("y\n1700000000000000001\n1700000000000000002\n", "y", None).unwrap();
        assert_eq!(series.notes, ["column \"y\": 2 different numbers are written, 1 are different in f64"]);
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
}
