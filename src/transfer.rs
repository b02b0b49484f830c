//! Arrays to and from the sequences of a plan.

use crate::device::Executable;
use crate::error::{Error, Result};
use crate::schedule::Sequence;
use ndarray::{Array3, ArrayView, ArrayView3, Dimension, s};

/// Writes an array [T, B, F] (any strides) to a sequence.
pub(crate) fn upload(executable: &Executable, sequence: &Sequence, values: ArrayView3<f32>) -> Result<()> {
    for (k, &buffer) in sequence.chunks.iter().enumerate() {
        let range = sequence.chunk_range(k);
        let part = values.slice(s![range.start as usize..range.end as usize, .., ..]);
        match part.as_slice() {
            Some(slice) => executable.write((buffer, sequence.lead as u64), slice)?,
            None => executable.write((buffer, sequence.lead as u64), &part.iter().copied().collect::<Vec<_>>())?,
        }
    }
    Ok(())
}

/// Reads a sequence as an array [T, B, F].
pub(crate) async fn download(executable: &Executable, sequence: &Sequence, batch: usize) -> Result<Array3<f32>> {
    let (steps, features) = (sequence.steps as usize, sequence.features as usize);
    let len = |k: usize| (sequence.chunk_range(k).len() * batch * features) as u64;
    let mut values = executable.read_async((sequence.chunks[0], sequence.lead as u64), len(0)).await?;
    for (k, &buffer) in sequence.chunks.iter().enumerate().skip(1) {
        values.extend(executable.read_async((buffer, sequence.lead as u64), len(k)).await?);
    }
    Array3::from_shape_vec((steps, batch, features), values).map_err(|error| Error::Plan(error.to_string()))
}

/// Refuses NaN and infinity, naming the place by the axes' names.
pub(crate) fn finite<D: Dimension>(what: &str, axes: &str, values: &ArrayView<f32, D>) -> Result<()> {
    // The usual case, in one plain pass.
    if values.as_slice_memory_order().is_some_and(|all| all.iter().all(|value| value.is_finite())) {
        return Ok(());
    }
    let values = values.view().into_dyn();
    match values.indexed_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, &value)) => {
            let position = format!("{axes} = {:?}", index.as_array_view().to_vec());
            Err(Error::NotFinite { what: what.into(), position, value })
        }
    }
}

/// Refuses an axis of length 0.
pub(crate) fn not_empty(what: &str, axes: &str, shape: &[usize]) -> Result<()> {
    if shape.contains(&0) {
        return Err(Error::Shape(format!("{what} is empty (shape {axes} = {shape:?}); every size must be at least 1")));
    }
    Ok(())
}
