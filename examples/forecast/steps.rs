//! The time between rows: what it is, and where rows are missing.

use super::dates::{apart, count, show};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The step from one row to the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A length of time.
    Every(TimeDelta),
    /// Calendar months; on this day of the month, or its last where it is shorter. Without a day, rows are on differing days.
    Months { months: i32, day: Option<u32> },
    /// The same times in each week, Monday first.
    Week([Vec<NaiveTime>; 7]),
}

/// The steps of a series.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The step of most rows.
    pub step: Step,
    /// The rows that do not follow by it.
    pub uneven: Option<Uneven>,
}

/// Steps that are longer or shorter than the others.
#[derive(Clone, Debug, Serialize)]
pub struct Uneven {
    /// Number of such steps.
    pub count: usize,
    /// Of so many steps.
    pub of: usize,
    /// The longest of them.
    pub longest: String,
    /// The rows that it lies between.
    pub from: String,
    pub to: String,
    /// The later row.
    #[serde(skip)]
    pub row: usize,
}

impl Steps {
    /// The step that fits most of these times, which grow; `None` for a single one.
    ///
    /// A step of fixed length, the most frequent one, is compared with calendar months, with the times of a day on the
    /// weekdays of the series, and with the times of a week. The calendar is taken where it leaves at most half as many steps
    /// uneven.
    pub fn new(times: &[NaiveDateTime]) -> Option<Steps> {
        let usual = most_frequent(times.windows(2).map(|pair| pair[1] - pair[0]))?;
        let candidates = [months(times), days(times), weeks(times)];
        let (mut step, mut uneven) = (Step::Every(usual), Vec::new());
        step.uneven(times, &mut uneven);
        // Months of 31 days and years of 365 can look even.
        let coarse = usual >= TimeDelta::days(28);
        for candidate in candidates.into_iter().flatten() {
            let mut others = Vec::new();
            candidate.uneven(times, &mut others);
            let better = others.len() * 2 <= uneven.len() && !uneven.is_empty();
            if better || (coarse && others.is_empty() && matches!(candidate, Step::Months { day: Some(_), .. })) {
                (step, uneven) = (candidate, others);
            }
        }
        let longest = uneven.iter().copied().max_by_key(|&row| (times[row] - times[row - 1], std::cmp::Reverse(row)));
        let uneven = longest.map(|row| Uneven {
            count: uneven.len(),
            of: times.len() - 1,
            longest: apart(times[row] - times[row - 1]),
            from: show(times[row - 1]),
            to: show(times[row]),
            row,
        });
        Some(Steps { step, uneven })
    }

    /// The step, where all rows have it.
    pub fn even(&self) -> Option<&Step> {
        self.uneven.is_none().then_some(&self.step)
    }

    /// The step, where at least half of the rows have it.
    pub fn known(&self) -> Option<&Step> {
        self.uneven.as_ref().is_none_or(|uneven| uneven.count * 2 <= uneven.of).then_some(&self.step)
    }

    /// Time of the row `ahead` rows after `last`; `None` where the step is not known, or beyond the calendar.
    pub fn due(&self, last: NaiveDateTime, ahead: usize) -> Option<NaiveDateTime> {
        match self.known()? {
            Step::Every(step) => last.checked_add_signed(step.checked_mul(i32::try_from(ahead).ok()?)?),
            step => (0..ahead).try_fold(last, |time, _| step.next(time)),
        }
    }
}

impl std::fmt::Display for Uneven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Uneven { count, of, longest, from, to, .. } = self;
        let are = if *count == 1 { "is" } else { "are" };
        let which = if *count == 1 { "it is" } else { "the longest of them is" };
        write!(f, "{count} of {of} steps {are} uneven; {which} {longest}, from {from} to {to}")
    }
}

