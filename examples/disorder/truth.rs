//! Scores that metapredict itself gave.

use super::fasta::Protein;
use anyhow::{Context, Result, ensure};
use ndarray::Array1;
use ndarray_npy::NpzReader;
use std::fs::File;
use std::path::Path;

/// The largest difference from an array of an npz file, which has all proteins one after another.
pub fn difference(path: &Path, array: &str, proteins: &[Protein], scores: &[Vec<f32>]) -> Result<f32> {
    let file = File::open(path).with_context(|| format!("cannot open \"{}\"", path.display()))?;
    let mut archive = NpzReader::new(file).with_context(|| format!("\"{}\" is no npz file", path.display()))?;
    let truth: Array1<f32> =
        archive.by_name(array).with_context(|| format!("array \"{array}\" of \"{}\"", path.display()))?;
    let residues: usize = proteins.iter().map(|protein| protein.residues.len()).sum();
    ensure!(truth.len() == residues, "array \"{array}\" has {} scores for {residues} residues", truth.len());
    let differences = scores.iter().flatten().zip(&truth).map(|(given, truth)| (given - truth).abs());
    // A NaN would be lost in a maximum.
    differences.into_iter().try_fold(0.0f32, |largest, difference| {
        ensure!(difference.is_finite(), "a score is not a number");
        Ok(largest.max(difference))
    })
}
