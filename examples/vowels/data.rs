//! Utterances of the Japanese vowels /ae/ by nine speakers; see `examples/data/README.md`.

use crate::npy::Archive;
use anyhow::{Result, ensure};
use ndarray::{Array1, Array2, Array3, s};
use std::path::Path;

/// Utterances, padded to a common length.
pub struct Part {
    /// [N, T, 12]; zeros past the end of each utterance.
    pub x: Array3<f32>,
    /// Steps of each, `[N]`.
    pub lengths: Vec<usize>,
    /// Speaker of each, 0 to 8, `[N]`.
    pub speakers: Array1<usize>,
}

/// The training and the test part, as they are published. Features are standardised by mean and deviation of the training
/// part's steps.
pub fn load(path: &Path) -> Result<[Part; 2]> {
    let mut archive = Archive::open(path)?;
    let mut part = |name: &str| -> Result<(Array2<f32>, Vec<usize>, Vec<usize>)> {
        let steps: Array2<i16> = archive.array(name)?;
        let mut bytes = |kind: &str| -> Result<Vec<usize>> {
            let values: Array1<u8> = archive.array(&format!("{name}_{kind}"))?;
            Ok(values.iter().map(|&value| value.into()).collect())
        };
        Ok((steps.mapv(|value| f32::from(value) * 1e-4), bytes("len")?, bytes("y")?))
    };
    let (train, test) = (part("train")?, part("test")?);
    let count = train.0.nrows() as f32;
    let mean = train.0.sum_axis(ndarray::Axis(0)) / count;
    let deviation = ((&train.0 - &mean).mapv(|d| d * d).sum_axis(ndarray::Axis(0)) / count).mapv(f32::sqrt);
    let padded = |(steps, lengths, speakers): (Array2<f32>, Vec<usize>, Vec<usize>)| {
        ensure!(lengths.iter().sum::<usize>() == steps.nrows(), "lengths do not add up to {} steps", steps.nrows());
        ensure!(lengths.len() == speakers.len(), "{} lengths, {} speakers", lengths.len(), speakers.len());
        ensure!(speakers.iter().all(|speaker| (1..=9).contains(speaker)), "a speaker is not from 1 to 9");
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut x = Array3::zeros((lengths.len(), longest, steps.ncols()));
        let mut first = 0;
        for (n, &length) in lengths.iter().enumerate() {
            let own = (&steps.slice(s![first..first + length, ..]) - &mean) / &deviation;
            x.slice_mut(s![n, ..length, ..]).assign(&own);
            first += length;
        }
        Ok(Part { x, lengths, speakers: speakers.into_iter().map(|speaker| speaker - 1).collect() })
    };
    Ok([padded(train)?, padded(test)?])
}