impl std::fmt::Display for Step {
    /// Distance of rows: "one day apart".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Every(step) => write!(f, "{} apart", apart(*step)),
            Step::Months { months, day } => {
                let months = match months {
                    months if months % 12 == 0 => count(*months as usize / 12, "year"),
                    months => count(*months as usize, "month"),
                };
                write!(f, "{months} apart")?;
                if day.is_none() { write!(f, ", on differing days") } else { Ok(()) }
            }
            Step::Week(slots) => {
                let days = (0..7).filter(|&day| !slots[day].is_empty()).collect::<Vec<usize>>();
                // A working day from the one before is one day.
                let steps = days.iter().flat_map(|&day| slots[day].windows(2).map(|pair| pair[1] - pair[0]));
                let step = most_frequent(steps).unwrap_or(TimeDelta::days(1));
                let times: BTreeSet<_> = slots.iter().flatten().collect();
                write!(f, "{} apart, {}", apart(step), weekdays(&days))?;
                let format = if times.iter().all(|time| time.second() == 0) { "%H:%M" } else { "%H:%M:%S" };
                match (times.first(), times.last()) {
                    (Some(first), Some(last)) if first < last => {
                        write!(f, ", {} to {}", first.format(format), last.format(format))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// "Monday to Friday", "Monday, Thursday", "every day".
fn weekdays(days: &[usize]) -> String {
    const NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    match days {
        [_, _, _, _, _, _, _] => "every day".into(),
        [first, .., last] if last - first + 1 == days.len() && days.len() > 2 => {
            format!("{} to {}", NAMES[*first], NAMES[*last])
        }
        _ => days.iter().map(|&day| NAMES[day]).collect::<Vec<_>>().join(", "),
    }
}

impl Step {
    /// The rows that do not follow the one before by this step.
    fn uneven(&self, times: &[NaiveDateTime], rows: &mut Vec<usize>) {
        let follows = |pair: &[NaiveDateTime]| match *self {
            Step::Every(step) => pair[1] - pair[0] == step,
            Step::Months { months, day: None } => month(pair[1]) - month(pair[0]) == months,
            _ => self.next(pair[0]) == Some(pair[1]),
        };
        rows.extend(times.windows(2).zip(1..).filter(|(pair, _)| !follows(pair)).map(|(_, row)| row));
    }

    /// Time of the next row; of months without a day, their first.
    fn next(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Step::Every(step) => time.checked_add_signed(*step),
            Step::Months { months, day } => {
                let index = month(time) + months;
                let (year, month) = (index.div_euclid(12), index.rem_euclid(12) as u32 + 1);
                let last = last_day(NaiveDate::from_ymd_opt(year, month, 1)?)?;
                Some(last.with_day(day.unwrap_or(1).min(last.day()))?.and_time(time.time()))
            }
            Step::Week(slots) => (0..8).find_map(|days| {
                let date = time.date().checked_add_days(chrono::Days::new(days))?;
                let slots = &slots[date.weekday().num_days_from_monday() as usize];
                slots.iter().map(|&slot| date.and_time(slot)).find(|&due| due > time)
            }),
        }
    }
}

/// Months since year 0.
fn month(time: NaiveDateTime) -> i32 {
    time.year() * 12 + time.month0() as i32
}

fn last_day(day: NaiveDate) -> Option<NaiveDate> {
    let (year, month) = if day.month() == 12 { (day.year() + 1, 1) } else { (day.year(), day.month() + 1) };
    NaiveDate::from_ymd_opt(year, month, 1)?.pred_opt()
}

/// The smallest of the most frequent.
fn most_frequent<T: Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_insert(0) += 1);
    counts.into_iter().rev().max_by_key(|&(_, count)| count).map(|(one, _)| one)
}

/// Rows on one day of the month; or one row in each so many months, all of them.
fn months(times: &[NaiveDateTime]) -> Option<Step> {
    let months =
        most_frequent(times.windows(2).map(|pair| month(pair[1]) - month(pair[0]))).filter(|&months| months > 0)?;
    let same_time = times.iter().all(|time| time.time() == times[0].time());
    let mut days = times.iter().map(|time| time.day());
    let ends = times.iter().all(|time| last_day(time.date()) == Some(time.date()));
    let day = if ends { 31 } else { days.clone().max()? };
    if same_time && times.iter().all(|time| last_day(time.date()).is_some_and(|last| time.day() == day.min(last.day())))
    {
        return Some(Step::Months { months, day: Some(day) });
    }
    let each = times.windows(2).all(|pair| month(pair[1]) - month(pair[0]) == months);
    (each && times.len() >= 12 && same_time && days.any(|other| other != day))
        .then_some(Step::Months { months, day: None })
}

/// Days that a pattern of weekdays must last to be one: each weekday comes twice.
const TWO_WEEKS: i64 = 14;

fn span(times: &[NaiveDateTime]) -> i64 {
    times.first().zip(times.last()).map_or(0, |(first, last)| (last.date() - first.date()).num_days() + 1)
}

/// Those that come at least half as often as the most frequent one.
fn regular<T: Ord>(all: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut counts = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_insert(0usize) += 1);
    let most = counts.values().copied().max().unwrap_or(0);
    counts.into_iter().filter(|(_, count)| count * 2 >= most).map(|(one, _)| one).collect()
}

