//! Utterances of the Japanese vowels /ae/ by nine speakers; see `examples/data/README.md`.

use super::SPEAKERS;
use crate::npy::Archive;
use anyhow::{Context, Result, bail, ensure};
use ndarray::{Array1, Array2, Array3, s};
use std::path::Path;
use wgpu_lstm::data::Scaler;

/// Utterances, padded to a common length.
pub struct Utterances {
    /// [N, T, 12]; zeros past the end of each utterance.
    pub x: Array3<f32>,
    /// Steps of each, `[N]`.
    pub lengths: Vec<usize>,
    /// Speaker of each, 0 to 8, `[N]`.
    pub speakers: Array1<usize>,
}

/// The training and the test part, as they are published. Features are standardised by mean and deviation of the training
/// part's steps.
pub fn load(path: &Path) -> Result<[Utterances; 2]> {
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
    let place = |name: &str| format!("array \"{name}\" of \"{}\"", path.display());
    let scaler = Scaler::standard(train.0.view()).with_context(|| place("train"))?;
    let padded = |name: &str,
                  (steps, lengths, speakers): (Array2<f32>, Vec<usize>, Vec<usize>)|
     -> Result<Utterances> {
        let scaled = scaler.transform(steps.view()).with_context(|| place(name))?;
        let (y, place) = (place(&format!("{name}_y")), place(&format!("{name}_len")));
        let sum: usize = lengths.iter().sum();
        ensure!(!lengths.is_empty(), "{place}: there are no utterances");
        ensure!(sum == steps.nrows(), "{place}: lengths add up to {sum}, but \"{name}\" has {} steps", steps.nrows());
        ensure!(lengths.len() == speakers.len(), "{place}: {} lengths for {} speakers", lengths.len(), speakers.len());
        ensure!(lengths.iter().all(|&length| length > 0), "{place}: a length is 0");
        if let Some(other) = speakers.iter().find(|speaker| !(1..=SPEAKERS).contains(*speaker)) {
            bail!("{y}: {other} is no speaker; they are 1 to {SPEAKERS}");
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut x = Array3::zeros((lengths.len(), longest, steps.ncols()));
        let mut first = 0;
        for (n, &length) in lengths.iter().enumerate() {
            x.slice_mut(s![n, ..length, ..]).assign(&scaled.slice(s![first..first + length, ..]));
            first += length;
        }
        Ok(Utterances { x, lengths, speakers: speakers.into_iter().map(|speaker| speaker - 1).collect() })
    };
    Ok([padded("train", train)?, padded("test", test)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::NpzWriter;
    use std::fs::File;

    /// Two utterances of 3 and 2 steps to train on, and to test.
    struct Arrays {
        train: Array2<i16>,
        test: Array2<i16>,
        test_len: Array1<u8>,
        test_y: Array1<u8>,
    }

    impl Default for Arrays {
        fn default() -> Arrays {
            let steps = Array2::from_shape_fn((5, 12), |(t, f)| (t * 100 + f) as i16);
            Arrays {
                train: steps.clone(),
                test: steps,
                test_len: Array1::from(vec![3, 2]),
                test_y: Array1::from(vec![1, 9]),
            }
        }
    }

    fn read(file: &Arrays) -> Result<[Utterances; 2]> {
        let path = tempfile::NamedTempFile::new()?;
        let mut writer = NpzWriter::new(File::create(path.path())?);
        writer.add_array("train", &file.train)?;
        writer.add_array("test", &file.test)?;
        let bytes = |values: [u8; 2]| Array1::from(values.to_vec());
        let others = [
            ("train_len", &bytes([3, 2])),
            ("train_y", &bytes([1, 2])),
            ("test_len", &file.test_len),
            ("test_y", &file.test_y),
        ];
        for (name, array) in others {
            writer.add_array(name, array)?;
        }
        writer.finish()?;
        load(path.path())
    }

    #[test]
    fn other_arrays_are_refused_with_what_is_wrong() {
        let [train, test] = read(&Arrays::default()).unwrap();
        assert_eq!((train.x.dim(), test.lengths, test.speakers[1]), ((2, 3, 12), vec![3, 2], 8));
        let narrow = Arrays { test: Array2::zeros((5, 4)), ..Arrays::default() };
        let empty = Arrays { train: Array2::zeros((0, 12)), ..Arrays::default() };
        let no_features = Arrays { train: Array2::zeros((5, 0)), ..Arrays::default() };
        let short = Arrays { test: Array2::zeros((4, 12)), ..Arrays::default() };
        let one = Arrays { test_y: Array1::from(vec![1]), ..Arrays::default() };
        let unknown = Arrays { test_y: Array1::from(vec![1, 10]), ..Arrays::default() };
        let silent = Arrays { test_len: Array1::from(vec![5, 0]), ..Arrays::default() };
        for (file, part) in [
            (narrow, "the series has 4 features, the scaler 12"),
            (empty, "a scaler was given [time, features] = [0, 12]"),
            (no_features, "a scaler was given [time, features] = [5, 0]"),
            (short, "lengths add up to 5, but \"test\" has 4 steps"),
            (one, "2 lengths for 1 speakers"),
            (unknown, "10 is no speaker"),
            (silent, "a length is 0"),
        ] {
            let error = read(&file).err().map_or(String::new(), |error| format!("{error:#}"));
            assert!(error.contains(part), "\"{part}\" is missing in: {error}");
        }
        // A feature that never changes is no reason to refuse
        let [train, _] = read(&Arrays { train: Array2::ones((5, 12)), ..Arrays::default() }).unwrap();
        assert!(train.x.iter().all(|value| *value == 0.0));
    }
}
