//! Arrays to and from the sequences of a plan.

use crate::device::Executable;
use crate::error::{Error, Result};
use crate::memory;
use crate::plan::BufferId;
use crate::schedule::Sequence;
use ndarray::{Array3, ArrayView, ArrayView3, Dimension, s};

/// Writes an array [T, B, F] (any strides) to a sequence.
pub(crate) fn upload(executable: &Executable, sequence: &Sequence, values: ArrayView3<f32>) -> Result<()> {
    for (k, &buffer) in sequence.chunks.iter().enumerate() {
        let range = sequence.chunk_range(k);
        let part = values.slice(s![range.start as usize..range.end as usize, .., ..]);
        write(executable, (buffer, sequence.lead as u64), part)?;
    }
    Ok(())
}

/// Writes an array of any strides, in the order of its axes.
pub(crate) fn write(executable: &Executable, place: (BufferId, u64), values: ArrayView3<f32>) -> Result<()> {
    match values.as_slice() {
        Some(slice) => executable.write(place, slice),
        None => executable.write(place, &memory::collect(values.len(), values.iter().copied(), "a copy of an array")?),
    }
}

/// The elements of an array that has this shape or is made anew.
pub(crate) fn shaped(array: &mut Array3<f32>, shape: (usize, usize, usize)) -> Result<&mut [f32]> {
    if array.dim() != shape || !array.is_standard_layout() {
        *array = memory::array(shape, format_args!("an array of shape {shape:?}"))?;
    }
    // In one piece, as was just made sure.
    Ok(array.as_slice_mut().expect("an array in standard layout is contiguous"))
}

/// The first axis of an array of sequences.
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
    shaped(into, shape)?;
    let mut by_time = match order {
        Order::Time => into.view_mut(),
        Order::Batch => into.view_mut().permuted_axes([1, 0, 2]),
    };
    for (k, &buffer) in sequence.chunks.iter().enumerate() {
        let range = sequence.chunk_range(k);
        let mut part = by_time.slice_mut(s![range.start as usize..range.end as usize, .., ..]);
        let (shape, len) = (part.raw_dim(), part.len() as u64);
        let place = |values: &[f32]| ArrayView3::from_shape(shape, values).map(|values| part.assign(&values));
        let placed = executable.read_with((buffer, sequence.lead as u64), len, place).await?;
        placed.map_err(|error| Error::Plan(error.to_string()))?;
    }
    Ok(())
}

/// The key of random bits and the lengths of sequences (T without), as in a plan's buffer "words".
pub(crate) fn key_and_lengths(
    key: [u32; 2],
    lengths: Option<&[usize]>,
    batch: usize,
    steps: usize,
) -> Result<Vec<f32>> {
    if let Some(lengths) = lengths {
        if lengths.len() != batch {
            return Err(Error::Shape(format!("{} lengths were given for B = {batch} sequences", lengths.len())));
        }
        if let Some((row, length)) = lengths.iter().enumerate().find(|&(_, &length)| length > steps) {
            return Err(Error::Shape(format!(
                "the length of sequence {row} is {length}, but the input has T = {steps} steps"
            )));
        }
    }
    let length = |row: usize| lengths.map_or(steps, |lengths| lengths[row]) as u32;
    Ok(key.into_iter().chain((0..batch).map(length)).map(f32::from_bits).collect())
}

/// True if no element is NaN or infinite. One plain pass without an early end, which goes through vector registers.
pub(crate) fn is_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000; // all ones in NaN and infinity
    !values.iter().fold(false, |found, value| found | (value.to_bits() & EXPONENT == EXPONENT))
}

/// Refuses NaN and infinity, naming the place by the axes' names.
pub(crate) fn finite<D: Dimension>(what: &str, axes: &str, values: &ArrayView<f32, D>) -> Result<()> {
    // The usual case
    if values.as_slice_memory_order().is_some_and(is_finite) {
        return Ok(());
    }
    finite_numbers(what, axes, values)
}

/// [`finite`] for numbers of any kind that f64 holds.
pub(crate) fn finite_numbers<D: Dimension>(
    what: &str,
    axes: &str,
    values: &ArrayView<impl Into<f64> + Copy, D>,
) -> Result<()> {
    // The usual case, without the index of every number
    if values.iter().all(|&value| value.into().is_finite()) {
        return Ok(());
    }
    let values = values.view().into_dyn();
    match values.indexed_iter().map(|(index, &value)| (index, value.into())).find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, value)) => {
            let position = format!("{axes} = {:?}", index.as_array_view().to_vec());
            Err(Error::NotFinite { what: what.into(), position, value: value as f32 })
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
