//! Lengths of sequences: given, or from the values that mark padding; inputs that are indices.

use super::data::{Data, InputData};
use super::{Model, check_lengths};
use crate::error::{Error, Result};
use crate::memory;
use crate::network::{Graph, Source};
use ndarray::{Array3, ArrayView3, Axis, s};
use std::fmt;

impl Graph {
    /// The value of all features of a padded step of input `k`, if a layer masks it.
    pub(crate) fn mask(&self, k: usize) -> Option<f32> {
        self.readers(k).find_map(|layer| layer.operator().padding())
    }

    /// True if a layer masks padding.
    pub(crate) fn masks(&self) -> bool {
        (0..self.inputs.len()).any(|k| self.mask(k).is_some())
    }

    /// Refuses inputs that are no index into a table, if a layer takes input `k` as one.
    pub(crate) fn check_indices(&self, k: usize, name: impl fmt::Display, x: &ArrayView3<f32>) -> Result<()> {
        let limits = self.readers(k).filter_map(|layer| layer.operator().index_limit());
        let Some(entries) = limits.min() else { return Ok(()) };
        let good = |x: f32| x >= 0.0 && x < entries as f32 && x.fract() == 0.0;
        match x.indexed_iter().find(|&(_, &x)| !good(x)) {
            None => Ok(()),
            Some(((n, t, _), value)) => Err(Error::Config(format!(
                "{name} holds {value} at [sequence, step] = [{n}, {t}]; the embedding takes whole numbers from 0 to {}",
                entries - 1
            ))),
        }
    }

    /// Layers that read an input.
    fn readers(&self, k: usize) -> impl Iterator<Item = &crate::layer::Layer> {
        self.nodes.iter().filter(move |node| node.sources.contains(&Source::Input(k))).map(|node| &node.layer)
    }

    /// Lengths of the sequences of input `k`, x [N, T, I]: from its padding, or given. If there are both, they must agree.
    pub(crate) fn lengths_of(
        &self,
        k: usize,
        name: impl fmt::Display,
        x: &ArrayView3<f32>,
        given: Option<&[usize]>,
    ) -> Result<Option<Vec<usize>>> {
        let (count, steps, _) = x.dim();
        check_lengths(given, count, steps)?;
        let Some(value) = self.mask(k) else { return Ok(given.map(<[usize]>::to_vec)) };
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
}

impl Model {
    /// Input `k` [B, T, I] for the layers above a masking layer, 0 in padded steps; `None` if it is as given.
    pub(super) fn blanked(&self, k: usize, data: &Data) -> Result<Option<Array3<f32>>> {
        let InputData { x, lengths } = &data.inputs[k];
        let Some(lengths) = lengths.as_ref().filter(|_| self.graph.mask(k).is_some_and(|value| value != 0.0)) else {
            return Ok(None);
        };
        let (_, steps, features) = x.dim();
        let rows = (0..data.count()).map(|b| data.chosen.as_ref().map_or(b, |chosen| chosen[b]));
        let values = rows.flat_map(|n| x.index_axis(Axis(0), n).into_iter().copied());
        let mut x = memory::array_of((data.count(), steps, features), values, "a copy of x")?;
        for (n, &length) in lengths.iter().enumerate() {
            x.slice_mut(s![n, length.., ..]).fill(0.0);
        }
        Ok(Some(x))
    }
}
