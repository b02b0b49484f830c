//! An operator's call: its inputs, the number of outputs that are used, the bytes that it may allocate.

use super::value::{Element, Value, shape_name};
use crate::error::Error;
use crate::memory;
use ndarray::ArrayD;
use std::cell::Cell;

/// A result whose error is what is wrong, in words; node and file are put in front of it in one place.
pub(super) type Outcome<T> = Result<T, String>;

/// Axes that an array may have.
const MOST_AXES: usize = 32;

/// Elements of an array of this shape, where arrays can be that large; as if no size were 0, which bounds its parts, too.
pub(super) fn elements(shape: &[usize]) -> Outcome<usize> {
    if shape.len() > MOST_AXES {
        return Err(format!("has {} axes; at most {MOST_AXES} are supported", shape.len()));
    }
    let all = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size.max(1)));
    match all {
        Some(all) if all <= isize::MAX as usize / 16 => Ok(all),
        _ => Err(format!("has the shape {shape:?}, which is too large")),
    }
}

/// One call of an operator.
pub(super) struct Call<'a> {
    /// By position; `None` where an optional one is left out.
    pub inputs: &'a [Option<(&'a str, &'a Value)>],
    /// Bytes that its outputs may take.
    pub room: u64,
    /// Set where they may be taken but cannot be had.
    pub out_of_memory: Cell<Option<Error>>,
}

/// Copies of its output that an operator has in memory at most, as it is put together.
const COPIES: u64 = 3;

impl<'a> Call<'a> {
    /// An input, if it is there.
    pub fn optional(&self, k: usize) -> Option<&'a Value> {
        self.inputs.get(k).copied().flatten().map(|(_, value)| value)
    }

    /// An input that must be there.
    pub fn input(&self, k: usize) -> Outcome<&'a Value> {
        self.optional(k).ok_or_else(|| format!("input {k} is missing"))
    }

    /// An input by name, type and shape, for messages.
    pub fn name(&self, k: usize) -> String {
        match self.inputs.get(k).copied().flatten() {
            Some((name, value)) => format!("\"{name}\" ({} {})", value.kind(), shape_name(value.shape())),
            None => format!("input {k}"),
        }
    }

    /// An input of this element type.
    pub fn array<T: Element>(&self, k: usize) -> Outcome<&'a ArrayD<T>> {
        self.input(k)?.array().ok_or_else(|| format!("{} must be {}", self.name(k), T::KIND))
    }

    /// An input of sizes, axes or indices: i64 or i32, of one axis or none.
    pub fn integers(&self, k: usize) -> Outcome<Vec<i64>> {
        let value = self.input(k)?;
        match value {
            Value::I64(array) if array.ndim() <= 1 => Ok(array.iter().copied().collect()),
            Value::I32(array) if array.ndim() <= 1 => Ok(array.iter().map(|&x| x.into()).collect()),
            _ => Err(format!("{} must be i64 or i32, of one axis", self.name(k))),
        }
    }

    /// An input of one element of this type.
    pub fn scalar<T: Element>(&self, k: usize) -> Outcome<T> {
        let array = self.array::<T>(k)?;
        match array.len() {
            1 => Ok(array.iter().copied().next().unwrap_or_default()),
            _ => Err(format!("{} must be one number", self.name(k))),
        }
    }

    /// Refuses an array that would take more memory than there is room for.
    pub fn fits<T>(&self, shape: &[usize]) -> Outcome<()> {
        let count = elements(shape).map_err(|reason| format!("its output {reason}"))?;
        let bytes = count as u64 * size_of::<T>() as u64;
        if bytes > self.room {
            return Err(format!(
                "its output of shape {shape:?} needs {bytes} bytes; {} of the limit are left (Graph::memory_limit)",
                self.room
            ));
        }
        memory::probe(bytes.saturating_mul(COPIES), format_args!("its output of shape {shape:?}")).map_err(|error| {
            let reason = error.to_string();
            self.out_of_memory.set(Some(error));
            reason
        })
    }

    /// [`Call::fits`] for an output of an input's type.
    pub fn fits_as(&self, value: &Value, shape: &[usize]) -> Outcome<()> {
        let size = value.bytes().checked_div(value.len() as u64).unwrap_or(8);
        match size {
            1 => self.fits::<u8>(shape),
            4 => self.fits::<f32>(shape),
            _ => self.fits::<f64>(shape),
        }
    }
}

/// The place of an axis that may be counted from the end, of `axes`.
pub(super) fn axis(given: i64, axes: usize) -> Outcome<usize> {
    let place = if given < 0 { given.saturating_add(axes as i64) } else { given };
    match usize::try_from(place) {
        Ok(place) if place < axes => Ok(place),
        _ => Err(format!("axis {given} does not exist; there are {axes}")),
    }
}

/// The places of axes, none twice.
pub(super) fn axes(given: &[i64], count: usize) -> Outcome<Vec<usize>> {
    let mut places = Vec::new();
    for &one in given {
        let place = axis(one, count)?;
        if places.contains(&place) {
            return Err(format!("axis {one} is named twice ({given:?})"));
        }
        places.push(place);
    }
    Ok(places)
}

/// The shape that two arrays are stretched to, as NumPy does.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let axes = a.len().max(b.len());
    let size = |shape: &[usize], k: usize| (k + shape.len()).checked_sub(axes).map_or(1, |k| shape[k]);
    (0..axes)
        .map(|k| match (size(a, k), size(b, k)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}
