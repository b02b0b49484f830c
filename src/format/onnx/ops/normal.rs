//! Operators over whole axes: softmax, layer normalisation, reductions.

use super::{AxesSource, Kernel, run};
use crate::format::onnx::call::{Call, Outcome, axes, axis};
use crate::format::onnx::node::Attributes;
use crate::format::onnx::tensor::Beside;
use crate::format::onnx::value::{Element, Value, row_major};
use ndarray::{ArrayD, ArrayViewMut1, Axis, IxDyn};
use num_traits::Float;

/// Softmax and LogSoftmax: along an axis from opset 13 on, over all axes from one on before that.
pub(super) fn softmax(attributes: &mut Attributes, log: bool) -> Outcome<Kernel> {
    let whole = attributes.opset < 13;
    let along = attributes.int("axis")?.unwrap_or(if whole { 1 } else { -1 });
    fn of<T: Element + Float>(call: &Call, array: &ArrayD<T>, along: i64, whole: bool, log: bool) -> Outcome<Value> {
        call.fits::<T>(array.shape())?;
        let shape = array.raw_dim();
        let place = axis(along, array.ndim())?;
        let mut y = array.clone();
        if y.is_empty() {
            return Ok(T::value(y));
        }
        if whole {
            let rows: usize = y.shape()[..place].iter().product();
            let matrix = (rows, y.len() / rows);
            let mut matrix = y.into_shape_with_order(matrix).map_err(|error| error.to_string())?;
            matrix.rows_mut().into_iter().for_each(|row| normalise(row, log));
            y = matrix.into_shape_with_order(shape).map_err(|error| error.to_string())?;
        } else {
            y.lanes_mut(Axis(place)).into_iter().for_each(|lane| normalise(lane, log));
        }
        Ok(T::value(y))
    }
    run(move |call| match call.input(0)? {
        Value::F32(array) => of(call, array, along, whole, log),
        Value::F64(array) => of(call, array, along, whole, log),
        _ => Err(format!("{} must be f32 or f64", call.name(0))),
    })
}

/// Softmax of one lane, or its logarithm; the largest is taken off first, so that nothing overflows.
fn normalise<T: Float>(mut lane: ArrayViewMut1<T>, log: bool) {
    let largest = lane.fold(T::neg_infinity(), |a, &b| a.max(b));
    lane.mapv_inplace(|x| x - largest);
    let sum = lane.fold(T::zero(), |a, &b| a + b.exp());
    lane.mapv_inplace(|x| if log { x - sum.ln() } else { x.exp() / sum });
}

/// LayerNormalization, over all axes from one on.
pub(super) fn layer_normalization(attributes: &mut Attributes, _: &Beside) -> Outcome<Kernel> {
    let first = attributes.int("axis")?.unwrap_or(-1);
    let epsilon = attributes.float("epsilon")?.unwrap_or(1e-5);
    match attributes.int("stash_type")? {
        None | Some(1) => {}
        Some(other) => return Err(format!("attribute stash_type is {other}, expected 1 (f32)")),
    }
    Ok(Box::new(move |call| {
        let x = call.array::<f32>(0)?;
        let first = axis(first, x.ndim())?;
        let (outer, inner) = x.shape().split_at(first);
        // The output, and the two statistics of each row
        call.fits::<[f32; 3]>(x.shape())?;
        let stretched = |k: usize| {
            let array = call.array::<f32>(k)?;
            let there = array.broadcast(inner).map(|view| view.iter().copied().collect::<Vec<f32>>());
            there.ok_or_else(|| format!("{} does not stretch to {inner:?}", call.name(k)))
        };
        let scale = stretched(1)?;
        let bias = if call.optional(2).is_some() { stretched(2)? } else { vec![0.0; scale.len()] };
        let mut y = x.clone();
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        let values = y.as_slice_mut().ok_or("its input is not in order")?;
        for row in values.chunks_exact_mut(scale.len().max(1)) {
            let count = row.len() as f32;
            let mean = row.iter().sum::<f32>() / count;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            for ((x, scale), bias) in row.iter_mut().zip(&scale).zip(&bias) {
                *x = (*x - mean) * inverse * scale + bias;
            }
            means.push(mean);
            deviations.push(inverse);
        }
        let statistics = |values: Vec<f32>| {
            let shape: Vec<usize> = outer.iter().copied().chain(inner.iter().map(|_| 1)).collect();
            let wrong = |_| "its input has an axis of size 0, so it has no mean".to_string();
            ArrayD::from_shape_vec(IxDyn(&shape), values).map(Value::F32).map_err(wrong)
        };
        Ok(vec![Value::F32(y), statistics(means)?, statistics(deviations)?])
    }))
}

