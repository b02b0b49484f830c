//! Operators that change an array's shape and none of its elements.

use super::{AxesSource, Kernel, run};
use crate::format::onnx::call::{Call, Outcome, axes, broadcast};
use crate::format::onnx::node::Attributes;
use crate::format::onnx::tensor::Beside;
use crate::format::onnx::value::{Value, each, row_major, shape_name};
use ndarray::{Array1, IxDyn};

/// An input's numbers in another shape of as many.
fn reshaped(call: &Call, shape: Vec<usize>) -> Outcome<Value> {
    let value = call.input(0)?;
    call.fits_as(value, &shape)?;
    if shape.iter().product::<usize>() != value.len() {
        return Err(format!("{} cannot take the shape {shape:?}", call.name(0)));
    }
    // The number of elements is right.
    let wrong = |error: ndarray::ShapeError| error.to_string();
    Ok(each!(value, array => array.clone().into_shape_with_order(IxDyn(&shape)).map_err(wrong)?))
}

/// Reshape.
pub(super) fn reshape(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let zero = attributes.opset >= 14 && attributes.flag("allowzero")?.unwrap_or(false);
    run(move |call| {
        let (value, given) = (call.input(0)?, call.integers(1)?);
        let from = value.shape();
        let mut shape = Vec::new();
        let mut open = None;
        for (k, &size) in given.iter().enumerate() {
            shape.push(match size {
                0 if !zero => *from.get(k).ok_or_else(|| format!("{} has no axis {k} to copy", call.name(0)))?,
                -1 if open.replace(k).is_some() => return Err(format!("its shape {given:?} has two sizes of -1")),
                -1 => 1,
                size => usize::try_from(size).map_err(|_| format!("its shape {given:?} has a size of {size}"))?,
            });
        }
        if let Some(k) = open {
            let rest = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size)).filter(|&rest| rest > 0);
            let size = rest.filter(|rest| value.len() % rest == 0).map(|rest| value.len() / rest);
            shape[k] = size.ok_or_else(|| format!("{} cannot take the shape {given:?}", call.name(0)))?;
        }
        reshaped(call, shape)
    })
}

/// Flatten: to a matrix, whose columns are the axes from one on.
pub(super) fn flatten(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let first = attributes.int("axis")?.unwrap_or(1);
    run(move |call| {
        let from = call.input(0)?.shape();
        let place = if first < 0 { first.saturating_add(from.len() as i64) } else { first };
        let place = usize::try_from(place).ok().filter(|&place| place <= from.len());
        let place = place.ok_or_else(|| format!("axis {first} does not exist in {}", call.name(0)))?;
        let (rows, columns) = from.split_at(place);
        reshaped(call, vec![rows.iter().product(), columns.iter().product()])
    })
}

/// Squeeze: axes by attribute below opset 13, by input from then on; without, all of size 1.
pub(super) fn squeeze(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let given = AxesSource::of(attributes, "axes", 13, 1)?;
    run(move |call| {
        let from = call.input(0)?.shape();
        let gone = match given.get(call)? {
            Some(given) => axes(&given, from.len())?,
            None => (0..from.len()).filter(|&k| from[k] == 1).collect(),
        };
        if let Some(k) = gone.iter().find(|&&k| from[k] != 1) {
            return Err(format!("axis {k} of {} is not of size 1", call.name(0)));
        }
        reshaped(call, (0..from.len()).filter(|k| !gone.contains(k)).map(|k| from[k]).collect())
    })
}

/// Unsqueeze: axes as Squeeze has them, of the output.
pub(super) fn unsqueeze(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let given = AxesSource::of(attributes, "axes", 13, 1)?;
    run(move |call| {
        let mut from = call.input(0)?.shape().iter();
        let given = given.get(call)?.ok_or("its axes are missing")?;
        let count = from.len() + given.len();
        let new = axes(&given, count)?;
        let size = |k| if new.contains(&k) { Some(1) } else { from.next().copied() };
        reshaped(call, (0..count).filter_map(size).collect())
    })
}

/// Transpose.
pub(super) fn transpose(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let given = attributes.ints("perm")?;
    run(move |call| {
        let value = call.input(0)?;
        let count = value.shape().len();
        let order = match &given {
            None => (0..count).rev().collect(),
            Some(given) if given.len() == count && !given.iter().any(|&k| k < 0) => axes(given, count)?,
            Some(given) => return Err(format!("attribute perm is {given:?}; {} has {count} axes", call.name(0))),
        };
        call.fits_as(value, value.shape())?;
        Ok(each!(value, array => row_major(array.view().permuted_axes(&order[..]).into_owned())))
    })
}

/// Expand: stretches as NumPy does, where either may have the larger size.
pub(super) fn expand(_: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    run(|call| {
        let (value, given) = (call.input(0)?, call.integers(1)?);
        let sizes: Option<Vec<usize>> = given.iter().map(|&size| usize::try_from(size).ok()).collect();
        let shape = sizes.and_then(|sizes| broadcast(value.shape(), &sizes));
        let cannot = || format!("{} does not stretch to {given:?}", call.name(0));
        let shape = shape.ok_or_else(cannot)?;
        call.fits_as(value, &shape)?;
        Ok(each!(value, array => row_major(array.broadcast(&shape[..]).ok_or_else(cannot)?.into_owned())))
    })
}

/// Shape, or a part of it from opset 15 on.
pub(super) fn shape(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let (start, end) = match attributes.opset < 15 {
        true => (None, None),
        false => (attributes.int("start")?, attributes.int("end")?),
    };
    run(move |call| {
        let shape = call.input(0)?.shape();
        let count = shape.len() as i64;
        let place = |at: i64| (if at < 0 { at.saturating_add(count) } else { at }).clamp(0, count) as usize;
        let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(count)));
        let sizes = shape.get(start..end.max(start)).ok_or_else(|| format!("no part of {}", shape_name(shape)))?;
        Ok(sizes.iter().map(|&size| size as i64).collect::<Array1<i64>>().into())
    })
}
