//! Fallible allocation in the sizes that callers and files ask for. A failure is [`Error::OutOfMemory`]; the standard
//! collections would end the process.

use crate::error::{Error, Result};
use bytemuck::Zeroable;
use ndarray::{Array, Dimension, IntoDimension};
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::Path;

/// Bytes from which on a request is a large one. Small ones are those of names, lists and messages, all over the program.
const LARGE: u64 = 1 << 18;
/// Bytes that a large request must leave, so that the small ones after it do not fail.
const SPARE: usize = 4 << 20;

/// The error of an allocation that failed.
pub(crate) fn refused(needed: u64, what: impl Display) -> Error {
    Error::OutOfMemory { what: what.to_string(), needed, cause: None }
}

fn bytes<T>(len: usize) -> u64 {
    (len as u64).saturating_mul(size_of::<T>() as u64)
}

/// Elements of a shape. Its sizes other than 0 must have a product that can be addressed, as [`ndarray`] asks for.
fn elements<T>(shape: &[usize], what: impl Display) -> Result<usize> {
    let bytes = shape.iter().fold(size_of::<T>() as u64, |all, &size| all.saturating_mul(size.max(1) as u64));
    if bytes > isize::MAX as u64 {
        return Err(refused(bytes, what));
    }
    Ok(shape.iter().product())
}

/// An empty vector with room for `len` elements.
pub(crate) fn room<T>(len: usize, what: impl Display) -> Result<Vec<T>> {
    let mut all = Vec::new();
    reserve(&mut all, len, what)?;
    Ok(all)
}

/// Makes room for `len` elements in all.
pub(crate) fn reserve<T>(all: &mut Vec<T>, len: usize, what: impl Display) -> Result<()> {
    let there = all.try_reserve_exact(len.saturating_sub(all.len())).is_ok() && spares(bytes::<T>(len));
    if there { Ok(()) } else { Err(refused(bytes::<T>(len), what)) }
}

/// True if a granted request of this many bytes leaves enough for small ones.
fn spares(bytes: u64) -> bool {
    bytes < LARGE || Vec::<u8>::new().try_reserve_exact(SPARE).is_ok()
}

/// Zeros. The system hands out large ones without touching them.
pub(crate) fn zeros<T: Zeroable>(len: usize, what: impl Display) -> Result<Vec<T>> {
    let all = bytemuck::allocation::try_zeroed_vec(len).ok().filter(|_| spares(bytes::<T>(len)));
    all.ok_or_else(|| refused(bytes::<T>(len), what))
}

/// `len` times the same.
pub(crate) fn filled<T: Clone>(len: usize, value: T, what: impl Display) -> Result<Vec<T>> {
    let mut all = room(len, what)?;
    all.resize(len, value);
    Ok(all)
}

/// The first `len` elements of an iterator, which has as many.
pub(crate) fn collect<T>(len: usize, values: impl IntoIterator<Item = T>, what: impl Display) -> Result<Vec<T>> {
    let mut all = room(len, what)?;
    all.extend(values.into_iter().take(len));
    Ok(all)
}

/// A copy.
pub(crate) fn copy<T: Copy>(values: &[T], what: impl Display) -> Result<Vec<T>> {
    let mut all = room(values.len(), what)?;
    all.extend_from_slice(values);
    Ok(all)
}

/// An array of zeros.
pub(crate) fn array<T: Zeroable, S: IntoDimension>(shape: S, what: impl Display) -> Result<Array<T, S::Dim>> {
    let shape = shape.into_dimension();
    let len = elements::<T>(&shape.as_array_view().to_vec(), &what)?;
    shaped(shape, zeros(len, what)?)
}

/// An array of the elements that an iterator gives in the order of its axes.
pub(crate) fn array_of<T, S: IntoDimension>(
    shape: S,
    values: impl IntoIterator<Item = T>,
    what: impl Display,
) -> Result<Array<T, S::Dim>> {
    let shape = shape.into_dimension();
    let len = elements::<T>(&shape.as_array_view().to_vec(), &what)?;
    shaped(shape, collect(len, values, what)?)
}

fn shaped<T, D: Dimension>(shape: D, values: Vec<T>) -> Result<Array<T, D>> {
    Array::from_shape_vec(shape, values).map_err(|error| Error::Shape(error.to_string()))
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::OutOfMemory => {
            let len = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            refused(len, format_args!("\"{}\"", path.display()))
        }
        _ => Error::file("read", path)(error),
    })
}

/// Checks that memory can be allocated, for other crates' code that is about to allocate it and would end the process.
pub(crate) fn probe(bytes: u64, what: impl Display) -> Result<()> {
    match usize::try_from(bytes) {
        Ok(len) if bytes < LARGE || Vec::<u8>::new().try_reserve_exact(len.saturating_add(SPARE)).is_ok() => Ok(()),
        _ => Err(refused(bytes, what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error_that_says_how_much() {
        let says = |result: Result<()>, bytes: u64| match result {
            Err(Error::OutOfMemory { what, needed, .. }) => assert_eq!((what.as_str(), needed), ("it", bytes)),
            other => panic!("{other:?}"),
        };
        let half = usize::MAX / 2;
        says(zeros::<f32>(half, "it").map(drop), u64::MAX);
        says(zeros::<f32>(1 << 60, "it").map(drop), 1 << 62);
        says(room::<f64>(1 << 59, "it").map(drop), 1 << 62);
        says(filled(1 << 62, 1u8, "it").map(drop), 1 << 62);
        says(array::<f32, _>((1 << 31, 1 << 31), "it").map(drop), u64::MAX);
        says(array::<f32, _>((half, half, 0), "it").map(drop), u64::MAX);
        says(probe(1 << 62, "it"), 1 << 62);
        assert_eq!(array::<f32, _>((2, 0, 3), "it").unwrap().dim(), (2, 0, 3));
        assert_eq!(array_of((2, 2), 0.., "it").unwrap(), ndarray::array![[0, 1], [2, 3]]);
        assert!(zeros::<f32>(0, "it").unwrap().is_empty() && probe(0, "it").is_ok());
    }
}
