//! Dates and times of a CSV file: reading and writing them.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use std::ops::RangeInclusive;

/// Years that are read. Earlier ones are two-digit years or other mistakes; pandas, too, has dates from 1678 to 2261.
const YEARS: RangeInclusive<i32> = 1678..=2261;

/// Reads 2015-12-31 or 2015/12/31, alone or with a time: 18:00, 18:00:00, 18:00:00.125.
///
/// # Errors
/// The fault of anything else, and how to write it.
pub fn parse(cell: &str) -> Result<NaiveDateTime, String> {
    if !cell.starts_with(|c: char| c.is_ascii_digit()) || leading_digits(cell) != 4 || cell.len() < 6 {
        return Err(cause(cell));
    }
    let plain = cell.replace('/', "-").replacen('T', " ", 1);
    let with_time = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let date = || NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let time = with_time.iter().find_map(|format| NaiveDateTime::parse_from_str(&plain, format).ok()).or_else(date);
    match time {
        Some(time) if YEARS.contains(&time.year()) => Ok(time),
        Some(_) => Err(format!("its year is not from {} to {}", YEARS.start(), YEARS.end())),
        None => Err(cause(cell)),
    }
}

fn leading_digits(cell: &str) -> usize {
    cell.bytes().take_while(u8::is_ascii_digit).count()
}

/// Why a cell is no date that is read, for the common ways of writing one.
fn cause(cell: &str) -> String {
    let upper = cell.to_ascii_uppercase();
    let digits = leading_digits(cell);
    if digits == cell.len() && digits > 0 {
        return match digits {
            8 => format!("write the date as {}-{}-{}", &cell[..4], &cell[4..6], &cell[6..]),
            9.. => {
                "it is a count of seconds, or of parts of them, since 1970; write it as a date like 2015-12-31 18:00:00"
                    .into()
            }
            6 => format!("if it is a month, write its first day, {}-{}-01", &cell[..4], &cell[4..]),
            4 => format!("if it is a year, write its first day, {cell}-01-01"),
            _ => "write dates like 2015-12-31".into(),
        };
    }
    let date = cell.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<usize> = date
        .split(['-', '/', '.'])
        .map(|part| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.len(),
            false => 0,
        })
        .collect();
    match parts[..] {
        [1..=2, 1..=2, 1..=2] => {
            return "its year has two digits; write the year first, with four digits, as in 2015-12-31".into();
        }
        [1..=2, 1..=2, 4] => {
            return "day or month come first, which is ambiguous; write the year first, as in 2015-12-31".into();
        }
        [4, 1..=2] => return format!("it has no day; if it is a month, write its first day, {date}-01"),
        [4, 1..=2, 1..=2] if date.contains('.') => return format!("write the date as {}", date.replace('.', "-")),
        [4, 1..=2, 1..=2] => {}
        _ => return "dates are read like 2015-12-31, 2015/12/31 or 2015-12-31 18:00:00".into(),
    }
    let time = &cell[date.len()..];
    if upper.ends_with("AM") || upper.ends_with("PM") {
        "write hours from 0 to 23, without AM and PM".into()
    } else if upper.ends_with('Z') || upper.ends_with("UTC") || time.contains(['+', '-']) {
        "it has a time zone; write all times in one zone, without it".into()
    } else if time.contains(',') {
        "write fractions of a second with a point".into()
    } else {
        "there is no such day or time; dates are read like 2015-12-31, 2015/12/31 or 2015-12-31 18:00:00".into()
    }
}

/// A date in full: without its time at midnight, else with as many digits as it has.
pub fn show(time: NaiveDateTime) -> String {
    Precision::of([time].iter()).show(time)
}

/// The finest part of a date that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    Day,
    Minute,
    Second,
    /// This many digits of a second's fraction, 1 to 9.
    Fraction(usize),
}

impl Precision {
    /// The coarsest that tells all of these in full.
    pub fn of<'a>(times: impl Iterator<Item = &'a NaiveDateTime>) -> Precision {
        let needed = |time: &NaiveDateTime| {
            // A leap second has a fraction above 1, and chrono writes it as second 60.
            match (time.nanosecond() % 1_000_000_000, time.second(), time.time() == NaiveTime::MIN) {
                (_, _, true) => Precision::Day,
                (0, 0, _) => Precision::Minute,
                (0, ..) => Precision::Second,
                (nanoseconds, ..) => {
                    let zeros = format!("{nanoseconds:09}").bytes().rev().take_while(|&digit| digit == b'0').count();
                    Precision::Fraction(9 - zeros)
                }
            }
        };
        times.map(needed).max().unwrap_or(Precision::Day)
    }

    pub fn show(self, time: NaiveDateTime) -> String {
        match self {
            Precision::Day => time.format("%Y-%m-%d").to_string(),
            Precision::Minute => time.format("%Y-%m-%d %H:%M").to_string(),
            Precision::Second => time.format("%Y-%m-%d %H:%M:%S").to_string(),
            Precision::Fraction(digits) => {
                let nanoseconds = format!("{:09}", time.nanosecond() % 1_000_000_000);
                format!("{}.{}", time.format("%Y-%m-%d %H:%M:%S"), &nanoseconds[..digits])
            }
        }
    }
}