/// The same times of the day on the same weekdays: working days, the hours of a market.
fn days(times: &[NaiveDateTime]) -> Option<Step> {
    let slots = regular(times.iter().map(|time| time.time()));
    let days: BTreeSet<NaiveDate> = times.iter().map(|time| time.date()).collect();
    let weekdays = regular(days.iter().map(|day| day.weekday().num_days_from_monday()));
    // Each time must have come on three days at least, or two would already be a pattern.
    if days.len() < 3 || slots.len() * days.len() > times.len() * 2 {
        return None;
    }
    // Weekdays that the series is too short to miss are not missing.
    let each = days.len() as i64 == span(times);
    let weekdays = if each { (0..7).collect() } else { weekdays };
    if weekdays.len() < 7 && span(times) < TWO_WEEKS {
        return None;
    }
    let slots: Vec<NaiveTime> = slots.into_iter().collect();
    Some(Step::Week(std::array::from_fn(
        |day| if weekdays.contains(&(day as u32)) { slots.clone() } else { Vec::new() },
    )))
}

/// The same times in each week.
fn weeks(times: &[NaiveDateTime]) -> Option<Step> {
    if span(times) < TWO_WEEKS {
        return None;
    }
    let slots = regular(times.iter().map(|time| (time.weekday().num_days_from_monday(), time.time())));
    let weeks = (span(times) as usize).div_ceil(7);
    if slots.len() * weeks > times.len() * 2 {
        return None;
    }
    Some(Step::Week(std::array::from_fn(|day| {
        slots.iter().filter(|(weekday, _)| *weekday == day as u32).map(|(_, slot)| *slot).collect()
    })))
}

#[cfg(test)]
mod tests {
    use super::super::dates::parse;
    use super::*;

    fn times(texts: &[&str]) -> Vec<NaiveDateTime> {
        texts.iter().map(|text| parse(text).unwrap()).collect()
    }

    /// `count` rows from `start`, so many minutes apart.
    fn minutes(start: &str, step: i64, count: i64) -> Vec<NaiveDateTime> {
        let start = parse(start).unwrap();
        (0..count).map(|row| start + TimeDelta::minutes(step * row)).collect()
    }

    const DAY: i64 = 24 * 60;

    /// Text of the step, of the uneven ones, and the next three rows.
    fn found(times: &[NaiveDateTime]) -> (String, String, Vec<String>) {
        let steps = Steps::new(times).unwrap();
        let last = times[times.len() - 1];
        let next = (1..4).map(|ahead| steps.due(last, ahead).map_or("unknown".into(), show)).collect();
        (steps.step.to_string(), steps.uneven.map_or(String::new(), |uneven| uneven.to_string()), next)
    }

    #[track_caller]
    fn even(times: &[NaiveDateTime], step: &str, next: [&str; 3]) {
        assert_eq!(found(times), (step.into(), String::new(), next.map(String::from).to_vec()));
    }

