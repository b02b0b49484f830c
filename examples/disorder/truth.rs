//! Scores that metapredict itself gave.

use super::fasta::Protein;
use crate::npy::Archive;
use anyhow::{Result, ensure};
use ndarray::Array1;
use std::path::Path;

/// The largest difference from an array of an npz file, which has all proteins one after another.
pub fn difference(path: &Path, array: &str, proteins: &[Protein], scores: &[Vec<f32>]) -> Result<f32> {
    let truth: Array1<f32> = Archive::open(path)?.array(array)?;
    let residues: usize = proteins.iter().map(|protein| protein.residues.len()).sum();
    ensure!(truth.len() == residues, "array \"{array}\" has {} scores for {residues} residues", truth.len());
    let differences = scores.iter().flatten().zip(&truth).map(|(given, truth)| (given - truth).abs());
    // A NaN would be lost in a maximum.
    differences.into_iter().try_fold(0.0f32, |largest, difference| {
        ensure!(difference.is_finite(), "a score is not a number");
        Ok(largest.max(difference))
    })
}
