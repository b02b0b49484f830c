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

/// Which axis of an array of sequences comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// [T, B, F], as on the device.
    Time,
    /// [B, T, F].
    Batch,
}

/// Reads a sequence into an array, which is replaced where its shape does not fit.
pub(crate) async fn download(
    executable: &Executable,
    sequence: &Sequence,
    batch: usize,
    order: Order,
    into: &mut Array3<f32>,
) -> Result<()> {
    let (steps, features) = (sequence.steps as usize, sequence.features as usize);
    let shape = match order {
        Order::Time => (steps, batch, features),
        Order::Batch => (batch, steps, features),
    };
    if into.dim() != shape || !into.is_standard_layout() {
        *into = Array3::zeros(shape);
    }
    for (k, &buffer) in sequence.chunks.iter().enumerate() {
        let range = sequence.chunk_range(k);
        let (first, count) = (range.start as usize, range.len());
        let len = count * batch * features;
        let place = |values: &[f32]| match order {
            Order::Time => {
                into.as_slice_mut().map(|all| all[first * batch * features..][..len].copy_from_slice(values))
            }
            Order::Batch => {
                let values = ArrayView3::from_shape((count, batch, features), values).ok()?;
                into.slice_mut(s![.., first..first + count, ..]).assign(&values.permuted_axes([1, 0, 2]));
                Some(())
            }
        };
        let placed = executable.read_with((buffer, sequence.lead as u64), len as u64, place).await?;
        placed.ok_or_else(|| Error::Plan("a sequence of another length than its plan's".into()))?;
    }
    Ok(())
}

/// Refuses NaN and infinity, naming the place by the axes' names.
pub(crate) fn finite<D: Dimension>(what: &str, axes: &str, values: &ArrayView<f32, D>) -> Result<()> {
    // The usual case, in one plain pass without an early end, which goes through vector registers.
    const EXPONENT: u32 = 0x7f80_0000; // all ones in NaN and infinity
    let no_end = |found, value: &f32| found | (value.to_bits() & EXPONENT == EXPONENT);
    if values.as_slice_memory_order().is_some_and(|all| !all.iter().fold(false, no_end)) {
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