/// Combines two integers.
type Whole = fn(i64, i64) -> i64;

/// A reduction of many numbers to one.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    /// The opset from which on axes are an input.
    since: i64,
    start: f64,
    join: fn(f64, f64) -> f64,
    /// Makes the result of the joined value and the count.
    finish: fn(f64, usize) -> f64,
    /// Start and join of whole numbers, where these have a result.
    whole: Option<(i64, Whole)>,
}

pub(super) const SUM: Reduction =
    Reduction { since: 13, start: 0.0, join: |a, b| a + b, finish: |sum, _| sum, whole: Some((0, i64::wrapping_add)) };
pub(super) const MEAN: Reduction =
    Reduction { since: 18, start: 0.0, join: |a, b| a + b, finish: |sum, count| sum / count as f64, whole: None };
pub(super) const MAX: Reduction = Reduction {
    since: 18,
    start: f64::NEG_INFINITY,
    // NaN stays.
    join: |a, b| if a >= b || a.is_nan() { a } else { b },
    finish: |largest, _| largest,
    whole: None,
};
pub(super) const PRODUCT: Reduction = Reduction {
    since: 18,
    start: 1.0,
    join: |a, b| a * b,
    finish: |product, _| product,
    whole: Some((1, i64::wrapping_mul)),
};

/// ReduceMean, ReduceSum, ReduceMax and ReduceProd: floats in f64, whole numbers in i64.
pub(super) fn reduce(attributes: &mut Attributes, reduction: Reduction) -> Outcome<Kernel> {
    let given = AxesSource::of(attributes, "axes", reduction.since, 1)?;
    let keep = attributes.flag("keepdims")?.unwrap_or(true);
    let noop = attributes.opset >= reduction.since && attributes.flag("noop_with_empty_axes")?.unwrap_or(false);
    let Reduction { start, join, finish, whole, .. } = reduction;
    run(move |call| {
        let value = call.input(0)?;
        let count = value.shape().len();
        let over = match given.get(call)? {
            Some(given) if !given.is_empty() => axes(&given, count)?,
            _ if noop => return call.fits_as(value, value.shape()).map(|()| value.clone()),
            _ => (0..count).collect(),
        };
        let floats = |values: &mut dyn Iterator<Item = f64>, count: usize| finish(values.fold(start, join), count);
        match (value, whole) {
            (Value::F32(array), _) => {
                rows(call, array, &over, keep, |row| floats(&mut row.iter().map(|&x| x.into()), row.len()) as f32)
            }
            (Value::F64(array), _) => rows(call, array, &over, keep, |row| floats(&mut row.iter().copied(), row.len())),
            (Value::I32(array), Some((start, join))) => {
                rows(call, array, &over, keep, |row| row.iter().fold(start, |a, &b| join(a, b.into())) as i32)
            }
            (Value::I64(array), Some((start, join))) => {
                rows(call, array, &over, keep, |row| row.iter().copied().fold(start, join))
            }
            _ => Err(format!("{} cannot be reduced so", call.name(0))),
        }
    })
}

/// Makes one number of all that lie along some axes.
fn rows<T: Element>(
    call: &Call,
    array: &ArrayD<T>,
    over: &[usize],
    keep: bool,
    reduce: impl Fn(&[T]) -> T,
) -> Outcome<Value> {
    let shape = array.shape();
    let kept: Vec<usize> = (0..shape.len()).filter(|k| !over.contains(k)).collect();
    let order: Vec<usize> = kept.iter().chain(over).copied().collect();
    let size = |k: usize| if over.contains(&k) { keep.then_some(1) } else { Some(shape[k]) };
    let reduced: Vec<usize> = (0..shape.len()).filter_map(size).collect();
    // The input in another order, and the output
    call.fits::<[T; 2]>(shape)?;
    let rows = row_major(array.view().permuted_axes(&order[..]).into_owned());
    let rows = rows.as_slice().ok_or("its input is not in order")?;
    let count: usize = over.iter().map(|&k| shape[k]).product();
    let results: usize = kept.iter().map(|&k| shape[k]).product();
    let values = (0..results).map(|k| reduce(&rows[k * count..(k + 1) * count])).collect();
    ArrayD::from_shape_vec(IxDyn(&reduced), values).map(T::value).map_err(|error| error.to_string())
}
