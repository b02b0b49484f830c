//! Proteins of a FASTA file.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// The amino acids, in the order of the networks' features.
pub const AMINO_ACIDS: &str = "ACDEFGHIKLMNPQRSTVWY";

/// A protein.
pub struct Protein {
    /// The identifier: the header up to its first space, without ">".
    pub name: String,
    /// Its residues, each a place in [`AMINO_ACIDS`].
    pub residues: Vec<usize>,
}

/// Reads a FASTA file. What is no amino acid is replaced as metapredict does: B, U, X and Z by N, C, G and Q; * and - by nothing.
pub fn read(path: &Path) -> Result<Vec<Protein>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read \"{}\"", path.display()))?;
    let mut proteins: Vec<Protein> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("\"{}\", line {}", path.display(), number + 1);
        if let Some(title) = line.strip_prefix('>') {
            let name = title.split_whitespace().next().unwrap_or_default().to_string();
            proteins.push(Protein { name, residues: Vec::new() });
            continue;
        }
        for letter in line.trim().chars() {
            let Some(protein) = proteins.last_mut() else { bail!("{} is no FASTA: it has no title line", place()) };
            let letter = match letter.to_ascii_uppercase() {
                'B' => 'N',
                'U' => 'C',
                'X' => 'G',
                'Z' => 'Q',
                '*' | '-' => continue,
                other => other,
            };
            let index = AMINO_ACIDS.find(letter);
            protein.residues.push(index.with_context(|| format!("{}: '{letter}' is no amino acid", place()))?);
        }
    }
    ensure!(!proteins.is_empty(), "\"{}\" holds no proteins", path.display());
    if let Some(empty) = proteins.iter().find(|protein| protein.residues.is_empty()) {
        bail!("protein {} of \"{}\" has no residues", empty.name, path.display());
    }
    Ok(proteins)
}
