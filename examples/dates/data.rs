//! Dates as people write them, and as ISO 8601 does: the task, made up from a seed.

use anyhow::{Result, ensure};
use chrono::{Datelike, Days, NaiveDate};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

/// Days from 1950-01-01 to 2049-12-31; a year of two digits from 50 on is in the twentieth century.
const DAYS: usize = 36_525;

/// Characters of written dates; the token of each is its place plus 1, and 0 stands for any other.
const CHARACTERS: &str = " ',-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Tokens of written dates.
pub const WRITTEN_TOKENS: usize = 1 + CHARACTERS.len();

/// Characters of ISO dates; the token of each is its place.
const ISO: &str = "0123456789-";

/// The token before the first character of an ISO date.
pub const START: usize = ISO.len();

/// The token after its last character.
pub const END: usize = START + 1;

/// Tokens of ISO dates.
pub const ISO_TOKENS: usize = END + 1;

/// Steps of an ISO date with its end: YYYY-MM-DD and [`END`].
pub const ISO_STEPS: usize = 11;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const NUMBERS: [&str; 20] = [
    "",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const ORDINALS: [&str; 21] = [
    "",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
];

/// A date in both forms.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub written: String,
    pub iso: String,
}

/// Pairs to train on and pairs that are held out; no day is in both.
pub struct Pairs {
    pub train: Vec<Pair>,
    pub held_out: Vec<Pair>,
}

impl Pairs {
    /// Draws them. Days to train on come again, written in other ways, where there are more pairs than days.
    pub fn new(train: usize, held_out: usize, seed: u64) -> Result<Pairs> {
        ensure!(
            (1..DAYS).contains(&held_out),
            "--held-out is {held_out}; it must be at least 1 and below {DAYS}, the days that there are"
        );
        let mut random = Pcg64::new(seed.into(), 0);
        let mut days: Vec<usize> = (0..DAYS).collect();
        days.shuffle(&mut random);
        let (tested, trained) = days.split_at(held_out);
        let mut pair = |day: usize| {
            let date = first_day() + Days::new(day as u64);
            Pair { written: write(date, &mut random), iso: date.format("%Y-%m-%d").to_string() }
        };
        let held_out = tested.iter().map(|&day| pair(day)).collect();
        Ok(Pairs { train: trained.iter().cycle().take(train).map(|&day| pair(day)).collect(), held_out })
    }
}

fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(1950, 1, 1).expect("it is a date")
}

/// A date as one of sixteen kinds of people write it, half of them with capitals.
fn write(date: NaiveDate, random: &mut Pcg64) -> String {
    let (year, month, day) = (date.year(), date.month(), date.day());
    let name = MONTHS[date.month0() as usize];
    let short = &name[..3];
    let weekday = WEEKDAYS[date.weekday().num_days_from_monday() as usize];
    let two = year % 100;
    let written = match random.random_range(0..16) {
        0 => format!("{day} {name} {year}"),
        1 => format!("the {} of {name} {year}", numeral(day)),
        2 => format!("{name} {day}, {year}"),
        3 => format!("{short} {day}, {two:02}"),
        4 => format!("{day} {short} '{two:02}"),
        5 => format!("{weekday} {day} {name} {year}"),
        6 => format!("{}, {day:02} {short} {year}", &weekday[..3]),
        7 => format!("{weekday}, {name} {}, {year}", numeral(day)),
        8 => format!("{year} {name} {day}"),
        9 => format!("the {} of {name} {year}", ordinal(day)),
        10 => format!("{name} {}, {}", ordinal(day), spoken(year as usize)),
        11 => format!("{day:02}-{short}-{year}"),
        // With slashes the month comes first, with dots the day
        12 => format!("{month:02}/{day:02}/{year}"),
        13 => format!("{day:02}.{month:02}.{year}"),
        14 => format!("{day}.{month}.{two:02}"),
        _ => format!("{year}/{month:02}/{day:02}"),
    };
    if random.random_range(0..2) == 0 { written } else { written.to_lowercase() }
}

