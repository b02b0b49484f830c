//! Operators that select elements and join arrays.

use super::{AxesSource, Kernel, run};
use crate::format::onnx::call::{Call, Outcome, axes, axis};
use crate::format::onnx::node::Attributes;
use crate::format::onnx::tensor::Beside;
use crate::format::onnx::value::{Element, Value, any, each};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

/// Gather: parts of an axis by index, in the shape of the indices.
pub(super) fn gather(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let along = attributes.int("axis")?.unwrap_or(0);
    run(move |call| {
        let value = call.input(0)?;
        let along = axis(along, value.shape().len())?;
        let (indices, of_indices): (Vec<i64>, &[usize]) = match call.input(1)? {
            Value::I64(array) => (array.iter().copied().collect(), array.shape()),
            Value::I32(array) => (array.iter().map(|&x| x.into()).collect(), array.shape()),
            _ => return Err(format!("{} must be i64 or i32", call.name(1))),
        };
        let size = value.shape()[along];
        let place = |&index: &i64| {
            let place = if index < 0 { index.saturating_add(size as i64) } else { index };
            let place = usize::try_from(place).ok().filter(|&place| place < size);
            place.ok_or_else(|| format!("{} holds {index}; axis {along} of {} has {size}", call.name(1), call.name(0)))
        };
        let shape = [&value.shape()[..along], of_indices, &value.shape()[along + 1..]].concat();
        call.fits_as(value, &shape)?;
        let places = indices.iter().map(place).collect::<Outcome<Vec<usize>>>()?;
        let wrong = |error: ndarray::ShapeError| error.to_string();
        Ok(each!(value, array => {
            let picked = array.select(Axis(along), &places);
            picked.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape)).map_err(wrong)?
        }))
    })
}

/// Concat.
pub(super) fn concat(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let along = attributes.int("axis")?.ok_or("attribute axis is missing")?;
    fn of<T: Element>(call: &Call, first: &ArrayD<T>, along: i64) -> Outcome<Value> {
        let along = axis(along, first.ndim())?;
        let mut shape = first.shape().to_vec();
        shape[along] = 0;
        let mut parts = Vec::new();
        for k in 0..call.inputs.len() {
            let part = call.array::<T>(k)?;
            let fits =
                part.ndim() == shape.len() && (0..shape.len()).all(|k| k == along || part.shape()[k] == shape[k]);
            if !fits {
                return Err(format!("{} and {} do not fit along axis {along}", call.name(0), call.name(k)));
            }
            shape[along] = shape[along].saturating_add(part.shape()[along]);
            parts.push(part.view());
        }
        call.fits::<T>(&shape)?;
        Ok(ndarray::concatenate(Axis(along), &parts).map_err(|error| error.to_string())?.into())
    }
    run(move |call| any!(call.input(0)?, first => of(call, first, along)))
}

/// Slice: by attributes below opset 10, by inputs from then on.
pub(super) fn slice(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let old = match attributes.opset < 10 {
        true => {
            let [starts, ends, axes] = [attributes.ints("starts")?, attributes.ints("ends")?, attributes.ints("axes")?];
            let missing = "attributes starts and ends are missing";
            Some((starts.ok_or(missing)?, ends.ok_or(missing)?, axes))
        }
        false => None,
    };
    run(move |call| {
        let value = call.input(0)?;
        let optional = |k| call.optional(k).map(|_| call.integers(k)).transpose();
        let (starts, ends, along, steps) = match &old {
            Some(_) if call.inputs.len() > 1 => {
                return Err("its bounds are attributes in this opset, not inputs".into());
            }
            Some((starts, ends, axes)) => (starts.clone(), ends.clone(), axes.clone(), None),
            None => (call.integers(1)?, call.integers(2)?, optional(3)?, optional(4)?),
        };
        let along = along.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), along.len(), steps.len()] != [starts.len(); 3] {
            return Err(format!(
                "its starts {starts:?}, ends {ends:?}, axes {along:?} and steps {steps:?} are not as many"
            ));
        }
        let along = axes(&along, value.shape().len())?;
        call.fits_as(value, value.shape())?;
        let mut result = value.clone();
        for (k, &along) in along.iter().enumerate() {
            let places = steps_of(value.shape()[along], starts[k], ends[k], steps[k])?;
            result = each!(result, array => array.select(Axis(along), &places).as_standard_layout().into_owned());
        }
        Ok(result)
    })
}

/// The places of an axis of this size from `start` to before `end`, as NumPy counts them.
fn steps_of(size: usize, start: i64, end: i64, step: i64) -> Outcome<Vec<usize>> {
    if step == 0 {
        return Err("one of its steps is 0".into());
    }
    let count = size as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(count) } else { at };
    let places: Box<dyn Iterator<Item = i64>> = if step > 0 {
        let (start, end) = (from_end(start).clamp(0, count), from_end(end).clamp(0, count));
        Box::new((start..end).step_by(usize::try_from(step).unwrap_or(usize::MAX)))
    } else {
        let (start, end) = (from_end(start).clamp(-1, count - 1), from_end(end).clamp(-1, count - 1));
        let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
        Box::new((end + 1..start + 1).rev().step_by(step))
    };
    Ok(places.map(|place| place as usize).collect())
}

/// Split: sizes by attribute below opset 13, by input from then on; without, equal parts, the last of which may be smaller from
/// opset 18 on.
pub(super) fn split(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let along = attributes.int("axis")?.unwrap_or(0);
    let given = AxesSource::of(attributes, "split", 13, 1)?;
    let parts = attributes.outputs.len();
    let uneven = attributes.opset >= 18;
    if uneven
        && let Some(count) = attributes.int("num_outputs")?
        && count != parts as i64
    {
        return Err(format!("attribute num_outputs is {count}, but it has {parts} outputs"));
    }
    Ok(Box::new(move |call| {
        let value = call.input(0)?;
        let along = axis(along, value.shape().len())?;
        let size = value.shape()[along];
        let sizes: Vec<usize> = match given.get(call)? {
            Some(given) => {
                let wrong = |_| format!("its sizes are {given:?}; none may be negative");
                given.iter().map(|&size| usize::try_from(size).map_err(wrong)).collect::<Outcome<_>>()?
            }
            None => {
                let each = size.div_ceil(parts.max(1));
                (0..parts).map(|k| size.saturating_sub(k * each).min(each)).collect()
            }
        };
        let equal = uneven || sizes.windows(2).all(|pair| pair[0] == pair[1]);
        let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if sizes.len() != parts || total != Some(size) || (!equal && given.get(call)?.is_none()) {
            return Err(format!(
                "axis {along} of {} cannot be split into {parts} parts of the sizes {sizes:?}",
                call.name(0)
            ));
        }
        call.fits_as(value, value.shape())?;
        let mut start = 0;
        let part = |size: usize| {
            let range = start as isize..(start + size) as isize;
            start += size;
            each!(value, array => array.slice_axis(Axis(along), Slice::from(range)).as_standard_layout().into_owned())
        };
        Ok(sizes.into_iter().map(part).collect())
    }))
}
