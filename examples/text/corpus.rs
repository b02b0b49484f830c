//! A text as numbers: which characters there are, which part is held out.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Reads a text; says where it is no UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read \"{name}\""))?;
    ensure!(!bytes.is_empty(), "\"{name}\" is empty");
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n")),
        Err(error) => {
            bail!("\"{name}\" is not UTF-8: byte {} is no part of a character", error.utf8_error().valid_up_to())
        }
    }
}

/// The characters that a model tells apart: number 0 is any other, the rest are in the order of this string.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alphabet(String);

impl Alphabet {
    /// The most frequent characters of a text, at most `most`; where some are left out, the others are one fewer.
    pub fn new(text: &[char], most: usize) -> Alphabet {
        let mut counts: HashMap<char, usize> = HashMap::new();
        text.iter().for_each(|&c| *counts.entry(c).or_default() += 1);
        let mut all: Vec<(usize, char)> = counts.into_iter().map(|(c, count)| (count, c)).collect();
        all.sort_by_key(|&(count, c)| (std::cmp::Reverse(count), c));
        all.truncate(most - 1);
        let mut kept: Vec<char> = all.into_iter().map(|(_, c)| c).collect();
        kept.sort_unstable();
        Alphabet(kept.into_iter().collect())
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        1 + self.0.chars().count()
    }

    /// A text as numbers.
    pub fn encode(&self, text: &[char]) -> Vec<usize> {
        let numbers: HashMap<char, usize> = self.0.chars().zip(1..).collect();
        text.iter().map(|c| numbers.get(c).copied().unwrap_or(0)).collect()
    }

    /// The character of each number; a replacement character for 0.
    pub fn characters(&self) -> Vec<char> {
        std::iter::once(char::REPLACEMENT_CHARACTER).chain(self.0.chars()).collect()
    }

    /// Refuses a text with characters that are not told apart.
    pub fn check(&self, what: &str, text: &str) -> Result<()> {
        match text.chars().find(|&c| !self.0.contains(c)) {
            None => Ok(()),
            Some(c) => bail!("{what} has the character {c:?}, which the model does not know"),
        }
    }
}