/// A time between two rows in the largest unit that it is a whole number of: "one day", "90 minutes".
pub fn apart(step: TimeDelta) -> String {
    const SECOND: i128 = 1_000_000_000;
    let units = [
        ("day", 86_400 * SECOND),
        ("hour", 3600 * SECOND),
        ("minute", 60 * SECOND),
        ("second", SECOND),
        ("millisecond", SECOND / 1000),
        ("microsecond", SECOND / 1_000_000),
        ("nanosecond", 1),
    ];
    let nanoseconds = i128::from(step.num_seconds()) * SECOND + i128::from(step.subsec_nanos());
    // The last unit divides everything.
    let &(name, unit) = units.iter().find(|(_, unit)| nanoseconds % unit == 0).unwrap_or(&units[6]);
    count((nanoseconds / unit) as usize, name)
}

/// "one day", "3 days".
pub fn count(number: usize, unit: &str) -> String {
    if number == 1 { format!("one {unit}") } else { format!("{number} {unit}s") }
}

/// The same day of the year before; 28 February for 29 February.
pub fn a_year_before(day: NaiveDate) -> Option<NaiveDate> {
    day.with_year(day.year() - 1).or_else(|| day.pred_opt()?.with_year(day.year() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_their_times() {
        for (cell, expected) in [
            ("2015-12-31", "2015-12-31"),
            ("2015/1/2", "2015-01-02"),
            ("2015-12-31 18:00", "2015-12-31 18:00"),
            ("2015-12-31T18:00:07", "2015-12-31 18:00:07"),
            ("2015-12-31 00:00:01.500", "2015-12-31 00:00:01.5"),
            ("2015-12-31 00:00:00.000000001", "2015-12-31 00:00:00.000000001"),
            ("1678-01-01", "1678-01-01"),
            ("2261-12-31", "2261-12-31"),
        ] {
            assert_eq!(show(parse(cell).unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_date_is_refused_with_its_cause() {
        for (cell, part) in [
            ("31/12/01", "two digits"),
            ("22-01-01", "two digits"),
            ("1/2/03 10:00", "two digits"),
            ("01/02/2022", "the year first"),
            ("26.10.2022", "the year first"),
            ("2022.10.26", "2022-10-26"),
            ("20221026", "2022-10-26"),
            ("1998-01", "1998-01-01"),
            ("199801", "1998-01-01"),
            ("1700", "1700-01-01"),
            ("1700000000", "since 1970"),
            ("1700000000000", "since 1970"),
            ("2024-03-25 01:00:00 AM", "0 to 23"),
            ("2024-03-25T00:00:00Z", "time zone"),
            ("2024-03-25 00:00:00+01:00", "time zone"),
            ("2024-03-25 00:00:00,000", "with a point"),
            ("0022-01-01", "1678"),
            ("1677-12-31", "1678"),
            ("2262-01-01", "2261"),
            ("+262142-12-31", "2015-12-31"),
            ("-2015-12-31", "2015-12-31"),
            ("12015-12-31", "2015-12-31"),
            ("2015-02-29", "no such day"),
            ("2015-13-01", "no such day"),
            ("yesterday", "2015-12-31"),
            ("５-1-1", "2015-12-31"),
            ("é", "2015-12-31"),
        ] {
            let error = parse(cell).expect_err(cell);
            assert!(error.contains(part), "{cell}: \"{part}\" is missing in: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_date_or_refused(cell in "[0-9]{0,5}[-/. :TZ,+]{0,2}\\PC{0,12}") {
            if let Ok(time) = parse(&cell) {
                proptest::prop_assert_eq!(parse(&show(time)).unwrap(), time);
            }
        }
    }

    #[test]
    fn times_are_written_as_finely_as_they_differ() {
        let times: Vec<_> =
            ["2024-01-01 00:00", "2024-01-01 00:00:01.505", "2024-01-01 00:00:02.5"].map(|t| parse(t).unwrap()).into();
        let precision = Precision::of(times.iter());
        assert_eq!(precision, Precision::Fraction(3));
        assert_eq!(precision.show(times[2]), "2024-01-01 00:00:02.500");
        assert_eq!(Precision::of(times[..1].iter()), Precision::Day);
    }

    #[test]
    fn steps_are_said_in_their_largest_whole_unit() {
        for (step, expected) in [
            (TimeDelta::days(1), "one day"),
            (TimeDelta::hours(25), "25 hours"),
            (TimeDelta::minutes(90), "90 minutes"),
            (TimeDelta::seconds(1), "one second"),
            (TimeDelta::milliseconds(5), "5 milliseconds"),
            (TimeDelta::nanoseconds(7), "7 nanoseconds"),
        ] {
            assert_eq!(apart(step), expected);
        }
    }

    #[test]
    fn a_leap_day_looks_back_to_the_day_before() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        assert_eq!(a_year_before(day("2016-02-29")), Some(day("2015-02-28")));
        assert_eq!(a_year_before(day("2016-03-01")), Some(day("2015-03-01")));
    }
}
