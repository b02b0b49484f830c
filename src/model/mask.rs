//! Lengths of sequences: given, or from the values that mark padding.

use super::{Sequential, check_lengths};
use crate::error::{Error, Result};
use crate::memory;
use ndarray::{ArrayView3, CowArray, Ix3, s};

impl Sequential {
    /// The value of all features of a padded step, if the model masks padding.
    pub(crate) fn mask(&self) -> Option<f32> {
        self.layers.first()?.operator().padding()
    }

    /// Lengths of the sequences of x [N, T, I]: from its padding, or given. If there are both, they must agree.
    pub(crate) fn lengths(
        &self,
        name: &str,
        x: &ArrayView3<f32>,
        given: Option<&[usize]>,
    ) -> Result<Option<Vec<usize>>> {
        let (count, steps, _) = x.dim();
        check_lengths(given, count, steps)?;
        let Some(value) = self.mask() else { return Ok(given.map(<[usize]>::to_vec)) };
        let length = |n: usize| {
            let masked = |t: usize| x.slice(s![n, t, ..]).iter().all(|&feature| feature == value);
            let length = (0..steps).find(|&t| masked(t)).unwrap_or(steps);
            if let Some(late) = (length..steps).find(|&t| !masked(t)) {
                return Err(Error::Config(format!(
                    "{name} is masked at [sequence, step] = [{n}, {length}] (all features are {value}), but not at step {late} \
                     after it; only the end of a sequence can be padded"
                )));
            }
            match given.map(|all| all[n]) {
                Some(given) if given != length => Err(Error::Config(format!(
                    "the length of sequence {n} is given as {given}, but {name} is masked from step {length} on (all features \
                     are {value}); give lengths that agree, or none"
                ))),
                _ => Ok(length),
            }
        };
        (0..count).map(length).collect::<Result<Vec<_>>>().map(Some)
    }

    /// x [B, T, I] for the layers above a masking layer: 0 in padded steps.
    pub(super) fn blanked<'a>(
        &self,
        x: ArrayView3<'a, f32>,
        lengths: Option<&[usize]>,
    ) -> Result<CowArray<'a, f32, Ix3>> {
        let Some(lengths) = lengths.filter(|_| self.mask().is_some_and(|value| value != 0.0)) else {
            return Ok(x.into());
        };
        let mut x = memory::array_of(x.dim(), x.iter().copied(), "a copy of x")?;
        for (n, &length) in lengths.iter().enumerate() {
            x.slice_mut(s![n, length.., ..]).fill(0.0);
        }
        Ok(x.into())
    }
}