/// 1st, 2nd, 3rd, 4th, ...
fn numeral(day: u32) -> String {
    let ending = match (day, day % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{day}{ending}")
}

/// First to thirty-first.
fn ordinal(day: u32) -> String {
    match day {
        0..=20 => ORDINALS[day as usize].into(),
        30 => "thirtieth".into(),
        _ => format!("{}-{}", TENS[day as usize / 10], ORDINALS[day as usize % 10]),
    }
}

/// A number from 1 to 99 in words.
fn number(n: usize) -> String {
    match (n, n % 10) {
        (0..20, _) => NUMBERS[n].into(),
        (_, 0) => TENS[n / 10].into(),
        (_, ones) => format!("{}-{}", TENS[n / 10], NUMBERS[ones]),
    }
}

/// A year as it is said: nineteen fifty, nineteen hundred, two thousand and one, twenty twenty-one.
fn spoken(year: usize) -> String {
    match (year, year % 100) {
        (2000, _) => "two thousand".into(),
        (2001..2010, ones) => format!("two thousand and {}", NUMBERS[ones]),
        (_, rest) => format!("{} {}", number(year / 100), number(rest)),
    }
}

/// The tokens of a written date.
pub fn written_tokens(written: &str) -> Vec<usize> {
    written.chars().map(|c| CHARACTERS.find(c).map_or(0, |place| place + 1)).collect()
}

/// The tokens of an ISO date and [`END`].
pub fn iso_tokens(iso: &str) -> Vec<usize> {
    iso.chars().filter_map(|c| ISO.find(c)).chain([END]).collect()
}

/// The text of tokens up to [`END`].
pub fn iso_text(tokens: &[usize]) -> String {
    tokens.iter().take_while(|&&token| token != END).map(|&token| ISO.chars().nth(token).unwrap_or('?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn days_are_written_as_people_do() {
        assert_eq!(
            (numeral(1), numeral(12), numeral(22), numeral(30)),
            ("1st".into(), "12th".into(), "22nd".into(), "30th".into())
        );
        let words = [3, 20, 21, 30, 31].map(ordinal);
        assert_eq!(words, ["third", "twentieth", "twenty-first", "thirtieth", "thirty-first"]);
        let years = [1950, 1984, 2000, 2009, 2010, 2049].map(spoken);
        let expected = [
            "nineteen fifty",
            "nineteen eighty-four",
            "two thousand",
            "two thousand and nine",
            "twenty ten",
            "twenty forty-nine",
        ];
        assert_eq!(years, expected);
    }

    #[test]
    fn no_day_is_in_both_parts() {
        let Pairs { train, held_out } = Pairs::new(40_000, 500, 3).unwrap();
        let days: HashSet<&String> = train.iter().map(|pair| &pair.iso).collect();
        assert_eq!((days.len(), train.len(), held_out.len()), (DAYS - 500, 40_000, 500));
        assert!(held_out.iter().all(|pair| !days.contains(&pair.iso)));
        assert!(days.contains(&"2000-02-29".to_string()) || held_out.iter().any(|pair| pair.iso == "2000-02-29"));
        assert!(Pairs::new(1, 0, 0).is_err() && Pairs::new(1, DAYS, 0).is_err());
    }

    #[test]
    fn the_seed_decides() {
        let [a, b, c] = [1, 1, 2].map(|seed| Pairs::new(20, 20, seed).unwrap());
        assert!(a.train == b.train && a.held_out == b.held_out && a.train != c.train);
    }

    #[test]
    fn every_character_has_a_token() {
        for Pair { written, iso } in Pairs::new(2000, 1, 1).unwrap().train {
            assert!(written_tokens(&written).iter().all(|&token| 0 < token && token < WRITTEN_TOKENS), "{written}");
            let tokens = iso_tokens(&iso);
            assert_eq!((tokens.len(), iso_text(&tokens)), (ISO_STEPS, iso));
        }
        assert_eq!(written_tokens("é3"), [0, 10]);
    }
}