    #[test]
    fn even_steps_are_known_by_the_calendar() {
        even(
            &minutes("2024-01-01", 1, 300),
            "one minute apart",
            ["2024-01-01 05:00", "2024-01-01 05:01", "2024-01-01 05:02"],
        );
        even(&minutes("2024-01-01", 2 * DAY, 9), "2 days apart", ["2024-01-19", "2024-01-21", "2024-01-23"]);
        even(&times(&["2022-11-01", "2022-12-01"]), "one month apart", ["2023-01-01", "2023-02-01", "2023-03-01"]);
        even(
            &times(&["2023-07-31", "2023-08-31", "2023-09-30"]),
            "one month apart",
            ["2023-10-31", "2023-11-30", "2023-12-31"],
        );
        even(
            &times(&["2023-12-30", "2024-01-30", "2024-02-29"]),
            "one month apart",
            ["2024-03-30", "2024-04-30", "2024-05-30"],
        );
        even(
            &times(&["2019-04-01", "2019-07-01", "2019-10-01"]),
            "3 months apart",
            ["2020-01-01", "2020-04-01", "2020-07-01"],
        );
        even(
            &times(&["2021-01-01", "2022-01-01", "2023-01-01"]),
            "one year apart",
            ["2024-01-01", "2025-01-01", "2026-01-01"],
        );
        let weekdays: Vec<_> = minutes("2022-01-03", DAY, 60)
            .into_iter()
            .filter(|time| time.weekday().num_days_from_monday() < 5)
            .collect();
        even(&weekdays, "one day apart, Monday to Friday", ["2022-03-04", "2022-03-07", "2022-03-08"]);
    }

    #[test]
    fn hours_of_working_days_are_whole() {
        let hours = |from: u32, to: u32, days: u32| -> Vec<NaiveDateTime> {
            let within = |time: &NaiveDateTime| {
                (from..=to).contains(&time.hour()) && time.weekday().num_days_from_monday() < days
            };
            minutes("2024-01-01", 60, 24 * 30).into_iter().filter(within).collect()
        };
        even(
            &hours(0, 23, 5),
            "one hour apart, Monday to Friday, 00:00 to 23:00",
            ["2024-01-31", "2024-01-31 01:00", "2024-01-31 02:00"],
        );
        let three = hours(9, 16, 7)[..24].to_vec();
        even(
            &three,
            "one hour apart, every day, 09:00 to 16:00",
            ["2024-01-04 09:00", "2024-01-04 10:00", "2024-01-04 11:00"],
        );
        even(
            &hours(9, 16, 7),
            "one hour apart, every day, 09:00 to 16:00",
            ["2024-01-31 09:00", "2024-01-31 10:00", "2024-01-31 11:00"],
        );
    }

    #[test]
    fn what_is_missing_is_counted() {
        let mut days = minutes("2022-01-01", DAY, 300);
        days.remove(100);
        let (step, uneven, next) = found(&days);
        assert_eq!((step.as_str(), next[0].as_str()), ("one day apart", "2022-10-28"));
        assert_eq!(uneven, "1 of 298 steps is uneven; it is 2 days, from 2022-04-10 to 2022-04-12");
        let many: Vec<_> = minutes("2022-01-01", DAY, 300)
            .into_iter()
            .enumerate()
            .filter(|(row, _)| row % 7 != 3 && row % 31 != 5)
            .map(|(_, time)| time)
            .collect();
        assert!(found(&many).1.contains("the longest of them is 3 days"), "{:?}", found(&many));
    }

    #[test]
    fn rows_of_any_times_have_no_step() {
        let scattered: Vec<_> =
            (0..50).map(|row: i64| parse("2022-01-01").unwrap() + TimeDelta::seconds(row * row * 977)).collect();
        let (_, uneven, next) = found(&scattered);
        assert!(uneven.starts_with("48 of 49"), "{uneven}");
        assert_eq!(next[0], "unknown");
        assert!(Steps::new(&scattered[..1]).is_none());
    }

    #[test]
    fn the_calendar_has_an_end() {
        let steps = Steps { step: Step::Every(TimeDelta::days(90_000)), uneven: None };
        assert_eq!(steps.due(parse("2022-01-01").unwrap(), usize::MAX), None);
        assert_eq!(steps.due(parse("2022-01-01").unwrap(), 1_000_000), None);
        let steps = Steps { step: Step::Months { months: 1_000_000, day: Some(1) }, uneven: None };
        assert_eq!(steps.due(parse("2022-01-01").unwrap(), 4), None);
    }
}
